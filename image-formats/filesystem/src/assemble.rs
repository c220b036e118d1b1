//! Which trees make up a machine: its root, and what its `/etc/fstab` mounts below.

use std::sync::Arc;

use dormouse_block::{Error, Gap, GuestPath, Locator, Result};

use crate::roots::{Wanted, roots};
use crate::{Guest, Mount, Subvolume, Tree};

/// Longest `/etc/fstab` read, in bytes.
pub(crate) const MAX_FSTAB: u64 = 1 << 20;
/// Mounts taken from one `/etc/fstab`.
const MAX_MOUNTS: usize = 256;
/// Directories that hold packages or their databases; leaving one of them out hides packages.
const PACKAGE_PLACES: &[&str] = &[
    "/usr", "/var", "/opt", "/lib", "/bin", "/sbin", "/etc", "/srv",
];

/// A volume whose filesystem could be opened, with the names an `/etc/fstab` may call it by.
#[derive(Clone)]
pub struct OpenVolume {
    /// The volume's name, such as `disk0/gpt2`.
    pub name: String,
    /// The partition's own UUID in lower case, if it has one.
    pub partition_uuid: Option<String>,
    /// The partition's own label, if it has one.
    pub partition_label: Option<String>,
    /// Device files by which the guest is known to know it, such as `/dev/mapper/vg-root` or `/dev/vda2`.
    pub device_names: Vec<String>,
    /// The volume whose earlier state it keeps, when it is a snapshot.
    pub snapshot_of: Option<String>,
    /// Its files.
    pub tree: Arc<dyn Tree>,
}

/// The systems found on a machine's volumes.
#[derive(Default)]
pub struct Systems {
    /// Each operating system's files; usually one.
    pub guests: Vec<Guest>,
    /// Subvolumes that hold older states of them.
    pub snapshots: Vec<Snapshot>,
    /// Mounts that were wanted and could not be made.
    pub gaps: Vec<Gap>,
}

/// A snapshot of a system's root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Snapshot {
    /// Which of the systems it was taken of.
    pub system: usize,
    /// The volume it lies on.
    pub volume: String,
    /// The subvolume.
    pub subvolume: Subvolume,
}

/// One line of an `/etc/fstab`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FstabEntry {
    /// What is mounted, as written: `UUID=…`, `LABEL=…`, `PARTUUID=…`, `PARTLABEL=…` or a device.
    pub device: String,
    /// Where.
    pub at: GuestPath,
    /// The type as written.
    pub kind: String,
    /// The options as written.
    pub options: String,
}

/// Reads `/etc/fstab` as fstab(5) says: octal escapes for blanks, comments, swap and `none` left out.
#[must_use]
pub fn parse_fstab(text: &[u8]) -> Vec<FstabEntry> {
    let mut entries = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        let mut fields = line
            .split(u8::is_ascii_whitespace)
            .filter(|field| !field.is_empty());
        let (Some(device), Some(at), Some(kind)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if device.starts_with(b"#") || kind == b"swap" || !at.starts_with(b"/") {
            continue;
        }
        let Ok(at) = GuestPath::new(unescape(at)) else {
            continue;
        };
        entries.push(FstabEntry {
            device: String::from_utf8_lossy(&unescape(device)).into_owned(),
            at,
            kind: String::from_utf8_lossy(kind).into_owned(),
            options: String::from_utf8_lossy(fields.next().unwrap_or_default()).into_owned(),
        });
        if entries.len() >= MAX_MOUNTS {
            break;
        }
    }
    entries
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'\\'
            && let Some((digits, after)) = after.split_at_checked(3)
            && let Ok(digits) = std::str::from_utf8(digits)
            && let Ok(value) = u8::from_str_radix(digits, 8)
        {
            out.push(value);
            rest = after;
        } else {
            out.push(byte);
            rest = after;
        }
    }
    out
}

