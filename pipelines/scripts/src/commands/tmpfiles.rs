//! `systemd-tmpfiles --create` and `systemd-sysusers`.

use dormouse_filesystem::Follow;
use dormouse_overlay::DraftNode;

use super::mode;
use super::text::lines;
use super::{accounts, make, name};
use crate::shell::Shell;
use crate::stop::Run;

/// The fields of a line: blanks part them, quotes hold them together.
fn fields(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut out = Vec::new();
    let mut current: Option<Vec<u8>> = None;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' => out.extend(current.take()),
            b'"' | b'\'' => {
                let word = current.get_or_insert_default();
                loop {
                    match bytes.next()? {
                        inner if inner == byte => break,
                        b'\\' => return None,
                        inner => word.push(inner),
                    }
                }
            }
            b'\\' => return None,
            byte => current.get_or_insert_default().push(byte),
        }
    }
    out.extend(current);
    Some(out)
}

/// The files that a name means: a path, or the first of that name in the folders; without a name all of them.
fn files(shell: &mut Shell<'_>, kind: &str, names: &[Vec<u8>]) -> Run<Vec<Vec<u8>>> {
    let folders = [
        format!("/etc/{kind}.d"),
        format!("/run/{kind}.d"),
        format!("/usr/lib/{kind}.d"),
    ];
    if names.is_empty() {
        let mut all: std::collections::BTreeMap<Vec<u8>, Vec<u8>> =
            std::collections::BTreeMap::new();
        for folder in folders.iter().rev() {
            for name in shell.files.list(folder.as_bytes())?.unwrap_or_default() {
                if name.ends_with(b".conf") {
                    let path = [folder.as_bytes(), b"/", &name].concat();
                    all.insert(name, path);
                }
            }
        }
        return Ok(all.into_values().collect());
    }
    let mut out = Vec::new();
    for name in names {
        if name.starts_with(b"/") {
            out.push(name.clone());
            continue;
        }
        for folder in &folders {
            let path = [folder.as_bytes(), b"/", name].concat();
            if shell.files.exists(&path, Follow::Links)? {
                out.push(path);
                break;
            }
        }
    }
    Ok(out)
}

pub(crate) fn systemd_tmpfiles(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut create = false;
    let mut names = Vec::new();
    for word in words.get(1..).unwrap_or_default() {
        match word.as_slice() {
            b"--create" => create = true,
            word if word.starts_with(b"-") => {
                return shell.usage(b"systemd-tmpfiles", "only --create is interpreted");
            }
            word => names.push(word.to_vec()),
        }
    }
    if !create || names.is_empty() {
        return shell.usage(
            b"systemd-tmpfiles",
            "only --create of named files is interpreted",
        );
    }
    for file in files(shell, "tmpfiles", &names)? {
        let Ok(text) = shell.files.read(&file)? else {
            continue;
        };
        for line in lines(&text) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let Some(fields) = fields(line) else {
                return shell.usage(b"systemd-tmpfiles", "a line is not interpreted");
            };
            create_one(shell, &fields)?;
        }
    }
    Ok(0)
}

