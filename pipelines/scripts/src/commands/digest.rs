//! `md5sum`, `sha1sum`, `sha256sum`, `cmp` and `diff -q`.

use md5::{Digest as _, Md5};
use sha2::Sha256;

use super::arguments::{self, Spec};
use crate::shell::Shell;
use crate::stop::Run;

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// The MD5 digest in hexadecimal.
pub(crate) fn md5_of(bytes: &[u8]) -> String {
    hexadecimal(&Md5::digest(bytes))
}

const SUM: Spec = Spec {
    short: "btcw",
    long: &[("check", 'c'), ("status", 's'), ("quiet", 'q')],
    permute: true,
};

pub(crate) fn sum(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let name = words.first().cloned().unwrap_or_default();
    let arguments = arguments::read(shell, words, &SUM)?;
    let digest = |bytes: &[u8]| match name.as_slice() {
        b"md5sum" => md5_of(bytes),
        _ => hexadecimal(&Sha256::digest(bytes)),
    };
    if arguments.has('c') {
        return check(shell, &name, &arguments, digest);
    }
    let operands = if arguments.operands.is_empty() {
        vec![b"-".to_vec()]
    } else {
        arguments.operands.clone()
    };
    let mark = if arguments.has('b') { b'*' } else { b' ' };
    let mut status = 0;
    for path in operands {
        let bytes = if path == b"-" {
            Ok(shell.read_all()?)
        } else {
            shell.files.read(&path)?
        };
        match bytes {
            Ok(bytes) => {
                if path
                    .iter()
                    .any(|byte| matches!(byte, b'\n' | b'\\' | b'\r'))
                {
                    return shell.usage(&name, "the file's name would be escaped");
                }
                let line = [digest(&bytes).as_bytes(), &[b' ', mark], &path, b"\n"].concat();
                shell.out(&line)?;
            }
            Err(errno) => {
                let text = format!("{}: {errno}", String::from_utf8_lossy(&path));
                shell.complain(&name, text)?;
                status = 1;
            }
        }
    }
    Ok(status)
}

fn check(
    shell: &mut Shell<'_>,
    name: &[u8],
    arguments: &arguments::Arguments,
    digest: impl Fn(&[u8]) -> String,
) -> Run<i32> {
    let mut texts = Vec::new();
    for path in &arguments.operands {
        match shell.files.read(path)? {
            Ok(text) => texts.push(text),
            Err(_) => return Ok(1),
        }
    }
    if arguments.operands.is_empty() {
        texts.push(shell.read_all()?);
    }
    let mut status = 0;
    for line in texts.iter().flat_map(|text| super::text::lines(text)) {
        let Some((wanted, path)) = line
            .iter()
            .position(|&byte| byte == b' ')
            .and_then(|at| Some((line.get(..at)?, line.get(at.checked_add(2)?..)?)))
        else {
            return shell.usage(name, "a line of the list is not interpreted");
        };
        let verdict = match shell.files.read(path)? {
            Ok(bytes) if digest(&bytes).as_bytes().eq_ignore_ascii_case(wanted) => "OK",
            Ok(_) => "FAILED",
            Err(_) => "FAILED open or read",
        };
        if verdict != "OK" {
            status = 1;
        }
        let silent = arguments.has('s') || (arguments.has('q') && verdict == "OK");
        if !silent {
            shell.out(&[path, b": ", verdict.as_bytes(), b"\n"].concat())?;
        }
    }
    Ok(status)
}

const CMP: Spec = Spec {
    short: "sq",
    long: &[("quiet", 's'), ("silent", 's'), ("brief", 'q')],
    permute: true,
};

/// `cmp`; `diff` only for whether files differ.
pub(crate) fn compare(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let name = words.first().cloned().unwrap_or_default();
    let arguments = arguments::read(shell, words, &CMP)?;
    let [left, right] = arguments.operands.as_slice() else {
        return shell.usage(&name, "two files are interpreted");
    };
    let mut contents = Vec::new();
    for path in [left, right] {
        let content = if path == b"-" {
            Ok(shell.read_all()?)
        } else {
            shell.files.read(path)?
        };
        match content {
            Ok(content) => contents.push(content),
            Err(errno) => {
                if !arguments.has('s') {
                    let text = format!("{}: {errno}", String::from_utf8_lossy(path));
                    shell.complain(&name, text)?;
                }
                return Ok(2);
            }
        }
    }
    let differ = contents.first() != contents.get(1);
    if !differ || arguments.has('s') {
        return Ok(i32::from(differ));
    }
    if name == b"diff" && arguments.has('q') {
        shell.out(&[b"Files ", &left[..], b" and ", right, b" differ\n"].concat())?;
        return Ok(1);
    }
    shell.usage(&name, "telling where files differ is not interpreted")
}
