//! The folders that are searched for libraries: `/etc/ld.so.conf`, and those built into the program (ld.so(8)).

use dormouse_filesystem::Follow;
use dormouse_overlay::{DraftNode, Identity};

use super::System;
use crate::commands::text::lines;
use crate::shell::Shell;
use crate::stop::Run;

/// Folders that one run may search.
const MAX_DIRECTORIES: usize = 1000;

/// Nesting of `include`; the program itself has no bound.
const MAX_INCLUDES: u32 = 10;

/// Folders that were searched for processors' own libraries before `glibc-hwcaps` was made for it (glibc 2.33); the
/// program stopped looking for them in 2.37.
const OLD_HWCAPS: &[&[u8]] = &[
    b"tls",
    b"sse2",
    b"x86_64",
    b"avx512_1",
    b"i586",
    b"i686",
    b"haswell",
    b"xeon_phi",
];

/// A folder to search.
pub(super) struct Directory {
    pub(super) path: Vec<u8>,
    /// The name of its folder in `glibc-hwcaps`.
    pub(super) hwcap: Option<Vec<u8>>,
}

#[derive(Default)]
struct Found {
    directories: Vec<Directory>,
    identities: Vec<Identity>,
}

pub(super) fn all(shell: &mut Shell<'_>, system: &System) -> Run<Vec<Directory>> {
    let mut found = Found::default();
    configuration(shell, &mut found, b"/etc/ld.so.conf", MAX_INCLUDES)?;
    for folder in [
        format!("/lib/{}", system.triplet),
        format!("/usr/lib/{}", system.triplet),
        "/lib".to_owned(),
        "/usr/lib".to_owned(),
    ] {
        add(shell, &mut found, folder.as_bytes())?;
    }
    Ok(found.directories)
}

fn configuration(shell: &mut Shell<'_>, found: &mut Found, path: &[u8], depth: u32) -> Run<()> {
    let Some(depth) = depth.checked_sub(1) else {
        return shell.usage(b"ldconfig", "the settings include one another too deep");
    };
    let Ok(text) = shell.files.read(path)? else {
        return Ok(());
    };
    for line in lines(&text) {
        shell.files.budget.step(1)?;
        let line = line.split(|&byte| byte == b'#').next().unwrap_or_default();
        let line = line.trim_ascii_start();
        let blank = |at: usize| line.get(at).is_some_and(|byte| b" \t".contains(byte));
        if line.is_empty() {
            continue;
        }
        if line.starts_with(b"include") && blank(7) {
            let rest = line.get(8..).unwrap_or_default();
            for pattern in rest.split(|byte| b" \t".contains(byte)) {
                if pattern.is_empty() {
                    continue;
                }
                let pattern = if pattern.starts_with(b"/") {
                    pattern.to_vec()
                } else {
                    let folder = crate::commands::name::directory(path);
                    [folder, b"/", pattern].concat()
                };
                for file in shell.glob_plain(&pattern)? {
                    configuration(shell, found, &file, depth)?;
                }
            }
        } else if line
            .get(..5)
            .is_some_and(|word| word.eq_ignore_ascii_case(b"hwcap"))
            && blank(5)
        {
            // Ignored with a message since 2.33, and a number for the old folders before.
            return shell.usage(b"ldconfig", "the setting \"hwcap\" is not interpreted");
        } else {
            add(shell, found, line)?;
        }
    }
    Ok(())
}

fn add(shell: &mut Shell<'_>, found: &mut Found, line: &[u8]) -> Run<()> {
    if line.contains(&b'=') {
        return shell.usage(b"ldconfig", "a folder with a type is not interpreted");
    }
    let path = crate::files::trim_slashes(line.trim_ascii_end());
    if path.is_empty() || path == b"/" {
        return Ok(());
    }
    if !path.starts_with(b"/") {
        return shell.usage(b"ldconfig", "a relative folder is not interpreted");
    }
    let Some(folder) = shell.files.look(path, Follow::Links)? else {
        return Ok(());
    };
    if folder.node != DraftNode::Directory || found.identities.contains(&folder.identity) {
        return Ok(());
    }
    if found.directories.len() >= MAX_DIRECTORIES {
        return shell.usage(b"ldconfig", "too many folders are named");
    }
    for name in OLD_HWCAPS {
        let path = [path, b"/", name].concat();
        let names = shell.files.list(&path)?.unwrap_or_default();
        if names.iter().any(|name| super::is_library_name(name)) {
            return shell.usage(
                b"ldconfig",
                "old folders of processors' own libraries are not interpreted",
            );
        }
    }
    found.identities.push(folder.identity);
    found.directories.push(Directory {
        path: path.to_vec(),
        hwcap: None,
    });
    let hwcaps = [path, b"/glibc-hwcaps"].concat();
    for name in shell.files.list(&hwcaps)?.unwrap_or_default() {
        let path = [&hwcaps[..], b"/", &name].concat();
        if name.starts_with(b".") || name.contains(&b':') || !shell.files.is_directory(&path)? {
            continue;
        }
        found.directories.push(Directory {
            path,
            hwcap: Some(name),
        });
    }
    Ok(())
}
