//! From findings and gaps to the verdict: waivers, what they leave, and what that weighs.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::Gap;

use super::Judge;
use super::timing::Risk;
use crate::assessment::{AcceptedGapName, BaselineName, WaiverName};
use crate::{Assessment, Finding, Rule, Verdict};

impl Judge<'_> {
    /// Waivers, the verdict and its reasons.
    pub(super) fn conclude(mut self) -> Assessment {
        let baseline = self.question.baseline;
        let mut expired = BTreeSet::new();
        let mut findings = std::mem::take(&mut self.findings);
        for finding in &mut findings {
            self.waive(finding, &mut expired);
            self.time(finding);
        }
        let exposed = self.exposed();
        findings.sort_by_cached_key(|finding| (Risk::on(exposed, finding), finding.clone()));
        findings.dedup();
        let (gaps, accepted_gaps) = self.accept_gaps(&mut expired);
        let coverage_complete = !gaps.iter().any(|gap| gap.may_hide_packages);
        let mut assessment = Assessment {
            schema: Assessment::SCHEMA.into(),
            at: self.question.inventory.at.clone(),
            as_of: self.as_of,
            baseline: BaselineName {
                name: baseline.name.clone(),
                digest: baseline.digest(),
            },
            verdict: Verdict::Compliant,
            passes: false,
            reasons: Vec::new(),
            coverage_complete,
            judged: self.judged,
            findings,
            exposed,
            checks_right: self.checks_right,
            unjudged: self.unjudged,
            outstanding: self.outstanding,
            unknown: self.unknown,
            expired_waivers: expired,
            gaps,
            accepted_gaps,
            suites: self.question.releases.suites().to_vec(),
            feeds: self.question.advisories.feeds().to_vec(),
            unfixed: self.unfixed,
        };
        assessment.verdict = settle(&mut assessment, self.not_for.as_deref());
        let only_within_deadlines = baseline.fail_on_overdue_only
            && assessment.verdict == Verdict::NonCompliant
            && assessment.open_findings().all(Finding::is_within_deadline);
        assessment.passes =
            only_within_deadlines || !baseline.fail_on.contains(&assessment.verdict);
        assessment
    }

    /// Waives a finding as a whole, or single CVEs of it; one all of whose CVEs are waived is waived by what ends first.
    fn waive(&self, finding: &mut Finding, expired: &mut BTreeSet<WaiverName>) {
        let mut by_cves: Option<WaiverName> = None;
        for waiver in &self.question.baseline.waivers {
            if !waiver.covers(finding, &self.machine, self.question.labels) {
                continue;
            }
            let name = waiver.name();
            if !waiver.is_in_force(self.as_of) {
                expired.insert(name);
            } else if waiver.cves.is_empty() {
                if finding.waiver.is_none() {
                    finding.waiver = Some(name);
                }
            } else {
                for cve in &mut finding.cves {
                    if cve.waiver.is_none() && waiver.cves.contains(&cve.id) {
                        cve.waiver = Some(name.id.clone());
                        let first = by_cves.get_or_insert_with(|| name.clone());
                        if name.expires < first.expires {
                            *first = name.clone();
                        }
                    }
                }
            }
        }
        if finding.waiver.is_none() && finding.cves.iter().all(|cve| cve.waiver.is_some()) {
            finding.waiver = by_cves;
        }
    }

    fn accept_gaps(
        &self,
        expired: &mut BTreeSet<WaiverName>,
    ) -> (BTreeSet<Gap>, BTreeSet<AcceptedGapName>) {
        let mut gaps = BTreeSet::new();
        let mut accepted = BTreeSet::new();
        for gap in &self.gaps {
            let mut by = None;
            for waiver in &self.question.baseline.accepted_gaps {
                if !waiver.covers(gap, &self.machine) {
                    continue;
                }
                let name = waiver.name();
                if waiver.is_in_force(self.as_of) {
                    by = by.or(Some(name));
                } else {
                    expired.insert(name);
                }
            }
            match by {
                Some(waiver) => {
                    accepted.insert(AcceptedGapName {
                        gap: gap.clone(),
                        waiver,
                    });
                }
                None => {
                    gaps.insert(gap.clone());
                }
            }
        }
        (gaps, accepted)
    }
}

