//! What machines are judged against: a baseline and the repositories it leans on, at an instant.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dormouse_advisories::{
    Access, Advisories, FeedAccess, FeedSignature, IndexCache, IndexToKeep, Keyring, Repository,
    Selection, Target, Trust,
};
use dormouse_block::{Digest, Error, ErrorKind, Gap, Result};
use dormouse_evidence::{RunReport, Totals};
use dormouse_packages::dpkg::Version;
use dormouse_packages::{Inventory, Observation};
use dormouse_policy::stage::{Progress, Taken};
use dormouse_policy::{
    Assessment, Baseline, Estate, History, Preferences, Question, Releases, SHIPPED, Scope, assess,
};
use jiff::Timestamp;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use serde::Serialize;

use crate::index_folder::{IndexFolder, Keeping};
use crate::run::RunOptions;
use crate::schedule;
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
    /// What is asked for in the place of what the baseline demands; nothing asks for that.
    pub only: BTreeSet<Scope>,
    /// Files of vendors' advisories, or folders of them.
    pub feeds: Vec<PathBuf>,
    /// The folder in which compiled indices are kept between runs; without it each is read anew.
    pub cache: Option<PathBuf>,
    /// The file that says who the machines are and when they may be changed.
    pub estate: Option<PathBuf>,
    /// When findings were first seen, by machine.
    pub histories: BTreeMap<String, History>,
    /// Which machines took which updates.
    pub taken: Vec<Taken>,
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
    /// Which of several versions is a package's candidate.
    pub preferences: Preferences,
    /// What vendors say of CVEs.
    pub advisories: Advisories,
    /// What was asked for in the place of what the baseline demands.
    pub only: BTreeSet<Scope>,
    /// Who the machines are, and when they may be changed.
    pub estate: Estate,
    /// When findings were first seen, by machine.
    pub histories: BTreeMap<String, History>,
    /// What the state and the library know of stages.
    pub progress: Progress,
    /// The instant to judge at.
    pub as_of: Timestamp,
    /// The run's own instant, at which machines are changed or not.
    pub now: Timestamp,
    /// What is kept for the next run meanwhile.
    _keeping: Keeping,
}

impl Standard {
    /// Reads the baseline and verifies the repositories.
    ///
    /// # Errors
    /// A baseline that is not known or bad; a repository without a good signature.
    pub fn load(options: &StandardOptions) -> Result<Self> {
        let mut baseline = read_baseline(&options.baseline)?;
        if !options.only.is_empty() {
            baseline.upgrades.only.clone_from(&options.only);
        }
        let as_of = baseline.instant(options.as_of);
        let advisories = read_feeds(options, as_of)?;
        let asks_for_cve =
            |only: &BTreeSet<Scope>| only.iter().any(|scope| matches!(scope, Scope::Cve(_)));
        if advisories.is_empty() && asks_for_cve(&baseline.upgrades.only) {
            return Err(Error::unsupported(
                "what mends a CVE is not known without a feed; give --feed FILE",
            ));
        }
        let keeping = Keeping::default();
        let repositories = open_repositories(options, &baseline, as_of, &keeping)?;
        let preferences = baseline.preferences();
        let releases = Releases::with(&repositories, preferences.clone(), baseline.upgrades.phased);
        Ok(Self {
            baseline,
            repositories,
            releases,
            preferences,
            advisories,
            only: options.only.clone(),
            estate: options
                .estate
                .as_deref()
                .map(Estate::read)
                .transpose()?
                .unwrap_or_default(),
            histories: options.histories.clone(),
            progress: schedule::progress(options.taken.clone()),
            as_of,
            now: options.as_of,
            _keeping: keeping,
        })
    }

