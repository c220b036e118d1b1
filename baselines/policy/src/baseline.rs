//! What is demanded of machines, as a TOML file that people write.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dormouse_advisories::Trust;
use dormouse_block::{Digest, Error, HostFile, Result, Source as _, read_vec_at};
use dormouse_packages::OsRelease;
use dormouse_packages::dpkg::{Constraint, Relation, Version, is_package_name};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{AcceptedGap, Glob, Phased, Pin, Preferences, Scope, Until, Verdict, Waiver};

/// Largest baseline file read, in bytes.
const MAX_BASELINE: u64 = 4 << 20;

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
    pub minimum_versions: BTreeMap<String, Version>,
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
    /// Days from its own date on after which a feed is too old to judge by.
    pub stale_after_days: u16,
    /// What to make of what no version mends yet.
    pub unfixed: UnfixedCves,
}

impl Default for AdvisoryRule {
    fn default() -> Self {
        Self {
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
    /// Patterns over machines' names.
    #[serde(default)]
    pub machines: Vec<Glob>,
    /// Labels that the machine must have, with patterns over their values.
    #[serde(default)]
    pub labels: BTreeMap<String, Glob>,
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

fn package_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if is_package_name(&name) {
        Ok(name)
    } else {
        Err(serde::de::Error::custom(format!(
            "{name:?} is no package name"
        )))
    }
}

fn minimum_versions<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Version>, D::Error> {
    let versions = BTreeMap::<String, Version>::deserialize(deserializer)?;
    match versions.keys().find(|name| !is_package_name(name)) {
        Some(name) => Err(serde::de::Error::custom(format!(
            "{name:?} is no package name"
        ))),
        None => Ok(versions),
    }
}

/// Reads `<< 1.2-3` and the like, as relations write them.
pub(crate) fn version_range<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Constraint>, D::Error> {
    let text = String::deserialize(deserializer)?;
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
    match constraint {
        Some(constraint) => Ok(Some(constraint)),
        None => Err(serde::de::Error::custom(format!(
            "{text:?} is no range of versions such as \"<< 1.2-3\""
        ))),
    }
}

/// A commented baseline that says all that can be said, and demands the security suite of Debian machines.
#[must_use]
pub fn default_baseline() -> &'static str {
    include_str!("../../definitions/debian-security.toml")
}

/// The shipped baselines by name.
pub static SHIPPED: &[(&str, &str)] = &[(
    "debian-security",
    include_str!("../../definitions/debian-security.toml"),
)];

impl Baseline {
    /// Reads a baseline's text.
    ///
    /// # Errors
    /// `Corrupt`, naming line and key, for text that is no TOML, an unknown key, a bad value, or two waivers of one id.
    pub fn parse(text: &str) -> Result<Self> {
        let mut baseline: Self = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map(|before| {
                    before
                        .bytes()
                        .filter(|&byte| byte == b'\n')
                        .count()
                        .saturating_add(1)
                });
            let place = line
                .map(|line| format!("line {line} of "))
                .unwrap_or_default();
            Error::corrupt(format!("{place}the baseline: {}", error.message()))
        })?;
        let mut ids = BTreeSet::new();
        let accepted = baseline.accepted_gaps.iter().map(|gap| &gap.id);
        for id in baseline
            .waivers
            .iter()
            .map(|waiver| &waiver.id)
            .chain(accepted)
        {
            if !ids.insert(id.clone()) {
                return Err(Error::corrupt(format!(
                    "the baseline: two waivers with the id {id:?}"
                )));
            }
        }
        baseline.digest = Some(Digest::of(text));
        Ok(baseline)
    }

    /// Reads a baseline's file.
    ///
    /// # Errors
    /// The host's, `Limit` for more than 4 MiB, otherwise as [`Baseline::parse`].
    pub fn read(path: &Path) -> Result<Self> {
        let file = HostFile::open(path)?;
        if file.len() > MAX_BASELINE {
            return Err(Error::limit("a baseline of more than 4 MiB").in_file(path.display()));
        }
        let len = usize::try_from(file.len()).map_err(|_| Error::limit("a baseline too large"))?;
        let bytes = read_vec_at(&file, 0, len)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            Error::corrupt("the baseline is not UTF-8")
                .because(error)
                .in_file(path.display())
        })?;
        Self::parse(text).map_err(|error| error.in_file(path.display()))
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
        let wanted = &self.applies_to;
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
