//! `a2query`: what Apache's folders of enabled modules, sites and settings say.

use dormouse_filesystem::Follow;

use crate::shell::Shell;
use crate::stop::Run;

/// The names in a folder of `/etc/apache2`, the suffix cut off.
fn enabled(shell: &mut Shell<'_>, kind: &str, suffix: &[u8]) -> Run<Option<Vec<Vec<u8>>>> {
    let folder = format!("/etc/apache2/{kind}-enabled");
    let Ok(names) = shell.files.list(folder.as_bytes())? else {
        shell.complain(b"a2query", format!("{folder}: No such file or directory"))?;
        return Ok(None);
    };
    Ok(Some(
        names
            .iter()
            .filter_map(|name| name.strip_suffix(suffix))
            .map(<[u8]>::to_vec)
            .collect(),
    ))
}

/// Who enabled or disabled something, as Debian's scripts note it.
fn by(shell: &mut Shell<'_>, kind: &str, what: &str, name: &[u8]) -> Run<Option<&'static str>> {
    for (who, said) in [
        ("maint", "maintainer script"),
        ("admin", "site administrator"),
    ] {
        let folder = format!("/var/lib/apache2/{kind}/{what}_by_{who}/");
        let path = [folder.as_bytes(), name].concat();
        if shell.files.exists(&path, Follow::Links)? {
            return Ok(Some(said));
        }
    }
    Ok(None)
}

pub(crate) fn a2query(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let Some(modules) = enabled(shell, "mods", b".load")? else {
        return Ok(1);
    };
    let engines: Vec<&[u8]> = modules
        .iter()
        .filter_map(|name| name.strip_prefix(b"mpm_"))
        .filter(|name| matches!(*name, b"event" | b"worker" | b"prefork"))
        .collect();
    if engines.len() > 1 {
        shell.complain(b"a2query", "There is more than one MPM loaded.")?;
        return Ok(1);
    }
    let mut rest: Vec<&[u8]> = words.iter().skip(1).map(Vec::as_slice).collect();
    let quiet = rest.contains(&&b"-q"[..]);
    rest.retain(|word| *word != b"-q");
    match rest.as_slice() {
        [b"-M"] => {
            let Some(engine) = engines.first() else {
                return shell.usage(b"a2query", "no engine is enabled by a module of its own");
            };
            if !quiet {
                shell.out(&[engine, &b"\n"[..]].concat())?;
            }
            Ok(0)
        }
        [b"-d"] => {
            shell.out(b"/usr/lib/apache2/modules/\n")?;
            Ok(0)
        }
        [b"-m"] => state(shell, "module", b"", &modules, quiet),
        [b"-m", name] => state(shell, "module", name, &modules, quiet),
        [kind @ (b"-s" | b"-c"), name @ ..] if name.len() <= 1 => {
            let (folder, kind) = if *kind == b"-s" {
                ("sites", "site")
            } else {
                ("conf", "conf")
            };
            let Some(all) = enabled(shell, folder, b".conf")? else {
                return Ok(1);
            };
            state(
                shell,
                kind,
                name.first().copied().unwrap_or_default(),
                &all,
                quiet,
            )
        }
        _ => shell.usage(b"a2query", "the call is not interpreted"),
    }
}

fn state(
    shell: &mut Shell<'_>,
    kind: &str,
    wanted: &[u8],
    all: &[Vec<u8>],
    quiet: bool,
) -> Run<i32> {
    let wanted = wanted.strip_prefix(b"mod").unwrap_or(wanted);
    let cut = [&b".conf"[..], b".load"].iter().find_map(|suffix| {
        let at = wanted
            .windows(suffix.len())
            .position(|part| part == *suffix)?;
        let tail = wanted.get(at.checked_add(suffix.len())?..)?;
        Some([wanted.get(..at)?, tail].concat())
    });
    let wanted = cut.unwrap_or_else(|| wanted.to_vec());
    let mut matches = 0_u32;
    for name in all {
        if !wanted.is_empty() && *name != wanted {
            continue;
        }
        matches = matches.saturating_add(1);
        let said = by(shell, kind, "enabled", name)?.unwrap_or("unknown");
        if !quiet {
            let line = format!(" (enabled by {said})\n");
            shell.out(&[&name[..], line.as_bytes()].concat())?;
        }
    }
    if matches > 0 {
        return Ok(0);
    }
    let disabled = by(shell, kind, "disabled", &wanted)?;
    if !quiet {
        let mut text = format!("No {kind} matches {}", String::from_utf8_lossy(&wanted));
        if let Some(said) = disabled {
            text.push_str(&format!(" (disabled by {said})"));
        }
        let line = format!("{text}\n");
        shell.err(line.as_bytes())?;
    }
    Ok(match disabled {
        Some("maintainer script") => 33,
        Some(_) => 32,
        None => 1,
    })
}
