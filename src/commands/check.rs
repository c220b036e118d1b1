//! `dormouse check`.

use dormouse_packages::Selection;
use dormouse_policy::{Assessment, Finding};

use serde::Serialize;

use super::inspect::{Look, inspections};
use super::judge;
use super::target::{open_all, say_gaps};
use crate::answer::Answer;
use crate::cli::Images;
use crate::exit::Exit;
use crate::settings::Settings;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document<'a> {
    schema: &'static str,
    assessments: &'a [Assessment],
    /// What machines say of their first boot after an injection.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    first_boots: Vec<FirstBootOf>,
    gaps: &'a [dormouse_block::Gap],
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct FirstBootOf {
    at: dormouse_block::Locator,
    #[serde(flatten)]
    record: dormouse_engine::FirstBoot,
}

/// Judges restore points.
///
/// # Errors
/// A standard that cannot be used, and failures of the host.
pub(crate) fn run(arguments: &Images, settings: &Settings) -> anyhow::Result<Exit> {
    let standard = judge::standard(settings)?;
    let opened = open_all(&arguments.images, settings)?;
    let mut gaps = opened.gaps;
    let mut assessments = Vec::new();
    let mut first_boots = Vec::new();
    let probes = standard.baseline.probes();
    for (machine, points) in &opened.machines {
        let look = Look::Packages(&Selection::default(), &probes);
        let (inspections, unread) = inspections(machine, points, look)?;
        gaps.extend(unread);
        for inspection in inspections {
            for system in &inspection.systems {
                let mut inventory = system.inventory.clone();
                inventory.add_gaps(inspection.gaps.iter().cloned());
                first_boots.extend(system.first_boot.clone().map(|record| FirstBootOf {
                    at: inspection.at.clone(),
                    record,
                }));
                assessments.push(standard.assess(&inventory, &system.observations));
            }
            if inspection.systems.is_empty() {
                gaps.extend(inspection.gaps);
            }
        }
    }
    let answer = Answer::new(settings);
    if answer.is_table() {
        let mut text = draw(&answer, &assessments);
        for said in &first_boots {
            text.push_str(&format!("\n{}: {}\n", said.at, said.record));
        }
        answer.bytes(text.as_bytes())?;
    } else {
        answer.json(&Document {
            schema: "dormouse/assessments/v1",
            assessments: &assessments,
            first_boots,
            gaps: &gaps,
        })?;
    }
    let within = assessments.iter().flat_map(|assessment| &assessment.gaps);
    let unread = say_gaps(gaps.iter().chain(within), settings);
    let judged = assessments
        .iter()
        .map(|assessment| judge::exit(assessment, settings))
        .max()
        .unwrap_or(Exit::Incomplete);
    Ok(unread.max(judged))
}

fn draw(answer: &Answer<'_>, assessments: &[Assessment]) -> String {
    let mut out = String::new();
    let mut table = answer.table(&["Machine", "Point", "Verdict", "Findings", "Why"]);
    for assessment in assessments {
        table.add([
            assessment.at.machine.as_deref().unwrap_or_default(),
            assessment.at.point.as_deref().unwrap_or_default(),
            assessment.verdict.as_str(),
            &assessment.findings.len().to_string(),
            assessment
                .reasons
                .first()
                .map(String::as_str)
                .unwrap_or_default(),
        ]);
    }
    out.push_str(&table.text());
    let mut findings = answer.table(&["Machine", "Package", "Installed", "Wanted", "Why", "CVEs"]);
    let mut any = false;
    for assessment in assessments {
        for finding in &assessment.findings {
            any = true;
            let waived = finding
                .waiver
                .as_ref()
                .map(|waiver| format!(" (waived: {})", waiver.id))
                .unwrap_or_default();
            findings.add([
                assessment.at.machine.as_deref().unwrap_or_default(),
                &finding.package,
                finding.installed.as_deref().unwrap_or("-"),
                finding.wanted.as_deref().unwrap_or("-"),
                &format!("{}{waived}", finding.why),
                &cves(finding),
            ]);
        }
    }
    if any {
        out.push('\n');
        out.push_str(&findings.text());
    }
    out
}

/// The CVEs of a finding, those known to be exploited first.
fn cves(finding: &Finding) -> String {
    let mut cves: Vec<_> = finding.cves.iter().collect();
    cves.sort_by_key(|cve| !cve.exploited);
    let names: Vec<String> = cves
        .into_iter()
        .map(|cve| {
            let exploited = if cve.exploited { " (exploited)" } else { "" };
            format!("{}{exploited}", cve.id)
        })
        .collect();
    names.join(" ")
}
