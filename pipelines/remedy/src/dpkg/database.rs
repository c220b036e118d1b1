//! The beginning and the end of a session: dpkg's database read and written.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dormouse_block::{Error, GuestPath, Locator, Result};
use dormouse_filesystem::Follow;
use dormouse_overlay::{Content, Draft, DraftNode};
use dormouse_packages::dpkg::{Database, State};

use super::diversion::Diversions;
use super::files::Files;
use super::log::Log;
use super::package::{Package, info_name};
use super::path_filter::PathFilters;
use super::stat_override::{Accounts, StatOverrides};
use super::trigger::{self, Interests};
use super::{Options, Session, fixed};

/// dpkg's folder.
pub(crate) const ADMIN: &str = "/var/lib/dpkg";
/// Where it keeps what packages bring.
pub(crate) const INFO: &str = "/var/lib/dpkg/info";
/// Largest file of the database read, in bytes, `status` aside. Real ones (a list of 50,000 files) have under 8 MiB.
const MAX_FILE: u64 = 64 << 20;
/// Largest log that is added to; a larger one is left alone and a new one cannot be begun, so that is refused.
const MAX_LOG: u64 = 256 << 20;

fn located(error: Error, path: &GuestPath) -> Error {
    error.located(&Locator::default().path(path.clone()))
}

/// A file of the draft, empty where there is none.
pub(super) fn read(draft: &Draft, path: &str) -> Result<Vec<u8>> {
    Ok(draft.read(&fixed(path)?, MAX_FILE)?.unwrap_or_default())
}

impl<'d> Session<'d> {
    /// Reads the database of the draft's guest. The draft must not have changed it yet.
    ///
    /// # Errors
    /// `Unsupported` for a guest without dpkg's database, one that has an unknown layout, was left with an interrupted
    /// run, or has records that do not read; `Corrupt` for broken files; and the filesystem's.
    pub fn open(draft: &'d mut Draft, options: Options) -> Result<Self> {
        let database = Database::read(draft.base())?
            .ok_or_else(|| Error::unsupported("the guest has no dpkg database"))?;
        if let Some(gap) = database.gaps.first() {
            return Err(Error::corrupt("the package database does not read in full")
                .because(Error::corrupt(gap.to_string())));
        }
        let format = read(draft, &format!("{INFO}/format"))?;
        if format.trim_ascii() != b"1" {
            return Err(Error::unsupported(format!(
                "the layout {:?} of dpkg's info folder",
                String::from_utf8_lossy(format.trim_ascii())
            )));
        }
        if !database.journal.is_empty() {
            return Err(Error::unsupported(
                "dpkg was interrupted in the guest and its journal is still there",
            ));
        }
        let mut session = Self {
            log: Log::at(options.now)?,
            options,
            packages: Vec::new(),
            by_name: BTreeMap::new(),
            native: database
                .native_architecture()
                .unwrap_or_default()
                .to_owned(),
            foreign: database.architectures.iter().skip(1).cloned().collect(),
            dpkg_version: database
                .find("dpkg")
                .find_map(|record| record.version.as_ref())
                .map(ToString::to_string)
                .unwrap_or_default(),
            files: Files::default(),
            info: HashMap::new(),
            diversions: Diversions::default(),
            overrides: StatOverrides::default(),
            filters: PathFilters::default(),
            users: Accounts::default(),
            groups: Accounts::default(),
            interests: Interests::default(),
            incorporated: false,
            world: None,
            saved: BTreeMap::new(),
            unpacked: Vec::new(),
            broken_before: BTreeSet::new(),
            triggered: Vec::new(),
            draft,
        };
        for record in database.records() {
            session
                .by_name
                .entry(record.name.clone())
                .or_default()
                .push(session.packages.len());
            session.packages.push(Package::of_record(record)?);
        }
        for (at, record) in database.records().iter().enumerate() {
            let awaits = record
                .triggers_awaited
                .iter()
                .filter_map(|name| session.find(name))
                .collect();
            if let Some(package) = session.packages.get_mut(at) {
                package.awaits = awaits;
            }
        }
        session.broken_before = (0..session.packages.len())
            .filter(|at| session.package(*at).status.state == State::HalfConfigured)
            .collect();
        session.read_info()?;
        session.reload_rules()?;
        session.read_filters()?;
        session.read_triggers()?;
        session.log.add("startup archives unpack");
        Ok(session)
    }

