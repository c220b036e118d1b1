//! Which trees of a volume are roots of operating systems, and which of those are only snapshots of another one.

use std::collections::BTreeMap;
use std::sync::Arc;

use dormouse_block::{Error, ErrorKind, Gap, GuestPath, Locator, Result};

use crate::assemble::{MAX_FSTAB, known, parse_fstab};
use crate::{Follow, Guest, Mount, NodeKind, OpenVolume, Subvolume, Tree};

/// Subvolumes of one volume that are looked at for roots.
const MAX_EXAMINED: usize = 2048;
/// Longest file of a boot loader that is read, and how many of them in one folder.
const MAX_BOOT_FILE: u64 = 1 << 20;
const MAX_BOOT_FILES: usize = 64;
/// Where boot loaders keep kernels' command lines: within a root, and on a volume mounted at `/boot` or `/efi`.
const IN_ROOT: &[&str] = &[
    "/etc/kernel/cmdline",
    "/boot/loader/entries",
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
];
const ON_BOOT_VOLUME: &[&str] = &["/loader/entries", "/grub/grub.cfg", "/grub2/grub.cfg"];

/// A root, and the snapshots that were taken of it.
pub(crate) struct Root {
    pub(crate) mount: Mount,
    pub(crate) snapshots: Vec<Subvolume>,
}

/// The subvolume that mount options ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Path(GuestPath),
    Id(u64),
}

impl Wanted {
    /// What `options`, separated by commas, ask for; a path counts more than a number.
    pub(crate) fn of(options: &str) -> Option<Self> {
        let value = |name: &str| options.split(',').find_map(|one| one.strip_prefix(name));
        if let Some(path) = value("subvol=") {
            return GuestPath::new(path.trim_matches('"')).ok().map(Self::Path);
        }
        let id = value("subvolid=")?.parse().ok()?;
        // Both 0 and 5 stand for the top level.
        Some(Self::Id(if id == 0 { 5 } else { id }))
    }

    pub(crate) fn is(&self, subvolume: &Subvolume) -> bool {
        match self {
            Self::Path(path) => subvolume.path == *path,
            Self::Id(id) => subvolume.id == *id,
        }
    }

    /// What the first kernel's command line in `text` asks for.
    fn of_boot_file(text: &[u8]) -> Option<Self> {
        text.split(u8::is_ascii_whitespace)
            .filter_map(|word| word.strip_prefix(b"rootflags="))
            .find_map(|flags| Self::of(&String::from_utf8_lossy(flags)))
    }
}

/// How strongly it is said that a root is the one that boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// A read-only subvolume.
    ReadOnly,
    /// It might be booted.
    Writable,
    /// Its own `/etc/fstab` names it.
    Fstab,
    /// It is the default subvolume.
    Default,
    /// A kernel's command line within it names it.
    OwnBootLine,
    /// A kernel's command line on a boot volume names it.
    BootVolume,
}

struct Candidate {
    subvolume: Subvolume,
    guest: Guest,
    claim: Claim,
    machine: Option<Vec<u8>>,
}

/// The roots on `volume`, one of each system.
///
/// # Errors
/// `Io` and `Cancelled`; whatever else keeps a tree from being looked at is a gap.
pub(crate) fn roots(
    volume: &OpenVolume,
    volumes: &[OpenVolume],
    gaps: &mut Vec<Gap>,
) -> Result<Vec<Root>> {
    let here = Locator::default().volume(volume.name.clone());
    let mut left_out = |error: Error| -> Result<()> {
        if matches!(error.kind(), ErrorKind::Io | ErrorKind::Cancelled) {
            return Err(error);
        }
        gaps.push(Gap::from_error(&error, &here));
        Ok(())
    };
    let subvolumes = match volume.tree.subvolumes() {
        Ok(subvolumes) => subvolumes,
        Err(error) => {
            left_out(error)?;
            Vec::new()
        }
    };
    if subvolumes.len() <= 1 {
        let mount = mount(volume, volume.tree.clone(), None);
        return match is_root(&Guest::on_root(mount.clone())) {
            Ok(true) => Ok(vec![Root {
                mount,
                snapshots: Vec::new(),
            }]),
            Ok(false) => Ok(Vec::new()),
            Err(error) => left_out(error).map(|()| Vec::new()),
        };
    }
    if subvolumes.len() > MAX_EXAMINED {
        left_out(Error::limit(format!(
            "{} subvolumes, of which {MAX_EXAMINED} are looked at for operating systems",
            subvolumes.len()
        )))?;
    }
    let booted = boot_volumes(volume, volumes);
    let mut candidates = Vec::new();
    for subvolume in subvolumes.iter().take(MAX_EXAMINED) {
        match candidate(volume, subvolume, &booted) {
            Ok(Some(candidate)) => candidates.push(candidate),
            Ok(None) => {}
            Err(error) => left_out(error)?,
        }
    }
    Ok(choose(candidates, &subvolumes))
}

