//! `systemctl`, as far as it works without a running service manager.

use dormouse_filesystem::Follow;

use super::unit;
use crate::call::Reason;
use crate::files::Errno;
use crate::shell::Shell;
use crate::stop::Run;

/// Makes the links that enable the unit at `path`, as `systemctl enable` does.
pub(super) fn enable(shell: &mut Shell<'_>, instance: &str, path: &[u8]) -> Run<Result<(), Errno>> {
    let mut visited = Vec::new();
    let links = match unit::links(shell, instance, path, &mut visited)? {
        Ok(links) => links,
        Err(errno) => return Ok(Err(errno)),
    };
    for link in links {
        if shell.files.exists(&link.at, Follow::No)? {
            continue;
        }
        unit::make_folder(shell, &link.at)?;
        if let Err(errno) = shell.files.make_symlink(&link.target, &link.at)? {
            return Ok(Err(errno));
        }
    }
    Ok(Ok(()))
}

pub(crate) fn systemctl(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut instance = "system";
    let mut operands = Vec::new();
    for word in words.get(1..).unwrap_or_default() {
        match word.as_slice() {
            b"--system" | b"--quiet" | b"-q" | b"--no-reload" | b"--root=/" | b"--no-pager"
            | b"--no-block" => {}
            b"--global" => instance = "user",
            word if word.starts_with(b"-") && word.len() > 1 => {
                return shell.usage(b"systemctl", "the option is not interpreted");
            }
            word => operands.push(word.to_vec()),
        }
    }
    let Some((verb, units)) = operands.split_first() else {
        return shell.usage(b"systemctl", "a verb is missing");
    };
    match verb.as_slice() {
        // In a chroot these are ignored and succeed.
        b"daemon-reload"
        | b"daemon-reexec"
        | b"start"
        | b"stop"
        | b"restart"
        | b"reload"
        | b"try-restart"
        | b"condrestart"
        | b"reload-or-restart"
        | b"try-reload-or-restart"
        | b"force-reload"
        | b"kill"
        | b"reset-failed"
        | b"isolate" => {
            shell.not_needed(words);
            Ok(0)
        }
        b"is-active" | b"is-failed" | b"show" | b"status" | b"list-units"
        | b"is-system-running" => shell.refuse(
            Reason::Running,
            b"systemctl",
            "asks for the state of running services",
        ),
        b"mask" | b"unmask" => {
            for unit in units {
                let link = [b"/etc/systemd/", instance.as_bytes(), b"/", &full(unit)].concat();
                let standing = shell.files.look(&link, Follow::No)?;
                let is_mask = standing.as_ref().is_some_and(|found| {
                    found.node == dormouse_overlay::DraftNode::Symlink(b"/dev/null".to_vec())
                });
                if verb == b"mask" && !is_mask {
                    if standing.is_some() {
                        return shell
                            .usage(b"systemctl", "a unit of the administrator would be masked");
                    }
                    unit::make_folder(shell, &link)?;
                    let _ = shell.files.make_symlink(b"/dev/null", &link)?;
                } else if verb == b"unmask" && is_mask {
                    let _ = shell.files.unlink(&link)?;
                }
            }
            Ok(0)
        }
        b"enable" | b"preset" => {
            for unit in units {
                let unit = full(unit);
                let path = unit::find(shell, instance, &unit)?;
                if verb == b"preset" && !unit::is_preset(shell, instance, &unit)? {
                    return shell.usage(b"systemctl", "a preset that disables is not interpreted");
                }
                if path == unit {
                    shell.complain(b"systemctl", "the unit does not exist")?;
                    return Ok(1);
                }
                if enable(shell, instance, &path)?.is_err() {
                    return Ok(1);
                }
            }
            Ok(0)
        }
        _ => shell.usage(b"systemctl", "the verb is not interpreted"),
    }
}

fn full(unit: &[u8]) -> Vec<u8> {
    if unit.contains(&b'.') {
        unit.to_vec()
    } else {
        [unit, b".service"].concat()
    }
}
