//! `cd`, `pwd` and `umask`.

use dormouse_filesystem::Follow;
use dormouse_overlay::DraftNode;

use crate::shell::Shell;
use crate::stop::Run;
use crate::syntax::Dialect;

pub(super) fn umask(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let Some(text) = arguments.get(1) else {
        let line = format!("{:04o}\n", shell.files.umask);
        shell.out(line.as_bytes())?;
        return Ok(0);
    };
    let mask = std::str::from_utf8(text)
        .ok()
        .and_then(|text| u16::from_str_radix(text, 8).ok())
        .filter(|&mask| mask <= 0o777);
    match mask {
        Some(mask) => {
            shell.files.umask = mask;
            Ok(0)
        }
        None => shell.usage(b"umask", "only octal masks are interpreted"),
    }
}

pub(super) fn change_directory(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let mut rest = arguments.get(1..).unwrap_or_default();
    let mut physical = false;
    while let Some(option @ (b"-P" | b"-L" | b"--")) = rest.first().map(Vec::as_slice) {
        physical = option == b"-P";
        rest = rest.get(1..).unwrap_or_default();
        if option == b"--" {
            break;
        }
    }
    let before = shell
        .environment
        .variables
        .get(b"PWD")
        .unwrap_or(b"/")
        .to_vec();
    let (target, print) = match rest.first().map(Vec::as_slice) {
        None => match shell.environment.variables.get(b"HOME") {
            Some(home) => (home.to_vec(), false),
            None => return Ok(0),
        },
        Some(b"-") => (
            shell
                .environment
                .variables
                .get(b"OLDPWD")
                .unwrap_or(b"/")
                .to_vec(),
            true,
        ),
        Some(target) => (target.to_vec(), false),
    };
    let mut logical = if target.starts_with(b"/") {
        target.clone()
    } else {
        [&before[..], b"/", &target].concat()
    };
    if physical {
        if let Some(found) = shell.files.look(&logical, Follow::Links)? {
            logical = found.path.as_bytes().to_vec();
        }
    } else {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in logical.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        logical = [b"/", parts.join(&b'/').as_slice()].concat();
    }
    match shell.files.look(&logical, Follow::Links)? {
        Some(found) if found.node == DraftNode::Directory => {
            shell.files.cwd = found.path;
            shell.environment.variables.set_exported(b"OLDPWD", &before);
            shell.environment.variables.set_exported(b"PWD", &logical);
            if print {
                shell.out(&[&logical[..], b"\n"].concat())?;
            }
            Ok(0)
        }
        _ => {
            shell.complain(
                b"cd",
                format!("can't cd to {}", String::from_utf8_lossy(&target)),
            )?;
            Ok(if shell.environment.dialect == Dialect::Bash {
                1
            } else {
                2
            })
        }
    }
}

pub(super) fn print_directory(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let mut line = if arguments.get(1).is_some_and(|option| option == b"-P") {
        shell.files.cwd.as_bytes().to_vec()
    } else {
        shell
            .environment
            .variables
            .get(b"PWD")
            .unwrap_or(b"/")
            .to_vec()
    };
    line.push(b'\n');
    shell.out(&line)?;
    Ok(0)
}
