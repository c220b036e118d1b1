//! Rust programs: the list of crates that `cargo auditable` leaves in them (section `.dep-v0`: JSON, deflated).

use std::io::Read as _;

use dormouse_block::{Error, Result};
use dormouse_filesystem::Guest;
use serde::Deserialize;

use super::binaries::each;
use super::elf::Elf;
use crate::cataloger::Cost;
use crate::{Cataloger, Catalogue, Family, OsRelease, Package, Purl};

/// Largest list read, in bytes, deflated and not.
const MAX_PACKED: u64 = 8 << 20;
const MAX_LIST: u64 = 64 << 20;
/// Crates of one program.
const MAX_CRATES: usize = 50_000;

#[derive(Deserialize)]
struct List {
    packages: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    version: String,
    #[serde(default)]
    kind: String,
}

fn crates(elf: &mut Elf<'_>) -> Result<Vec<Package>> {
    let Some((_, offset, size)) = elf.section(".dep-v0")? else {
        return Ok(Vec::new());
    };
    if size > MAX_PACKED {
        return Err(Error::limit("a list of crates of more than 8 MiB"));
    }
    let packed = elf.at(offset, size)?;
    let mut list = Vec::new();
    flate2::read::ZlibDecoder::new(packed.as_slice())
        .take(MAX_LIST.saturating_add(1))
        .read_to_end(&mut list)
        .map_err(|error| {
            Error::corrupt("a list of crates that cannot be unpacked").because(error)
        })?;
    if u64::try_from(list.len()).unwrap_or(u64::MAX) > MAX_LIST {
        return Err(Error::limit("a list of crates of more than 64 MiB"));
    }
    let list: List = serde_json::from_slice(&list)
        .map_err(|error| Error::corrupt("a list of crates that is none").because(error))?;
    if list.packages.len() > MAX_CRATES {
        return Err(Error::limit("more than 50000 crates in one program"));
    }
    // Crates that only built the program are not in it.
    let in_it = list
        .packages
        .into_iter()
        .filter(|entry| matches!(entry.kind.as_str(), "" | "runtime"));
    let package = |entry: Entry| {
        let purl = Purl {
            family: Family::Cargo,
            namespace: "",
            name: &entry.name,
            version: &entry.version,
            qualifiers: &[],
        };
        Package::new(Family::Cargo, &entry.name, &entry.version, "", &purl)
    };
    Ok(in_it.map(package).collect())
}

/// The cataloger of Rust programs.
pub(crate) struct Crates;

impl Cataloger for Crates {
    fn family(&self) -> Family {
        Family::Cargo
    }

    fn cost(&self) -> Cost {
        Cost::Walk
    }

    fn catalogue(&self, guest: &Guest, _os: Option<&OsRelease>) -> Result<Option<Catalogue>> {
        each(guest, crates)
    }
}
