//! Judging: a baseline, an inventory, the versions on offer, an instant.

mod advisories;
mod conclusion;
mod demands;
pub(crate) mod timing;

use std::collections::{BTreeMap, BTreeSet};

use dormouse_advisories::{Advisories, Suite, Target};
use dormouse_block::{ErrorKind, Gap, Locator};
use dormouse_packages::dpkg::Version;
use dormouse_packages::{Family, Inventory, Kind, Observation, Package, Reach, State};
use jiff::Timestamp;

use crate::assessment::{MendedCve, Outstanding, Unfixed, Unknown, UnknownPackage};
use crate::releases;
use crate::{Assessment, Baseline, Finding, History, Releases, Rule, Scope, UnknownPackages};

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// By what.
    pub baseline: &'a Baseline,
    /// Of what.
    pub inventory: &'a Inventory,
    /// The machine's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// The versions on offer, from repositories opened at the same instant.
    pub releases: &'a Releases,
    /// What vendors say of CVEs.
    pub advisories: &'a Advisories,
    /// What the guest answered to the baseline's questions about files and settings.
    pub observations: &'a [Observation],
    /// When findings were first seen on the machine.
    pub history: &'a History,
    /// The instant; the baseline's own goes before it.
    pub as_of: Timestamp,
}

/// Judges. The same question gives the same answer, to the byte.
///
/// A gap that may hide a package forbids `Compliant` and `Pending`. Findings make `NonCompliant` even where coverage is
/// incomplete, which [`Assessment::coverage_complete`] then still says.
#[must_use]
pub fn assess(question: &Question<'_>) -> Assessment {
    let mut judge = Judge::new(question);
    if let Some(why) = question.baseline.why_not_for(
        &judge.machine,
        question.inventory.os.as_ref(),
        question.labels,
    ) {
        judge.not_for = Some(why);
        return judge.conclude();
    }
    judge.judge_packages();
    judge.judge_families();
    judge.judge_required();
    judge.judge_suites();
    judge.judge_advisories();
    judge.judge_gates();
    judge.judge_checks();
    judge.judge_fixes();
    judge.conclude()
}

struct Judge<'a> {
    question: &'a Question<'a>,
    machine: String,
    as_of: Timestamp,
    native: &'a str,
    target: Target,
    /// The families of which a feed or a repository speaks.
    covered: BTreeSet<Family>,
    unfixed: BTreeSet<Unfixed>,
    not_for: Option<String>,
    judged: usize,
    findings: Vec<Finding>,
    outstanding: BTreeSet<Outstanding>,
    unknown: BTreeSet<UnknownPackage>,
    gaps: BTreeSet<Gap>,
    checks_right: usize,
    unjudged: BTreeSet<String>,
}

impl<'a> Judge<'a> {
    fn new(question: &'a Question<'a>) -> Self {
        let inventory = question.inventory;
        let target = Target::of(inventory);
        let mut gaps = inventory.gaps.clone();
        // What is wrong with a repository matters to whom it is asked about.
        if !question.baseline.suites.is_empty() {
            gaps.extend(question.releases.gaps().iter().cloned());
        }
        Self {
            question,
            machine: inventory.at.machine.clone().unwrap_or_default(),
            as_of: question.baseline.instant(question.as_of),
            native: inventory.native_architecture().unwrap_or_default(),
            covered: advisories::covered(question.advisories, &target),
            target,
            unfixed: BTreeSet::new(),
            not_for: None,
            judged: 0,
            findings: Vec::new(),
            outstanding: BTreeSet::new(),
            unknown: BTreeSet::new(),
            gaps,
            checks_right: 0,
            unjudged: BTreeSet::new(),
        }
    }

    fn finding(
        &mut self,
        package: &Package,
        rule: Rule,
        wanted: Option<String>,
        suite: Option<String>,
        why: String,
    ) {
        self.findings.push(Finding {
            architecture: package.architecture.clone(),
            installed: Some(package.version.clone()),
            wanted,
            suite,
            hold: package.hold,
            purl: Some(package.purl.clone()),
            ..Finding::of(&package.name, rule, why)
        });
    }

    fn gap(&mut self, kind: ErrorKind, why: String) {
        self.gaps.insert(Gap {
            at: Locator::default(),
            kind,
            why,
            may_hide_packages: true,
        });
    }

    /// A gap that hides no package.
    fn note(&mut self, kind: ErrorKind, why: String) {
        self.gaps.insert(Gap {
            at: Locator::default(),
            kind,
            why,
            may_hide_packages: false,
        });
    }

