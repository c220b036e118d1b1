//! The installed packages of one guest: `lib/apk/db/installed`.

use std::collections::BTreeSet;

use dormouse_block::{Error, GuestPath, Result};
use dormouse_filesystem::{Follow, Guest};

use crate::cataloger::{Cataloger, Catalogue, by_frequency};
use crate::{Family, OsRelease, Package, Purl, State};

/// Where the database is: everywhere before 2024, and with apk 3.
const PATHS: [&str; 2] = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];
/// The guest's own architecture.
const ARCH: &str = "/etc/apk/arch";
/// Largest database read, in bytes. Real ones have under 5 MiB.
const MAX_DATABASE: u64 = 256 << 20;
/// Records of one database. All of Alpine has fewer than 30,000.
const MAX_RECORDS: usize = 200_000;
/// Longest name, version or architecture, in bytes.
const MAX_WORD: usize = 255;

/// One package, as the database has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Its name (`P`).
    pub name: String,
    /// Its version (`V`).
    pub version: String,
    /// Its architecture (`A`); empty where the record has none.
    pub architecture: String,
    /// The package that it was built from (`o`), where the record says it.
    pub origin: Option<String>,
    /// Bytes of its files (`I`).
    pub installed_size: Option<u64>,
    /// What it provides (`p`): names, with versions behind `=`.
    pub provides: Vec<String>,
    /// What is broken (`f`): `f` files, `s` a script, `x` extended attributes.
    pub broken: String,
}

/// A database's records and what of it does not read.
#[derive(Debug, Default)]
pub struct Database {
    /// The records, in the file's order.
    pub records: Vec<Record>,
    /// Why others do not read.
    pub errors: Vec<Error>,
}

impl Record {
    fn parse(text: &[u8]) -> Result<Self> {
        let mut record = Self::default();
        for line in text.split(|&byte| byte == b'\n') {
            let (field, value) = match line {
                [field, b':', value @ ..] => (*field, value),
                _ => {
                    let start = String::from_utf8_lossy(line.get(..40).unwrap_or(line));
                    return Err(record.named(&format!("a line that is no field: {start:?}")));
                }
            };
            match field {
                b'P' => record.name = record.word(value, "name")?,
                b'V' => record.version = record.word(value, "version")?,
                b'A' => record.architecture = record.word(value, "architecture")?,
                b'o' => record.origin = Some(record.word(value, "origin")?),
                b'f' => record.broken = record.word(value, "list of what is broken")?,
                b'I' => {
                    record.installed_size = std::str::from_utf8(value)
                        .ok()
                        .and_then(|size| size.parse().ok());
                }
                b'p' => {
                    let text = String::from_utf8_lossy(value);
                    let words = text.split_ascii_whitespace();
                    record.provides.extend(words.map(str::to_owned));
                }
                _ => {}
            }
        }
        for (value, what) in [(&record.name, "name"), (&record.version, "version")] {
            if value.is_empty() {
                return Err(record.named(&format!("it has no {what}")));
            }
        }
        Ok(record)
    }

    fn named(&self, what: &str) -> Error {
        let name = if self.name.is_empty() {
            "a package"
        } else {
            &self.name
        };
        Error::corrupt(format!("cannot read the record of {name}: {what}"))
    }

    /// A value of printable characters without blanks.
    fn word(&self, value: &[u8], what: &str) -> Result<String> {
        let plain = !value.is_empty() && value.len() <= MAX_WORD;
        let text = std::str::from_utf8(value).ok();
        let text =
            text.filter(|text| plain && !text.chars().any(|c| c.is_control() || c.is_whitespace()));
        text.map(str::to_owned)
            .ok_or_else(|| self.named(&format!("a bad {what}")))
    }

    /// How far it is: apk notes what it could not do.
    #[must_use]
    pub fn state(&self) -> State {
        if self.broken.contains('f') {
            State::HalfInstalled
        } else if self.broken.is_empty() {
            State::Installed
        } else {
            State::HalfConfigured
        }
    }

    fn package(&self, os: Option<&OsRelease>) -> Package {
        let distro = os.map(OsRelease::distro).unwrap_or_default();
        let purl = Purl {
            family: Family::Apk,
            namespace: os.map_or("", |os| &os.id),
            name: &self.name,
            version: &self.version,
            qualifiers: &[("arch", &self.architecture), ("distro", &distro)],
        };
        let mut package = Package::new(
            Family::Apk,
            &self.name,
            &self.version,
            &self.architecture,
            &purl,
        );
        if let Some(origin) = &self.origin {
            package.source_name.clone_from(origin);
        }
        package.state = self.state();
        package.size = self.installed_size;
        package
    }
}

