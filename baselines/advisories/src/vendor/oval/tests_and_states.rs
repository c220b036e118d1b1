//! Tests, objects and states, and the statements that criteria make of them.

use std::collections::HashMap;

use dormouse_block::{Error, Result};
use dormouse_packages::Family;

use super::super::xml::{Element, Node, Nodes};
use super::criteria::Criteria;
use crate::catalogue::Symbols;
use crate::judgement::is_modular;
use crate::statement::{Claim, Names, SOME_MODULE, Status, is_zero};
use crate::target::release_of;

/// Statements of one definition.
const MAX_CLAIMS: usize = 1_000_000;

/// What a test is about: numbers of texts.
#[derive(Default)]
struct Test {
    family: Option<Family>,
    object: u32,
    states: Vec<u32>,
}

/// One comparison of a state: what, how, and with what.
struct Comparison {
    entity: Entity,
    operation: u32,
    value: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entity {
    Evr,
    Version,
    Arch,
    Other,
}

/// Tests, objects and states by the numbers of their ids.
#[derive(Default)]
pub(super) struct Resolver {
    tests: HashMap<u32, Test>,
    objects: HashMap<u32, u32>,
    states: HashMap<u32, Vec<Comparison>>,
}

/// What narrows the tests beside it.
#[derive(Clone, Default)]
struct Narrowed {
    releases: Vec<String>,
    module: String,
}

impl Resolver {
    /// Takes a test, object or state that has just begun; passes over anything else.
    pub(super) fn take(
        &mut self,
        element: &Element,
        nodes: &mut Nodes<'_>,
        symbols: &mut Symbols,
    ) -> Result<()> {
        let id = element.get("id");
        if id.is_empty() {
            return Ok(());
        }
        let id = symbols.number(id)?;
        if let Some(kind) = element.name.strip_suffix("_test") {
            let test = self.tests.entry(id).or_default();
            test.family = match kind {
                "rpminfo" => Some(Family::Rpm),
                "dpkginfo" => Some(Family::Dpkg),
                _ => None,
            };
            each_inside(&element.name, nodes, |inner, _| {
                match inner.name.as_str() {
                    "object" => test.object = symbols.number(inner.get("object_ref"))?,
                    "state" => test.states.push(symbols.number(inner.get("state_ref"))?),
                    _ => {}
                }
                Ok(())
            })
        } else if element.name.ends_with("_object") {
            let mut name = 0;
            each_inside(&element.name, nodes, |inner, nodes| {
                if inner.name == "name" {
                    name = symbols.number(&nodes.text()?)?;
                }
                Ok(())
            })?;
            self.objects.insert(id, name);
            Ok(())
        } else if element.name.ends_with("_state") {
            let mut all = Vec::new();
            each_inside(&element.name, nodes, |inner, nodes| {
                let entity = match inner.name.as_str() {
                    "evr" => Entity::Evr,
                    "version" => Entity::Version,
                    "arch" => Entity::Arch,
                    _ => Entity::Other,
                };
                let operation = symbols.number(inner.get("operation"))?;
                let value = symbols.number(&nodes.text()?)?;
                all.push(Comparison {
                    entity,
                    operation,
                    value,
                });
                Ok(())
            })?;
            self.states.insert(id, all);
            Ok(())
        } else {
            Ok(())
        }
    }

    /// The statements that criteria make for these releases; `None` for one about no package of a system that is known.
    pub(super) fn claims(
        &self,
        criteria: &Criteria,
        releases: &[String],
        symbols: &Symbols,
    ) -> Result<Vec<Option<Claim>>> {
        let mut out = Vec::new();
        let narrowed = Narrowed {
            releases: releases.to_vec(),
            module: String::new(),
        };
        self.walk(criteria, &narrowed, symbols, &mut out)?;
        out.sort();
        out.dedup();
        Ok(out)
    }

