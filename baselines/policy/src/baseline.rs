//! What is demanded of machines, as a TOML file that people write.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dormouse_advisories::Trust;
use dormouse_block::{Digest, Error, Result};
use dormouse_packages::dpkg::{Constraint, Relation, is_package_name};
use dormouse_packages::{OsRelease, Probe};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use crate::estate::{CATEGORY, TENANT, bad_toml, line_with, read_text};
use crate::{
    AcceptedGap, CveGate, Deadlines, FileCheck, Fix, Glob, Phased, Pin, Preferences, Scope,
    SettingCheck, Until, Verdict, Waiver, Waking,
};

/// Largest baseline file read, in bytes.
const MAX_BASELINE: u64 = 4 << 20;

/// Fixes of one baseline.
const MAX_FIXES: usize = 256;

/// A baseline. Unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Baseline {
    /// Its name, for reports.
    pub name: String,
    /// What it is for, for people.
    #[serde(default)]
    pub description: String,
    /// The machines that it is for.
    #[serde(default)]
    pub applies_to: AppliesTo,
    /// The instant to judge at, for a baseline that is frozen; else the run's own.
    #[serde(default)]
    pub as_of: Option<Until>,
    /// Suites whose newest version of each installed package is demanded. `{codename}` and `{version}` stand for the
    /// guest's own.
    #[serde(default)]
    pub suites: Vec<String>,
    /// What to make of installed packages that no given repository knows.
    #[serde(default)]
    pub unknown_packages: UnknownPackages,
    /// Which upgrades are demanded and how they are chosen.
    #[serde(default)]
    pub upgrades: Upgrades,
    /// What is made of vendors' advisories.
    #[serde(default)]
    pub advisories: AdvisoryRule,
    /// What is believed of single repositories, and why.
    #[serde(default, rename = "repository")]
    pub repositories: Vec<RepositoryTrust>,
    /// Priorities of versions; the first that matches counts.
    #[serde(default, rename = "pin")]
    pub pins: Vec<Pin>,
    /// The earliest version allowed of a package, where it is installed.
    #[serde(default, deserialize_with = "minimum_versions")]
    pub minimum_versions: BTreeMap<String, String>,
    /// Packages that must be there.
    #[serde(default)]
    pub required: Vec<Required>,
    /// Packages that must not be there.
    #[serde(default)]
    pub forbidden: Vec<Forbidden>,
    /// Findings that do not count, each with its reason and end.
    #[serde(default, rename = "waiver")]
    pub waivers: Vec<Waiver>,
    /// Gaps that do not count, each with its reason and end.
    #[serde(default, rename = "accepted-gap")]
    pub accepted_gaps: Vec<AcceptedGap>,
    /// CVEs that must not be open.
    #[serde(default, rename = "gate")]
    pub gates: Vec<CveGate>,
    /// Files, and how they must be.
    #[serde(default, rename = "file")]
    pub files: Vec<FileCheck>,
    /// Settings, and how they must be.
    #[serde(default, rename = "setting")]
    pub settings: Vec<SettingCheck>,
    /// Changes of files that mend what no package does.
    #[serde(default, rename = "fix")]
    pub fixes: Vec<Fix>,
    /// Until when findings may stay.
    #[serde(default)]
    pub deadlines: Deadlines,
    /// How machines that must not be touched while they sleep are woken.
    #[serde(default)]
    pub waking: Waking,
    /// Whether findings within their deadlines do not fail the gate.
    #[serde(default)]
    pub fail_on_overdue_only: bool,
    /// The verdicts that fail the gate.
    #[serde(default = "default_fail_on")]
    pub fail_on: BTreeSet<Verdict>,
    /// Digest of the file.
    #[serde(skip)]
    digest: Option<Digest>,
}

/// Which upgrades are demanded and how they are chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Upgrades {
    /// What of the demanded suites is demanded; everything where empty.
    #[serde(default)]
    pub only: BTreeSet<Scope>,
    /// What to make of updates that are still being phased in.
    #[serde(default)]
    pub phased: Phased,
}

/// What is made of vendors' advisories.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct AdvisoryRule {
    /// Whether a version that an advisory mends is demanded for itself; gates may be all that is wanted.
    pub demanded: bool,
    /// Days from its own date on after which a feed is too old to judge by.
    pub stale_after_days: u16,
    /// What to make of what no version mends yet.
    pub unfixed: UnfixedCves,
}

impl Default for AdvisoryRule {
    fn default() -> Self {
        Self {
            demanded: true,
            stale_after_days: 7,
            unfixed: UnfixedCves::default(),
        }
    }
}

