//! `rm`, `rmdir` and `unlink`.

use dormouse_filesystem::Follow;
use dormouse_overlay::DraftNode;

use super::arguments::{self, Spec};
use crate::files::{Call, Errno, trim_slashes};
use crate::shell::Shell;
use crate::stop::Run;

const RM: Spec = Spec {
    short: "firRvd",
    long: &[
        ("force", 'f'),
        ("recursive", 'r'),
        ("verbose", 'v'),
        ("dir", 'd'),
        ("one-file-system", 'o'),
        ("preserve-root", 'p'),
    ],
    permute: true,
};

pub(crate) fn rm(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &RM)?;
    if arguments.last_of("fi") == Some('i') {
        return shell.usage(b"rm", "-i asks a question");
    }
    let force = arguments.has('f');
    let recursive = arguments.has('r') || arguments.has('R');
    if arguments.operands.is_empty() && !force {
        shell.complain(b"rm", "missing operand")?;
        return Ok(1);
    }
    let mut status = 0;
    for path in &arguments.operands {
        if let Err(why) = remove(shell, path, force, recursive, &arguments)? {
            let text = format!("cannot remove '{}': {why}", String::from_utf8_lossy(path));
            shell.complain(b"rm", text)?;
            status = 1;
        }
    }
    Ok(status)
}

fn remove(
    shell: &mut Shell<'_>,
    path: &[u8],
    force: bool,
    recursive: bool,
    arguments: &arguments::Arguments,
) -> Call<()> {
    let last = trim_slashes(path).rsplit(|&byte| byte == b'/').next();
    if matches!(last, Some(b"." | b"..")) {
        return Ok(Err(Errno::Invalid));
    }
    let found = match shell.files.find(path, Follow::No)? {
        Ok(found) => found,
        Err(Errno::NoEntry | Errno::NotDirectory) if force => return Ok(Ok(())),
        Err(errno) => return Ok(Err(errno)),
    };
    if found.path.is_root() {
        return shell.usage(b"rm", "the root cannot be removed");
    }
    if found.node == DraftNode::Directory {
        if recursive {
            // A link named with a trailing slash leads to a directory but is none itself.
            if path.ends_with(b"/")
                && shell
                    .files
                    .look(trim_slashes(path), Follow::No)?
                    .is_some_and(|link| link.node != DraftNode::Directory)
            {
                return Ok(Err(Errno::NotDirectory));
            }
            return remove_tree(shell, found.path.as_bytes());
        }
        if arguments.has('d') {
            return shell.files.remove_directory(path);
        }
        return Ok(Err(Errno::IsDirectory));
    }
    shell.files.unlink(path)
}

/// Removes the directory `path` and all below it. Nothing is followed.
pub(crate) fn remove_tree(shell: &mut Shell<'_>, path: &[u8]) -> Call<()> {
    let mut todo = vec![path.to_vec()];
    let mut directories = Vec::new();
    while let Some(directory) = todo.pop() {
        let names = match shell.files.list(&directory)? {
            Ok(names) => names,
            Err(errno) => return Ok(Err(errno)),
        };
        for name in names {
            let child = [&directory[..], b"/", &name].concat();
            match shell.files.find(&child, Follow::No)? {
                Ok(found) if found.node == DraftNode::Directory => todo.push(child),
                Ok(_) => {
                    if let Err(errno) = shell.files.unlink(&child)? {
                        return Ok(Err(errno));
                    }
                }
                Err(errno) => return Ok(Err(errno)),
            }
        }
        directories.push(directory);
    }
    for directory in directories.iter().rev() {
        if let Err(errno) = shell.files.remove_directory(directory)? {
            return Ok(Err(errno));
        }
    }
    Ok(Ok(()))
}

const RMDIR: Spec = Spec {
    short: "pv",
    long: &[
        ("parents", 'p'),
        ("verbose", 'v'),
        ("ignore-fail-on-non-empty", 'i'),
    ],
    permute: true,
};

pub(crate) fn rmdir(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &RMDIR)?;
    let mut status = i32::from(arguments.operands.is_empty());
    for path in &arguments.operands {
        let mut path = trim_slashes(path);
        loop {
            match shell.files.remove_directory(path)? {
                Ok(()) => {}
                Err(Errno::NotEmpty) if arguments.has('i') => break,
                Err(errno) => {
                    let text = format!(
                        "failed to remove '{}': {errno}",
                        String::from_utf8_lossy(path)
                    );
                    shell.complain(b"rmdir", text)?;
                    status = 1;
                    break;
                }
            }
            if !arguments.has('p') {
                break;
            }
            match path.iter().rposition(|&byte| byte == b'/') {
                Some(at) if at > 0 => path = trim_slashes(path.get(..at).unwrap_or_default()),
                _ => break,
            }
        }
    }
    Ok(status)
}

pub(crate) fn unlink(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let [_, path] = words else {
        return shell.usage(b"unlink", "only one path is interpreted");
    };
    match shell.files.unlink(path)? {
        Ok(()) => Ok(0),
        Err(errno) => {
            shell.complain(b"unlink", errno.to_string())?;
            Ok(1)
        }
    }
}