/// Puts the volumes of a machine together: each tree that is an operating system's root becomes a guest, with the
/// other trees mounted where its `/etc/fstab` says.
///
/// A tree is a root when it holds `/etc` and either an `os-release` or a package database. Of a root and the snapshots
/// taken of it, the one that boots becomes the guest and the others are listed; a snapshot of a volume beside that volume
/// is no system of its own, and shares its UUID and label: only its device's name stands for it. A mount that is wanted
/// and cannot be found is a gap; it may hide packages when packages live there.
///
/// # Errors
/// Only when a tree that should be asked cannot be read at all.
pub fn assemble(volumes: &[OpenVolume]) -> Result<Systems> {
    let mut systems = Systems::default();
    // Of what has the same UUID, a volume comes before its snapshots.
    let mut named: Vec<&OpenVolume> = volumes.iter().collect();
    named.sort_by_key(|volume| is_copy(volume, volumes));
    for volume in volumes {
        if is_copy(volume, volumes) {
            continue;
        }
        for root in roots(volume, volumes, &mut systems.gaps)? {
            let system = systems.guests.len();
            let snapshots = root.snapshots.into_iter().map(|subvolume| Snapshot {
                system,
                volume: volume.name.clone(),
                subvolume,
            });
            systems.snapshots.extend(snapshots);
            let guest = compose(root.mount, &named, &mut systems.gaps);
            systems.guests.push(guest);
        }
    }
    Ok(systems)
}

/// Whether `volume` is a snapshot of one that is here too, directly or by way of other snapshots.
fn is_copy(volume: &OpenVolume, volumes: &[OpenVolume]) -> bool {
    volume.snapshot_of.as_ref().is_some_and(|origin| {
        volumes
            .iter()
            .any(|other| other.name == *origin && other.name != volume.name)
    })
}

/// The guest on this root, with what its `/etc/fstab` mounts below; of volumes with the same names the first counts.
fn compose(root: Mount, volumes: &[&OpenVolume], gaps: &mut Vec<Gap>) -> Guest {
    let here = Locator::default().volume(root.volume.clone());
    let mut guest = Guest::on_root(root);
    let fstab = match guest.read(&known("/etc/fstab"), MAX_FSTAB) {
        Ok(fstab) => fstab.unwrap_or_default(),
        Err(error) => {
            gaps.push(Gap::from_error(&error, &here));
            Vec::new()
        }
    };
    let mut wanted = parse_fstab(&fstab);
    wanted.sort_by(|a, b| a.at.cmp(&b.at));
    for entry in wanted {
        if entry.at.is_root() || !is_block_backed(&entry) {
            continue;
        }
        let found = volumes
            .iter()
            .find(|candidate| names(candidate, &entry.device))
            .ok_or_else(|| Error::unsupported("is on no volume that could be opened"))
            .and_then(|found| mounted(found, &entry));
        match found {
            Ok(mount) => guest.mount(mount),
            Err(error) => gaps.push(unmounted(&here, &entry, &error)),
        }
    }
    guest
}

/// The mount that `entry` asks for of `volume`.
fn mounted(volume: &OpenVolume, entry: &FstabEntry) -> Result<Mount> {
    let (tree, subvolume) = match Wanted::of(&entry.options) {
        Some(wanted) => {
            let subvolumes = volume.tree.subvolumes()?;
            let found = subvolumes.into_iter().find(|one| wanted.is(one));
            let found =
                found.ok_or_else(|| Error::unsupported("is a subvolume that is not there"))?;
            (volume.tree.subvolume(found.id)?, Some(found.path))
        }
        None => (volume.tree.clone(), None),
    };
    Ok(Mount {
        at: entry.at.clone(),
        volume: volume.name.clone(),
        subvolume,
        tree,
    })
}

pub(crate) fn known(path: &str) -> GuestPath {
    GuestPath::new(path).unwrap_or_else(|_| GuestPath::root())
}

