//! The versions that repositories offer, as judging needs them: once per run, for all machines.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_advisories::{Repository, Suite};
use dormouse_block::Gap;
use dormouse_packages::dpkg::Version;

/// What is offered, by name.
#[derive(Debug, Clone, Default)]
pub struct Releases {
    suites: Vec<Suite>,
    architectures: Vec<BTreeSet<String>>,
    offers: BTreeMap<String, Vec<Offer>>,
    gaps: BTreeSet<Gap>,
}

/// One version of one package in one suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) suite: usize,
    pub(crate) architecture: String,
    pub(crate) version: Version,
}

impl Releases {
    /// What these repositories offer. Updates that are still being phased in are no demand on anyone and left out.
    #[must_use]
    pub fn of(repositories: &[Repository]) -> Self {
        let mut releases = Self::default();
        for repository in repositories {
            let first = releases.suites.len();
            for suite in repository.suites() {
                releases.add_suite(suite.clone());
            }
            releases.gaps.extend(repository.gaps().iter().cloned());
            for package in repository.packages() {
                if package
                    .phased_percentage
                    .is_some_and(|percentage| percentage < 100)
                {
                    continue;
                }
                let suite = first.saturating_add(package.suite);
                releases.add(
                    suite,
                    &package.name,
                    &package.architecture,
                    package.version.clone(),
                );
            }
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
    pub fn add(&mut self, suite: usize, name: &str, architecture: &str, version: Version) {
        let offer = Offer {
            suite,
            architecture: architecture.to_owned(),
            version,
        };
        match self.offers.get_mut(name) {
            Some(offers) => offers.push(offer),
            None => {
                self.offers.insert(name.to_owned(), vec![offer]);
            }
        }
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

    /// The offers of a name that fit an installed architecture, in no order.
    pub(crate) fn offers<'a>(
        &'a self,
        name: &str,
        architecture: &'a str,
        native: &'a str,
    ) -> impl Iterator<Item = &'a Offer> {
        let plain = move |name: &str| name == "all" || name == native;
        self.offers
            .get(name)
            .into_iter()
            .flatten()
            .filter(move |offer| {
                offer.architecture == architecture
                    || (plain(&offer.architecture) && plain(architecture))
            })
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
