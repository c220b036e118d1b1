//! The upgrade set: which versions a guest is to have, and what keeps it from others.

mod order;
mod pool;
mod solve;

use std::collections::{BTreeMap, BTreeSet};

use dormouse_advisories::Repository;
use dormouse_block::Result;
use dormouse_packages::dpkg::{Database, RelationField};
use serde::{Deserialize, Serialize};

use crate::plan::{Blocked, Hindrance, PlannedPackage};
use pool::{Offer, Pool, Slot};

/// Which packages are to be upgraded; what those need comes along.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Only {
    /// Everything that has a newer version.
    All,
    /// These names.
    Packages(BTreeSet<String>),
}

/// What is asked.
pub struct Question<'a> {
    /// What is installed.
    pub database: &'a Database,
    /// What is on offer; of equal versions the first repository's is taken.
    pub repositories: &'a [Repository],
    /// Suites that may be taken from, by codename, suite name or folder; all of them where empty.
    pub suites: &'a BTreeSet<String>,
    /// What is to be upgraded.
    pub only: &'a Only,
}

/// The answer: packages in the order in which they are unpacked, and what stays behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolution {
    /// What is to be unpacked, in order.
    pub packages: Vec<PlannedPackage>,
    /// What was asked for and cannot be had.
    pub blocked: Vec<Blocked>,
}

/// Finds the upgrade set.
///
/// # Errors
/// `Corrupt` for relations that do not read, `Limit` where no set is found within a bounded number of rounds.
pub fn resolve(question: &Question<'_>) -> Result<Resolution> {
    let mut pool = Pool::new(question.database, question.repositories, question.suites)?;
    let mut wanted: Vec<(Slot, Offer)> = Vec::new();
    let mut blocked = Vec::new();
    let mut seen = BTreeSet::new();
    for (slot, node) in &pool.installed {
        if let Only::Packages(names) = question.only
            && !names.contains(&slot.0)
        {
            continue;
        }
        seen.insert(slot.0.clone());
        let newer: Vec<Offer> = pool
            .candidates(&slot.0, &slot.1)
            .into_iter()
            .filter(|offer| {
                pool.offered(*offer)
                    .is_some_and(|(_, package)| package.version > node.version)
            })
            .collect();
        let Some(latest) = newer.first() else {
            continue;
        };
        let version_of = |offer: &Offer| {
            pool.offered(*offer)
                .map(|(_, package)| package.version.to_string())
                .unwrap_or_default()
        };
        let block = |hindrance, why: String| Blocked {
            name: slot.0.clone(),
            architecture: node.architecture.clone(),
            installed: Some(node.version.to_string()),
            wanted: Some(version_of(latest)),
            hindrance,
            why: vec![why],
        };
        if node.held {
            blocked.push(block(
                Hindrance::Held,
                format!("{} is on hold", node.title()),
            ));
            continue;
        }
        // A machine's share in a phased update cannot be known while it sleeps, so it waits for the whole of it.
        let whole = newer.iter().find(|offer| {
            pool.offered(**offer).is_some_and(|(_, package)| {
                package.phased_percentage.is_none_or(|share| share >= 100)
            })
        });
        match whole {
            Some(offer) => wanted.push((slot.clone(), *offer)),
            None => blocked.push(block(
                Hindrance::Phased,
                format!("{} {} is still being phased in", slot.0, version_of(latest)),
            )),
        }
    }
    if let Only::Packages(names) = question.only {
        for name in names.difference(&seen) {
            blocked.push(Blocked {
                name: name.clone(),
                architecture: String::new(),
                installed: None,
                wanted: None,
                hindrance: Hindrance::NotInstalled,
                why: vec![format!("{name} is not installed")],
            });
        }
    }
    let answer = solve::solve(&mut pool, &wanted)?;
    for (slot, offer) in &wanted {
        let done = answer
            .solution
            .chosen
            .get(slot)
            .is_some_and(|node| node.offer == Some(*offer));
        if done {
            continue;
        }
        let installed = pool.installed.get(slot);
        blocked.push(Blocked {
            name: slot.0.clone(),
            architecture: installed
                .map(|node| node.architecture.clone())
                .unwrap_or_default(),
            installed: installed.map(|node| node.version.to_string()),
            wanted: pool
                .offered(*offer)
                .map(|(_, package)| package.version.to_string()),
            hindrance: Hindrance::Unsolvable,
            why: answer.bans.get(offer).cloned().unwrap_or_default(),
        });
    }
    blocked.sort();
    let asked: BTreeSet<&Slot> = wanted.iter().map(|(slot, _)| slot).collect();
    let chosen = &answer.solution.chosen;
    let mut packages = Vec::new();
    for slot in order::order(chosen, &pool.native) {
        let Some(node) = chosen.get(&slot) else {
            continue;
        };
        let Some((repository, package)) = node.offer.and_then(|offer| pool.offered(offer)) else {
            continue;
        };
        packages.push(PlannedPackage {
            name: package.name.to_string(),
            architecture: package.architecture.to_string(),
            version: package.version.to_string(),
            installed: pool
                .installed
                .get(&slot)
                .map(|node| node.version.to_string()),
            requested: asked.contains(&slot),
            payload: package.digest,
            size: package.size,
            installed_kib: package.installed_size.unwrap_or(0),
            filename: package.filename.to_string(),
            suite: repository
                .suite_of(package)
                .map(|suite| suite.name().to_owned())
                .unwrap_or_default(),
            source: package.source_name().to_owned(),
            needs: needs(node, chosen, &pool),
            decision: None,
            configured: None,
            scripts: Vec::new(),
        });
    }
    Ok(Resolution { packages, blocked })
}

