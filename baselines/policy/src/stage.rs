//! Stages: an update reaches a category of machines only when an earlier one has taken it and stands with it.
//!
//! Pure: what was taken, by whom and since when comes in as facts, the answer goes out as a fact.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::Digest;
use dormouse_packages::{Family, Inventory};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::deadline::Within;

/// A stage: a category of machines, and what must have happened before it is changed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Stage {
    /// The category.
    pub category: String,
    /// The category that takes updates before it; absent for the first.
    #[serde(default)]
    pub after: Option<String>,
    /// How long an update must stand there, verified, before it comes here.
    #[serde(default)]
    pub soak: Option<Within>,
    /// How many machines there must have taken it.
    #[serde(default = "one")]
    pub at_least: u32,
    /// What to make of a package that no machine there has.
    #[serde(default)]
    pub untested: Untested,
    /// Of machines alike one goes first; the others follow when it has stood, verified, for so long.
    #[serde(default)]
    pub canary: Option<Within>,
}

/// What to make of an update of a package that no machine of the earlier stage has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Untested {
    /// It waits.
    #[default]
    Wait,
    /// It comes all the same: nobody could have tried it.
    Pass,
}

fn one() -> u32 {
    1
}

/// An update: a package at a version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Update {
    /// The package.
    pub package: String,
    /// The version.
    pub version: String,
}

/// That a machine took an update, and that the result was verified.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taken {
    /// The machine.
    pub machine: String,
    /// The digest of its package set before it took it.
    pub group: Digest,
    /// The update.
    pub update: Update,
    /// Since when the verification stands.
    pub verified: Timestamp,
}

/// What is known of the estate when one machine is decided on.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// The category of each machine.
    pub categories: BTreeMap<String, String>,
    /// The group of each machine: the digest of its package set.
    pub groups: BTreeMap<String, Digest>,
    /// The packages that the machines of each category have.
    pub packages: BTreeMap<String, BTreeSet<String>>,
    /// What was taken.
    pub taken: Vec<Taken>,
}

/// Whether an update may come now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "stage", deny_unknown_fields)]
pub enum Turn {
    /// It may.
    Go,
    /// It may, and goes first of those alike.
    Canary {
        /// How many machines are alike, itself among them.
        alike: usize,
    },
    /// It waits.
    Wait {
        /// Why, in one clause.
        why: String,
        /// When it may, if nothing else happens; absent where something must happen first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
}

impl Progress {
    /// What of this the turn of one machine depends on; none where its category has no stage.
    #[must_use]
    pub fn of(&self, stages: &[Stage], machine: &str) -> Option<Self> {
        let category = self.categories.get(machine)?;
        let stage = stages.iter().find(|stage| stage.category == *category)?;
        let group = self.groups.get(machine);
        let concerns = |name: &str| {
            let theirs = self.categories.get(name);
            theirs == stage.after.as_ref() && theirs.is_some()
                || stage.canary.is_some() && theirs == Some(category)
        };
        let taken = self.taken.iter().filter(|one| concerns(&one.machine));
        Some(Self {
            categories: self
                .categories
                .iter()
                .filter(|(name, _)| {
                    let took = self.taken.iter().any(|one| one.machine == **name);
                    concerns(name) && (took || self.groups.get(*name) == group)
                })
                .map(|(name, category)| (name.clone(), category.clone()))
                .collect(),
            groups: self
                .groups
                .iter()
                .filter(|(name, other)| concerns(name) && Some(*other) == group)
                .map(|(name, group)| (name.clone(), *group))
                .collect(),
            packages: self
                .packages
                .iter()
                .filter(|(name, _)| {
                    stage.untested == Untested::Pass && Some(*name) == stage.after.as_ref()
                })
                .map(|(name, packages)| (name.clone(), packages.clone()))
                .collect(),
            taken: taken.cloned().collect(),
        })
    }
}

/// The digest of a machine's package set: equal for machines that are alike.
#[must_use]
pub fn package_set(inventory: &Inventory) -> Digest {
    let mut text = String::new();
    for package in inventory.present() {
        for part in [
            package.family.to_string().as_str(),
            &package.name,
            &package.architecture,
            &package.version,
        ] {
            text.push_str(part);
            text.push('\0');
        }
    }
    Digest::of(text)
}

/// Whether a machine may take these updates at an instant, by the stages and what is known of the estate.
///
/// A machine without a category, or of one that has no stage, may.
#[must_use]
pub fn turn(
    stages: &[Stage],
    machine: &str,
    updates: &BTreeSet<Update>,
    family: Family,
    progress: &Progress,
    now: Timestamp,
) -> Turn {
    let category = progress.categories.get(machine);
    let Some(stage) = stages
        .iter()
        .find(|stage| Some(&stage.category) == category)
    else {
        return Turn::Go;
    };
    let stand = Stand {
        progress,
        family,
        now,
    };
    if let Some(wait) = stand.behind_earlier(stage, updates) {
        return wait;
    }
    stand.behind_canary(stage, machine, updates)
}

struct Stand<'a> {
    progress: &'a Progress,
    family: Family,
    now: Timestamp,
}

