//! What is known of restore points and machines at the end of a run, for the database and the report.

use std::collections::BTreeMap;

use dormouse_block::{Digest, Gap, Locator, Result};
use dormouse_disk::{ACTIVE, PointInfo};
use dormouse_evidence::{MachineReport, PointReport, ReportFinding, ReportLeft, RunReport};
use dormouse_policy::deadline::severity_word;
use dormouse_policy::stage::{Update, package_set};
use dormouse_policy::{Assessment, Finding, Verdict};
use jiff::Timestamp;

use crate::attest::Attestation;
use crate::change::{Action, Decision, Done, Verified};
use crate::{Database, FindingRow, Inspection, Machine, PackageRow, PointRow};

/// All that is known of a restore point.
pub struct PointResult {
    /// Its address.
    pub at: Locator,
    /// The point.
    pub info: PointInfo,
    /// What was read.
    pub inspection: Option<Inspection>,
    /// How each of its operating systems was judged.
    pub assessments: Vec<Assessment>,
    /// What was to be done.
    pub decision: Option<Decision>,
    /// What was done.
    pub done: Option<Done>,
    /// What became of it.
    pub verified: Option<Verified>,
    /// Its evidence.
    pub attestation: Option<Attestation>,
    /// Stages that failed.
    pub failures: Vec<Gap>,
}

