//! Severities, first sightings and deadlines of findings, and the order of risk.

use std::cmp::Reverse;

use dormouse_advisories::FeedKind;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Judge;
use crate::assessment::MendedCve;
use crate::deadline::{Subject, Weight, exposure};
use crate::{Assessment, Finding};

impl Judge<'_> {
    /// Whether the machine is publicly exposed, where its labels say.
    pub(super) fn exposed(&self) -> Option<bool> {
        let label = &self.question.baseline.deadlines.exposure_label;
        self.question
            .labels
            .get(label)
            .and_then(|value| exposure(value))
    }

    /// Whether a catalogue of exploited vulnerabilities was given.
    pub(super) fn has_catalogue(&self) -> bool {
        let mut feeds = self.question.advisories.feeds().iter();
        feeds.any(|feed| feed.kind == FeedKind::Exploited)
    }

    /// What the given feeds know of a CVE.
    pub(super) fn weight(&self, cve: &MendedCve) -> Weight {
        let catalogue = self.has_catalogue();
        Weight {
            cve: Some(cve.id.clone()),
            severity: cve.severity,
            exploited: (cve.exploited || catalogue).then_some(cve.exploited),
            automatable: cve.automatable,
            total_impact: cve.total_impact,
            epss: cve.epss.as_deref().and_then(|score| score.parse().ok()),
            published: cve.published,
            exploited_since: cve
                .exploited_since
                .and_then(|day| day.to_zoned(TimeZone::UTC).ok())
                .map(|day| day.timestamp()),
            // What names the version that mends it came with the vendor's advisory.
            available: cve.published.filter(|_| cve.advisory.is_some()),
        }
    }

    /// Gives every finding its severity, when it was first seen, and until when it may stay; CVEs that a waiver covers
    /// count for neither.
    pub(super) fn time(&self, finding: &mut Finding) {
        let question = self.question;
        let counting = || finding.cves.iter().filter(|cve| cve.waiver.is_none());
        let worst = counting().filter_map(|cve| cve.severity).max();
        let severity = worst.or(finding.severity);
        let seen = finding.sightings();
        let first = seen
            .iter()
            .filter_map(|what| {
                question
                    .history
                    .first_seen(&finding.package, what, self.as_of)
            })
            .min();
        let mut weights: Vec<Weight> = counting().map(|cve| self.weight(cve)).collect();
        if weights.is_empty() {
            weights.push(Weight {
                severity: finding.severity,
                exploited: Some(false),
                automatable: Some(false),
                total_impact: Some(false),
                ..Weight::default()
            });
        }
        let due = weights
            .iter()
            .filter_map(|weight| {
                let what = weight.cve.as_deref().or(seen.first().map(String::as_str));
                let detected = what
                    .and_then(|what| {
                        question
                            .history
                            .first_seen(&finding.package, what, self.as_of)
                    })
                    .unwrap_or(self.as_of);
                let subject = Subject {
                    rule: finding.rule,
                    package: &finding.package,
                    exposed: self.exposed(),
                    labels: question.labels,
                    detected,
                    as_of: self.as_of,
                };
                question
                    .baseline
                    .deadlines
                    .due(&subject, std::slice::from_ref(weight))
            })
            .collect();
        finding.severity = severity;
        finding.first_seen = first;
        finding.due = crate::Due::earliest(due);
    }
}

/// By what findings are in order, the riskiest first: exploited, exposed, severe, due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Risk {
    exploited: Reverse<bool>,
    exposed: Reverse<bool>,
    severity: Reverse<Option<dormouse_advisories::Severity>>,
    at_next_upgrade: bool,
    until: Option<Timestamp>,
}

impl Risk {
    /// The risk of a finding of this assessment.
    #[must_use]
    pub fn of(assessment: &Assessment, finding: &Finding) -> Self {
        Self::on(assessment.exposed, finding)
    }

    pub(super) fn on(exposed: Option<bool>, finding: &Finding) -> Self {
        let until = finding.due.as_ref().and_then(|due| due.until);
        Self {
            exploited: Reverse(finding.cves.iter().any(|cve| cve.exploited)),
            exposed: Reverse(exposed.unwrap_or(false)),
            severity: Reverse(finding.severity),
            at_next_upgrade: until.is_none(),
            until,
        }
    }
}
