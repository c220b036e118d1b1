//! What is installed in one guest, as a fact, and how much of it was seen.

use std::collections::BTreeSet;

use dormouse_block::{Error, ErrorKind, Gap, GuestPath, Locator};
use dormouse_filesystem::{Follow, Guest};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::cataloger::CATALOGERS;
use crate::{Family, OsRelease, Package};

/// Kernels counted; a `/boot` with more is not one.
const MAX_KERNELS: usize = 1000;

/// Files that show a package database which this version does not read.
static UNREAD: &[(&str, &[&str])] = &[
    (
        "rpm",
        &[
            "/var/lib/rpm/rpmdb.sqlite",
            "/var/lib/rpm/Packages",
            "/var/lib/rpm/Packages.db",
            "/usr/lib/sysimage/rpm/rpmdb.sqlite",
            "/usr/lib/sysimage/rpm/Packages.db",
        ],
    ),
    (
        "apk",
        &["/lib/apk/db/installed", "/usr/lib/apk/db/installed"],
    ),
    ("pacman", &["/var/lib/pacman/local"]),
    ("snap", &["/var/lib/snapd/state.json"]),
    ("flatpak", &["/var/lib/flatpak/repo"]),
];

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
    /// The family of its package database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// Its own architecture first, then those that may be installed beside it.
    pub architectures: Vec<String>,
    /// Every package that the database knows a version of, whatever its state.
    pub packages: BTreeSet<Package>,
    /// Releases of the kernels in `/boot`, such as `6.1.0-13-amd64`.
    pub kernels: BTreeSet<String>,
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
    pub const SCHEMA: &'static str = "dormouse/inventory/v1";

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
    let mut inventory = Inventory::empty(at);
    match OsRelease::read(guest) {
        Ok(os) => inventory.os = os,
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
    let mut databases = 0_usize;
    for cataloger in CATALOGERS {
        match cataloger.catalogue(guest, inventory.os.as_ref()) {
            Ok(Some(catalogue)) => {
                databases = databases.saturating_add(1);
                inventory.family.get_or_insert(cataloger.family());
                if inventory.architectures.is_empty() {
                    inventory.architectures = catalogue.architectures;
                }
                inventory.packages.extend(catalogue.packages);
                let read = |(path, records)| FileRead { path, records };
                inventory
                    .coverage
                    .files
                    .extend(catalogue.files.into_iter().map(read));
                for mut gap in catalogue.gaps {
                    gap.at.fill_from(at);
                    inventory.gaps.insert(gap);
                }
            }
            Ok(None) => {}
            Err(error) => {
                databases = databases.saturating_add(1);
                inventory.gap(&error);
            }
        }
    }
    note_unread(guest, &mut inventory);
    if databases == 0 {
        inventory.gap(&Error::unsupported(
            "no package database that this version reads",
        ));
    } else if inventory.present().next().is_none() {
        inventory.gap(&Error::corrupt(
            "the package database holds no installed package",
        ));
    }
    note_kernels(guest, &mut inventory);
    inventory.settle();
    inventory
}

fn note_unread(guest: &Guest, inventory: &mut Inventory) {
    for (family, paths) in UNREAD {
        for path in *paths {
            let Ok(path) = GuestPath::new(path) else {
                continue;
            };
            match guest.metadata(&path, Follow::Links) {
                Ok(None) => {}
                Ok(Some(_)) => {
                    let what = format!("packages of the {family} database are not read");
                    inventory
                        .gap(&Error::unsupported(what).located(&Locator::default().path(path)));
                    break;
                }
                Err(error) => {
                    inventory.gap(&error);
                    break;
                }
            }
        }
    }
}

fn note_kernels(guest: &Guest, inventory: &mut Inventory) {
    let boot = GuestPath::root().join("boot");
    let entries = boot
        .map_err(|error| Error::corrupt("bad path").because(error))
        .and_then(|boot| guest.read_dir(&boot));
    match entries {
        Ok(entries) => {
            for entry in entries.unwrap_or_default().iter().take(MAX_KERNELS) {
                if let Some(release) = entry.name.strip_prefix(b"vmlinuz-") {
                    inventory
                        .kernels
                        .insert(String::from_utf8_lossy(release).into_owned());
                }
            }
        }
        // Which kernels there are says nothing of packages.
        Err(error) => {
            inventory.gaps.insert(Gap {
                may_hide_packages: false,
                ..Gap::from_error(&error, &inventory.at)
            });
        }
    }
}