    /// Which versions mend which CVEs, in the release of the machine that was inspected.
    pub fn fixes(
        &self,
        inspection: &Inspection,
    ) -> impl Fn(&str, &str, &Version, &Version) -> bool + '_ {
        let system = inspection
            .systems
            .iter()
            .find(|system| system.inventory.os.is_some());
        let target = system.map(|system| Target::of(&system.inventory));
        move |cve, source, there, wanted| {
            target.as_ref().is_some_and(|target| {
                let (there, wanted) = (there.as_str(), wanted.as_str());
                let mended = self.advisories.mended(target, source, there, wanted);
                mended.iter().any(|concern| concern.id == cve)
            })
        }
    }

    /// Judges an inventory, by what else its guest answered.
    #[must_use]
    pub fn assess(&self, inventory: &Inventory, observations: &[Observation]) -> Assessment {
        let machine = inventory.at.machine.as_deref().unwrap_or_default();
        assess(&Question {
            baseline: &self.baseline,
            inventory,
            labels: &self.estate.labels(machine),
            releases: &self.releases,
            advisories: &self.advisories,
            observations,
            history: self.histories.get(machine).unwrap_or(&History::default()),
            as_of: self.as_of,
        })
    }

    /// What of this standard is a machine's own: its labels, and when its findings were first seen. With
    /// [`Standard::digest`] all that its judgement depends on.
    pub(crate) fn own(&self, machine: &str) -> Own {
        let history = self.histories.get(machine);
        let seen = history
            .into_iter()
            .flat_map(|history| history.before(self.as_of));
        let seen = seen.map(|(package, what, seen)| format!("{package} {what} {seen}"));
        Own {
            labels: self.estate.labels(machine),
            seen: seen.collect(),
        }
    }

    /// Judges every operating system of a restore point; a point without one is judged as unread.
    #[must_use]
    pub fn judge(&self, inspection: &Inspection) -> Vec<Assessment> {
        let mut inventories: Vec<(Inventory, &[Observation])> = inspection
            .systems
            .iter()
            .map(|system| (system.inventory.clone(), system.observations.as_slice()))
            .collect();
        if inventories.is_empty() {
            let gap = Gap {
                at: inspection.at.clone(),
                kind: ErrorKind::Unsupported,
                why: "no operating system was found".to_owned(),
                may_hide_packages: true,
            };
            inventories.push((Inventory::unread(&inspection.at, gap), &[]));
        }
        inventories
            .into_iter()
            .map(|(mut inventory, observations)| {
                inventory.add_gaps(inspection.gaps.iter().cloned());
                self.assess(&inventory, observations)
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
            serde_json::to_vec(&(
                baseline,
                suites,
                self.as_of.to_string(),
                &self.only,
                self.advisories.feeds(),
            ))
            .unwrap_or_default(),
        )
    }

    /// A line for each suite: its name, date and digest, and who signed it; and one for each feed.
    #[must_use]
    pub fn feeds(&self) -> Vec<String> {
        let advisories = self.advisories.feeds().iter();
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
                let who = if suite.vouched {
                    "vouched for by the baseline".to_owned()
                } else {
                    format!("signed by {}", signers.join(" and "))
                };
                format!("{} {date}{stale}, {}, {who}", suite.name(), suite.digest)
            })
            .chain(advisories.map(|feed| {
                let date = feed
                    .date
                    .map_or("without a date".to_owned(), |date| format!("of {date}"));
                let signed = match &feed.signature {
                    FeedSignature::Unsigned => "unsigned".to_owned(),
                    FeedSignature::Unchecked => "signature not checked".to_owned(),
                    FeedSignature::Good { signers } => {
                        let keys: Vec<_> = signers.iter().map(|one| one.primary.as_str()).collect();
                        format!("signed by {}", keys.join(" and "))
                    }
                };
                format!("{} {date}, {}, {signed}", feed.name, feed.digest)
            }))
            .collect()
    }
}

/// Reads the feeds, or what was kept of them.
fn read_feeds(options: &StandardOptions, as_of: Timestamp) -> Result<Advisories> {
    if options.feeds.is_empty() {
        return Ok(Advisories::default());
    }
    let keyring = options.keyring.as_deref().map(Keyring::read).transpose()?;
    let cache = options.cache.as_deref().map(IndexFolder::new);
    let load = |name: &str| cache.as_ref()?.load(name);
    let save = |name: &str, parts: &[&[u8]]| {
        if let Some(cache) = &cache {
            cache.save(name, parts);
        }
    };
    Advisories::read_with(
        &options.feeds,
        &FeedAccess {
            keyring: keyring.as_ref(),
            as_of,
            cache: cache.is_some().then_some(IndexCache {
                load: &load,
                save: &save,
            }),
        },
    )
}

/// What of a standard is one machine's own.
#[derive(Debug, Serialize)]
pub(crate) struct Own {
    labels: BTreeMap<String, String>,
    /// What was seen before the instant judged, and when.
    seen: Vec<String>,
}

/// Verifies the repositories, several at a time.
fn open_repositories(
    options: &StandardOptions,
    baseline: &Baseline,
    as_of: Timestamp,
    keeping: &Keeping,
) -> Result<Vec<Repository>> {
    if options.repositories.is_empty() {
        return Ok(Vec::new());
    }
    let trusts: Vec<Trust> = options
        .repositories
        .iter()
        .map(|folder| baseline.trust(&Repository::name_of(folder).unwrap_or_default()))
        .collect();
    // Where every repository is vouched for by its digest, no key is needed.
    let keyring = match &options.keyring {
        Some(path) => Keyring::read(path)?,
        None if trusts.iter().all(|trust| !trust.vouched.is_empty()) => Keyring::default(),
        None => Keyring::read(Path::new(ARCHIVE_KEYRING))?,
    };
    let cache = options.cache.as_deref().map(IndexFolder::new);
    options
        .repositories
        .par_iter()
        .zip(&trusts)
        .map(|(folder, trust)| {
            let load = |name: &str| cache.as_ref()?.load(name);
            let save = |name: &str, parts: &[&[u8]]| {
                if let Some(cache) = &cache {
                    cache.save(name, parts);
                }
            };
            let later = |name: String, index: IndexToKeep| {
                if let Some(cache) = cache.clone() {
                    keeping.keep(cache, name, index);
                }
            };
            Repository::open_with(
                folder,
                &Access {
                    keyring: &keyring,
                    selection: &Selection::default(),
                    as_of,
                    trust,
                    cache: cache.is_some().then_some(IndexCache {
                        load: &load,
                        save: &save,
                    }),
                    ahead: Some(crate::ahead::read_ahead),
                    later: cache.is_some().then_some(&later),
                },
            )
        })
        .collect()
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
