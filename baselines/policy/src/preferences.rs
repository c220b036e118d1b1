//! Which of the versions on offer is a package's candidate: priorities, as apt_preferences(5) lays them down.
//!
//! Without any pin a version counts 500; 100 where its suite says `NotAutomatic` and `ButAutomaticUpgrades`, 1 where it
//! says `NotAutomatic` alone; what is installed counts 100, or more where a suite still offers it. Below 0 a version is
//! forbidden. The highest priority wins, then the latest version. Where apt would go back to an earlier version (1000 and
//! above), this does not: nothing is ever downgraded.

use std::cmp::Reverse;

use dormouse_advisories::{IndexedPackage, Repository, Suite};
use dormouse_packages::dpkg::Version;
use serde::Deserialize;

use crate::Glob;

/// A pin: the priority of the versions that match all of what is given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Pin {
    /// Patterns over packages' names, or over their sources' with `src:` before; `*` alone is for all packages and counts
    /// only where no other pin does.
    pub packages: Vec<String>,
    /// A pattern over the suite's `Codename`.
    #[serde(default)]
    pub codename: Option<Glob>,
    /// A pattern over its `Suite`.
    #[serde(default)]
    pub suite: Option<Glob>,
    /// A pattern over its `Origin`.
    #[serde(default)]
    pub origin: Option<Glob>,
    /// A pattern over its `Label`.
    #[serde(default)]
    pub label: Option<Glob>,
    /// A pattern over its `Version`.
    #[serde(default)]
    pub release: Option<Glob>,
    /// A pattern over the component, such as `main`.
    #[serde(default)]
    pub component: Option<Glob>,
    /// A pattern over the name of the repository's folder.
    #[serde(default)]
    pub repository: Option<Glob>,
    /// A pattern over the package's version.
    #[serde(default)]
    pub version: Option<Glob>,
    /// The priority; 0 is no priority.
    pub priority: i16,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// All pins, the first that matches counting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preferences {
    pins: Vec<Pin>,
}

/// One version on offer.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Which of the repositories.
    pub repository: usize,
    /// The package in it.
    pub package: IndexedPackage,
    /// Its priority.
    pub priority: i32,
}

impl Pin {
    fn is_general(&self) -> bool {
        self.packages.iter().all(|name| name == "*")
    }

    /// Whether it speaks of a package of this name.
    fn is_for(&self, package: &IndexedPackage) -> bool {
        self.packages.iter().any(|pattern| {
            let (pattern, name) = match pattern.strip_prefix("src:") {
                Some(pattern) => (pattern, package.source_name()),
                None => (pattern.as_str(), &*package.name),
            };
            Glob::new(pattern).matches(name)
        })
    }

    fn matches(&self, repository: &Repository, suite: &Suite, package: &IndexedPackage) -> bool {
        let fits = |glob: &Option<Glob>, value: Option<&str>| {
            glob.as_ref()
                .is_none_or(|glob| value.is_some_and(|value| glob.matches(value)))
        };
        let folder = repository
            .directory()
            .file_name()
            .and_then(|name| name.to_str());
        fits(&self.codename, suite.codename.as_deref())
            && fits(&self.suite, suite.suite.as_deref())
            && fits(&self.origin, suite.origin.as_deref())
            && fits(&self.label, suite.label.as_deref())
            && fits(&self.release, suite.version.as_deref())
            && fits(&self.component, Some(&package.component))
            && fits(&self.repository, folder)
            && fits(&self.version, Some(package.version.as_str()))
    }
}

/// Offers of one version of one build, whose files share what a pin says of any of them.
fn same_version(a: &Offer, b: &Offer) -> bool {
    a.package.digest == b.package.digest && a.package.version == b.package.version
}

impl Preferences {
    /// The priority of what is installed, whoever offers it.
    pub const INSTALLED: i32 = 100;

    /// These pins, in their order.
    #[must_use]
    pub fn new(pins: Vec<Pin>) -> Self {
        Self { pins }
    }