/// The packages of the set whose new versions `node` cannot do without: where one of them stays behind, so must it.
fn needs(node: &pool::Node, chosen: &BTreeMap<Slot, pool::Node>, pool: &Pool<'_>) -> Vec<String> {
    let native = &pool.native;
    let architecture = node.own_architecture(native);
    let mut out = BTreeSet::new();
    let name_of = |slot: &Slot| format!("{}:{}", slot.0, slot.1);
    for (field, relation) in &node.needs {
        let without = |left_out: &Slot| {
            relation.alternatives().iter().any(|wanted| {
                pool.installed.iter().any(|(slot, there)| {
                    let now = if slot == left_out {
                        there
                    } else {
                        chosen.get(slot).unwrap_or(there)
                    };
                    now.meets(wanted, architecture, native)
                }) || chosen
                    .iter()
                    .any(|(slot, new)| slot != left_out && new.meets(wanted, architecture, native))
            })
        };
        debug_assert!(matches!(
            field,
            RelationField::Depends | RelationField::PreDepends
        ));
        for (slot, candidate) in chosen {
            if candidate.name != node.name
                && relation
                    .alternatives()
                    .iter()
                    .any(|wanted| candidate.meets(wanted, architecture, native))
                && !without(slot)
            {
                out.insert(name_of(slot));
            }
        }
    }
    // What it breaks must not stay in its old version.
    for (_, refused) in &node.refuses {
        for slot in chosen.keys() {
            if pool
                .installed
                .get(slot)
                .is_some_and(|old| old.name != node.name && old.is_refused(refused, native))
            {
                out.insert(name_of(slot));
            }
        }
    }
    // And what its old version alone satisfied must come along.
    for (slot, other) in chosen {
        let Some(old) = pool.installed.get(slot).filter(|_| other.name != node.name) else {
            continue;
        };
        let own_old = pool
            .installed
            .get(&(node.name.clone(), architecture.to_owned()));
        let breaks_old = old.refuses.iter().any(|(_, refused)| {
            node.is_refused(refused, native)
                && own_old.is_none_or(|own_old| !own_old.is_refused(refused, native))
        }) || own_old.is_some_and(|own_old| {
            old.needs.iter().any(|(_, relation)| {
                let alternatives = relation.alternatives();
                let of = old.own_architecture(native);
                alternatives
                    .iter()
                    .any(|one| own_old.meets(one, of, native))
                    && !alternatives.iter().any(|one| node.meets(one, of, native))
                    && !pool.installed.iter().any(|(slot, there)| {
                        there.name != node.name
                            && alternatives
                                .iter()
                                .any(|one| chosen.get(slot).unwrap_or(there).meets(one, of, native))
                    })
            })
        });
        if breaks_old {
            out.insert(name_of(slot));
        }
    }
    out.into_iter().collect()
}
