//! The report of a run: one fact, and the formats it is shown in.

mod html;

use std::collections::BTreeMap;

use dormouse_block::{Error, Gap, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A run, as its readers want it: every machine and restore point with its verdict and what was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RunReport {
    /// `dormouse/run/v1`.
    pub schema: String,
    /// The run's id.
    pub run: String,
    /// Name and version of the program.
    pub tool: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The baseline's name and digest.
    pub baseline: String,
    /// The instant everything was judged at, RFC 3339 UTC.
    pub as_of: String,
    /// What the machines were judged against: a line for each suite, with its date and digest.
    pub feeds: Vec<String>,
    /// Counts over all restore points.
    pub totals: Totals,
    /// The machines by name.
    pub machines: Vec<MachineReport>,
    /// What of the library or of the feeds could not be read.
    pub gaps: Vec<ReportGap>,
}

/// Counts over all restore points of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Totals {
    /// Machines.
    pub machines: u64,
    /// Restore points.
    pub points: u64,
    /// Restore points by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// Restore points for which a patched image was written.
    pub patched: u64,
    /// Restore points with a catch-up plan.
    pub catch_up: u64,
    /// Findings.
    pub findings: u64,
    /// Gaps.
    pub gaps: u64,
    /// Packages listed.
    pub packages: u64,
}

/// One machine of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MachineReport {
    /// Its name.
    pub machine: String,
    /// The container format of its disk.
    pub format: String,
    /// Every host file of its chain, by path within the library.
    pub files: Vec<String>,
    /// Its restore points.
    pub points: Vec<PointReport>,
    /// What of it could not be read at all.
    pub gaps: Vec<ReportGap>,
}

/// One restore point of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PointReport {
    /// Its id.
    pub point: String,
    /// Its name.
    pub name: String,
    /// Cold, suspended, hibernated, crashed or running.
    pub power: String,
    /// The operating system's own name.
    pub os: String,
    /// Packages listed.
    pub packages: u64,
    /// The verdict, such as `non-compliant`.
    pub verdict: String,
    /// The verdict that the patched image would get, where one was written.
    pub after: Option<String>,
    /// What was done: `nothing to do`, `patched`, `catch-up plan`, or why nothing could be done.
    pub action: String,
    /// What an injection left for the machine's first boot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<ReportLeft>,
    /// What the machine says of its first boot after an earlier injection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_boot: Option<String>,
    /// Files that this run wrote for it, by what they are, as paths within the results.
    pub outputs: BTreeMap<String, String>,
    /// What the baseline found.
    pub findings: Vec<ReportFinding>,
    /// What could not be read or judged.
    pub gaps: Vec<ReportGap>,
}

/// Something that an injection left for the first boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReportLeft {
    /// What, such as `bind9 1:9.18.1-1`.
    pub what: String,
    /// Why, in one clause.
    pub why: String,
}

/// One finding of a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReportFinding {
    /// The package, or the id of a check.
    pub package: String,
    /// The version that is installed, if any.
    pub installed: String,
    /// The version that is wanted, if any.
    pub wanted: String,
    /// How bad it is, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// The instant from which on it is overdue; absent where there is no deadline, or it is the next upgrade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Whether it is overdue; absent where there is no deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overdue: Option<bool>,
    /// Which rule, and why.
    pub why: String,
    /// The waiver that covers it, if one does.
    pub waiver: Option<String>,
}

/// One gap, as its readers want it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReportGap {
    /// Where.
    pub at: String,
    /// Why.
    pub why: String,
    /// Whether packages may be hidden there.
    pub may_hide_packages: bool,
}

impl From<&Gap> for ReportGap {
    fn from(gap: &Gap) -> Self {
        Self {
            at: gap.at.to_string(),
            why: gap.why.clone(),
            may_hide_packages: gap.may_hide_packages,
        }
    }
}

/// A form in which a report can be written.
pub trait ReportFormat: Sync {
    /// Its name, which is also the file's ending.
    fn name(&self) -> &'static str;

    /// The report in this form.
    ///
    /// # Errors
    /// Only when the report cannot be written in this form at all.
    fn render(&self, report: &RunReport) -> Result<Vec<u8>>;
}

/// The forms in which a report can be written.
pub const REPORT_FORMATS: &[&dyn ReportFormat] = &[&Json, &html::Html];

/// The form of this name.
#[must_use]
pub fn report_format(name: &str) -> Option<&'static dyn ReportFormat> {
    REPORT_FORMATS
        .iter()
        .copied()
        .find(|format| format.name() == name)
}

struct Json;

impl ReportFormat for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn render(&self, report: &RunReport) -> Result<Vec<u8>> {
        let mut out = serde_json::to_vec_pretty(report)
            .map_err(|error| Error::corrupt("cannot write the report").because(error))?;
        out.push(b'\n');
        Ok(out)
    }
}
