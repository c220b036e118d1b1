//! What was done to one cold restore point, as a fact.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::{Digest, GuestPath, Locator};
use dormouse_filesystem::{NodeKind, Time};
use dormouse_packages::dpkg::Status;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::dpkg::{Configured, Configuring, ScriptRun, Triggered};
use crate::fix::{FixOutcome, InjectedFix};
use crate::plan::{Decision, FirstBootStep, Plan};

/// Every package and fix tried, and every path changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Injection {
    /// [`Injection::SCHEMA`].
    pub schema: String,
    /// Which machine and restore point it was made over.
    pub at: Locator,
    /// The time of every change.
    pub now: Timestamp,
    /// The packages of the plan, in its order.
    pub packages: Vec<InjectedPackage>,
    /// Packages not of the plan that were to be configured too: those that it had deconfigured or that an earlier
    /// injection had left unpacked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Configured>,
    /// Triggers that were to be processed, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Triggered>,
    /// The fixes of the plan, in its order, made after the packages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixes: Vec<InjectedFix>,
    /// What is left for the first boot, in order.
    pub first_boot: Vec<FirstBootStep>,
    /// Every path that was changed, free of symbolic links.
    pub paths: BTreeMap<GuestPath, PathChange>,
    /// What the package database says afterwards.
    pub inventory: BTreeSet<ExpectedPackage>,
    /// Bytes of all files put.
    pub bytes: u64,
}

impl Injection {
    /// The schema that this version writes and reads.
    pub const SCHEMA: &'static str = "dormouse/injection/v1";

    /// Those of them that are configured too, so that nothing is left of them for the first boot.
    pub fn configured(&self) -> impl Iterator<Item = &InjectedPackage> {
        self.injected()
            .filter(|package| package.configured == Some(Configuring::Done))
    }

    /// One of which nothing is known yet.
    pub(crate) fn of(plan: &Plan, now: Timestamp) -> Self {
        Self {
            schema: Self::SCHEMA.to_owned(),
            at: plan.at.clone(),
            now,
            packages: Vec::new(),
            others: Vec::new(),
            triggers: Vec::new(),
            fixes: Vec::new(),
            first_boot: Vec::new(),
            paths: BTreeMap::new(),
            inventory: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// What is left for the first boot, and why: packages and triggers.
    #[must_use]
    pub fn left(&self) -> Vec<(String, String)> {
        let why = |outcome: &Configuring| match outcome {
            Configuring::Left { why, .. } => Some(why.clone()),
            Configuring::Done => None,
        };
        let packages = self.packages.iter().filter_map(|package| {
            let why = match (&package.decision, &package.configured) {
                (Decision::Defer { why, .. }, _) => Some(why.clone()),
                (_, Some(outcome)) => why(outcome),
                _ => None,
            };
            Some((format!("{} {}", package.name, package.version), why?))
        });
        let others = self.others.iter().filter_map(|one| {
            Some((
                format!("{} {}", one.package, one.version),
                why(&one.outcome)?,
            ))
        });
        let triggers = self
            .triggers
            .iter()
            .filter_map(|one| Some((format!("triggers of {}", one.package), why(&one.outcome)?)));
        packages.chain(others).chain(triggers).collect()
    }

    /// Every call of a maintainer script, in the order of the packages, those of triggers last.
    pub fn scripts(&self) -> impl Iterator<Item = &ScriptRun> {
        let packages = self.packages.iter().flat_map(|package| &package.scripts);
        let others = self.others.iter().flat_map(|package| &package.scripts);
        let triggers = self
            .triggers
            .iter()
            .flat_map(|triggered| &triggered.scripts);
        packages.chain(others).chain(triggers)
    }

    /// The fixes that were made.
    pub fn fixed(&self) -> impl Iterator<Item = &InjectedFix> {
        self.fixes
            .iter()
            .filter(|fix| fix.outcome == FixOutcome::Made)
    }

    /// The packages that were unpacked.
    pub fn injected(&self) -> impl Iterator<Item = &InjectedPackage> {
        self.packages
            .iter()
            .filter(|package| package.decision == Decision::Inject)
    }
}

/// What became of one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InjectedPackage {
    /// Its name.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// The new version.
    pub version: String,
    /// The version before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<String>,
    /// The package file's digest.
    pub payload: Digest,
    /// What became of it.
    pub decision: Decision,
    /// What became of its configuration, where it was unpacked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured: Option<Configuring>,
    /// Its scripts in the order in which they were tried.
    pub scripts: Vec<ScriptRun>,
    /// Conffiles where the administrator's version stays and the new one is beside it as `.dpkg-dist`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<GuestPath>,
    /// Packages that it replaced altogether, so that they are no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disappeared: Vec<String>,
}

/// What was done at one path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "change", deny_unknown_fields)]
pub enum PathChange {
    /// What was there is gone.
    Removed,
    /// What was there has another mode, owner or time.
    Attributes {
        /// Permission, set-id and sticky bits.
        mode: u16,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Last change.
        mtime: Time,
        /// Digests of the values of its extended attributes, by name.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        xattrs: BTreeMap<String, Digest>,
    },
    /// Something new is there.
    Put {
        /// What it is.
        kind: NodeKind,
        /// Permission, set-id and sticky bits.
        mode: u16,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Last change.
        mtime: Time,
        /// Bytes of a file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// Digest of a file's bytes, or of a symbolic link's target.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
        /// The package file that it is from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payload: Option<Digest>,
        /// The other path that is the same node.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        same_as: Option<GuestPath>,
        /// Digests of the values of its extended attributes, by name.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        xattrs: BTreeMap<String, Digest>,
    },
}

/// Extended attributes as facts have them: names that are no UTF-8 are spelt with replacement characters.
pub(crate) fn xattr_digests(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> BTreeMap<String, Digest> {
    xattrs
        .iter()
        .map(|(name, value)| {
            let name = String::from_utf8_lossy(name).into_owned();
            (name, Digest::of(value))
        })
        .collect()
}

/// One package as the database has it afterwards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ExpectedPackage {
    /// Its name.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// Its version.
    pub version: String,
    /// Its status.
    pub status: Status,
}
