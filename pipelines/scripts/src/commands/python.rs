//! Compiled Python modules: removing them is interpreted. Making them is left to Python itself, which compares the time
//! and size of a module with those in the compiled file, ignores it where they differ, and writes it anew.

use super::text::lines;
use crate::call::Reason;
use crate::shell::Shell;
use crate::shell::pattern::Pattern;
use crate::stop::Run;

/// `py3compile` and its likes.
pub(crate) fn compile(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let package = shell.call.package;
    let _ = words;
    shell.cache_left(format!("compiled Python modules of {package}"));
    Ok(0)
}

/// An interpreter of Python that is asked to compile modules; other programs are not interpreted.
pub(crate) fn python(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut rest = words.get(1..).unwrap_or_default();
    while let Some(option) = rest.first()
        && matches!(
            option.as_slice(),
            b"-E" | b"-S" | b"-I" | b"-s" | b"-B" | b"-O" | b"-OO" | b"-ES" | b"-Wi"
        )
    {
        rest = rest.get(1..).unwrap_or_default();
    }
    let compiles = match rest {
        [option, module, ..] if option == b"-m" => {
            matches!(module.as_slice(), b"compileall" | b"py_compile")
        }
        [program, ..] => {
            program.ends_with(b"/py_compile.py") || program.ends_with(b"/compileall.py")
        }
        [] => false,
    };
    if compiles {
        return compile(shell, words);
    }
    shell.refuse(
        Reason::Command,
        words.first().map(Vec::as_slice).unwrap_or_default(),
        "is a program that is not interpreted",
    )
}

pub(crate) fn py3clean(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let package = match words {
        [_, option, package] if option == b"-p" || option == b"--package" => package.clone(),
        _ => return shell.usage(b"py3clean", "only -p PACKAGE is interpreted"),
    };
    let query = vec![b"dpkg-query".to_vec(), b"-L".to_vec(), package];
    let (status, list) = shell.captured(|shell| super::dpkg::dpkg_query(shell, &query))?;
    if status != 0 {
        return shell.usage(b"py3clean", "the package is not installed");
    }
    for line in lines(&list) {
        let Some(stem) = line
            .strip_suffix(b".py")
            .filter(|stem| stem.starts_with(b"/"))
        else {
            continue;
        };
        let at = stem.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        let (folder, base) = stem.split_at(at);
        let cache = [folder, b"/__pycache__"].concat();
        let base = base.get(1..).unwrap_or_default();
        let mut quoted: Vec<(u8, bool)> = base.iter().map(|&byte| (byte, true)).collect();
        quoted.extend(b".*.py[co]".iter().map(|&byte| (byte, false)));
        let pattern = Pattern::new(&quoted);
        let Ok(names) = shell.files.list(&cache)? else {
            continue;
        };
        let mut left = names.len();
        for name in names {
            if pattern.matches(&name) {
                let _ = shell.files.unlink(&[&cache[..], b"/", &name].concat())?;
                left = left.saturating_sub(1);
            }
        }
        if left == 0 {
            let _ = shell.files.remove_directory(&cache)?;
        }
    }
    Ok(0)
}
