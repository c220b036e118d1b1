//! Names and paths: `basename`, `dirname`, `readlink`, `realpath`, `which`.

use dormouse_filesystem::Follow;
use dormouse_overlay::DraftNode;

use super::arguments::{self, Spec};
use crate::files::trim_slashes;
use crate::shell::Shell;
use crate::stop::Run;

/// The last component of a path.
pub(crate) fn base(path: &[u8]) -> &[u8] {
    let trimmed = trim_slashes(path);
    if trimmed == b"/" {
        return trimmed;
    }
    trimmed
        .rsplit(|&byte| byte == b'/')
        .next()
        .unwrap_or(trimmed)
}

/// What is before the last component of a path.
pub(crate) fn directory(path: &[u8]) -> &[u8] {
    let trimmed = trim_slashes(path);
    match trimmed.iter().rposition(|&byte| byte == b'/') {
        None => b".",
        Some(at) => {
            let head = trimmed.get(..at).unwrap_or_default();
            let head = trim_slashes(head);
            if head.is_empty() { b"/" } else { head }
        }
    }
}

const BASENAME: Spec = Spec {
    short: "as:z",
    long: &[("multiple", 'a'), ("suffix=", 's'), ("zero", 'z')],
    permute: false,
};

pub(crate) fn basename(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &BASENAME)?;
    let multiple = arguments.has('a') || arguments.has('s');
    let mut suffix = arguments.value('s').unwrap_or_default().to_vec();
    let mut paths = arguments.operands.clone();
    if !multiple {
        match paths.len() {
            1 => {}
            2 => suffix = paths.pop().unwrap_or_default(),
            _ => {
                shell.complain(b"basename", "missing or extra operand")?;
                return Ok(1);
            }
        }
    }
    let end: &[u8] = if arguments.has('z') { b"\0" } else { b"\n" };
    for path in &paths {
        let name = base(path);
        let stripped = name
            .strip_suffix(suffix.as_slice())
            .filter(|rest| !rest.is_empty())
            .unwrap_or(name);
        shell.out(&[stripped, end].concat())?;
    }
    Ok(0)
}

const DIRNAME: Spec = Spec {
    short: "z",
    long: &[("zero", 'z')],
    permute: true,
};

pub(crate) fn dirname(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &DIRNAME)?;
    if arguments.operands.is_empty() {
        shell.complain(b"dirname", "missing operand")?;
        return Ok(1);
    }
    let end: &[u8] = if arguments.has('z') { b"\0" } else { b"\n" };
    for path in &arguments.operands {
        shell.out(&[directory(path), end].concat())?;
    }
    Ok(0)
}

const READLINK: Spec = Spec {
    short: "femnqsvz",
    long: &[
        ("canonicalize", 'f'),
        ("canonicalize-existing", 'e'),
        ("canonicalize-missing", 'm'),
        ("no-newline", 'n'),
        ("quiet", 'q'),
        ("silent", 's'),
        ("verbose", 'v'),
        ("zero", 'z'),
    ],
    permute: true,
};

pub(crate) fn readlink(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &READLINK)?;
    let mode = arguments.last_of("fem");
    let end: &[u8] = match (arguments.has('z'), arguments.has('n')) {
        (true, _) => b"\0",
        (_, true) => b"",
        _ => b"\n",
    };
    let mut status = i32::from(arguments.operands.is_empty());
    for path in &arguments.operands {
        let text = match mode {
            Some(mode) => canonical(shell, path, mode)?,
            None => match shell.files.look(path, Follow::No)? {
                Some(found) => match found.node {
                    DraftNode::Symlink(target) => Some(target),
                    _ => None,
                },
                None => None,
            },
        };
        match text {
            Some(text) => shell.out(&[&text[..], end].concat())?,
            None => status = 1,
        }
    }
    Ok(status)
}