/// The verdict; each thing that weighs adds its reason, the weightiest first.
fn settle(assessment: &mut Assessment, not_for: Option<&str>) -> Verdict {
    let mut verdict = Verdict::Compliant;
    let mut reasons = Vec::new();
    let count = |n: usize, one: &str, many: &str| {
        if n == 1 {
            format!("1 {one}")
        } else {
            format!("{n} {many}")
        }
    };
    let mut weigh = |is: Verdict, reason: String| {
        verdict = verdict.max(is);
        reasons.push(reason);
    };
    let mut by_rule = BTreeMap::<Rule, usize>::new();
    for finding in assessment.open_findings() {
        let n = by_rule.entry(finding.rule).or_default();
        *n = n.saturating_add(1);
    }
    for (rule, n) in by_rule {
        let clause = match rule {
            Rule::Suite => "below a demanded suite",
            Rule::MinimumVersion => "below the minimum version",
            Rule::Forbidden => "forbidden",
            Rule::Required => "missing",
            Rule::Unknown => "of unknown origin",
            Rule::Broken => "broken in the middle of unpacking",
            Rule::Advisory => "affected by an advisory",
            Rule::Gate => "open to a CVE that a gate forbids",
            Rule::File | Rule::Setting => "not as it must be",
            Rule::Fix => "not made",
        };
        let what = match rule {
            Rule::File => count(n, "file is", "files are"),
            Rule::Setting => count(n, "setting is", "settings are"),
            Rule::Fix => count(n, "fix is", "fixes are"),
            _ => count(n, "package is", "packages are"),
        };
        weigh(Verdict::NonCompliant, format!("{what} {clause}"));
    }
    let dated = || assessment.open_findings().filter(|one| one.due.is_some());
    if dated().next().is_some() {
        let overdue = dated().filter(|one| !one.is_within_deadline()).count();
        let left = dated().count().saturating_sub(overdue);
        let next = dated()
            .filter(|one| one.is_within_deadline())
            .filter_map(|one| one.due.as_ref()?.until)
            .min();
        let ends = next.map(|until| format!(", the next until {until}"));
        let reason = match (overdue, left) {
            (0, _) => format!("within deadlines{}", ends.unwrap_or_default()),
            (_, 0) => count(overdue, "finding is overdue", "findings are overdue"),
            _ => format!(
                "{}, {left} within deadlines{}",
                count(overdue, "finding is overdue", "findings are overdue"),
                ends.unwrap_or_default()
            ),
        };
        weigh(Verdict::NonCompliant, reason);
    }
    if !assessment.unjudged.is_empty() {
        let n = assessment.unjudged.len();
        weigh(
            Verdict::Indeterminate,
            format!("{} not be judged", count(n, "check could", "checks could")),
        );
    }
    if let Some(why) = not_for {
        weigh(
            Verdict::Indeterminate,
            format!("the baseline is not for this machine: {why}"),
        );
    }
    let hiding = assessment
        .gaps
        .iter()
        .filter(|gap| gap.may_hide_packages)
        .count();
    if hiding > 0 {
        let what = count(hiding, "gap may hide a package", "gaps may hide packages");
        weigh(Verdict::Indeterminate, what);
    }
    if assessment.judged == 0 && not_for.is_none() {
        weigh(
            Verdict::Indeterminate,
            "no installed package was judged".into(),
        );
    }
    if !assessment.outstanding.is_empty() {
        let n = assessment.outstanding.len();
        let what = format!(
            "{} to be configured",
            count(n, "package is still", "packages are still")
        );
        weigh(Verdict::Pending, what);
    }
    if reasons.is_empty() {
        reasons.push(format!(
            "{} as the baseline wants",
            count(assessment.judged, "package is", "packages are")
        ));
    }
    assessment.reasons = reasons;
    verdict
}
