//! Where the databases are, which of them count, and their headers one by one.

use std::collections::BTreeSet;

use dormouse_block::{Error, ErrorKind, Gap, GuestPath, Locator, Result};
use dormouse_filesystem::{Follow, Guest};

use super::header::Header;
use super::{PackageHeader, berkeley, ndb};
use crate::cataloger::{Cataloger, Catalogue};
use crate::guest_file::GuestFile;
use crate::{Family, Kind, OsRelease, sqlite};

/// Where databases are: everywhere before 2021, Fedora and SUSE since, ostree systems. Often one is a link to another.
const DIRECTORIES: [&str; 3] = ["/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm"];
/// Records of one database. All of Fedora has fewer than 80,000.
const MAX_RECORDS: usize = 200_000;
/// Largest database read, in bytes. A desktop's has 200 MiB.
const MAX_DATABASE: u64 = 4 << 30;
/// The table of headers: `hnum integer primary key, blob blob not null`.
const TABLE: &str = "Packages";

/// How a database is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// `rpmdb.sqlite`: RHEL 9, Fedora 33 and later.
    Sqlite,
    /// `Packages.db`: SUSE.
    Ndb,
    /// `Packages`: RHEL 8 and before.
    Berkeley,
}

/// File names of the backends, in the order in which rpm looks for them.
const BACKENDS: [(&str, Backend); 3] = [
    ("rpmdb.sqlite", Backend::Sqlite),
    ("Packages.db", Backend::Ndb),
    ("Packages", Backend::Berkeley),
];

/// One file of headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseFile {
    /// Where it is, without links.
    pub path: GuestPath,
    /// How it is kept.
    pub backend: Backend,
}

/// The databases of a guest.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Those that are read.
    pub files: Vec<DatabaseFile>,
    /// Those beside them that rpm would pass over, and so are not.
    pub passed_over: Vec<DatabaseFile>,
}

impl Found {
    /// Finds the databases of a guest. Of several in one folder the first of rpm's own order counts.
    ///
    /// # Errors
    /// The filesystem's.
    pub fn in_guest(guest: &Guest) -> Result<Self> {
        let mut found = Self::default();
        let mut known = BTreeSet::new();
        for directory in DIRECTORIES {
            let directory = GuestPath::new(directory)
                .map_err(|error| Error::corrupt("bad path").because(error))?;
            let Some(directory) = guest.resolve(&directory, Follow::Links)? else {
                continue;
            };
            if !known.insert(directory.path.clone()) {
                continue;
            }
            let mut first = true;
            for (name, backend) in BACKENDS {
                let Ok(path) = directory.path.join(name) else {
                    continue;
                };
                let Some(file) = GuestFile::open(guest, &path)? else {
                    continue;
                };
                let file = DatabaseFile {
                    path: file.path().clone(),
                    backend,
                };
                if first {
                    found.files.push(file);
                } else {
                    found.passed_over.push(file);
                }
                first = false;
            }
        }
        Ok(found)
    }
}

/// Hands every header of a database to `take`; in the place of those that do not read, why.
///
/// # Errors
/// `Corrupt`, `Unsupported` or `Limit` for a database that does not read at all; the host's failures, and whatever `take`
/// returns.
pub fn read(
    guest: &Guest,
    file: &DatabaseFile,
    take: &mut dyn FnMut(Result<Header<'_>>) -> Result<()>,
) -> Result<()> {
    let Some(mut opened) = GuestFile::open(guest, &file.path)? else {
        return Err(Error::corrupt("the database is gone"));
    };
    if opened.len() > MAX_DATABASE {
        return Err(Error::limit(format!(
            "a database of {} bytes; at most {MAX_DATABASE} are read",
            opened.len()
        )));
    }
    let mut records = 0_usize;
    let mut blob = |blob: Result<&[u8]>| {
        records = records.saturating_add(1);
        if records > MAX_RECORDS {
            return Err(Error::limit(format!("more than {MAX_RECORDS} records")));
        }
        take(blob.and_then(Header::parse))
    };
    match file.backend {
        Backend::Ndb => ndb::each_blob(&mut opened, &mut blob),
        Backend::Berkeley => berkeley::each_value(&mut opened, &mut blob),
        Backend::Sqlite => {
            let mut database = sqlite::Database::open(guest, opened)?;
            if let Some(doubt) = database.doubt() {
                blob(Err(doubt))?;
            }
            let table = database.table(TABLE)?;
            let table =
                table.ok_or_else(|| Error::corrupt(format!("there is no table {TABLE}")))?;
            database.rows(table, &mut |row| {
                let none = || Error::corrupt("a row without a header");
                blob(row.and_then(|row| row.bytes(1)?.ok_or_else(none)))
            })
        }
    }
}

/// The cataloger of rpm's databases.
pub(crate) struct Rpm;

impl Cataloger for Rpm {
    fn family(&self) -> Family {
        Family::Rpm
    }

    fn catalogue(&self, guest: &Guest, os: Option<&OsRelease>) -> Result<Option<Catalogue>> {
        let found = Found::in_guest(guest)?;
        if found.files.is_empty() {
            return Ok(None);
        }
        let mut catalogue = Catalogue::default();
        for file in &found.files {
            let mut records = 0_usize;
            let read = read(guest, file, &mut |header| match header
                .and_then(|header| PackageHeader::read(&header))
            {
                Ok(header) => {
                    records = records.saturating_add(1);
                    catalogue.packages.insert(header.into_package(os));
                    Ok(())
                }
                Err(error) => catalogue.gap(error, &file.path),
            });
            if let Err(error) = read {
                catalogue.gap(error, &file.path)?;
            }
            catalogue.files.push((file.path.clone(), records));
        }
        for file in found.passed_over {
            catalogue.gaps.push(Gap {
                at: Locator::default().path(file.path),
                kind: ErrorKind::Unsupported,
                why: "a second rpm database in one folder is not read".into(),
                may_hide_packages: true,
            });
        }
        let software = catalogue
            .packages
            .iter()
            .filter(|one| one.kind == Kind::Software);
        catalogue.architectures =
            crate::cataloger::by_frequency(software.map(|one| one.architecture.as_str()), "noarch");
        Ok(Some(catalogue))
    }
}
