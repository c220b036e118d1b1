//! When and in which turn machines are changed: what the state and the library say, held against the estate.

use std::collections::BTreeSet;

use dormouse_block::Locator;
use dormouse_packages::Family;
use dormouse_policy::stage::{Progress, Turn, Update, package_set, turn};
use dormouse_policy::window::{Against, Slot};
use dormouse_policy::{Assessment, CATEGORY};
use dormouse_remedy::{Plan, When};
use jiff::Timestamp;

use crate::{Decision, Inspection, Standard};

/// Slots that a plan names.
const SLOTS: usize = 3;

impl Standard {
    /// Notes a machine of the library: its category, and the package set that makes it alike to others.
    pub(crate) fn note_machine(&mut self, at: &Locator, inspection: &Inspection) {
        let Some(machine) = &at.machine else { return };
        let Some(system) = inspection.systems.first() else {
            return;
        };
        let progress = &mut self.progress;
        let group = package_set(&system.inventory);
        progress.groups.insert(machine.clone(), group);
        if let Some(category) = self.estate.labels(machine).remove(CATEGORY) {
            let has = progress.packages.entry(category.clone()).or_default();
            has.extend(system.inventory.present().map(|one| one.name.clone()));
            progress.categories.insert(machine.clone(), category);
        }
    }

    /// Notes the categories of the machines that took updates in earlier runs.
    pub(crate) fn note_takers(&mut self) {
        let takers: BTreeSet<String> = self
            .progress
            .taken
            .iter()
            .map(|taken| taken.machine.clone())
            .collect();
        for machine in takers {
            if let Some(category) = self.estate.labels(&machine).remove(CATEGORY) {
                self.progress.categories.insert(machine, category);
            }
        }
    }

    /// All that a machine's turn and windows depend on, for the key of its plan; nothing where the estate has neither for it.
    pub(crate) fn timing(&self, machine: &str) -> Option<String> {
        let estate = &self.estate;
        let progress = self.progress.of(&estate.stages, machine);
        let idle = estate.windows.is_empty() && estate.blackouts.is_empty();
        if progress.is_none() && idle {
            return None;
        }
        let own: Vec<_> = estate
            .stages
            .iter()
            .filter(|stage| self.progress.categories.get(machine) == Some(&stage.category))
            .collect();
        Some(format!(
            "{} {own:?} {progress:?} {:?}",
            self.now,
            estate.calendar(machine, None)
        ))
    }

    /// Why a plan is not carried out now, if it is not.
    pub(crate) fn postponed(
        &self,
        inspection: &Inspection,
        assessments: &[Assessment],
        plan: &Plan,
    ) -> Option<Decision> {
        let (when, until) = self.when(inspection, assessments, plan);
        let why = when.not_now?;
        Some(Decision::Postponed {
            why: match &when.late {
                Some(late) => format!("{why}; {late}"),
                None => why,
            },
            until,
            slots: when.slots,
            deadline: when.deadline,
            misses_deadline: when.late.is_some(),
        })
    }

    /// When a plan may be carried out, by the machine's turn and windows, and from when on where that is not now.
    pub(crate) fn when(
        &self,
        inspection: &Inspection,
        assessments: &[Assessment],
        plan: &Plan,
    ) -> (When, Option<Timestamp>) {
        let machine = inspection.at.machine.as_deref().unwrap_or_default();
        let updates: BTreeSet<Update> = plan
            .packages
            .iter()
            .map(|package| Update {
                package: package.name.clone(),
                version: package.version.clone(),
            })
            .collect();
        let stages = &self.estate.stages;
        let family = Family::Dpkg;
        let wait = turn(stages, machine, &updates, family, &self.progress, self.now);
        let zone = inspection
            .systems
            .first()
            .and_then(|system| system.time_zone.as_deref());
        let calendar = self.estate.calendar(machine, zone);
        let (not_now, from) = match wait {
            Turn::Wait { why, until } => (Some(why), until),
            Turn::Go | Turn::Canary { .. } => (calendar.open_at(self.now).err(), Some(self.now)),
        };
        let slots: Vec<Slot> = from.map_or_else(Vec::new, |from| calendar.next(from, SLOTS));
        let deadline = next_deadline(assessments);
        let late = deadline.and_then(|deadline| match (from, calendar.is_free()) {
            _ if not_now.is_none() => {
                (deadline <= self.now).then(|| format!("the deadline was over at {deadline}"))
            }
            (None, _) => None,
            (Some(from), true) => {
                (deadline <= from).then(|| format!("the deadline {deadline} is over before that"))
            }
            (Some(from), false) => match calendar.against(from, deadline) {
                Against::InTime(_) => None,
                Against::Over if deadline <= self.now => {
                    Some(format!("the deadline was over at {deadline}"))
                }
                Against::Over | Against::BeforeNext(_) => Some(format!(
                    "the deadline {deadline} is over before the next window"
                )),
            },
        });
        let until = slots.first().map(|slot| slot.from).or(from);
        let when = When {
            not_now,
            slots: calendar.facts(&slots),
            deadline,
            late,
        };
        (when, until)
    }
}

/// The first deadline of the findings that count.
pub(crate) fn next_deadline(assessments: &[Assessment]) -> Option<Timestamp> {
    assessments
        .iter()
        .filter_map(Assessment::next_deadline)
        .min()
}

/// What a run brings into its standard before it plans.
pub(crate) fn progress(taken: Vec<dormouse_policy::stage::Taken>) -> Progress {
    Progress {
        taken,
        ..Progress::default()
    }
}