fn is_block_backed(entry: &FstabEntry) -> bool {
    let device = entry.device.as_str();
    let tagged = ["UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "/dev/"]
        .iter()
        .any(|prefix| device.starts_with(prefix));
    let noauto = entry.options.split(',').any(|option| option == "noauto");
    tagged
        && !noauto
        && !matches!(
            entry.kind.as_str(),
            "iso9660" | "udf" | "nfs" | "nfs4" | "cifs"
        )
}

fn names(volume: &OpenVolume, device: &str) -> bool {
    if volume.device_names.iter().any(|name| name == device) {
        return true;
    }
    let unquoted = |value: &str| value.trim_matches('"').to_owned();
    let info = volume.tree.info();
    let same = |have: Option<&String>, want: &str| {
        have.is_some_and(|have| have.eq_ignore_ascii_case(&unquoted(want)))
    };
    if let Some(uuid) = device.strip_prefix("UUID=") {
        same(info.uuid.as_ref(), uuid)
    } else if let Some(label) = device.strip_prefix("LABEL=") {
        info.label.as_deref() == Some(unquoted(label).as_str())
    } else if let Some(uuid) = device.strip_prefix("PARTUUID=") {
        same(volume.partition_uuid.as_ref(), uuid)
    } else if let Some(label) = device.strip_prefix("PARTLABEL=") {
        volume.partition_label.as_deref() == Some(unquoted(label).as_str())
    } else if let Some(uuid) = device.strip_prefix("/dev/disk/by-uuid/") {
        same(info.uuid.as_ref(), uuid)
    } else if volume.device_names.iter().any(|name| name == device) {
        true
    } else if volume
        .device_names
        .iter()
        .any(|name| kernel_name(name).is_some())
    {
        // The kernel's name of its disk is known, and is another.
        false
    } else {
        kernel_name(device).is_some_and(|(disk, partition)| {
            let number = |name: &str, prefix: fn(char) -> bool| -> Option<u32> {
                name.trim_start_matches(prefix).parse().ok()
            };
            let letters = |c: char| c.is_ascii_alphabetic();
            volume.name.split_once('/').is_some_and(|(on, part)| {
                number(on, letters) == Some(disk) && number(part, letters) == Some(partition)
            })
        })
    }
}

/// Disk (from 0) and partition that a kernel's device name stands for when disks come up in their order:
/// `/dev/vda2` is partition 2 of disk 0.
fn kernel_name(device: &str) -> Option<(u32, u32)> {
    let name = device.strip_prefix("/dev/")?;
    let rest = ["vd", "sd", "xvd", "hd"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))?;
    let letter = rest.chars().next().filter(char::is_ascii_lowercase)?;
    let disk = u32::from(letter).checked_sub(u32::from('a'))?;
    Some((disk, rest.get(1..)?.parse().ok()?))
}

