//! In which order packages are unpacked.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_packages::dpkg::RelationField;

use super::pool::{Node, Slot};

/// What a package needs comes before it, and what it breaks in its old version does; `Pre-Depends` hold even where
/// other relations run in circles. The same set gives the same order.
pub(super) fn order(chosen: &BTreeMap<Slot, Node>, native: &str) -> Vec<Slot> {
    let before = |node: &Node, slot: &Slot, field: Option<RelationField>| -> Vec<Slot> {
        let mut out = Vec::new();
        let architecture = node.own_architecture(native);
        for (known, relation) in &node.needs {
            if field.is_some_and(|field| field != *known) {
                continue;
            }
            for wanted in relation.alternatives() {
                out.extend(
                    chosen
                        .iter()
                        .filter(|(other, candidate)| {
                            *other != slot && candidate.meets(wanted, architecture, native)
                        })
                        .map(|(other, _)| other.clone()),
                );
            }
        }
        if field.is_none() {
            for (_, refused) in &node.refuses {
                out.extend(
                    chosen
                        .keys()
                        .filter(|other| other.0 == refused.name && *other != slot)
                        .cloned(),
                );
            }
        }
        out
    };
    // Depth first, without recursion: a place is written down when all before it are.
    let mut done: BTreeSet<Slot> = BTreeSet::new();
    let mut open: BTreeSet<Slot> = BTreeSet::new();
    let mut rough: Vec<Slot> = Vec::new();
    for start in chosen.keys() {
        let mut stack = vec![(start.clone(), false)];
        while let Some((slot, left)) = stack.pop() {
            if left {
                if done.insert(slot.clone()) {
                    rough.push(slot);
                }
                continue;
            }
            if done.contains(&slot) || !open.insert(slot.clone()) {
                continue;
            }
            let Some(node) = chosen.get(&slot) else {
                continue;
            };
            stack.push((slot.clone(), true));
            let mut next = before(node, &slot, Some(RelationField::PreDepends));
            next.extend(before(node, &slot, None));
            for other in next.into_iter().rev() {
                if !done.contains(&other) && !open.contains(&other) {
                    stack.push((other, false));
                }
            }
        }
    }
    // Then strictly by Pre-Depends, otherwise as found.
    let mut out: Vec<Slot> = Vec::new();
    let mut rest = rough;
    while !rest.is_empty() {
        let ready = rest
            .iter()
            .position(|slot| {
                chosen.get(slot).is_none_or(|node| {
                    before(node, slot, Some(RelationField::PreDepends))
                        .iter()
                        .all(|other| !rest.contains(other))
                })
            })
            .unwrap_or(0);
        out.push(rest.remove(ready));
    }
    out
}
