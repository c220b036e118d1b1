//! Modes and owners: `chmod`, `chown`, `chgrp`, and how others spell them.

use dormouse_filesystem::Follow;
use dormouse_overlay::DraftNode;

use super::accounts;
use super::arguments::{self, Spec};
use crate::shell::Shell;
use crate::stop::Run;

/// The mode that `text` makes of `mode`; `None` when it is none. A numeric mode keeps the set-id bits of a directory
/// unless it names them with five digits.
pub(crate) fn apply(text: &[u8], mode: u16, directory: bool, umask: u16) -> Option<u16> {
    let text = std::str::from_utf8(text).ok()?;
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let value = u16::from_str_radix(text, 8)
            .ok()
            .filter(|&value| value <= 0o7777)?;
        let kept = if directory && text.len() < 5 {
            mode & 0o6000
        } else {
            0
        };
        return Some(value | kept);
    }
    let mut mode = mode;
    for clause in text.split(',') {
        let who_end = clause.find(|c: char| !"ugoa".contains(c))?;
        let (who, mut actions) = clause.split_at(who_end);
        let mut mask = 0_u16;
        for c in who.chars() {
            mask |= match c {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                _ => 0o7777,
            };
        }
        let implied = who.is_empty();
        if implied {
            mask = 0o7777;
        }
        while let Some(operator) = actions.chars().next() {
            if !"+-=".contains(operator) {
                return None;
            }
            actions = actions.get(1..)?;
            let end = actions
                .find(|c: char| "+-=".contains(c))
                .unwrap_or(actions.len());
            let (letters, rest) = actions.split_at(end);
            actions = rest;
            let mut bits = 0_u16;
            for c in letters.chars() {
                bits |= match c {
                    'r' => 0o444,
                    'w' => 0o222,
                    'x' => 0o111,
                    'X' if directory || mode & 0o111 != 0 => 0o111,
                    'X' => 0,
                    's' if implied => 0o6000,
                    's' => 0o6000 & mask,
                    't' => 0o1000,
                    'u' => spread(mode >> 6),
                    'g' => spread(mode >> 3),
                    'o' => spread(mode),
                    _ => return None,
                };
            }
            let mut effective = bits & mask;
            if implied {
                effective &= !(umask & 0o777);
            }
            mode = match operator {
                '+' => mode | effective,
                '-' => mode & !effective,
                _ => {
                    let kept = if directory { mode & 0o6000 & !bits } else { 0 };
                    let cleared = mask & if implied { !0 } else { mask };
                    (mode & !cleared) | effective | (kept & cleared)
                }
            };
        }
    }
    Some(mode & 0o7777)
}

fn spread(bits: u16) -> u16 {
    let bits = bits & 7;
    bits | (bits << 3) | (bits << 6)
}

/// An owner as `chown` takes it: `user`, `user:group`, `user:`, `:group`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Owner {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

/// Reads an owner; the error is what is unknown.
pub(crate) fn owner(shell: &mut Shell<'_>, text: &[u8]) -> Run<Result<Owner, String>> {
    let at = text
        .iter()
        .position(|&byte| byte == b':')
        .or_else(|| text.iter().position(|&byte| byte == b'.'));
    let (user, group) = match at {
        Some(at) => (
            text.get(..at).unwrap_or_default(),
            text.get(at.saturating_add(1)..),
        ),
        None => (text, None),
    };
    let mut out = Owner::default();
    if !user.is_empty() {
        match accounts::user(shell, user)? {
            Some((uid, gid)) => {
                out.uid = Some(uid);
                if group.is_some_and(<[u8]>::is_empty) {
                    out.gid = gid;
                }
            }
            None => {
                return Ok(Err(format!(
                    "invalid user: '{}'",
                    String::from_utf8_lossy(text)
                )));
            }
        }
    }
    if let Some(group) = group.filter(|group| !group.is_empty()) {
        match accounts::group(shell, group)? {
            Some(gid) => out.gid = Some(gid),
            None => {
                return Ok(Err(format!(
                    "invalid group: '{}'",
                    String::from_utf8_lossy(text)
                )));
            }
        }
    }
    Ok(Ok(out))
}

/// `path` and, if `recursive`, all below it, directories before what they hold. Links below are not followed.
pub(crate) fn tree(shell: &mut Shell<'_>, path: &[u8], recursive: bool) -> Run<Vec<Vec<u8>>> {
    let mut out = vec![path.to_vec()];
    if !recursive {
        return Ok(out);
    }
    let mut next = 0_usize;
    while let Some(path) = out.get(next).cloned() {
        next = next.saturating_add(1);
        let is_directory = shell
            .files
            .look(&path, Follow::No)?
            .is_some_and(|found| found.node == DraftNode::Directory);
        if !is_directory {
            continue;
        }
        if let Ok(names) = shell.files.list(&path)? {
            for name in names {
                out.push([crate::files::trim_slashes(&path), b"/", &name].concat());
            }
        }
    }
    Ok(out)
}

const CHMOD: Spec = Spec {
    short: "Rfvcr?w?x?X?s?t?u?g?o?a?",
    long: &[
        ("recursive", 'R'),
        ("silent", 'f'),
        ("quiet", 'f'),
        ("verbose", 'v'),
        ("changes", 'c'),
        ("reference=", 'F'),
    ],
    permute: true,
};

