//! The seam for package families: each reads one kind of database.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::{Error, Gap, GuestPath, Locator, Result};
use dormouse_filesystem::{Follow, Guest, NodeKind};

use crate::{Family, OsRelease, Package, apk, dpkg, flatpak, language, pacman, rpm, snap, windows};

/// Reads one family's database.
pub trait Cataloger: Sync {
    /// The family.
    fn family(&self) -> Family;

    /// What looking costs.
    fn cost(&self) -> Cost {
        Cost::Lookup
    }

    /// What the guest's database holds; `None` when the guest has none of this family.
    ///
    /// # Errors
    /// The filesystem's. What could not be read for other reasons stands in the catalogue's gaps.
    fn catalogue(&self, guest: &Guest, os: Option<&OsRelease>) -> Result<Option<Catalogue>>;
}

/// What looking for a family's packages costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// A few files whose names are known: done unless others are chosen.
    Lookup,
    /// A walk over all of the guest's folders: done when it is asked for.
    Walk,
}

/// Which families are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection(BTreeSet<Family>);

impl Default for Selection {
    /// Those that need a look at known files.
    fn default() -> Self {
        let cheap = CATALOGERS.iter().filter(|one| one.cost() == Cost::Lookup);
        Self(cheap.map(|one| one.family()).collect())
    }
}

impl Selection {
    /// The families of a list of their names, of `default` and of `all`.
    ///
    /// # Errors
    /// The name that is none.
    pub fn parse<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self, String> {
        let mut chosen = BTreeSet::new();
        for name in names {
            match name.as_ref() {
                "default" => chosen.extend(Self::default().0),
                "all" => chosen.extend(CATALOGERS.iter().map(|one| one.family())),
                name => match CATALOGERS.iter().find(|one| one.family().as_str() == name) {
                    Some(one) => {
                        chosen.insert(one.family());
                    }
                    None => return Err(name.to_owned()),
                },
            }
        }
        Ok(Self(chosen))
    }

    /// Whether this family is looked for.
    #[must_use]
    pub fn has(&self, family: Family) -> bool {
        self.0.contains(&family)
    }

    /// The families looked for.
    pub fn families(&self) -> impl Iterator<Item = Family> {
        self.0.iter().copied()
    }
}

/// What one database holds.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// The guest's own architecture first, then those installed beside it.
    pub architectures: Vec<String>,
    /// Its packages, whatever their state.
    pub packages: BTreeSet<Package>,
    /// The files read, with the number of records that each gave.
    pub files: Vec<(GuestPath, usize)>,
    /// What could not be read.
    pub gaps: Vec<Gap>,
}

/// One line for each family, in the order in which a guest is asked.
pub static CATALOGERS: &[&dyn Cataloger] = &[
    &dpkg::Dpkg,
    &rpm::Rpm,
    &apk::Apk,
    &pacman::Pacman,
    &windows::Components,
    &windows::Applications,
    &snap::Snaps,
    &flatpak::Flatpaks,
    &language::Python,
    &language::Npm,
    &language::Gems,
    &language::Go,
    &language::Crates,
];

/// What could not be read of one database that is named record by record; one with more is broken as a whole.
const MAX_GAPS: usize = 100;

impl Catalogue {
    /// Nothing where nothing was found, and nothing was in the way of finding it.
    pub(crate) fn of_something(self) -> Option<Self> {
        (!self.packages.is_empty() || !self.gaps.is_empty()).then_some(self)
    }

    /// Notes what could not be read at `path`: it may hide packages.
    ///
    /// # Errors
    /// `error` itself where it is no property of the guest.
    pub(crate) fn gap(&mut self, error: Error, path: &GuestPath) -> Result<()> {
        if passes_on(&error) {
            return Err(error);
        }
        if self.gaps.len() < MAX_GAPS {
            let at = Locator::default().path(path.clone());
            self.gaps.push(Gap::from_error(&error, &at));
        }
        Ok(())
    }
}

/// Failures that are no property of the guest, and so end the reading.
pub(crate) fn passes_on(error: &Error) -> bool {
    use dormouse_block::ErrorKind::{Cancelled, Io};
    matches!(error.kind(), Io | Cancelled)
}

/// The regular files of a directory whose names `wanted` likes, in the order of their names; none without a directory.
pub(crate) fn files_of(
    guest: &Guest,
    directory: &GuestPath,
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<Vec<GuestPath>> {
    let mut paths = Vec::new();
    for entry in guest.read_dir(directory)?.unwrap_or_default() {
        if !wanted(&entry.name) {
            continue;
        }
        let Ok(path) = directory.join(&entry.name) else {
            continue;
        };
        let metadata = guest.metadata(&path, Follow::Links)?;
        if metadata.is_some_and(|metadata| metadata.kind == NodeKind::File) {
            paths.push(path);
        }
    }
    // The numbers of a journal have one length, so this is their order too; were they not, it still would be.
    paths.sort_by(|a, b| {
        let name = |path: &GuestPath| path.name().map(<[u8]>::len);
        name(a).cmp(&name(b)).then_with(|| a.cmp(b))
    });
    Ok(paths)
}

/// The architectures of a database that does not say its own: the commonest first, which is the guest's, without the
/// word for "any".
pub(crate) fn by_frequency<'a>(
    architectures: impl Iterator<Item = &'a str>,
    any: &str,
) -> Vec<String> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for architecture in architectures.filter(|one| !one.is_empty() && *one != any) {
        let count = counts.entry(architecture).or_default();
        *count = count.saturating_add(1);
    }
    let mut all: Vec<_> = counts.into_iter().collect();
    all.sort_by_key(|&(name, count)| (std::cmp::Reverse(count), name));
    all.into_iter().map(|(name, _)| name.to_owned()).collect()
}
