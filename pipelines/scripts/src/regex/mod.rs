//! POSIX regular expressions in the C locale, basic and extended, with GNU's additions.
//!
//! The leftmost and longest match is found by a backtracking machine that never visits a state twice (unless the
//! expression refers back), so its cost is bounded by program times text.

mod compile;

use crate::budget::Budget;
use crate::call::Reason;
use crate::stop::{Run, Stop};
use compile::{Compiler, emit};

/// Largest table of visited states, in bits.
const MAX_VISITED: usize = 1 << 27;

/// How an expression is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    Basic,
    Extended,
}

#[derive(Debug, Clone)]
enum Instruction {
    Byte(u8),
    Any,
    Set(Box<[bool; 256]>),
    Start,
    End,
    Edge(u8),
    Save(usize),
    Reference(usize),
    /// Try the first, then the second.
    Split(usize, usize),
    Jump(usize),
    Match,
}

#[derive(Debug, Clone)]
pub(crate) struct Regex {
    program: Vec<Instruction>,
    groups: usize,
    refers_back: bool,
    ignore_case: bool,
    /// The byte every match begins with, if there is one.
    first: Option<u8>,
}

/// Where each group matched; the first is the whole match.
pub(crate) type Captures = Vec<Option<(usize, usize)>>;

type Compiled<T> = Result<T, String>;

impl Regex {
    pub(crate) fn new(
        pattern: &[u8],
        syntax: Syntax,
        ignore_case: bool,
        sed: bool,
    ) -> Compiled<Self> {
        let mut compiler = Compiler {
            pattern,
            at: 0,
            syntax,
            sed,
            groups: 0,
            depth: 0,
            refers_back: false,
        };
        let node = compiler.alternatives()?;
        if compiler.at < pattern.len() {
            return Err("Unmatched ) or \\)".into());
        }
        let groups = compiler.groups.saturating_add(1);
        let refers_back = compiler.refers_back;
        let mut program = Vec::new();
        emit(&node, ignore_case, &mut program)?;
        program.push(Instruction::Match);
        let first = match program
            .iter()
            .find(|step| !matches!(step, Instruction::Save(_)))
        {
            Some(Instruction::Byte(byte)) if !ignore_case => Some(*byte),
            _ => None,
        };
        Ok(Self {
            program,
            groups,
            refers_back,
            ignore_case,
            first,
        })
    }

    /// An expression that matches exactly these bytes.
    pub(crate) fn fixed(text: &[u8], ignore_case: bool) -> Self {
        let mut program: Vec<Instruction> = text
            .iter()
            .map(|&byte| Instruction::Byte(fold(byte, ignore_case)))
            .collect();
        program.push(Instruction::Match);
        Self {
            first: text.first().copied().filter(|_| !ignore_case),
            program,
            groups: 1,
            refers_back: false,
            ignore_case,
        }
    }

    /// The number of groups, the whole match included.
    pub(crate) fn groups(&self) -> usize {
        self.groups
    }

    /// The leftmost, longest match that begins at `from` or later.
    pub(crate) fn find(
        &self,
        text: &[u8],
        from: usize,
        budget: &mut Budget,
    ) -> Run<Option<Captures>> {
        let width = text.len().saturating_add(1);
        let states = self.program.len().saturating_mul(width);
        if !self.refers_back && states > MAX_VISITED {
            return Err(Stop::defer(
                Reason::Limit,
                "a line is too long to be matched",
            ));
        }
        // A fresh table costs what a pass over it would.
        let words = if self.refers_back { 0 } else { states / 64 + 1 };
        let mut visited: Vec<u64> = Vec::new();
        let mut start = from;
        while start <= text.len() {
            if let Some(first) = self.first {
                let rest = text.get(start..).unwrap_or_default();
                match rest.iter().position(|&byte| byte == first) {
                    Some(skip) => start = start.saturating_add(skip),
                    None => return Ok(None),
                }
            }
            if visited.is_empty() && words > 0 {
                budget.step(u64::try_from(words / 64).unwrap_or(u64::MAX))?;
                visited = vec![0; words];
            }
            if let Some(found) = self.run(text, start, width, &mut visited, budget)? {
                return Ok(Some(found));
            }
            if matches!(self.program.first(), Some(Instruction::Start)) {
                break;
            }
            start = start.saturating_add(1);
        }
        budget.step(1)?;
        Ok(None)
    }

    pub(crate) fn is_match(&self, text: &[u8], budget: &mut Budget) -> Run<bool> {
        Ok(self.find(text, 0, budget)?.is_some())
    }