fn mount(volume: &OpenVolume, tree: Arc<dyn Tree>, subvolume: Option<GuestPath>) -> Mount {
    Mount {
        at: GuestPath::root(),
        volume: volume.name.clone(),
        subvolume,
        tree,
    }
}

fn candidate(
    volume: &OpenVolume,
    subvolume: &Subvolume,
    booted: &[Wanted],
) -> Result<Option<Candidate>> {
    let tree = volume.tree.subvolume(subvolume.id)?;
    let guest = Guest::on_root(mount(volume, tree, Some(subvolume.path.clone())));
    if !is_root(&guest)? {
        return Ok(None);
    }
    let claim = if booted.iter().any(|wanted| wanted.is(subvolume)) {
        Claim::BootVolume
    } else if boot_lines(&guest, IN_ROOT)
        .iter()
        .any(|wanted| wanted.is(subvolume))
    {
        Claim::OwnBootLine
    } else if subvolume.default && subvolume.id != 5 {
        Claim::Default
    } else if names_itself(&guest, subvolume)? {
        Claim::Fstab
    } else if subvolume.read_only {
        Claim::ReadOnly
    } else {
        Claim::Writable
    };
    let machine = guest.read(&known("/etc/machine-id"), 64)?;
    Ok(Some(Candidate {
        subvolume: subvolume.clone(),
        machine: machine.filter(|id| id.trim_ascii().len() == 32),
        guest,
        claim,
    }))
}

fn names_itself(guest: &Guest, subvolume: &Subvolume) -> Result<bool> {
    let fstab = guest.read(&known("/etc/fstab"), MAX_FSTAB)?;
    let entries = parse_fstab(&fstab.unwrap_or_default());
    let Some(root) = entries.iter().find(|entry| entry.at.is_root()) else {
        return Ok(false);
    };
    Ok(match Wanted::of(&root.options) {
        Some(wanted) => wanted.is(subvolume),
        None => subvolume.default,
    })
}

/// What the boot loaders on other volumes ask for.
fn boot_volumes(volume: &OpenVolume, volumes: &[OpenVolume]) -> Vec<Wanted> {
    volumes
        .iter()
        .filter(|other| other.name != volume.name)
        .flat_map(|other| {
            let guest = Guest::on_root(mount(other, other.tree.clone(), None));
            boot_lines(&guest, ON_BOOT_VOLUME)
        })
        .collect()
}

/// What the boot loader's files in these places ask for. They are hints: one that cannot be read says nothing.
fn boot_lines(guest: &Guest, places: &[&str]) -> Vec<Wanted> {
    let mut out = Vec::new();
    for place in places {
        let path = known(place);
        let mut files = Vec::new();
        if let Ok(Some(entries)) = guest.read_dir(&path) {
            let names = entries
                .iter()
                .filter_map(|entry| path.join(&entry.name).ok());
            files.extend(names.take(MAX_BOOT_FILES));
        } else {
            files.push(path);
        }
        files.sort();
        for file in files {
            if let Ok(Some(text)) = guest.read(&file, MAX_BOOT_FILE) {
                out.extend(Wanted::of_boot_file(&text));
            }
        }
    }
    out
}

