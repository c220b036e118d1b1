//! Rules of deadlines, as a baseline writes them.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_advisories::Severity;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{Probability, Subject, Weight, Within};
use crate::{Glob, Rule};

/// What a deadline is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// The vulnerability was published.
    Published,
    /// It was listed as exploited.
    Exploited,
    /// What mends it could be had.
    Available,
    /// It was first seen on the machine, by the state; the instant judged where the state has not seen it.
    Detected,
}

impl Start {
    /// As facts spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Exploited => "exploited",
            Self::Available => "available",
            Self::Detected => "detected",
        }
    }
}

/// One rule: what it is for, and what it gives. What is left out is for all.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DeadlineRule {
    /// By what findings name it; each once.
    pub id: String,
    /// The severities it is for.
    #[serde(default)]
    pub severity: BTreeSet<Severity>,
    /// Whether it is known to be exploited.
    #[serde(default)]
    pub exploited: Option<bool>,
    /// Whether the machine is publicly exposed.
    #[serde(default)]
    pub exposed: Option<bool>,
    /// Whether exploiting it can be automated.
    #[serde(default)]
    pub automatable: Option<bool>,
    /// Whether it gives total control.
    #[serde(default)]
    pub total_impact: Option<bool>,
    /// The least probability of being exploited within 30 days.
    #[serde(default)]
    pub epss_at_least: Option<Probability>,
    /// The rules of the baseline whose findings it is for.
    #[serde(default)]
    pub rules: BTreeSet<Rule>,
    /// Patterns over the packages it is for.
    #[serde(default)]
    pub packages: Vec<Glob>,
    /// Labels that the machine must have, with patterns over their values.
    #[serde(default)]
    pub labels: BTreeMap<String, Glob>,
    /// The time that it gives.
    pub within: Within,
    /// What the time is counted from; of several the earliest that is known.
    #[serde(default = "published", deserialize_with = "starts")]
    pub from: BTreeSet<Start>,
    /// The machine is to be looked at for signs of an intrusion before it is changed.
    #[serde(default)]
    pub forensic_triage: bool,
}

/// What is taken where no feed and no label says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Assumed {
    /// The severity.
    pub severity: Severity,
    /// Whether it is exploited, where no catalogue was given.
    pub exploited: bool,
    /// Whether the machine is publicly exposed.
    pub exposed: bool,
    /// Whether exploiting it can be automated.
    pub automatable: bool,
    /// Whether it gives total control.
    pub total_impact: bool,
}

impl Default for Assumed {
    /// The worst of everything but exploitation, of which most vulnerabilities never see any.
    fn default() -> Self {
        Self {
            severity: Severity::Critical,
            exploited: false,
            exposed: true,
            automatable: true,
            total_impact: true,
        }
    }
}

/// The deadlines of a baseline. The first rule that matches counts, and the last one is for everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Deadlines {
    /// The shipped baseline whose rules count after those here.
    #[serde(default)]
    pub like: Option<String>,
    /// The label that says whether a machine is publicly exposed.
    #[serde(default = "exposure_label")]
    pub exposure_label: String,
    /// What is taken where no feed and no label says.
    #[serde(default)]
    pub assume: Option<Assumed>,
    /// The rules.
    #[serde(default, rename = "rule")]
    pub rules: Vec<DeadlineRule>,
}

fn exposure_label() -> String {
    "exposure".into()
}

fn published() -> BTreeSet<Start> {
    BTreeSet::from([Start::Published])
}

/// One start, or a list of them.
fn starts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Start>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        One(Start),
        Several(BTreeSet<Start>),
    }
    match Written::deserialize(deserializer) {
        Ok(Written::One(start)) => Ok(BTreeSet::from([start])),
        Ok(Written::Several(starts)) if !starts.is_empty() => Ok(starts),
        _ => Err(D::Error::custom(
            "one or several of published, exploited, available, detected are wanted",
        )),
    }
}

impl DeadlineRule {
    /// Whether it has no condition.
    pub(crate) fn is_for_everything(&self) -> bool {
        self.severity.is_empty()
            && self.exploited.is_none()
            && self.exposed.is_none()
            && self.automatable.is_none()
            && self.total_impact.is_none()
            && self.epss_at_least.is_none()
            && self.rules.is_empty()
            && self.packages.is_empty()
            && self.labels.is_empty()
    }

    /// Whether it is for this weight of this finding; notes what had to be taken for it.
    pub(super) fn is_for(
        &self,
        subject: &Subject<'_>,
        weight: &Weight,
        assume: &Assumed,
        assumed: &mut BTreeSet<(&'static str, String)>,
    ) -> bool {
        let named = (self.rules.is_empty() || self.rules.contains(&subject.rule))
            && (self.packages.is_empty()
                || self
                    .packages
                    .iter()
                    .any(|glob| glob.matches(subject.package)))
            && self.labels.iter().all(|(label, glob)| {
                let value = subject.labels.get(label);
                value.is_some_and(|value| glob.matches(value))
            });
        if !named {
            return false;
        }
        // A score that is not there is no score: the others of the rule decide.
        if let Some(least) = self.epss_at_least
            && weight.epss.is_none_or(|epss| epss < least)
        {
            return false;
        }
        let mut holds = |what, wanted: Option<bool>, known: Option<bool>, otherwise: bool| {
            wanted.is_none_or(|wanted| {
                let is = known.unwrap_or_else(|| {
                    assumed.insert((what, if otherwise { "yes" } else { "no" }.to_owned()));
                    otherwise
                });
                is == wanted
            })
        };
        if !(holds(
            "exploited",
            self.exploited,
            weight.exploited,
            assume.exploited,
        ) && holds("exposed", self.exposed, subject.exposed, assume.exposed)
            && holds(
                "automatable",
                self.automatable,
                weight.automatable,
                assume.automatable,
            )
            && holds(
                "total-impact",
                self.total_impact,
                weight.total_impact,
                assume.total_impact,
            ))
        {
            return false;
        }
        self.severity.is_empty()
            || self.severity.contains(&weight.severity.unwrap_or_else(|| {
                assumed.insert(("severity", crate::deadline::severity_word(assume.severity)));
                assume.severity
            }))
    }
}

impl Deadlines {
    /// Lets the rules of another count after its own, and what that assumes where this says nothing.
    pub(crate) fn follow(&mut self, other: Self) {
        self.rules.extend(other.rules);
        self.assume = self.assume.take().or(other.assume);
    }

    /// What is wrong with the rules, if anything.
    pub(crate) fn why_bad(&self) -> Option<String> {
        let mut ids = BTreeSet::new();
        for rule in &self.rules {
            if !ids.insert(&rule.id) {
                return Some(format!("two deadline rules with the id {:?}", rule.id));
            }
        }
        let last = self.rules.last()?;
        (!last.is_for_everything()).then(|| {
            format!(
                "the last deadline rule, {:?}, has conditions, so that some findings would have no deadline; \
                 end with one that has none",
                last.id
            )
        })
    }
}