impl Database {
    /// Reads the text of a database.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut database = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let end = memchr::memmem::find(rest, b"\n\n");
            let (record, after) = match end.and_then(|end| rest.split_at_checked(end)) {
                Some((record, after)) => (record, after.get(2..).unwrap_or_default()),
                None => (rest.strip_suffix(b"\n").unwrap_or(rest), &[][..]),
            };
            rest = after;
            if record.iter().all(|byte| *byte == b'\n') {
                continue;
            }
            let record = record.strip_prefix(b"\n").unwrap_or(record);
            if database.records.len() >= MAX_RECORDS {
                let error = format!("more than {MAX_RECORDS} records");
                database.errors.push(Error::limit(error));
                break;
            }
            match Record::parse(record) {
                Ok(record) => database.records.push(record),
                Err(error) => database.errors.push(error),
            }
        }
        // A record is written with an empty line behind it; a file without one was cut.
        if !text.is_empty() && !text.ends_with(b"\n\n") {
            let why = "the file ends in the middle of a record";
            database.errors.push(Error::corrupt(why));
        }
        database
    }
}

/// The cataloger of apk's databases.
pub(crate) struct Apk;

impl Cataloger for Apk {
    fn family(&self) -> Family {
        Family::Apk
    }

    fn catalogue(&self, guest: &Guest, os: Option<&OsRelease>) -> Result<Option<Catalogue>> {
        let bad = |error| Error::corrupt("bad path").because(error);
        let mut catalogue = Catalogue::default();
        let mut known = BTreeSet::new();
        for path in PATHS {
            let path = GuestPath::new(path).map_err(bad)?;
            let Some(at) = guest.resolve(&path, Follow::Links)? else {
                continue;
            };
            if !known.insert(at.path.clone()) {
                continue;
            }
            let database = match guest.read(&at.path, MAX_DATABASE) {
                Ok(Some(text)) => Database::parse(&text),
                Ok(None) => continue,
                Err(error) => {
                    catalogue.gap(error, &at.path)?;
                    catalogue.files.push((at.path, 0));
                    continue;
                }
            };
            catalogue
                .files
                .push((at.path.clone(), database.records.len()));
            let packages = database.records.iter().map(|record| record.package(os));
            catalogue.packages.extend(packages);
            for error in database.errors {
                catalogue.gap(error, &at.path)?;
            }
        }
        if catalogue.files.is_empty() {
            return Ok(None);
        }
        let own = guest
            .read(&GuestPath::new(ARCH).map_err(bad)?, 4096)
            .unwrap_or_default();
        let own = own.and_then(|text| {
            let word = std::str::from_utf8(&text).ok()?.trim().to_owned();
            (!word.is_empty() && !word.contains(char::is_whitespace)).then_some(word)
        });
        let all = catalogue
            .packages
            .iter()
            .map(|one| one.architecture.as_str());
        let mut others = by_frequency(all, "noarch");
        others.retain(|one| Some(one) != own.as_ref());
        catalogue.architectures = own.into_iter().chain(others).collect();
        Ok(Some(catalogue))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apk_could_not_do_is_a_state() {
        let text =
            b"P:a\nV:1-r0\nf:f\n\nP:b\nV:1-r0\nf:s\n\nP:c\nV:1-r0\np:so:x.1=1 cmd:c=1-r0\n\n";
        let database = Database::parse(text);
        let states: Vec<_> = database.records.iter().map(Record::state).collect();
        assert_eq!(
            states,
            [
                State::HalfInstalled,
                State::HalfConfigured,
                State::Installed
            ]
        );
        assert_eq!(database.records[2].provides, ["so:x.1=1", "cmd:c=1-r0"]);
        assert!(database.errors.is_empty());
    }

    #[test]
    fn a_bad_record_is_an_error_and_the_others_stand() {
        for (text, records) in [
            (&b"P:a\nV:1-r0\n\nnonsense\n\nP:b\nV:2-r0\n\n"[..], 2),
            (b"P:a\n\nP:b\nV:1\n\n", 1),
            (b"P:a b\nV:1\n\n", 0),
            (b"P:a\nV:1\n\nP:b\nV:1", 2),
        ] {
            let database = Database::parse(text);
            assert_eq!(database.records.len(), records, "{text:?}");
            assert_eq!(database.errors.len(), 1, "{text:?}");
        }
    }
}
