//! The seam for package families: each reads one kind of database.

use std::collections::BTreeSet;

use dormouse_block::{Gap, GuestPath, Result};
use dormouse_filesystem::Guest;

use crate::{Family, OsRelease, Package, dpkg};

/// Reads one family's database.
pub trait Cataloger: Sync {
    /// The family.
    fn family(&self) -> Family;

    /// What the guest's database holds; `None` when the guest has none of this family.
    ///
    /// # Errors
    /// The filesystem's. What could not be read for other reasons stands in the catalogue's gaps.
    fn catalogue(&self, guest: &Guest, os: Option<&OsRelease>) -> Result<Option<Catalogue>>;
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
pub static CATALOGERS: &[&dyn Cataloger] = &[&dpkg::Dpkg];
