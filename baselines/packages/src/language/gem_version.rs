//! Version order of `RubyGems`: that of `Gem::Version`.

use std::cmp::Ordering;

/// Part of a version. Words come before numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Word(String),
    /// Without leading zeroes.
    Number(String),
}

impl Segment {
    fn is_zero(&self) -> bool {
        matches!(self, Self::Number(digits) if digits.is_empty())
    }
}

impl Ord for Segment {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Word(a), Self::Word(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            (Self::Word(_), Self::Number(_)) => Ordering::Less,
            (Self::Number(_), Self::Word(_)) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Segment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Runs of digits and runs of letters, a dash being `.pre.`; zeroes at the end of the numbers, and at the end of what follows the
/// first word, do not count.
fn segments(text: &str) -> Vec<Segment> {
    let text = text.trim().replace('-', ".pre.");
    let mut all = Vec::new();
    for part in text.split('.') {
        let mut rest = part;
        while let Some(first) = rest.chars().next() {
            let digit = first.is_ascii_digit();
            let end = rest
                .find(|c: char| c.is_ascii_digit() != digit)
                .unwrap_or(rest.len());
            let (run, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            all.push(if digit {
                Segment::Number(run.trim_start_matches('0').to_owned())
            } else {
                Segment::Word(run.to_owned())
            });
            rest = after;
        }
    }
    let words = all
        .iter()
        .position(|segment| matches!(segment, Segment::Word(_)));
    let mut tail = all.split_off(words.unwrap_or(all.len()));
    for half in [&mut all, &mut tail] {
        while half.last().is_some_and(Segment::is_zero) {
            half.pop();
        }
    }
    all.append(&mut tail);
    all
}

/// Compares two versions.
#[must_use]
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (segments(a), segments(b));
    let zero = Segment::Number(String::new());
    for index in 0..a.len().max(b.len()) {
        let order = a
            .get(index)
            .unwrap_or(&zero)
            .cmp(b.get(index).unwrap_or(&zero));
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}
