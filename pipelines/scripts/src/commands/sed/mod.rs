//! `sed`: POSIX with GNU's `-i`, `-E` and one-line `a`, `i`, `c`.

mod operands;
mod program;
mod run;

use super::arguments::{self, Spec};
use crate::shell::Shell;
use crate::stop::Run;

const SED: Spec = Spec {
    short: "ne:f:Eri?szu",
    long: &[
        ("quiet", 'n'),
        ("silent", 'n'),
        ("expression=", 'e'),
        ("file=", 'f'),
        ("regexp-extended", 'E'),
        ("in-place?", 'i'),
        ("separate", 's'),
        ("follow-symlinks", 'F'),
    ],
    permute: true,
};

pub(crate) fn sed(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &SED)?;
    if arguments.has('z') || arguments.has('s') {
        return shell.usage(b"sed", "-s and -z are not interpreted");
    }
    let mut operands = arguments.operands.clone();
    let mut scripts: Vec<Vec<u8>> = Vec::new();
    for (letter, value) in arguments.options() {
        let value = value.unwrap_or_default().to_vec();
        match letter {
            'e' => scripts.push(value),
            'f' => match shell.files.read(&value)? {
                Ok(text) => scripts.push(text.strip_suffix(b"\n").unwrap_or(&text).to_vec()),
                Err(errno) => {
                    shell.complain(b"sed", errno.to_string())?;
                    return Ok(1);
                }
            },
            _ => {}
        }
    }
    if scripts.is_empty() {
        if operands.is_empty() {
            shell.complain(b"sed", "no script")?;
            return Ok(1);
        }
        scripts.push(operands.remove(0));
    }
    let text = scripts.join(&b'\n');
    let extended = arguments.has('E') || arguments.has('r');
    let program = match program::parse(&text, extended) {
        Ok(program) => program,
        Err(program::Flaw::Unknown(why)) => return shell.usage(b"sed", why),
        Err(program::Flaw::Bad(why)) => {
            shell.complain(b"sed", why)?;
            return Ok(1);
        }
    };
    let quiet = arguments.has('n') || text.starts_with(b"#n\n") || text == b"#n";
    if !arguments.has('i') {
        let mut texts = Vec::new();
        let mut status = 0;
        if operands.is_empty() {
            texts.push(shell.read_all()?);
        }
        for path in &operands {
            if path == b"-" {
                texts.push(shell.read_all()?);
                continue;
            }
            match shell.files.read(path)? {
                Ok(text) => texts.push(text),
                Err(errno) => {
                    let what = format!("can't read {}: {errno}", String::from_utf8_lossy(path));
                    shell.complain(b"sed", what)?;
                    status = 2;
                }
            }
        }
        let ran = run::run(shell, &program, &texts, quiet)?;
        shell.out(&ran.out)?;
        return Ok(ran.status.unwrap_or(status));
    }
    let suffix = arguments.value('i').unwrap_or_default().to_vec();
    if suffix.iter().any(|byte| b"*/".contains(byte)) {
        return shell.usage(b"sed", "-i with a pattern of names is not interpreted");
    }
    let mut status = 0;
    for path in &operands {
        let follow = if arguments.has('F') {
            dormouse_filesystem::Follow::Links
        } else {
            dormouse_filesystem::Follow::No
        };
        let attributes = match shell.files.find(path, dormouse_filesystem::Follow::Links)? {
            Ok(found) => found.attributes,
            Err(errno) => {
                let what = format!("can't read {}: {errno}", String::from_utf8_lossy(path));
                shell.complain(b"sed", what)?;
                status = 4;
                continue;
            }
        };
        let text = match shell.files.read(path)? {
            Ok(text) => text,
            Err(errno) => {
                let what = format!("couldn't edit {}: {errno}", String::from_utf8_lossy(path));
                shell.complain(b"sed", what)?;
                status = 4;
                continue;
            }
        };
        // GNU's sed replaces a symbolic link by a file, unless it is told to follow it.
        let target = match shell.files.find(path, follow)? {
            Ok(found) => found.path.as_bytes().to_vec(),
            Err(_) => path.clone(),
        };
        let ran = run::run(shell, &program, std::slice::from_ref(&text), quiet)?;
        if !suffix.is_empty() {
            let backup = [&target[..], &suffix].concat();
            if let Err(errno) = shell.files.rename(&target, &backup)? {
                shell.complain(b"sed", errno.to_string())?;
                return Ok(4);
            }
        }
        let owner = (attributes.uid, attributes.gid);
        if let Err(errno) = shell
            .files
            .replace(&target, ran.out, attributes.mode, owner)?
        {
            shell.complain(b"sed", errno.to_string())?;
            return Ok(4);
        }
        if !attributes.xattrs.is_empty()
            && let Ok(place) = shell.files.place(&target)?
        {
            shell
                .files
                .change(&place, |new| new.xattrs = attributes.xattrs)?;
        }
        if let Some(status) = ran.status {
            return Ok(status);
        }
    }
    Ok(status)
}
