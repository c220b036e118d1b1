//! `update-rc.d`: links of System V's runlevels.

use crate::commands::text::lines;
use crate::shell::Shell;
use crate::stop::Run;

/// The runlevels of `# Default-Start:` and `# Default-Stop:` in an init script's LSB header.
fn levels(text: &[u8], key: &str) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut inside = false;
    for line in lines(text) {
        if line.starts_with(b"### BEGIN INIT INFO") {
            inside = true;
        } else if line.starts_with(b"### END INIT INFO") {
            break;
        } else if inside && let Some(rest) = line.strip_prefix(key.as_bytes()) {
            out = rest
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty())
                .map(<[u8]>::to_vec)
                .collect();
        }
    }
    out
}

/// The links to an init script in the folders `/etc/rc?.d`.
fn links(shell: &mut Shell<'_>, name: &[u8]) -> Run<Vec<Vec<u8>>> {
    let mut out = Vec::new();
    for folder in shell.files.list(b"/etc")?.unwrap_or_default() {
        let [b'r', b'c', _, b'.', b'd'] = folder.as_slice() else {
            continue;
        };
        let folder = [b"/etc/", &folder[..]].concat();
        for link in shell.files.list(&folder)?.unwrap_or_default() {
            if let [b'S' | b'K', one, two, rest @ ..] = link.as_slice()
                && one.is_ascii_digit()
                && two.is_ascii_digit()
                && rest == name
            {
                out.push([&folder[..], b"/", &link].concat());
            }
        }
    }
    Ok(out)
}

pub(crate) fn update_rc_d(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut rest = words.get(1..).unwrap_or_default();
    while let Some(option) = rest.first().filter(|word| word.starts_with(b"-")) {
        if option != b"-f" {
            return shell.usage(b"update-rc.d", "the option is not interpreted");
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    let [name, action, ..] = rest else {
        shell.complain(b"update-rc.d", "error: not enough arguments")?;
        return Ok(1);
    };
    for program in ["/usr/lib/insserv/insserv", "/sbin/insserv", "/sbin/openrc"] {
        if shell.files.is_file(program.as_bytes())? && shell.files.is_file(b"/etc/insserv.conf")?
            || (program.ends_with("openrc") && shell.files.is_file(program.as_bytes())?)
        {
            return shell.usage(b"update-rc.d", "insserv and openrc are not interpreted");
        }
    }
    match action.as_slice() {
        b"remove" => {
            for link in links(shell, name)? {
                let _ = shell.files.unlink(&link)?;
            }
            Ok(0)
        }
        b"defaults" | b"defaults-disabled" | b"start" | b"stop" => {
            if !links(shell, name)?.is_empty() {
                return Ok(0);
            }
            let script = [b"/etc/init.d/", &name[..]].concat();
            let Ok(text) = shell.files.read(&script)? else {
                shell.complain(b"update-rc.d", "error: unable to read the init script")?;
                return Ok(1);
            };
            let start: &[u8] = if action == b"defaults-disabled" {
                b"K01"
            } else {
                b"S01"
            };
            for (key, kind) in [("# Default-Start:", start), ("# Default-Stop:", b"K01")] {
                for level in levels(&text, key) {
                    let link = [b"/etc/rc", &level[..], b".d/", kind, name].concat();
                    super::unit::make_folder(shell, &link)?;
                    // One that is there already stays.
                    let _ = shell
                        .files
                        .make_symlink(&[b"../init.d/", &name[..]].concat(), &link)?;
                }
            }
            Ok(0)
        }
        _ => shell.usage(b"update-rc.d", "the action is not interpreted"),
    }
}
