//! What machines are judged against: a baseline and the repositories it leans on, at an instant.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dormouse_advisories::{Keyring, Repository, Selection};
use dormouse_block::{Digest, Error, ErrorKind, Gap, Result};
use dormouse_evidence::{RunReport, Totals};
use dormouse_packages::Inventory;
use dormouse_policy::{Assessment, Baseline, Question, Releases, SHIPPED, assess};
use jiff::Timestamp;

use crate::run::RunOptions;
use crate::{Inspection, RunRow};

/// Where Debian installs the keys of its archive.
const ARCHIVE_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What a standard is made of.
#[derive(Debug, Clone)]
pub struct StandardOptions {
    /// A shipped baseline's name, or a file.
    pub baseline: String,
    /// Folders of package repositories.
    pub repositories: Vec<PathBuf>,
    /// The keys that repositories must be signed with; Debian's installed archive keyring unless said.
    pub keyring: Option<PathBuf>,
    /// The instant to judge at.
    pub as_of: Timestamp,
}

/// A baseline with its repositories, verified.
pub struct Standard {
    /// The baseline.
    pub baseline: Baseline,
    /// The repositories, in the order given.
    pub repositories: Vec<Repository>,
    /// What they offer.
    pub releases: Releases,
    /// The instant to judge at.
    pub as_of: Timestamp,
}

impl Standard {
    /// Reads the baseline and verifies the repositories.
    ///
    /// # Errors
    /// A baseline that is not known or bad; a repository without a good signature.
    pub fn load(options: &StandardOptions) -> Result<Self> {
        let baseline = read_baseline(&options.baseline)?;
        let as_of = baseline.instant(options.as_of);
        let mut repositories = Vec::new();
        if !options.repositories.is_empty() {
            let path = options
                .keyring
                .as_deref()
                .unwrap_or(Path::new(ARCHIVE_KEYRING));
            let keyring = Keyring::read(path)?;
            for folder in &options.repositories {
                repositories.push(Repository::open(
                    folder,
                    &keyring,
                    &Selection::default(),
                    as_of,
                )?);
            }
        }
        let releases = Releases::of(&repositories);
        Ok(Self {
            baseline,
            repositories,
            releases,
            as_of,
        })
    }

    /// Judges an inventory.
    #[must_use]
    pub fn assess(&self, inventory: &Inventory) -> Assessment {
        assess(&Question {
            baseline: &self.baseline,
            inventory,
            labels: &BTreeMap::new(),
            releases: &self.releases,
            as_of: self.as_of,
        })
    }

    /// Judges every operating system of a restore point; a point without one is judged as unread.
    #[must_use]
    pub fn judge(&self, inspection: &Inspection) -> Vec<Assessment> {
        let mut inventories: Vec<Inventory> = inspection
            .systems
            .iter()
            .map(|system| system.inventory.clone())
            .collect();
        if inventories.is_empty() {
            let gap = Gap {
                at: inspection.at.clone(),
                kind: ErrorKind::Unsupported,
                why: "no operating system was found".to_owned(),
                may_hide_packages: true,
            };
            inventories.push(Inventory::unread(&inspection.at, gap));
        }
        inventories
            .into_iter()
            .map(|mut inventory| {
                inventory.add_gaps(inspection.gaps.iter().cloned());
                self.assess(&inventory)
            })
            .collect()
    }

    /// A report of a run against this standard, with no machine in it yet.
    pub(crate) fn empty_report(&self, options: &RunOptions, row: &RunRow) -> RunReport {
        let digest = self.baseline.digest();
        RunReport {
            schema: "dormouse/run/v1".to_owned(),
            run: row.run.clone(),
            tool: options.tool.clone(),
            pipeline: options.pipeline.name.clone(),
            baseline: match digest {
                Some(digest) => format!("{} ({digest})", self.baseline.name),
                None => self.baseline.name.clone(),
            },
            as_of: row.as_of.clone(),
            feeds: self.feeds(),
            totals: Totals::default(),
            machines: Vec::new(),
            gaps: Vec::new(),
        }
    }

    /// What stands for all of this in the key of a stage's result.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let suites: Vec<_> = self.repositories.iter().map(Repository::suites).collect();
        let baseline = self.baseline.digest().map(|digest| digest.to_string());
        Digest::of(
            serde_json::to_vec(&(baseline, suites, self.as_of.to_string())).unwrap_or_default(),
        )
    }

    /// A line for each suite: its name, date and digest, and who signed it.
    #[must_use]
    pub fn feeds(&self) -> Vec<String> {
        self.repositories
            .iter()
            .flat_map(Repository::suites)
            .map(|suite| {
                let date = suite
                    .date
                    .map_or("without a date".to_owned(), |date| format!("of {date}"));
                let stale = if suite.stale { ", stale" } else { "" };
                let signers: Vec<_> = suite
                    .signers
                    .iter()
                    .map(|signer| signer.primary.as_str())
                    .collect();
                format!(
                    "{} {date}{stale}, {}, signed by {}",
                    suite.name(),
                    suite.digest,
                    signers.join(" and ")
                )
            })
            .collect()
    }
}

fn read_baseline(name: &str) -> Result<Baseline> {
    if let Some(baseline) = Baseline::shipped(name)? {
        return Ok(baseline);
    }
    let path = Path::new(name);
    if !path.exists() && !name.contains('/') && !name.ends_with(".toml") {
        let shipped: Vec<_> = SHIPPED.iter().map(|(name, _)| *name).collect();
        return Err(Error::unsupported(format!(
            "there is no shipped baseline '{name}' (there is {}), and no such file",
            shipped.join(", ")
        )));
    }
    Baseline::read(path)
}
