//! `mkdir`, `touch`, `mktemp`, `tempfile` and `install`.

use dormouse_filesystem::{Follow, Time};
use dormouse_overlay::DraftNode;

use super::arguments::{self, Spec};
use super::mode::{self, Owner};
use crate::files::{Call, Errno, trim_slashes};
use crate::shell::Shell;
use crate::stop::Run;

const MKDIR: Spec = Spec {
    short: "pvm:Z",
    long: &[("parents", 'p'), ("mode=", 'm'), ("verbose", 'v')],
    permute: true,
};

pub(crate) fn mkdir(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &MKDIR)?;
    let umask = shell.files.umask;
    let wanted = match arguments.value('m') {
        Some(text) => match mode::apply(text, 0o777, true, umask) {
            Some(mode) => Some(mode),
            None => {
                shell.complain(b"mkdir", "invalid mode")?;
                return Ok(1);
            }
        },
        None => None,
    };
    let mut status = i32::from(arguments.operands.is_empty());
    for path in &arguments.operands {
        let made = if arguments.has('p') {
            make_parents(shell, path, 0o777 & !umask, wanted)?
        } else {
            shell
                .files
                .make_directory(path, wanted.unwrap_or(0o777 & !umask))?
                .map(|_| ())
        };
        if let Err(errno) = made {
            let text = format!(
                "cannot create directory '{}': {errno}",
                String::from_utf8_lossy(path)
            );
            shell.complain(b"mkdir", text)?;
            status = 1;
        }
    }
    Ok(status)
}

/// Makes a directory and its missing parents; one that is there is left alone.
pub(crate) fn make_parents(
    shell: &mut Shell<'_>,
    path: &[u8],
    mode: u16,
    last_mode: Option<u16>,
) -> Call<()> {
    let path = trim_slashes(path);
    let mut ends: Vec<usize> = path
        .iter()
        .enumerate()
        .filter(|&(index, &byte)| byte == b'/' && index > 0)
        .map(|(index, _)| index)
        .collect();
    ends.push(path.len());
    for end in ends {
        let part = path.get(..end).unwrap_or_default();
        let last = end == path.len();
        if shell.files.is_directory(part)? {
            continue;
        }
        let mode = if last {
            last_mode.unwrap_or(mode)
        } else {
            mode | 0o300
        };
        match shell.files.make_directory(part, mode)? {
            Ok(_) => {}
            Err(Errno::Exists) if !last => return Ok(Err(Errno::NotDirectory)),
            Err(errno) => return Ok(Err(errno)),
        }
    }
    Ok(Ok(()))
}

const TOUCH: Spec = Spec {
    short: "acmr:d:t:h",
    long: &[
        ("no-create", 'c'),
        ("reference=", 'r'),
        ("date=", 'd'),
        ("no-dereference", 'h'),
    ],
    permute: true,
};

pub(crate) fn touch(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &TOUCH)?;
    let mut time: Option<Time> = None;
    if let Some(date) = arguments.value('d') {
        let seconds = date
            .strip_prefix(b"@")
            .and_then(|text| std::str::from_utf8(text).ok())
            .and_then(|text| text.parse().ok());
        match seconds {
            Some(seconds) => {
                time = Some(Time {
                    seconds,
                    nanoseconds: 0,
                });
            }
            None => return shell.usage(b"touch", "only dates written as @seconds are interpreted"),
        }
    }
    if arguments.has('t') {
        return shell.usage(b"touch", "-t is not interpreted");
    }
    if let Some(reference) = arguments.value('r') {
        match shell.files.look(reference, Follow::Links)? {
            Some(found) => time = Some(found.attributes.mtime),
            None => {
                shell.complain(b"touch", "failed to get attributes of the reference")?;
                return Ok(1);
            }
        }
    }
    let follow = if arguments.has('h') {
        Follow::No
    } else {
        Follow::Links
    };
    let mut status = 0;
    for path in &arguments.operands {
        let found = match shell.files.find(path, follow)? {
            Ok(found) => found.path,
            Err(Errno::NoEntry) if arguments.has('c') => continue,
            Err(Errno::NoEntry) => match shell.files.open_for_writing(path, false)? {
                Ok(Some(path)) => path,
                Ok(None) => continue,
                Err(errno) => {
                    let text = format!("cannot touch '{}': {errno}", String::from_utf8_lossy(path));
                    shell.complain(b"touch", text)?;
                    status = 1;
                    continue;
                }
            },
            Err(errno) => {
                let text = format!("cannot touch '{}': {errno}", String::from_utf8_lossy(path));
                shell.complain(b"touch", text)?;
                status = 1;
                continue;
            }
        };
        if arguments.has('a') && !arguments.has('m') {
            continue;
        }
        let time = time.unwrap_or(shell.files.now);
        shell
            .files
            .change(&found, |attributes| attributes.mtime = time)?;
    }
    Ok(status)
}

