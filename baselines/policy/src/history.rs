//! When findings were first seen on a machine.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::Finding;

/// When each finding of one machine was first seen, by its package and by what it is: a CVE, or a rule with the version it
/// wants. What is mended and comes back is the same finding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History(BTreeMap<(String, String), Timestamp>);

impl History {
    /// Notes that something was seen; the earliest instant stays.
    pub fn note(&mut self, package: impl Into<String>, what: impl Into<String>, seen: Timestamp) {
        let first = self.0.entry((package.into(), what.into())).or_insert(seen);
        *first = (*first).min(seen);
    }

    /// When it was first seen, if it was by `as_of`.
    #[must_use]
    pub fn first_seen(&self, package: &str, what: &str, as_of: Timestamp) -> Option<Timestamp> {
        let first = self.0.get(&(package.to_owned(), what.to_owned()));
        first.copied().filter(|first| *first <= as_of)
    }

    /// What was seen before `as_of`: all that a judgement at that instant can depend on.
    pub fn before(&self, as_of: Timestamp) -> impl Iterator<Item = (&str, &str, Timestamp)> {
        self.0
            .iter()
            .filter(move |(_, seen)| **seen < as_of)
            .map(|((package, what), seen)| (package.as_str(), what.as_str(), *seen))
    }
}

impl Finding {
    /// By what a history knows it: each of its CVEs, or itself where it has none.
    #[must_use]
    pub fn sightings(&self) -> Vec<String> {
        if self.cves.is_empty() {
            let wanted = self.wanted.as_deref().unwrap_or_default();
            return vec![
                format!("{} {wanted}", self.rule.as_str())
                    .trim_end()
                    .to_owned(),
            ];
        }
        self.cves.iter().map(|cve| cve.id.clone()).collect()
    }
}
