//! Exceptions: what is wrong or unread and does not count, why, and until when.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_packages::Family;
use dormouse_packages::dpkg::Constraint;
use jiff::Timestamp;
use serde::Deserialize;

use crate::assessment::WaiverName;
use crate::baseline::version_range;
use crate::{Finding, Glob, Rule, Until};

/// A finding that does not count. It is reported all the same.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Waiver {
    /// By what it is called in reports; each once in a baseline.
    pub id: String,
    /// A pattern over packages' names, or the ids of checks; absent means all, where CVEs are named.
    #[serde(default)]
    pub package: Option<Glob>,
    /// The CVEs that it is for: of a finding with others too, these alone do not count.
    #[serde(default)]
    pub cves: BTreeSet<String>,
    /// Labels that the machine must have, with patterns over their values.
    #[serde(default)]
    pub labels: BTreeMap<String, Glob>,
    /// The rule whose findings it is for; absent means every rule.
    #[serde(default)]
    pub rule: Option<Rule>,
    /// The installed versions that it is for, such as `<= 1.2-3`; absent means all.
    #[serde(default, deserialize_with = "version_range")]
    pub versions: Option<Constraint>,
    /// Patterns over machines' names; none means every machine.
    #[serde(default)]
    pub machines: Vec<Glob>,
    /// Why.
    pub reason: String,
    /// Who said so.
    #[serde(default)]
    pub approver: Option<String>,
    /// Until when.
    pub expires: Until,
}

/// A gap that does not count. It is reported all the same.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AcceptedGap {
    /// By what it is called in reports; each once in a baseline.
    pub id: String,
    /// A pattern over the gap's reason.
    pub gap: Glob,
    /// A pattern over the volume's name; absent means any or none.
    #[serde(default)]
    pub volume: Option<Glob>,
    /// A pattern over the path within the guest; absent means any or none.
    #[serde(default)]
    pub path: Option<Glob>,
    /// Patterns over machines' names; none means every machine.
    #[serde(default)]
    pub machines: Vec<Glob>,
    /// Why.
    pub reason: String,
    /// Who said so.
    #[serde(default)]
    pub approver: Option<String>,
    /// Until when.
    pub expires: Until,
}

fn is_for(machines: &[Glob], machine: &str) -> bool {
    machines.is_empty() || machines.iter().any(|glob| glob.matches(machine))
}

/// The family, and with it the order of versions, that a package URL names.
fn family_of(purl: &str) -> Family {
    match purl.split(['/', '@']).next() {
        Some("pkg:rpm") => Family::Rpm,
        Some("pkg:apk") => Family::Apk,
        Some("pkg:alpm") => Family::Pacman,
        _ => Family::Dpkg,
    }
}

impl Waiver {
    /// What is wrong with it, if anything.
    pub(crate) fn why_bad(&self) -> Option<String> {
        if self.package.is_none() && self.cves.is_empty() {
            return Some(format!(
                "the waiver {:?} is for everything: name a package or CVEs",
                self.id
            ));
        }
        self.reason
            .trim()
            .is_empty()
            .then(|| format!("the waiver {:?} gives no reason", self.id))
    }

    /// Whether it is for this finding, or for CVEs of it, be it still in force or not.
    pub(crate) fn covers(
        &self,
        finding: &Finding,
        machine: &str,
        labels: &BTreeMap<String, String>,
    ) -> bool {
        let version_fits = self.versions.as_ref().is_none_or(|range| {
            let family = family_of(finding.purl.as_deref().unwrap_or_default());
            let installed = finding.installed.as_deref();
            installed.is_some_and(|installed| {
                let order = family.compare(installed, range.version.as_str());
                range.operator.admits(order)
            })
        });
        let cve_fits =
            self.cves.is_empty() || finding.cves.iter().any(|cve| self.cves.contains(&cve.id));
        version_fits
            && cve_fits
            && is_for(&self.machines, machine)
            && self
                .labels
                .iter()
                .all(|(label, glob)| labels.get(label).is_some_and(|value| glob.matches(value)))
            && self.rule.is_none_or(|rule| rule == finding.rule)
            && self
                .package
                .as_ref()
                .is_none_or(|glob| glob.matches(&finding.package))
    }

    /// How reports name it.
    pub(crate) fn name(&self) -> WaiverName {
        WaiverName {
            id: self.id.clone(),
            expires: self.expires.instant(),
            reason: self.reason.clone(),
            approver: self.approver.clone(),
        }
    }

    pub(crate) fn is_in_force(&self, as_of: Timestamp) -> bool {
        self.expires.is_after(as_of)
    }
}

impl AcceptedGap {
    pub(crate) fn covers(&self, gap: &dormouse_block::Gap, machine: &str) -> bool {
        let fits = |glob: &Option<Glob>, value: Option<String>| {
            glob.as_ref()
                .is_none_or(|glob| value.is_some_and(|value| glob.matches(&value)))
        };
        is_for(&self.machines, machine)
            && self.gap.matches(&gap.why)
            && fits(&self.volume, gap.at.volume.clone())
            && fits(&self.path, gap.at.path.as_ref().map(ToString::to_string))
    }

    /// How reports name it.
    pub(crate) fn name(&self) -> WaiverName {
        WaiverName {
            id: self.id.clone(),
            expires: self.expires.instant(),
            reason: self.reason.clone(),
            approver: self.approver.clone(),
        }
    }

    pub(crate) fn is_in_force(&self, as_of: Timestamp) -> bool {
        self.expires.is_after(as_of)
    }
}
