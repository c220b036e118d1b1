//! What is to be done to a machine that must not be touched while it sleeps, once it is restored or resumed.
//!
//! A suspended machine's memory holds its disk's state; a change behind its back would corrupt both. So the plan travels
//! beside it: as a fact, as a page, as a POSIX script that works from a folder of package files without any network, and
//! as what cloud-init and Ansible run.

mod ansible;
mod bundle;
mod cloud_init;
mod cost;
mod kernel;
mod page;
mod route;
mod script;
mod services;

use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::{Digest, Error, ErrorKind, Locator, Result};
use dormouse_filesystem::Guest;
use dormouse_packages::dpkg::Database;
use dormouse_policy::window::SlotFact;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use bundle::{
    BUNDLE_LABEL, Bundle, BundleFile, BundledPlan, DISPATCHER, MANIFEST, MANIFEST_SEAL,
};
pub use cost::Cost;
pub use kernel::{DiskKernel, KernelRelation, WokenKernel};
pub use route::{Circumstances, Route, RouteName, Sleep, Standing};

use crate::dpkg::fixed;
use crate::fix::PlannedFix;
use crate::plan::{Blocked, Plan, PlannedPackage};
use script::check_word;

/// The plan for one restore point that must not be edited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CatchUp {
    /// [`CatchUp::SCHEMA`].
    pub schema: String,
    /// Which machine and restore point.
    pub at: Locator,
    /// The machine's own id (`/etc/machine-id`), where it has one: by it a bundle knows which plan is whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// The instant planned for.
    pub as_of: Timestamp,
    /// Why it must not be touched, one clause each.
    pub untouchable: Vec<String>,
    /// What is to be done, in that order; each step may be begun again.
    pub steps: Vec<CatchUpStep>,
    /// What must hold afterwards.
    pub checks: Vec<Check>,
    /// What was asked for and cannot be had.
    pub blocked: Vec<Blocked>,
    /// The kernel that it wakes with, beside the one that its disk starts, where its memory says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<WokenKernel>,
    /// When it may be done, and by when it must be.
    pub when: When,
    /// What it takes.
    pub cost: Cost,
    /// The ways there are to bring the machine up to date, this plan's own first.
    pub routes: Vec<Route>,
    /// Which of them to take.
    pub recommended: Recommended,
}

/// When a catch-up may be done, and by when it must be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct When {
    /// Why not at the instant planned for, where its change windows or its turn forbid it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_now: Option<String>,
    /// The next times in which it may be changed; none where it may be at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<SlotFact>,
    /// The first deadline of its findings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// That the deadline is over before the machine may be changed, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<String>,
}

/// The route to take, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recommended {
    /// Which.
    pub route: RouteName,
    /// Why, in one clause.
    pub because: String,
}

/// One step of a catch-up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step", deny_unknown_fields)]
pub enum CatchUpStep {
    /// Look for signs of an intrusion before anything is changed.
    ForensicTriage {
        /// The findings that ask for it, one clause each.
        because: Vec<String>,
    },
    /// Keep the saved memory as it is: it is evidence of what the machine did before.
    PreserveMemory {
        /// What there is.
        note: String,
    },
    /// Keep the network away until all is done.
    IsolateNetwork,
    /// Install a package file from the bundle, once the digests of all of them were checked.
    Install {
        /// `name:architecture`.
        package: String,
        /// The version there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// The version to come.
        to: String,
        /// The file's name in the bundle.
        file: String,
        /// Its digest.
        payload: Digest,
        /// Its bytes.
        size: u64,
    },
    /// Make a fix beyond packages, once they are there.
    Fix {
        /// Which.
        fix: PlannedFix,
    },
    /// Start services anew that have old files loaded.
    RestartServices {
        /// The units.
        units: BTreeSet<String>,
    },
    /// Start the machine anew.
    Reboot {
        /// Why, one clause each.
        because: Vec<String>,
    },
    /// Let the network back.
    RestoreNetwork,
}

/// One thing that must hold after a catch-up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "check", deny_unknown_fields)]
pub enum Check {
    /// The package is installed and configured in that version or a later one.
    Installed {
        /// `name:architecture`.
        package: String,
        /// The version.
        version: String,
    },
    /// The fix would change nothing any more.
    Fixed {
        /// Its id.
        fix: String,
    },
    /// dpkg has nothing outstanding.
    NothingOutstanding,
}

/// What a catch-up plan is made of.
pub struct Wake<'a> {
    /// What an injection would do, could there be one.
    pub plan: &'a Plan,
    /// Why there can be none, one clause each.
    pub untouchable: Vec<String>,
    /// How it sleeps, and what could be done to its disk.
    pub circumstances: Circumstances,
    /// What is done beside the packages.
    pub manner: Manner,
    /// The kernel that it wakes with, where its memory says.
    pub kernel: Option<WokenKernel>,
    /// The guest as it is on disk.
    pub guest: &'a Guest,
    /// Its package database.
    pub database: &'a Database,
    /// When it may be done.
    pub when: When,
}

/// What a catch-up does beside installing packages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manner {
    /// The findings that ask for a look before anything is changed.
    pub triage: Vec<String>,
    /// Whether saved memory is kept.
    pub keep_memory: bool,
    /// Whether the network stays away until all is done.
    pub isolate: bool,
}

