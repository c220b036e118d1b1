//! Gates: CVEs that must not be open on a machine, by name or by how bad they are.

use std::collections::BTreeSet;

use dormouse_advisories::Severity;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::deadline::{Probability, Weight};
use crate::{Glob, Scope};

/// CVEs that must not be open. Those named, and those that match every other line given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CveGate {
    /// By what findings name it; each once.
    pub id: String,
    /// CVEs by name.
    #[serde(default, deserialize_with = "cves")]
    pub cves: BTreeSet<String>,
    /// The least severity; what no feed says the severity of is at least as bad.
    #[serde(default)]
    pub severity_at_least: Option<Severity>,
    /// Whether they are known to be exploited.
    #[serde(default)]
    pub exploited: Option<bool>,
    /// The least probability of being exploited within 30 days.
    #[serde(default)]
    pub epss_at_least: Option<Probability>,
    /// Patterns over the packages; none means every package.
    #[serde(default)]
    pub packages: Vec<Glob>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

fn cves<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    let cves = BTreeSet::<String>::deserialize(deserializer)?;
    let is_cve = |text: &String| matches!(text.parse::<Scope>(), Ok(Scope::Cve(_)));
    match cves.iter().find(|text| !is_cve(text)) {
        Some(text) => Err(D::Error::custom(format!(
            "{text:?} is no name such as CVE-2021-44228"
        ))),
        None => Ok(cves),
    }
}

impl CveGate {
    /// What is wrong with it, if anything.
    pub(crate) fn why_bad(&self) -> Option<String> {
        let matches_nothing = self.cves.is_empty()
            && self.severity_at_least.is_none()
            && self.exploited.is_none()
            && self.epss_at_least.is_none();
        matches_nothing.then(|| {
            format!(
                "the gate {:?} names no CVE and no severity, exploitation or probability",
                self.id
            )
        })
    }

    /// Whether an open CVE of a package may not be.
    pub(crate) fn forbids(&self, package: &str, weight: &Weight) -> bool {
        if !self.packages.is_empty() && !self.packages.iter().any(|glob| glob.matches(package)) {
            return false;
        }
        let named = weight
            .cve
            .as_ref()
            .is_some_and(|cve| self.cves.contains(cve));
        let described = self.severity_at_least.is_some()
            || self.exploited.is_some()
            || self.epss_at_least.is_some();
        named
            || (described
                && self
                    .severity_at_least
                    .is_none_or(|least| weight.severity.is_none_or(|severity| severity >= least))
                && self
                    .exploited
                    .is_none_or(|wanted| weight.exploited.unwrap_or(false) == wanted)
                && self
                    .epss_at_least
                    .is_none_or(|least| weight.epss.is_some_and(|epss| epss >= least)))
    }
}
