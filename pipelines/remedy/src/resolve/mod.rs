//! The upgrade set: which versions a guest is to have, and what keeps it from others.

mod order;
mod pool;
mod solve;

use std::collections::{BTreeMap, BTreeSet};

use dormouse_advisories::{Repository, Suite};
use dormouse_block::Result;
use dormouse_packages::dpkg::{Database, RelationField, Version};
use dormouse_policy::{Phased, Preferences, Scope};
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
    /// What any of these reaches.
    Scopes(BTreeSet<Scope>),
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
    /// Installed packages that a scope does not reach unless it names them, such as those with a waiver.
    pub spared: &'a BTreeSet<String>,
    /// Which of several versions is a package's candidate.
    pub preferences: &'a Preferences,
    /// What to make of updates that are still being phased in.
    pub phased: Phased,
    /// Which versions mend which CVEs; without it no scope of a CVE reaches anything.
    pub fixes: &'a Fixes<'a>,
}

/// Whether a CVE concerns a source package, and whether the later version of it mends that: CVE, source package,
/// version there, version on offer.
pub type Fixes<'a> = dyn Fn(&str, &str, &Version, &Version) -> bool + 'a;

/// The answer: packages in the order in which they are unpacked, and what stays behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolution {
    /// What is to be unpacked, in order.
    pub packages: Vec<PlannedPackage>,
    /// What was asked for and cannot be had.
    pub blocked: Vec<Blocked>,
    /// The suites that what is to be unpacked comes from, as they were signed.
    pub suites: Vec<Suite>,
}

/// Finds the upgrade set.
///
/// # Errors
/// `Corrupt` for relations that do not read, `Limit` where no set is found within a bounded number of rounds.
pub fn resolve(question: &Question<'_>) -> Result<Resolution> {
    let mut pool = Pool::new(question)?;
    let mut wanted: Vec<(Slot, Offer)> = Vec::new();
    let mut blocked = Vec::new();
    let mut seen = BTreeSet::new();
    let slots: Vec<Slot> = pool.installed.keys().cloned().collect();
    for slot in slots {
        let Some(node) = pool.installed.get(&slot).cloned() else {
            continue;
        };
        if !is_named(question.only, &node, &mut seen) {
            continue;
        }
        let mut newer = pool.upgrades(&slot.0, &slot.1)?;
        newer.retain(|offer| is_reached(question, &pool, &node, *offer));
        let Some(latest) = newer.first().copied() else {
            continue;
        };
        let version = match pool.offered(latest) {
            Some((_, package)) => package.version.to_string(),
            None => continue,
        };
        let mut block = |hindrance, why: String| {
            blocked.push(Blocked {
                name: slot.0.clone(),
                architecture: node.architecture.clone(),
                installed: Some(node.version.to_string()),
                wanted: Some(version.clone()),
                hindrance,
                why: vec![why],
            });
        };
        if node.held {
            block(Hindrance::Held, format!("{} is on hold", node.title()));
            continue;
        }
        // A machine's share in a phased update cannot be known while it sleeps, so it waits for the whole of it.
        match newer.into_iter().find(|offer| !pool.is_phased(*offer)) {
            Some(offer) => wanted.push((slot.clone(), offer)),
            None => block(
                Hindrance::Phased,
                format!("{} {version} is still being phased in", slot.0),
            ),
        }
    }
    for name in absent(question.only, &seen) {
        blocked.push(Blocked {
            why: vec![format!("{name} is not installed")],
            name,
            architecture: String::new(),
            installed: None,
            wanted: None,
            hindrance: Hindrance::NotInstalled,
        });
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
            hindrance: match answer.bans.get(offer) {
                Some(ban) if ban.no_payload => Hindrance::NoPayload,
                _ => Hindrance::Unsolvable,
            },
            why: answer
                .bans
                .get(offer)
                .map(|ban| ban.why.clone())
                .unwrap_or_default(),
        });
    }
    blocked.sort();
    let mut suites: Vec<Suite> = answer
        .solution
        .chosen
        .values()
        .filter_map(|node| pool.suite(node.offer?).cloned())
        .collect();
    suites.sort();
    suites.dedup();
    let asked: BTreeSet<&Slot> = wanted.iter().map(|(slot, _)| slot).collect();
    let chosen = &answer.solution.chosen;
    let mut packages = Vec::new();
    for slot in order::order(chosen, &pool.native) {
        let Some(node) = chosen.get(&slot) else {
            continue;
        };
        let Some(offer) = node.offer else {
            continue;
        };
        let Some((_, package)) = pool.offered(offer) else {
            continue;
        };
        let suite = pool.suite(offer);
        let installed = pool.installed.get(&slot);
        packages.push(PlannedPackage {
            name: package.name.to_string(),
            architecture: package.architecture.to_string(),
            version: package.version.to_string(),
            installed: installed.map(|node| node.version.to_string()),
            automatic: installed.is_none(),
            requested: asked.contains(&slot),
            because: answer.solution.because.get(&slot).cloned(),
            release: suite.map(|suite| suite.digest),
            index: package.index,
            priority: Some(pool.priority(offer)),
            payload: package.digest,
            size: package.size,
            installed_kib: package.installed_size.unwrap_or(0),
            filename: package.filename.to_string(),
            suite: suite
                .map(|suite| suite.name().to_owned())
                .unwrap_or_default(),
            source: package.source_name().to_owned(),
            needs: needs(node, chosen, &pool),
            decision: None,
            configured: None,
            scripts: Vec::new(),
        });
    }
    Ok(Resolution {
        packages,
        blocked,
        suites,
    })
}

/// Whether the names given, if any, reach an installed package.
fn is_named(only: &Only, node: &pool::Node, seen: &mut BTreeSet<String>) -> bool {
    let mut sees = |name: &str| seen.insert(name.to_owned());
    match only {
        Only::All => true,
        Only::Packages(names) => {
            let named = names.contains(&node.name);
            if named {
                sees(&node.name);
            }
            named
        }
        Only::Scopes(scopes) => {
            let mut reached = false;
            for scope in scopes {
                match scope {
                    Scope::Package(name) if *name == node.name || *name == node.source => {
                        sees(name);
                        reached = true;
                    }
                    Scope::Package(_) => {}
                    Scope::All | Scope::Security | Scope::Cve(_) => reached = true,
                }
            }
            reached
        }
    }
}

/// The names given of which nothing is installed.
fn absent(only: &Only, seen: &BTreeSet<String>) -> Vec<String> {
    match only {
        Only::All => Vec::new(),
        Only::Packages(names) => names.difference(seen).cloned().collect(),
        Only::Scopes(scopes) => scopes
            .iter()
            .filter_map(|scope| match scope {
                Scope::Package(name) if !seen.contains(name) => Some(name.clone()),
                _ => None,
            })
            .collect(),
    }
}

/// Whether what is asked for reaches this version of an installed package.
fn is_reached(question: &Question<'_>, pool: &Pool<'_>, node: &pool::Node, offer: Offer) -> bool {
    let Only::Scopes(scopes) = question.only else {
        return true;
    };
    let spared = question.spared.contains(&node.name);
    scopes.iter().any(|scope| match scope {
        Scope::Package(name) => *name == node.name || *name == node.source,
        _ if spared => false,
        Scope::All => true,
        Scope::Security => pool.suite(offer).is_some_and(Suite::is_security),
        Scope::Cve(cve) => pool.offered(offer).is_some_and(|(_, package)| {
            (question.fixes)(
                cve,
                package.source_name(),
                &node.source_version,
                package.source_version(),
            )
        }),
    })
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
