//! Exceptions: what is wrong or unread and does not count, why, and until when.

use dormouse_packages::dpkg::{Constraint, Version};
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
    /// A pattern over packages' names.
    pub package: Glob,
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

impl Waiver {
    /// Whether it is for this finding, be it still in force or not.
    pub(crate) fn covers(&self, finding: &Finding, machine: &str) -> bool {
        let version_fits = self.versions.as_ref().is_none_or(|range| {
            let installed = finding.installed.as_deref().map(Version::parse);
            installed.is_some_and(|version| version.is_ok_and(|version| range.admits(&version)))
        });
        version_fits
            && is_for(&self.machines, machine)
            && self.rule.is_none_or(|rule| rule == finding.rule)
            && self.package.matches(&finding.package)
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
