//! `dormouse check`.

use dormouse_packages::Selection;
use dormouse_policy::deadline::severity_word;
use dormouse_policy::{Assessment, Due, Finding, Risk};
use jiff::Timestamp;
use serde::Serialize;

use super::inspect::{Look, inspections};
use super::judge;
use super::target::{open_all, say_gaps};
use crate::answer::{Answer, count};
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
    let dated = assessments
        .iter()
        .flat_map(|assessment| &assessment.findings)
        .any(|finding| finding.due.is_some());
    let mut columns = vec!["Machine", "Finding", "Severity"];
    columns.extend(dated.then_some("Due"));
    columns.extend(["Is", "Wanted", "Why", "CVEs"]);
    let mut findings = answer.table(&columns);
    // The riskiest of all machines first.
    let mut all: Vec<(&Assessment, &Finding)> = assessments
        .iter()
        .flat_map(|assessment| assessment.findings.iter().map(move |one| (assessment, one)))
        .collect();
    all.sort_by_key(|(assessment, finding)| Risk::of(assessment, finding));
    let any = !all.is_empty();
    for (assessment, finding) in all {
        let waived = finding
            .waiver
            .as_ref()
            .map(|waiver| format!(" (waived: {})", waiver.id))
            .unwrap_or_default();
        let check = finding.check.as_ref();
        let is = check.map(|check| check.found.as_str());
        let wanted = check.map(|check| check.expected.as_str());
        let mut cells = vec![
            assessment.at.machine.clone().unwrap_or_default(),
            finding.package.clone(),
            finding
                .severity
                .map_or_else(|| "-".to_owned(), severity_word),
        ];
        if dated {
            let due = finding.due.as_ref();
            cells.push(due.map_or_else(|| "-".to_owned(), |due| due_text(due, assessment.as_of)));
        }
        cells.extend([
            is.or(finding.installed.as_deref())
                .unwrap_or("-")
                .to_owned(),
            wanted
                .or(finding.wanted.as_deref())
                .unwrap_or("-")
                .to_owned(),
            format!("{}{waived}", finding.why),
            cves(finding),
        ]);
        findings.add(cells);
    }
    if any {
        out.push('\n');
        out.push_str(&findings.text());
    }
    out
}

/// A deadline for people: its day in UTC, and how far that is.
fn due_text(due: &Due, as_of: Timestamp) -> String {
    let triage = if due.forensic_triage {
        ", forensic triage first"
    } else {
        ""
    };
    let Some(until) = due.until else {
        return format!("next upgrade{triage}");
    };
    let day = until.strftime("%Y-%m-%d");
    let far = until.duration_since(as_of).as_secs().unsigned_abs();
    let far = match far {
        0..=172_799 => count(far / 3600, "hour"),
        _ => count(far / 86_400, "day"),
    };
    if due.overdue {
        format!("{day} (overdue {far}{triage})")
    } else {
        format!("{day} (in {far}{triage})")
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_told_by_how_far_they_are() {
        let due = |until: Option<&str>, overdue| Due {
            until: until.map(|until| until.parse().unwrap()),
            since: Timestamp::UNIX_EPOCH,
            from: dormouse_policy::deadline::Start::Published,
            within: "3 days".parse().unwrap(),
            rule: "r".to_owned(),
            overdue,
            cve: None,
            forensic_triage: false,
            assumed: std::collections::BTreeMap::new(),
        };
        let as_of = "2026-01-10T00:00:00Z".parse().unwrap();
        for (until, overdue, text) in [
            (
                Some("2026-01-13T00:00:00Z"),
                false,
                "2026-01-13 (in 3 days)",
            ),
            (
                Some("2026-01-10T01:30:00Z"),
                false,
                "2026-01-10 (in 1 hour)",
            ),
            (
                Some("2025-12-29T00:00:00Z"),
                true,
                "2025-12-29 (overdue 12 days)",
            ),
            (None, false, "next upgrade"),
        ] {
            assert_eq!(due_text(&due(until, overdue), as_of), text);
        }
    }
}