/// What to make of what no version mends yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnfixedCves {
    /// It is listed.
    #[default]
    Note,
    /// It is a finding.
    Fail,
}

/// What a user says of one repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RepositoryTrust {
    /// The name of its folder.
    pub name: String,
    /// Fingerprints of the only keys that count for it; every key of the keyring where empty.
    #[serde(default)]
    pub signed_by: BTreeSet<String>,
    /// Digests of unsigned Release files, or of indices in a folder without one, that are believed all the same.
    #[serde(default)]
    pub trusted: BTreeSet<Digest>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Which machines a baseline is for: those that match all of what is given, each by any of its entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AppliesTo {
    /// `ID` of os-release, such as `debian`.
    #[serde(default)]
    pub os: Vec<String>,
    /// `VERSION_ID`, such as `12`.
    #[serde(default)]
    pub version: Vec<String>,
    /// `VERSION_CODENAME`, such as `bookworm`.
    #[serde(default)]
    pub codename: Vec<String>,
    /// Patterns over the label `category`.
    #[serde(default)]
    pub category: Vec<Glob>,
    /// Patterns over the label `tenant`.
    #[serde(default)]
    pub tenant: Vec<Glob>,
    /// Patterns over machines' names.
    #[serde(default)]
    pub machines: Vec<Glob>,
    /// Labels that the machine must have, with patterns over their values.
    #[serde(default)]
    pub labels: BTreeMap<String, Glob>,
}

impl AppliesTo {
    /// Why it does not select a machine; `None` when it does.
    pub(crate) fn why_not_for(
        &self,
        machine: &str,
        os: Option<&OsRelease>,
        labels: &BTreeMap<String, String>,
    ) -> Option<String> {
        let wanted = self;
        let text = |part: Option<&String>| part.cloned().unwrap_or_default();
        let id = os.map(|os| os.id.clone()).unwrap_or_default();
        let version = text(os.and_then(|os| os.version_id.as_ref()));
        let codename = text(os.and_then(|os| os.version_codename.as_ref()));
        for (what, list, have) in [
            ("operating system", &wanted.os, id),
            ("version", &wanted.version, version),
            ("codename", &wanted.codename, codename),
        ] {
            if !list.is_empty() && !list.contains(&have) {
                let have = if have.is_empty() { "not known" } else { &have };
                return Some(format!("its {what} is {have}, not {}", list.join(" or ")));
            }
        }
        for (label, globs) in [(CATEGORY, &wanted.category), (TENANT, &wanted.tenant)] {
            let value = labels.get(label);
            let fits = |value: &String| globs.iter().any(|glob| glob.matches(value));
            if !globs.is_empty() && !value.is_some_and(fits) {
                let have = value.map_or("not known", String::as_str);
                return Some(format!("its {label} is {have}"));
            }
        }
        if !wanted.machines.is_empty() && !wanted.machines.iter().any(|glob| glob.matches(machine))
        {
            return Some("no pattern matches its name".into());
        }
        for (label, glob) in &wanted.labels {
            match labels.get(label) {
                Some(value) if glob.matches(value) => {}
                Some(value) => return Some(format!("its label {label} is {value}, not {glob}")),
                None => return Some(format!("it has no label {label}")),
            }
        }
        None
    }
}

/// What to make of installed packages that no given repository knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownPackages {
    /// They are listed.
    #[default]
    Note,
    /// They are findings.
    Fail,
}

/// A package that must be installed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Required {
    /// Its name.
    #[serde(deserialize_with = "package_name")]
    pub package: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// A package that must not be installed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Forbidden {
    /// A pattern over names.
    pub package: Glob,
    /// The versions forbidden, such as `<< 1.2-3`; absent means all.
    #[serde(default, deserialize_with = "version_range")]
    pub versions: Option<Constraint>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

fn default_fail_on() -> BTreeSet<Verdict> {
    BTreeSet::from([Verdict::NonCompliant])
}

pub(crate) fn package_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if is_package_name(&name) {
        Ok(name)
    } else {
        Err(serde::de::Error::custom(format!(
            "{name:?} is no package name"
        )))
    }
}

/// Versions of any family: what each of them means is that of the package it is held against.
fn minimum_versions<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let versions = BTreeMap::<String, AnyVersion>::deserialize(deserializer)?;
    match versions.keys().find(|name| !is_package_name(name)) {
        Some(name) => Err(serde::de::Error::custom(format!(
            "{name:?} is no package name"
        ))),
        None => Ok(versions
            .into_iter()
            .map(|(name, AnyVersion(version))| (name, version))
            .collect()),
    }
}

/// A version that some family may have.
struct AnyVersion(String);