impl CatchUp {
    /// The schema that this version writes and reads.
    pub const SCHEMA: &'static str = "dormouse/catch-up/v2";

    /// Plans the catch-up.
    ///
    /// # Errors
    /// `Corrupt` for names that a script could not carry, and what reading the guest returns.
    pub fn make(wake: &Wake<'_>) -> Result<Self> {
        let plan = wake.plan;
        let mut steps = Vec::new();
        let mut checks = Vec::new();
        if !wake.manner.triage.is_empty() {
            steps.push(CatchUpStep::ForensicTriage {
                because: wake.manner.triage.clone(),
            });
        }
        if let Some(note) = wake.circumstances.sleep.memory_note()
            && wake.manner.keep_memory
        {
            steps.push(CatchUpStep::PreserveMemory { note });
        }
        let isolate = wake.manner.isolate && !plan.is_empty();
        if isolate {
            steps.push(CatchUpStep::IsolateNetwork);
        }
        let mut files = BTreeSet::new();
        for package in &plan.packages {
            let file = bundle_file(package);
            if !files.insert(file.clone()) {
                return Err(Error::corrupt(format!(
                    "two package files of one name: {file}"
                )));
            }
            let (step, check) = install(package, file)?;
            steps.push(step);
            checks.push(check);
        }
        for fix in &plan.fixes {
            steps.push(CatchUpStep::Fix { fix: fix.clone() });
            checks.push(Check::Fixed {
                fix: fix.id.clone(),
            });
        }
        checks.push(Check::NothingOutstanding);
        let mut because = plan.reboot.clone();
        because.extend(wake.kernel.as_ref().and_then(WokenKernel::restart_reason));
        let reboots = !because.is_empty();
        if reboots {
            steps.push(CatchUpStep::Reboot { because });
        } else if !plan.is_empty() {
            let units = services::services(wake)?;
            if !units.is_empty() {
                steps.push(CatchUpStep::RestartServices { units });
            }
            if isolate {
                steps.push(CatchUpStep::RestoreNetwork);
            }
        }
        let cost = Cost::of(plan, reboots);
        let (routes, recommended) = route::routes(wake, &cost, reboots);
        Ok(Self {
            schema: Self::SCHEMA.to_owned(),
            at: plan.at.clone(),
            machine_id: machine_id(wake.guest)?,
            as_of: plan.as_of,
            untouchable: wake.untouchable.clone(),
            steps,
            checks,
            blocked: plan.blocked.clone(),
            kernel: wake.kernel.clone(),
            when: wake.when.clone(),
            cost,
            routes,
            recommended,
        })
    }

    /// The files that the bundle must hold, by name.
    #[must_use]
    pub fn bundle(&self) -> BTreeMap<&str, Digest> {
        self.steps
            .iter()
            .filter_map(|step| match step {
                CatchUpStep::Install { file, payload, .. } => Some((file.as_str(), *payload)),
                _ => None,
            })
            .collect()
    }

    /// Why it ends in a restart, one clause each; empty where it does not.
    #[must_use]
    pub fn reboot(&self) -> &[String] {
        self.steps
            .iter()
            .find_map(|step| match step {
                CatchUpStep::Reboot { because } => Some(because.as_slice()),
                _ => None,
            })
            .unwrap_or_default()
    }

    /// The digest by which its script and the record of it in the guest name this plan.
    ///
    /// # Errors
    /// Never for a plan that was made.
    pub fn digest(&self) -> Result<Digest> {
        let json = serde_json::to_vec(self)
            .map_err(|error| Error::corrupt("a plan that cannot be written").because(error))?;
        Ok(Digest::of(json))
    }
}

fn install(package: &PlannedPackage, file: String) -> Result<(CatchUpStep, Check)> {
    let name = format!("{}:{}", package.name, package.architecture);
    for text in [&name, &package.version, &file]
        .into_iter()
        .chain(package.installed.as_ref())
    {
        check_word(text)?;
    }
    let check = Check::Installed {
        package: name.clone(),
        version: package.version.clone(),
    };
    let step = CatchUpStep::Install {
        package: name,
        from: package.installed.clone(),
        to: package.version.clone(),
        file,
        payload: package.payload,
        size: package.size,
    };
    Ok((step, check))
}

/// The file's name in the bundle.
#[must_use]
pub fn bundle_file(package: &PlannedPackage) -> String {
    let last = package.filename.rsplit('/').next().unwrap_or_default();
    if last.ends_with(".deb") && check_word(last).is_ok() {
        return last.to_owned();
    }
    let version = package.version.replace(':', "%3a");
    format!("{}_{version}_{}.deb", package.name, package.architecture)
}

/// The machine's own id: 32 hexadecimal digits, as machine-id(5) says; templates have none, or `uninitialized`.
fn machine_id(guest: &Guest) -> Result<Option<String>> {
    let bytes = match guest.read(&fixed("/etc/machine-id")?, MAX_MACHINE_ID) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        // Whatever that is, it is no id.
        Err(error) if error.kind() == ErrorKind::Limit => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&bytes);
    let id = text.trim();
    let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    Ok(is_id.then(|| id.to_ascii_lowercase()))
}

/// Largest `/etc/machine-id` read, in bytes.
const MAX_MACHINE_ID: u64 = 4096;
