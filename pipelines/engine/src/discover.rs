//! Discover: from a folder to the machines in it.
//!
//! A description of a machine claims the disks that it names. Of the images left, each is a machine of one disk: but not a
//! part of another's disk, and not a layer on which one other image alone stands. That is a restore point of its machine.
//! A base that several machines share belongs to none of them, and is listed by itself.

mod claims;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{Bytes, Error, ErrorKind, Gap, HostFile, Locator, Result, Source};
use dormouse_disk::{
    DescriptionKind, FORMATS, FormatName, Gate, LibraryGate, Probe, StateMeaning, description_kind,
    extents_named, recognise_state,
};

/// Folders below each other that are searched.
const MAX_DEPTH: usize = 32;
/// Files and folders that one library may hold.
const MAX_ENTRIES: usize = 4_000_000;

/// Endings of files that are disk images by their name, whatever they hold: a guest can write the beginning of its own disk
/// as it likes.
const ENDINGS: &[&str] = &[
    "qcow2", "qcow", "img", "raw", "vmdk", "vhd", "vpc", "vhdx", "avhdx", "vdi", "qed", "hdd",
    "ova",
];

/// What describes a Parallels disk of several files, in the folder that holds them.
const PARALLELS: &str = "DiskDescriptor.xml";

/// A machine that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Its name within the library: the path of its image or description without its ending, or with it where two would
    /// be called alike.
    pub name: String,
    /// The image or the description.
    pub path: PathBuf,
    /// Its path within the library.
    pub within: String,
    /// It is a disk by itself, whatever its beginning looks like.
    pub is_bare: bool,
    /// Files of its chain that are restore points of it, the base first.
    pub layers: Vec<PathBuf>,
    /// States saved of it in files of their own, which name its disks.
    pub saved_states: Vec<PathBuf>,
}

impl Found {
    /// The machine at `path`, of which nothing more is known than what stands beside it: a state saved of it.
    #[must_use]
    pub fn alone(name: &str, path: &Path, gate: &dyn Gate) -> Self {
        Self {
            name: name.to_owned(),
            path: path.to_owned(),
            within: path.to_string_lossy().into_owned(),
            is_bare: is_named_as_image(path),
            layers: Vec::new(),
            saved_states: claims::saved_beside(path, gate),
        }
    }
}

/// What a library holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Library {
    /// The machines by name.
    pub machines: Vec<Found>,
    /// Folders and files that could not be looked at.
    pub gaps: Vec<Gap>,
}

/// The machines in `library`, which is a folder, a single image or a description. Symbolic links are not followed.
///
/// # Errors
/// `Io` when the library itself cannot be read.
pub fn discover(library: &Path) -> Result<Library> {
    let fail = |error| Error::io("cannot read the library", error).in_file(library.display());
    let mut found = Library::default();
    if fs::metadata(library).map_err(fail)?.is_file() {
        let folder = match library.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let within = library
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let name = without_ending(&within);
        found.machines.push(Found {
            within,
            ..Found::alone(&name, library, &LibraryGate::new([folder])?)
        });
        return Ok(found);
    }
    fs::read_dir(library).map_err(fail)?;
    let mut files = Files::default();
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
                Ok((path, kind)) if kind.is_file() => match content(&path) {
                    Ok(Content::Image) => files.images.push(path),
                    Ok(Content::Description) => files.descriptions.push(path),
                    Ok(Content::SavedState) => files.states.push(path),
                    Ok(Content::Unread(what)) => found
                        .gaps
                        .push(unread_description(what, &within(library, &path))),
                    Ok(Content::Other) => {}
                    Err(error) => found.gaps.push(unread(library, &path, error)),
                },
                Ok(_) => {}
                Err(error) => found.gaps.push(unread(library, &folder, error)),
            }
        }
    }
    files.images = whole_disks(files.images);
    files.images.sort();
    files.descriptions.sort();
    files.states.sort();
    let machines = claims::machines(&files, &LibraryGate::new([library])?);
    found.machines = name_all(library, machines);
    found.gaps.sort();
    Ok(found)
}

/// What of a library matters.
#[derive(Default)]
struct Files {
    images: Vec<PathBuf>,
    descriptions: Vec<PathBuf>,
    /// States saved of machines, which do not say themselves of which.
    states: Vec<PathBuf>,
}