impl<'de> Deserialize<'de> for AnyVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let version = String::deserialize(deserializer)?;
        let odd = |character: char| !character.is_ascii_graphic();
        if version.is_empty() || version.contains(odd) {
            return Err(serde::de::Error::custom(format!(
                "{version:?} is no version: empty, or with a character that none has"
            )));
        }
        Ok(Self(version))
    }
}

/// Reads `<< 1.2-3` and the like, as relations write them.
pub(crate) fn version_range<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Constraint>, D::Error> {
    let text = String::deserialize(deserializer)?;
    range_of(&text).map(Some).map_err(serde::de::Error::custom)
}

/// Reads several of them, all of which a version must be within.
pub(crate) fn version_ranges<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Constraint>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let ranges = texts.iter().map(|text| range_of(text));
    ranges
        .collect::<Result<_, _>>()
        .map_err(serde::de::Error::custom)
}

fn range_of(text: &str) -> Result<Constraint, String> {
    let has_operator = text.trim_start().starts_with(['<', '=', '>']);
    let constraint = Relation::parse_all(&format!("package ({text})"))
        .ok()
        .filter(|_| has_operator && !text.contains([',', '|', '(', ')']))
        .and_then(|relations| {
            relations
                .first()?
                .alternatives()
                .first()?
                .constraint
                .clone()
        });
    constraint.ok_or_else(|| format!("{text:?} is no range of versions such as \"<< 1.2-3\""))
}

/// A commented baseline that says all that can be said, and demands the security suite of Debian machines.
#[must_use]
pub fn default_baseline() -> &'static str {
    include_str!("../../definitions/debian-security.toml")
}

/// The shipped baselines by name.
#[rustfmt::skip]
pub static SHIPPED: &[(&str, &str)] = &[
    ("debian-security", include_str!("../../definitions/debian-security.toml")),
    ("monthly-quarterly", include_str!("../../definitions/monthly-quarterly.toml")),
    ("cisa-bod-26-04", include_str!("../../definitions/cisa-bod-26-04.toml")),
    ("fedramp-2026-class-b", include_str!("../../definitions/fedramp-2026-class-b.toml")),
    ("fedramp-2026-class-c", include_str!("../../definitions/fedramp-2026-class-c.toml")),
    ("fedramp-2026-class-d", include_str!("../../definitions/fedramp-2026-class-d.toml")),
    ("fedramp-rev5-legacy", include_str!("../../definitions/fedramp-rev5-legacy.toml")),
    ("pci-dss-6.3.3", include_str!("../../definitions/pci-dss-6.3.3.toml")),
    ("cis-7.3-7.4", include_str!("../../definitions/cis-7.3-7.4.toml")),
];

impl Baseline {
    /// Reads a baseline's text.
    ///
    /// # Errors
    /// `Corrupt`, naming line and key, for text that is no TOML, an unknown key, a bad value, or two waivers of one id.
    pub fn parse(text: &str) -> Result<Self> {
        let mut baseline: Self =
            toml::from_str(text).map_err(|error| bad_toml(text, "the baseline", &error))?;
        if let Some(like) = &baseline.deadlines.like {
            let shipped = SHIPPED.iter().find(|(name, _)| name == like);
            let other = shipped.map(|(_, text)| Self::parse(text)).transpose()?;
            let Some(other) = other.filter(|other| !other.deadlines.rules.is_empty()) else {
                let place = line_with(text, like)
                    .map(|line| format!("line {line} of "))
                    .unwrap_or_default();
                return Err(Error::corrupt(format!(
                    "{place}the baseline: deadlines.like: there is no shipped baseline {like:?} with deadlines"
                )));
            };
            baseline.deadlines.follow(other.deadlines);
        }
        if let Some((id, why)) = baseline.why_bad() {
            let place = line_with(text, &id)
                .map(|line| format!("line {line} of "))
                .unwrap_or_default();
            return Err(Error::corrupt(format!("{place}the baseline: {why}")));
        }
        baseline.digest = Some(Digest::of(text));
        Ok(baseline)
    }

