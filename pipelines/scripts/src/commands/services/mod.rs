//! Services of a sleeping machine: links that enable them are made; starting, stopping and reloading is not needed.

mod helper;
mod rc;
mod systemctl;
mod unit;

pub(crate) use helper::deb_systemd_helper;
pub(crate) use rc::update_rc_d;
pub(crate) use systemctl::systemctl;

use dormouse_filesystem::Follow;

use crate::shell::Shell;
use crate::stop::Run;

/// `deb-systemd-invoke`: what it asks the service manager for is not needed.
pub(crate) fn deb_systemd_invoke(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    if words.len() < 3 {
        return Ok(1);
    }
    shell.not_needed(words);
    Ok(0)
}

/// `invoke-rc.d [options] NAME ACTION` and `service NAME ACTION`.
pub(crate) fn invoke_rc_d(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let operands: Vec<Vec<u8>> = words
        .iter()
        .skip(1)
        .filter(|word| !word.starts_with(b"-"))
        .cloned()
        .collect();
    let command = words.first().cloned().unwrap_or_default();
    if words.iter().any(|word| word == b"--query") {
        return shell.usage(&command, "--query is not interpreted");
    }
    let [name, action, ..] = operands.as_slice() else {
        return shell.usage(&command, "a service and an action are interpreted");
    };
    if action == b"status" {
        // LSB: the program is not running.
        return Ok(3);
    }
    let script = [b"/etc/init.d/", &name[..]].concat();
    let mut known = shell.files.exists(&script, Follow::Links)?;
    for folder in [
        "/etc/systemd/system",
        "/lib/systemd/system",
        "/usr/lib/systemd/system",
    ] {
        let bare = name.strip_suffix(b".service").unwrap_or(name);
        let unit = [folder.as_bytes(), b"/", bare, b".service"].concat();
        known = known || shell.files.exists(&unit, Follow::No)?;
    }
    if !known {
        let text = format!(
            "unknown initscript, /etc/init.d/{} not found.",
            String::from_utf8_lossy(name)
        );
        shell.complain(&command, text)?;
        return Ok(if command == b"service" { 1 } else { 100 });
    }
    shell.not_needed(words);
    Ok(0)
}

/// Programs that load rules into the running kernel, such as `apparmor_parser`: the kernel loads them when it starts.
pub(crate) fn kernel_load(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    shell.not_needed(words);
    Ok(0)
}

/// `aa-enabled`, `aa-status --enabled`: no kernel runs that could enforce profiles.
pub(crate) fn no_apparmor(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    if words
        .iter()
        .skip(1)
        .any(|word| !matches!(word.as_slice(), b"--quiet" | b"-q" | b"--enabled"))
    {
        return shell.usage(b"aa-status", "only whether it is enabled is interpreted");
    }
    Ok(1)
}

/// `udevadm`: what it asks the running udev for is not needed; its database is another program's.
pub(crate) fn udevadm(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    match words.get(1).map(Vec::as_slice) {
        Some(b"control" | b"trigger" | b"settle") => {
            shell.not_needed(words);
            Ok(0)
        }
        _ => shell.usage(b"udevadm", "the verb is not interpreted"),
    }
}

/// `sysctl`, as far as it sets: the settings are read from their files when the machine starts.
pub(crate) fn sysctl(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let from_files = words.iter().skip(1).any(|word| {
        matches!(
            word.as_slice(),
            b"--system" | b"-p" | b"--load" | b"-qp" | b"-pq"
        ) || word.starts_with(b"--load=")
            || (word.starts_with(b"-p") && word.len() > 2)
    });
    if !from_files {
        return shell.usage(b"sysctl", "only loading files is interpreted");
    }
    shell.not_needed(words);
    Ok(0)
}

/// `systemd-machine-id-setup`, where the machine has its id.
pub(crate) fn machine_id(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let id = shell.files.read(b"/etc/machine-id")?.unwrap_or_default();
    let id = id.trim_ascii_end();
    let is_set = id.len() == 32
        && id.iter().all(u8::is_ascii_hexdigit)
        && id.iter().any(|&byte| byte != b'0');
    if words.len() == 1 && is_set {
        return Ok(0);
    }
    shell.usage(b"systemd-machine-id-setup", "the machine has no id yet")
}
