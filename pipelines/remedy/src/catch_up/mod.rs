//! What is to be done to a machine that must not be touched while it sleeps, once it is restored or resumed.
//!
//! A suspended machine's memory holds its disk's state; a change behind its back would corrupt both. So the plan travels
//! beside it: as a fact, and as a POSIX script that works from a folder of package files without any network.

mod kernel;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use dormouse_block::{Digest, Error, Locator, Result};
use dormouse_filesystem::Guest;
use dormouse_packages::dpkg::{Database, RelationField};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use kernel::{DiskKernel, KernelRelation, WokenKernel};

use crate::dpkg::fixed;
use crate::plan::{Blocked, Plan, PlannedPackage};

/// The script's fixed part.
const SCRIPT: &str = include_str!("catch-up.sh");
/// Largest list of a package's files read, in bytes.
const MAX_LIST: u64 = 64 << 20;

/// The plan for one restore point that must not be edited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CatchUp {
    /// [`CatchUp::SCHEMA`].
    pub schema: String,
    /// Which machine and restore point.
    pub at: Locator,
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
    /// By when it is to be done after the machine woke, where policy says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Bytes of the package files.
    pub payload_bytes: u64,
    /// Bytes that the packages say their files have.
    pub expected_bytes: u64,
}

/// One step of a catch-up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step", deny_unknown_fields)]
pub enum CatchUpStep {
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
    /// dpkg has nothing outstanding.
    NothingOutstanding,
}

/// What a catch-up plan is made of.
pub struct Wake<'a> {
    /// What an injection would do, could there be one.
    pub plan: &'a Plan,
    /// Why there can be none, one clause each.
    pub untouchable: Vec<String>,
    /// Bytes of memory saved with the point, where there is any.
    pub saved_memory: Option<u64>,
    /// The kernel that it wakes with, where its memory says.
    pub kernel: Option<WokenKernel>,
    /// The guest as it is on disk.
    pub guest: &'a Guest,
    /// Its package database.
    pub database: &'a Database,
    /// By when it is to be done, where policy says so.
    pub deadline: Option<Timestamp>,
}

impl CatchUp {
    /// The schema that this version writes and reads.
    pub const SCHEMA: &'static str = "dormouse/catch-up/v1";