impl Stand<'_> {
    /// When each machine of a category took an update, or a later version of it.
    fn takers(&self, category: &str, update: &Update) -> BTreeMap<&str, Timestamp> {
        let mut takers = BTreeMap::new();
        for taken in &self.progress.taken {
            let there = self.progress.categories.get(&taken.machine);
            let as_new = taken.update.package == update.package
                && self
                    .family
                    .compare(&taken.update.version, &update.version)
                    .is_ge();
            if there.map(String::as_str) == Some(category) && as_new && taken.verified <= self.now {
                let first = takers
                    .entry(taken.machine.as_str())
                    .or_insert(taken.verified);
                *first = (*first).min(taken.verified);
            }
        }
        takers
    }

    fn behind_earlier(&self, stage: &Stage, updates: &BTreeSet<Update>) -> Option<Turn> {
        let earlier = stage.after.as_deref()?;
        let mut latest: Option<(Timestamp, &Update)> = None;
        let known = self.progress.packages.get(earlier);
        for update in updates {
            let has = known.is_some_and(|packages| packages.contains(&update.package));
            if stage.untested == Untested::Pass && !has {
                continue;
            }
            let mut since: Vec<Timestamp> = self.takers(earlier, update).into_values().collect();
            since.sort_unstable();
            let wanted = usize::try_from(stage.at_least.max(1)).unwrap_or(usize::MAX);
            let Some(enough) = since.get(wanted.saturating_sub(1)) else {
                let why = format!(
                    "{} {} was taken by {} of {wanted} machines of the stage {earlier}",
                    update.package,
                    update.version,
                    since.len()
                );
                return Some(Turn::Wait { why, until: None });
            };
            let soaked = stage
                .soak
                .and_then(|soak| soak.end(*enough))
                .unwrap_or(*enough);
            if latest.is_none_or(|(end, _)| soaked > end) {
                latest = Some((soaked, update));
            }
        }
        let (soaked, update) = latest?;
        (soaked > self.now).then(|| Turn::Wait {
            why: format!(
                "{} {} stands in the stage {earlier} and may come on at {soaked}",
                update.package, update.version
            ),
            until: Some(soaked),
        })
    }

    fn behind_canary(&self, stage: &Stage, machine: &str, updates: &BTreeSet<Update>) -> Turn {
        let Some(canary) = stage.canary else {
            return Turn::Go;
        };
        let Some(group) = self.progress.groups.get(machine) else {
            return Turn::Go;
        };
        let of_stage = |name: &str| {
            self.progress.categories.get(name).map(String::as_str) == Some(stage.category.as_str())
        };
        // One alike that took all of them has another package set since; the state remembers the one it had.
        let mut went: BTreeMap<&str, BTreeMap<&Update, Timestamp>> = BTreeMap::new();
        for taken in &self.progress.taken {
            if taken.group == *group
                && taken.machine != machine
                && of_stage(&taken.machine)
                && taken.verified <= self.now
            {
                went.entry(&taken.machine)
                    .or_default()
                    .insert(&taken.update, taken.verified);
            }
        }
        let first = went
            .into_iter()
            .filter_map(|(name, took)| {
                let all = updates.iter().map(|update| {
                    took.iter()
                        .filter(|(other, _)| {
                            other.package == update.package
                                && self.family.compare(&other.version, &update.version).is_ge()
                        })
                        .map(|(_, verified)| *verified)
                        .min()
                });
                let last = all.collect::<Option<Vec<_>>>()?.into_iter().max()?;
                Some((last, name))
            })
            .min();
        if let Some((verified, name)) = first {
            let soaked = canary.end(verified).unwrap_or(verified);
            return if soaked <= self.now {
                Turn::Go
            } else {
                Turn::Wait {
                    why: format!("{name}, which is alike, took it first and stands until {soaked}"),
                    until: Some(soaked),
                }
            };
        }
        let alike: BTreeSet<&str> = self
            .progress
            .groups
            .iter()
            .filter(|(name, other)| *other == group && of_stage(name))
            .map(|(name, _)| name.as_str())
            .collect();
        match alike.first() {
            Some(&first) if first != machine => Turn::Wait {
                why: format!("{first} goes first of {} machines alike", alike.len()),
                until: None,
            },
            _ => Turn::Canary { alike: alike.len() },
        }
    }
}
