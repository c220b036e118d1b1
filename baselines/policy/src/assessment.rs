//! The judgement of one restore point, as a fact.

use std::collections::BTreeSet;

use dormouse_advisories::{Feed, Severity, Status, Suite};
use dormouse_block::{Digest, Gap, Locator};
use dormouse_packages::State;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Due, Verdict};

/// How one restore point stands to one baseline at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Assessment {
    /// [`Assessment::SCHEMA`].
    #[serde(deserialize_with = "known_schema")]
    pub schema: String,
    /// Which machine and restore point.
    pub at: Locator,
    /// The instant judged.
    pub as_of: Timestamp,
    /// By what.
    pub baseline: BaselineName,
    /// The answer.
    pub verdict: Verdict,
    /// Whether the baseline's gate lets the verdict pass.
    pub passes: bool,
    /// Why the verdict is what it is, one clause each, the weightiest first.
    pub reasons: Vec<String>,
    /// Whether nothing that counts was left unread: no gap that may hide a package and is not accepted.
    pub coverage_complete: bool,
    /// Installed packages held against the baseline.
    pub judged: usize,
    /// What is not as it should be, waived or not.
    /// The riskiest first: exploited, severe, due.
    pub findings: Vec<Finding>,
    /// Whether the machine is publicly exposed, where its labels say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed: Option<bool>,
    /// Checks of files and settings that found everything as it must be.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub checks_right: usize,
    /// Checks that could not be judged, and why.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unjudged: BTreeSet<String>,
    /// Packages whose files are there and whose configuration is outstanding.
    pub outstanding: BTreeSet<Outstanding>,
    /// Installed packages that no given repository knows.
    pub unknown: BTreeSet<UnknownPackage>,
    /// Waivers and accepted gaps that would have counted, had they not expired.
    pub expired_waivers: BTreeSet<WaiverName>,
    /// What was not read or could not be judged, and is not accepted.
    pub gaps: BTreeSet<Gap>,
    /// What was not read, and is accepted.
    pub accepted_gaps: BTreeSet<AcceptedGapName>,
    /// The suites that were given.
    pub suites: Vec<Suite>,
    /// The feeds that were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feeds: Vec<Feed>,
    /// What packages have and no version mends, where the baseline does not want it as findings.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unfixed: BTreeSet<Unfixed>,
}

/// Which baseline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BaselineName {
    /// Its name.
    pub name: String,
    /// Digest of its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// A rule of a baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// A demanded suite has a newer version.
    Suite,
    /// The version is below the minimum.
    MinimumVersion,
    /// The package must not be there.
    Forbidden,
    /// The package must be there.
    Required,
    /// No given repository knows the package.
    Unknown,
    /// Unpacking was begun and not finished: its files are of no certain version.
    Broken,
    /// A vendor's advisory says that the version is affected.
    Advisory,
    /// A CVE is open that a gate forbids.
    Gate,
    /// A file is not as it must be.
    File,
    /// A setting is not as it must be.
    Setting,
    /// A fix is relevant and not made.
    Fix,
}

impl Rule {
    /// The rule as facts spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Suite => "suite",
            Self::MinimumVersion => "minimum-version",
            Self::Forbidden => "forbidden",
            Self::Required => "required",
            Self::Unknown => "unknown",
            Self::Broken => "broken",
            Self::Advisory => "advisory",
            Self::Gate => "gate",
            Self::File => "file",
            Self::Setting => "setting",
            Self::Fix => "fix",
        }
    }
}

/// What a check wanted, and what it found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CheckResult {
    /// The file or files.
    pub place: String,
    /// How it must be.
    pub expected: String,
    /// How it is.
    pub found: String,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// One package, file, setting or fix that is not as the baseline wants it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Finding {
    /// The package's name; the id of the check or fix for the rules `file`, `setting` and `fix`.
    pub package: String,
    /// Its architecture; empty for one that is missing.
    pub architecture: String,
    /// By which rule.
    pub rule: Rule,
    /// The version there; absent for one that is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<String>,
    /// The version wanted, where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
    /// The suite that has the wanted version, for the rule `suite`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<String>,
    /// Why, in one clause.
    pub why: String,
    /// The CVEs that the wanted version mends, by the given feeds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cves: Vec<MendedCve>,
    /// The administrator holds the package at its version, so an upgrade must be asked for by name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// Its package URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purl: Option<String>,
    /// The waiver by which it does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiver: Option<WaiverName>,
    /// The statement of a vendor or of the user's own by which it does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerName>,
    /// How bad: the worst of its CVEs, or what its check says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// When it was first seen on the machine, by the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Timestamp>,
    /// Until when it may stay, where the baseline has deadlines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Due>,
    /// What a check wanted and found, for the rules `file`, `setting` and `fix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckResult>,
}

