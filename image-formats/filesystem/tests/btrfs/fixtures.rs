//! Images that others collected: broken ones of btrfs-progs, each with what is to come of it, and sound ones.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use dormouse_block::{Bytes, ErrorKind, Result, Source};
use dormouse_filesystem::{Filesystem, btrfs::Btrfs};

use crate::hostile::{Reads, read_all};
use crate::oracle::{must, seen_by_us};

/// Bytes of an image that are unpacked.
const BEGINNING: u64 = 100 << 20;

pub fn fixtures() -> PathBuf {
    let folder = std::env::var_os("DORMOUSE_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    );
    assert!(
        folder.is_dir(),
        "the fixtures are missing: set DORMOUSE_FIXTURES to their folder"
    );
    folder
}

fn images(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            images(&path, out);
        } else {
            out.push(path);
        }
    }
}

/// Unpacks the beginning of `packed`, without its zeroes; all that was ever written lies there.
fn unpack(packed: &Path, plain: &Path) {
    let packed = packed.to_str().unwrap();
    let sizes = must("xz", &["-l", "--robot", packed]);
    let size = sizes.lines().find(|line| line.starts_with("file")).unwrap();
    let size: u64 = size.split('\t').nth(4).unwrap().parse().unwrap();
    let mut xz = Command::new("xz")
        .args(["-dc", packed])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let file = fs::File::create(plain).unwrap();
    let mut from = xz.stdout.take().unwrap().take(BEGINNING);
    let mut block = vec![0; 1 << 16];
    for nth in 0.. {
        let mut part = Vec::new();
        from.by_ref()
            .take(block.len() as u64)
            .read_to_end(&mut part)
            .unwrap();
        if part.is_empty() {
            break;
        }
        block[..part.len()].copy_from_slice(&part);
        if part.iter().any(|byte| *byte != 0) {
            file.write_all_at(&block[..part.len()], nth << 16).unwrap();
        }
    }
    file.set_len(size).unwrap();
    drop(from);
    // It is stopped before its end where the image is longer.
    let _ = xz.kill();
    xz.wait().unwrap();
}

/// Unpacks one fixture to `scratch` and, where it is a dump of metadata, makes an image of it.
fn restore(packed: &Path, scratch: &Path) -> Vec<PathBuf> {
    let name = packed.file_name().unwrap().to_str().unwrap();
    let plain = scratch.join(name.trim_end_matches(".xz"));
    if name.ends_with(".xz") {
        unpack(packed, &plain);
    } else {
        fs::copy(packed, &plain).unwrap();
    }
    if name.contains(".tar") {
        let before = plain.to_str().unwrap();
        must("tar", &["-xf", before, "-C", scratch.to_str().unwrap()]);
        fs::remove_file(&plain).unwrap();
        let mut all = Vec::new();
        images(scratch, &mut all);
        return all;
    }
    let mut head = [0; 8];
    fs::File::open(&plain)
        .unwrap()
        .read_exact(&mut head)
        .unwrap();
    // The dump's own magic number, little-endian.
    if u64::from_le_bytes(head) == 0xBD5C_25E2_7295_668B {
        let image = scratch.join("image");
        must(
            "btrfs-image",
            &["-r", plain.to_str().unwrap(), image.to_str().unwrap()],
        );
        return vec![image];
    }
    vec![plain]
}

fn outcome(image: &Path) -> Result<usize> {
    let tree = Btrfs.open(crate::oracle::source(image))?;
    // A dump of metadata has no data.
    let dump = tree
        .info()
        .features
        .iter()
        .any(|name| name.starts_with("metadump"));
    tree.subvolumes()?;
    read_all(&*tree, if dump { Reads::Names } else { Reads::All })
}

fn said(result: &Result<usize>) -> String {
    match result {
        Ok(names) => format!("{names} names"),
        Err(error) => format!("{}: {}", error.kind().as_str(), error.with_causes()),
    }
}

#[test]
fn broken_images_of_btrfs_progs_end_as_listed() {
    let root = fixtures().join("fs-btrfs/btrfs-progs");
    let mut all = Vec::new();
    images(&root, &mut all);
    all.sort();
    let mut found = BTreeMap::new();
    for packed in all {
        let scratch = tempfile::tempdir().unwrap();
        let name = packed
            .strip_prefix(&root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        if name.ends_with(".stream.xz") {
            // What `btrfs send` wrote is no filesystem.
            continue;
        }
        for image in restore(&packed, scratch.path()) {
            let result = outcome(&image);
            if let Err(error) = &result {
                let kind = error.kind();
                assert!(
                    matches!(
                        kind,
                        ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::Limit
                    ),
                    "{name}: {error}"
                );
            }
            found.insert(name.clone(), said(&result));
        }
    }
    for (name, said) in &found {
        println!("(\"{name}\", \"{said}\"),");
    }
    let wanted: BTreeMap<String, String> = EXPECTED
        .iter()
        .map(|(name, said)| ((*name).to_owned(), (*said).to_owned()))
        .collect();
    assert_eq!(found, wanted);
}

/// What comes of each: the names that were read, or the error.
const EXPECTED: &[(&str, &str)] = &[];

fn gunzip(path: &Path) -> Arc<dyn Source> {
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(&fs::read(path).unwrap()[..])
        .read_to_end(&mut out)
        .unwrap();
    Arc::new(Bytes::new(out))
}

#[test]
fn sound_images_read_whole() {
    for (name, subvolumes) in [
        ("btrfs-default", 1),
        ("btrfs-subvolume", 2),
        ("btrfs-subvolume-snapshot", 3),
    ] {
        let path = fixtures().join(format!("fs-btrfs/dissect.btrfs/{name}.bin.gz"));
        let tree = Btrfs.open(gunzip(&path)).unwrap();
        let seen = seen_by_us(&*tree).unwrap();
        let list = tree.subvolumes().unwrap();
        println!("{name}: {} names, {list:#?}", seen.len());
        assert_eq!(list.len(), subvolumes, "{name}");
        for one in list {
            seen_by_us(&*tree.subvolume(one.id).unwrap()).unwrap();
        }
    }
}

/// A disk made by another implementation: VHDX, GPT, btrfs.
#[test]
fn a_partition_of_a_disk_of_discutils_reads_whole() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let packed = fixtures().join("disk-formats/DiscUtils/btrfs.vhdx.gz");
    let mut vhdx = Vec::new();
    flate2::read::MultiGzDecoder::new(&fs::read(packed).unwrap()[..])
        .read_to_end(&mut vhdx)
        .unwrap();
    fs::write(path("disk.vhdx"), vhdx).unwrap();
    must(
        "qemu-img",
        &[
            "convert",
            "-O",
            "raw",
            &path("disk.vhdx"),
            &path("disk.raw"),
        ],
    );
    let disk = crate::oracle::source(Path::new(&path("disk.raw")));
    let map = dormouse_volume::volumes(&[dormouse_volume::DiskInput::new("disk0", disk)]);
    let mut read = 0;
    for volume in map.volumes {
        if Btrfs.probe(&volume.source).unwrap() {
            let tree = Btrfs.open(volume.source).unwrap();
            let seen = seen_by_us(&*tree).unwrap();
            println!(
                "{:?} {:#?}",
                tree.info(),
                seen.keys()
                    .map(|name| String::from_utf8_lossy(name))
                    .collect::<Vec<_>>()
            );
            assert!(seen.len() > 3);
            read += 1;
        }
    }
    assert_eq!(read, 1);
}