const MKTEMP: Spec = Spec {
    short: "dqutp:",
    long: &[
        ("directory", 'd'),
        ("quiet", 'q'),
        ("dry-run", 'u'),
        ("tmpdir?", 'T'),
        ("suffix=", 's'),
    ],
    permute: true,
};

/// Names are numbered, not random, so that the same input makes the same draft.
pub(crate) fn mktemp(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &MKTEMP)?;
    let template = arguments.operand(0).unwrap_or(b"tmp.XXXXXXXXXX").to_vec();
    let folder: Option<Vec<u8>> =
        if let Some(folder) = arguments.value('p').or(arguments.value('T')) {
            Some(folder.to_vec())
        } else if arguments.has('t') || arguments.has('T') || arguments.operands.is_empty() {
            let folder = shell
                .environment
                .variables
                .get(b"TMPDIR")
                .unwrap_or(b"/tmp");
            Some(folder.to_vec())
        } else {
            None
        };
    let end = template
        .iter()
        .rposition(|&byte| byte == b'X')
        .map_or(0, |at| at.saturating_add(1));
    let run = template
        .get(..end)
        .unwrap_or_default()
        .iter()
        .rev()
        .take_while(|&&byte| byte == b'X')
        .count();
    if run < 3 {
        shell.complain(b"mktemp", "too few X's in template")?;
        return Ok(1);
    }
    let start = end.saturating_sub(run);
    for _ in 0..10_000 {
        shell.temporary = shell.temporary.saturating_add(1);
        let number = format!("{:0width$}", shell.temporary, width = run);
        let mut name = template.get(..start).unwrap_or_default().to_vec();
        name.extend_from_slice(number.as_bytes());
        name.extend_from_slice(template.get(end..).unwrap_or_default());
        name.extend_from_slice(arguments.value('s').unwrap_or_default());
        let path = match &folder {
            Some(folder) => [trim_slashes(folder), b"/", &name].concat(),
            None => name,
        };
        if shell.files.exists(&path, Follow::No)? {
            continue;
        }
        if !arguments.has('u') {
            let made = if arguments.has('d') {
                shell.files.make_directory(&path, 0o700)?.map(|_| ())
            } else {
                shell.files.replace(&path, Vec::new(), 0o600, (0, 0))?
            };
            if let Err(errno) = made {
                shell.complain(b"mktemp", format!("failed to create: {errno}"))?;
                return Ok(1);
            }
        }
        shell.out(&[&path[..], b"\n"].concat())?;
        return Ok(0);
    }
    shell.usage(b"mktemp", "no name is left")
}

const TEMPFILE: Spec = Spec {
    short: "d:p:s:m:n:",
    long: &[
        ("directory=", 'd'),
        ("prefix=", 'p'),
        ("suffix=", 's'),
        ("mode=", 'm'),
        ("name=", 'n'),
    ],
    permute: true,
};

pub(crate) fn tempfile(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &TEMPFILE)?;
    if arguments.has('m') || arguments.has('n') || arguments.has('s') {
        return shell.usage(b"tempfile", "only -d and -p are interpreted");
    }
    let folder = arguments.value('d').unwrap_or(b"/tmp");
    let prefix = arguments.value('p').unwrap_or(b"file");
    let template = [folder, b"/", prefix, b"XXXXXX"].concat();
    mktemp(shell, &[b"mktemp".to_vec(), template])
}