impl Finding {
    /// A finding with nothing but its subject, rule and reason.
    #[must_use]
    pub fn of(package: impl Into<String>, rule: Rule, why: impl Into<String>) -> Self {
        Self {
            package: package.into(),
            architecture: String::new(),
            rule,
            installed: None,
            wanted: None,
            suite: None,
            why: why.into(),
            cves: Vec::new(),
            hold: false,
            purl: None,
            waiver: None,
            answer: None,
            severity: None,
            first_seen: None,
            due: None,
            check: None,
        }
    }

    /// Whether it may still stay at the instant judged.
    #[must_use]
    pub fn is_within_deadline(&self) -> bool {
        self.due.as_ref().is_some_and(|due| !due.overdue)
    }
}

/// A statement that a package is not affected, or is mended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AnswerName {
    /// The document that says so.
    pub document: String,
    /// Not affected, or fixed.
    pub status: Status,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub justification: Option<String>,
}

/// What a package has and no version mends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Unfixed {
    /// The package's name.
    pub package: String,
    /// Its architecture.
    pub architecture: String,
    /// Its version.
    pub version: String,
    /// What it has; `fixed` is empty.
    pub cves: Vec<MendedCve>,
}

/// One CVE that a version mends.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MendedCve {
    /// Its name; the advisory's own where that names no CVE.
    pub id: String,
    /// The vendor's advisory, such as `DSA-5000-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advisory: Option<String>,
    /// The version that mends it, of the source package where the vendor speaks of sources; empty where none does.
    pub fixed: String,
    /// How urgent, in the vendor's own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urgency: Option<String>,
    /// How bad, from the vendor's word, else from its CVSS score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// When the vendor first said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Timestamp>,
    /// It is known to be exploited, by a given catalogue or a given judgement of its exploitation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exploited: bool,
    /// Since when the catalogue has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exploited_since: Option<Date>,
    /// Until when the catalogue wants it mended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exploited_due: Option<Date>,
    /// Whether its exploitation can be automated (SSVC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automatable: Option<bool>,
    /// Whether its technical impact is total (SSVC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_impact: Option<bool>,
    /// The probability that it is exploited within 30 days, as the given scores write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epss: Option<String>,
    /// The id of the waiver by which it does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiver: Option<String>,
}

/// Which waiver, and until when.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WaiverName {
    /// Its id.
    pub id: String,
    /// The instant from which on it does not count.
    pub expires: Timestamp,
    /// Its reason.
    pub reason: String,
    /// Who said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approver: Option<String>,
}

/// A gap that a waiver accepts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AcceptedGapName {
    /// The gap.
    pub gap: Gap,
    /// By what.
    pub waiver: WaiverName,
}

/// A package that its package manager has more to do for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Outstanding {
    /// Its name.
    pub package: String,
    /// Its architecture.
    pub architecture: String,
    /// The version of its files.
    pub version: String,
    /// How far it is.
    pub state: State,
}

/// An installed package of which no given repository knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UnknownPackage {
    /// Its name.
    pub package: String,
    /// Its architecture.
    pub architecture: String,
    /// Its version.
    pub version: String,
    /// What is not known.
    pub what: Unknown,
}

/// What no given repository knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// The name.
    Name,
    /// Any version as new as the installed one.
    Version,
    /// Who made it: not the system's own vendor, whose advisories are not about it.
    Origin,
}

fn known_schema<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let schema = String::deserialize(deserializer)?;
    if schema == Assessment::SCHEMA {
        Ok(schema)
    } else {
        Err(D::Error::custom(format!(
            "{schema:?} is not {:?}",
            Assessment::SCHEMA
        )))
    }
}

impl Assessment {
    /// The schema that this version writes and reads.
    pub const SCHEMA: &'static str = "dormouse/assessment/v1";

    /// Whether a finding that counts asks that the machine be looked at for signs of an intrusion before it is changed:
    /// its saved memory is kept as evidence first.
    #[must_use]
    pub fn wants_forensic_triage(&self) -> bool {
        self.open_findings()
            .any(|finding| finding.due.as_ref().is_some_and(|due| due.forensic_triage))
    }

    /// The first instant at which a finding that counts is or becomes overdue.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.open_findings()
            .filter_map(|finding| finding.due.as_ref()?.until)
            .min()
    }

    /// The findings that count: those without a waiver in force, and without an answer.
    pub fn open_findings(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.waiver.is_none() && finding.answer.is_none())
    }
}
