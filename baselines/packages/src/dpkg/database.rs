//! The whole database of one guest: `/var/lib/dpkg`.

use std::collections::BTreeMap;
use std::sync::Arc;

use dormouse_block::{Error, Gap, GuestPath, Locator, Result};
use dormouse_filesystem::Guest;

use super::record::Statusless;
use super::{Record, State};
use crate::cataloger::{Cataloger, Catalogue, files_of, passes_on};
use crate::deb822::paragraphs;
use crate::{Family, OsRelease, Package};

/// Where dpkg keeps its database.
pub const ADMIN_DIRECTORY: &str = "/var/lib/dpkg";
/// Largest status file read, in bytes, and all files of `status.d` or of the journal together. Real ones have under
/// 20 MiB.
pub const MAX_STATUS: u64 = 256 << 20;
/// Records of one database. All of Debian has fewer than 70,000.
const MAX_RECORDS: usize = 200_000;
/// Largest list of architectures read, in bytes.
const MAX_ARCH: u64 = 64 << 10;
/// Unreadable records named one by one; a file with more is broken as a whole.
const MAX_GAPS: usize = 100;

/// What dpkg knows of a guest's packages, as it stood with its journal applied.
#[derive(Debug, Clone, Default)]
pub struct Database {
    records: Vec<Record>,
    index: BTreeMap<(String, String), usize>,
    /// Architectures: the guest's own first, then those that may be installed beside it.
    pub architectures: Vec<String>,
    /// Journal files of `updates/` that were applied, oldest first. dpkg itself would write them into `status` next.
    pub journal: Vec<GuestPath>,
    /// The files that were read, with the number of records that each gave.
    pub files: Vec<(GuestPath, usize)>,
    /// Records and files that could not be read.
    pub gaps: Vec<Gap>,
}

fn admin(rest: &str) -> Result<GuestPath> {
    GuestPath::new(format!("{ADMIN_DIRECTORY}/{rest}"))
        .map_err(|error| Error::corrupt("bad path").because(error))
}

impl Database {
    /// Reads the guest's database; `None` when it has neither `status` nor `status.d`.
    ///
    /// # Errors
    /// The filesystem's. Broken records and files become gaps instead.
    pub fn read(guest: &Guest) -> Result<Option<Self>> {
        let mut database = Self::default();
        let mut found = false;
        let mut budget = MAX_STATUS;
        let status = admin("status")?;
        if let Some(bytes) = guest.read(&status, budget)? {
            found = true;
            budget = budget.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            database.take(bytes, &status, Statusless::IsCorrupt);
        }
        database.read_journal(guest, &mut budget)?;
        let directory = admin("status.d")?;
        for path in files_of(guest, &directory, |name| !name.ends_with(b".md5sums"))? {
            if let Some(bytes) = database.open(guest, &path, &mut budget)? {
                found = true;
                database.take(bytes, &path, Statusless::IsInstalled);
            }
        }
        if !found {
            return Ok(None);
        }
        database.read_architectures(guest)?;
        Ok(Some(database))
    }

    /// Reads the text of a status file.
    #[must_use]
    pub fn parse(status: &[u8]) -> Self {
        let mut database = Self::default();
        let path = admin("status").unwrap_or_else(|_| GuestPath::root());
        database.take(status.to_vec(), &path, Statusless::IsCorrupt);
        database.set_architectures(Vec::new());
        database
    }

    /// What dpkg does on its next start: the numbered files of `updates/`, in order, each replacing the records that
    /// it holds. Files of any other name it passes over.
    fn read_journal(&mut self, guest: &Guest, budget: &mut u64) -> Result<()> {
        let directory = admin("updates")?;
        let numbered = |name: &[u8]| !name.is_empty() && name.iter().all(u8::is_ascii_digit);
        for path in files_of(guest, &directory, numbered)? {
            if let Some(bytes) = self.open(guest, &path, budget)? {
                self.take(bytes, &path, Statusless::IsCorrupt);
                self.journal.push(path);
            }
        }
        Ok(())
    }

    fn open(
        &mut self,
        guest: &Guest,
        path: &GuestPath,
        budget: &mut u64,
    ) -> Result<Option<Vec<u8>>> {
        match guest.read(path, *budget) {
            Ok(Some(bytes)) => {
                *budget = budget.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                Ok(Some(bytes))
            }
            Ok(None) => Ok(None),
            Err(error) if passes_on(&error) => Err(error),
            Err(error) => {
                self.gap(&error, path);
                Ok(None)
            }
        }
    }

    fn gap(&mut self, error: &Error, path: &GuestPath) {
        if self.gaps.len() < MAX_GAPS {
            let at = Locator::default().path(path.clone());
            self.gaps.push(Gap::from_error(error, &at));
        }
    }

