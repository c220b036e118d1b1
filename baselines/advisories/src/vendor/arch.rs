//! Arch's issues, as its security tracker's `all.json` lists them.

use dormouse_block::{Error, Result};
use dormouse_packages::Family;
use serde::Deserialize;

use super::{Beginning, Document, json};
use crate::catalogue::Builder;
use crate::statement::{AdvisoryDraft, Claim, Names, Status};

#[derive(Deserialize)]
struct Issue {
    name: String,
    packages: Vec<String>,
    status: String,
    #[serde(default)]
    severity: Option<String>,
    #[serde(default)]
    fixed: Option<String>,
    #[serde(default)]
    issues: Vec<String>,
    #[serde(default)]
    advisories: Vec<String>,
}

pub(super) fn is(beginning: &Beginning<'_>) -> bool {
    beginning.json.as_ref().is_some_and(|head| {
        head.is_array && head.value("name").starts_with("AVG-") && head.has("packages")
    })
}

pub(super) fn read(document: &mut Document<'_>, out: &mut Builder) -> Result<()> {
    json::elements(document.input, &[], &mut |_, _| {}, &mut |issue: Issue| {
        out.entry();
        let advisory = AdvisoryDraft {
            id: issue.name.clone(),
            cves: issue.issues,
            word: issue.severity,
            ..AdvisoryDraft::default()
        };
        let number = out.advisory(&advisory)?;
        for package in &issue.packages {
            let mut claim = Claim::new(Family::Pacman, package, Names::Binary, "arch:");
            claim.shipped_by = issue.advisories.first().cloned().unwrap_or_default();
            match issue.status.as_str() {
                "Not affected" => claim.status = Status::NotAffected,
                "Unknown" => claim.status = Status::UnderInvestigation,
                // Testing: the mended version is not in the repositories that most have.
                "Fixed" | "Vulnerable" | "Testing" => {
                    if let Some(fixed) = &issue.fixed {
                        claim.fixed.clone_from(fixed);
                    } else if issue.status == "Fixed" {
                        let why = format!("{} is fixed and has no key fixed", issue.name);
                        return Err(Error::corrupt(why));
                    }
                }
                other => {
                    let why = format!("the status of {} is {other:?}", issue.name);
                    return Err(Error::unsupported(why));
                }
            }
            issue.status.clone_into(&mut claim.note);
            if claim.status == Status::Affected && issue.status == "Fixed" {
                claim.note.clear();
            }
            out.state(&claim, &[number])?;
        }
        Ok(())
    })
}
