//! The versions that repositories offer, as judging needs them: once per run, for all machines.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_advisories::{Repository, Suite};
use dormouse_block::{Gap, Result};
use dormouse_packages::dpkg;

use crate::{Offer, Phased, Preferences};

/// What is offered, by name. Repositories are asked for what is judged, and read no further.
#[derive(Debug, Clone, Default)]
pub struct Releases {
    suites: Vec<Suite>,
    architectures: Vec<BTreeSet<String>>,
    repositories: Vec<Repository>,
    /// The number of each repository's first suite.
    first_suites: Vec<usize>,
    preferences: Preferences,
    phased: Phased,
    added: BTreeMap<String, Vec<Version>>,
    gaps: BTreeSet<Gap>,
}

/// One version of one package in one suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) suite: usize,
    pub(crate) architecture: String,
    pub(crate) version: dpkg::Version,
    /// Its source package's version.
    pub(crate) source_version: dpkg::Version,
}

impl Releases {
    /// What these repositories offer. Updates that are still being phased in are no demand on anyone and left out.
    #[must_use]
    pub fn of(repositories: &[Repository]) -> Self {
        Self::with(repositories, Preferences::default(), Phased::default())
    }

    /// What these repositories offer, without what pins forbid.
    #[must_use]
    pub fn with(repositories: &[Repository], preferences: Preferences, phased: Phased) -> Self {
        let mut releases = Self {
            preferences,
            phased,
            repositories: repositories.to_vec(),
            ..Self::default()
        };
        for repository in repositories {
            releases.first_suites.push(releases.suites.len());
            for suite in repository.suites() {
                releases.add_suite(suite.clone());
            }
            releases.gaps.extend(repository.gaps().iter().cloned());
        }
        releases
    }

    /// Adds a suite; its number is for [`Releases::add`]. For whoever knows versions from elsewhere than a folder.
    pub fn add_suite(&mut self, suite: Suite) -> usize {
        let architectures = suite.indices.iter().filter_map(|index| {
            let (_, rest) = index.path.rsplit_once("/binary-")?;
            rest.split('/').next().map(str::to_owned)
        });
        self.architectures.push(architectures.collect());
        self.suites.push(suite);
        self.suites.len().saturating_sub(1)
    }

    /// Adds a version that the suite of this number offers.
    pub fn add(&mut self, suite: usize, name: &str, architecture: &str, version: dpkg::Version) {
        let offer = Version {
            suite,
            architecture: architecture.to_owned(),
            source_version: version.clone(),
            version,
        };
        self.added.entry(name.to_owned()).or_default().push(offer);
    }

    /// The suites.
    #[must_use]
    pub fn suites(&self) -> &[Suite] {
        &self.suites
    }

    /// What of the repositories was not read, or is not fit to judge by.
    #[must_use]
    pub fn gaps(&self) -> &BTreeSet<Gap> {
        &self.gaps
    }

    /// The versions of a name that fit an installed architecture, in no order.
    ///
    /// # Errors
    /// `Corrupt` for an index that does not read.
    pub(crate) fn versions(
        &self,
        name: &str,
        architecture: &str,
        native: &str,
    ) -> Result<Vec<Version>> {
        let plain = |name: &str| name == "all" || name == native;
        let fits = |one: &str| one == architecture || (plain(one) && plain(architecture));
        let mut out: Vec<Version> = self
            .added
            .get(name)
            .into_iter()
            .flatten()
            .filter(|offer| fits(&offer.architecture))
            .cloned()
            .collect();
        let mut offers = Vec::new();
        for (number, repository) in self.repositories.iter().enumerate() {
            for package in repository.candidates(name)? {
                let waits = self.phased == Phased::Wait
                    && package.phased_percentage.is_some_and(|share| share < 100);
                if !waits && fits(&package.architecture) {
                    offers.push(Offer {
                        repository: number,
                        package,
                        priority: 0,
                    });
                }
            }
        }
        self.preferences.rank(&self.repositories, &mut offers, None);
        out.extend(offers.into_iter().map(|offer| {
            let first = self.first_suites.get(offer.repository).copied();
            Version {
                suite: first
                    .unwrap_or_default()
                    .saturating_add(offer.package.suite),
                architecture: offer.package.architecture.to_string(),
                source_version: offer.package.source_version().clone(),
                version: offer.package.version,
            }
        }));
        Ok(out)
    }

    /// The numbers of the suites called so.
    pub(crate) fn called(&self, name: &str) -> BTreeSet<usize> {
        let suites = self.suites.iter().enumerate();
        suites
            .filter(|(_, suite)| suite.is_called(name))
            .map(|(number, _)| number)
            .collect()
    }

    pub(crate) fn suite(&self, number: usize) -> Option<&Suite> {
        self.suites.get(number)
    }

    /// Whether an index of this architecture was read of the suite; one that names no indices is taken as whole.
    pub(crate) fn covers(&self, suite: usize, architecture: &str) -> bool {
        self.architectures
            .get(suite)
            .is_some_and(|known| known.is_empty() || known.contains(architecture))
    }
}
