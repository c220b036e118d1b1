//! Which versions go together.
//!
//! The answer is found by going forward: every wanted upgrade is taken; what a taken package needs is taken too, first
//! alternative first; what a taken package breaks is upgraded too. Where that leads nowhere, the version at fault is
//! banned, with the reason, and all is begun anew without it; at the end each banned upgrade is tried once more against
//! what was found. Nothing is ever removed, and what is held or was not asked for changes only where it must.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::{Error, Result};
use dormouse_packages::dpkg::{Alternative, MultiArch, RelationField};

use super::pool::{Node, Offer, Pool, Slot};

/// Rounds of one resolution: each bans one version.
const MAX_ROUNDS: usize = 5_000;

/// A set of versions that go together.
#[derive(Debug, Clone, Default)]
pub(super) struct Solution {
    /// What is to be unpacked, by place.
    pub(super) chosen: BTreeMap<Slot, Node>,
    /// Why what was not asked for comes along, one clause each.
    pub(super) because: BTreeMap<Slot, String>,
}

/// A version that cannot be had, and why: the last clause is the root.
pub(super) type Bans = BTreeMap<Offer, Ban>;

/// Why a version cannot be had.
#[derive(Debug, Clone)]
pub(super) struct Ban {
    pub(super) why: Vec<String>,
    /// The repository has no file of it.
    pub(super) no_payload: bool,
}

/// What stopped one round.
struct Dead {
    offer: Offer,
    ban: Ban,
}

impl Dead {
    fn new(offer: Offer, why: Vec<String>) -> Self {
        let no_payload = false;
        let ban = Ban { why, no_payload };
        Self { offer, ban }
    }
}

enum Round {
    Solved(Solution),
    Dead(Dead),
}

/// The answer of [`solve`].
pub(super) struct Answer {
    pub(super) solution: Solution,
    pub(super) bans: Bans,
}

/// Takes as many of `wanted` (each a place and the version for it) as go together.
pub(super) fn solve(pool: &mut Pool<'_>, wanted: &[(Slot, Offer)]) -> Result<Answer> {
    let mut bans = Bans::new();
    for _ in 0..MAX_ROUNDS {
        match round(pool, wanted, &bans)? {
            Round::Dead(dead) => {
                bans.insert(dead.offer, dead.ban);
            }
            Round::Solved(solution) => return retry(pool, wanted, solution, bans),
        }
    }
    Err(Error::limit("no set of packages found in 5000 rounds"))
}

/// A version banned for the sake of one that was banned later may be good after all.
fn retry(
    pool: &mut Pool<'_>,
    wanted: &[(Slot, Offer)],
    mut solution: Solution,
    mut bans: Bans,
) -> Result<Answer> {
    for (_, offer) in wanted {
        let Some(why) = bans.remove(offer) else {
            continue;
        };
        match round(pool, wanted, &bans)? {
            Round::Solved(better) => solution = better,
            Round::Dead(_) => {
                bans.insert(*offer, why);
            }
        }
    }
    Ok(Answer { solution, bans })
}

struct Forward<'p, 'a> {
    pool: &'p mut Pool<'a>,
    bans: &'p Bans,
    solution: Solution,
    /// Places taken and not looked at yet, in the order in which they came.
    todo: std::collections::VecDeque<Slot>,
}

fn round(pool: &mut Pool<'_>, wanted: &[(Slot, Offer)], bans: &Bans) -> Result<Round> {
    let mut forward = Forward {
        pool,
        bans,
        solution: Solution::default(),
        todo: std::collections::VecDeque::new(),
    };
    for (slot, offer) in wanted {
        if !bans.contains_key(offer)
            && let Some(node) = forward.pool.node(*offer)?
        {
            forward.take(slot.clone(), node, None);
        }
    }
    loop {
        while let Some(slot) = forward.todo.pop_front() {
            if let Some(dead) = forward.look_at(&slot)? {
                return Ok(Round::Dead(dead));
            }
        }
        if let Some(dead) = forward.look_at_installed()? {
            return Ok(Round::Dead(dead));
        }
        if forward.todo.is_empty() {
            return Ok(Round::Solved(forward.solution));
        }
    }
}