fn create_one(shell: &mut Shell<'_>, fields: &[Vec<u8>]) -> Run<()> {
    let given = |index: usize| {
        fields
            .get(index)
            .map(Vec::as_slice)
            .filter(|text| *text != b"-" && !text.is_empty())
    };
    let kind = given(0).unwrap_or_default().to_vec();
    let (Some(path), Some(&letter)) = (given(1), kind.first()) else {
        return shell.usage(b"systemd-tmpfiles", "a line is not interpreted");
    };
    let modifiers = kind.get(1..).unwrap_or_default();
    // Lines for the boot only.
    if modifiers.contains(&b'!') {
        return Ok(());
    }
    if matches!(letter, b'x' | b'X' | b'r' | b'R') {
        return Ok(());
    }
    if path.contains(&b'%') || modifiers.iter().any(|byte| !b"+-".contains(byte)) {
        return shell.usage(b"systemd-tmpfiles", "a line is not interpreted");
    }
    let path = path.to_vec();
    let path: Vec<u8> = match path.strip_prefix(b"/var/run/") {
        Some(rest) => [b"/run/", rest].concat(),
        None => path,
    };
    let mut masked = false;
    let mode = match given(2) {
        None => None,
        Some(text) => {
            let text = text.strip_prefix(b":").unwrap_or(text);
            let text = match text.strip_prefix(b"~") {
                Some(rest) => {
                    masked = true;
                    rest
                }
                None => text,
            };
            match mode::apply(text, 0, false, 0) {
                Some(mode) => Some(mode),
                None => return shell.usage(b"systemd-tmpfiles", "a mode is not interpreted"),
            }
        }
    };
    if masked {
        return shell.usage(b"systemd-tmpfiles", "a masked mode is not interpreted");
    }
    let (mut uid, mut gid) = (None, None);
    if let Some(user) = given(3).map(<[u8]>::to_vec) {
        match accounts::user(shell, &user)? {
            Some((number, _)) => uid = Some(number),
            None => return shell.usage(b"systemd-tmpfiles", "a user is not known"),
        }
    }
    if let Some(group) = given(4).map(<[u8]>::to_vec) {
        match accounts::group(shell, &group)? {
            Some(number) => gid = Some(number),
            None => return shell.usage(b"systemd-tmpfiles", "a group is not known"),
        }
    }
    let argument = fields.get(6..).unwrap_or_default().join(&b' ');
    let default = if matches!(letter, b'f' | b'F') {
        0o644
    } else {
        0o755
    };
    match letter {
        b'd' | b'D' | b'v' | b'q' | b'Q' | b'e' => {
            if letter == b'e' && !shell.files.is_directory(&path)? {
                return Ok(());
            }
            if make::make_parents(shell, &path, 0o755, Some(mode.unwrap_or(default)))?.is_err() {
                return shell.usage(b"systemd-tmpfiles", "a directory cannot be made");
            }
            own(shell, &path, Some(mode.unwrap_or(default)), uid, gid)
        }
        b'f' | b'F' => {
            let standing = shell.files.exists(&path, Follow::No)?;
            if standing && letter == b'f' && !modifiers.contains(&b'+') {
                return own(shell, &path, mode, uid, gid);
            }
            if argument.contains(&b'%') || argument.contains(&b'\\') {
                return shell.usage(b"systemd-tmpfiles", "a content is not interpreted");
            }
            parents(shell, &path)?;
            if shell.files.write(&path, argument)?.is_err() {
                return shell.usage(b"systemd-tmpfiles", "a file cannot be made");
            }
            own(shell, &path, Some(mode.unwrap_or(default)), uid, gid)
        }
        b'L' => {
            if argument.is_empty() || argument.contains(&b'%') {
                return shell.usage(b"systemd-tmpfiles", "a link is not interpreted");
            }
            let standing = shell.files.look(&path, Follow::No)?.map(|found| found.node);
            match standing {
                None => {}
                Some(DraftNode::Symlink(target)) if target == argument => return Ok(()),
                Some(_) if !modifiers.contains(&b'+') => return Ok(()),
                Some(DraftNode::Directory) => {
                    return shell.usage(b"systemd-tmpfiles", "a directory would be replaced");
                }
                Some(_) => {
                    let _ = shell.files.unlink(&path)?;
                }
            }
            parents(shell, &path)?;
            if shell.files.make_symlink(&argument, &path)?.is_err() {
                return shell.usage(b"systemd-tmpfiles", "a link cannot be made");
            }
            Ok(())
        }
        b'z' | b'Z' => {
            if path.iter().any(|byte| b"*?[".contains(byte)) {
                return shell.usage(b"systemd-tmpfiles", "a pattern is not interpreted");
            }
            if letter == b'Z' && mode.is_some() {
                return shell.usage(
                    b"systemd-tmpfiles",
                    "modes of whole trees are not interpreted",
                );
            }
            if !shell.files.exists(&path, Follow::No)? {
                return Ok(());
            }
            for path in mode::tree(shell, &path, letter == b'Z')? {
                own(shell, &path, mode, uid, gid)?;
            }
            Ok(())
        }
        _ => shell.usage(b"systemd-tmpfiles", "a type of line is not interpreted"),
    }
}

fn parents(shell: &mut Shell<'_>, path: &[u8]) -> Run<()> {
    let folder = name::directory(path).to_vec();
    if make::make_parents(shell, &folder, 0o755, None)?.is_err() {
        return shell.usage(b"systemd-tmpfiles", "a directory cannot be made");
    }
    Ok(())
}

/// Sets mode and owner of what is at `path`. Owners are left alone unless they are given.
fn own(
    shell: &mut Shell<'_>,
    path: &[u8],
    mode: Option<u16>,
    uid: Option<u32>,
    gid: Option<u32>,
) -> Run<()> {
    let Some(found) = shell.files.look(path, Follow::No)? else {
        return Ok(());
    };
    if matches!(found.node, DraftNode::Symlink(_)) {
        return Ok(());
    }
    shell.files.change(&found.path, |attributes| {
        attributes.mode = mode.unwrap_or(attributes.mode);
        attributes.uid = uid.unwrap_or(attributes.uid);
        attributes.gid = gid.unwrap_or(attributes.gid);
    })
}

/// Does nothing where every account is there already; making them is left to the guest's own program.
pub(crate) fn systemd_sysusers(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let names: Vec<Vec<u8>> = words.get(1..).unwrap_or_default().to_vec();
    if names.iter().any(|name| name.starts_with(b"-")) {
        return shell.usage(b"systemd-sysusers", "options are not interpreted");
    }
    for file in files(shell, "sysusers", &names)? {
        let text = shell.files.read(&file)?.unwrap_or_default();
        for line in lines(&text) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let Some(fields) = fields(line) else {
                return shell.usage(b"systemd-sysusers", "a line is not interpreted");
            };
            let (Some(kind), Some(account)) = (fields.first(), fields.get(1)) else {
                return shell.usage(b"systemd-sysusers", "a line is not interpreted");
            };
            let there = match kind.as_slice() {
                b"u" | b"u!" => accounts::passwd(shell, account)?.is_some(),
                b"g" => accounts::group_record(shell, account)?.is_some(),
                b"m" => {
                    let group = fields.get(2).cloned().unwrap_or_default();
                    accounts::group_record(shell, &group)?
                        .and_then(|record| record.get(3).cloned())
                        .is_some_and(|members| {
                            members
                                .split(|&byte| byte == b',')
                                .any(|member| member == account)
                        })
                }
                b"r" => true,
                _ => false,
            };
            if !there {
                let text = format!(
                    "the account {} is missing",
                    String::from_utf8_lossy(account)
                );
                return shell.usage(b"systemd-sysusers", text);
            }
        }
    }
    Ok(0)
}
