//! Until when a finding may stay: rules by severity, exploitation and exposure, and what they say of one finding.

mod rule;
mod span;

use std::collections::{BTreeMap, BTreeSet};

use dormouse_advisories::Severity;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use rule::{Assumed, DeadlineRule, Deadlines, Start};
pub use span::{Probability, Within};

use crate::Rule;

/// Until when a finding may stay, and by what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Due {
    /// The instant from which on it is overdue; absent where it waits for the next upgrade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The instant that it is counted from.
    pub since: Timestamp,
    /// What happened then.
    pub from: Start,
    /// The time that the rule gives.
    pub within: Within,
    /// The id of the rule.
    pub rule: String,
    /// Whether the time was over at the instant judged.
    pub overdue: bool,
    /// The CVE whose time it is, where the finding has several or one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cve: Option<String>,
    /// The machine is to be looked at for signs of an intrusion before it is changed: its saved memory is evidence.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forensic_triage: bool,
    /// What no feed and no label says, with what the policy takes for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub assumed: BTreeMap<String, String>,
}

/// What is known of one CVE, or of a finding without any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weight {
    /// The CVE.
    pub cve: Option<String>,
    /// How bad.
    pub severity: Option<Severity>,
    /// Whether it is known to be exploited; unknown where no catalogue was given.
    pub exploited: Option<bool>,
    /// Whether exploiting it can be automated.
    pub automatable: Option<bool>,
    /// Whether it gives total control.
    pub total_impact: Option<bool>,
    /// The probability that it is exploited within 30 days.
    pub epss: Option<Probability>,
    /// When it was published.
    pub published: Option<Timestamp>,
    /// When it was listed as exploited.
    pub exploited_since: Option<Timestamp>,
    /// When what mends it could be had.
    pub available: Option<Timestamp>,
}

/// One finding on one machine, as rules look at it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The rule of the baseline that found it.
    pub rule: Rule,
    /// The package, or what else it is about.
    pub package: &'a str,
    /// Whether the machine is publicly exposed, where its labels say.
    pub exposed: Option<bool>,
    /// The machine's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// When it was first seen on the machine.
    pub detected: Timestamp,
    /// The instant judged.
    pub as_of: Timestamp,
}

impl Deadlines {
    /// Until when a finding may stay: the earliest end that a rule gives for any of its weights.
    ///
    /// Every finding has an answer, since the last rule is for everything; none only where there is no rule at all. One
    /// weight that asks for forensic triage asks for the whole finding.
    #[must_use]
    pub fn due(&self, subject: &Subject<'_>, weights: &[Weight]) -> Option<Due> {
        let alone = [Weight::default()];
        let weights = if weights.is_empty() { &alone } else { weights };
        let all: Vec<Due> = weights
            .iter()
            .filter_map(|weight| self.of_weight(subject, weight))
            .collect();
        Due::earliest(all)
    }

    fn of_weight(&self, subject: &Subject<'_>, weight: &Weight) -> Option<Due> {
        let mut assumed = BTreeSet::new();
        let assume = self.assume.clone().unwrap_or_default();
        let rule = self
            .rules
            .iter()
            .find(|rule| rule.is_for(subject, weight, &assume, &mut assumed))?;
        let known = rule.from.iter().filter_map(|start| {
            let instant = match start {
                Start::Published => weight.published,
                Start::Exploited => weight.exploited_since,
                Start::Available => weight.available,
                Start::Detected => Some(subject.detected),
            };
            instant.map(|instant| (instant, *start))
        });
        let (since, from) = known.min().unwrap_or_else(|| {
            assumed.insert(("date", Start::Detected.as_str().to_owned()));
            (subject.detected, Start::Detected)
        });
        let until = rule.within.end(since);
        Some(Due {
            until,
            since,
            from,
            within: rule.within,
            rule: rule.id.clone(),
            overdue: until.is_some_and(|until| subject.as_of >= until),
            cve: weight.cve.clone(),
            forensic_triage: rule.forensic_triage,
            assumed: assumed
                .into_iter()
                .map(|(what, value)| (what.to_owned(), value))
                .collect(),
        })
    }
}

impl Due {
    /// The one of several that ends first, the next upgrade last. One that asks for forensic triage asks for all.
    #[must_use]
    pub fn earliest(all: Vec<Self>) -> Option<Self> {
        let triage = all.iter().any(|due| due.forensic_triage);
        let order = |due: &Self| (due.until.is_none(), due.until);
        let mut first = all
            .into_iter()
            .min_by(|a, b| order(a).cmp(&order(b)).then_with(|| a.cmp(b)))?;
        first.forensic_triage = triage;
        Some(first)
    }
}

/// Whether a machine is publicly exposed, by what the value of its label says.
///
/// `None` for a word that is not one of these: a slip of the pen is not taken for "no".
#[must_use]
pub fn exposure(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "true" | "public" | "internet" | "exposed" => Some(true),
        "no" | "false" | "private" | "internal" | "isolated" => Some(false),
        _ => None,
    }
}

/// A severity as facts spell it.
#[must_use]
pub fn severity_word(severity: Severity) -> String {
    match severity {
        Severity::None => "none",
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
    .to_owned()
}