impl Forward<'_, '_> {
    fn take(&mut self, slot: Slot, node: Node, because: Option<String>) {
        if let Some(because) = because
            && !self.solution.chosen.contains_key(&slot)
        {
            self.solution.because.insert(slot.clone(), because);
        }
        self.solution.chosen.insert(slot.clone(), node);
        self.todo.push_back(slot);
    }

    /// What will be at a place.
    fn at(&self, slot: &Slot) -> Option<&Node> {
        self.solution
            .chosen
            .get(slot)
            .or_else(|| self.pool.installed.get(slot))
    }

    /// All that will be there.
    fn all(&self) -> impl Iterator<Item = &Node> {
        let kept = self
            .pool
            .installed
            .iter()
            .filter(|(slot, _)| !self.solution.chosen.contains_key(*slot))
            .map(|(_, node)| node);
        self.solution.chosen.values().chain(kept)
    }

    fn is_met(&self, alternatives: &[Alternative], architecture: &str) -> bool {
        let native = &self.pool.native;
        alternatives.iter().any(|wanted| {
            // By name first: almost every relation is to a real package.
            self.pool
                .architectures
                .iter()
                .filter_map(|architecture| self.at(&(wanted.name.clone(), architecture.clone())))
                .any(|node| node.meets(wanted, architecture, native))
        }) || alternatives.iter().any(|wanted| {
            self.all()
                .any(|node| node.name != wanted.name && node.meets(wanted, architecture, native))
        })
    }

    fn look_at(&mut self, slot: &Slot) -> Result<Option<Dead>> {
        let Some(node) = self.solution.chosen.get(slot).cloned() else {
            return Ok(None);
        };
        let Some(offer) = node.offer else {
            return Ok(None);
        };
        let dead = |why: Vec<String>| Some(Dead::new(offer, why));
        if let Some(why) = self.pool.why_no_payload(offer)? {
            let ban = Ban {
                why: vec![format!("{}: {why}", node.title())],
                no_payload: true,
            };
            return Ok(Some(Dead { offer, ban }));
        }
        // All architectures of a package that may be installed side by side are of one version.
        if node.multi_arch == MultiArch::Same {
            let others: Vec<Slot> = self
                .pool
                .installed
                .keys()
                .filter(|other| other.0 == slot.0 && other.1 != slot.1)
                .cloned()
                .collect();
            for other in others {
                if self
                    .at(&other)
                    .is_some_and(|there| there.version == node.version)
                {
                    continue;
                }
                let same = self
                    .open_candidate(&other.0, &other.1)?
                    .filter(|candidate| candidate.version == node.version);
                match same {
                    Some(candidate) => {
                        let why = format!("{} needs the same version of it", node.title());
                        self.take(other, candidate, Some(why));
                    }
                    None => {
                        return Ok(dead(vec![format!(
                            "{} must have the same version for {} and there is none",
                            node.title(),
                            other.1
                        )]));
                    }
                }
            }
        }
        for (field, relation) in &node.needs {
            let architecture = node.own_architecture(&self.pool.native).to_owned();
            if self.is_met(relation.alternatives(), &architecture) {
                continue;
            }
            let mut why = vec![format!("{} {} {relation}", node.title(), verb(*field))];
            let because = why.first().cloned();
            if !self.provide(relation.alternatives(), &architecture, because, &mut why)? {
                return Ok(dead(why));
            }
        }
        for (field, refused) in &node.refuses {
            if let Some(why) = self.make_room(&node, *field, refused)? {
                return Ok(dead(why));
            }
        }
        let refusing: Vec<(Slot, RelationField, Alternative)> = self
            .pool
            .installed
            .iter()
            .filter(|(other, _)| *other != slot && !self.solution.chosen.contains_key(*other))
            .flat_map(|(other, there)| {
                there
                    .refuses
                    .iter()
                    .filter(|(_, refused)| {
                        there.name != node.name && node.is_refused(refused, &self.pool.native)
                    })
                    .map(|(field, refused)| (other.clone(), *field, refused.clone()))
            })
            .collect();
        for (other, field, refused) in refusing {
            let before = self.pool.installed.get(slot);
            if before.is_some_and(|before| before.is_refused(&refused, &self.pool.native)) {
                continue;
            }
            let title = self
                .pool
                .installed
                .get(&other)
                .map(Node::title)
                .unwrap_or_default();
            let better = self
                .open_candidate(&other.0, &other.1)?
                .filter(|candidate| {
                    !candidate
                        .refuses
                        .iter()
                        .any(|(_, refused)| node.is_refused(refused, &self.pool.native))
                });
            match better {
                Some(candidate) => {
                    let why = format!("{title} {} {}", verb(field), node.title());
                    self.take(other, candidate, Some(why));
                }
                None => {
                    return Ok(dead(vec![
                        node.title(),
                        format!("{title}, which is installed, {} {refused}", verb(field)),
                    ]));
                }
            }
        }
        Ok(None)
    }

