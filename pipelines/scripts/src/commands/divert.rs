//! `dpkg-divert` and the file of diversions.

use dormouse_filesystem::Follow;

use super::text::lines;
use crate::shell::Shell;
use crate::stop::Run;

/// dpkg's own folder, unless a call names another.
const ADMIN: &[u8] = b"/var/lib/dpkg";

/// One diversion: whose file, to where, and for the sake of which package (`:` is the administrator).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diversion {
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
    pub(crate) package: Vec<u8>,
}

/// The diversions in dpkg's own database.
pub(crate) fn read(shell: &mut Shell<'_>) -> Run<Vec<Diversion>> {
    read_from(shell, ADMIN)
}

fn read_from(shell: &mut Shell<'_>, admin: &[u8]) -> Run<Vec<Diversion>> {
    let file = [admin, b"/diversions"].concat();
    let text = shell.files.read(&file)?.unwrap_or_default();
    let all: Vec<&[u8]> = lines(&text).collect();
    Ok(all
        .chunks(3)
        .filter_map(|chunk| match chunk {
            [from, to, package] => Some(Diversion {
                from: from.to_vec(),
                to: to.to_vec(),
                package: package.to_vec(),
            }),
            _ => None,
        })
        .collect())
}

/// Writes the diversions in the order they were made; dpkg's own order is that of its hash table and says nothing.
fn write(shell: &mut Shell<'_>, admin: &[u8], diversions: &[Diversion]) -> Run<()> {
    let file = [admin, b"/diversions"].concat();
    let mut out = Vec::new();
    for diversion in diversions {
        for line in [&diversion.from, &diversion.to, &diversion.package] {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
    }
    let backup = [&file[..], b"-old"].concat();
    if shell.files.exists(&file, Follow::Links)? {
        let old = shell.files.read(&file)?.unwrap_or_default();
        if shell.files.replace(&backup, old, 0o644, (0, 0))?.is_err() {
            return shell.usage(b"dpkg-divert", "the database cannot be written");
        }
    }
    if shell.files.replace(&file, out, 0o644, (0, 0))?.is_err() {
        return shell.usage(b"dpkg-divert", "the database cannot be written");
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Add,
    Remove,
    List,
    ListPackage,
    TrueName,
}

pub(crate) fn dpkg_divert(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut action = Action::Add;
    let (mut rename, mut quiet, mut test) = (None, false, false);
    let mut package: Option<Vec<u8>> = None;
    let mut target: Option<Vec<u8>> = None;
    let mut admin = ADMIN.to_vec();
    let mut operands = Vec::new();
    let mut rest = words.get(1..).unwrap_or_default().iter();
    while let Some(word) = rest.next() {
        let (name, value) = match word.iter().position(|&byte| byte == b'=') {
            Some(at) if word.starts_with(b"--") => (
                word.get(..at).unwrap_or_default(),
                word.get(at.saturating_add(1)..).map(<[u8]>::to_vec),
            ),
            _ => (word.as_slice(), None),
        };
        match name {
            b"--add" => action = Action::Add,
            b"--remove" => action = Action::Remove,
            b"--list" => action = Action::List,
            b"--listpackage" => action = Action::ListPackage,
            b"--truename" => action = Action::TrueName,
            b"--rename" => rename = Some(true),
            b"--no-rename" => rename = Some(false),
            b"--quiet" => quiet = true,
            b"--test" => test = true,
            b"--local" => package = Some(b":".to_vec()),
            b"--package" => package = value.or_else(|| rest.next().cloned()),
            b"--divert" => target = value.or_else(|| rest.next().cloned()),
            b"--admindir" => {
                admin = value.or_else(|| rest.next().cloned()).unwrap_or_default();
            }
            word if word.starts_with(b"-") => {
                return shell.usage(b"dpkg-divert", "the option is not interpreted");
            }
            _ => operands.push(word.clone()),
        }
    }
    let package = package.unwrap_or_else(|| {
        let own = shell.environment.variables.get(b"DPKG_MAINTSCRIPT_PACKAGE");
        // dpkg-divert takes the calling script's package unless it is told otherwise.
        own.map_or_else(|| b":".to_vec(), <[u8]>::to_vec)
    });
    let mut diversions = read_from(shell, &admin)?;
    if action == Action::List {
        let patterns: Vec<_> = operands
            .iter()
            .map(|text| crate::shell::pattern::Pattern::plain(text))
            .collect();
        for diversion in diversions {
            let all = [&diversion.from, &diversion.to, &diversion.package];
            let fits = patterns.is_empty()
                || patterns
                    .iter()
                    .any(|pattern| all.iter().any(|text| pattern.matches(text)));
            if fits {
                let line = [&describe(&diversion)[..], b"\n"].concat();
                shell.out(&line)?;
            }
        }
        return Ok(0);
    }
    let [file] = operands.as_slice() else {
        return shell.usage(b"dpkg-divert", "one file is interpreted");
    };
    if !file.starts_with(b"/") || test {
        return shell.usage(
            b"dpkg-divert",
            "--test and relative paths are not interpreted",
        );
    }
    let known = diversions
        .iter()
        .position(|diversion| diversion.from == *file);
    match action {
        Action::TrueName => {
            let name = known
                .and_then(|at| diversions.get(at))
                .map_or(file, |diversion| &diversion.to);
            let line = [&name[..], b"\n"].concat();
            shell.out(&line)?;
            Ok(0)
        }
        Action::ListPackage => {
            if let Some(diversion) = known.and_then(|at| diversions.get(at)) {
                let name: &[u8] = if diversion.package == b":" {
                    b"LOCAL"
                } else {
                    &diversion.package
                };
                let line = [name, b"\n"].concat();
                shell.out(&line)?;
            }
            Ok(0)
        }
        Action::Add => {
            let to = target.unwrap_or_else(|| [&file[..], b".distrib"].concat());
            let new = Diversion {
                from: file.clone(),
                to,
                package,
            };
            if let Some(standing) = known.and_then(|at| diversions.get(at)) {
                if *standing == new {
                    if !quiet {
                        let line = [b"Leaving '", &describe(&new)[..], b"'\n"].concat();
                        shell.out(&line)?;
                    }
                    return Ok(0);
                }
                shell.complain(b"dpkg-divert: error", "the diversion clashes with another")?;
                return Ok(2);
            }
            let clash = diversions
                .iter()
                .any(|other| other.to == new.from || other.from == new.to || other.to == new.to);
            if clash || shell.files.is_directory(file)? {
                shell.complain(b"dpkg-divert: error", "the diversion clashes with another")?;
                return Ok(2);
            }
            if !quiet {
                let line = [b"Adding '", &describe(&new)[..], b"'\n"].concat();
                shell.out(&line)?;
            }
            // A file of the package that diverts is left in its place.
            let moves = rename.unwrap_or(false) && !owns(shell, &new)?;
            if moves && let Some(status) = move_file(shell, &new.from, &new.to)? {
                return Ok(status);
            }
            diversions.push(new);
            write(shell, &admin, &diversions)?;
            Ok(0)
        }
        Action::Remove => {
            let Some(at) = known else {
                if !quiet {
                    let what = wanted(file, target.as_deref(), &package);
                    shell.out(&[b"No diversion '", &what[..], b"', none removed.\n"].concat())?;
                }
                return Ok(0);
            };
            let standing = diversions.remove(at);
            let mismatch = target.as_ref().is_some_and(|target| *target != standing.to)
                || package != standing.package;
            if mismatch {
                shell.complain(b"dpkg-divert: error", "mismatch of target or package")?;
                return Ok(2);
            }
            if !quiet {
                let line = [b"Removing '", &describe(&standing)[..], b"'\n"].concat();
                shell.out(&line)?;
            }
            let moves = rename.unwrap_or(false) && !owns(shell, &standing)?;
            if moves && let Some(status) = move_file(shell, &standing.to, &standing.from)? {
                return Ok(status);
            }
            write(shell, &admin, &diversions)?;
            Ok(0)
        }
        Action::List => Ok(0),
    }
}

fn describe(diversion: &Diversion) -> Vec<u8> {
    if diversion.package == b":" {
        [
            b"local diversion of ",
            &diversion.from[..],
            b" to ",
            &diversion.to,
        ]
        .concat()
    } else {
        [
            b"diversion of ",
            &diversion.from[..],
            b" to ",
            &diversion.to,
            b" by ",
            &diversion.package,
        ]
        .concat()
    }
}

/// A diversion as far as the call describes it.
fn wanted(file: &[u8], target: Option<&[u8]>, package: &[u8]) -> Vec<u8> {
    let mut out = if package == b":" {
        b"local diversion of ".to_vec()
    } else {
        b"diversion of ".to_vec()
    };
    out.extend_from_slice(file);
    if let Some(target) = target {
        out.extend_from_slice(b" to ");
        out.extend_from_slice(target);
    }
    if package != b":" {
        out.extend_from_slice(b" by ");
        out.extend_from_slice(package);
    }
    out
}

/// Whether the diverting package itself has the file.
fn owns(shell: &mut Shell<'_>, diversion: &Diversion) -> Run<bool> {
    let name = String::from_utf8_lossy(&diversion.package).into_owned();
    let Some(packages) = shell.world.packages.get(&name).cloned() else {
        return Ok(false);
    };
    for package in packages {
        let infix = if package.multi_arch_same {
            format!(":{}", package.architecture)
        } else {
            String::new()
        };
        let path = format!("/var/lib/dpkg/info/{name}{infix}.list");
        let list = shell.files.read(path.as_bytes())?.unwrap_or_default();
        if lines(&list).any(|line| line == diversion.from) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Renames a file, if there is one; a clash ends in an exit status.
fn move_file(shell: &mut Shell<'_>, from: &[u8], to: &[u8]) -> Run<Option<i32>> {
    if !shell.files.exists(from, Follow::No)? {
        return Ok(None);
    }
    if shell.files.exists(to, Follow::No)? {
        shell.complain(
            b"dpkg-divert: error",
            "rename involves overwriting a different file",
        )?;
        return Ok(Some(2));
    }
    if shell.files.rename(from, to)?.is_err() {
        shell.complain(b"dpkg-divert: error", "cannot rename")?;
        return Ok(Some(2));
    }
    Ok(None)
}