pub(crate) fn chmod(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &CHMOD)?;
    let mut operands = arguments.operands.clone();
    let mut mode = None;
    for (letter, value) in arguments.options() {
        if "rwxXstugoa".contains(letter) {
            // A mode such as -x looks like an option.
            let mut text = format!("-{letter}").into_bytes();
            text.extend_from_slice(value.unwrap_or_default());
            mode = Some(text);
        }
    }
    if let Some(reference) = arguments.value('F') {
        match shell.files.look(reference, Follow::Links)? {
            Some(found) => mode = Some(format!("0{:04o}", found.attributes.mode).into_bytes()),
            None => {
                shell.complain(b"chmod", "failed to get attributes of the reference")?;
                return Ok(1);
            }
        }
    }
    let mode = match mode {
        Some(mode) => mode,
        None if operands.is_empty() => {
            shell.complain(b"chmod", "missing operand")?;
            return Ok(1);
        }
        None => operands.remove(0),
    };
    if operands.is_empty() {
        shell.complain(b"chmod", "missing operand")?;
        return Ok(1);
    }
    let umask = shell.files.umask;
    if apply(&mode, 0, false, umask).is_none() {
        shell.complain(b"chmod", "invalid mode")?;
        return Ok(1);
    }
    let recursive = arguments.has('R');
    let mut status = 0;
    for operand in &operands {
        let Some(found) = shell.files.look(operand, Follow::Links)? else {
            let text = format!("cannot access '{}'", String::from_utf8_lossy(operand));
            shell.complain(b"chmod", text)?;
            status = 1;
            continue;
        };
        let top = found.path.as_bytes().to_vec();
        for path in tree(shell, &top, recursive)? {
            let Some(found) = shell.files.look(&path, Follow::No)? else {
                continue;
            };
            if matches!(found.node, DraftNode::Symlink(_)) {
                continue;
            }
            let directory = found.node == DraftNode::Directory;
            let Some(new) = apply(&mode, found.attributes.mode, directory, umask) else {
                continue;
            };
            shell
                .files
                .change(&found.path, |attributes| attributes.mode = new)?;
        }
    }
    Ok(status)
}

const CHOWN: Spec = Spec {
    short: "RfvchHLP",
    long: &[
        ("recursive", 'R'),
        ("silent", 'f'),
        ("quiet", 'f'),
        ("verbose", 'v'),
        ("changes", 'c'),
        ("no-dereference", 'h'),
        ("dereference", 'd'),
        ("reference=", 'F'),
        ("from=", 'O'),
    ],
    permute: true,
};

pub(crate) fn chown(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &CHOWN)?;
    let name = words.first().cloned().unwrap_or_default();
    if arguments.has('H') || arguments.has('L') || arguments.has('O') {
        return shell.usage(&name, "-H, -L and --from are not interpreted");
    }
    let mut operands = arguments.operands.clone();
    let owner = if let Some(reference) = arguments.value('F') {
        match shell.files.look(reference, Follow::Links)? {
            Some(found) => Owner {
                uid: (name == b"chown").then_some(found.attributes.uid),
                gid: Some(found.attributes.gid),
            },
            None => return Ok(1),
        }
    } else {
        if operands.len() < 2 {
            shell.complain(&name, "missing operand")?;
            return Ok(1);
        }
        let mut text = operands.remove(0);
        if name == b"chgrp" {
            text.insert(0, b':');
        }
        match self::owner(shell, &text)? {
            Ok(owner) => owner,
            Err(why) => {
                shell.complain(&name, why)?;
                return Ok(1);
            }
        }
    };
    let recursive = arguments.has('R');
    let follow = if arguments.has('h') || recursive {
        Follow::No
    } else {
        Follow::Links
    };
    let mut status = 0;
    for operand in &operands {
        let Some(found) = shell.files.look(operand, follow)? else {
            if !arguments.has('f') {
                let text = format!(
                    "cannot access '{}': No such file or directory",
                    String::from_utf8_lossy(operand)
                );
                shell.complain(&name, text)?;
            }
            status = 1;
            continue;
        };
        let top = found.path.as_bytes().to_vec();
        for path in tree(shell, &top, recursive)? {
            let Some(mut found) = shell.files.look(&path, Follow::No)? else {
                continue;
            };
            if recursive && !arguments.has('h') && matches!(found.node, DraftNode::Symlink(_)) {
                // Without -h the link's target is changed, as GNU's does even under -R -P.
                match shell.files.look(&path, Follow::Links)? {
                    Some(target) => found = target,
                    None => {
                        status = 1;
                        continue;
                    }
                }
            }
            let plain = found.node != DraftNode::Directory;
            let path = found.path.clone();
            shell.files.change(&path, |attributes| {
                attributes.uid = owner.uid.unwrap_or(attributes.uid);
                attributes.gid = owner.gid.unwrap_or(attributes.gid);
                // The kernel takes set-id bits away from files that change owner.
                if plain && attributes.mode & 0o111 != 0 {
                    attributes.mode &= !0o4000;
                    if attributes.mode & 0o010 != 0 {
                        attributes.mode &= !0o2000;
                    }
                } else if plain {
                    attributes.mode &= !0o4000;
                }
            })?;
        }
    }
    Ok(status)
}
