//! `dormouse plan`.

use std::sync::Arc;

use dormouse_block::Gap;
use dormouse_engine::{Decision, Inject, OpenMachine, Payloads, Planner, Standard, StoreFolder};
use dormouse_policy::Assessment;
use dormouse_remedy::dpkg::Configuring;
use dormouse_remedy::{FixOutcome, Materials, draft_injection};
use serde::Serialize;

use super::judge;
use super::target::{open_all, say_gaps};
use crate::answer::Answer;
use crate::cli::Images;
use crate::exit::Exit;
use crate::settings::Settings;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    schema: &'static str,
    plans: Vec<One>,
    gaps: Vec<Gap>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct One {
    at: dormouse_block::Locator,
    #[serde(flatten)]
    decision: Decision,
}

/// Says what would be done.
///
/// # Errors
/// A standard that cannot be used, and failures of the host.
pub(crate) fn run(arguments: &Images, settings: &Settings) -> anyhow::Result<Exit> {
    let standard = judge::standard(settings)?;
    let opened = open_all(&arguments.images, settings)?;
    let scratch = StoreFolder::temporary()?;
    let payloads = Payloads::new(&standard.repositories, scratch.store());
    let mut document = Document {
        schema: "dormouse/plans/v1",
        plans: Vec::new(),
        gaps: opened.gaps,
    };
    let mut exit = Exit::Done;
    for (machine, points) in &opened.machines {
        for id in points {
            let (mut decision, assessments) = decide(machine, id, &standard, Inject::Active)?;
            if let Decision::Inject { plan } = &mut decision {
                try_scripts(machine, id, plan, &standard, &payloads)?;
            }
            let judged = assessments
                .iter()
                .map(|assessment| judge::exit(assessment, settings));
            exit = exit.max(judged.max().unwrap_or(Exit::Incomplete));
            document.plans.push(One {
                at: dormouse_block::Locator::machine(machine.name.clone()).point(id.clone()),
                decision,
            });
        }
    }
    let answer = Answer::new(settings);
    if answer.is_table() {
        answer.text(&draw(&document))?;
    } else {
        answer.json(&document)?;
    }
    Ok(exit.max(say_gaps(&document.gaps, settings)))
}

/// What is to be done to a restore point.
///
/// # Errors
/// What keeps it from being read or planned for.
pub(crate) fn decide(
    machine: &OpenMachine,
    id: &str,
    standard: &Standard,
    inject: Inject,
) -> anyhow::Result<(Decision, Vec<Assessment>)> {
    let inspection = machine
        .open_point(id)?
        .inspect(&standard.baseline.probes())?;
    let assessments = standard.judge(&inspection);
    let planner = Planner { standard, inject };
    let decision = planner.decide(machine, &inspection, &assessments)?;
    Ok((decision, assessments))
}

/// Tries the scripts of a plan on a draft that is thrown away, so that the plan says what an injection would do.
fn try_scripts(
    machine: &OpenMachine,
    id: &str,
    plan: &mut dormouse_remedy::Plan,
    standard: &Standard,
    payloads: &Payloads<'_>,
) -> anyhow::Result<()> {
    let set = payloads.all(&plan.packages)?;
    let point = machine.open_point(id)?;
    let injected = draft_injection(
        plan,
        &Materials {
            guest: Arc::new(point.only_guest()?.clone()),
            packages: &set.unpacked(),
            payloads: set.reader(),
            now: standard.as_of,
            limits: dormouse_engine::script_limits(),
        },
    )?;
    plan.decide(&injected.injection);
    Ok(())
}

fn draw(document: &Document) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    // Writing to a string cannot fail.
    for one in &document.plans {
        let _ = writeln!(out, "{}: {}", one.at, one.decision);
        match &one.decision {
            Decision::Inject { plan } => {
                for package in &plan.packages {
                    let what = match &package.decision {
                        Some(dormouse_remedy::Decision::Defer { why, .. }) => {
                            format!("first boot: {why}")
                        }
                        Some(dormouse_remedy::Decision::Refuse { why }) => {
                            format!("refused: {why}")
                        }
                        _ => match &package.configured {
                            Some(Configuring::Left { why, .. }) => {
                                format!("inject; configured at the first boot: {why}")
                            }
                            Some(Configuring::Done) => "inject and configure".to_owned(),
                            None => "inject".to_owned(),
                        },
                    };
                    let _ = writeln!(
                        out,
                        "  {} {} -> {}  {what}",
                        package.name,
                        package.installed.as_deref().unwrap_or("(new)"),
                        package.version
                    );
                }
                for fix in &plan.fixes {
                    let what = match &fix.outcome {
                        Some(FixOutcome::Refused { why }) => format!("stays behind: {why}"),
                        Some(FixOutcome::Unneeded) => "is made by then".to_owned(),
                        Some(FixOutcome::Made) | None => fix.title.clone(),
                    };
                    let _ = writeln!(out, "  fix {}: {what}", fix.id);
                    for edit in &fix.edits {
                        let _ = writeln!(out, "    {edit}");
                    }
                    for note in &fix.notes {
                        let _ = writeln!(out, "    {note}");
                    }
                }
                for blocked in &plan.blocked {
                    let _ = writeln!(
                        out,
                        "  {} stays behind: {}",
                        blocked.name,
                        blocked.why.join("; ")
                    );
                }
                for triggered in &plan.triggers {
                    if let Configuring::Left { why, .. } = &triggered.outcome {
                        let name = &triggered.package;
                        let _ = writeln!(out, "  triggers of {name} at the first boot: {why}");
                    }
                }
                for why in &plan.reboot {
                    let _ = writeln!(out, "  in use after a boot: {why}");
                }
            }
            Decision::CatchUp { plan } => {
                for why in &plan.untouchable {
                    let _ = writeln!(out, "  not to be touched: {why}");
                }
                for file in plan.bundle().keys() {
                    let _ = writeln!(out, "  {file}");
                }
            }
            Decision::Postponed { slots, .. } => {
                for slot in slots {
                    let _ = writeln!(
                        out,
                        "  window {}: {} to {} ({})",
                        slot.window, slot.from, slot.until, slot.local
                    );
                }
            }
            Decision::Nothing { .. } | Decision::Cannot { .. } => {}
        }
    }
    out
}
