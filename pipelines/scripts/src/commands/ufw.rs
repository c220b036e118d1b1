//! `ufw app update`, which packages' triggers call: where no rule stands, no profile of an application is used.

use super::text::lines;
use crate::shell::Shell;
use crate::stop::Run;

pub(crate) fn ufw(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let is_update = matches!(words, [_, app, update, ..] if app == b"app" && update == b"update");
    if !is_update {
        return shell.usage(b"ufw", "only app update is interpreted");
    }
    let mut rules = false;
    for file in ["/etc/ufw/user.rules", "/etc/ufw/user6.rules"] {
        let text = shell.files.read(file.as_bytes())?.unwrap_or_default();
        rules |= lines(&text).any(|line| line.starts_with(b"### tuple ###"));
    }
    let settings = shell.files.read(b"/etc/default/ufw")?.unwrap_or_default();
    let skips = lines(&settings).any(|line| {
        line.strip_prefix(b"DEFAULT_APPLICATION_POLICY=")
            .is_some_and(|value| {
                let value = value.trim_ascii();
                value.eq_ignore_ascii_case(b"\"skip\"") || value.eq_ignore_ascii_case(b"skip")
            })
    });
    if rules || !skips {
        return shell.usage(b"ufw", "its rules may use the profiles");
    }
    Ok(0)
}
