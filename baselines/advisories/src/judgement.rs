//! What all feeds say of one installed package.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use dormouse_packages::{Family, Package};
use jiff::Timestamp;

use crate::statement::{Advisory, Names, SOME_MODULE, Statement, Status};
use crate::{Advisories, Severity, Target};

/// One CVE that a package has, or an advisory that names none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concern<'a> {
    /// The CVE; the advisory's own name where it names none.
    pub id: &'a str,
    /// The vendor's advisory, where that has another name.
    pub advisory: Option<&'a str>,
    /// The version from which on it is mended: the latest, where several statements differ. Of the source package, where the
    /// vendor speaks of sources.
    pub fixed: Option<&'a str>,
    /// Affected or under investigation.
    pub status: Status,
    /// How bad, in the vendor's own word.
    pub word: Option<&'a str>,
    /// How bad: the worst that a statement says.
    pub severity: Option<Severity>,
    /// When it was first said.
    pub published: Option<Timestamp>,
    /// The vendor's own word for its state.
    pub note: Option<&'a str>,
    /// The statement by which it does not matter here.
    pub answer: Option<Answer<'a>>,
}

/// A statement that a package is not affected, or is mended, against another's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer<'a> {
    /// The document.
    pub document: &'a str,
    /// Not affected, or fixed.
    pub status: Status,
    /// The justification.
    pub justification: Option<&'a str>,
}

/// What all feeds say of one package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// What it has, in the order of names.
    pub concerns: Vec<Concern<'a>>,
    /// Statements of some module stream that may or may not be the package's: its database does not say which it is of.
    pub undecided: usize,
}

/// What is gathered about one CVE.
#[derive(Default)]
struct Gathered<'a> {
    concern: Option<Concern<'a>>,
    answer: Option<Answer<'a>>,
}

/// The versions by which a package is held against statements.
struct Installed<'a> {
    package: &'a Package,
    /// The source's version, with the epoch that its database leaves out.
    source: String,
    module: &'a str,
}

impl<'a> Installed<'a> {
    fn of(package: &'a Package) -> Self {
        let mut source = package.source_version.clone();
        // A source rpm's file name has no epoch; its packages have it.
        if package.family == Family::Rpm
            && !source.contains(':')
            && let Some((epoch, _)) = package.version.split_once(':')
        {
            source = format!("{epoch}:{source}");
        }
        Self {
            package,
            source,
            module: module_of(package),
        }
    }

    fn version(&self, names: Names, name: &str) -> &str {
        let version = match names {
            Names::Binary => &self.package.version,
            Names::Source => &self.source,
            Names::Either if name == self.package.name => &self.package.version,
            Names::Either => &self.source,
        };
        match self.package.family {
            Family::Go => version.strip_prefix('v').unwrap_or(version),
            _ => version,
        }
    }

    fn is_for(&self, statement: &Statement<'_>, name: &str) -> bool {
        let fits = match statement.names {
            Names::Binary => name == self.package.name || self.package.family == Family::Python,
            Names::Source => true,
            Names::Either => true,
        };
        fits && is_architecture(statement.architectures, &self.package.architecture)
    }
}

/// `nodejs:18` of a label `nodejs:18:9020020230718:rhel9`; [`SOME_MODULE`] of a package whose release says that it is of a module,
/// and not which: AlmaLinux' have no label.
fn module_of(package: &Package) -> &str {
    if let Some(label) = package.module.as_deref() {
        let end = label
            .match_indices(':')
            .nth(1)
            .map_or(label.len(), |(at, _)| at);
        return label.get(..end).unwrap_or(label);
    }
    if package.family == Family::Rpm && is_modular(&package.version) {
        SOME_MODULE
    } else {
        ""
    }
}

/// Whether a version is of a build for a module: `.module+el8.6.0+…`, `.module_el8.6.0+…`.
pub(crate) fn is_modular(version: &str) -> bool {
    version.contains(".module+") || version.contains(".module_")
}

fn is_architecture(listed: &str, own: &str) -> bool {
    const I386: [&str; 5] = ["i386", "i486", "i586", "i686", "athlon"];
    listed.is_empty()
        || own.is_empty()
        || listed.split(' ').any(|one| {
            one == own
                || one == "noarch" && own == "noarch"
                || (I386.contains(&one) && I386.contains(&own))
        })
}

/// How a statement's module stands to a package's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Same,
    Other,
    NotSaid,
}

fn stream(statement: &str, package: &str) -> Stream {
    match (statement, package) {
        (a, b) if a.is_empty() != b.is_empty() => Stream::Other,
        ("", _) => Stream::Same,
        (SOME_MODULE, _) | (_, SOME_MODULE) => Stream::NotSaid,
        (a, b) if a == b => Stream::Same,
        _ => Stream::Other,
    }
}

fn is_in_range(statement: &Statement<'_>, version: &str) -> bool {
    let order = |other: &str| statement.family.compare(version, other);
    statement
        .introduced
        .is_none_or(|first| order(first) != Ordering::Less)
        && statement
            .fixed
            .is_none_or(|fixed| order(fixed) == Ordering::Less)
        && statement
            .last_affected
            .is_none_or(|last| order(last) != Ordering::Greater)
}

