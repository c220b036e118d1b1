//! What is installed in one guest, as a fact, and how much of it was seen.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::{Error, ErrorKind, Gap, GuestPath, Locator};
use dormouse_filesystem::Guest;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::cataloger::{CATALOGERS, Cost, Selection};
use crate::kernel::{DefaultKernel, Kernels};
use crate::language::note_owners;
use crate::repositories::{Configured, ConfiguredRepository};
use crate::{Catalogue, Family, OsRelease, Package, Reach, windows};

/// The installed packages of one restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Inventory {
    /// [`Inventory::SCHEMA`].
    #[serde(deserialize_with = "known_schema")]
    pub schema: String,
    /// Which machine and restore point.
    pub at: Locator,
    /// What the guest says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<OsRelease>,
    /// The family that its operating system is made of. Packages of others may be there too: each says its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// Its own architecture first, then those that may be installed beside it.
    pub architectures: Vec<String>,
    /// Every package that the database knows a version of, whatever its state.
    pub packages: BTreeSet<Package>,
    /// Releases of the installed kernels, such as `6.1.0-13-amd64`.
    pub kernels: BTreeSet<String>,
    /// The kernel that is started when nobody chooses, as the boot menu says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_kernel: Option<DefaultKernel>,
    /// The repositories that its package managers are set up to ask.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub repositories: BTreeSet<ConfiguredRepository>,
    /// How much was seen.
    pub coverage: Coverage,
    /// What was not.
    pub gaps: BTreeSet<Gap>,
}

/// How much of the guest's packages was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Coverage {
    /// Whether no gap may hide a package.
    pub complete: bool,
    /// The database files read.
    pub files: Vec<FileRead>,
    /// Packages whose files are there: unpacked or further.
    pub present: usize,
    /// The families that were looked for.
    #[serde(default)]
    pub families: BTreeSet<Family>,
}

/// One file of a package database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FileRead {
    /// Where it is.
    pub path: GuestPath,
    /// Records that it gave.
    pub records: usize,
}

fn known_schema<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let schema = String::deserialize(deserializer)?;
    if schema == Inventory::SCHEMA {
        Ok(schema)
    } else {
        Err(D::Error::custom(format!(
            "{schema:?} is not {:?}",
            Inventory::SCHEMA
        )))
    }
}

impl Inventory {
    /// The schema that this version writes and reads.
    pub const SCHEMA: &'static str = "dormouse/inventory/v2";

    /// An inventory of nothing, with the gap that forbids to call it complete.
    #[must_use]
    pub fn unread(at: &Locator, gap: Gap) -> Self {
        let mut inventory = Self::empty(at);
        inventory.gaps.insert(gap);
        inventory.settle();
        inventory
    }

    fn empty(at: &Locator) -> Self {
        Self {
            schema: Self::SCHEMA.into(),
            at: at.clone(),
            os: None,
            family: None,
            architectures: Vec::new(),
            packages: BTreeSet::new(),
            kernels: BTreeSet::new(),
            default_kernel: None,
            repositories: BTreeSet::new(),
            coverage: Coverage::default(),
            gaps: BTreeSet::new(),
        }
    }

    /// Adds what lower layers could not read of the same restore point, such as a volume of an unknown kind.
    pub fn add_gaps(&mut self, gaps: impl IntoIterator<Item = Gap>) {
        self.gaps.extend(gaps);
        self.settle();
    }

    /// Packages whose files are there: unpacked or further.
    pub fn present(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.is_present())
    }

    /// The packages of one name, of whatever architecture and state.
    pub fn find<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Package> {
        self.packages
            .iter()
            .filter(move |package| package.name == name)
    }

    /// The guest's own architecture.
    #[must_use]
    pub fn native_architecture(&self) -> Option<&str> {
        self.architectures.first().map(String::as_str)
    }

    fn settle(&mut self) {
        self.coverage.present = self.present().count();
        self.coverage.complete = !self.gaps.iter().any(|gap| gap.may_hide_packages);
    }

    fn gap(&mut self, error: &Error) {
        self.gaps.insert(Gap::from_error(error, &self.at));
    }
}

/// Takes the inventory of a guest. It never fails: what could not be read stands in the gaps, at `at`.
///
/// A guest without a package database that this version reads, or with an empty one, has a gap that says so.
#[must_use]
pub fn take(guest: &Guest, at: &Locator) -> Inventory {
    take_of(guest, at, &Selection::default())
}

