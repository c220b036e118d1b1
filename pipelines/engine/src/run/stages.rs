//! The stages of a run, from inspecting to attesting, and its report.

use std::collections::BTreeMap;

use dormouse_block::{Digest, Error, Gap, Locator, Result};
use dormouse_disk::ACTIVE;
use dormouse_evidence::REPORT_FORMATS;
use dormouse_policy::Assessment;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde::de::DeserializeOwned;

use super::{Point, Run, RunOutcome, count};
use crate::attest::{Attestation, attest};
use crate::change::{Changer, Decision, Done, Verified};
use crate::report::{MachineResult, PointResult};
use crate::work::{Work, contained, ends_the_run};
use crate::{Inspection, RunRow, StageName, host};

impl Run<'_> {
    /// Takes every point that has come this far through a stage; a failure of one is a gap of that point.
    fn each(
        &self,
        stage: StageName,
        points: &mut [Point],
        ready: impl Fn(&Point) -> bool,
        step: impl Fn(&Point) -> Result<Digest> + Sync,
        slot: impl Fn(&mut Point) -> &mut Option<Digest>,
    ) -> Result<()> {
        let wanted: Vec<&Point> = points.iter().filter(|point| ready(point)).collect();
        self.work.observer.stage(stage, count(wanted.len()));
        let results: Vec<Result<Digest>> = wanted
            .par_iter()
            .map(|point| contained(|| step(point)))
            .collect();
        let waiting = points.iter_mut().filter(|point| ready(point));
        for (point, result) in waiting.collect::<Vec<_>>().into_iter().zip(results) {
            match result {
                Ok(key) => *slot(point) = Some(key),
                Err(error) if ends_the_run(&error) => return Err(error),
                Err(error) => {
                    self.work.observer.note(&point.at, &error.with_causes());
                    point.failures.push(Gap::from_error(&error, &point.at));
                }
            }
        }
        Ok(())
    }

    pub(super) fn inspect(&self, points: &mut [Point]) -> Result<()> {
        let limits = self.options.pipeline.limits;
        // What is seen of a machine depends on what its keys unlock.
        let keys = self.options.keys.fingerprint()?;
        let probes = self.standard.baseline.probes();
        self.each(
            StageName::Inspect,
            points,
            |_| true,
            |point| {
                let input = (Inspection::SCHEMA, &point.files, limits, keys, &probes);
                let inspect = || {
                    let machine = self.open(self.found(point)?)?;
                    machine.open_point(&point.info.id)?.inspect(&probes)
                };
                self.work
                    .once(StageName::Inspect, &point.at, &input, inspect)
            },
            |point| &mut point.inspection,
        )
    }

    pub(super) fn evaluate(&self, points: &mut [Point]) -> Result<()> {
        let standard = self.standard.digest();
        self.each(
            StageName::Evaluate,
            points,
            |point| point.inspection.is_some(),
            |point| {
                let machine = point.at.machine.as_deref().unwrap_or_default();
                let own = self.standard.own(machine);
                let input = (Assessment::SCHEMA, point.inspection, standard, own);
                let judge = || {
                    let inspection: Inspection = self.load(point.inspection)?;
                    Ok(self.standard.judge(&inspection))
                };
                self.work
                    .once(StageName::Evaluate, &point.at, &input, judge)
            },
            |point| &mut point.assessment,
        )
    }

    /// Notes who is of which category and who is alike, where the estate has stages.
    pub(super) fn note_machines(&mut self, points: &[Point]) -> Result<()> {
        if self.standard.estate.stages.is_empty() {
            return Ok(());
        }
        for point in points.iter().filter(|point| point.info.id == ACTIVE) {
            if point.inspection.is_some() {
                let inspection: Inspection = self.load(point.inspection)?;
                self.standard.note_machine(&point.at, &inspection);
            }
        }
        self.standard.note_takers();
        Ok(())
    }

    pub(super) fn plan(&self, changer: &Changer<'_>, points: &mut [Point]) -> Result<()> {
        let asked = (self.standard.digest(), self.options.pipeline.inject);
        self.each(
            StageName::Plan,
            points,
            |point| point.assessment.is_some(),
            |point| {
                let machine = point.at.machine.as_deref().unwrap_or_default();
                let timing = self.standard.timing(machine);
                let input = (
                    Decision::VERSION,
                    point.inspection,
                    point.assessment,
                    asked,
                    timing,
                );
                let decide = || {
                    let inspection: Inspection = self.load(point.inspection)?;
                    let assessments: Vec<Assessment> = self.load(point.assessment)?;
                    let machine = self.open_whole(point)?;
                    changer.decide(&machine, &inspection, &assessments)
                };
                self.work.once(StageName::Plan, &point.at, &input, decide)
            },
            |point| &mut point.decision,
        )
    }

    pub(super) fn inject(&self, changer: &Changer<'_>, points: &mut [Point]) -> Result<()> {
        self.each(
            StageName::Inject,
            points,
            |point| point.decision.is_some(),
            |point| {
                let input = (Done::VERSION, point.decision, &self.options.output);
                let holds = |done: &Done| done.stands(&self.options.output);
                let change = || {
                    let decision: Decision = self.load(point.decision)?;
                    let machine = self.open_whole(point)?;
                    changer.carry_out(&machine, &point.info.id, &decision)
                };
                self.work
                    .once_if(StageName::Inject, &point.at, &input, holds, change)
            },
            |point| &mut point.done,
        )
    }

    pub(super) fn verify(&self, changer: &Changer<'_>, points: &mut [Point]) -> Result<()> {
        self.each(
            StageName::Verify,
            points,
            |point| point.done.is_some(),
            |point| {
                let done: Done = self.load(point.done)?;
                let input = (Verified::VERSION, point.done, &done.outputs);
                let verify = || {
                    let machine = self.open_whole(point)?;
                    changer.verify(&machine, &point.info.id, &done)
                };
                self.work.once(StageName::Verify, &point.at, &input, verify)
            },
            |point| &mut point.verified,
        )
    }

    pub(super) fn attest(&self, points: &mut [Point]) -> Result<()> {
        let Some(signer) = self.signer else {
            return Ok(());
        };
        self.each(
            StageName::Attest,
            points,
            |point| point.assessment.is_some(),
            |point| {
                let input = (
                    Attestation::VERSION,
                    (
                        point.inspection,
                        point.assessment,
                        point.decision,
                        point.done,
                        point.verified,
                    ),
                    &point.failures,
                    (
                        self.standard.digest(),
                        signer.key_id(),
                        &self.options.output,
                    ),
                );
                let holds = |attested: &Attestation| attested.stands(&self.options.output);
                let make = || {
                    let machine = self.open_whole(point)?;
                    let result = self.result(point)?;
                    attest(
                        &self.work,
                        self.options,
                        &self.standard,
                        signer,
                        &machine,
                        &result,
                    )
                };
                self.work
                    .once_if(StageName::Attest, &point.at, &input, holds, make)
            },
            |point| &mut point.attestation,
        )
    }

    /// All that is known of a point by now.
    fn result(&self, point: &Point) -> Result<PointResult> {
        fn optional<T: DeserializeOwned>(
            work: &Work<'_>,
            key: Option<Digest>,
        ) -> Result<Option<T>> {
            key.map(|key| work.load(key)).transpose()
        }
        let mut result = PointResult {
            at: point.at.clone(),
            info: point.info.clone(),
            inspection: optional(&self.work, point.inspection)?,
            assessments: optional(&self.work, point.assessment)?.unwrap_or_default(),
            decision: optional(&self.work, point.decision)?,
            done: optional(&self.work, point.done)?,
            verified: optional(&self.work, point.verified)?,
            attestation: optional(&self.work, point.attestation)?,
            failures: point.failures.clone(),
        };
        result.failures.sort();
        Ok(result)
    }

    pub(super) fn report(&self, row: &RunRow, points: &[Point]) -> Result<RunOutcome> {
        let observer = self.work.observer;
        observer.stage(StageName::Report, count(self.machines.len()));
        let mut report = self.standard.empty_report(self.options, row);
        report.gaps.extend(self.gaps.iter().map(Into::into));
        report
            .gaps
            .extend(self.standard.releases.gaps().iter().map(Into::into));
        let mut complete = self.gaps.is_empty();
        let mut passes = true;
        for (index, machine) in self.machines.iter().enumerate() {
            self.work.check()?;
            let mut results = Vec::new();
            for point in points.iter().filter(|point| point.machine == index) {
                results.push(self.result(point)?);
            }
            let machine = MachineResult {
                name: &machine.found.name,
                within: &machine.found.within,
                fact: machine.fact.as_ref(),
                gaps: &machine.gaps,
                points: results,
            };
            complete &= machine.complete();
            passes &= machine.passes();
            let (as_of, now) = (self.standard.as_of, self.standard.now);
            machine.record(&self.work.state.database, &row.run, as_of, now)?;
            machine.add_to(&mut report);
            observer.done(StageName::Report, &Locator::machine(machine.name), false);
        }
        let mut files = BTreeMap::new();
        for format in REPORT_FORMATS {
            let path = self
                .options
                .output
                .join(format!("report.{}", format.name()));
            host::publish(&path, &format.render(&report)?)?;
            files.insert(format.name().to_owned(), path);
        }
        let code = match (complete, passes) {
            (false, _) => 3,
            (true, false) => 1,
            (true, true) => 0,
        };
        let text = serde_json::to_string(&report)
            .map_err(|error| Error::corrupt("cannot write the report").because(error))?;
        self.work.state.database.end(&row.run, code, &text)?;
        Ok(RunOutcome {
            report,
            files,
            bundle: None,
            complete,
            passes,
        })
    }
}
