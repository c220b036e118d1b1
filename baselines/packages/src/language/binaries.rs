//! The executables of a guest.

use dormouse_block::{GuestPath, Result};
use dormouse_filesystem::{Follow, Guest, NodeKind};

use super::elf::Elf;
use super::walk::walk;
use crate::guest_file::GuestFile;
use crate::{Catalogue, Package};

/// Shows `read` every executable ELF file; the packages that it finds in one lie there.
pub(super) fn each(
    guest: &Guest,
    read: impl Fn(&mut Elf<'_>) -> Result<Vec<Package>>,
) -> Result<Option<Catalogue>> {
    let mut catalogue = Catalogue::default();
    walk(guest, &mut catalogue, |catalogue, _, entries| {
        for entry in entries.iter().filter(|entry| entry.kind == NodeKind::File) {
            match packages(guest, &entry.path, &read) {
                Ok(packages) if packages.is_empty() => {}
                Ok(packages) => {
                    catalogue.files.push((entry.path.clone(), packages.len()));
                    for mut package in packages {
                        package.location = Some(entry.path.clone());
                        catalogue.packages.insert(package);
                    }
                }
                Err(error) => catalogue.gap(error, &entry.path)?,
            }
        }
        Ok(())
    })?;
    Ok(catalogue.of_something())
}

fn packages(
    guest: &Guest,
    path: &GuestPath,
    read: impl Fn(&mut Elf<'_>) -> Result<Vec<Package>>,
) -> Result<Vec<Package>> {
    let Some(metadata) = guest.metadata(path, Follow::No)? else {
        return Ok(Vec::new());
    };
    // What nobody may execute is no program.
    if metadata.mode & 0o111 == 0 || metadata.size < 64 {
        return Ok(Vec::new());
    }
    let Some(mut file) = GuestFile::open(guest, path)? else {
        return Ok(Vec::new());
    };
    match Elf::open(&mut file)? {
        Some(mut elf) => read(&mut elf),
        None => Ok(Vec::new()),
    }
}
