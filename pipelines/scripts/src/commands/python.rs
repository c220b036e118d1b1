//! `py3clean`: compiled files of a package's Python modules are removed. Making them is Python's own work.

use super::text::lines;
use crate::shell::Shell;
use crate::shell::pattern::Pattern;
use crate::stop::Run;

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