    /// The package that a trigger file or `Triggers-Awaited` names: with its architecture, or the guest's own first.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let (name, architecture) = match name.split_once(':') {
            Some((name, architecture)) => (name, Some(architecture)),
            None => (name, None),
        };
        let known = self.by_name.get(name)?;
        let of = |wanted: &str| {
            known
                .iter()
                .copied()
                .find(|at| self.package(*at).architecture == wanted)
        };
        match architecture {
            Some("any") | None => of(&self.native)
                .or_else(|| of("all"))
                .or_else(|| known.first().copied()),
            Some(architecture) => of(architecture),
        }
    }

    fn read_info(&mut self) -> Result<()> {
        let info = fixed(INFO)?;
        let names = self
            .draft
            .read_dir(&info)?
            .ok_or_else(|| located(Error::corrupt("dpkg's info folder is missing"), &info))?;
        for name in names {
            let Ok(name) = String::from_utf8(name) else {
                continue;
            };
            if let Some((package, kind)) = name.rsplit_once('.') {
                self.info
                    .entry(package.to_owned())
                    .or_default()
                    .insert(kind.to_owned());
            }
        }
        for at in 0..self.packages.len() {
            let package = self.package(at);
            let name = package.info_name();
            let may_have = package.status.state >= State::ConfigFiles;
            if !may_have
                || !self
                    .info
                    .get(&name)
                    .is_some_and(|kinds| kinds.contains("list"))
            {
                continue;
            }
            let bytes = read(self.draft, &format!("{INFO}/{name}.list"))?;
            self.files.read_list(at, &bytes)?;
        }
        Ok(())
    }

    /// Reads what maintainer scripts can change: diversions, overrides, accounts.
    pub(super) fn reload_rules(&mut self) -> Result<()> {
        self.diversions = Diversions::parse(&read(self.draft, &format!("{ADMIN}/diversions"))?)?;
        self.users = Accounts::parse(&read(self.draft, "/etc/passwd")?);
        self.groups = Accounts::parse(&read(self.draft, "/etc/group")?);
        self.overrides = StatOverrides::parse(
            &read(self.draft, &format!("{ADMIN}/statoverride"))?,
            &self.users,
            &self.groups,
        )?;
        Ok(())
    }

    fn read_filters(&mut self) -> Result<()> {
        let folder = fixed("/etc/dpkg/dpkg.cfg.d")?;
        let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
        for name in self.draft.read_dir(&folder)?.unwrap_or_default() {
            if !name.is_empty() && name.iter().all(valid) {
                let path = folder
                    .join(&name)
                    .map_err(|error| Error::corrupt("a bad name in a directory").because(error))?;
                let bytes = self.draft.read(&path, MAX_FILE)?.unwrap_or_default();
                self.filters.add_file(&bytes);
            }
        }
        self.filters
            .add_file(&read(self.draft, "/etc/dpkg/dpkg.cfg")?);
        Ok(())
    }

    fn read_triggers(&mut self) -> Result<()> {
        let folder = format!("{ADMIN}/triggers");
        self.interests
            .read_files(&read(self.draft, &format!("{folder}/File"))?)?;
        for name in self.draft.read_dir(&fixed(&folder)?)?.unwrap_or_default() {
            if let Ok(name) = std::str::from_utf8(&name)
                && trigger::is_trigger_name(name)
            {
                let bytes = read(self.draft, &format!("{folder}/{name}"))?;
                self.interests.read_named(name, &bytes)?;
            }
        }
        let waiting = trigger::unincorporated(&read(self.draft, &format!("{folder}/Unincorp"))?)?;
        for (trigger, by) in waiting {
            self.incorporated = true;
            for by in by {
                let by = by.and_then(|name| self.find(&name));
                self.activate(&trigger, by);
            }
        }
        self.saved.clear();
        Ok(())
    }

    /// Puts a file of the database.
    pub(super) fn put(&mut self, path: &str, bytes: Vec<u8>) -> Result<()> {
        let attributes = self.plain(0o644);
        self.draft.put(
            &fixed(path)?,
            DraftNode::File(Content::bytes(bytes)),
            attributes,
        )
    }

    /// Removes a file of the database, if it is there.
    pub(super) fn remove_if_there(&mut self, path: &str) -> Result<()> {
        let path = fixed(path)?;
        if self.draft.get(&path, Follow::No)?.is_some() {
            self.draft.remove(&path)?;
        }
        Ok(())
    }

    /// Writes `status` (the old one stays as `status-old`), the triggers and the log.
    ///
    /// # Errors
    /// The filesystem's; `Limit` for a log of more than 256 MiB.
    pub fn finish(mut self) -> Result<()> {
        let mut order: Vec<usize> = (0..self.packages.len()).collect();
        order.sort_by(|a, b| {
            let (a, b) = (self.package(*a), self.package(*b));
            (&a.name, &a.architecture).cmp(&(&b.name, &b.architecture))
        });
        let mut text = Vec::new();
        for at in order {
            let package = self.package(at);
            // What disappeared leaves no record.
            if package.is_touched() && package.status.state == State::NotInstalled {
                continue;
            }
            text.extend(package.paragraph(|at| {
                let awaited = self.package(at);
                info_name(&awaited.name, &awaited.architecture, awaited.same)
            }));
            text.push(b'\n');
        }
        let status = fixed(&format!("{ADMIN}/status"))?;
        let old = fixed(&format!("{ADMIN}/status-old"))?;
        self.remove_if_there(&format!("{ADMIN}/status-old"))?;
        self.draft.link(&status, &old)?;
        self.put(&format!("{ADMIN}/status"), text)?;
        self.write_triggers()?;
        self.write_log()
    }

    fn write_triggers(&mut self) -> Result<()> {
        let folder = format!("{ADMIN}/triggers");
        if self.interests.files_changed {
            let text = self.interests.files_text();
            self.put(&format!("{folder}/File"), text)?;
        }
        let changed: BTreeSet<String> = self.interests.named_changed.clone();
        for name in changed {
            match self.interests.named_text(&name) {
                Some(text) => self.put(&format!("{folder}/{name}"), text)?,
                None => self.remove_if_there(&format!("{folder}/{name}"))?,
            }
        }
        if self.incorporated {
            self.put(&format!("{folder}/Unincorp"), Vec::new())?;
        }
        Ok(())
    }

    fn write_log(&mut self) -> Result<()> {
        let path = fixed("/var/log/dpkg.log")?;
        let Ok(place) = self.draft.place(&path, Follow::Links) else {
            // A guest without /var/log keeps no log.
            return Ok(());
        };
        let standing = self.draft.get(&place, Follow::No)?;
        let mut text = self.draft.read(&place, MAX_LOG)?.unwrap_or_default();
        text.extend_from_slice(self.log.text().as_bytes());
        match standing {
            Some(standing) => {
                let mut attributes = standing.attributes;
                attributes.mtime = self.options.now;
                self.draft.set_content(&place, Content::bytes(text))?;
                self.draft.set_attributes(&place, attributes)
            }
            None => {
                let attributes = self.plain(0o644);
                self.draft
                    .put(&place, DraftNode::File(Content::bytes(text)), attributes)
            }
        }
    }
}