fn unmounted(volume: &Locator, entry: &FstabEntry, error: &Error) -> Gap {
    let hides = PACKAGE_PLACES.iter().any(|place| {
        let place = known(place);
        entry.at.starts_with(&place) || place.starts_with(&entry.at)
    });
    let optional = entry.options.split(',').any(|option| option == "nofail");
    Gap {
        at: volume.clone().path(entry.at.clone()),
        kind: error.kind(),
        why: format!(
            "what /etc/fstab mounts here ({}, {}{}) {}",
            entry.device,
            entry.kind,
            if optional { ", optional" } else { "" },
            error.with_causes()
        ),
        may_hide_packages: hides,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryTree;

    fn volume(name: &str, tree: MemoryTree) -> OpenVolume {
        OpenVolume {
            name: name.into(),
            partition_uuid: Some(format!("uuid-of-{name}")),
            partition_label: None,
            device_names: Vec::new(),
            snapshot_of: None,
            tree: Arc::new(tree),
        }
    }

    #[test]
    fn fstab_escapes_comments_and_swap() {
        let text = b"# a comment\nUUID=1 / ext4 defaults 0 1\n/dev/vda3 none swap sw 0 0\nLABEL=a\\040b /with\\040blank ext4\n";
        let entries = parse_fstab(text);
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[1].device, "LABEL=a b");
        assert_eq!(entries[1].at.to_string(), "/with blank");
    }

    #[test]
    fn separate_var_is_mounted_and_a_missing_usr_is_a_gap_that_hides_packages() {
        let mut root = MemoryTree::new();
        root.file(
            "/etc/fstab",
            b"PARTUUID=uuid-of-disk0/gpt3 /var ext4 defaults 0 2\nUUID=feed /usr ext4 ro 0 2\nUUID=beef /boot/efi vfat umask=0077 0 1\n",
        )
        .file("/etc/os-release", b"ID=debian\n")
        .directory("/var");
        let mut var = MemoryTree::new();
        var.file("/lib/dpkg/status", b"");
        let systems = assemble(&[volume("disk0/gpt2", root), volume("disk0/gpt3", var)]).unwrap();
        assert_eq!(systems.guests.len(), 1);
        let status = systems.guests[0]
            .read(&known("/var/lib/dpkg/status"), 9)
            .unwrap();
        assert_eq!(status.unwrap(), b"");
        let hiding: Vec<_> = systems
            .gaps
            .iter()
            .map(|gap| gap.may_hide_packages)
            .collect();
        assert_eq!(hiding, [false, true]);
    }

    #[test]
    fn a_snapshot_is_no_second_system_and_device_names_count() {
        let root = |usr: &str| {
            let mut root = MemoryTree::new();
            root.file("/etc/fstab", format!("{usr} /usr ext4 ro 0 2\n").as_bytes())
                .file("/etc/os-release", b"ID=debian\n")
                .directory("/usr");
            root
        };
        let mut usr = MemoryTree::new();
        usr.file("/bin/sh", b"#!");
        let mut usr = volume("lvm/vg-0/usr", usr);
        usr.device_names = vec!["/dev/mapper/vg--0-usr".into(), "/dev/vg-0/usr".into()];
        for name in ["/dev/mapper/vg--0-usr", "/dev/vg-0/usr"] {
            let origin = volume("lvm/vg-0/root", root(name));
            let mut snapshot = volume("lvm/vg-0/before", root(name));
            snapshot.snapshot_of = Some(origin.name.clone());
            let all = [snapshot.clone(), origin, usr.clone()];
            let systems = assemble(&all).unwrap();
            assert!(systems.gaps.is_empty(), "{:?}", systems.gaps);
            assert_eq!(systems.guests.len(), 1);
            let mounts = systems.guests[0].mounts();
            assert_eq!(mounts[0].volume, "lvm/vg-0/root");
            assert_eq!(mounts[1].volume, "lvm/vg-0/usr");
            // Alone it is all there is.
            assert_eq!(assemble(&[snapshot, usr.clone()]).unwrap().guests.len(), 1);
        }
    }

    #[test]
    fn known_device_names_are_stronger_than_the_order_of_disks() {
        let mut root = MemoryTree::new();
        root.file("/etc/fstab", b"/dev/sda1 /var ext4 defaults 0 2\n")
            .file("/etc/os-release", b"ID=debian\n")
            .directory("/var");
        let mut var = MemoryTree::new();
        var.file("/lib/dpkg/status", b"");
        let named = |name: &str, device: &str, tree| OpenVolume {
            device_names: vec![device.into()],
            ..volume(name, tree)
        };
        // On the first disk by number, which the kernel calls vda.
        let systems = assemble(&[
            named("disk0/gpt1", "/dev/vda1", root),
            named("disk1/gpt1", "/dev/sda1", var),
        ])
        .unwrap();
        assert!(systems.gaps.is_empty(), "{:?}", systems.gaps);
        assert_eq!(systems.guests[0].mounts()[1].volume, "disk1/gpt1");
    }

    #[test]
    fn a_data_volume_is_no_system() {
        let mut data = MemoryTree::new();
        data.file("/photos/dormouse.jpg", b"zzz");
        assert!(
            assemble(&[volume("disk0", data)])
                .unwrap()
                .guests
                .is_empty()
        );
    }
}
