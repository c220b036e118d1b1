//! A suite's Release file: what it is, until when it counts, and the digests of its indices.
//!
//! Source: the DebianRepository/Format page of Debian's wiki, and apt-secure(8).

use std::collections::BTreeMap;

use dormouse_block::{Digest, Error, Result};
use dormouse_packages::deb822::{Field, paragraphs};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Digests of one Release file. Debian's have fewer than 20,000.
const MAX_LISTED: usize = 1_000_000;

/// What a Release file says of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// The fields of a Release file that are used; whether they were signed is for the reader to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Release {
    pub(crate) origin: Option<String>,
    pub(crate) label: Option<String>,
    pub(crate) suite: Option<String>,
    pub(crate) codename: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) date: Option<Timestamp>,
    pub(crate) valid_until: Option<Timestamp>,
    pub(crate) components: Vec<String>,
    pub(crate) architectures: Vec<String>,
    pub(crate) by_hash: bool,
    pub(crate) not_automatic: bool,
    pub(crate) but_automatic_upgrades: bool,
    /// The indices of single architectures hold the packages of all, and `binary-all` need not be read.
    pub(crate) all_in_each: bool,
    /// Every `Packages` index by its path below the suite's folder.
    pub(crate) indices: BTreeMap<String, Listed>,
}

