//! Configuration files as the database keeps them.

use dormouse_block::{Error, GuestPath, Result};
use memchr::{memchr, memchr_iter, memrchr2};

/// Conffiles of one package. Real ones have fewer than 1,000.
const MAX_CONFFILES: usize = 100_000;

/// One line of a `Conffiles` field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conffile {
    /// Where it is.
    pub path: GuestPath,
    /// MD5 of the version that the package last installed, as 32 lower-case hexadecimal digits; absent while it is
    /// being installed for the first time (`newconffile`).
    pub md5: Option<String>,
    /// The package's present version no longer has it.
    pub obsolete: bool,
    /// The package asks for its removal on the next upgrade.
    pub remove_on_upgrade: bool,
}

impl Conffile {
    /// Reads the value of a `Conffiles` field: a path, a digest and flags on each line. Paths may hold blanks.
    ///
    /// # Errors
    /// `Corrupt` for a line without a digest or with a path that is none, `Limit` for more than 100,000 lines.
    pub fn parse_all(value: &[u8]) -> Result<Vec<Self>> {
        let lines = memchr_iter(b'\n', value).count().saturating_add(1);
        let mut all = Vec::with_capacity(lines.min(MAX_CONFFILES));
        let mut rest = value;
        while !rest.is_empty() {
            let end = memchr(b'\n', rest).map_or(rest.len(), |at| at.saturating_add(1));
            let (line, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            rest = after;
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            if all.len() >= MAX_CONFFILES {
                return Err(Error::limit("more than 100000 conffiles of one package"));
            }
            all.push(Self::parse(line)?);
        }
        Ok(all)
    }

    fn parse(line: &[u8]) -> Result<Self> {
        let bad = || {
            let line = String::from_utf8_lossy(line);
            Error::corrupt(format!("a bad conffile line: {line:?}"))
        };
        let mut obsolete = false;
        let mut remove_on_upgrade = false;
        let mut rest = line;
        loop {
            let (before, word) = last_word(rest).ok_or_else(bad)?;
            rest = before;
            match word {
                b"obsolete" => obsolete = true,
                b"remove-on-upgrade" => remove_on_upgrade = true,
                digest => {
                    let is_md5 = digest.len() == 32 && digest.iter().all(u8::is_ascii_hexdigit);
                    let digest = std::str::from_utf8(digest).map_err(|_| bad())?;
                    if !is_md5 && digest != "newconffile" {
                        return Err(bad());
                    }
                    if !rest.starts_with(b"/") {
                        return Err(bad());
                    }
                    return Ok(Self {
                        path: GuestPath::new(rest).map_err(|error| bad().because(error))?,
                        md5: is_md5.then(|| digest.to_ascii_lowercase()),
                        obsolete,
                        remove_on_upgrade,
                    });
                }
            }
        }
    }
}

/// The text before the last blank, and what follows that.
fn last_word(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memrchr2(b' ', b'\t', line)?;
    let (before, word) = line.split_at_checked(at)?;
    Some((before.trim_ascii_end(), word.trim_ascii_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_stand_after_the_digest_and_paths_may_hold_blanks() {
        let value = b"\n /etc/a d41d8cd98f00b204e9800998ecf8427e\n /etc/with blank newconffile\n \
            /etc/c D41D8CD98F00B204E9800998ECF8427E obsolete remove-on-upgrade";
        let all = Conffile::parse_all(value).unwrap();
        assert_eq!(all[0].path.to_string(), "/etc/a");
        assert_eq!(
            all[0].md5.as_deref(),
            Some("d41d8cd98f00b204e9800998ecf8427e")
        );
        assert_eq!(
            (all[1].path.to_string().as_str(), &all[1].md5),
            ("/etc/with blank", &None)
        );
        assert!(all[2].obsolete && all[2].remove_on_upgrade);
        assert!(!all[0].obsolete && !all[0].remove_on_upgrade);
    }

    #[test]
    fn lines_without_path_or_digest_are_corrupt() {
        for line in [
            "/etc/a",
            "/etc/a xyz",
            "etc/a newconffile",
            "/etc/../a newconffile",
            "obsolete",
            "/a obsolete",
        ] {
            assert!(Conffile::parse_all(line.as_bytes()).is_err(), "{line}");
        }
    }
}