/// Takes the inventory of the chosen families alone, as [`take`] does. Those left out that [`take`] would look for are gaps.
#[must_use]
pub fn take_of(guest: &Guest, at: &Locator, selection: &Selection) -> Inventory {
    let mut inventory = Inventory::empty(at);
    match OsRelease::read(guest) {
        Ok(Some(os)) => inventory.os = Some(os),
        Ok(None) => match windows::identity(guest) {
            Ok(os) => inventory.os = os,
            Err(error) => inventory.gap(&error),
        },
        Err(error) => inventory.gap(&error),
    }
    if inventory.os.is_none() && inventory.gaps.is_empty() {
        inventory.gaps.insert(Gap {
            at: at.clone(),
            kind: ErrorKind::Unsupported,
            why: "the guest has no os-release file, so its release is not known".into(),
            may_hide_packages: false,
        });
    }
    let mut found = Found::default();
    for cataloger in CATALOGERS {
        if !selection.has(cataloger.family()) {
            if cataloger.cost() == Cost::Lookup {
                found.left_out.push(cataloger.family());
            }
            continue;
        }
        match cataloger.catalogue(guest, inventory.os.as_ref()) {
            Ok(Some(catalogue)) => found.take(cataloger.family(), catalogue, &mut inventory),
            Ok(None) => {}
            Err(error) => {
                found.databases.insert(cataloger.family());
                inventory.gap(&error);
            }
        }
    }
    found.settle(&mut inventory);
    if let Err(error) = note_owners(guest, &mut inventory.packages) {
        // That says whose files they are, not which there are.
        let gap = Gap::from_error(&error, at);
        inventory.gaps.insert(Gap {
            may_hide_packages: false,
            ..gap
        });
    }
    inventory.coverage.families = selection.families().collect();
    note_setup(guest, &mut inventory);
    inventory.settle();
    inventory
}

/// The databases that a guest has.
#[derive(Default)]
struct Found {
    /// Families that are looked for unless others are chosen, and were not.
    left_out: Vec<Family>,
    databases: BTreeSet<Family>,
    /// For each family of systems that was read: its packages that are present, and its architectures.
    systems: BTreeMap<Family, (usize, Vec<String>)>,
}

impl Found {
    fn take(&mut self, family: Family, catalogue: Catalogue, inventory: &mut Inventory) {
        self.databases.insert(family);
        if family.reach() == Reach::System {
            let present = catalogue.packages.iter().filter(|one| one.is_present());
            self.systems
                .insert(family, (present.count(), catalogue.architectures));
        }
        let mut packages = catalogue.packages;
        inventory.packages.append(&mut packages);
        let read = |(path, records)| FileRead { path, records };
        inventory
            .coverage
            .files
            .extend(catalogue.files.into_iter().map(read));
        for mut gap in catalogue.gaps {
            gap.at.fill_from(&inventory.at);
            inventory.gaps.insert(gap);
        }
    }

    /// Says what the system is made of, and what that lacks.
    fn settle(self, inventory: &mut Inventory) {
        let of_system = inventory.os.as_ref().and_then(Family::of_system);
        // A system that says nothing of use is made of what most of its packages are.
        let most = self
            .systems
            .iter()
            .max_by_key(|&(family, (present, _))| (present, std::cmp::Reverse(family)));
        inventory.family = of_system
            .filter(|family| self.databases.contains(family))
            .or(most.map(|(family, _)| *family))
            .or(of_system);
        let mut systems = self.systems;
        let own = inventory.family.and_then(|family| systems.remove(&family));
        let present = own.as_ref().map(|(present, _)| *present);
        inventory.architectures = own
            .map(|(_, architectures)| architectures)
            .unwrap_or_default();
        let any = self
            .databases
            .iter()
            .any(|family| family.reach() == Reach::System);
        if let Some(family) = of_system
            && any
            && !self.databases.contains(&family)
        {
            let id = inventory.os.as_ref().map_or("", |os| &os.id);
            let why = format!("no {family} database, which the packages of {id} are in");
            inventory.gap(&Error::corrupt(why));
        }
        for family in &self.left_out {
            let why = format!("packages of {family} were not asked for");
            inventory.gap(&Error::denied(why));
        }
        if !any && self.left_out.is_empty() {
            inventory.gap(&Error::unsupported(
                "no package database that this version reads",
            ));
        } else if present == Some(0) {
            inventory.gap(&Error::corrupt(
                "the package database holds no installed package",
            ));
        }
    }
}

/// What says nothing of packages: kernels, and repositories.
fn note_setup(guest: &Guest, inventory: &mut Inventory) {
    let kernels = Kernels::read(guest);
    inventory.kernels = kernels.releases;
    inventory.default_kernel = kernels.default;
    let configured = Configured::read(guest);
    inventory.repositories = configured.repositories;
    for error in kernels.errors.iter().chain(&configured.errors) {
        inventory.gaps.insert(Gap {
            may_hide_packages: false,
            ..Gap::from_error(error, &inventory.at)
        });
    }
}
