//! Machines alike: what was drafted for one holds for another that is the same in everything that the draft looked at.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{GuestPath, Result};
use dormouse_filesystem::{Guest, Watched};
use dormouse_overlay::{Difference, Draft};
use jiff::Timestamp;

use crate::inject::{Injected, Materials, draft_injection};
use crate::injection::Injection;
use crate::plan::Plan;

/// Precedents kept, the latest ones: groups of machines alike come one after another. Each takes a few MiB.
const MAX_KEPT: usize = 4;

/// Injections drafted before.
#[derive(Default)]
pub struct Precedents(Mutex<VecDeque<Arc<Precedent>>>);

/// One of them, and all that was seen of its guest.
struct Precedent {
    plan: Plan,
    now: Timestamp,
    limits: dormouse_scripts::Limits,
    places: Vec<Place>,
    seen: Vec<Arc<Watched>>,
    differences: Arc<BTreeMap<GuestPath, Difference>>,
    injection: Injection,
}

/// Where a mount is, and of what.
type Place = (GuestPath, String, Option<GuestPath>);

fn places(guest: &Guest) -> Vec<Place> {
    let mounts = guest.mounts().iter();
    mounts
        .map(|mount| {
            (
                mount.at.clone(),
                mount.volume.clone(),
                mount.subvolume.clone(),
            )
        })
        .collect()
}

impl Precedent {
    /// Whether drafting `plan` over this guest would ask what was asked, get the same answers, and so end the same.
    fn holds(&self, plan: &Plan, materials: &Materials<'_>) -> bool {
        let guest = &materials.guest;
        let same_plan = Plan {
            at: self.plan.at.clone(),
            ..plan.clone()
        } == self.plan;
        same_plan
            && (self.now, self.limits) == (materials.now, materials.limits)
            && self.places == places(guest)
            && self
                .seen
                .iter()
                .zip(guest.mounts())
                .all(|(seen, mount)| seen.agrees_with(&*mount.tree))
    }
}

impl Precedents {
    /// As [`draft_injection`]; what was drafted before is taken over where the guest gives the same answers to all that
    /// was asked then: names, nodes, attributes and bytes.
    ///
    /// # Errors
    /// As [`draft_injection`].
    pub fn draft(&self, plan: &Plan, materials: &Materials<'_>) -> Result<Injected> {
        let over =
            |differences: &Arc<BTreeMap<GuestPath, Difference>>, injection: &Injection| Injected {
                draft: Draft::new(materials.guest.clone(), materials.payloads.clone()),
                differences: differences.clone(),
                injection: Injection {
                    at: plan.at.clone(),
                    ..injection.clone()
                },
            };
        let kept: Vec<_> = self.kept().iter().cloned().collect();
        if let Some(found) = kept.iter().find(|kept| kept.holds(plan, materials)) {
            return Ok(over(&found.differences, &found.injection));
        }
        let (guest, seen) = materials.guest.watched();
        let injected = draft_injection(
            plan,
            &Materials {
                guest: Arc::new(guest),
                packages: materials.packages,
                payloads: materials.payloads.clone(),
                now: materials.now,
                limits: materials.limits,
            },
        )?;
        let drafted = over(&injected.differences, &injected.injection);
        let mut kept = self.kept();
        kept.truncate(MAX_KEPT.saturating_sub(1));
        kept.push_front(Arc::new(Precedent {
            plan: plan.clone(),
            now: materials.now,
            limits: materials.limits,
            places: places(&materials.guest),
            seen,
            differences: injected.differences,
            injection: injected.injection,
        }));
        Ok(drafted)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Precedent>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