    fn walk(
        &self,
        criteria: &Criteria,
        narrowed: &Narrowed,
        symbols: &Symbols,
        out: &mut Vec<Option<Claim>>,
    ) -> Result<()> {
        if out.len() >= MAX_CLAIMS {
            return Err(Error::limit("a definition of more than 1000000 statements"));
        }
        match criteria {
            Criteria::Test(test, comment) => self.test(*test, *comment, narrowed, symbols, out),
            Criteria::Or(children) => children
                .iter()
                .try_for_each(|child| self.walk(child, narrowed, symbols, out)),
            Criteria::And(children) => {
                let mut narrowed = narrowed.clone();
                let mut rest = Vec::new();
                for child in children {
                    if let Some(releases) = platforms(child, symbols) {
                        narrowed.releases = releases;
                    } else if let Some(module) = module(child, symbols) {
                        narrowed.module = module;
                    } else {
                        rest.push(child);
                    }
                }
                let mut here = Vec::new();
                for child in rest {
                    match child {
                        Criteria::Test(..) => self.walk(child, &narrowed, symbols, &mut here)?,
                        _ => self.walk(child, &narrowed, symbols, out)?,
                    }
                }
                out.append(&mut joined(here));
                Ok(())
            }
        }
    }

    fn test(
        &self,
        test: u32,
        comment: u32,
        narrowed: &Narrowed,
        symbols: &Symbols,
        out: &mut Vec<Option<Claim>>,
    ) -> Result<()> {
        let found = match self.tests.get(&test) {
            Some(found) => self.of_test(found, symbols)?,
            // Some of Oracle's excerpts have definitions alone; their comments say what the tests do.
            None => of_comment(&symbols.text(comment)).ok_or_else(|| {
                Error::corrupt(format!(
                    "a criterion names the test {:?}, which is not there",
                    symbols.text(test)
                ))
            })?,
        };
        let Some(mut claim) = found else {
            return Ok(());
        };
        if narrowed.releases.is_empty() {
            out.push(None);
        }
        claim.module.clone_from(&narrowed.module);
        if claim.module.is_empty() && is_modular(&claim.fixed) {
            SOME_MODULE.clone_into(&mut claim.module);
        }
        for release in &narrowed.releases {
            let mut claim = claim.clone();
            claim.release.clone_from(release);
            // Debian's name sources; Microsoft's name what is both.
            claim.names = match release.split(':').next() {
                Some("debian") => Names::Source,
                Some("azurelinux" | "mariner") => Names::Either,
                _ => Names::Binary,
            };
            out.push(Some(claim));
        }
        Ok(())
    }

