//! What is to be done to one cold restore point, as a fact.

use std::collections::BTreeSet;

use dormouse_advisories::Suite;
use dormouse_block::{Digest, Error, Locator, Result};
use dormouse_scripts::Deferral;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::dpkg::{Configuring, ScriptRun, Triggered};
use crate::fix::PlannedFix;
use crate::resolve::{Only, Question, resolve};

/// The packages that one restore point is to get, in order, those that it cannot, and the fixes that come after them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Plan {
    /// [`Plan::SCHEMA`].
    pub schema: String,
    /// Which machine and restore point.
    pub at: Locator,
    /// The instant planned for.
    pub as_of: Timestamp,
    /// What was asked for.
    pub only: Only,
    /// What is to be unpacked, in that order.
    pub packages: Vec<PlannedPackage>,
    /// Edits of files beyond packages, made after them, in that order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixes: Vec<PlannedFix>,
    /// Whether all packages wait in the guest for its first boot, where its own dpkg installs them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_first_boot: bool,
    /// What was asked for and cannot be had.
    pub blocked: Vec<Blocked>,
    /// The suites that the packages come from, with their digests, and who signed them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suites: Vec<Suite>,
    /// Why the machine must be started anew for the new versions to be in use, one clause each; it sleeps, so it is.
    pub reboot: Vec<String>,
    /// Triggers that are processed, in order; present once they have been tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Triggered>,
    /// What is left for the first boot, in order; present once the packages' scripts have been tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_boot: Vec<FirstBootStep>,
    /// Bytes of the package files.
    pub payload_bytes: u64,
    /// Bytes that the packages say their files have.
    pub expected_bytes: u64,
}

/// One package of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlannedPackage {
    /// Its name.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// The version to come.
    pub version: String,
    /// The version there; absent for a new dependency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<String>,
    /// Whether it comes new and was not asked for, as apt marks what it installs for others' sake (`extended_states`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automatic: bool,
    /// Whether it was asked for, or comes along because another one needs it.
    pub requested: bool,
    /// Why it comes along, where it was not asked for, in one clause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Digest of the signed file of its suite, which is among [`Plan::suites`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Digest>,
    /// Digest of the index that it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Digest>,
    /// Its priority among the versions on offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// The package file's digest.
    pub payload: Digest,
    /// The package file's bytes.
    pub size: u64,
    /// KiB that it says its files have.
    pub installed_kib: u64,
    /// Where the package file is in its repository.
    pub filename: String,
    /// The suite that offers it.
    pub suite: String,
    /// Its source package.
    pub source: String,
    /// Packages of this plan (`name:architecture`) that must not stay behind when this one comes.
    pub needs: Vec<String>,
    /// What becomes of it, once its scripts have been tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// What becomes of its configuration, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured: Option<Configuring>,
    /// Each call of its scripts, likewise, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scripts: Vec<ScriptRun>,
}

impl PlannedPackage {
    /// `name:architecture` with `all` as the machine's own, as [`PlannedPackage::needs`] spells it.
    #[must_use]
    pub fn key(&self, native: &str) -> String {
        let architecture = if self.architecture == "all" {
            native
        } else {
            &self.architecture
        };
        format!("{}:{architecture}", self.name)
    }
}

/// What becomes of a planned package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", deny_unknown_fields)]
pub enum Decision {
    /// It is unpacked offline, and configured too where its scripts can be interpreted.
    Inject,
    /// Its package file waits in the guest and is installed at the first boot.
    Defer {
        /// Why, in one clause.
        why: String,
        /// The script's own reason, where it was a script.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        script: Option<Deferral>,
    },
    /// dpkg itself would refuse it; the guest keeps what it has.
    Refuse {
        /// Why, in one clause.
        why: String,
    },
}

/// A package that was asked for and cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Blocked {
    /// Its name.
    pub name: String,
    /// Its architecture; empty where it is not installed.
    pub architecture: String,
    /// The version there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<String>,
    /// The version it cannot have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
    /// What hinders it.
    pub hindrance: Hindrance,
    /// The chain of reasons, the root last.
    pub why: Vec<String>,
}

