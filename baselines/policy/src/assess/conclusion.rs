//! From findings and gaps to the verdict: waivers, what they leave, and what that weighs.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::Gap;

use super::Judge;
use crate::assessment::{AcceptedGapName, BaselineName, WaiverName};
use crate::{Assessment, Rule, Verdict};

impl Judge<'_> {
    /// Waivers, the verdict and its reasons.
    pub(super) fn conclude(mut self) -> Assessment {
        let baseline = self.question.baseline;
        let mut expired = BTreeSet::new();
        for finding in &mut self.findings {
            for waiver in &baseline.waivers {
                if !waiver.covers(finding, &self.machine) {
                    continue;
                }
                let name = waiver.name();
                if !waiver.is_in_force(self.as_of) {
                    expired.insert(name);
                } else if finding.waiver.is_none() {
                    finding.waiver = Some(name);
                }
            }
        }
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
            findings: self.findings.into_iter().collect(),
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
        assessment.passes = !baseline.fail_on.contains(&assessment.verdict);
        assessment
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
        };
        weigh(
            Verdict::NonCompliant,
            format!("{} {clause}", count(n, "package is", "packages are")),
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
