//! Fixes beyond packages: which of a baseline's are planned, and a plan of them alone.

use std::collections::BTreeSet;

use dormouse_block::Result;
use dormouse_packages::dpkg::Database;
use dormouse_packages::{Observed, Probe};
use dormouse_policy::{Assessment, Fix, Rule, Scope};
use dormouse_remedy::{Blocked, Hindrance, Only, Plan, PlannedFix};

use crate::change::Decision;
use crate::{Inspection, OpenMachine, Planner, Standard};

impl Standard {
    /// The fixes that findings ask for and no waiver covers, in the baseline's order. Where single upgrades are asked for,
    /// those that are named, or that have a CVE of them.
    pub(crate) fn relevant_fixes(&self, assessments: &[Assessment]) -> Vec<PlannedFix> {
        let asked: BTreeSet<&str> = assessments
            .iter()
            .flat_map(Assessment::open_findings)
            .filter(|finding| finding.rule == Rule::Fix)
            .map(|finding| finding.package.as_str())
            .collect();
        let fixes = self.baseline.fixes.iter();
        fixes
            .filter(|fix| asked.contains(fix.id.as_str()) && self.is_asked_for(fix))
            .map(PlannedFix::from)
            .collect()
    }

    fn is_asked_for(&self, fix: &Fix) -> bool {
        self.only.is_empty()
            || self.only.iter().any(|scope| match scope {
                Scope::All => true,
                Scope::Security => fix.cves().next().is_some(),
                Scope::Package(name) => *name == fix.id,
                Scope::Cve(cve) => fix.cves().any(|one| one == cve),
            })
    }
}

impl Planner<'_> {
    /// What is to be done where there is no package to inject, but `fixes` to make.
    ///
    /// # Errors
    /// A point that cannot be opened again.
    pub(crate) fn decide_fixes(
        &self,
        machine: &OpenMachine,
        inspection: &Inspection,
        assessments: &[Assessment],
        fixes: Vec<PlannedFix>,
        blocked: Vec<Blocked>,
    ) -> Result<Decision> {
        let refusals: Vec<String> = fixes
            .iter()
            .filter_map(|fix| refusal(inspection, fix))
            .collect();
        if refusals.len() == fixes.len() {
            return Ok(Decision::Cannot {
                why: refusals.join("; "),
            });
        }
        let point = machine.open_point(&inspection.point.id)?;
        let guest = point.only_guest()?;
        let only = if self.standard.only.is_empty() {
            Only::Packages(BTreeSet::new())
        } else {
            Only::Scopes(self.standard.only.clone())
        };
        let mut plan = Plan::of_fixes(inspection.at.clone(), self.standard.as_of, only, fixes);
        plan.blocked = blocked;
        let database = Database::read(guest)?;
        self.settle(
            machine,
            inspection,
            assessments,
            &point,
            plan,
            database.as_ref(),
        )
    }
}

/// Packages whose upgrade cannot be had, for their database is not dpkg's.
pub(crate) fn not_by_dpkg(wanted: &BTreeSet<String>) -> Vec<Blocked> {
    let blocked = |name: &String| Blocked {
        name: name.clone(),
        architecture: String::new(),
        installed: None,
        wanted: None,
        hindrance: Hindrance::Unsolvable,
        why: vec!["the machine's package database is not dpkg's".to_owned()],
    };
    wanted.iter().map(blocked).collect()
}

/// Why a fix cannot be made on the guest as it is, if so.
fn refusal(inspection: &Inspection, fix: &PlannedFix) -> Option<String> {
    let probe = Probe::Edits {
        edits: fix.edits.clone(),
    };
    let mut observations = inspection
        .systems
        .iter()
        .flat_map(|system| &system.observations);
    let answer = observations.find(|observation| observation.probe == probe)?;
    match &answer.answer {
        Observed::Refused { why } => Some(format!("the fix {} cannot be made: {why}", fix.id)),
        _ => None,
    }
}

/// That fixes are part of no plan for a machine that must not be touched, where there are any.
pub(crate) fn left_out(fixes: &[PlannedFix]) -> Option<String> {
    let ids: Vec<&str> = fixes.iter().map(|fix| fix.id.as_str()).collect();
    let them = match ids.as_slice() {
        [] => return None,
        [one] => format!("the fix {one} is"),
        _ => format!("the fixes {} are", ids.join(", ")),
    };
    Some(format!("{them} to be made once it is awake"))
}
