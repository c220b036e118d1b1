//! `my_print_defaults`: options of MariaDB's and MySQL's option files.

use dormouse_filesystem::Follow;

use super::text::lines;
use crate::shell::Shell;
use crate::stop::Run;

/// Option files that may include one another.
const MAX_FILES: usize = 1000;

pub(crate) fn my_print_defaults(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut groups: Vec<Vec<u8>> = Vec::new();
    let mut files: Vec<Vec<u8>> = vec![b"/etc/my.cnf".to_vec(), b"/etc/mysql/my.cnf".to_vec()];
    if let Some(home) = shell.environment.variables.get(b"HOME") {
        files.push([home, b"/.my.cnf"].concat());
    }
    for word in words.get(1..).unwrap_or_default() {
        if word == b"--mysqld" {
            groups.extend(server_groups(shell)?);
        } else if word == b"--no-defaults" {
            files.clear();
        } else if let Some(file) = word.strip_prefix(b"--defaults-file=") {
            files = vec![file.to_vec()];
        } else if word.starts_with(b"-") {
            return shell.usage(b"my_print_defaults", "the option is not interpreted");
        } else {
            groups.push(word.clone());
        }
    }
    let mut out = Vec::new();
    let mut read = 0_usize;
    for file in files {
        if shell.files.exists(&file, Follow::Links)? {
            options(shell, &file, &groups, &mut out, &mut read)?;
        }
    }
    shell.out(&out)?;
    Ok(0)
}

/// The groups that the server reads; some carry its version.
fn server_groups(shell: &Shell<'_>) -> Run<Vec<Vec<u8>>> {
    let version = shell
        .world
        .packages
        .iter()
        .filter(|(name, _)| name.starts_with("mariadb-server-core"))
        .flat_map(|(_, records)| records)
        .find_map(|record| record.version.as_deref());
    let version = version.and_then(|version| {
        let upstream = version.split_once(':').map_or(version, |(_, rest)| rest);
        let mut parts = upstream.split('.');
        Some(format!("{}.{}", parts.next()?, parts.next()?))
    });
    let Some(version) = version else {
        return shell.usage(b"my_print_defaults", "the server's version is not known");
    };
    let mut out = vec![b"server".to_vec(), b"galera".to_vec()];
    for name in ["mysqld", "mariadb", "mariadbd"] {
        out.push(name.as_bytes().to_vec());
        out.push(format!("{name}-{version}").into_bytes());
    }
    Ok(out)
}

fn options(
    shell: &mut Shell<'_>,
    file: &[u8],
    groups: &[Vec<u8>],
    out: &mut Vec<u8>,
    read: &mut usize,
) -> Run<()> {
    *read = read.saturating_add(1);
    if *read > MAX_FILES {
        return shell.usage(b"my_print_defaults", "too many files include one another");
    }
    let Ok(text) = shell.files.read(file)? else {
        return Ok(());
    };
    let mut wanted = false;
    for line in lines(&text) {
        shell.files.budget.step(1)?;
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") || line.starts_with(b";") {
            continue;
        }
        if let Some(folder) = line.strip_prefix(b"!includedir") {
            let folder = folder.trim_ascii();
            let names = shell.files.list(folder)?.unwrap_or_default();
            for name in names {
                if name.ends_with(b".cnf") {
                    let path = [crate::files::trim_slashes(folder), b"/", &name].concat();
                    shell.deeper(|shell| options(shell, &path, groups, out, read))?;
                }
            }
            continue;
        }
        if let Some(file) = line.strip_prefix(b"!include") {
            let file = file.trim_ascii().to_vec();
            shell.deeper(|shell| options(shell, &file, groups, out, read))?;
            continue;
        }
        if let Some(group) = line.strip_prefix(b"[") {
            let end = group.iter().position(|&byte| byte == b']');
            let group = group.get(..end.unwrap_or(group.len())).unwrap_or_default();
            wanted = groups.iter().any(|name| name == group.trim_ascii());
            continue;
        }
        if !wanted {
            continue;
        }
        if line.contains(&b'\\') {
            return shell.usage(b"my_print_defaults", "an escaped value is not interpreted");
        }
        let (name, value) = match line.iter().position(|&byte| byte == b'=') {
            Some(at) => (
                line.get(..at).unwrap_or_default(),
                line.get(at.saturating_add(1)..),
            ),
            None => (line, None),
        };
        out.extend_from_slice(b"--");
        match value {
            None => {
                // What follows a blank and a # is no option.
                let name = name.split(|&byte| byte == b'#').next().unwrap_or_default();
                out.extend_from_slice(name.trim_ascii());
            }
            Some(value) => {
                let value = value.trim_ascii();
                let value = match value.first() {
                    Some(&quote @ (b'"' | b'\'')) => {
                        let inner = value.get(1..).unwrap_or_default();
                        let end = inner.iter().position(|&byte| byte == quote);
                        inner.get(..end.unwrap_or(inner.len())).unwrap_or_default()
                    }
                    _ => value
                        .split(|&byte| byte == b'#')
                        .next()
                        .unwrap_or_default()
                        .trim_ascii_end(),
                };
                out.extend_from_slice(name.trim_ascii_end());
                out.push(b'=');
                out.extend_from_slice(value);
            }
        }
        out.push(b'\n');
    }
    Ok(())
}