impl Advisories {
    /// What the feeds say of an installed package of a system, each CVE once.
    #[must_use]
    pub fn judge<'a>(&'a self, target: &Target, package: &Package) -> Judgement<'a> {
        let installed = Installed::of(package);
        let mut gathered: BTreeMap<&'a str, Gathered<'a>> = BTreeMap::new();
        let mut undecided = 0_usize;
        self.each_about(target, &installed, |statement, advisory| {
            let version = installed.version(statement.names, statement.package);
            if !is_in_range(statement, version) {
                return;
            }
            match stream(statement.module, installed.module) {
                Stream::Same => {}
                Stream::Other => return,
                Stream::NotSaid => {
                    // Below the mended version of a stream that may be another's.
                    if statement.status == Status::Affected {
                        undecided = undecided.saturating_add(1);
                    }
                    return;
                }
            }
            let own = [advisory.id];
            let ids = if advisory.cves.is_empty() {
                &own[..]
            } else {
                &advisory.cves
            };
            for id in ids {
                gather(gathered.entry(id).or_default(), id, statement, advisory);
            }
        });
        let concerns = gathered.into_values().filter_map(|one| {
            let mut concern = one.concern?;
            concern.answer = one.answer;
            Some(concern)
        });
        Judgement {
            concerns: concerns.collect(),
            undecided,
        }
    }

    /// What the upgrade of a source package of Debian's kin from the version `there` to `wanted` mends: each CVE once, in the order of
    /// their names.
    #[must_use]
    pub fn mended<'a>(
        &'a self,
        target: &Target,
        source: &str,
        there: &str,
        wanted: &str,
    ) -> Vec<Concern<'a>> {
        let mut gathered: BTreeMap<&'a str, Gathered<'a>> = BTreeMap::new();
        self.each_named(target, Family::Dpkg, source, &mut |statement, advisory| {
            let mends = statement
                .fixed
                .is_some_and(|fixed| Family::Dpkg.compare(fixed, wanted) != Ordering::Greater);
            if statement.names == Names::Binary || !mends || !is_in_range(statement, there) {
                return;
            }
            for id in &advisory.cves {
                gather(gathered.entry(id).or_default(), id, statement, advisory);
            }
        });
        gathered
            .into_values()
            .filter_map(|one| one.concern)
            .collect()
    }

    /// Calls `take` with every statement of a name for a system, once for each advisory that makes it.
    fn each_named<'a>(
        &'a self,
        target: &Target,
        family: Family,
        name: &str,
        take: &mut impl FnMut(&Statement<'a>, &Advisory<'a>),
    ) {
        for catalogue in self.catalogues() {
            for row in catalogue.about(family, name) {
                let Some((statement, advisories)) = catalogue.statement(row) else {
                    continue;
                };
                if !target.is_of(statement.release) {
                    continue;
                }
                for number in advisories {
                    if let Some(advisory) = catalogue.advisory(number).filter(|one| !one.withdrawn)
                    {
                        take(&statement, &advisory);
                    }
                }
            }
        }
    }

    fn each_about<'a>(
        &'a self,
        target: &Target,
        installed: &Installed<'_>,
        mut take: impl FnMut(&Statement<'a>, &Advisory<'a>),
    ) {
        let package = installed.package;
        let name = canonical_name(package.family, &package.name);
        self.each_named(target, package.family, &name, &mut |statement, advisory| {
            let is_own_source = package.source_name == package.name;
            if (statement.names != Names::Source || is_own_source)
                && installed.is_for(statement, &package.name)
            {
                take(statement, advisory);
            }
        });
        if package.source_name != package.name {
            let source = &package.source_name;
            self.each_named(
                target,
                package.family,
                source,
                &mut |statement, advisory| {
                    if statement.names != Names::Binary && installed.is_for(statement, source) {
                        take(statement, advisory);
                    }
                },
            );
        }
    }
}

/// A package's name as statements are kept by it: Python's as PEP 503 has it.
pub(crate) fn canonical_name(family: Family, name: &str) -> String {
    if family != Family::Python {
        return name.to_owned();
    }
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if out.ends_with('-') => {}
            '-' | '_' | '.' => out.push('-'),
            _ => out.extend(c.to_lowercase()),
        }
    }
    out
}

fn gather<'a>(
    into: &mut Gathered<'a>,
    id: &'a str,
    statement: &Statement<'a>,
    advisory: &Advisory<'a>,
) {
    if matches!(statement.status, Status::NotAffected | Status::Fixed) {
        let answer = Answer {
            document: advisory.id,
            status: statement.status,
            justification: statement.note,
        };
        into.answer = into.answer.max(Some(answer));
        return;
    }
    let shipped_by = statement
        .shipped_by
        .or((advisory.id != id).then_some(advisory.id));
    let Some(known) = &mut into.concern else {
        into.concern = Some(Concern {
            id,
            advisory: shipped_by,
            fixed: statement.fixed,
            status: statement.status,
            word: advisory.word,
            severity: advisory.severity,
            published: advisory.published,
            note: statement.note,
            answer: None,
        });
        return;
    };
    let later = match (known.fixed, statement.fixed) {
        (Some(known), Some(other)) => statement.family.compare(known, other) == Ordering::Less,
        (known, other) => known.is_none() && other.is_some(),
    };
    if later {
        known.fixed = statement.fixed;
    }
    if known.advisory.is_none() || (later && shipped_by.is_some()) {
        known.advisory = shipped_by;
    }
    if statement.status == Status::Affected {
        known.status = Status::Affected;
    }
    known.word = known.word.or(advisory.word);
    known.severity = known.severity.max(advisory.severity);
    known.note = known.note.or(statement.note);
    known.published = match (known.published, advisory.published) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
}
