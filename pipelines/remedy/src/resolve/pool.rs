//! Packages as the resolver sees them, installed or on offer.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dormouse_advisories::{IndexedPackage, Repository, Suite};
use dormouse_block::{Digest, Result};
use dormouse_packages::dpkg::{
    Alternative, MultiArch, Qualifier, Record, Relation, RelationField, State, Version, Want,
};
use dormouse_policy::{Offer as Ranked, Phased, Preferences};

use super::Question;

/// One version of one package.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) name: String,
    /// As the package says it: `all` stays `all`.
    pub(super) architecture: String,
    pub(super) version: Version,
    pub(super) multi_arch: MultiArch,
    /// `Pre-Depends` and `Depends`.
    pub(super) needs: Vec<(RelationField, Relation)>,
    /// `Conflicts` and `Breaks`.
    pub(super) refuses: Vec<(RelationField, Alternative)>,
    pub(super) provides: Vec<Alternative>,
    /// Where it is on offer.
    pub(super) offer: Option<Offer>,
    /// The administrator holds it.
    pub(super) held: bool,
    /// Its source package.
    pub(super) source: String,
    /// Its source package's version.
    pub(super) source_version: Version,
}

/// Which of the packages on offer that were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Offer(usize);

/// An installed place: a name and an architecture, `all` counting as the machine's own.
pub(super) type Slot = (String, String);

const NEEDS: [RelationField; 2] = [RelationField::PreDepends, RelationField::Depends];
const REFUSES: [RelationField; 2] = [RelationField::Conflicts, RelationField::Breaks];

impl Node {
    fn of_record(record: &Record) -> Result<Option<Self>> {
        let Some(version) = record.version.clone() else {
            return Ok(None);
        };
        if record.status.state < State::HalfInstalled {
            return Ok(None);
        }
        let own_version = version.clone();
        let mut node = Self {
            name: record.name.clone(),
            architecture: record.architecture.clone(),
            version,
            multi_arch: record.multi_arch,
            needs: Vec::new(),
            refuses: Vec::new(),
            provides: Vec::new(),
            offer: None,
            held: record.status.want == Want::Hold,
            source: record.source_name.clone(),
            source_version: record.source_version.clone().unwrap_or(own_version),
        };
        node.fill(|field| record.relations(field))?;
        Ok(Some(node))
    }

    fn of_index(package: &IndexedPackage, offer: Offer) -> Result<Self> {
        let mut node = Self {
            name: package.name.to_string(),
            architecture: package.architecture.to_string(),
            version: package.version.clone(),
            multi_arch: package.multi_arch,
            needs: Vec::new(),
            refuses: Vec::new(),
            provides: Vec::new(),
            offer: Some(offer),
            held: false,
            source: package.source_name().to_owned(),
            source_version: package.source_version().clone(),
        };
        node.fill(|field| package.relations(field))?;
        Ok(node)
    }

    fn fill(&mut self, relations: impl Fn(RelationField) -> Result<Vec<Relation>>) -> Result<()> {
        for field in NEEDS {
            self.needs.extend(
                relations(field)?
                    .into_iter()
                    .map(|relation| (field, relation)),
            );
        }
        for field in REFUSES {
            for relation in relations(field)? {
                self.refuses.extend(
                    relation
                        .alternatives()
                        .iter()
                        .map(|one| (field, one.clone())),
                );
            }
        }
        for relation in relations(RelationField::Provides)? {
            self.provides
                .extend(relation.alternatives().iter().cloned());
        }
        Ok(())
    }

    /// The name with its version.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// The architecture, `all` counting as `native`.
    pub(super) fn own_architecture<'a>(&'a self, native: &'a str) -> &'a str {
        if self.architecture == "all" {
            native
        } else {
            &self.architecture
        }
    }

    /// Whether this meets `wanted` of a package of `architecture` (never `all`).
    pub(super) fn meets(&self, wanted: &Alternative, architecture: &str, native: &str) -> bool {
        if self.name == wanted.name
            && wanted
                .constraint
                .as_ref()
                .is_none_or(|constraint| constraint.admits(&self.version))
            && self.is_of(wanted.qualifier.as_ref(), architecture, native)
        {
            return true;
        }
        self.provides.iter().any(|given| {
            given.name == wanted.name
                && match (&wanted.constraint, &given.constraint) {
                    (None, _) => true,
                    (Some(constraint), Some(given)) => constraint.admits(&given.version),
                    (Some(_), None) => false,
                }
                && self.is_of(wanted.qualifier.as_ref(), architecture, native)
        })
    }