/// What a file is.
enum Content {
    Image,
    Description,
    SavedState,
    /// A description that is not read.
    Unread(&'static str),
    Other,
}

/// A description that is not read hides which disks belong together, and what was saved of the machine.
fn unread_description(what: &str, within: &str) -> Gap {
    let error = Error::unsupported(format!(
        "{what} is not read: its disks count as machines of their own, and states saved of it are not seen"
    ));
    Gap::from_error(&error.in_file(within), &Locator::default())
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

/// A Parallels disk of several files goes by the name of its folder.
fn without_ending(within: &str) -> String {
    let mut path = Path::new(within);
    if let (Some(folder), true) = (
        path.parent(),
        path.file_name().is_some_and(|name| name == PARALLELS),
    ) && !folder.as_os_str().is_empty()
    {
        path = folder;
    }
    path.with_extension("").to_string_lossy().into_owned()
}

/// The images without those that only hold a part of another's disk.
fn whole_disks(mut images: Vec<PathBuf>) -> Vec<PathBuf> {
    let is_description = |path: &PathBuf| {
        ending_of(path) == "vmdk" || path.file_name().is_some_and(|name| name == PARALLELS)
    };
    let parts: BTreeSet<PathBuf> = images
        .iter()
        .filter(|path| is_description(path))
        .flat_map(|path| extents_named(path))
        .collect();
    images.retain(|path| !parts.contains(path));
    images
}

fn name_all(library: &Path, machines: Vec<Found>) -> Vec<Found> {
    let mut by_name: BTreeMap<String, Vec<Found>> = BTreeMap::new();
    for mut found in machines {
        found.within = within(library, &found.path);
        by_name
            .entry(without_ending(&found.within))
            .or_default()
            .push(found);
    }
    let mut machines: Vec<Found> = by_name
        .into_iter()
        .flat_map(|(name, all)| {
            let alone = all.len() == 1;
            all.into_iter().map(move |found| Found {
                name: if alone {
                    name.clone()
                } else {
                    found.within.clone()
                },
                ..found
            })
        })
        .collect();
    machines.sort();
    machines
}

fn ending_of(path: &Path) -> String {
    path.extension()
        .map(|ending| ending.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default()
}

/// Whether a file's name says that it is a disk. An archive of disks may be one, or describe a machine.
fn is_named_as_image(path: &Path) -> bool {
    let ending = ending_of(path);
    ending != "ova" && ENDINGS.contains(&ending.as_str())
}

fn content(path: &Path) -> std::io::Result<Content> {
    use std::io::Read;
    let ending = ending_of(path);
    if ending == "partial" {
        return Ok(Content::Other);
    }
    if is_named_as_image(path) {
        return Ok(Content::Image);
    }
    let mut head = Vec::new();
    let limit = u64::try_from(Probe::HEAD).unwrap_or(u64::MAX);
    fs::File::open(path)?.take(limit).read_to_end(&mut head)?;
    if is_saved_state(path, &ending, &head) {
        return Ok(Content::SavedState);
    }
    match description_kind(&head) {
        Some(DescriptionKind::Read(_)) => return Ok(Content::Description),
        Some(DescriptionKind::NotRead(what)) => return Ok(Content::Unread(what)),
        None => {}
    }
    if ENDINGS.contains(&ending.as_str()) {
        return Ok(Content::Image);
    }
    let probe = Probe {
        head: &head,
        tail: &[],
        extension: &ending,
    };
    let mut has_magic = FORMATS
        .iter()
        .filter(|format| format.name() != FormatName::RAW);
    Ok(if has_magic.any(|format| format.probe(&probe)) {
        Content::Image
    } else {
        Content::Other
    })
}

/// Whether a file is a state that some machine goes on from, and no description of it.
fn is_saved_state(path: &Path, ending: &str, head: &[u8]) -> bool {
    if matches!(description_kind(head), Some(DescriptionKind::Read(_))) {
        return false;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Hyper-V's stores begin alike, whether a state is in them or not.
    let source: Option<Arc<dyn Source>> = if ending == "vmrs" {
        HostFile::open(path).ok().map(|file| Arc::new(file) as _)
    } else {
        Some(Arc::new(Bytes::new(head)))
    };
    let known = source.and_then(|source| recognise_state(&source, &name).ok()?);
    known.is_some_and(|state| state.meaning != StateMeaning::Dump)
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
