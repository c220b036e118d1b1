//! The criteria of a definition: which tests, joined how.

use dormouse_block::Result;

use super::super::xml::{Element, Node, Nodes};
use crate::catalogue::Symbols;

/// Criteria of one feed. SUSE's of all products has some millions.
pub(super) const MAX_CRITERIA: usize = 16_000_000;
/// Criteria one in another.
const MAX_DEPTH: usize = 32;

/// A test, or several joined.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Criteria {
    /// The numbers of a test's id and of its comment.
    Test(u32, u32),
    /// All hold.
    And(Vec<Criteria>),
    /// Any holds.
    Or(Vec<Criteria>),
}

impl Criteria {
    /// Reads the criteria that have just begun, to their end. What is negated narrows what stands beside it and is left out: the rest
    /// then says too much rather than too little.
    pub(super) fn read(
        start: &Element,
        nodes: &mut Nodes<'_>,
        symbols: &mut Symbols,
        count: &mut usize,
    ) -> Result<Self> {
        let mut open = vec![(start.get("operator") == "OR", is_negated(start), Vec::new())];
        loop {
            let Some(node) = nodes.next()? else {
                return Err(nodes.bad("the feed ends in criteria"));
            };
            match node {
                Node::Start(element) => match element.name.as_str() {
                    "criteria" => {
                        if open.len() >= MAX_DEPTH {
                            return Err(nodes.bad("criteria more than 32 deep"));
                        }
                        open.push((
                            element.get("operator") == "OR",
                            is_negated(&element),
                            Vec::new(),
                        ));
                    }
                    "criterion" if !is_negated(&element) => {
                        let test = element.get("test_ref");
                        if test.is_empty() {
                            return Err(nodes.bad("a criterion without the attribute test_ref"));
                        }
                        *count = count.saturating_add(1);
                        let test = Self::Test(
                            symbols.number(test)?,
                            symbols.number(element.get("comment"))?,
                        );
                        if let Some((_, _, children)) = open.last_mut() {
                            children.push(test);
                        }
                    }
                    _ => {}
                },
                Node::End(name) if name == "criteria" => {
                    let Some((is_or, negated, children)) = open.pop() else {
                        return Err(nodes.bad("criteria that end and never began"));
                    };
                    let whole = if is_or {
                        Self::Or(children)
                    } else {
                        Self::And(children)
                    };
                    match open.last_mut() {
                        Some((_, _, outer)) if !negated => outer.push(whole),
                        Some(_) => {}
                        None => return Ok(whole),
                    }
                }
                Node::End(_) | Node::Text(_) => {}
            }
        }
    }
}

fn is_negated(element: &Element) -> bool {
    element.get("negate") == "true"
}