    /// The rules that look at one package at a time.
    fn judge_packages(&mut self) {
        let baseline = self.question.baseline;
        for package in &self.question.inventory.packages {
            if package.kind == Kind::Software && package.state == State::HalfInstalled {
                let why = "its unpacking was begun and not finished".into();
                self.finding(package, Rule::Broken, None, None, why);
                continue;
            }
            if !package.is_present() {
                continue;
            }
            if self.covers(package.family) {
                self.judged = self.judged.saturating_add(1);
            }
            if package.state.is_outstanding() {
                self.outstanding.insert(Outstanding {
                    package: package.name.clone(),
                    architecture: package.architecture.clone(),
                    version: package.version.clone(),
                    state: package.state,
                });
            }
            if package.family == Family::Dpkg && Version::parse(&package.version).is_err() {
                let why = format!(
                    "the version of {} cannot be compared: {:?}",
                    package.name, package.version
                );
                self.gap(ErrorKind::Corrupt, why);
                continue;
            }
            let order = |to: &str| package.family.compare(&package.version, to);
            if let Some(minimum) = baseline.minimum_versions.get(&package.name) {
                if package.family == Family::Dpkg && Version::parse(minimum).is_err() {
                    let why = format!(
                        "the minimum version of {} is none of dpkg's: {minimum:?}",
                        package.name
                    );
                    self.gap(ErrorKind::Unsupported, why);
                } else if order(minimum).is_lt() {
                    let why = format!("it is below the minimum {minimum}");
                    let wanted = Some(minimum.clone());
                    self.finding(package, Rule::MinimumVersion, wanted, None, why);
                }
            }
            for forbidden in &baseline.forbidden {
                let in_range = forbidden
                    .versions
                    .as_ref()
                    .is_none_or(|range| range.operator.admits(order(range.version.as_str())));
                if in_range && forbidden.package.matches(&package.name) {
                    let range = forbidden
                        .versions
                        .as_ref()
                        .map(|range| format!(" in versions {range}"));
                    let because = if forbidden.reason.is_empty() {
                        String::new()
                    } else {
                        format!(": {}", forbidden.reason)
                    };
                    let why = format!("it is forbidden{}{because}", range.unwrap_or_default());
                    self.finding(package, Rule::Forbidden, None, None, why);
                }
            }
        }
    }

    /// Whether anything given says which versions of a family's packages are to be had.
    fn covers(&self, family: Family) -> bool {
        // Repositories are Debian's so far.
        family == Family::Dpkg || self.covered.contains(&family)
    }

    /// What no repository and no advisory speaks of is not judged by being passed over: an unjudged package of a system
    /// may be any package; what is installed beside it says nothing of the system.
    fn judge_families(&mut self) {
        let mut unjudged = BTreeMap::<Family, usize>::new();
        for package in self.question.inventory.present() {
            if !self.covers(package.family) {
                let count = unjudged.entry(package.family).or_default();
                *count = count.saturating_add(1);
            }
        }
        for (family, count) in unjudged {
            self.gaps.insert(Gap {
                at: Locator::default(),
                kind: ErrorKind::Unsupported,
                why: format!(
                    "no repository or advisory speaks of {family} packages: {count} are not judged"
                ),
                may_hide_packages: family.reach() == Reach::System,
            });
        }
    }

    fn judge_required(&mut self) {
        for required in &self.question.baseline.required {
            if self
                .question
                .inventory
                .find(&required.package)
                .any(Package::is_present)
            {
                continue;
            }
            let because = if required.reason.is_empty() {
                String::new()
            } else {
                format!(": {}", required.reason)
            };
            let why = format!("it is required and not installed{because}");
            self.findings
                .push(Finding::of(&required.package, Rule::Required, why));
        }
    }