    /// What a test says of a package; `None` for one that is a condition and says nothing of a version.
    fn of_test(&self, test: &Test, symbols: &Symbols) -> Result<Option<Claim>> {
        let Some(family) = test.family else {
            return Ok(None);
        };
        let missing = |what: &str, id: u32| {
            Error::corrupt(format!(
                "a test names the {what} {:?}, which is not there",
                symbols.text(id)
            ))
        };
        let name = *self
            .objects
            .get(&test.object)
            .ok_or_else(|| missing("object", test.object))?;
        let mut claim = Claim::new(family, &symbols.text(name), Names::Binary, "");
        let mut says = false;
        for state in &test.states {
            let all = self
                .states
                .get(state)
                .ok_or_else(|| missing("state", *state))?;
            for one in all {
                let (operation, value) = (symbols.text(one.operation), symbols.text(one.value));
                says |= compare(&mut claim, one.entity, &operation, &value)?;
            }
        }
        Ok((says && name != 0).then_some(claim))
    }
}

/// Adds a comparison to a statement; whether it says which versions are affected.
fn compare(claim: &mut Claim, entity: Entity, operation: &str, value: &str) -> Result<bool> {
    match entity {
        Entity::Arch => {
            let names = value.trim_matches(['(', ')', '^', '$']);
            claim.architectures = names
                .split('|')
                .map(str::trim)
                .collect::<Vec<_>>()
                .join(" ");
            Ok(false)
        }
        Entity::Other => Ok(false),
        // A release's own package: `^8`.
        Entity::Version if operation == "pattern match" => Ok(false),
        // SUSE's way to say that a package is not affected.
        Entity::Version | Entity::Evr if matches!(operation, "equals" | "") && is_zero(value) => {
            claim.status = Status::NotAffected;
            Ok(true)
        }
        Entity::Version => Ok(false),
        Entity::Evr => {
            match operation {
                "less than" => value.clone_into(&mut claim.fixed),
                "less than or equal" => value.clone_into(&mut claim.last_affected),
                "greater than or equal" | "greater than" if is_zero(value) => {}
                // The version itself counts with those after it: too much by one, rather than too little.
                "greater than or equal" | "greater than" => {
                    value.clone_into(&mut claim.introduced);
                }
                "equals" | "" => {
                    value.clone_into(&mut claim.introduced);
                    value.clone_into(&mut claim.last_affected);
                }
                other => {
                    return Err(Error::unsupported(format!(
                        "the operation {other:?} on versions"
                    )));
                }
            }
            Ok(true)
        }
    }
}

/// Joins two tests of one package, of which one says where its range begins and the other where it ends.
fn joined(claims: Vec<Option<Claim>>) -> Vec<Option<Claim>> {
    let mut out: Vec<Option<Claim>> = Vec::new();
    for claim in claims {
        let Some(claim) = claim else {
            out.push(None);
            continue;
        };
        let is_begin = |one: &Claim| one.fixed.is_empty() && one.last_affected.is_empty();
        let is_end = |one: &Claim| one.introduced.is_empty();
        let is_same = |one: &Claim| {
            one.family == claim.family
                && one.package == claim.package
                && one.release == claim.release
                && one.status == claim.status
                && ((is_begin(one) && is_end(&claim)) || (is_end(one) && is_begin(&claim)))
        };
        match out.iter_mut().flatten().find(|one| is_same(one)) {
            Some(one) if is_begin(one) => {
                one.fixed = claim.fixed;
                one.last_affected = claim.last_affected;
            }
            Some(one) => one.introduced = claim.introduced,
            None => out.push(Some(claim)),
        }
    }
    out
}

/// The releases that criteria ask for, where they ask for nothing else.
fn platforms(criteria: &Criteria, symbols: &Symbols) -> Option<Vec<String>> {
    match criteria {
        Criteria::Test(_, comment) => {
            let comment = symbols.text(*comment);
            let name = comment.trim().strip_suffix("is installed")?;
            release_of(name).map(|release| vec![release])
        }
        Criteria::And(children) | Criteria::Or(children) => {
            let all: Option<Vec<_>> = children
                .iter()
                .map(|child| platforms(child, symbols))
                .collect();
            let all: Vec<String> = all?.into_iter().flatten().collect();
            (!all.is_empty()).then_some(all)
        }
    }
}

/// `Module nodejs:18 is enabled`.
fn module(criteria: &Criteria, symbols: &Symbols) -> Option<String> {
    let Criteria::Test(_, comment) = criteria else {
        return None;
    };
    let comment = symbols.text(*comment);
    let name = comment
        .trim()
        .strip_prefix("Module ")?
        .strip_suffix(" is enabled")?;
    Some(name.to_owned())
}

/// What a comment says of a package; `None` where it is none of these vendors'.
fn of_comment(comment: &str) -> Option<Option<Claim>> {
    let comment = comment.trim();
    if let Some((name, version)) = comment.split_once(" is earlier than ") {
        let claim = Claim::new(Family::Rpm, name, Names::Binary, "");
        return Some(Some(claim.fixed_in(version)));
    }
    let is_condition = comment.ends_with(" is installed") || comment.contains(" is signed with ");
    is_condition.then_some(None)
}

/// Calls `take` with each element in the one of this name, to its end.
fn each_inside(
    name: &str,
    nodes: &mut Nodes<'_>,
    mut take: impl FnMut(&Element, &mut Nodes<'_>) -> Result<()>,
) -> Result<()> {
    loop {
        match nodes.next()? {
            Some(Node::Start(inner)) => take(&inner, nodes)?,
            Some(Node::End(ended)) if ended == name => return Ok(()),
            Some(_) => {}
            None => return Err(nodes.bad(format!("the feed ends in {name}"))),
        }
    }
}
