//! exFAT against exfat-fuse and exfatprogs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{Bytes, ErrorKind, Source};
use dormouse_filesystem::exfat::Exfat;
use dormouse_filesystem::{Filesystem, Left};

use crate::walk::{compare, open, walk, walk_host};
use crate::{Mounted, empty, hostile, must};

fn made(folder: &Path, name: &str, options: &str, mib: u64) -> PathBuf {
    let image = empty(folder, name, mib << 20);
    let mut args: Vec<&str> = options.split_whitespace().collect();
    args.extend(["-L", "Größe", image.to_str().unwrap()]);
    must("mkfs.exfat", &args);
    image
}

/// exfat-fuse asks for a block device.
pub fn mounted(image: &Path, options: &str) -> Mounted {
    let options = format!("loop,{options}");
    Mounted::by("mount", image, &["-t", "exfat-fuse", "-o", &options])
}

fn noise(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|n| (n.wrapping_mul(seed + 7) >> 5) as u8)
        .collect()
}

fn populate(root: &Path, names: usize) {
    for n in 0..names {
        fs::write(
            root.join(format!("a rather long name {n}.txt")),
            noise(n, n * 37),
        )
        .unwrap();
    }
    for n in (0..names).step_by(2) {
        fs::remove_file(root.join(format!("a rather long name {n}.txt"))).unwrap();
    }
    // Into the gaps: clusters that do not follow each other.
    fs::write(root.join("fragmented"), noise(3, 600_000)).unwrap();
    fs::create_dir_all(root.join("Ünïcödé/日本語/😀")).unwrap();
    fs::write(root.join("Ünïcödé/日本語/😀/x"), "deep").unwrap();
    for name in [&"x".repeat(255), "empty"] {
        fs::write(root.join(name), "").unwrap();
    }
    must(
        "touch",
        &[
            "-d",
            "2024-02-29 23:59:57",
            root.join("empty").to_str().unwrap(),
        ],
    );
}

#[test]
fn every_cluster_size_reads_as_exfat_fuse_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options, mib, names) in [
        ("512", "-c 512", 6, 300),
        ("4k", "-c 4096", 16, 200),
        ("128k", "-c 131072", 64, 40),
    ] {
        let image = made(folder.path(), name, options, mib);
        {
            let mounted = mounted(&image, "allow_other,umask=000");
            populate(mounted.path(), names);
        }
        let mounted = mounted(&image, "ro,allow_other");
        let theirs = walk_host(mounted.path());
        drop(mounted);
        let tree = open(&image);
        let ours = walk(&*tree).unwrap_or_else(|error| panic!("{name}: {}", error.with_causes()));
        assert!(ours.len() > 20);
        compare(name, &ours, &theirs, &|found| {
            found.mode = 0;
            found.owner = (0, 0);
            found.links = 1;
            // exfat-fuse knows whole seconds.
            found.mtime.1 = 0;
        });
        let info = tree.info();
        assert_eq!(
            (info.kind.as_str(), info.label.as_deref()),
            ("exfat", Some("Größe"))
        );
        let serial = must("exfatlabel", &["-i", image.to_str().unwrap()]);
        let serial = serial.rsplit("0x").next().unwrap().trim().to_owned();
        let number = |hex: &str| u32::from_str_radix(hex, 16).unwrap();
        assert_eq!(
            number(&info.uuid.unwrap().replace('-', "")),
            number(&serial)
        );
        let dump = must("dump.exfat", &[image.to_str().unwrap()]);
        let number = |name: &str| -> u64 {
            let line = dump.lines().find(|line| line.trim().starts_with(name));
            let line = line.unwrap_or_else(|| panic!("{name}: {dump}"));
            line.split_whitespace().last().unwrap().parse().unwrap()
        };
        let cluster: u64 = name.trim_end_matches('k').parse::<u64>().unwrap()
            * if name.ends_with('k') { 1024 } else { 1 };
        assert_eq!(info.free, number("Free Clusters:") * cluster, "{name}");
        let found = tree
            .lookup(tree.root(), "üNÏCÖDÉ".as_bytes())
            .unwrap()
            .unwrap();
        assert_eq!(found.name, "Ünïcödé".as_bytes());
        assert!(tree.lookup(tree.root(), b"none").unwrap().is_none());
        assert_eq!(tree.left(), Left::Clean);
        let touched = tree.lookup(tree.root(), b"empty").unwrap().unwrap();
        assert_eq!(
            tree.metadata(touched.node).unwrap().mtime.seconds,
            1_709_251_197
        );
    }
}