    /// The rule of suites: the newest version that any of them offers is demanded of what is installed.
    fn judge_suites(&mut self) {
        let releases = self.question.releases;
        let mut demanded = BTreeSet::new();
        for (written, name) in self
            .question
            .baseline
            .suites_for(self.question.inventory.os.as_ref())
        {
            let Some(name) = name else {
                let why = format!(
                    "the suite {written} has no name here, for the guest does not say its own"
                );
                self.gap(ErrorKind::Unsupported, why);
                continue;
            };
            let called = releases.called(&name);
            if called.is_empty() {
                self.gap(
                    ErrorKind::Unsupported,
                    format!("no given repository has the suite {name}"),
                );
            }
            demanded.extend(called);
        }
        if self.question.baseline.suites.is_empty() {
            return;
        }
        let mut uncovered = BTreeSet::new();
        let inventory = self.question.inventory;
        for package in inventory.present() {
            if package.family != Family::Dpkg {
                continue;
            }
            if let Ok(version) = Version::parse(&package.version) {
                self.judge_by_suites(package, &version, &demanded);
            }
            let architecture = if package.architecture == "all" {
                self.native
            } else {
                &package.architecture
            };
            let missing = demanded
                .iter()
                .filter(|&&suite| !releases.covers(suite, architecture));
            uncovered.extend(missing.map(|&suite| (suite, architecture.to_owned())));
        }
        for (suite, architecture) in uncovered {
            let name = releases
                .suite(suite)
                .map(|suite| suite.name().to_owned())
                .unwrap_or_default();
            let why = format!(
                "the suite {name} was read without an index of the architecture {architecture:?}"
            );
            self.gap(ErrorKind::Unsupported, why);
        }
    }

    /// What the upgrade of `package` to this version of its source mends, by the feeds.
    fn mended(&self, package: &Package, wanted: &Version) -> Vec<MendedCve> {
        let advisories = self.question.advisories;
        let (there, wanted) = (&package.source_version, wanted.as_str());
        let mended = advisories.mended(&self.target, &package.source_name, there, wanted);
        mended
            .iter()
            .map(|concern| MendedCve::of(advisories, concern))
            .collect()
    }

    /// Whether the upgrade of `package` from `there` to `wanted` is among those that are asked for.
    fn is_in_scope(
        &self,
        package: &Package,
        there: &Version,
        wanted: &Version,
        versions: &[releases::Version],
        cves: &[MendedCve],
    ) -> bool {
        let only = &self.question.baseline.upgrades.only;
        let is_security = |number: usize| {
            let suite = self.question.releases.suite(number);
            suite.is_some_and(Suite::is_security)
        };
        only.is_empty()
            || only.iter().any(|scope| match scope {
                Scope::All => true,
                Scope::Security => versions.iter().any(|one| {
                    one.version > *there && one.version <= *wanted && is_security(one.suite)
                }),
                Scope::Package(name) => package.name == *name || package.source_name == *name,
                Scope::Cve(cve) => cves.iter().any(|mended| mended.id == *cve),
            })
    }

    fn judge_by_suites(
        &mut self,
        package: &Package,
        version: &Version,
        demanded: &BTreeSet<usize>,
    ) {
        let releases = self.question.releases;
        let versions = match releases.versions(&package.name, &package.architecture, self.native) {
            Ok(versions) => versions,
            Err(error) => {
                let why = format!("what is on offer of {}: {error}", package.name);
                self.gap(ErrorKind::Corrupt, why);
                return;
            }
        };
        let offers = || versions.iter();
        let later = |a: &&releases::Version, b: &&releases::Version| {
            a.version
                .cmp(&b.version)
                .then_with(|| b.suite.cmp(&a.suite))
        };
        let newest = offers()
            .filter(|offer| demanded.contains(&offer.suite))
            .max_by(later);
        let known = offers().map(|offer| &offer.version).max();
        let what = match known {
            None => Some(Unknown::Name),
            Some(known) if known < version => Some(Unknown::Version),
            Some(_) => None,
        };
        if let Some(newest) = newest.filter(|newest| newest.version > *version) {
            let cves = self.mended(package, &newest.source_version);
            if self.is_in_scope(package, version, &newest.version, &versions, &cves) {
                let suite = releases
                    .suite(newest.suite)
                    .map(|suite| suite.name().to_owned());
                let wanted = newest.version.to_string();
                let why = format!("{} has {wanted}", suite.as_deref().unwrap_or_default());
                self.finding(package, Rule::Suite, Some(wanted), suite, why);
                if let Some(finding) = self.findings.last_mut() {
                    finding.cves = cves;
                }
            }
        }
        let Some(what) = what else {
            return;
        };
        self.unknown.insert(UnknownPackage {
            package: package.name.clone(),
            architecture: package.architecture.clone(),
            version: package.version.clone(),
            what,
        });
        if self.question.baseline.unknown_packages == UnknownPackages::Fail {
            let why = match what {
                Unknown::Name => "no given repository has a package of this name",
                Unknown::Version => "no given repository has a version as new as this",
                Unknown::Origin => "its maker is not the system's own vendor",
            };
            self.finding(package, Rule::Unknown, None, None, why.into());
        }
    }
}