    fn take(&mut self, bytes: Vec<u8>, file: &GuestPath, statusless: Statusless) {
        let text = Arc::new(bytes);
        let mut taken = 0_usize;
        // Real records have a KiB of text each, more or less.
        self.records.reserve(MAX_RECORDS.min(text.len() >> 10));
        for (from, paragraph) in paragraphs(&text) {
            let offset = u64::try_from(from).unwrap_or(u64::MAX);
            if self.records.len() >= MAX_RECORDS {
                let error = Error::limit("more than 200000 records").at_offset(offset);
                self.gap(&error, file);
                break;
            }
            match Record::parse(&text, (from, paragraph), file, statusless) {
                Ok(record) => {
                    taken = taken.saturating_add(1);
                    self.insert(record, offset);
                }
                Err(error) => self.gap(&error.at_offset(offset), file),
            }
        }
        self.files.push((file.clone(), taken));
    }

    fn insert(&mut self, record: Record, offset: u64) {
        let key = (record.name.clone(), record.architecture.clone());
        let Some(&index) = self.index.get(&key) else {
            self.index.insert(key, self.records.len());
            self.records.push(record);
            return;
        };
        // Within one file the later record counts, as dpkg has it; that the file says two things is worth a word.
        let known = self.records.get_mut(index);
        let twice = known
            .as_ref()
            .is_some_and(|known| known.file == record.file);
        if twice {
            let why = format!("two records of {}; the later one counts", record.name);
            let error = Error::corrupt(why).at_offset(offset);
            let at = Locator::default().path(record.file.clone());
            if self.gaps.len() < MAX_GAPS {
                self.gaps.push(Gap {
                    may_hide_packages: false,
                    ..Gap::from_error(&error, &at)
                });
            }
        }
        if let Some(known) = known {
            *known = record;
        }
    }

    fn read_architectures(&mut self, guest: &Guest) -> Result<()> {
        let path = admin("arch")?;
        let mut known = Vec::new();
        match guest.read(&path, MAX_ARCH) {
            Ok(bytes) => {
                let bytes = bytes.unwrap_or_default();
                let text = String::from_utf8_lossy(&bytes);
                let plain =
                    |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                known.extend(
                    text.split_ascii_whitespace()
                        .filter(plain)
                        .map(str::to_owned),
                );
            }
            Err(error) if passes_on(&error) => return Err(error),
            Err(error) => self.gap(&error, &path),
        }
        self.set_architectures(known);
        Ok(())
    }

    /// The guest's own architecture is that of its `dpkg` package, else the one that most packages have; `arch` names
    /// the others (and often the own one first).
    fn set_architectures(&mut self, mut known: Vec<String>) {
        let own = self
            .find("dpkg")
            .find(|record| record.status.state.has_files() && record.architecture != "all")
            .map(|record| record.architecture.clone())
            .or_else(|| known.first().cloned())
            .or_else(|| self.commonest_architecture());
        known.retain(|name| Some(name) != own.as_ref() && !name.is_empty());
        known.dedup();
        self.architectures = own.into_iter().chain(known).collect();
    }

    fn commonest_architecture(&self) -> Option<String> {
        let mut counts = BTreeMap::<&str, usize>::new();
        for record in &self.records {
            if !matches!(record.architecture.as_str(), "" | "all")
                && record.status.state.has_files()
            {
                let count = counts.entry(&record.architecture).or_default();
                *count = count.saturating_add(1);
            }
        }
        let best = counts
            .into_iter()
            .max_by_key(|&(name, count)| (count, std::cmp::Reverse(name)));
        best.map(|(name, _)| name.to_owned())
    }

    /// All records, in the order of their files.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The record of one package of one architecture.
    #[must_use]
    pub fn get(&self, name: &str, architecture: &str) -> Option<&Record> {
        let index = self
            .index
            .get(&(name.to_owned(), architecture.to_owned()))?;
        self.records.get(*index)
    }

    /// The records of one name, of whatever architectures.
    pub fn find<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Record> + use<'a> {
        let from = (name.to_owned(), String::new());
        let name = name.to_owned();
        self.index
            .range(from..)
            .take_while(move |((known, _), _)| *known == name)
            .filter_map(|(_, &index)| self.records.get(index))
    }

    /// The guest's own architecture.
    #[must_use]
    pub fn native_architecture(&self) -> Option<&str> {
        self.architectures.first().map(String::as_str)
    }
}

/// The cataloger of dpkg's databases.
pub(crate) struct Dpkg;

impl Cataloger for Dpkg {
    fn family(&self) -> Family {
        Family::Dpkg
    }

    fn catalogue(&self, guest: &Guest, os: Option<&OsRelease>) -> Result<Option<Catalogue>> {
        let Some(database) = Database::read(guest)? else {
            return Ok(None);
        };
        let known = database
            .records
            .iter()
            .filter(|record| record.status.state != State::NotInstalled);
        let distro = os.map(OsRelease::distro).unwrap_or_default();
        let mut packages = Vec::with_capacity(database.records.len());
        packages.extend(known.filter_map(|record| {
            let version = record.version.as_ref()?;
            Some(Package::of_dpkg(record, version, os, &distro))
        }));
        Ok(Some(Catalogue {
            architectures: database.architectures,
            // In one go, and in their place.
            packages: packages.into_iter().collect(),
            files: database.files,
            gaps: database.gaps,
        }))
    }
}
