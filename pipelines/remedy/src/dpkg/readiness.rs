//! Whether a package may be configured: what it depends on is, and nothing breaks it.

use std::collections::HashMap;

use dormouse_packages::dpkg::{Alternative, Qualifier, RelationField, State, Version};

use super::Session;
use super::package::Package;

/// Who provides a name, and who breaks one.
pub(super) struct Providers {
    provides: HashMap<String, Vec<(usize, Option<Version>)>>,
    breaks: HashMap<String, Vec<(usize, Alternative)>>,
}

/// Whether a package may be configured now.
pub(super) enum Readiness {
    /// It may.
    Ready,
    /// Not before others.
    Waits {
        /// These are to be configured first.
        packages: Vec<usize>,
        /// These wait for triggers that are to be processed first.
        triggers: Vec<usize>,
    },
    /// Not in this session.
    Cannot(String),
}

/// Whether one relation is met.
#[derive(Default)]
struct Met {
    yes: bool,
    packages: Vec<usize>,
    triggers: Vec<usize>,
    /// One that would do, were it configured.
    left: Option<usize>,
}

fn is_there(package: &Package) -> bool {
    package.status.state >= State::Unpacked
}

fn admits(alternative: &Alternative, version: &str) -> bool {
    alternative.constraint.as_ref().is_none_or(|constraint| {
        Version::parse(version).is_ok_and(|version| constraint.admits(&version))
    })
}

impl Session<'_> {
    pub(super) fn providers(&self) -> Providers {
        let mut out = Providers {
            provides: HashMap::new(),
            breaks: HashMap::new(),
        };
        for (at, package) in self.packages.iter().enumerate() {
            if !is_there(package) {
                continue;
            }
            for provided in &package.provides {
                let version = provided
                    .constraint
                    .as_ref()
                    .map(|constraint| constraint.version.clone());
                out.provides
                    .entry(provided.name.clone())
                    .or_default()
                    .push((at, version));
            }
            for relation in package.relations(RelationField::Breaks) {
                for alternative in relation.alternatives() {
                    out.breaks
                        .entry(alternative.name.clone())
                        .or_default()
                        .push((at, alternative.clone()));
                }
            }
        }
        out
    }

    /// Whether `at` may be configured while `waiting` are still to be.
    pub(super) fn readiness(
        &self,
        at: usize,
        waiting: &[usize],
        providers: &Providers,
    ) -> Readiness {
        let package = self.package(at);
        let (mut packages, mut triggers) = (Vec::new(), Vec::new());
        for field in [RelationField::PreDepends, RelationField::Depends] {
            for relation in package.relations(field) {
                let mut met = Met::default();
                for alternative in relation.alternatives() {
                    self.look(at, alternative, waiting, providers, &mut met);
                    if met.yes {
                        break;
                    }
                }
                if met.yes {
                    continue;
                }
                if met.packages.is_empty() && met.triggers.is_empty() {
                    let why = match met.left {
                        Some(left) => format!(
                            "it needs {}, which is left for the first boot",
                            self.package(left).name
                        ),
                        None => format!("it needs {relation}, which is not there"),
                    };
                    return Readiness::Cannot(why);
                }
                packages.extend(met.packages);
                triggers.extend(met.triggers);
            }
        }
        if let Some(why) = self.broken(at, providers) {
            return Readiness::Cannot(why);
        }
        if packages.is_empty() && triggers.is_empty() {
            Readiness::Ready
        } else {
            Readiness::Waits { packages, triggers }
        }
    }

    /// Looks for packages that are what `alternative` asks for.
    fn look(
        &self,
        at: usize,
        alternative: &Alternative,
        waiting: &[usize],
        providers: &Providers,
        met: &mut Met,
    ) {
        let real: Vec<usize> = self
            .by_name
            .get(&alternative.name)
            .into_iter()
            .flatten()
            .copied()
            .filter(|&other| {
                is_there(self.package(other)) && admits(alternative, &self.package(other).version)
            })
            .collect();
        let provided = providers
            .provides
            .get(&alternative.name)
            .into_iter()
            .flatten()
            .filter(|(_, version)| match (&alternative.constraint, version) {
                (None, _) => true,
                (Some(wanted), Some(given)) => wanted.admits(given),
                (Some(_), None) => false,
            })
            .map(|(other, _)| *other);
        for other in self
            .of_architecture(at, alternative, real)
            .into_iter()
            .chain(provided)
        {
            let package = self.package(other);
            match package.status.state {
                _ if other == at => met.yes = true,
                State::Installed | State::TriggersPending => met.yes = true,
                State::TriggersAwaited => met.triggers.push(other),
                _ if waiting.contains(&other) => met.packages.push(other),
                _ => met.left = Some(other),
            }
        }
    }

    /// Of several instances of one name, the one of the depending package's own architecture counts.
    fn of_architecture(
        &self,
        at: usize,
        alternative: &Alternative,
        found: Vec<usize>,
    ) -> Vec<usize> {
        let own = |index: usize| {
            let architecture = &self.package(index).architecture;
            if architecture == "all" {
                self.native.clone()
            } else {
                architecture.clone()
            }
        };
        let wanted = match &alternative.qualifier {
            Some(Qualifier::Any) => return found,
            Some(Qualifier::Native) => self.native.clone(),
            Some(Qualifier::Architecture(name)) => name.clone(),
            None => own(at),
        };
        if found.len() < 2 {
            return found;
        }
        let same: Vec<usize> = found
            .iter()
            .copied()
            .filter(|&one| own(one) == wanted)
            .collect();
        if same.is_empty() { found } else { same }
    }

    /// What `Breaks` says of it, either way.
    fn broken(&self, at: usize, providers: &Providers) -> Option<String> {
        let package = self.package(at);
        let by = providers.breaks.get(&package.name).into_iter().flatten();
        for (other, alternative) in by {
            if self.package(*other).name != package.name && admits(alternative, &package.version) {
                return Some(format!("{} breaks it", self.package(*other).name));
            }
        }
        for relation in package.relations(RelationField::Breaks) {
            for alternative in relation.alternatives() {
                for &other in self.by_name.get(&alternative.name).into_iter().flatten() {
                    let known = self.package(other);
                    if known.name != package.name
                        && known.status.state >= State::HalfConfigured
                        && admits(alternative, &known.version)
                    {
                        return Some(format!("it breaks {} {}", known.name, known.version));
                    }
                }
            }
        }
        None
    }
}