    /// The candidate for one place, as apt would take it, where it is later than what is there, not held and not banned.
    fn open_candidate(&mut self, name: &str, architecture: &str) -> Result<Option<Node>> {
        let there = self
            .pool
            .installed
            .get(&(name.to_owned(), architecture.to_owned()));
        if there.is_some_and(|there| there.held) {
            return Ok(None);
        }
        match self.pool.candidate(name, architecture)? {
            Some(offer) if !self.bans.contains_key(&offer) => self.pool.node(offer),
            _ => Ok(None),
        }
    }

    /// Takes the first version on offer that meets one of `alternatives`; tells in `why` what stood in the way.
    fn provide(
        &mut self,
        alternatives: &[Alternative],
        architecture: &str,
        because: Option<String>,
        why: &mut Vec<String>,
    ) -> Result<bool> {
        let native = self.pool.native.clone();
        let mut architectures = vec![architecture.to_owned()];
        architectures.extend(
            self.pool
                .architectures
                .iter()
                .filter(|other| *other != architecture)
                .cloned(),
        );
        for wanted in alternatives {
            // A package that is there already is upgraded sooner than another one is added.
            for architecture_of in &architectures {
                let slot = (wanted.name.clone(), architecture_of.clone());
                let taken = self.solution.chosen.get(&slot).cloned();
                if let Some(candidate) = self.open_candidate(&wanted.name, architecture_of)? {
                    let better = taken
                        .as_ref()
                        .is_none_or(|taken| candidate.version > taken.version);
                    if better && candidate.meets(wanted, architecture, &native) {
                        self.take(slot, candidate, because);
                        return Ok(true);
                    }
                }
            }
            for offer in self.pool.providers(&wanted.name)? {
                if self.bans.contains_key(&offer) {
                    continue;
                }
                let Some(candidate) = self.pool.node(offer)? else {
                    continue;
                };
                let slot = (
                    candidate.name.clone(),
                    candidate.own_architecture(&native).to_owned(),
                );
                let there = self.at(&slot);
                if there.is_none_or(|there| !there.held && there.version < candidate.version)
                    && candidate.meets(wanted, architecture, &native)
                {
                    self.take(slot, candidate, because);
                    return Ok(true);
                }
            }
        }
        self.explain(alternatives, architecture, why)?;
        Ok(false)
    }

    /// Why none of `alternatives` can be had.
    fn explain(
        &mut self,
        alternatives: &[Alternative],
        architecture: &str,
        why: &mut Vec<String>,
    ) -> Result<()> {
        for wanted in alternatives {
            let slot = (wanted.name.clone(), architecture.to_owned());
            if let Some(there) = self.pool.installed.get(&slot)
                && there.held
            {
                why.push(format!("{} is on hold", there.title()));
                return Ok(());
            }
            for offer in self.pool.ranked(&wanted.name, architecture)?.0 {
                if let Some(known) = self.bans.get(&offer) {
                    why.extend(known.why.iter().cloned());
                    return Ok(());
                }
            }
        }
        let names: Vec<String> = alternatives.iter().map(ToString::to_string).collect();
        why.push(format!("nothing on offer is {}", names.join(" or ")));
        Ok(())
    }

