//! Which packages of languages are the files of a package of the system, so that nobody counts them twice.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::{Error, GuestPath, Result};
use dormouse_filesystem::Guest;

use crate::cataloger::files_of;
use crate::dpkg::ADMIN_DIRECTORY;
use crate::{Family, Package};

/// Largest list of files read, in bytes. A kernel's has under 1 MiB.
const MAX_LIST: u64 = 64 << 20;

fn is_of_language(package: &Package) -> bool {
    use Family::{Cargo, Gem, Go, Npm, Python};
    matches!(package.family, Python | Npm | Gem | Go | Cargo)
}

/// Fills in who owns the files in which packages were found, by dpkg's lists.
///
/// # Errors
/// The filesystem's.
pub(crate) fn note_owners(guest: &Guest, packages: &mut BTreeSet<Package>) -> Result<()> {
    let wanted: BTreeSet<GuestPath> = packages
        .iter()
        .filter(|package| is_of_language(package))
        .filter_map(|package| package.location.clone())
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let owners = of_dpkg(guest, &wanted)?;
    if owners.is_empty() {
        return Ok(());
    }
    *packages = std::mem::take(packages)
        .into_iter()
        .map(|mut package| {
            if is_of_language(&package)
                && let Some(location) = &package.location
            {
                package.owned_by = owners.get(location).cloned();
            }
            package
        })
        .collect();
    Ok(())
}

fn of_dpkg(guest: &Guest, wanted: &BTreeSet<GuestPath>) -> Result<BTreeMap<GuestPath, String>> {
    let folder = GuestPath::new(format!("{ADMIN_DIRECTORY}/info"))
        .map_err(|error| Error::corrupt("bad path").because(error))?;
    let mut owners = BTreeMap::new();
    for path in files_of(guest, &folder, |name| name.ends_with(b".list"))? {
        let Some(bytes) = guest.read(&path, MAX_LIST)? else {
            continue;
        };
        let name = path.name().unwrap_or_default();
        let name = String::from_utf8_lossy(name.strip_suffix(b".list").unwrap_or(name));
        for line in bytes
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            if let Ok(file) = GuestPath::new(line)
                && wanted.contains(&file)
            {
                owners.insert(file, name.clone().into_owned());
            }
        }
    }
    Ok(owners)
}