/// The path free of symbolic links: `e` must exist, of `f` the last component may be missing, of `m` any.
pub(crate) fn canonical(shell: &mut Shell<'_>, path: &[u8], mode: char) -> Run<Option<Vec<u8>>> {
    if path.is_empty() {
        return Ok(None);
    }
    if let Some(found) = shell.files.look(path, Follow::Links)? {
        return Ok(Some(found.path.as_bytes().to_vec()));
    }
    if mode == 'e' {
        return Ok(None);
    }
    // Go through dangling links by hand: the target's last component may be missing.
    let mut path = path.to_vec();
    for _ in 0..40 {
        if path.ends_with(b"/") && mode == 'f' {
            path = trim_slashes(&path).to_vec();
        }
        let parent = directory(&path).to_vec();
        let Some(folder) = shell.files.look(&parent, Follow::Links)? else {
            if mode != 'm' {
                return Ok(None);
            }
            let above = canonical_missing(shell, &parent)?;
            return Ok(Some(join(&above, base(&path))));
        };
        if folder.node != DraftNode::Directory && mode != 'm' {
            return Ok(None);
        }
        let place = join(folder.path.as_bytes(), base(&path));
        match shell.files.look(&place, Follow::No)? {
            Some(found) => match found.node {
                DraftNode::Symlink(target) if target.starts_with(b"/") => path = target,
                DraftNode::Symlink(target) => path = join(folder.path.as_bytes(), &target),
                _ => return Ok(Some(place)),
            },
            None => return Ok(Some(place)),
        }
    }
    Ok(None)
}

fn canonical_missing(shell: &mut Shell<'_>, path: &[u8]) -> Run<Vec<u8>> {
    let mut missing: Vec<Vec<u8>> = Vec::new();
    let mut here = path.to_vec();
    loop {
        if let Some(found) = shell.files.look(&here, Follow::Links)? {
            let mut out = found.path.as_bytes().to_vec();
            for name in missing.iter().rev() {
                out = join(&out, name);
            }
            return Ok(out);
        }
        missing.push(base(&here).to_vec());
        let above = directory(&here).to_vec();
        if above == here {
            return Ok(above);
        }
        here = above;
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder == b"/" {
        [b"/", name].concat()
    } else {
        [folder, b"/", name].concat()
    }
}

const REALPATH: Spec = Spec {
    short: "emqsz",
    long: &[
        ("canonicalize-existing", 'e'),
        ("canonicalize-missing", 'm'),
        ("quiet", 'q'),
        ("zero", 'z'),
    ],
    permute: true,
};

pub(crate) fn realpath(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &REALPATH)?;
    if arguments.has('s') && arguments.last_of("em") != Some('m') {
        return shell.usage(b"realpath", "-s is interpreted with -m only");
    }
    let mode = arguments.last_of("em").unwrap_or('f');
    let end: &[u8] = if arguments.has('z') { b"\0" } else { b"\n" };
    let mut status = i32::from(arguments.operands.is_empty());
    for path in &arguments.operands {
        let found = if arguments.has('s') {
            Some(lexical(shell.files.cwd.as_bytes(), path))
        } else {
            canonical(shell, path, mode)?
        };
        match found {
            Some(text) => shell.out(&[&text[..], end].concat())?,
            None => {
                if !arguments.has('q') {
                    shell.complain(b"realpath", "No such file or directory")?;
                }
                status = 1;
            }
        }
    }
    Ok(status)
}

/// A path made absolute with `.` and `..` resolved by its letters alone.
fn lexical(cwd: &[u8], path: &[u8]) -> Vec<u8> {
    let whole = if path.starts_with(b"/") {
        path.to_vec()
    } else {
        [cwd, b"/", path].concat()
    };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in whole.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    [b"/", parts.join(&b'/').as_slice()].concat()
}

pub(crate) fn which(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut rest = words.get(1..).unwrap_or_default();
    let mut silent = false;
    let mut all = false;
    while let Some(option) = rest.first().filter(|word| word.starts_with(b"-")) {
        match option.as_slice() {
            b"-s" => silent = true,
            b"-a" => all = true,
            b"--" => {}
            _ => return shell.usage(b"which", "the option is not interpreted"),
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    if all {
        return shell.usage(b"which", "-a is not interpreted");
    }
    let mut status = i32::from(rest.is_empty());
    for name in rest {
        match shell.locate(name)? {
            crate::shell::Target::File(path) if !name.is_empty() => {
                if !silent {
                    shell.out(&[&path[..], b"\n"].concat())?;
                }
            }
            _ => status = 1,
        }
    }
    Ok(status)
}