    fn is_of(&self, qualifier: Option<&Qualifier>, architecture: &str, native: &str) -> bool {
        let own = self.own_architecture(native);
        match qualifier {
            None => own == architecture || self.multi_arch == MultiArch::Foreign,
            Some(Qualifier::Any) => {
                own == architecture
                    || matches!(self.multi_arch, MultiArch::Allowed | MultiArch::Foreign)
            }
            Some(Qualifier::Native) => own == native,
            Some(Qualifier::Architecture(named)) => own == named,
        }
    }

    /// Whether `refused` of a package of `architecture` speaks of this. Refusals reach every architecture unless they
    /// name one (Policy says nothing of it; dpkg takes `any`).
    pub(super) fn is_refused(&self, refused: &Alternative, native: &str) -> bool {
        let named = match &refused.qualifier {
            None | Some(Qualifier::Any) => true,
            Some(Qualifier::Native) => self.own_architecture(native) == native,
            Some(Qualifier::Architecture(named)) => self.own_architecture(native) == named,
        };
        named
            && ((self.name == refused.name
                && refused
                    .constraint
                    .as_ref()
                    .is_none_or(|constraint| constraint.admits(&self.version)))
                || self.provides.iter().any(|given| {
                    given.name == refused.name
                        && match (&refused.constraint, &given.constraint) {
                            (None, _) => true,
                            (Some(constraint), Some(given)) => constraint.admits(&given.version),
                            (Some(_), None) => false,
                        }
                }))
    }
}

/// Everything there is to choose from.
pub(super) struct Pool<'a> {
    pub(super) native: String,
    pub(super) architectures: BTreeSet<String>,
    /// What is installed, by place.
    pub(super) installed: BTreeMap<Slot, Node>,
    repositories: &'a [Repository],
    suites: &'a BTreeSet<String>,
    preferences: &'a Preferences,
    phased: Phased,
    offers: Vec<Ranked>,
    known: HashMap<(usize, Digest, Box<str>), Offer>,
    ranked: HashMap<Slot, (Vec<Offer>, i32)>,
    nodes: HashMap<Offer, Node>,
    providers: HashMap<String, Vec<Offer>>,
}

impl<'a> Pool<'a> {
    pub(super) fn new(question: &Question<'a>) -> Result<Self> {
        let database = question.database;
        let native = database
            .native_architecture()
            .unwrap_or_default()
            .to_owned();
        let mut installed = BTreeMap::new();
        for record in database.records() {
            if let Some(node) = Node::of_record(record)? {
                let slot = (node.name.clone(), node.own_architecture(&native).to_owned());
                installed.insert(slot, node);
            }
        }
        Ok(Self {
            architectures: database.architectures.iter().cloned().collect(),
            native,
            installed,
            repositories: question.repositories,
            suites: question.suites,
            preferences: question.preferences,
            phased: question.phased,
            offers: Vec::new(),
            known: HashMap::new(),
            ranked: HashMap::new(),
            nodes: HashMap::new(),
            providers: HashMap::new(),
        })
    }

    /// The package on offer, and its repository.
    pub(super) fn offered(&self, offer: Offer) -> Option<(&'a Repository, &IndexedPackage)> {
        let ranked = self.offers.get(offer.0)?;
        let repository = self.repositories.get(ranked.repository)?;
        Some((repository, &ranked.package))
    }

