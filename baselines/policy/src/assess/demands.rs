//! Gates over open CVEs, checks of files and settings, and fixes.

use std::collections::BTreeMap;

use dormouse_block::ErrorKind;
use dormouse_packages::{Observed, Package, Probe};

use super::Judge;
use crate::assessment::{CheckResult, MendedCve};
use crate::check::Answered;
use crate::fix::Relevance;
use crate::{Finding, Rule};

/// Why a question has no answer.
const UNASKED: &str = "it was not asked while the guest was open";

impl Judge<'_> {
    /// Gates: a finding for each package with open CVEs that one forbids.
    pub(super) fn judge_gates(&mut self) {
        let baseline = self.question.baseline;
        if baseline.gates.is_empty() {
            return;
        }
        if self.question.advisories.is_empty() {
            let why =
                "no feed was given that says which CVEs are open, which the baseline has gates for";
            self.gap(ErrorKind::Unsupported, why.into());
            return;
        }
        let asks = |gate: &crate::CveGate| gate.exploited.is_some();
        if baseline.gates.iter().any(asks) && !self.has_catalogue() {
            let why = "no catalogue of exploited vulnerabilities was given, which the baseline has gates for";
            self.gap(ErrorKind::Unsupported, why.into());
        }
        for package in &self.question.inventory.packages {
            if !package.is_present() || !self.covers(package.family) {
                continue;
            }
            let open = self.open_cves(package);
            for gate in &baseline.gates {
                let forbidden: Vec<MendedCve> = open
                    .iter()
                    .filter(|cve| gate.forbids(&package.name, &self.weight(cve)))
                    .cloned()
                    .collect();
                if forbidden.is_empty() {
                    continue;
                }
                let because = if gate.reason.is_empty() {
                    String::new()
                } else {
                    format!(": {}", gate.reason)
                };
                let why = format!("the gate {} lets none of its CVEs pass{because}", gate.id);
                self.finding(package, Rule::Gate, None, None, why);
                if let Some(finding) = self.findings.last_mut() {
                    finding.cves = forbidden;
                }
            }
        }
    }

    /// The CVEs that a package has, that some later version mends and no statement answers.
    fn open_cves(&self, package: &Package) -> Vec<MendedCve> {
        let advisories = self.question.advisories;
        let judgement = advisories.judge(&self.target, package);
        let open = judgement
            .concerns
            .iter()
            .filter(|concern| concern.answer.is_none() && concern.fixed.is_some());
        open.map(|concern| MendedCve::of(advisories, concern))
            .collect()
    }

    /// Checks of files and settings, by the answers that the guest gave.
    pub(super) fn judge_checks(&mut self) {
        let baseline = self.question.baseline;
        let answers: BTreeMap<&Probe, &Observed> = self
            .question
            .observations
            .iter()
            .map(|observation| (&observation.probe, &observation.answer))
            .collect();
        let unasked = Observed::Unread {
            kind: ErrorKind::Unsupported,
            why: UNASKED.into(),
        };
        for check in &baseline.files {
            let answer = answers.get(&check.probe()).copied().unwrap_or(&unasked);
            let place = check.path.to_string();
            let said = check.judge(answer);
            self.checked(
                Rule::File,
                &check.id,
                &check.reason,
                check.severity,
                place,
                said,
            );
        }
        for check in &baseline.settings {
            let answer = answers.get(&check.probe()).copied().unwrap_or(&unasked);
            let place = check.paths.join(" ");
            let said = check.judge(answer);
            self.checked(
                Rule::Setting,
                &check.id,
                &check.reason,
                check.severity,
                place,
                said,
            );
        }
    }

    /// Fixes: a finding for each that is for the machine, whose conditions hold, and whose edits would change something.
    pub(super) fn judge_fixes(&mut self) {
        let question = self.question;
        let answers: BTreeMap<&Probe, &Observed> = question
            .observations
            .iter()
            .map(|observation| (&observation.probe, &observation.answer))
            .collect();
        let unasked = Observed::Unread {
            kind: ErrorKind::Unsupported,
            why: UNASKED.into(),
        };
        let answer = |probe: &Probe| answers.get(probe).copied().unwrap_or(&unasked);
        for fix in &question.baseline.fixes {
            let os = question.inventory.os.as_ref();
            let not_for = fix
                .applies_to
                .why_not_for(&self.machine, os, question.labels);
            if not_for.is_some() {
                continue;
            }
            let found = match fix.judge(question.inventory, &answer) {
                Relevance::Not | Relevance::Made => {
                    self.checks_right = self.checks_right.saturating_add(1);
                    continue;
                }
                Relevance::Unknown(why) => {
                    self.unjudged.insert(format!("{}: {why}", fix.id));
                    continue;
                }
                Relevance::Relevant { found } => found,
            };
            let known = question.advisories;
            let cves = fix.cves().map(|id| {
                let about = known.known(id);
                MendedCve {
                    id: id.to_owned(),
                    severity: fix.severity,
                    exploited: about.exploited,
                    exploited_since: about.since,
                    exploited_due: about.due,
                    automatable: about.automatable,
                    total_impact: about.total_impact,
                    epss: about.epss.map(str::to_owned),
                    ..MendedCve::default()
                }
            });
            self.findings.push(Finding {
                severity: fix.severity,
                cves: cves.collect(),
                check: Some(CheckResult {
                    place: fix.place(),
                    expected: fix.wanted(),
                    found,
                }),
                ..Finding::of(&fix.id, Rule::Fix, fix.title.clone())
            });
        }
    }

    fn checked(
        &mut self,
        rule: Rule,
        id: &str,
        reason: &str,
        severity: Option<dormouse_advisories::Severity>,
        place: String,
        said: Answered,
    ) {
        match said {
            Answered::Right => self.checks_right = self.checks_right.saturating_add(1),
            Answered::Unknown(why) => {
                self.unjudged.insert(format!("{id} ({place}): {why}"));
            }
            Answered::Wrong { expected, found } => {
                let because = if reason.is_empty() {
                    String::new()
                } else {
                    format!(": {reason}")
                };
                let why = format!("{place} is not as it must be{because}");
                self.findings.push(Finding {
                    severity,
                    check: Some(CheckResult {
                        place,
                        expected,
                        found,
                    }),
                    ..Finding::of(id, rule, why)
                });
            }
        }
    }
}
