//! Ruby gems: `specifications/*.gemspec`, and those that came with Ruby in `specifications/default`.

use dormouse_block::{Error, GuestPath, Result};
use dormouse_filesystem::{Guest, NodeKind};

use super::walk::walk;
use crate::cataloger::Cost;
use crate::{Cataloger, Catalogue, Family, OsRelease, Package, Purl};

/// Largest specification read, in bytes.
const MAX_SPECIFICATION: u64 = 4 << 20;

/// What stands in the first pair of quotes of a text.
fn quoted(text: &str) -> Option<&str> {
    let start = text.find(['"', '\''])?;
    let quote = text.get(start..)?.chars().next()?;
    let rest = text.get(start.checked_add(1)?..)?;
    rest.split_once(quote).map(|(text, _)| text)
}

/// The gem of a specification. It is Ruby, and nothing is run: `RubyGems` writes what is wanted in a comment, for it too will not
/// run each of them, and as plain assignments.
fn package(bytes: &[u8], location: &GuestPath) -> Result<Package> {
    let text = String::from_utf8_lossy(bytes);
    let stub = text
        .lines()
        .take(5)
        .find_map(|line| line.strip_prefix("# stub: "))
        .map(|stub| stub.split(' ').collect::<Vec<_>>());
    let (name, version, platform) = match stub.as_deref() {
        Some([name, version, platform, ..]) => (*name, *version, *platform),
        _ => {
            let assigned = |field: &str| {
                text.lines().map(str::trim).find_map(|line| {
                    let value = line.strip_prefix("s.")?.strip_prefix(field)?.trim_start();
                    quoted(value.strip_prefix('=')?)
                })
            };
            match (assigned("name"), assigned("version")) {
                (Some(name), Some(version)) => {
                    (name, version, assigned("platform").unwrap_or("ruby"))
                }
                _ => return Err(Error::corrupt("a gemspec without name or version")),
            }
        }
    };
    let platform = if platform == "ruby" { "" } else { platform };
    let purl = Purl {
        family: Family::Gem,
        namespace: "",
        name,
        version,
        qualifiers: &[("platform", platform)],
    };
    let mut package = Package::new(Family::Gem, name, version, platform, &purl);
    package.location = Some(location.clone());
    Ok(package)
}

/// Whether a folder is one of specifications.
fn holds_specifications(folder: &GuestPath) -> bool {
    let mut names = folder.components().rev();
    match names.next() {
        Some(b"specifications") => true,
        Some(b"default") => names.next() == Some(b"specifications"),
        _ => false,
    }
}

/// The cataloger of gems.
pub(crate) struct Gems;

impl Cataloger for Gems {
    fn family(&self) -> Family {
        Family::Gem
    }

    fn cost(&self) -> Cost {
        Cost::Walk
    }

    fn catalogue(&self, guest: &Guest, _os: Option<&OsRelease>) -> Result<Option<Catalogue>> {
        let mut catalogue = Catalogue::default();
        walk(guest, &mut catalogue, |catalogue, folder, entries| {
            if !holds_specifications(folder) {
                return Ok(());
            }
            for entry in entries {
                if entry.kind != NodeKind::File || !entry.name.ends_with(b".gemspec") {
                    continue;
                }
                let read = guest
                    .read(&entry.path, MAX_SPECIFICATION)
                    .and_then(|bytes| package(&bytes.unwrap_or_default(), &entry.path));
                match read {
                    Ok(package) => {
                        catalogue.packages.insert(package);
                        catalogue.files.push((entry.path.clone(), 1));
                    }
                    Err(error) => catalogue.gap(error, &entry.path)?,
                }
            }
            Ok(())
        })?;
        Ok(catalogue.of_something())
    }
}