    /// The id of what is wrong, and why, of what no single value shows.
    fn why_bad(&self) -> Option<(String, String)> {
        let mut ids = BTreeSet::new();
        let accepted = self.accepted_gaps.iter().map(|gap| &gap.id);
        for id in self.waivers.iter().map(|waiver| &waiver.id).chain(accepted) {
            if !ids.insert(id) {
                return Some((id.clone(), format!("two waivers with the id {id:?}")));
            }
        }
        let mut ids = BTreeSet::new();
        let files = self.files.iter().map(|check| &check.id);
        let settings = self.settings.iter().map(|check| &check.id);
        let gates = self.gates.iter().map(|gate| &gate.id);
        let fixes = self.fixes.iter().map(|fix| &fix.id);
        for id in files.chain(settings).chain(gates).chain(fixes) {
            if id.trim().is_empty() {
                return Some((id.clone(), "a check or fix with an empty `id`".into()));
            }
            if !ids.insert(id) {
                return Some((id.clone(), format!("two checks with the id {id:?}")));
            }
        }
        let waivers = self.waivers.iter().map(|one| (&one.id, one.why_bad()));
        let gates = self.gates.iter().map(|one| (&one.id, one.why_bad()));
        let settings = self.settings.iter().map(|one| (&one.id, one.why_bad()));
        let fixes = self.fixes.iter().map(|one| (&one.id, one.why_bad()));
        for (id, why) in waivers.chain(gates).chain(settings).chain(fixes) {
            if let Some(why) = why {
                return Some((id.clone(), why));
            }
        }
        if self.fixes.len() > MAX_FIXES {
            return Some((String::new(), "more than 256 fixes".into()));
        }
        if let Some(why) = self.deadlines.why_bad() {
            let last = self.deadlines.rules.last().map(|rule| rule.id.clone());
            return Some((last.unwrap_or_default(), why));
        }
        let dated = !self.deadlines.rules.is_empty() || self.deadlines.like.is_some();
        (self.fail_on_overdue_only && !dated).then(|| {
            let why = "fail-on-overdue-only wants deadlines, and there are none";
            (String::new(), why.to_owned())
        })
    }

    /// What it wants to know of a guest's files and settings.
    #[must_use]
    pub fn probes(&self) -> BTreeSet<Probe> {
        let files = self.files.iter().map(FileCheck::probe);
        files
            .chain(self.settings.iter().map(SettingCheck::probe))
            .chain(self.fixes.iter().flat_map(Fix::probes))
            .collect()
    }

    /// Reads a baseline's file.
    ///
    /// # Errors
    /// The host's, `Limit` for more than 4 MiB, otherwise as [`Baseline::parse`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_text(path, "a baseline", MAX_BASELINE)?;
        Self::parse(&text).map_err(|error| error.in_file(path.display()))
    }

    /// A shipped baseline.
    ///
    /// # Errors
    /// As [`Baseline::parse`], which the tests rule out.
    pub fn shipped(name: &str) -> Result<Option<Self>> {
        let found = SHIPPED.iter().find(|(known, _)| *known == name);
        found.map(|(_, text)| Self::parse(text)).transpose()
    }

    /// Digest of the text that it was read from.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Its pins.
    #[must_use]
    pub fn preferences(&self) -> Preferences {
        Preferences::new(self.pins.clone())
    }

    /// What it says of the repository whose folder has this name.
    #[must_use]
    pub fn trust(&self, name: &str) -> Trust {
        let mut trust = Trust::default();
        for one in self.repositories.iter().filter(|one| one.name == name) {
            let fingerprints = one.signed_by.iter().map(|text| text.to_ascii_uppercase());
            trust.signed_by.extend(fingerprints);
            trust.vouched.extend(&one.trusted);
        }
        trust
    }

    /// The instant to judge at, when the run's own is `as_of`. Repositories are to be opened at the same.
    #[must_use]
    pub fn instant(&self, as_of: Timestamp) -> Timestamp {
        self.as_of.map_or(as_of, Until::instant)
    }

    /// Why the baseline is not for a machine; `None` when it is.
    #[must_use]
    pub fn why_not_for(
        &self,
        machine: &str,
        os: Option<&OsRelease>,
        labels: &BTreeMap<String, String>,
    ) -> Option<String> {
        self.applies_to.why_not_for(machine, os, labels)
    }

    /// The suites demanded of a guest, each as the baseline writes it and as it is called; no name where the guest does
    /// not say what the baseline asks.
    pub(crate) fn suites_for(&self, os: Option<&OsRelease>) -> Vec<(String, Option<String>)> {
        let fill = |text: &str, mark: &str, value: Option<&String>| {
            if text.contains(mark) {
                value.map(|value| text.replace(mark, value))
            } else {
                Some(text.to_owned())
            }
        };
        let codename = os.and_then(|os| os.version_codename.as_ref());
        let version = os.and_then(|os| os.version_id.as_ref());
        let name = |text: &String| {
            fill(text, "{codename}", codename).and_then(|text| fill(&text, "{version}", version))
        };
        self.suites
            .iter()
            .map(|text| (text.clone(), name(text)))
            .collect()
    }
}
