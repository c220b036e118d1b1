//! Packages as the resolver sees them, installed or on offer.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dormouse_advisories::{IndexedPackage, Repository};
use dormouse_block::Result;
use dormouse_packages::dpkg::{
    Alternative, Database, MultiArch, Qualifier, Record, Relation, RelationField, State, Version,
    Want,
};

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
}

/// Which package of which repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Offer {
    pub(super) repository: usize,
    pub(super) package: usize,
}

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
    nodes: HashMap<Offer, Node>,
    providers: Option<BTreeMap<String, Vec<Offer>>>,
}

impl<'a> Pool<'a> {
    pub(super) fn new(
        database: &Database,
        repositories: &'a [Repository],
        suites: &'a BTreeSet<String>,
    ) -> Result<Self> {
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
            repositories,
            suites,
            nodes: HashMap::new(),
            providers: None,
        })
    }

    /// The package on offer.
    pub(super) fn offered(&self, offer: Offer) -> Option<(&'a Repository, &'a IndexedPackage)> {
        let repository = self.repositories.get(offer.repository)?;
        Some((repository, repository.packages().get(offer.package)?))
    }

    fn is_allowed(&self, offer: Offer) -> bool {
        let Some((repository, package)) = self.offered(offer) else {
            return false;
        };
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

    /// All versions on offer of one name for one architecture, the latest first; the first repository counts first.
    pub(super) fn candidates(&self, name: &str, architecture: &str) -> Vec<Offer> {
        let mut out = Vec::new();
        for (number, repository) in self.repositories.iter().enumerate() {
            let packages = repository.packages();
            let start = packages.partition_point(|package| *package.name < *name);
            for (at, package) in packages.iter().enumerate().skip(start) {
                if *package.name != *name {
                    break;
                }
                let offer = Offer {
                    repository: number,
                    package: at,
                };
                if package.fits(architecture, &self.native) && self.is_allowed(offer) {
                    out.push(offer);
                }
            }
        }
        let version = |offer: &Offer| self.offered(*offer).map(|(_, package)| &package.version);
        out.sort_by(|a, b| version(b).cmp(&version(a)).then_with(|| a.cmp(b)));
        out
    }

    /// What on offer provides `name`, in the order of names, the latest version of each first.
    pub(super) fn providers(&mut self, name: &str) -> Result<Vec<Offer>> {
        if self.providers.is_none() {
            let mut all: BTreeMap<String, Vec<Offer>> = BTreeMap::new();
            for (number, repository) in self.repositories.iter().enumerate() {
                for (at, package) in repository.packages().iter().enumerate() {
                    let offer = Offer {
                        repository: number,
                        package: at,
                    };
                    for relation in package.relations(RelationField::Provides)? {
                        for given in relation.alternatives() {
                            all.entry(given.name.clone()).or_default().push(offer);
                        }
                    }
                }
            }
            self.providers = Some(all);
        }
        let known = self
            .providers
            .as_ref()
            .and_then(|all| all.get(name))
            .cloned()
            .unwrap_or_default();
        Ok(known
            .into_iter()
            .filter(|offer| self.is_allowed(*offer))
            .collect())
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