impl PointResult {
    /// The worst verdict of its operating systems; without any it is not known.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.assessments
            .iter()
            .map(|assessment| assessment.verdict)
            .max()
            .unwrap_or(Verdict::Indeterminate)
    }

    /// The verdict of the patched image.
    #[must_use]
    pub fn after(&self) -> Option<Verdict> {
        self.verified.as_ref().and_then(Verified::verdict)
    }

    /// Whether everything that may hold packages was read and judged.
    #[must_use]
    pub fn complete(&self) -> bool {
        !self.assessments.is_empty()
            && self.failures.is_empty()
            && self
                .assessments
                .iter()
                .all(|assessment| assessment.coverage_complete && assessment.unjudged.is_empty())
    }

    /// Whether the baseline's gate lets it pass, as it is or as it was patched.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self.verified.as_ref().and_then(Verified::passes) {
            Some(passes) => passes,
            None => self.assessments.iter().all(|assessment| assessment.passes),
        }
    }

    /// What of the point's disks and volumes was not read.
    #[must_use]
    pub fn point_gaps(&self) -> Vec<Gap> {
        self.inspection
            .as_ref()
            .map(|inspection| inspection.gaps.clone())
            .unwrap_or_default()
    }

    /// Everything that was not read, judged or done.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps = self.point_gaps();
        let assessed = self
            .assessments
            .iter()
            .flat_map(|assessment| &assessment.gaps);
        gaps.extend(assessed.cloned());
        gaps.extend(self.failures.iter().cloned());
        for gap in &mut gaps {
            gap.at.fill_from(&self.at);
        }
        gaps.sort();
        gaps.dedup();
        gaps
    }

    /// The package set that a patched machine had, the updates it took, and whether it stands with them, verified.
    fn took(&self) -> Option<(Digest, Vec<Update>, bool)> {
        let Some(Decision::Inject { plan }) = &self.decision else {
            return None;
        };
        let verified = self.verified.as_ref()?;
        let system = self.inspection.as_ref()?.systems.first()?;
        let passes = verified.passes()? && verified.outputs_match;
        let update = |package: &dormouse_remedy::PlannedPackage| Update {
            package: package.name.clone(),
            version: package.version.clone(),
        };
        let updates = plan.packages.iter().map(update).collect();
        Some((package_set(&system.inventory), updates, passes))
    }

    /// The files that were written for it, by path within the results.
    #[must_use]
    pub fn output_digests(&self) -> Vec<(String, Digest)> {
        self.done
            .iter()
            .flat_map(|done| done.outputs.values())
            .map(|output| (output.path.clone(), output.digest))
            .collect()
    }

    fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.assessments
            .iter()
            .flat_map(|assessment| &assessment.findings)
    }

    fn action(&self) -> String {
        match (&self.done, &self.decision) {
            (Some(done), _) => done.action.to_string(),
            (None, Some(decision)) => decision.to_string(),
            (None, None) => "judged only".to_owned(),
        }
    }

    fn left(&self) -> Vec<ReportLeft> {
        let Some(Action::Patched { injection, .. }) = self.done.as_ref().map(|done| &done.action)
        else {
            return Vec::new();
        };
        let left = injection.left().into_iter();
        left.map(|(what, why)| ReportLeft { what, why }).collect()
    }

    fn first_boot(&self) -> Option<String> {
        let systems = self.inspection.iter().flat_map(|one| &one.systems);
        systems
            .filter_map(|system| system.first_boot.as_ref())
            .map(ToString::to_string)
            .next()
    }

    fn report(&self) -> PointReport {
        let mut outputs = BTreeMap::new();
        for (what, output) in self.done.iter().flat_map(|done| &done.outputs) {
            outputs.insert(what.clone(), output.path.clone());
        }
        if let Some(attestation) = &self.attestation {
            outputs.insert("evidence".to_owned(), attestation.path.clone());
            outputs.insert("inventory".to_owned(), attestation.inventory.clone());
        }
        let (power, os, packages) = self.described();
        PointReport {
            point: self.info.id.clone(),
            name: self.info.name.clone(),
            power,
            os,
            packages,
            verdict: self.verdict().as_str().to_owned(),
            after: self.after().map(|verdict| verdict.as_str().to_owned()),
            action: self.action(),
            left: self.left(),
            first_boot: self.first_boot(),
            outputs,
            findings: self
                .findings()
                .map(|finding| ReportFinding {
                    package: finding.package.clone(),
                    installed: is(finding),
                    wanted: wanted(finding),
                    severity: finding.severity.map(severity_word),
                    until: finding.due.as_ref().and_then(|due| due.until),
                    overdue: finding.due.as_ref().map(|due| due.overdue),
                    why: finding.why.clone(),
                    waiver: finding.waiver.as_ref().map(|waiver| waiver.id.clone()),
                })
                .collect(),
            gaps: self.gaps().iter().map(Into::into).collect(),
        }
    }

    fn described(&self) -> (String, String, u64) {
        let Some(inspection) = &self.inspection else {
            return ("unknown".to_owned(), String::new(), 0);
        };
        let packages: usize = inspection
            .systems
            .iter()
            .map(|system| system.inventory.coverage.present)
            .sum();
        (
            inspection.power.as_str().to_owned(),
            inspection.os_name(),
            u64::try_from(packages).unwrap_or(u64::MAX),
        )
    }

    fn row(&self, machine: &str) -> PointRow {
        let (power, os, _) = self.described();
        let inventories = self
            .inspection
            .iter()
            .flat_map(|inspection| &inspection.systems);
        let packages = inventories
            .flat_map(|system| &system.inventory.packages)
            .map(|package| PackageRow {
                name: package.name.clone(),
                architecture: package.architecture.clone(),
                version: package.version.clone(),
                source: package.source_name.clone(),
                source_version: package.source_version.clone(),
                state: package.state.to_string(),
                purl: package.purl.clone(),
            })
            .collect();
        PointRow {
            machine: machine.to_owned(),
            point: self.info.id.clone(),
            name: self.info.name.clone(),
            kind: self.info.kind.as_str().to_owned(),
            power,
            os,
            verdict: self.verdict().as_str().to_owned(),
            after: self.after().map(|verdict| verdict.as_str().to_owned()),
            action: self.action(),
            complete: self.complete(),
            packages,
            findings: self.findings().map(finding_row).collect(),
            gaps: self
                .gaps()
                .iter()
                .map(|gap| {
                    (
                        gap.at.to_string(),
                        gap.kind.as_str().to_owned(),
                        gap.why.clone(),
                        gap.may_hide_packages,
                    )
                })
                .collect(),
        }
    }
}