    fn run(
        &self,
        text: &[u8],
        start: usize,
        width: usize,
        visited: &mut [u64],
        budget: &mut Budget,
    ) -> Run<Option<Captures>> {
        let mut slots: Vec<Option<usize>> = vec![None; self.groups.saturating_mul(2)];
        let mut best: Option<(usize, Vec<Option<usize>>)> = None;
        let mut stack = vec![Task::Try(0, start)];
        let mut steps = 0_u64;
        while let Some(task) = stack.pop() {
            let (mut pc, mut at) = match task {
                Task::Try(pc, at) => (pc, at),
                Task::Restore(slot, value) => {
                    if let Some(place) = slots.get_mut(slot) {
                        *place = value;
                    }
                    continue;
                }
            };
            loop {
                steps = steps.saturating_add(1);
                if steps >= 1024 {
                    budget.step(steps / 8)?;
                    steps = 0;
                }
                if !self.refers_back
                    && matches!(
                        self.program.get(pc),
                        Some(Instruction::Split(..) | Instruction::Match)
                    )
                {
                    let state = pc.saturating_mul(width).saturating_add(at);
                    let bit = 1_u64 << (state % 64);
                    match visited.get_mut(state / 64) {
                        Some(word) if *word & bit == 0 => *word |= bit,
                        _ => break,
                    }
                }
                let byte = text.get(at).map(|&byte| fold(byte, self.ignore_case));
                let passes = match self.program.get(pc) {
                    Some(Instruction::Byte(expected)) => {
                        if byte != Some(*expected) {
                            break;
                        }
                        true
                    }
                    Some(Instruction::Any) => {
                        if byte.is_none() {
                            break;
                        }
                        true
                    }
                    Some(Instruction::Set(set)) => {
                        let accepts = byte
                            .and_then(|byte| set.get(usize::from(byte)))
                            .copied()
                            .unwrap_or(false);
                        if !accepts {
                            break;
                        }
                        true
                    }
                    Some(Instruction::Start) => {
                        if at != 0 {
                            break;
                        }
                        false
                    }
                    Some(Instruction::End) => {
                        if at != text.len() {
                            break;
                        }
                        false
                    }
                    Some(Instruction::Edge(kind)) => {
                        if !edge(*kind, text, at) {
                            break;
                        }
                        false
                    }
                    Some(Instruction::Save(slot)) => {
                        let value = slots.get_mut(*slot).unwrap_or(&mut None).replace(at);
                        stack.push(Task::Restore(*slot, value));
                        false
                    }
                    Some(Instruction::Reference(group)) => {
                        let slot = group.saturating_mul(2);
                        let (Some(Some(begin)), Some(Some(end))) =
                            (slots.get(slot), slots.get(slot.saturating_add(1)))
                        else {
                            break;
                        };
                        let wanted = text.get(*begin..*end).unwrap_or_default();
                        let rest = text.get(at..).unwrap_or_default();
                        let same = rest.len() >= wanted.len()
                            && rest.iter().zip(wanted).all(|(&a, &b)| {
                                fold(a, self.ignore_case) == fold(b, self.ignore_case)
                            });
                        if !same {
                            break;
                        }
                        at = at.saturating_add(wanted.len());
                        false
                    }
                    Some(Instruction::Split(one, two)) => {
                        stack.push(Task::Try(*two, at));
                        pc = *one;
                        continue;
                    }
                    Some(Instruction::Jump(to)) => {
                        pc = *to;
                        continue;
                    }
                    Some(Instruction::Match) => {
                        if best.as_ref().is_none_or(|(end, _)| at > *end) {
                            best = Some((at, slots.clone()));
                        }
                        break;
                    }
                    None => break,
                };
                if passes {
                    at = at.saturating_add(1);
                }
                pc = pc.saturating_add(1);
            }
            if best.as_ref().is_some_and(|(end, _)| *end == text.len()) {
                break;
            }
        }
        budget.step(steps / 8)?;
        Ok(best.map(|(end, slots)| {
            let mut captures: Captures = slots
                .chunks(2)
                .map(|pair| match pair {
                    [Some(begin), Some(end)] => Some((*begin, *end)),
                    _ => None,
                })
                .collect();
            if let Some(whole) = captures.first_mut() {
                *whole = Some((start, end));
            }
            captures
        }))
    }
}

enum Task {
    Try(usize, usize),
    Restore(usize, Option<usize>),
}

fn fold(byte: u8, ignore_case: bool) -> u8 {
    if ignore_case {
        byte.to_ascii_lowercase()
    } else {
        byte
    }
}

fn is_word(byte: Option<&u8>) -> bool {
    byte.is_some_and(|&byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

fn edge(kind: u8, text: &[u8], at: usize) -> bool {
    let before = at
        .checked_sub(1)
        .is_some_and(|before| is_word(text.get(before)));
    let after = is_word(text.get(at));
    match kind {
        b'b' => before != after,
        b'B' => before == after,
        b'<' => !before && after,
        _ => before && !after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Limits;

    fn find(pattern: &str, syntax: Syntax, text: &str) -> Option<Captures> {
        let regex = Regex::new(pattern.as_bytes(), syntax, false, false).unwrap();
        let mut budget = Budget::new(&Limits::default());
        regex.find(text.as_bytes(), 0, &mut budget).unwrap()
    }

    #[test]
    fn the_longest_of_the_leftmost_matches_is_found() {
        let found = find("a|ab|abc", Syntax::Extended, "xabcd").unwrap();
        assert_eq!(found[0], Some((1, 4)));
        let found = find("(a?)(ab)?", Syntax::Extended, "ab").unwrap();
        assert_eq!(found[0], Some((0, 2)));
        let found = find("\\(x*\\)\\(y\\{2,3\\}\\)", Syntax::Basic, "xxyyyy").unwrap();
        assert_eq!(found, [Some((0, 5)), Some((0, 2)), Some((2, 5))]);
    }

    #[test]
    fn hostile_expressions_end() {
        let text = "a".repeat(2000);
        assert!(find("(a*)*b", Syntax::Extended, &text).is_none());
        assert!(find("(a|a)*(a|a)*(a|aa)*c", Syntax::Extended, &text).is_none());
        assert!(
            Regex::new(
                b"((((a{255}){255}){255}){255})",
                Syntax::Extended,
                false,
                false
            )
            .is_err()
        );
    }
}
