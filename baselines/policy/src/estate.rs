//! The estate: who the machines are, when they may be changed, and in which order. A TOML file that people write.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dormouse_block::{Digest, Error, HostFile, Result, Source as _, read_vec_at};
use serde::Deserialize;

use crate::Glob;
use crate::stage::Stage;
use crate::window::{Blackout, Calendar, MachineZone, Window, named};

/// Largest estate file read, in bytes.
const MAX_ESTATE: u64 = 16 << 20;

/// The label of a machine's category.
pub const CATEGORY: &str = "category";
/// The label of a machine's tenant.
pub const TENANT: &str = "tenant";
/// The label of a machine's time zone.
pub const TIME_ZONE: &str = "time-zone";

/// An estate. Unknown keys are errors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Estate {
    /// What is said of machines: of several entries for one machine all count, the later before the earlier.
    #[serde(default, rename = "machine")]
    pub machines: Vec<MachineEntry>,
    /// The time zone of machines that say none; UTC unless said.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// When machines may be changed; one that no window is for may be at any time.
    #[serde(default, rename = "window")]
    pub windows: Vec<Window>,
    /// When no machine may be changed.
    #[serde(default, rename = "blackout")]
    pub blackouts: Vec<Blackout>,
    /// In which order categories take updates.
    #[serde(default, rename = "stage")]
    pub stages: Vec<Stage>,
    /// Digest of the file.
    #[serde(skip)]
    digest: Option<Digest>,
}

/// What is said of some machines.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MachineEntry {
    /// Patterns over their names.
    pub names: Vec<Glob>,
    /// Their category, such as `production`: the label `category`.
    #[serde(default)]
    pub category: Option<String>,
    /// Whose they are: the label `tenant`.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Their IANA time zone: the label `time-zone`.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// Any other labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// What is wrong with a TOML text, naming its line.
pub(crate) fn bad_toml(text: &str, what: &str, error: &toml::de::Error) -> Error {
    let line = error
        .span()
        .and_then(|span| text.get(..span.start))
        .map(|before| {
            let ends = before.bytes().filter(|&byte| byte == b'\n').count();
            ends.saturating_add(1)
        });
    let place = line
        .map(|line| format!("line {line} of "))
        .unwrap_or_default();
    Error::corrupt(format!("{place}{what}: {}", error.message()))
}

/// Reads a file of at most `most` bytes as text.
pub(crate) fn read_text(path: &Path, what: &str, most: u64) -> Result<String> {
    let file = HostFile::open(path)?;
    if file.len() > most {
        let limit = format!("{what} of more than {} MiB", most >> 20);
        return Err(Error::limit(limit).in_file(path.display()));
    }
    let len = usize::try_from(file.len()).map_err(|_| Error::limit("a file too large"))?;
    String::from_utf8(read_vec_at(&file, 0, len)?).map_err(|error| {
        Error::corrupt(format!("{what} is not UTF-8"))
            .because(error)
            .in_file(path.display())
    })
}

/// The last line that has a word in quotes: where of two the second stands.
pub(crate) fn line_with(text: &str, word: &str) -> Option<usize> {
    let quoted = [format!("\"{word}\""), format!("'{word}'")];
    let lines: Vec<_> = text.lines().collect();
    let has = |line: &&str| quoted.iter().any(|quoted| line.contains(quoted.as_str()));
    let last = lines.iter().rposition(has)?;
    Some(last.saturating_add(1))
}

/// A commented estate that says all that can be said.
#[must_use]
pub fn example_estate() -> &'static str {
    include_str!("../../definitions/estate.toml")
}

impl Estate {
    /// Reads an estate's text.
    ///
    /// # Errors
    /// `Corrupt`, naming line and key, for text that is no TOML, an unknown key, or a bad value.
    pub fn parse(text: &str) -> Result<Self> {
        let mut estate: Self =
            toml::from_str(text).map_err(|error| bad_toml(text, "the estate", &error))?;
        if let Some((id, why)) = estate.why_bad() {
            let place = line_with(text, &id)
                .map(|line| format!("line {line} of "))
                .unwrap_or_default();
            return Err(Error::corrupt(format!("{place}the estate: {why}")));
        }
        estate.digest = Some(Digest::of(text));
        Ok(estate)
    }

    /// Reads an estate's file.
    ///
    /// # Errors
    /// The host's, `Limit` for more than 16 MiB, otherwise as [`Estate::parse`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_text(path, "an estate", MAX_ESTATE)?;
        Self::parse(&text).map_err(|error| error.in_file(path.display()))
    }

    /// Digest of the text that it was read from.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What no single value shows to be wrong: a word of its line, and why.
    fn why_bad(&self) -> Option<(String, String)> {
        let zones = self
            .machines
            .iter()
            .filter_map(|one| one.time_zone.as_ref());
        for zone in zones.chain(&self.time_zone) {
            if let Err(why) = named(zone) {
                return Some((zone.clone(), why));
            }
        }
        let mut ids = BTreeSet::new();
        let windows = self.windows.iter().map(|one| &one.id);
        for id in windows.chain(self.blackouts.iter().map(|one| &one.id)) {
            if !ids.insert(id) {
                return Some((id.clone(), format!("two windows or blackouts named {id:?}")));
            }
        }
        if let Some(one) = self.blackouts.iter().find(|one| one.to < one.from) {
            let why = format!("the blackout {:?} ends before it begins", one.id);
            return Some((one.id.clone(), why));
        }
        let mut known: BTreeSet<&String> = BTreeSet::new();
        for stage in &self.stages {
            if let Some(after) = stage.after.as_ref().filter(|after| !known.contains(after)) {
                let why = format!(
                    "the stage {:?} comes after {after:?}, which is no stage before it",
                    stage.category
                );
                return Some((stage.category.clone(), why));
            }
            if !known.insert(&stage.category) {
                let why = format!("two stages of the category {:?}", stage.category);
                return Some((stage.category.clone(), why));
            }
        }
        None
    }

    /// The zone of a machine with these labels, whose own files say that they are in `guest`.
    #[must_use]
    pub fn zone(&self, labels: &BTreeMap<String, String>, guest: Option<&str>) -> MachineZone {
        let default = self
            .time_zone
            .as_deref()
            .and_then(|name| named(name).ok())
            .unwrap_or(jiff::tz::TimeZone::UTC);
        MachineZone::of(labels.get(TIME_ZONE).map(String::as_str), guest, &default)
    }

    /// When a machine may be changed.
    #[must_use]
    pub fn calendar(&self, machine: &str, guest_zone: Option<&str>) -> Calendar<'_> {
        let labels = self.labels(machine);
        let zone = self.zone(&labels, guest_zone).zone;
        Calendar::of(&self.windows, &self.blackouts, machine, &labels, zone)
    }

    /// The labels of a machine.
    #[must_use]
    pub fn labels(&self, machine: &str) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for entry in &self.machines {
            if !entry.names.iter().any(|glob| glob.matches(machine)) {
                continue;
            }
            labels.extend(entry.labels.clone());
            for (label, value) in [
                (CATEGORY, &entry.category),
                (TENANT, &entry.tenant),
                (TIME_ZONE, &entry.time_zone),
            ] {
                if let Some(value) = value {
                    labels.insert(label.to_owned(), value.clone());
                }
            }
        }
        labels
    }

    /// The categories that machines are given.
    #[must_use]
    pub fn categories(&self) -> BTreeSet<&str> {
        let entries = self.machines.iter();
        entries
            .filter_map(|entry| entry.category.as_deref())
            .collect()
    }
}