    /// Upgrades what `node` refuses; `Some` says why that cannot be.
    fn make_room(
        &mut self,
        node: &Node,
        field: RelationField,
        refused: &Alternative,
    ) -> Result<Option<Vec<String>>> {
        let native = self.pool.native.clone();
        let hit: Vec<(Slot, Node)> = self
            .all()
            .filter(|other| other.name != node.name && other.is_refused(refused, &native))
            .map(|other| {
                let slot = (
                    other.name.clone(),
                    other.own_architecture(&native).to_owned(),
                );
                (slot, other.clone())
            })
            .collect();
        for (slot, other) in hit {
            let better = self.open_candidate(&slot.0, &slot.1)?.filter(|candidate| {
                candidate.version > other.version && !candidate.is_refused(refused, &native)
            });
            match better {
                Some(candidate) => {
                    let why = format!("{} {} {refused}", node.title(), verb(field));
                    self.take(slot, candidate, Some(why));
                }
                None => {
                    let mut why = vec![format!("{} {} {refused}", node.title(), verb(field))];
                    why.push(if other.held {
                        format!("{} is on hold", other.title())
                    } else {
                        format!(
                            "{} is there and has no version that would do",
                            other.title()
                        )
                    });
                    return Ok(Some(why));
                }
            }
        }
        Ok(None)
    }

    /// What is not upgraded must not lose what it had.
    fn look_at_installed(&mut self) -> Result<Option<Dead>> {
        let native = self.pool.native.clone();
        let changed: BTreeSet<String> = self
            .solution
            .chosen
            .keys()
            .filter_map(|slot| self.pool.installed.get(slot))
            .flat_map(|before| {
                std::iter::once(before.name.clone())
                    .chain(before.provides.iter().map(|given| given.name.clone()))
            })
            .collect();
        let kept: Vec<(Slot, Node)> = self
            .pool
            .installed
            .iter()
            .filter(|(slot, _)| !self.solution.chosen.contains_key(*slot))
            .filter(|(_, node)| {
                node.needs.iter().any(|(_, relation)| {
                    relation
                        .alternatives()
                        .iter()
                        .any(|one| changed.contains(&one.name))
                })
            })
            .map(|(slot, node)| (slot.clone(), node.clone()))
            .collect();
        for (slot, node) in kept {
            let architecture = node.own_architecture(&native).to_owned();
            for (field, relation) in &node.needs {
                let before = self.pool.installed.values().any(|there| {
                    relation
                        .alternatives()
                        .iter()
                        .any(|one| there.meets(one, &architecture, &native))
                });
                if !before || self.is_met(relation.alternatives(), &architecture) {
                    continue;
                }
                if let Some(candidate) = self.open_candidate(&slot.0, &slot.1)? {
                    let why = format!("{} {} {relation}", node.title(), verb(*field));
                    self.take(slot, candidate, Some(why));
                    return Ok(None);
                }
                let culprit = self.solution.chosen.iter().find(|(place, _)| {
                    self.pool.installed.get(*place).is_some_and(|before| {
                        relation
                            .alternatives()
                            .iter()
                            .any(|one| before.meets(one, &architecture, &native))
                    })
                });
                let Some((_, culprit)) = culprit else {
                    continue;
                };
                let Some(offer) = culprit.offer else { continue };
                let mut why = vec![
                    culprit.title(),
                    format!(
                        "{}, which is installed and has no newer version that may be taken, {} {relation}",
                        node.title(),
                        verb(*field)
                    ),
                ];
                if node.held {
                    why.push(format!("{} is on hold", node.title()));
                }
                return Ok(Some(Dead::new(offer, why)));
            }
        }
        Ok(None)
    }
}

fn verb(field: RelationField) -> &'static str {
    match field {
        RelationField::PreDepends => "pre-depends on",
        RelationField::Depends => "depends on",
        RelationField::Conflicts => "conflicts with",
        RelationField::Breaks => "breaks",
        _ => "names",
    }
}
