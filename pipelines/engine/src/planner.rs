//! Plan: what is to be done to one restore point that was judged.

use std::collections::BTreeSet;

use dormouse_block::{Error, Result};
use dormouse_disk::PointKind;
use dormouse_packages::dpkg::Database;
use dormouse_policy::{Assessment, Rule, Verdict};
use dormouse_remedy::{CatchUp, Only, Plan, Question, Wake, WokenKernel};

use crate::change::Decision;
use crate::fixes::{left_out, not_by_dpkg};
use crate::patch::cannot_be_written;
use crate::waking::{circumstances, manner};
use crate::{Inject, Inspection, OpenMachine, OpenPoint, Standard};

/// Plans for one restore point, as a single command or a run does.
pub struct Planner<'a> {
    /// What is judged by.
    pub standard: &'a Standard,
    /// What is patched.
    pub inject: Inject,
}

impl Planner<'_> {
    /// What is to be done to a restore point that was judged so.
    ///
    /// # Errors
    /// A package database that cannot be read again, and relations that do not read.
    pub fn decide(
        &self,
        machine: &OpenMachine,
        inspection: &Inspection,
        assessments: &[Assessment],
    ) -> Result<Decision> {
        let wanted = upgradable(assessments);
        if assessments
            .iter()
            .any(|assessment| !assessment.coverage_complete)
        {
            return Ok(Decision::Cannot {
                why: "not read whole, so nothing is changed or planned".to_owned(),
            });
        }
        let woken = inspection.memory.as_ref();
        let woken = woken.and_then(|memory| memory.woken.clone());
        let restart = woken.as_ref().and_then(WokenKernel::restart_reason);
        let must_restart = restart.is_some();
        let fixes = self.standard.relevant_fixes(assessments);
        if wanted.is_empty() && self.standard.only.is_empty() && restart.is_none() {
            if !fixes.is_empty() {
                return self.decide_fixes(machine, inspection, assessments, fixes, Vec::new());
            }
            let broken = assessments
                .iter()
                .any(|assessment| assessment.verdict == Verdict::NonCompliant);
            return Ok(if broken {
                Decision::Cannot {
                    why: "what is wrong is nothing that an upgrade or a fix mends".to_owned(),
                }
            } else {
                Decision::Nothing {
                    why: "nothing to do".to_owned(),
                }
            });
        }
        let point = machine.open_point(&inspection.point.id)?;
        let guest = point.only_guest()?;
        let loaded = match (Database::read(guest)?, restart) {
            (Some(loaded), _) => loaded,
            // Nothing is to be installed, so no database is needed to say so.
            (None, Some(restart)) if wanted.is_empty() => {
                return Ok(Decision::Cannot {
                    why: format!("{restart}; start it anew once it is woken"),
                });
            }
            // Fixes ask nothing of a package database.
            (None, _) if !fixes.is_empty() => {
                let blocked = not_by_dpkg(&wanted);
                return self.decide_fixes(machine, inspection, assessments, fixes, blocked);
            }
            (None, _) => {
                let error = Error::unsupported("its package database is not dpkg's");
                return Err(error.located(&inspection.at));
            }
        };
        let only = if self.standard.only.is_empty() {
            Only::Packages(wanted)
        } else {
            Only::Scopes(self.standard.only.clone())
        };
        let mended = self.standard.fixes(inspection);
        let question = Question {
            database: &loaded,
            repositories: &self.standard.repositories,
            suites: &BTreeSet::new(),
            only: &only,
            spared: &waived(assessments),
            preferences: &self.standard.preferences,
            phased: self.standard.baseline.upgrades.phased,
            fixes: &mended,
        };
        let mut plan = Plan::make(&question, inspection.at.clone(), self.standard.as_of)?;
        if plan.packages.is_empty() && !fixes.is_empty() && !must_restart {
            return self.decide_fixes(machine, inspection, assessments, fixes, plan.blocked);
        }
        if plan.is_empty() && !must_restart {
            let first = plan.blocked.first().map(|blocked| blocked.why.join("; "));
            if first.is_none() && !self.standard.only.is_empty() {
                return Ok(Decision::Nothing {
                    why: "nothing to do of what was asked for".to_owned(),
                });
            }
            return Ok(Decision::Cannot {
                why: format!(
                    "no upgrade can be had{}",
                    first.map(|why| format!(": {why}")).unwrap_or_default()
                ),
            });
        }
        plan.fixes = fixes;
        self.settle(
            machine,
            inspection,
            assessments,
            &point,
            plan,
            Some(&loaded),
        )
    }

    /// A plan to be injected, now or later; or where the point must not be edited, one for its waking, which needs its
    /// package database.
    ///
    /// # Errors
    /// As [`CatchUp::make`].
    pub(crate) fn settle(
        &self,
        machine: &OpenMachine,
        inspection: &Inspection,
        assessments: &[Assessment],
        point: &OpenPoint,
        plan: Plan,
        database: Option<&Database>,
    ) -> Result<Decision> {
        let guest = point.only_guest()?;
        let unwritable = cannot_be_written(point, guest).or_else(|| machine.encrypted(point));
        let Some(why) = self
            .why_not_to_be_edited(inspection)
            .or_else(|| unwritable.clone())
        else {
            return Ok(self
                .standard
                .postponed(inspection, assessments, &plan)
                .unwrap_or_else(|| Decision::Inject {
                    plan: Box::new(plan),
                }));
        };
        let Some(database) = database else {
            let left = left_out(&plan.fixes).unwrap_or_default();
            return Ok(Decision::Cannot {
                why: format!("{why}; {left}"),
            });
        };
        let (when, _) = self.standard.when(inspection, assessments, &plan);
        let memory = inspection.memory.as_ref();
        let wake = Wake {
            plan: &plan,
            untouchable: vec![why],
            circumstances: circumstances(machine, point, inspection, unwritable)?,
            manner: manner(self.standard, assessments),
            kernel: memory.and_then(|memory| memory.woken.clone()),
            guest,
            database,
            when,
        };
        Ok(Decision::CatchUp {
            plan: Box::new(CatchUp::make(&wake)?),
        })
    }

    fn why_not_to_be_edited(&self, inspection: &Inspection) -> Option<String> {
        if let Some(why) = inspection.power.forbids_editing() {
            return Some(why);
        }
        if self.inject == Inject::Anything {
            return None;
        }
        let what = match inspection.point.kind {
            PointKind::Active => None,
            PointKind::InternalSnapshot => Some("a snapshot inside its image"),
            PointKind::Layer => Some("a layer that another stands on"),
            PointKind::MachineSnapshot => Some("a snapshot of its machine"),
        };
        if let Some(what) = what {
            return Some(format!("it is {what}, which is never written"));
        }
        match self.inject {
            Inject::Active | Inject::Anything => None,
            Inject::Never => Some("the pipeline changes no machine".to_owned()),
        }
    }
}

/// The packages whose upgrade the findings ask for: those that a newer version mends, no waiver covers, and nobody holds.
fn upgradable(assessments: &[Assessment]) -> BTreeSet<String> {
    assessments
        .iter()
        .flat_map(|assessment| &assessment.findings)
        .filter(|finding| finding.waiver.is_none() && !finding.hold)
        .filter(|finding| {
            matches!(
                finding.rule,
                Rule::Suite | Rule::MinimumVersion | Rule::Gate | Rule::Advisory
            )
        })
        .map(|finding| finding.package.clone())
        .collect()
}

/// The packages with findings that a waiver covers.
fn waived(assessments: &[Assessment]) -> BTreeSet<String> {
    assessments
        .iter()
        .flat_map(|assessment| &assessment.findings)
        .filter(|finding| finding.waiver.is_some())
        .map(|finding| finding.package.clone())
        .collect()
}
