//! Fixes beyond packages: where one is wanted, and the edits that make it.
//!
//! What holds of a guest is asked as checks ask it ([`crate::Baseline::probes`]), and what the edits would change is one more
//! question: a fix whose edits would change nothing is made.

use std::collections::BTreeSet;

use dormouse_advisories::Severity;
use dormouse_block::GuestPath;
use dormouse_packages::dpkg::Constraint;
use dormouse_packages::edit::{Edit, MAX_EDITS};
use dormouse_packages::{Glob, Inventory, LineProbe, Observed, Package, Probe};
use serde::Deserialize;

use crate::baseline::{package_name, version_ranges};
use crate::check::{ANOTHER, Answered, absolute};
use crate::{AppliesTo, FileCheck, FileState, SettingCheck};

/// Conditions of one fix.
const MAX_CONDITIONS: usize = 64;
/// Longest id and reference, in bytes.
const MAX_NAME: usize = 256;

/// A change of files that mends something. It is relevant where all of its conditions hold and an edit would change something.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fix {
    /// By what findings name it; each once.
    pub id: String,
    /// What it mends, in one clause.
    pub title: String,
    /// What asks for it: CVEs, which deadlines and waivers know, and pages.
    #[serde(default)]
    pub references: Vec<String>,
    /// How bad it is where it is not made.
    #[serde(default)]
    pub severity: Option<Severity>,
    /// The machines that it is for, of those that the baseline is for.
    #[serde(default)]
    pub applies_to: AppliesTo,
    /// Packages that must be installed for it to be relevant.
    #[serde(default, rename = "package")]
    pub packages: Vec<PackageTest>,
    /// Files that must be so for it to be relevant.
    #[serde(default, rename = "file")]
    pub files: Vec<FileCheck>,
    /// Settings that must be so for it to be relevant.
    #[serde(default, rename = "setting")]
    pub settings: Vec<SettingCheck>,
    /// Lines that must be there, or not, for it to be relevant.
    #[serde(default, rename = "line")]
    pub lines: Vec<LineTest>,
    /// What makes it, in order.
    #[serde(rename = "edit")]
    pub edits: Vec<Edit>,
}

/// A package that must be installed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PackageTest {
    /// Its name.
    #[serde(deserialize_with = "package_name")]
    pub name: String,
    /// Ranges that its version is within, such as `<< 1.2-3`, all of them.
    #[serde(default, deserialize_with = "version_ranges")]
    pub versions: Vec<Constraint>,
}

/// A line that must be in a file, or not.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LineTest {
    /// The file; links are followed. One that is not there has no lines.
    #[serde(deserialize_with = "absolute")]
    pub path: GuestPath,
    /// The whole line.
    #[serde(default)]
    pub line: Option<String>,
    /// Or a pattern over whole lines.
    #[serde(default)]
    pub matching: Option<Glob>,
    /// Whether one must be there: present or absent.
    #[serde(default)]
    pub state: FileState,
}

/// How a fix stands to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Relevance {
    /// A condition does not hold.
    Not,
    /// Its edits would change nothing.
    Made,
    /// Its edits would change something, or cannot be made.
    Relevant {
        /// How it is.
        found: String,
    },
    /// Not known, and why.
    Unknown(String),
}

impl PackageTest {
    fn holds(&self, inventory: &Inventory) -> bool {
        let is_within = |package: &Package| {
            package.is_present()
                && self.versions.iter().all(|range| {
                    let order = package
                        .family
                        .compare(&package.version, range.version.as_str());
                    range.operator.admits(order)
                })
        };
        inventory.find(&self.name).any(is_within)
    }
}

impl LineTest {
    fn probe(&self) -> Probe {
        Probe::Line(LineProbe {
            path: self.path.clone(),
            line: self.line.clone(),
            matching: self.matching.clone(),
        })
    }

    fn judge(&self, answer: &Observed) -> Answered {
        let is_there = match answer {
            Observed::Absent => false,
            Observed::Lines { count, .. } => *count > 0,
            Observed::Unread { why, .. } => return Answered::Unknown(why.clone()),
            _ => return Answered::Unknown(ANOTHER.into()),
        };
        if is_there == (self.state != FileState::Absent) {
            Answered::Right
        } else {
            Answered::Wrong {
                expected: String::new(),
                found: String::new(),
            }
        }
    }
}

impl Fix {
    /// What it wants to know of a guest.
    pub(crate) fn probes(&self) -> Vec<Probe> {
        let files = self.files.iter().map(FileCheck::probe);
        files
            .chain(self.settings.iter().map(SettingCheck::probe))
            .chain(self.lines.iter().map(LineTest::probe))
            .chain([self.edits_probe()])
            .collect()
    }

