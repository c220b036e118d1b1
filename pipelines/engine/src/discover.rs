//! Discover: from a folder to the machines in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use dormouse_block::{Error, ErrorKind, Gap, Locator, Result};
use dormouse_disk::{FORMATS, FormatName, Probe, extents_named};

/// Folders below each other that are searched.
const MAX_DEPTH: usize = 32;
/// Files and folders that one library may hold.
const MAX_ENTRIES: usize = 4_000_000;

/// Endings of files that are disk images by their name, whatever they hold.
const ENDINGS: &[&str] = &[
    "qcow2", "qcow", "img", "raw", "vmdk", "vhd", "vpc", "vhdx", "avhdx", "vdi", "qed", "hdd",
    "ova",
];

/// A machine that was found: for now a disk image by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Its name within the library: the image's path without its ending, or with it where two would be called alike.
    pub name: String,
    /// The image.
    pub path: PathBuf,
    /// The image's path within the library.
    pub within: String,
}

/// What a library holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Library {
    /// The machines by name.
    pub machines: Vec<Found>,
    /// Folders and files that could not be looked at.
    pub gaps: Vec<Gap>,
}

/// The machines in `library`, which is a folder or a single image. Symbolic links are not followed.
///
/// # Errors
/// `Io` when the library itself cannot be read.
pub fn discover(library: &Path) -> Result<Library> {
    let fail = |error| Error::io("cannot read the library", error).in_file(library.display());
    let mut found = Library::default();
    if fs::metadata(library).map_err(fail)?.is_file() {
        let within = library
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        found.machines.push(Found {
            name: without_ending(&within),
            path: library.to_owned(),
            within,
        });
        return Ok(found);
    }
    fs::read_dir(library).map_err(fail)?;
    let mut images = Vec::new();
    let mut seen = 0_usize;
    let mut todo = vec![(library.to_owned(), 0_usize)];
    while let Some((folder, depth)) = todo.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                found.gaps.push(unread(library, &folder, error));
                continue;
            }
        };
        for entry in entries {
            seen = seen.saturating_add(1);
            if seen > MAX_ENTRIES {
                return Err(Error::limit("more than 4,000,000 files in the library")
                    .in_file(library.display()));
            }
            match entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))) {
                Ok((path, kind)) if kind.is_dir() && depth < MAX_DEPTH => {
                    todo.push((path, depth.saturating_add(1)));
                }
                Ok((path, kind)) if kind.is_dir() => {
                    let error = std::io::Error::other("folders are nested more than 32 deep");
                    found.gaps.push(unread(library, &path, error));
                }
                Ok((path, kind)) if kind.is_file() => match is_image(&path) {
                    Ok(true) => images.push(path),
                    Ok(false) => {}
                    Err(error) => found.gaps.push(unread(library, &path, error)),
                },
                Ok(_) => {}
                Err(error) => found.gaps.push(unread(library, &folder, error)),
            }
        }
    }
    found.machines = name_all(library, whole_disks(images));
    found.gaps.sort();
    Ok(found)
}

fn within(library: &Path, path: &Path) -> String {
    path.strip_prefix(library)
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned()
}

fn unread(library: &Path, path: &Path, error: std::io::Error) -> Gap {
    let error = Error::io("cannot be looked at", error).in_file(within(library, path));
    Gap {
        at: Locator::default(),
        kind: ErrorKind::Io,
        why: error.with_causes(),
        may_hide_packages: true,
    }
}

fn without_ending(within: &str) -> String {
    let path = Path::new(within);
    path.with_extension("").to_string_lossy().into_owned()
}

/// The images without those that only hold a part of another's disk.
fn whole_disks(mut images: Vec<PathBuf>) -> Vec<PathBuf> {
    let is_vmdk = |path: &PathBuf| {
        path.extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("vmdk"))
    };
    let parts: BTreeSet<PathBuf> = images
        .iter()
        .filter(|path| is_vmdk(path))
        .flat_map(|path| extents_named(path))
        .collect();
    images.retain(|path| !parts.contains(path));
    images
}

fn name_all(library: &Path, images: Vec<PathBuf>) -> Vec<Found> {
    let mut by_name: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for path in images {
        by_name
            .entry(without_ending(&within(library, &path)))
            .or_default()
            .push(path);
    }
    let mut machines: Vec<Found> = by_name
        .into_iter()
        .flat_map(|(name, paths)| {
            let alone = paths.len() == 1;
            paths
                .into_iter()
                .map(move |path| (name.clone(), alone, path))
        })
        .map(|(name, alone, path)| {
            let within = within(library, &path);
            Found {
                name: if alone { name } else { within.clone() },
                path,
                within,
            }
        })
        .collect();
    machines.sort();
    machines
}

fn is_image(path: &Path) -> std::io::Result<bool> {
    use std::io::Read;
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default();
    if ending == "partial" {
        return Ok(false);
    }
    if ENDINGS.contains(&ending.as_str()) {
        return Ok(true);
    }
    let mut head = Vec::new();
    let limit = u64::try_from(Probe::HEAD).unwrap_or(u64::MAX);
    fs::File::open(path)?.take(limit).read_to_end(&mut head)?;
    let probe = Probe {
        head: &head,
        tail: &[],
        extension: &ending,
    };
    let has_magic = FORMATS
        .iter()
        .filter(|format| format.name() != FormatName::RAW);
    Ok(has_magic.into_iter().any(|format| format.probe(&probe)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_by_name_or_magic_and_named_without_clashes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("web")).unwrap();
        for name in [
            "a.qcow2",
            "a.raw",
            "web/b.img",
            "notes.txt",
            "c.qcow2.partial",
        ] {
            fs::write(at(name), b"x").unwrap();
        }
        fs::write(at("nameless"), b"QFI\xfb\0\0\0\x03").unwrap();
        std::os::unix::fs::symlink("/etc", at("etc")).unwrap();
        let names: Vec<_> = discover(dir.path())
            .unwrap()
            .machines
            .into_iter()
            .map(|found| found.name)
            .collect();
        assert_eq!(names, ["a.qcow2", "a.raw", "nameless", "web/b"]);
    }

    #[test]
    fn extents_of_a_split_disk_are_no_disks() {
        let dir = tempfile::tempdir().unwrap();
        let descriptor = "# Disk DescriptorFile\nversion=1\nCID=1\nRW 8 FLAT \"web-f001.vmdk\" 0\n";
        fs::write(dir.path().join("web.vmdk"), descriptor).unwrap();
        fs::write(dir.path().join("web-f001.vmdk"), [0; 4096]).unwrap();
        let found = discover(dir.path()).unwrap();
        let names: Vec<_> = found.machines.iter().map(|found| &found.name).collect();
        assert_eq!(names, ["web"]);
    }

    #[test]
    fn a_missing_library_is_an_error() {
        let error = discover(Path::new("/nonexistent/library")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