/// What is there: a version, or what a check found.
fn is(finding: &Finding) -> String {
    let check = finding.check.as_ref().map(|check| check.found.clone());
    check
        .or_else(|| finding.installed.clone())
        .unwrap_or_default()
}

/// What is wanted: a version, or what a check expected.
fn wanted(finding: &Finding) -> String {
    let check = finding.check.as_ref().map(|check| check.expected.clone());
    check.or_else(|| finding.wanted.clone()).unwrap_or_default()
}

fn finding_row(finding: &Finding) -> FindingRow {
    FindingRow {
        package: finding.package.clone(),
        installed: is(finding),
        wanted: wanted(finding),
        rule: finding.rule.as_str().to_owned(),
        why: finding.why.clone(),
        waiver: finding.waiver.as_ref().map(|waiver| waiver.id.clone()),
        cves: finding.cves.clone(),
        severity: finding.severity.map(severity_word),
        due: finding.due.clone(),
        sightings: finding.sightings(),
    }
}

/// All that is known of a machine.
pub struct MachineResult<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its image's path within the library.
    pub within: &'a str,
    /// The machine, when it could be opened.
    pub fact: Option<&'a Machine>,
    /// Why it could not be.
    pub gaps: &'a [Gap],
    /// Its restore points.
    pub points: Vec<PointResult>,
}

impl MachineResult<'_> {
    /// Whether everything of it that may hold packages was read and judged.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.gaps.is_empty() && self.points.iter().all(PointResult::complete)
    }

    /// Whether all its points pass the gate.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.points.iter().all(PointResult::passes)
    }

    fn files(&self) -> Vec<String> {
        match self.fact {
            Some(fact) => fact.files.iter().map(|file| file.path.clone()).collect(),
            None => vec![self.within.to_owned()],
        }
    }

    fn format(&self) -> &str {
        self.fact.map_or("not opened", |fact| &fact.format)
    }

    /// Records it in the database.
    ///
    /// # Errors
    /// A state that cannot be used.
    pub fn record(
        &self,
        database: &Database,
        run: &str,
        as_of: Timestamp,
        now: Timestamp,
    ) -> Result<()> {
        let rows: Vec<PointRow> = self
            .points
            .iter()
            .map(|point| point.row(self.name))
            .collect();
        database.record_machine(run, as_of, self.name, self.format(), &self.files(), &rows)?;
        for point in self.points.iter().filter(|point| point.info.id == ACTIVE) {
            if let Some((group, updates, passes)) = point.took() {
                let verified = passes.then_some(now);
                database.record_taken(self.name, group, &updates, verified)?;
            }
        }
        database.record_gaps(run, self.name, self.gaps)
    }

    /// Adds it to the report.
    pub fn add_to(&self, report: &mut RunReport) {
        let machine = MachineReport {
            machine: self.name.to_owned(),
            format: self.format().to_owned(),
            files: self.files(),
            points: self.points.iter().map(PointResult::report).collect(),
            gaps: self.gaps.iter().map(Into::into).collect(),
        };
        let totals = &mut report.totals;
        let add = |slot: &mut u64, more: usize| {
            *slot = slot.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
        };
        add(&mut totals.machines, 1);
        add(&mut totals.points, machine.points.len());
        add(&mut totals.gaps, machine.gaps.len());
        for (point, result) in machine.points.iter().zip(&self.points) {
            let slot = totals.verdicts.entry(point.verdict.clone()).or_default();
            *slot = slot.saturating_add(1);
            add(&mut totals.findings, point.findings.len());
            add(&mut totals.gaps, point.gaps.len());
            totals.packages = totals.packages.saturating_add(point.packages);
            add(
                &mut totals.patched,
                usize::from(result.done.as_ref().is_some_and(Done::is_patched)),
            );
            add(
                &mut totals.catch_up,
                usize::from(result.done.as_ref().is_some_and(Done::is_catch_up)),
            );
        }
        report.machines.push(machine);
    }
}