    fn edits_probe(&self) -> Probe {
        Probe::Edits {
            edits: self.edits.clone(),
        }
    }

    /// The CVEs among its references.
    pub fn cves(&self) -> impl Iterator<Item = &str> {
        let names = self.references.iter().map(String::as_str);
        names.filter(|name| name.starts_with("CVE-"))
    }

    /// The paths that its edits name.
    pub(crate) fn place(&self) -> String {
        let paths: BTreeSet<String> = self
            .edits
            .iter()
            .map(|edit| edit.path().to_string())
            .collect();
        paths.into_iter().collect::<Vec<_>>().join(" ")
    }

    /// What it makes so.
    pub(crate) fn wanted(&self) -> String {
        let edits: Vec<String> = self.edits.iter().map(ToString::to_string).collect();
        edits.join("; ")
    }

    /// How it stands to a machine, by what that answered. A condition that is known not to hold settles it, whatever is not
    /// known beside it.
    pub(crate) fn judge<'a>(
        &self,
        inventory: &Inventory,
        answer: &dyn Fn(&Probe) -> &'a Observed,
    ) -> Relevance {
        if !self.packages.iter().all(|test| test.holds(inventory)) {
            return Relevance::Not;
        }
        let files = self.files.iter().map(|one| one.judge(answer(&one.probe())));
        let settings = self
            .settings
            .iter()
            .map(|one| one.judge(answer(&one.probe())));
        let lines = self.lines.iter().map(|one| one.judge(answer(&one.probe())));
        let mut unknown = None;
        for said in files.chain(settings).chain(lines) {
            match said {
                Answered::Right => {}
                Answered::Wrong { .. } => return Relevance::Not,
                Answered::Unknown(why) => unknown = unknown.or(Some(why)),
            }
        }
        if let Some(why) = unknown {
            return Relevance::Unknown(why);
        }
        match answer(&self.edits_probe()) {
            Observed::Edits { paths } if paths.is_empty() => Relevance::Made,
            Observed::Edits { paths } => {
                let paths: Vec<String> = paths.iter().map(|one| one.path.to_string()).collect();
                Relevance::Relevant {
                    found: format!("not so: {}", paths.join(" ")),
                }
            }
            Observed::Refused { why } => Relevance::Relevant {
                found: format!("cannot be made: {why}"),
            },
            Observed::Unread { why, .. } => Relevance::Unknown(why.clone()),
            _ => Relevance::Unknown(ANOTHER.into()),
        }
    }

    /// What is wrong with it, if anything.
    pub(crate) fn why_bad(&self) -> Option<String> {
        let id = &self.id;
        let too_long = |text: &&String| text.len() > MAX_NAME || text.chars().any(char::is_control);
        let mut names = self.references.iter().chain([id, &self.title]);
        if let Some(name) = names.find(too_long) {
            return Some(format!(
                "the fix {id:?}: {name:?} is too long, or more than a line"
            ));
        }
        if self.title.trim().is_empty() {
            return Some(format!("the fix {id:?} has no title"));
        }
        if self.edits.is_empty() {
            return Some(format!("the fix {id:?} has no edit"));
        }
        if self.edits.len() > MAX_EDITS {
            return Some(format!("the fix {id:?} has more than {MAX_EDITS} edits"));
        }
        let conditions = [
            self.packages.len(),
            self.files.len(),
            self.settings.len(),
            self.lines.len(),
        ];
        if conditions.iter().sum::<usize>() > MAX_CONDITIONS {
            return Some(format!(
                "the fix {id:?} has more than {MAX_CONDITIONS} conditions"
            ));
        }
        let files = self.files.iter();
        let files = files.map(|one| (&one.id, one.severity, &one.reason));
        let settings = self.settings.iter();
        let settings = settings.map(|one| (&one.id, one.severity, &one.reason));
        for (own, severity, reason) in files.chain(settings) {
            if !own.is_empty() || severity.is_some() || !reason.is_empty() {
                return Some(format!(
                    "a condition of the fix {id:?} has an id, a severity or a reason, which are the fix's"
                ));
            }
        }
        if let Some(why) = self.settings.iter().find_map(SettingCheck::why_bad) {
            return Some(format!("the fix {id:?}: {why}"));
        }
        let one_of = |one: &LineTest| one.line.is_some() != one.matching.is_some();
        if !self.lines.iter().all(one_of) {
            return Some(format!(
                "a line of the fix {id:?} wants one of `line` and `matching`"
            ));
        }
        let optional = |one: &LineTest| one.state == FileState::Optional;
        self.lines
            .iter()
            .any(optional)
            .then(|| format!("a line of the fix {id:?} is optional, which is no condition"))
    }
}