/// The places of the entry sets of files whose first data cluster is not 0.
fn changed(bytes: &mut [u8], name: &str, change: &dyn Fn(&mut [u8])) {
    let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let at = (2..bytes.len() / 32)
        .map(|n| n * 32)
        .find(|at| bytes[*at] == 0xC1 && bytes[*at + 2..].starts_with(&units))
        .unwrap()
        - 64;
    let len = (usize::from(bytes[at + 1]) + 1) * 32;
    let set = &mut bytes[at..at + len];
    change(set);
    let sum = set
        .iter()
        .enumerate()
        .fold(0_u16, |sum, (nth, byte)| match nth {
            2 | 3 => sum,
            _ => sum.rotate_right(1).wrapping_add(u16::from(*byte)),
        });
    set[2..4].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn what_was_never_written_is_zeroes_and_damage_is_found_by_checksums() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "valid", "-c 4096", 8);
    {
        let mounted = mounted(&image, "allow_other,umask=000");
        fs::write(mounted.path().join("valid"), vec![b'v'; 10_000]).unwrap();
    }
    let sound = fs::read(&image).unwrap();
    let tree_of = |bytes: &[u8]| {
        let volume: Arc<dyn Source> = Arc::new(Bytes::new(bytes));
        Exfat.open(volume)
    };
    let mut bytes = sound.clone();
    changed(&mut bytes, "valid", &|set| {
        set[40..48].copy_from_slice(&6000_u64.to_le_bytes());
    });
    let tree = tree_of(&bytes).unwrap();
    let node = tree.lookup(tree.root(), b"VALID").unwrap().unwrap().node;
    let mut read = vec![7; 10_000];
    assert_eq!(tree.read_at(node, 0, &mut read).unwrap(), 10_000);
    assert!(
        read[..6000].iter().all(|byte| *byte == b'v') && read[6000..].iter().all(|byte| *byte == 0)
    );
    // A set whose checksum is wrong.
    let mut bytes = sound.clone();
    changed(&mut bytes, "valid", &|_| {});
    let at = bytes
        .windows(10)
        .position(|part| part == b"v\0a\0l\0i\0d\0")
        .unwrap();
    bytes[at] = b'w';
    // It is in the root, which is read when the volume is opened.
    let error = tree_of(&bytes).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("wrong checksum"), "{error}");
    // A broken boot sector is read from its copy; without that it is refused.
    let mut bytes = sound.clone();
    bytes[100] ^= 1;
    assert!(tree_of(&bytes).is_ok());
    bytes[12 * 512 + 100] ^= 1;
    assert!(tree_of(&bytes).is_err());
    // The dirty flag is not in the checksum.
    let mut bytes = sound;
    bytes[106] |= 2;
    assert!(matches!(tree_of(&bytes).unwrap().left(), Left::Unclean(_)));
}

#[test]
fn mutated_images_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "a", "-c 512 -b 65536", 2);
    {
        let mounted = mounted(&image, "allow_other,umask=000");
        populate(mounted.path(), 40);
    }
    let bytes = fs::read(&image).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let table = word(80) * 512;
    let root = word(88) * 512 + (word(96) - 2) * 512;
    hostile::mutate(&Exfat, &[bytes], &[(table, 4096), (root, 512)]);
}