/// Kinds of hindrances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hindrance {
    /// The administrator holds it.
    Held,
    /// The distribution gives it to a part of all machines so far.
    Phased,
    /// It is not installed.
    NotInstalled,
    /// It does not go together with what must stay.
    Unsolvable,
    /// The repository names its package file and does not have it.
    NoPayload,
}

/// One thing left for the first boot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step", deny_unknown_fields)]
pub enum FirstBootStep {
    /// dpkg configures what is unpacked and processes triggers.
    Configure {
        /// The packages, `name:architecture`.
        packages: Vec<String>,
    },
    /// dpkg installs a package file that waits in the guest.
    Install {
        /// Its name.
        package: String,
        /// Its version.
        version: String,
        /// The package file's digest, which is checked again.
        payload: Digest,
    },
    /// The machine is to be started once more when the rest is done.
    Restart {
        /// Why, one clause each.
        why: Vec<String>,
    },
}

impl Plan {
    /// The schema that this version writes and reads.
    pub const SCHEMA: &'static str = "dormouse/plan/v1";

    /// Plans for one restore point.
    ///
    /// # Errors
    /// As [`resolve`].
    pub fn make(question: &Question<'_>, at: Locator, as_of: Timestamp) -> Result<Self> {
        let resolution = resolve(question)?;
        let sum = |add: fn(&PlannedPackage) -> u64| {
            resolution
                .packages
                .iter()
                .fold(0_u64, |sum, package| sum.saturating_add(add(package)))
        };
        Ok(Self {
            schema: Self::SCHEMA.to_owned(),
            at,
            as_of,
            only: question.only.clone(),
            payload_bytes: sum(|package| package.size),
            expected_bytes: sum(|package| package.installed_kib.saturating_mul(1024)),
            reboot: reboot_reasons(&resolution.packages),
            packages: resolution.packages,
            blocked: resolution.blocked,
            suites: resolution.suites,
            triggers: Vec::new(),
            first_boot: Vec::new(),
            fixes: Vec::new(),
            at_first_boot: false,
        })
    }

    /// A plan of fixes alone, which asks nothing of a package database.
    #[must_use]
    pub fn of_fixes(at: Locator, as_of: Timestamp, only: Only, fixes: Vec<PlannedFix>) -> Self {
        Self {
            schema: Self::SCHEMA.to_owned(),
            at,
            as_of,
            only,
            packages: Vec::new(),
            fixes,
            at_first_boot: false,
            blocked: Vec::new(),
            suites: Vec::new(),
            reboot: Vec::new(),
            triggers: Vec::new(),
            first_boot: Vec::new(),
            payload_bytes: 0,
            expected_bytes: 0,
        }
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.fixes.is_empty()
    }

    /// The digests of all package files.
    #[must_use]
    pub fn payloads(&self) -> BTreeSet<Digest> {
        self.packages
            .iter()
            .map(|package| package.payload)
            .collect()
    }

    /// Checks what a plan from outside must hold before it is followed.
    ///
    /// # Errors
    /// `Unsupported` for another schema.
    pub fn check(&self) -> Result<()> {
        check_schema(&self.schema, Self::SCHEMA)
    }
}

/// Refuses a fact of another schema.
pub(crate) fn check_schema(found: &str, known: &str) -> Result<()> {
    if found == known {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "a fact of schema {found}, not {known}"
    )))
}

/// Why a running machine would have to be started anew to use the new versions: its kernel, its C library, its init.
pub(crate) fn reboot_reasons(packages: &[PlannedPackage]) -> Vec<String> {
    let mut reasons = BTreeSet::new();
    for package in packages {
        let name = package.name.as_str();
        let why = if name.starts_with("linux-image-") {
            "the kernel"
        } else if matches!(name, "libc6" | "libc6-i386") {
            "the C library, which every process has loaded"
        } else if matches!(
            name,
            "systemd" | "systemd-sysv" | "sysvinit-core" | "libsystemd0"
        ) {
            "the init system"
        } else if matches!(name, "dbus" | "dbus-daemon" | "libdbus-1-3") {
            "the message bus, which cannot be restarted alone"
        } else if name.ends_with("-microcode") {
            "the processor's microcode"
        } else {
            continue;
        };
        reasons.insert(format!("{} {} is {why}", package.name, package.version));
    }
    reasons.into_iter().collect()
}