    /// The first pin, for single packages or for all, that matches: its place and priority.
    fn pinned(
        &self,
        repositories: &[Repository],
        offer: &Offer,
        general: bool,
    ) -> Option<(usize, i32)> {
        let repository = repositories.get(offer.repository)?;
        let suite = repository.suite_of(&offer.package)?;
        self.pins
            .iter()
            .enumerate()
            .filter(|(_, pin)| pin.is_general() == general && pin.priority != 0)
            .find(|(_, pin)| {
                (general || pin.is_for(&offer.package))
                    && pin.matches(repository, suite, &offer.package)
            })
            .map(|(place, pin)| (place, i32::from(pin.priority)))
    }

    /// The priority of what one index offers, without pins for single packages.
    fn of_file(&self, repositories: &[Repository], offer: &Offer) -> i32 {
        if let Some((_, priority)) = self.pinned(repositories, offer, true) {
            return priority;
        }
        let suite = repositories
            .get(offer.repository)
            .and_then(|repository| repository.suite_of(&offer.package));
        match suite {
            Some(suite) if suite.not_automatic && suite.but_automatic_upgrades => 100,
            Some(suite) if suite.not_automatic => 1,
            _ => 500,
        }
    }

    /// Sets the priorities of `offers`, which are of one name, puts them in the order of preference, and leaves out those
    /// that are forbidden. Answers the priority of the version that is installed, below which nothing takes its place.
    pub fn rank(
        &self,
        repositories: &[Repository],
        offers: &mut Vec<Offer>,
        installed: Option<&Version>,
    ) -> i32 {
        let mut files = Vec::with_capacity(offers.len());
        for offer in offers.iter() {
            files.push((
                self.pinned(repositories, offer, false),
                self.of_file(repositories, offer),
            ));
        }
        // A pin for single packages that matches any file of a version is for the version, the first pin first.
        let of_version = |is_alike: &dyn Fn(&Offer) -> bool, least: i32| {
            let alike = || {
                let both = offers.iter().zip(&files);
                both.filter(|(offer, _)| is_alike(offer))
                    .map(|(_, file)| file)
            };
            match alike().filter_map(|(specific, _)| *specific).min() {
                Some((_, priority)) => priority,
                None => alike().map(|(_, priority)| *priority).fold(least, i32::max),
            }
        };
        let own = installed.map_or(0, |version| {
            of_version(&|other| other.package.version == *version, Self::INSTALLED)
        });
        let priorities: Vec<i32> = offers
            .iter()
            .map(|offer| of_version(&|other| same_version(offer, other), i32::MIN))
            .collect();
        for (offer, priority) in offers.iter_mut().zip(priorities) {
            offer.priority = priority;
        }
        offers.retain(|offer| offer.priority > 0);
        // The sort is stable: of equals, the first repository's first suite counts.
        offers.sort_by(|a, b| {
            (Reverse(a.priority), &b.package.version)
                .cmp(&(Reverse(b.priority), &a.package.version))
        });
        own
    }
}

/// What to make of updates that their distribution gives to a part of all machines so far.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Phased {
    /// They are left alone: a machine's share cannot be known while it sleeps.
    #[default]
    Wait,
    /// They are taken as any other.
    Take,
}

/// How far `--only` and a baseline's `only` reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everything that has a later candidate.
    All,
    /// What a suite for security updates has.
    Security,
    /// What mends this CVE.
    Cve(String),
    /// A binary package, or all of a source package.
    Package(String),
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(match text {
            "all" => Self::All,
            "security" => Self::Security,
            _ if is_cve(text) => Self::Cve(text.to_ascii_uppercase()),
            _ if dormouse_packages::dpkg::is_package_name(text) => Self::Package(text.to_owned()),
            _ => {
                return Err(format!(
                    "{text:?} is neither all, security, a CVE nor a package's name"
                ));
            }
        })
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Security => "security",
            Self::Cve(name) | Self::Package(name) => name,
        })
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for Scope {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `CVE-2024-1234`, in any case.
fn is_cve(text: &str) -> bool {
    let mut parts = text.split('-');
    let digits = |part: Option<&str>, least: usize| {
        part.is_some_and(|part| {
            part.len() >= least && part.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    parts
        .next()
        .is_some_and(|part| part.eq_ignore_ascii_case("cve"))
        && digits(parts.next(), 4)
        && digits(parts.next(), 4)
        && parts.next().is_none()
}
