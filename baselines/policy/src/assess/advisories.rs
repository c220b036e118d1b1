//! The rule of advisories: an installed version that a vendor calls affected is a finding.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_advisories::{Advisories, Concern, Feed, Target};
use dormouse_block::ErrorKind;
use dormouse_packages::{Family, Package, Reach};
use jiff::SignedDuration;

use super::Judge;
use crate::assessment::{MendedCve, Unfixed, Unknown, UnknownPackage};
use crate::{AnswerName, Finding, Rule, Scope, UnfixedCves, UnknownPackages};

/// The families of whose packages on a system any feed speaks.
pub(super) fn covered(advisories: &Advisories, target: &Target) -> BTreeSet<Family> {
    Family::all()
        .filter(|family| advisories.speaks_of(target, *family))
        .collect()
}

impl MendedCve {
    /// What feeds say of a concern, with what is known of the CVE itself.
    pub(super) fn of(advisories: &Advisories, concern: &Concern<'_>) -> Self {
        let known = advisories.known(concern.id);
        Self {
            id: concern.id.to_owned(),
            advisory: concern.advisory.map(str::to_owned),
            fixed: concern.fixed.unwrap_or_default().to_owned(),
            urgency: concern.word.map(str::to_owned),
            severity: concern.severity,
            published: concern.published,
            exploited: known.exploited,
            exploited_since: known.since,
            exploited_due: known.due,
            automatable: known.automatable,
            total_impact: known.total_impact,
            epss: known.epss.map(str::to_owned),
            ..Self::default()
        }
    }
}