/// Of every family of snapshots, the root that boots, with the others as its snapshots.
///
/// A family that nothing names and that lies within another root is content of that one: containers, machines.
fn choose(candidates: Vec<Candidate>, subvolumes: &[Subvolume]) -> Vec<Root> {
    let by_uuid: BTreeMap<&str, &Subvolume> = subvolumes
        .iter()
        .filter_map(|one| Some((one.uuid.as_deref()?, one)))
        .collect();
    let mut families: Vec<(Vec<String>, Vec<Candidate>)> = Vec::new();
    for candidate in candidates {
        // The first ancestor that is known of, there or gone, and the machine's own id, which snapshots keep.
        let mut signs = vec![ancestor(&candidate.subvolume, &by_uuid)];
        if let Some(id) = &candidate.machine {
            signs.push(format!(
                "machine {}",
                String::from_utf8_lossy(id.trim_ascii())
            ));
        }
        let mut members = vec![candidate];
        let mut apart = Vec::new();
        for (theirs, list) in families {
            if theirs.iter().any(|sign| signs.contains(sign)) {
                signs.extend(theirs);
                members.extend(list);
            } else {
                apart.push((theirs, list));
            }
        }
        apart.push((signs, members));
        families = apart;
    }
    let paths: Vec<(usize, GuestPath)> = families
        .iter()
        .enumerate()
        .flat_map(|(nth, (_, members))| {
            members
                .iter()
                .filter(|one| one.subvolume.id != 5)
                .map(move |one| (nth, one.subvolume.path.clone()))
        })
        .collect();
    let mut out = Vec::new();
    for (nth, (_, mut members)) in families.into_iter().enumerate() {
        members.sort_by_key(|one| (one.claim, one.subvolume.generation, one.subvolume.id));
        let Some(first) = members.pop() else {
            continue;
        };
        let within = paths
            .iter()
            .any(|(other, path)| *other != nth && first.subvolume.path.starts_with(path));
        if within && first.claim < Claim::Fstab {
            continue;
        }
        let mut snapshots: Vec<Subvolume> = members.into_iter().map(|one| one.subvolume).collect();
        snapshots.sort();
        if let Some(mount) = first.guest.mounts().first() {
            out.push((
                first.subvolume.id,
                Root {
                    mount: mount.clone(),
                    snapshots,
                },
            ));
        }
    }
    out.sort_by_key(|(id, _)| *id);
    out.into_iter().map(|(_, root)| root).collect()
}

fn ancestor(subvolume: &Subvolume, by_uuid: &BTreeMap<&str, &Subvolume>) -> String {
    let mut here = subvolume;
    // A chain of parents that never ends is a loop.
    for _ in 0..by_uuid.len() {
        match here.parent_uuid.as_deref() {
            None => break,
            Some(parent) => match by_uuid.get(parent) {
                Some(parent) => here = parent,
                None => return parent.to_owned(),
            },
        }
    }
    here.uuid
        .clone()
        .unwrap_or_else(|| format!("subvolume {}", here.id))
}

fn is_root(guest: &Guest) -> Result<bool> {
    let has = |path: &str, kind: NodeKind| -> Result<bool> {
        let metadata = guest.metadata(&known(path), Follow::Links)?;
        Ok(metadata.is_some_and(|metadata| metadata.kind == kind))
    };
    if !has("/etc", NodeKind::Directory)? {
        return Ok(false);
    }
    for file in [
        "/etc/os-release",
        "/usr/lib/os-release",
        "/etc/fstab",
        "/etc/debian_version",
    ] {
        if has(file, NodeKind::File)? {
            return Ok(true);
        }
    }
    for database in [
        "/var/lib/dpkg",
        "/var/lib/rpm",
        "/lib/apk/db",
        "/var/lib/pacman",
    ] {
        if has(database, NodeKind::Directory)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_name_a_subvolume_by_path_or_number() {
        let path = |text: &str| Some(Wanted::Path(known(text)));
        assert_eq!(Wanted::of("defaults,subvol=@rootfs"), path("/@rootfs"));
        assert_eq!(Wanted::of("subvolid=257,subvol=/@/home"), path("/@/home"));
        assert_eq!(Wanted::of("ro,subvolid=0"), Some(Wanted::Id(5)));
        assert_eq!(Wanted::of("defaults,noatime"), None);
        let line = b"options root=UUID=1 rootflags=ro,subvol=root quiet\n";
        assert_eq!(Wanted::of_boot_file(line), path("/root"));
    }
}
