//! `dpkg-vendor`: which distribution this is, by the files in `/etc/dpkg/origins`.

use super::text::lines;
use crate::shell::Shell;
use crate::stop::Run;

/// Distributions that may derive from one another.
const MAX_PARENTS: u32 = 20;

/// A field of an origin's file.
fn field(shell: &mut Shell<'_>, path: &str, wanted: &str) -> Run<Option<String>> {
    let Ok(text) = shell.files.read(path.as_bytes())? else {
        return Ok(None);
    };
    Ok(lines(&text)
        .filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
        .map(|(_, value)| value.trim().to_owned()))
}

pub(crate) fn dpkg_vendor(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let words: Vec<String> = words
        .iter()
        .skip(1)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    const DEFAULT: &str = "/etc/dpkg/origins/default";
    let Some(vendor) = field(shell, DEFAULT, "Vendor")? else {
        return shell.usage(b"dpkg-vendor", "the distribution is not named");
    };
    match words.as_slice() {
        ["--query", wanted] => {
            let value = field(shell, DEFAULT, wanted)?.unwrap_or_default();
            shell.out(format!("{value}\n").as_bytes())?;
            Ok(0)
        }
        ["--is", name] => Ok(i32::from(!vendor.eq_ignore_ascii_case(name))),
        ["--derives-from", name] => {
            let mut current = vendor;
            for _ in 0..MAX_PARENTS {
                if current.eq_ignore_ascii_case(name) {
                    return Ok(0);
                }
                let path = format!("/etc/dpkg/origins/{}", current.to_ascii_lowercase());
                match field(shell, &path, "Parent")? {
                    Some(parent) if !parent.contains('/') => current = parent,
                    _ => return Ok(1),
                }
            }
            Ok(1)
        }
        _ => shell.usage(b"dpkg-vendor", "the call is not interpreted"),
    }
}