impl Judge<'_> {
    /// Every package of a family that feeds speak of is held against them.
    pub(super) fn judge_advisories(&mut self) {
        let advisories = self.question.advisories;
        if advisories.is_empty() {
            return;
        }
        self.judge_feeds();
        let inventory = self.question.inventory;
        for package in inventory.present() {
            // A library that the system's own package installed is that package, whose vendor mends it in its own versions.
            let is_own = package.owned_by.is_some() && package.family.reach() == Reach::Beside;
            if is_own || !self.covered.contains(&package.family) {
                continue;
            }
            if self.target.made(package) == Some(false) {
                self.note_origin(package);
                continue;
            }
            let judgement = advisories.judge(&self.target, package);
            if judgement.undecided > 0 {
                let why = format!(
                    "{} of {} is of a module, and its database does not say of which stream: {} statements are undecided",
                    package.name,
                    self.target.name(),
                    judgement.undecided
                );
                self.gap(ErrorKind::Unsupported, why);
            }
            self.judge_concerns(package, &judgement.concerns);
        }
    }

    fn note_origin(&mut self, package: &Package) {
        let what = Unknown::Origin;
        self.unknown.insert(UnknownPackage {
            package: package.name.clone(),
            architecture: package.architecture.clone(),
            version: package.version.clone(),
            what,
        });
        if self.question.baseline.unknown_packages == UnknownPackages::Fail {
            let why = format!(
                "its maker is {}, and no given feed speaks of what they make",
                package.vendor.as_deref().unwrap_or("not known")
            );
            self.finding(package, Rule::Unknown, None, None, why);
        }
    }

    /// Feeds too old to judge by, and those that do not say how old they are.
    fn judge_feeds(&mut self) {
        let advisories = self.question.advisories;
        let families = self
            .question
            .inventory
            .present()
            .map(|package| package.family);
        let families: BTreeSet<Family> = families.collect();
        let mut used: BTreeSet<&Feed> = families
            .iter()
            .flat_map(|family| advisories.feeds_about(&self.target, *family))
            .collect();
        used.extend(
            advisories
                .feeds()
                .iter()
                .filter(|feed| feed.kind.is_of_cves()),
        );
        let days = self.question.baseline.advisories.stale_after_days;
        let limit = SignedDuration::from_hours(i64::from(days).saturating_mul(24));
        let (mut stale, mut undated) = (Vec::new(), Vec::new());
        for feed in used {
            match feed.date {
                Some(date) if self.as_of.duration_since(date) > limit => stale.push(format!(
                    "the feed {} is of {date}, and more than {days} days old",
                    feed.name
                )),
                Some(_) => {}
                None => undated.push(format!("the feed {} does not say of when it is", feed.name)),
            }
        }
        for why in undated {
            self.note(ErrorKind::Unsupported, why);
        }
        for why in stale {
            self.gap(ErrorKind::Denied, why);
        }
    }

    fn judge_concerns(&mut self, package: &Package, concerns: &[Concern<'_>]) {
        let advisories = self.question.advisories;
        let suite = |finding: &&Finding| {
            finding.rule == Rule::Suite
                && finding.package == package.name
                && finding.architecture == package.architecture
        };
        // What an upgrade that is demanded anyway mends is named there.
        let mended: BTreeSet<String> = self
            .findings
            .iter()
            .filter(suite)
            .flat_map(|finding| finding.cves.iter().map(|cve| cve.id.clone()))
            .collect();
        let mut answered = BTreeMap::<AnswerName, Vec<MendedCve>>::new();
        let (mut fixed, mut unfixed) = (Vec::new(), Vec::new());
        let mut wanted: Option<&str> = None;
        let wanted_here = concerns.iter().filter(|one| self.is_asked(package, one.id));
        for concern in wanted_here {
            let cve = MendedCve::of(advisories, concern);
            if let Some(answer) = concern.answer {
                let name = AnswerName {
                    document: answer.document.to_owned(),
                    status: answer.status,
                    justification: answer.justification.map(str::to_owned),
                };
                answered.entry(name).or_default().push(cve);
                continue;
            }
            let Some(version) = concern.fixed else {
                unfixed.push(cve);
                continue;
            };
            if mended.contains(concern.id) {
                continue;
            }
            let later = wanted.is_none_or(|known| package.family.compare(known, version).is_lt());
            wanted = if later { Some(version) } else { wanted };
            fixed.push(cve);
        }
        if let Some(wanted) = wanted.filter(|_| self.question.baseline.advisories.demanded) {
            let why = format!("{} mended in {wanted}", names(&fixed));
            self.advisory_finding(package, Some(wanted), why, fixed, None);
        }
        for (answer, cves) in answered {
            let justification = answer
                .justification
                .as_deref()
                .unwrap_or("it gives no reason");
            let why = format!(
                "{} answered by {}: {justification}",
                names(&cves),
                answer.document
            );
            self.advisory_finding(package, None, why, cves, Some(answer));
        }
        if unfixed.is_empty() {
            return;
        }
        if self.question.baseline.advisories.unfixed == UnfixedCves::Fail {
            let why = format!("{} not mended in any version", names(&unfixed));
            self.advisory_finding(package, None, why, unfixed, None);
        } else {
            self.unfixed.insert(Unfixed {
                package: package.name.clone(),
                architecture: package.architecture.clone(),
                version: package.version.clone(),
                cves: unfixed,
            });
        }
    }

    /// Whether what a package has is among the upgrades that are asked for. Every advisory is one of security.
    fn is_asked(&self, package: &Package, id: &str) -> bool {
        let only = &self.question.baseline.upgrades.only;
        only.is_empty()
            || only.iter().any(|scope| match scope {
                Scope::All | Scope::Security => true,
                Scope::Package(name) => package.name == *name || package.source_name == *name,
                Scope::Cve(cve) => id == cve,
            })
    }

    fn advisory_finding(
        &mut self,
        package: &Package,
        wanted: Option<&str>,
        why: String,
        cves: Vec<MendedCve>,
        answer: Option<AnswerName>,
    ) {
        self.finding(
            package,
            Rule::Advisory,
            wanted.map(str::to_owned),
            None,
            why,
        );
        if let Some(finding) = self.findings.last_mut() {
            finding.cves = cves;
            finding.answer = answer;
        }
    }
}

/// `DSA-1 (CVE-1, CVE-2 and 3 more) are`.
fn names(cves: &[MendedCve]) -> String {
    let shown: Vec<&str> = cves.iter().take(3).map(|cve| cve.id.as_str()).collect();
    let more = cves.len().saturating_sub(shown.len());
    match (cves.len(), more) {
        (1, _) => format!("{} is", shown.join("")),
        (_, 0) => format!("{} are", shown.join(", ")),
        _ => format!("{} and {more} more are", shown.join(", ")),
    }
}