impl Release {
    /// Reads the one paragraph of a Release file.
    ///
    /// # Errors
    /// `Corrupt` for a malformed field or path, a bad date, or a file without SHA-256 digests.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let mut found = paragraphs(text);
        let (_, paragraph) = found
            .next()
            .ok_or_else(|| Error::corrupt("an empty Release file"))?;
        if found.next().is_some() {
            return Err(Error::corrupt("a Release file of more than one paragraph"));
        }
        let mut release = Self::default();
        let mut has_digests = false;
        for field in paragraph.fields() {
            let field = field?;
            let text = || field.text().map(str::to_owned);
            match field.name.to_ascii_lowercase().as_str() {
                "origin" => release.origin = Some(text()?),
                "label" => release.label = Some(text()?),
                "suite" => release.suite = Some(text()?),
                "codename" => release.codename = Some(text()?),
                "version" => release.version = Some(text()?),
                "date" => release.date = Some(instant(&field)?),
                "valid-until" => release.valid_until = Some(instant(&field)?),
                "components" => release.components = words(&field)?,
                "architectures" => release.architectures = words(&field)?,
                "acquire-by-hash" => release.by_hash = field.value == b"yes",
                "notautomatic" => release.not_automatic = field.value == b"yes",
                "butautomaticupgrades" => release.but_automatic_upgrades = field.value == b"yes",
                "no-support-for-architecture-all" => {
                    release.all_in_each = words(&field)?.iter().any(|word| word == "Packages");
                }
                "sha256" => {
                    has_digests = true;
                    release.take_digests(field.text()?)?;
                }
                _ => {}
            }
        }
        if !has_digests {
            return Err(Error::corrupt("a Release file without SHA-256 digests"));
        }
        Ok(release)
    }

    fn take_digests(&mut self, text: &str) -> Result<()> {
        for (count, line) in text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .enumerate()
        {
            if count >= MAX_LISTED {
                return Err(Error::limit(
                    "a Release file that lists more than 1000000 files",
                ));
            }
            let bad = || {
                let excerpt: String = line.chars().take(120).collect();
                Error::corrupt(format!("a bad line among the digests: {excerpt:?}"))
            };
            let mut words = line.split_ascii_whitespace();
            let (Some(digest), Some(size), Some(path), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(bad());
            };
            let listed = Listed {
                digest: Digest::from_hex(digest).ok_or_else(bad)?,
                size: size.parse().map_err(|_| bad())?,
            };
            // Of flat repositories: `./Packages`.
            let path = path.strip_prefix("./").unwrap_or(path);
            if !is_relative_path(path) {
                return Err(bad());
            }
            let file = path.rsplit('/').next().unwrap_or(path);
            if file != "Packages" && !file.starts_with("Packages.") {
                continue;
            }
            match self.indices.insert(path.to_owned(), listed) {
                Some(known) if known != listed => {
                    return Err(Error::corrupt(format!("two digests of {path}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether `name` is this suite's: its codename or its suite name.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.codename.as_deref() == Some(name) || self.suite.as_deref() == Some(name)
    }
}

/// Whether `path` stays where it is put: relative, without empty, `.` or `..` components.
pub(crate) fn is_relative_path(path: &str) -> bool {
    !path.is_empty()
        && !path.bytes().any(|byte| matches!(byte, b'\0' | b'\\'))
        && path
            .as_bytes()
            .split(|byte| *byte == b'/')
            .all(|name| !matches!(name, b"" | b"." | b".."))
}

fn words(field: &Field<'_>) -> Result<Vec<String>> {
    Ok(field
        .text()?
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect())
}

/// `Sat, 08 Nov 2025 10:15:36 UTC`: RFC 1123 with a zone that is always UTC.
fn instant(field: &Field<'_>) -> Result<Timestamp> {
    let text = field.text()?;
    let bad = || Error::corrupt(format!("the field {} is no date: {text:?}", field.name));
    let (_, rest) = text.split_once(',').ok_or_else(bad)?;
    let (rest, zone) = rest.trim().rsplit_once(' ').ok_or_else(bad)?;
    if !matches!(zone, "UTC" | "GMT" | "+0000" | "Z") {
        return Err(bad());
    }
    let civil =
        DateTime::strptime("%d %b %Y %H:%M:%S", rest).map_err(|error| bad().because(error))?;
    let zoned = civil
        .to_zoned(TimeZone::UTC)
        .map_err(|error| bad().because(error))?;
    Ok(zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn release(digests: &str) -> String {
        format!(
            "Origin: Debian\r\nSuite: oldstable-security\r\nCodename: bookworm-security\r\n\
            Date: Sat, 08 Nov 2025 10:15:36 UTC\r\nValid-Until: Sat,  5 Nov 2025 00:00:00 UTC\r\n\
            Acquire-By-Hash: yes\r\nArchitectures: all amd64 arm64\r\nComponents: main contrib\r\n\
            No-Support-for-Architecture-all: Packages\r\nMD5Sum:\r\n x 1 y\r\nSHA256:\r\n{digests}"
        )
    }

    #[test]
    fn the_signed_fields_are_read() {
        let text = release(&format!(
            " {DIGEST} 0 main/binary-amd64/Packages\n {DIGEST} 12 main/Contents-amd64\n"
        ));
        let release = Release::parse(text.as_bytes()).unwrap();
        assert!(release.is_called("bookworm-security") && release.is_called("oldstable-security"));
        assert!(!release.is_called("bookworm"));
        assert_eq!(release.date.unwrap().to_string(), "2025-11-08T10:15:36Z");
        assert_eq!(
            release.valid_until.unwrap().to_string(),
            "2025-11-05T00:00:00Z"
        );
        assert_eq!(release.components, ["main", "contrib"]);
        assert!(release.by_hash && release.all_in_each);
        assert_eq!(release.indices.len(), 1, "other files are of no use");
    }

    #[test]
    fn bad_digests_paths_and_dates_are_corrupt() {
        for digests in [
            " 00 0 main/binary-amd64/Packages".to_owned(),
            format!(" {DIGEST} -1 main/binary-amd64/Packages"),
            format!(" {DIGEST} 1 ../../etc/Packages"),
            format!(" {DIGEST} 1 /etc/Packages"),
            format!(" {DIGEST} 1 a b"),
            format!(" {DIGEST} 1 main/Packages\n {DIGEST} 2 main/Packages"),
        ] {
            assert!(
                Release::parse(release(&digests).as_bytes()).is_err(),
                "{digests}"
            );
        }
        for text in [
            "",
            "Suite: a\n",
            "SHA256:\nDate: yesterday\n",
            "SHA256:\n\nSHA256:\n",
            "SHA256:\nDate: Sat, 08 Nov 2025 10:15:36 CET\n",
        ] {
            assert!(Release::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(Release::parse(b"SHA256:\n").is_ok());
    }
}
