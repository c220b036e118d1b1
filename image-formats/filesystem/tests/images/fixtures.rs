//! Images that others made: whole disks with several filesystems, and volumes made by Windows.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dormouse_block::{ErrorKind, HostFile, Source};
use dormouse_filesystem::NodeKind;

use crate::walk::{compare, open, walk, walk_host};
use crate::{Mounted, exfat, fixtures, must};

/// Unpacks and decodes an image to plain bytes.
fn raw(folder: &Path, name: &str) -> PathBuf {
    let packed = fixtures().join(name);
    let unpacked = folder.join("unpacked");
    let program = if name.ends_with(".xz") { "xz" } else { "zstd" };
    let done = Command::new(program)
        .args(["-dc", packed.to_str().unwrap()])
        .stdout(Stdio::from(fs::File::create(&unpacked).unwrap()))
        .status()
        .unwrap();
    assert!(done.success(), "{name}");
    let raw = folder.join("raw");
    let format = ["qcow2", "vmdk", "vhdx", "vhd"]
        .into_iter()
        .find(|format| name.contains(&format!(".{format}")))
        .map_or("raw", |format| if format == "vhd" { "vpc" } else { format });
    let (from, to) = (unpacked.to_str().unwrap(), raw.to_str().unwrap());
    must(
        "qemu-img",
        &["convert", "-f", format, "-O", "raw", from, to],
    );
    raw
}

/// The partition that begins at a sector, as a file of its own that is as sparse as the disk.
fn partition(folder: &Path, disk: &Path, start: u64, sectors: u64) -> PathBuf {
    let part = folder.join(format!("part{start}"));
    let (from, to) = (
        fs::File::open(disk).unwrap(),
        fs::File::create(&part).unwrap(),
    );
    to.set_len(sectors * 512).unwrap();
    let mut buf = vec![0; 64 << 10];
    for at in (0..sectors * 512).step_by(buf.len()) {
        let len = buf.len().min((sectors * 512 - at) as usize);
        from.read_exact_at(&mut buf[..len], start * 512 + at)
            .unwrap();
        if buf[..len].iter().any(|byte| *byte != 0) {
            to.write_all_at(&buf[..len], at).unwrap();
        }
    }
    part
}

/// The images, the sectors of the volume (0 is the whole image), its kind, and how many names it has.
const VOLUMES: &[(&str, (u64, u64), &str, usize)] = &[
    ("fs-ntfs/ColinFinck-ntfs/testfs1.zst", (0, 0), "ntfs", 517),
    (
        "disk-formats/dfvfs/ntfs-dynamic.vhdx.zst",
        (128, 6016),
        "ntfs",
        7,
    ),
    (
        "disk-formats/dfvfs/ntfs-fixed.vhdx.zst",
        (128, 6016),
        "ntfs",
        7,
    ),
    (
        "disk-formats/vhd-crate/ntfs_fixed.vhd.zst",
        (128, 6016),
        "ntfs",
        7,
    ),
    (OSV, (131_072, 131_072), "exfat", 1),
    (OSV, (393_216, 129_024), "ntfs", 1),
    (FORENSICS, (391_168, 120_832), "ntfs", 2),
];
const OSV: &str = "disk-formats/osv-scalibr/valid-ext-exfat-fat32-ntfs.qcow2.zst";
const FORENSICS: &str = "fs-misc/forensics-samples/fs.multiple.xz";

#[test]
fn volumes_of_others_read_as_their_drivers_read_them() {
    for (name, (start, sectors), kind, names) in VOLUMES {
        let folder = tempfile::tempdir().unwrap();
        let disk = raw(folder.path(), name);
        let image = if *sectors == 0 {
            disk
        } else {
            partition(folder.path(), &disk, *start, *sectors)
        };
        let tree = open(&image);
        assert_eq!(tree.info().kind, *kind, "{name}");
        let ours = walk(&*tree).unwrap_or_else(|error| panic!("{name}: {}", error.with_causes()));
        assert_eq!(ours.len(), *names, "{name}: {:?}", ours.keys());
        let mounted = if *kind == "ntfs" {
            Mounted::by("ntfs-3g", &image, &["-o", "ro,allow_other"])
        } else {
            exfat::mounted(&image, "ro,allow_other")
        };
        let theirs = walk_host(mounted.path());
        compare(name, &ours, &theirs, &|found| {
            found.mode = 0;
            found.owner = (0, 0);
            // ntfs-3g counts short names, which are no links.
            found.links = 1;
            if *kind == "exfat" {
                found.mtime.1 = 0;
            }
            if found.kind == NodeKind::Symlink {
                // ntfs-3g makes targets lead to its own mount, which we do not know.
                let target = String::from_utf8_lossy(&found.content).into_owned();
                found.content = target.rsplit('/').next().unwrap().into();
                found.size = 0;
            }
        });
    }
}

/// The exFAT partition says that it has more sectors than there are, which its own driver refuses as well.
#[test]
fn a_filesystem_larger_than_its_partition_is_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let disk = raw(folder.path(), FORENSICS);
    let image = partition(folder.path(), &disk, 309_248, 81_920);
    let source: std::sync::Arc<dyn Source> = std::sync::Arc::new(HostFile::open(&image).unwrap());
    let error = dormouse_filesystem::open(&source).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("on a volume of"), "{error}");
}