    /// Plans the catch-up.
    ///
    /// # Errors
    /// `Corrupt` for names that a script could not carry, and what reading the guest returns.
    pub fn make(wake: &Wake<'_>) -> Result<Self> {
        let plan = wake.plan;
        let mut steps = Vec::new();
        if let Some(bytes) = wake.saved_memory {
            steps.push(CatchUpStep::PreserveMemory {
                note: format!(
                    "keep the {bytes} bytes of saved memory as they are until nobody needs them as evidence"
                ),
            });
        }
        let mut checks = Vec::new();
        if !plan.is_empty() {
            steps.push(CatchUpStep::IsolateNetwork);
        }
        let mut files = BTreeSet::new();
        for package in &plan.packages {
            let name = format!("{}:{}", package.name, package.architecture);
            let file = bundle_file(package);
            if !files.insert(file.clone()) {
                return Err(Error::corrupt(format!(
                    "two package files of one name: {file}"
                )));
            }
            for text in [&name, &package.version, &file]
                .into_iter()
                .chain(package.installed.as_ref())
            {
                check_word(text)?;
            }
            checks.push(Check::Installed {
                package: name.clone(),
                version: package.version.clone(),
            });
            steps.push(CatchUpStep::Install {
                package: name,
                from: package.installed.clone(),
                to: package.version.clone(),
                file,
                payload: package.payload,
                size: package.size,
            });
        }
        checks.push(Check::NothingOutstanding);
        let mut because = plan.reboot.clone();
        because.extend(wake.kernel.as_ref().and_then(WokenKernel::restart_reason));
        if !because.is_empty() {
            steps.push(CatchUpStep::Reboot { because });
        } else if !plan.is_empty() {
            let units = services(wake)?;
            if !units.is_empty() {
                steps.push(CatchUpStep::RestartServices { units });
            }
            steps.push(CatchUpStep::RestoreNetwork);
        }
        Ok(Self {
            schema: Self::SCHEMA.to_owned(),
            at: plan.at.clone(),
            as_of: plan.as_of,
            untouchable: wake.untouchable.clone(),
            steps,
            checks,
            blocked: plan.blocked.clone(),
            kernel: wake.kernel.clone(),
            deadline: wake.deadline,
            payload_bytes: plan.payload_bytes,
            expected_bytes: plan.expected_bytes,
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

    /// The script for the guest.
    ///
    /// # Errors
    /// `Corrupt` for names that a script could not carry, as a fact from outside may hold.
    pub fn script(&self) -> Result<String> {
        let mut packages = String::new();
        let mut upgrades = String::new();
        let mut services = String::new();
        let mut reasons = String::new();
        let mut isolate = false;
        for step in &self.steps {
            match step {
                CatchUpStep::Install {
                    package,
                    from,
                    to,
                    file,
                    payload,
                    size,
                } => {
                    for word in [package, to, file].into_iter().chain(from.as_ref()) {
                        check_word(word)?;
                    }
                    line(
                        &mut packages,
                        &format!("{} {size} {file} {package} {to}", payload.hex()),
                    )?;
                    if let Some(from) = from {
                        line(&mut upgrades, &format!("{package} {from} {to}"))?;
                    }
                }
                CatchUpStep::RestartServices { units } => {
                    for unit in units {
                        check_word(unit)?;
                        line(&mut services, unit)?;
                    }
                }
                CatchUpStep::Reboot { because } => {
                    for reason in because {
                        let plain: String = reason.chars().filter(|c| !c.is_control()).collect();
                        line(&mut reasons, &format!("- {plain}"))?;
                    }
                }
                CatchUpStep::IsolateNetwork => isolate = true,
                CatchUpStep::PreserveMemory { .. } | CatchUpStep::RestoreNetwork => {}
            }
        }
        let json = serde_json::to_vec(self)
            .map_err(|error| Error::corrupt("a plan that cannot be written").because(error))?;
        let mut out = String::from("#!/bin/sh\n");
        let word = |yes: bool| if yes { "yes" } else { "no" };
        let head = [
            ("plan", Digest::of(json).to_string()),
            ("isolate", word(isolate).to_owned()),
            ("reboot", word(!reasons.is_empty()).to_owned()),
        ];
        for (name, value) in head {
            line(&mut out, &format!("{name}={value}"))?;
        }
        for (name, text) in [
            ("list_packages", &packages),
            ("list_upgrades", &upgrades),
            ("list_services", &services),
            ("list_reasons", &reasons),
        ] {
            line(
                &mut out,
                &format!("{name}() {{\n  cat <<'END-OF-LIST'\n{text}END-OF-LIST\n}}"),
            )?;
        }
        out.push_str(SCRIPT);
        Ok(out)
    }
}

fn line(out: &mut String, text: &str) -> Result<()> {
    writeln!(out, "{text}")
        .map_err(|error| Error::corrupt("a script cannot be written").because(error))
}

/// A word that a shell list carries as it is.
fn check_word(word: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._:~@%".contains(&byte);
    if !word.is_empty() && !word.starts_with('-') && word.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "a word that a script cannot carry: {word:?}"
    )))
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

/// The services of the packages that are upgraded, and of those that need one of them.
fn services(wake: &Wake<'_>) -> Result<BTreeSet<String>> {
    let mut affected: BTreeSet<String> = wake
        .plan
        .packages
        .iter()
        .map(|package| package.name.clone())
        .collect();
    let mut needed_by: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for record in wake.database.records() {
        for field in [RelationField::Depends, RelationField::PreDepends] {
            for relation in record.relations(field)? {
                for wanted in relation.alternatives() {
                    needed_by
                        .entry(wanted.name.clone())
                        .or_default()
                        .insert(record.name.clone());
                }
            }
        }
    }
    let mut todo: Vec<String> = affected.iter().cloned().collect();
    while let Some(name) = todo.pop() {
        for dependent in needed_by.get(&name).into_iter().flatten() {
            if affected.insert(dependent.clone()) {
                todo.push(dependent.clone());
            }
        }
    }
    let mut units = BTreeSet::new();
    for record in wake.database.records() {
        if !affected.contains(&record.name) || !record.status.state.has_files() {
            continue;
        }
        let list = fixed(&format!("/var/lib/dpkg/info/{}.list", record.info_name()))?;
        let Some(bytes) = wake.guest.read(&list, MAX_LIST)? else {
            continue;
        };
        for path in String::from_utf8_lossy(&bytes).lines() {
            let unit = path
                .strip_prefix("/usr")
                .unwrap_or(path)
                .strip_prefix("/lib/systemd/system/");
            if let Some(unit) = unit.filter(|unit| unit.ends_with(".service"))
                && !unit.contains(['/', '@'])
                && check_word(unit).is_ok()
            {
                units.insert(unit.to_owned());
            }
        }
    }
    Ok(units)
}
