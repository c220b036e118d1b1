//! Packages of Node: `node_modules/NAME/package.json`, nested as they are.

use dormouse_block::{Error, GuestPath, Result};
use dormouse_filesystem::{Guest, NodeKind};
use serde::Deserialize;

use super::walk::walk;
use crate::cataloger::Cost;
use crate::{Cataloger, Catalogue, Family, OsRelease, Package, Purl};

/// Largest manifest read, in bytes.
const MAX_MANIFEST: u64 = 8 << 20;

#[derive(Deserialize)]
struct Manifest {
    name: Option<String>,
    version: Option<String>,
}

/// The package of a manifest; `None` for one without name and version, such as those that only say how files are read.
fn package(bytes: &[u8], location: &GuestPath) -> Result<Option<Package>> {
    let manifest: Manifest = serde_json::from_slice(bytes)
        .map_err(|error| Error::corrupt("a package.json that is none").because(error))?;
    let (Some(full), Some(version)) = (manifest.name, manifest.version) else {
        return Ok(None);
    };
    if full.is_empty() || version.is_empty() {
        return Ok(None);
    }
    let (scope, name) = full.rsplit_once('/').unwrap_or(("", &full));
    let purl = Purl {
        family: Family::Npm,
        namespace: scope,
        name,
        version: &version,
        qualifiers: &[],
    };
    let mut package = Package::new(Family::Npm, &full, &version, "", &purl);
    package.location = Some(location.clone());
    Ok(Some(package))
}

/// Whether a folder is where Node looks for packages: `node_modules`, or a scope in it.
fn holds_packages(folder: &GuestPath) -> bool {
    let mut names = folder.components().rev();
    match names.next() {
        Some(b"node_modules") => true,
        Some(scope) => scope.starts_with(b"@") && names.next() == Some(b"node_modules"),
        None => false,
    }
}

/// The cataloger of Node's packages.
pub(crate) struct Npm;

impl Cataloger for Npm {
    fn family(&self) -> Family {
        Family::Npm
    }

    fn cost(&self) -> Cost {
        Cost::Walk
    }

    fn catalogue(&self, guest: &Guest, _os: Option<&OsRelease>) -> Result<Option<Catalogue>> {
        let mut catalogue = Catalogue::default();
        walk(guest, &mut catalogue, |catalogue, folder, entries| {
            if !holds_packages(folder) {
                return Ok(());
            }
            for entry in entries
                .iter()
                .filter(|entry| entry.kind == NodeKind::Directory)
            {
                let Ok(path) = entry.path.join("package.json") else {
                    continue;
                };
                let read = guest
                    .read(&path, MAX_MANIFEST)
                    .and_then(|bytes| match bytes {
                        Some(bytes) => package(&bytes, &path),
                        None => Ok(None),
                    });
                match read {
                    Ok(Some(package)) => {
                        catalogue.packages.insert(package);
                        catalogue.files.push((path, 1));
                    }
                    Ok(None) => {}
                    Err(error) => catalogue.gap(error, &path)?,
                }
            }
            Ok(())
        })?;
        Ok(catalogue.of_something())
    }
}
