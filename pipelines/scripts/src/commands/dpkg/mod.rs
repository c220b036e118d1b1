//! dpkg's own commands.

mod query;

pub(crate) use query::dpkg_query;

use std::cmp::Ordering;

use crate::call::Trigger;
use crate::shell::Shell;
use crate::stop::Run;
use crate::version;

/// A flaw that dpkg only warns of.
fn is_warning(flaw: &str) -> bool {
    flaw.starts_with("version number does not") || flaw.starts_with("invalid character")
}

pub(crate) fn dpkg(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut rest = words.get(1..).unwrap_or_default();
    while let Some(first) = rest.first()
        && (first.starts_with(b"--admindir=") || first == b"--no-pager")
    {
        if first.starts_with(b"--admindir=") && first != b"--admindir=/var/lib/dpkg" {
            return shell.usage(b"dpkg", "another database is not interpreted");
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    let Some(action) = rest.first().cloned() else {
        return shell.usage(b"dpkg", "an action is missing");
    };
    let mut rest = rest.get(1..).unwrap_or_default();
    match action.as_slice() {
        b"--compare-versions" => {
            if rest.first().is_some_and(|first| first == b"--") {
                rest = rest.get(1..).unwrap_or_default();
            }
            compare_versions(shell, rest)
        }
        b"--print-architecture" => {
            let line = format!("{}\n", shell.world.architecture);
            shell.out(line.as_bytes())?;
            Ok(0)
        }
        b"--print-foreign-architectures" => {
            for name in shell.world.foreign_architectures.clone() {
                shell.out(format!("{name}\n").as_bytes())?;
            }
            Ok(0)
        }
        b"--validate-version" | b"--validate-pkgname" => {
            if rest.first().is_some_and(|first| first == b"--") {
                rest = rest.get(1..).unwrap_or_default();
            }
            let Some(text) = rest.first() else {
                return Ok(2);
            };
            let flaw = if action == b"--validate-version" {
                version::flaw(text)
            } else if text.len() >= 2 && text.first().is_some_and(u8::is_ascii_alphanumeric) {
                text.iter()
                    .any(|byte| !byte.is_ascii_alphanumeric() && !b"-+._".contains(byte))
                    .then_some("invalid character")
            } else {
                Some("must start with an alphanumeric character")
            };
            match flaw {
                Some(flaw) => {
                    shell.complain(b"dpkg: error", flaw)?;
                    let fatal = action == b"--validate-version" && !is_warning(flaw);
                    Ok(if fatal { 2 } else { 1 })
                }
                None => Ok(0),
            }
        }
        b"-L" | b"--listfiles" | b"-S" | b"--search" | b"-s" | b"--status" | b"-p" | b"-l"
        | b"--list" | b"-W" | b"--show" | b"--control-path" => {
            let mut call = vec![b"dpkg-query".to_vec(), action];
            call.extend(rest.iter().cloned());
            dpkg_query(shell, &call)
        }
        b"--assert-support-predepends"
        | b"--assert-working-epoch"
        | b"--assert-long-filenames"
        | b"--assert-multi-conrep"
        | b"--assert-multi-arch"
        | b"--assert-versioned-provides"
        | b"--assert-protected-field" => Ok(0),
        other => shell.usage(
            b"dpkg",
            format!("{} is not interpreted", String::from_utf8_lossy(other)),
        ),
    }
}

fn compare_versions(shell: &mut Shell<'_>, operands: &[Vec<u8>]) -> Run<i32> {
    let [left, relation, right] = operands else {
        shell.complain(b"dpkg: error", "--compare-versions takes three arguments")?;
        return Ok(2);
    };
    // What an empty version counts as: earlier than any, later than any, or (with < and the like) earlier.
    let (if_none_left, if_none_right, if_none_both, accepts): (
        bool,
        bool,
        bool,
        fn(Ordering) -> bool,
    ) = match relation.as_slice() {
        b"le" => (true, false, true, Ordering::is_le),
        b"lt" => (true, false, false, Ordering::is_lt),
        b"eq" => (false, false, true, Ordering::is_eq),
        b"ne" => (true, true, false, Ordering::is_ne),
        b"ge" => (false, true, true, Ordering::is_ge),
        b"gt" => (false, true, false, Ordering::is_gt),
        b"le-nl" => (false, true, true, Ordering::is_le),
        b"lt-nl" => (false, true, false, Ordering::is_lt),
        b"ge-nl" => (true, false, true, Ordering::is_ge),
        b"gt-nl" => (true, false, false, Ordering::is_gt),
        b"<" | b"<=" => (true, false, true, Ordering::is_le),
        b"<<" => (true, false, false, Ordering::is_lt),
        b"=" => (false, false, true, Ordering::is_eq),
        b">" | b">=" => (false, true, true, Ordering::is_ge),
        b">>" => (false, true, false, Ordering::is_gt),
        _ => {
            shell.complain(b"dpkg: error", "bad relation")?;
            return Ok(2);
        }
    };
    for text in [left, right] {
        if text.is_empty() {
            continue;
        }
        if let Some(flaw) = version::flaw(text) {
            let line = format!(
                "version '{}' has bad syntax: {flaw}",
                String::from_utf8_lossy(text)
            );
            if is_warning(flaw) {
                shell.complain(b"dpkg: warning", line)?;
            } else {
                shell.complain(b"dpkg: error", line)?;
                return Ok(2);
            }
        }
    }
    let holds = match (left.is_empty(), right.is_empty()) {
        (true, true) => if_none_both,
        (true, false) => if_none_left,
        (false, true) => if_none_right,
        (false, false) => accepts(version::compare(left.trim_ascii(), right.trim_ascii())),
    };
    Ok(i32::from(!holds))
}

/// `dpkg-trigger`.
pub(crate) fn dpkg_trigger(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut by = shell
        .environment
        .variables
        .get(b"DPKG_MAINTSCRIPT_PACKAGE")
        .map(|name| String::from_utf8_lossy(name).into_owned());
    let mut awaited = true;
    let mut act = true;
    let mut names = Vec::new();
    let mut rest = words.get(1..).unwrap_or_default().iter();
    while let Some(word) = rest.next() {
        match word.as_slice() {
            b"--check-supported" => return Ok(0),
            b"--no-await" => awaited = false,
            b"--await" => awaited = true,
            b"--no-act" => act = false,
            b"--by-package" => {
                by = rest
                    .next()
                    .map(|name| String::from_utf8_lossy(name).into_owned());
            }
            word if word.starts_with(b"--by-package=") => {
                let name = word.get(b"--by-package=".len()..).unwrap_or_default();
                by = Some(String::from_utf8_lossy(name).into_owned());
            }
            word if word.starts_with(b"-") => {
                return shell.usage(b"dpkg-trigger", "the option is not interpreted");
            }
            word => names.push(String::from_utf8_lossy(word).into_owned()),
        }
    }
    let [name] = names.as_slice() else {
        return shell.usage(b"dpkg-trigger", "one trigger is interpreted");
    };
    if by.as_deref() == Some("-") {
        by = None;
    }
    if act && shell.record.triggers.len() < 1000 {
        let trigger = Trigger {
            name: name.clone(),
            awaited: awaited && by.is_some(),
            by,
        };
        if !shell.record.triggers.contains(&trigger) {
            shell.record.triggers.push(trigger);
        }
    }
    Ok(0)
}