    /// The suite of a package on offer.
    pub(super) fn suite(&self, offer: Offer) -> Option<&'a Suite> {
        let ranked = self.offers.get(offer.0)?;
        self.repositories
            .get(ranked.repository)?
            .suite_of(&ranked.package)
    }

    /// The priority of a package on offer.
    pub(super) fn priority(&self, offer: Offer) -> i32 {
        self.offers.get(offer.0).map_or(0, |ranked| ranked.priority)
    }

    /// Why the package file of a package on offer cannot be had.
    pub(super) fn why_no_payload(&self, offer: Offer) -> Result<Option<String>> {
        match self.offered(offer) {
            Some((repository, package)) => repository.why_no_payload(package),
            None => Ok(None),
        }
    }

    fn is_allowed(&self, repository: &Repository, package: &IndexedPackage) -> bool {
        let right_suite = self.suites.is_empty()
            || repository.suite_of(package).is_some_and(|suite| {
                self.suites
                    .iter()
                    .any(|name| suite.is_called(name) || suite.directory == *name)
            });
        let right_architecture =
            &*package.architecture == "all" || self.architectures.contains(&*package.architecture);
        right_suite && right_architecture
    }

    /// A number for a package on offer, the same whenever it is met.
    fn keep(&mut self, ranked: Ranked) -> Offer {
        let key = (
            ranked.repository,
            ranked.package.index.unwrap_or(ranked.package.digest),
            format!(
                "{} {} {} {}",
                ranked.package.name,
                ranked.package.architecture,
                ranked.package.version,
                ranked.package.filename
            )
            .into_boxed_str(),
        );
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let offer = Offer(self.offers.len());
        self.offers.push(ranked);
        self.known.insert(key, offer);
        offer
    }

    /// The versions on offer of one name for one architecture, in the order of preference: the candidate first.
    /// And the priority of what is installed.
    pub(super) fn ranked(&mut self, name: &str, architecture: &str) -> Result<(Vec<Offer>, i32)> {
        let slot = (name.to_owned(), architecture.to_owned());
        if let Some(known) = self.ranked.get(&slot) {
            return Ok(known.clone());
        }
        let mut found = Vec::new();
        for (number, repository) in self.repositories.iter().enumerate() {
            for package in repository.candidates(name)? {
                if package.fits(architecture, &self.native) && self.is_allowed(repository, &package)
                {
                    found.push(Ranked {
                        repository: number,
                        package,
                        priority: 0,
                    });
                }
            }
        }
        let installed = self.installed.get(&slot).map(|node| &node.version);
        let own = self
            .preferences
            .rank(self.repositories, &mut found, installed);
        let offers: Vec<Offer> = found.into_iter().map(|ranked| self.keep(ranked)).collect();
        self.ranked.insert(slot, (offers.clone(), own));
        Ok((offers, own))
    }

    /// Whether a package on offer is given to a part of all machines only, so far.
    pub(super) fn is_phased(&self, offer: Offer) -> bool {
        self.phased == Phased::Wait
            && self
                .offered(offer)
                .and_then(|(_, package)| package.phased_percentage)
                .is_some_and(|share| share < 100)
    }

    /// The versions that may take the place of what is installed, or come new: the candidate first.
    pub(super) fn upgrades(&mut self, name: &str, architecture: &str) -> Result<Vec<Offer>> {
        let (mut ranked, own) = self.ranked(name, architecture)?;
        let slot = (name.to_owned(), architecture.to_owned());
        let Some(installed) = self.installed.get(&slot).map(|node| node.version.clone()) else {
            return Ok(ranked);
        };
        let version = |offer: &Offer| self.offered(*offer).map(|(_, package)| &package.version);
        ranked.retain(|offer| version(offer) > Some(&installed) && self.priority(*offer) >= own);
        Ok(ranked)
    }

    /// The version that apt would take: the first that is not phased in.
    pub(super) fn candidate(&mut self, name: &str, architecture: &str) -> Result<Option<Offer>> {
        let upgrades = self.upgrades(name, architecture)?;
        Ok(upgrades.into_iter().find(|offer| !self.is_phased(*offer)))
    }

    /// What on offer provides `name`, in the order of names, the latest version of each first.
    pub(super) fn providers(&mut self, name: &str) -> Result<Vec<Offer>> {
        if let Some(known) = self.providers.get(name) {
            return Ok(known.clone());
        }
        let mut slots = BTreeSet::new();
        for repository in self.repositories {
            for package in repository.providers(name)? {
                if self.is_allowed(repository, &package) {
                    let architecture = match &*package.architecture {
                        "all" => self.native.clone(),
                        other => other.to_owned(),
                    };
                    slots.insert((package.name.to_string(), architecture));
                }
            }
        }
        let mut offers = Vec::new();
        for (name, architecture) in slots {
            offers.extend(self.candidate(&name, &architecture)?);
        }
        self.providers.insert(name.to_owned(), offers.clone());
        Ok(offers)
    }

    /// Reads what is on offer.
    pub(super) fn node(&mut self, offer: Offer) -> Result<Option<Node>> {
        if let Some(known) = self.nodes.get(&offer) {
            return Ok(Some(known.clone()));
        }
        let Some((_, package)) = self.offered(offer) else {
            return Ok(None);
        };
        let node = Node::of_index(package, offer)?;
        self.nodes.insert(offer, node.clone());
        Ok(Some(node))
    }
}
