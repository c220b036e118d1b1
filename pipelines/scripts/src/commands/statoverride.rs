//! `dpkg-statoverride`.

use dormouse_filesystem::Follow;

use super::mode::{self, Owner};
use super::text::lines;
use crate::shell::Shell;
use crate::shell::pattern::Pattern;
use crate::stop::Run;

/// dpkg's own folder, unless a call names another.
const ADMIN: &[u8] = b"/var/lib/dpkg";

struct Override {
    user: Vec<u8>,
    group: Vec<u8>,
    mode: Vec<u8>,
    path: Vec<u8>,
}

impl Override {
    fn line(&self) -> Vec<u8> {
        [
            &self.user[..],
            b" ",
            &self.group,
            b" ",
            &self.mode,
            b" ",
            &self.path,
            b"\n",
        ]
        .concat()
    }
}

fn read(shell: &mut Shell<'_>, file: &[u8]) -> Run<Vec<Override>> {
    let text = shell.files.read(file)?.unwrap_or_default();
    Ok(lines(&text)
        .filter_map(|line| {
            let mut words = line.splitn(4, |&byte| byte == b' ').map(<[u8]>::to_vec);
            Some(Override {
                user: words.next()?,
                group: words.next()?,
                mode: words.next()?,
                path: words.next()?,
            })
        })
        .collect())
}

fn write(shell: &mut Shell<'_>, file: &[u8], overrides: &[Override]) -> Run<()> {
    let text: Vec<u8> = overrides.iter().flat_map(Override::line).collect();
    if shell.files.exists(file, Follow::Links)? {
        let old = shell.files.read(file)?.unwrap_or_default();
        let backup = [file, b"-old"].concat();
        if shell.files.replace(&backup, old, 0o644, (0, 0))?.is_err() {
            return shell.usage(b"dpkg-statoverride", "the database cannot be written");
        }
    }
    if shell.files.replace(file, text, 0o644, (0, 0))?.is_err() {
        return shell.usage(b"dpkg-statoverride", "the database cannot be written");
    }
    Ok(())
}

/// A path without trailing slashes, made absolute as dpkg makes it.
fn normal(path: &[u8]) -> Vec<u8> {
    let trimmed = crate::files::trim_slashes(path);
    if trimmed.starts_with(b"/") {
        trimmed.to_vec()
    } else {
        [b"/", trimmed].concat()
    }
}

pub(crate) fn dpkg_statoverride(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let (mut action, mut update, mut force, mut quiet) = (None, false, false, false);
    let mut operands = Vec::new();
    let mut admin = ADMIN.to_vec();
    let mut rest = words.get(1..).unwrap_or_default().iter();
    while let Some(word) = rest.next() {
        match word.as_slice() {
            b"--add" | b"--remove" | b"--list" => action = Some(word.clone()),
            b"--update" => update = true,
            b"--force"
            | b"--force-all"
            | b"--force-statoverride-add"
            | b"--force-statoverride-remove" => {
                force = true;
            }
            b"--quiet" => quiet = true,
            b"--admindir" => admin = rest.next().cloned().unwrap_or_default(),
            word if word.starts_with(b"--admindir=") => {
                admin = word
                    .get(b"--admindir=".len()..)
                    .unwrap_or_default()
                    .to_vec();
            }
            word if word.starts_with(b"--") => {
                return shell.usage(b"dpkg-statoverride", "the option is not interpreted");
            }
            word => operands.push(word.to_vec()),
        }
    }
    let file = [&admin[..], b"/statoverride"].concat();
    let mut overrides = read(shell, &file)?;
    match (action.as_deref(), operands.as_slice()) {
        (Some(b"--list"), patterns) => {
            let patterns: Vec<Pattern> = patterns
                .iter()
                .map(|text| Pattern::plain(&normal(text)))
                .collect();
            let mut status = 1;
            let mut out = Vec::new();
            for known in &overrides {
                if patterns.is_empty()
                    || patterns.iter().any(|pattern| pattern.matches(&known.path))
                {
                    out.extend(known.line());
                    status = 0;
                }
            }
            shell.out(&out)?;
            Ok(status)
        }
        (Some(b"--add"), [user, group, mode, path]) => {
            let path = normal(path);
            let known = overrides.iter().position(|known| known.path == path);
            if let Some(known) = known {
                if !force {
                    shell.complain(
                        b"dpkg-statoverride: error",
                        "an override already exists; aborting",
                    )?;
                    return Ok(2);
                }
                overrides.remove(known);
            }
            let Some(bits) = mode::apply(mode, 0, false, 0) else {
                shell.complain(b"dpkg-statoverride: error", "bad mode")?;
                return Ok(2);
            };
            let mut owner = Owner::default();
            for (text, prefix) in [(user, ""), (group, ":")] {
                let text = text.strip_prefix(b"#").unwrap_or(text);
                match mode::owner(shell, &[prefix.as_bytes(), text].concat())? {
                    Ok(found) => {
                        owner.uid = owner.uid.or(found.uid);
                        owner.gid = if prefix.is_empty() {
                            owner.gid
                        } else {
                            found.gid
                        };
                    }
                    Err(why) => {
                        shell.complain(b"dpkg-statoverride: error", why)?;
                        return Ok(2);
                    }
                }
            }
            if update {
                match shell.files.look(&path, Follow::Links)? {
                    Some(found) => shell.files.change(&found.path, |attributes| {
                        attributes.uid = owner.uid.unwrap_or(attributes.uid);
                        attributes.gid = owner.gid.unwrap_or(attributes.gid);
                        attributes.mode = bits;
                    })?,
                    None if !quiet => {
                        shell.complain(
                            b"dpkg-statoverride: warning",
                            "--update given but the path does not exist",
                        )?;
                    }
                    None => {}
                }
            }
            overrides.push(Override {
                user: user.clone(),
                group: group.clone(),
                mode: format!("{bits:o}").into_bytes(),
                path,
            });
            write(shell, &file, &overrides)?;
            Ok(0)
        }
        (Some(b"--remove"), [path]) => {
            let path = normal(path);
            let Some(known) = overrides.iter().position(|known| known.path == path) else {
                if !quiet {
                    shell.complain(b"dpkg-statoverride: warning", "no override present")?;
                }
                return Ok(if force { 0 } else { 2 });
            };
            overrides.remove(known);
            write(shell, &file, &overrides)?;
            Ok(0)
        }
        _ => shell.usage(b"dpkg-statoverride", "the call is not interpreted"),
    }
}
