//! Python packages: `*.dist-info/METADATA` and `*.egg-info`, wherever they lie.

use dormouse_block::{Error, GuestPath, Result};
use dormouse_filesystem::{Guest, NodeKind};

use super::walk::walk;
use crate::cataloger::Cost;
use crate::{Cataloger, Catalogue, Family, OsRelease, Package, Purl};

/// Largest metadata read, in bytes; they end in the package's whole description.
const MAX_METADATA: u64 = 8 << 20;

/// The name and version in the head of a package's metadata (PEP 314 and later).
fn package(bytes: &[u8], location: &GuestPath) -> Result<Package> {
    let text = String::from_utf8_lossy(bytes);
    let head = text.lines().take_while(|line| !line.trim().is_empty());
    let (mut name, mut version) = (None, None);
    for line in head {
        match line.split_once(':') {
            Some((key, value)) if key.eq_ignore_ascii_case("name") => {
                name = name.or(Some(value.trim()))
            }
            Some((key, value)) if key.eq_ignore_ascii_case("version") => {
                version = version.or(Some(value.trim()));
            }
            _ => {}
        }
    }
    match (name, version) {
        (Some(name), Some(version)) if !name.is_empty() && !version.is_empty() => {
            // The specification of package URLs wants names as PyPI compares them.
            let purl = Purl {
                family: Family::Python,
                namespace: "",
                name: &name.replace('_', "-"),
                version,
                qualifiers: &[],
            };
            let mut package = Package::new(Family::Python, name, version, "", &purl);
            package.location = Some(location.clone());
            Ok(package)
        }
        _ => Err(Error::corrupt(
            "metadata of a Python package without name or version",
        )),
    }
}

/// The cataloger of Python packages.
pub(crate) struct Python;

impl Cataloger for Python {
    fn family(&self) -> Family {
        Family::Python
    }

    fn cost(&self) -> Cost {
        Cost::Walk
    }

    fn catalogue(&self, guest: &Guest, _os: Option<&OsRelease>) -> Result<Option<Catalogue>> {
        let mut catalogue = Catalogue::default();
        walk(guest, &mut catalogue, |catalogue, _, entries| {
            for entry in entries {
                let file = match entry.kind {
                    NodeKind::Directory if entry.name.ends_with(b".dist-info") => "METADATA",
                    NodeKind::Directory if entry.name.ends_with(b".egg-info") => "PKG-INFO",
                    NodeKind::File if entry.name.ends_with(b".egg-info") => "",
                    _ => continue,
                };
                let path = match file {
                    "" => entry.path.clone(),
                    file => match entry.path.join(file) {
                        Ok(path) => path,
                        Err(_) => continue,
                    },
                };
                let read = guest
                    .read(&path, MAX_METADATA)
                    .and_then(|bytes| bytes.map(|bytes| package(&bytes, &path)).transpose());
                match read {
                    Ok(Some(package)) => {
                        catalogue.packages.insert(package);
                        catalogue.files.push((path, 1));
                    }
                    // A folder that pip left when it was stopped, without metadata.
                    Ok(None) => {}
                    Err(error) => catalogue.gap(error, &path)?,
                }
            }
            Ok(())
        })?;
        Ok(catalogue.of_something())
    }
}
