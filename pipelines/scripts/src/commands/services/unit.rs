//! Unit files: where they are, and which links their `[Install]` section asks for.

use dormouse_filesystem::Follow;

use crate::commands::name;
use crate::commands::text::lines;
use crate::files::Errno;
use crate::shell::Shell;
use crate::shell::pattern::Pattern;
use crate::stop::Run;

/// Units that `Also=` may pull in.
const MAX_ALSO: usize = 100;

/// A link that enables a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) at: Vec<u8>,
    pub(super) target: Vec<u8>,
}

/// Folders of units in the order the guest's own helper looks for them: it went from `/lib` to `/usr/lib` in time.
fn folders(shell: &mut Shell<'_>, instance: &str) -> Run<Vec<String>> {
    let helper = shell
        .files
        .read(b"/usr/bin/deb-systemd-helper")?
        .unwrap_or_default();
    let position = |needle: &[u8]| helper.windows(needle.len()).position(|part| part == needle);
    let lib = position(b"$dpkg_root/lib/systemd/$instance/$scriptname");
    let usr = position(b"$dpkg_root/usr/lib/systemd/$instance/$scriptname");
    let usr_first = match (lib, usr) {
        (None, Some(_)) => true,
        (Some(lib), Some(usr)) => usr < lib,
        _ => false,
    };
    let mut out = vec![format!("/etc/systemd/{instance}")];
    let (one, two) = (
        format!("/lib/systemd/{instance}"),
        format!("/usr/lib/systemd/{instance}"),
    );
    out.extend(if usr_first { [two, one] } else { [one, two] });
    Ok(out)
}

/// The path of a unit's file; its name where there is none.
pub(super) fn find(shell: &mut Shell<'_>, instance: &str, unit: &[u8]) -> Run<Vec<u8>> {
    for folder in folders(shell, instance)? {
        let path = [folder.as_bytes(), b"/", unit].concat();
        if shell.files.is_file(&path)? {
            return Ok(path);
        }
    }
    Ok(unit.to_vec())
}

/// The value of `Key=` in a line, the key in any case, blanks before it skipped.
fn value<'l>(line: &'l [u8], key: &str) -> Option<&'l [u8]> {
    let line = line.trim_ascii_start();
    let (head, rest) = line.split_at_checked(key.len())?;
    let rest = rest.strip_prefix(b"=").filter(|rest| !rest.is_empty())?;
    head.eq_ignore_ascii_case(key.as_bytes()).then_some(rest)
}

fn words(value: &[u8]) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = value
        .split(u8::is_ascii_whitespace)
        .map(|word| {
            let quoted = match word {
                [quote @ (b'"' | b'\''), inner @ .., last] if quote == last => Some(inner),
                _ => None,
            };
            quoted.unwrap_or(word).to_vec()
        })
        .collect();
    parts.dedup_by(|one, two| one.is_empty() && two.is_empty());
    while parts.last().is_some_and(Vec::is_empty) {
        parts.pop();
    }
    parts
}

/// The values of `Also=` lines.
pub(super) fn also(text: &[u8]) -> Vec<Vec<u8>> {
    lines(text)
        .filter_map(|line| value(line, "Also"))
        .map(<[u8]>::to_vec)
        .collect()
}

/// The links that enabling the unit at `path` makes, those of the units named by `Also=` included.
pub(super) fn links(
    shell: &mut Shell<'_>,
    instance: &str,
    path: &[u8],
    visited: &mut Vec<Vec<u8>>,
) -> Run<Result<Vec<Link>, Errno>> {
    shell.files.budget.step(1)?;
    let text = match shell.files.read(path)? {
        Ok(text) => text,
        Err(errno) => return Ok(Err(errno)),
    };
    let unit = name::base(path).to_vec();
    let mut out = Vec::new();
    let mut wanted = unit.clone();
    let mut wants: Vec<Vec<u8>> = Vec::new();
    let etc = format!("/etc/systemd/{instance}/").into_bytes();
    for line in lines(&text) {
        for (key, suffix) in [("WantedBy", &b".wants/"[..]), ("RequiredBy", b".requires/")] {
            for target in value(line, key).map(words).unwrap_or_default() {
                wants.push([&etc[..], &target, suffix].concat());
            }
        }
        for other in value(line, "Also").map(words).unwrap_or_default() {
            if other == unit || visited.contains(&other) {
                continue;
            }
            visited.push(other.clone());
            if visited.len() > MAX_ALSO {
                return shell.usage(b"systemctl", "the units name too many others");
            }
            let found = find(shell, instance, &other)?;
            match shell.deeper(|shell| links(shell, instance, &found, visited))? {
                Ok(more) => out.extend(more),
                Err(errno) => return Ok(Err(errno)),
            }
        }
        for alias in value(line, "Alias").map(words).unwrap_or_default() {
            if alias != unit {
                out.push(Link {
                    at: [&etc[..], &alias].concat(),
                    target: path.to_vec(),
                });
            }
        }
        if let Some(instance_name) = value(line, "DefaultInstance")
            .map(words)
            .and_then(|words| words.into_iter().next())
            && let Some(at) = unit.windows(2).position(|two| two == b"@.")
        {
            let (head, tail) = unit.split_at(at.saturating_add(1));
            wanted = [head, &instance_name, tail].concat();
        }
    }
    for folder in wants {
        out.push(Link {
            at: [&folder[..], &wanted].concat(),
            target: path.to_vec(),
        });
    }
    Ok(Ok(out))
}

/// Whether the guest's presets enable a unit (systemd.preset(5)): the first line that matches, else yes.
pub(super) fn is_preset(shell: &mut Shell<'_>, instance: &str, unit: &[u8]) -> Run<bool> {
    let mut files: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = std::collections::BTreeMap::new();
    for folder in ["/usr/lib/systemd", "/usr/local/lib/systemd", "/etc/systemd"] {
        let folder = format!("{folder}/{instance}-preset");
        for name in shell.files.list(folder.as_bytes())?.unwrap_or_default() {
            if name.ends_with(b".preset") {
                let path = [folder.as_bytes(), b"/", &name].concat();
                files.insert(name, path);
            }
        }
    }
    for path in files.values() {
        let text = shell.files.read(path)?.unwrap_or_default();
        for line in lines(&text) {
            let line = line.trim_ascii();
            let mut words = line
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty());
            let enables = match words.next() {
                Some(b"enable") => true,
                Some(b"disable") => false,
                _ => continue,
            };
            if let Some(pattern) = words.next()
                && Pattern::plain(pattern).matches(unit)
            {
                return Ok(enables);
            }
        }
    }
    Ok(true)
}

/// Makes the folder of `path`, and every folder above it.
pub(super) fn make_folder(shell: &mut Shell<'_>, path: &[u8]) -> Run<()> {
    let folder = name::directory(path).to_vec();
    match crate::commands::make::make_parents(shell, &folder, 0o755, None)? {
        Ok(()) => Ok(()),
        Err(errno) => shell.usage(b"systemctl", format!("cannot make a folder: {errno}")),
    }
}

pub(super) fn is_link(shell: &mut Shell<'_>, path: &[u8]) -> Run<bool> {
    Ok(shell
        .files
        .look(path, Follow::No)?
        .is_some_and(|found| matches!(found.node, dormouse_overlay::DraftNode::Symlink(_))))
}