const INSTALL: Spec = Spec {
    short: "dDm:o:g:bCcpsvtTZ",
    long: &[
        ("directory", 'd'),
        ("mode=", 'm'),
        ("owner=", 'o'),
        ("group=", 'g'),
        ("preserve-timestamps", 'p'),
        ("verbose", 'v'),
        ("no-target-directory", 'T'),
    ],
    permute: true,
};

pub(crate) fn install(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &INSTALL)?;
    if arguments.has('b') || arguments.has('s') || arguments.has('C') || arguments.has('t') {
        return shell.usage(b"install", "-b, -C, -s and -t are not interpreted");
    }
    let mut owner = Owner::default();
    for (letter, prefix) in [('o', ""), ('g', ":")] {
        if let Some(text) = arguments.value(letter) {
            let text = [prefix.as_bytes(), text].concat();
            match mode::owner(shell, &text)? {
                Ok(found) => {
                    owner.uid = owner.uid.or(found.uid);
                    owner.gid = owner.gid.or(found.gid);
                }
                Err(why) => {
                    shell.complain(b"install", why)?;
                    return Ok(1);
                }
            }
        }
    }
    let Some(mode) = mode::apply(arguments.value('m').unwrap_or(b"0755"), 0, false, 0) else {
        shell.complain(b"install", "invalid mode")?;
        return Ok(1);
    };
    let owned = (owner.uid.unwrap_or(0), owner.gid);
    if arguments.has('d') {
        for path in &arguments.operands {
            if let Err(errno) = make_parents(shell, path, 0o755, None)? {
                shell.complain(b"install", format!("cannot create directory: {errno}"))?;
                return Ok(1);
            }
            if let Some(found) = shell.files.look(path, Follow::Links)? {
                shell.files.change(&found.path, |attributes| {
                    attributes.mode = mode;
                    attributes.uid = owner.uid.unwrap_or(attributes.uid);
                    attributes.gid = owned.1.unwrap_or(attributes.gid);
                })?;
            }
        }
        return Ok(0);
    }
    let Some((destination, sources)) = arguments.operands.split_last() else {
        shell.complain(b"install", "missing file operand")?;
        return Ok(1);
    };
    if sources.is_empty() {
        shell.complain(b"install", "missing destination file operand")?;
        return Ok(1);
    }
    let into = !arguments.has('T') && shell.files.is_directory(destination)?;
    if sources.len() > 1 && !into {
        shell.complain(b"install", "the target is not a directory")?;
        return Ok(1);
    }
    for source in sources {
        let target = if into {
            [trim_slashes(destination), b"/", super::name::base(source)].concat()
        } else {
            destination.clone()
        };
        if arguments.has('D')
            && let Some(at) = target.iter().rposition(|&byte| byte == b'/')
            && let Err(errno) =
                make_parents(shell, target.get(..at).unwrap_or_default(), 0o755, None)?
        {
            shell.complain(b"install", format!("cannot create directory: {errno}"))?;
            return Ok(1);
        }
        // Devices such as /dev/null make empty files.
        let found = shell.files.look(source, Follow::Links)?;
        let bytes = match shell.files.read(source)? {
            Ok(bytes) => bytes,
            Err(errno) => {
                let text = format!("cannot stat '{}': {errno}", String::from_utf8_lossy(source));
                shell.complain(b"install", text)?;
                return Ok(1);
            }
        };
        if shell
            .files
            .look(&target, Follow::No)?
            .is_some_and(|standing| standing.node == DraftNode::Directory)
        {
            shell.complain(b"install", "cannot overwrite directory")?;
            return Ok(1);
        }
        if let Err(errno) =
            shell
                .files
                .replace(&target, bytes, mode, (owned.0, owned.1.unwrap_or(0)))?
        {
            let text = format!(
                "cannot create '{}': {errno}",
                String::from_utf8_lossy(&target)
            );
            shell.complain(b"install", text)?;
            return Ok(1);
        }
        if arguments.has('p')
            && let Some(found) = found
            && let Ok(place) = shell.files.place(&target)?
        {
            let time = found.attributes.mtime;
            shell
                .files
                .change(&place, |attributes| attributes.mtime = time)?;
        }
    }
    Ok(0)
}
