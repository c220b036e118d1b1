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
fn broken_images_of_btrfs_progs_are_read_or_refused_by_kind() {
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
        for (nth, image) in restore(&packed, scratch.path()).into_iter().enumerate() {
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
            let key = if nth == 0 {
                name.clone()
            } else {
                format!("{name} {nth}")
            };
            found.insert(key, said(&result));
        }
    }
    for (name, said) in &found {
        println!("(\"{name}\", \"{said}\"),");
    }
    for (name, wanted) in EXPECTED {
        let said = found.get(*name).map(String::as_str).unwrap_or_default();
        assert!(said.starts_with(wanted), "{name}: {said}, not {wanted}");
    }
    assert!(found.len() >= 87, "{} images", found.len());
}

/// What comes of the dumps of metadata, which hold no data: the names that were read, or the error.
const EXPECTED: &[(&str, &str)] = &[
    (
        "fsck-tests/001-bad-file-extent-bytenr/default_case.img",
        "1 names",
    ),
    (
        "fsck-tests/002-bad-transid/default_case.img",
        "corrupt: bad generation of the tree node at 29360128",
    ),
    (
        "fsck-tests/003-shift-offsets/default_case.img",
        "corrupt: bad place of an item of the tree node at 29360128",
    ),
    ("fsck-tests/004-no-dir-index/default_case.img", "10 names"),
    (
        "fsck-tests/005-bad-item-offset/default_case.img",
        "corrupt: bad place of an item of the tree node at 29360128",
    ),
    (
        "fsck-tests/007-bad-offset-snapshots/default_case.img",
        "corrupt: bad place of an item of the tree node at 29425664",
    ),
    (
        "fsck-tests/008-bad-dir-index-name/default_case.img",
        "11 names",
    ),
    (
        "fsck-tests/009-no-dir-item-or-index/default_case.img",
        "156 names",
    ),
    (
        "fsck-tests/010-no-rootdir-inode-item/default_case.img",
        "corrupt: there is no inode 256 in subvolume 5",
    ),
    (
        "fsck-tests/011-no-inode-item/default_case.img",
        "corrupt: there is no inode 257 in subvolume 5",
    ),
    ("fsck-tests/012-leaf-corruption/good.img.xz", "1919 names"),
    (
        "fsck-tests/014-no-extent-info/no_extent_bad_dev.img",
        "1 names",
    ),
    (
        "fsck-tests/016-wrong-inode-nbytes/default_case.img.xz",
        "1 names",
    ),
    (
        "fsck-tests/017-missing-all-file-extent/default_case.img.xz",
        "1 names",
    ),
    (
        "fsck-tests/019-non-skinny-false-alert/default_case.img.xz",
        "68 names",
    ),
    (
        "fsck-tests/020-extent-ref-cases/extent_data_ref.img",
        "23 names",
    ),
    (
        "fsck-tests/020-extent-ref-cases/inline_regular_coexist.img",
        "1 names",
    ),
    (
        "fsck-tests/020-extent-ref-cases/keyed_block_ref.img",
        "69 names",
    ),
    (
        "fsck-tests/020-extent-ref-cases/keyed_data_ref.img",
        "1 names",
    ),
    (
        "fsck-tests/020-extent-ref-cases/keyed_data_ref_only.img",
        "11 names",
    ),
    (
        "fsck-tests/020-extent-ref-cases/keyed_data_ref_with_reloc_leaf.img",
        "130 names",
    ),
    (
        "fsck-tests/020-extent-ref-cases/keyed_data_ref_with_shared_leaf.img",
        "264 names",
    ),
    (
        "fsck-tests/020-extent-ref-cases/no_inline_ref.img",
        "1 names",
    ),
    (
        "fsck-tests/020-extent-ref-cases/no_skinny_ref.img",
        "0 names",
    ),
    (
        "fsck-tests/020-extent-ref-cases/ref_count_mismatch_false_alert.img",
        "5 names",
    ),
    (
        "fsck-tests/020-extent-ref-cases/shared_block_ref.img",
        "152 names",
    ),
    (
        "fsck-tests/020-extent-ref-cases/shared_data_ref.img",
        "11 names",
    ),
    (
        "fsck-tests/020-extent-ref-cases/shared_data_ref_only.img",
        "71 names",
    ),
    (
        "fsck-tests/020-extent-ref-cases/tree_reloc_for_data_reloc.img.xz",
        "1 names",
    ),
    (
        "fsck-tests/020-extent-ref-cases/tree_reloc_for_fs_tree.img.xz",
        "1 names",
    ),
    (
        "fsck-tests/021-partially-dropped-snapshot-case/dropped-snapshot.img",
        "1 names",
    ),
    (
        "fsck-tests/026-bad-dir-item-name/default_case.img.xz",
        "2 names",
    ),
    (
        "fsck-tests/029-valid-orphan-item/orphan_inode.img.xz",
        "0 names",
    ),
    (
        "fsck-tests/030-reflinked-prealloc-extents/reflinked-prealloc-extents.img.xz",
        "40 names",
    ),
    (
        "fsck-tests/032-corrupted-qgroup/qgroup_corrupted.img",
        "0 names",
    ),
    ("fsck-tests/034-bad-inode-flags/default_case.img", "3 names"),
    (
        "fsck-tests/035-inline-bad-ram-bytes/offset_by_one.img",
        "1 names",
    ),
    (
        "fsck-tests/036-bad-dev-extents/over_dev_boundary.img.xz",
        "0 names",
    ),
    (
        "fsck-tests/036-rescan-not-kicked-in/no_rescan_kicked_in.img",
        "0 names",
    ),
    (
        "fsck-tests/038-missing-one-file-extent/default_case.img",
        "1 names",
    ),
    (
        "fsck-tests/039-bad-inode-mode/bad_imodes_in_subvolume_tree.img.xz",
        "4 names",
    ),
    (
        "fsck-tests/041-invalid-root-generation/default_case.img",
        "0 names",
    ),
    (
        "fsck-tests/043-bad-inode-generation/bad_inode_geneartion.img.xz",
        "5 names",
    ),
    (
        "fsck-tests/043-bad-inode-generation/bad_inode_transid.img.xz",
        "1 names",
    ),
    (
        "fsck-tests/044-invalid-extent-item-generation/bad_extent_item_gen_for_data.img.xz",
        "1 names",
    ),
    (
        "fsck-tests/044-invalid-extent-item-generation/bad_extent_item_gen_for_tree_block.img.xz",
        "2 names",
    ),
    (
        "fsck-tests/045-overlap-csum-item/overlap_csum_item.img.xz",
        "2 names",
    ),
    (
        "fsck-tests/047-dev-bytes-used/default_case.img.xz",
        "1 names",
    ),
    ("fsck-tests/049-dir-hard-link/default.img.xz", "3 names"),
    (
        "fsck-tests/050-invalid-block-group-used/default.img.xz",
        "0 names",
    ),
    (
        "fsck-tests/051-invalid-super-bytes-used/default.img.xz",
        "0 names",
    ),
    (
        "fsck-tests/053-bad-metadata-level/default.img.xz",
        "1 names",
    ),
    ("fsck-tests/054-orphan-directory/default.img.xz", "0 names"),
    (
        "fsck-tests/058-bad-free-space-tree-entry/corrupt-free-space-tree.img.xz",
        "0 names",
    ),
    (
        "fsck-tests/061-out-of-order-inline-backref/btrfs_image.img.xz",
        "3 names",
    ),
    ("fsck-tests/063-log-missing-csum/default.img.xz", "1 names"),
    (
        "fsck-tests/064-deprecated-inode-cache/4k_nodesize.img.xz",
        "128 names",
    ),
    (
        "fsck-tests/065-valid-log-tree/already-present.img.xz",
        "1 names",
    ),
    ("fsck-tests/065-valid-log-tree/compressed.img.xz", "1 names"),
    ("fsck-tests/065-valid-log-tree/hole.img.xz", "1 names"),
    (
        "misc-tests/051-warning-rw-subvol-received-uuid/subvol-rw-recv.img",
        "2 names",
    ),
    ("misc-tests/052-seed-dirty-log/dirty_log.img.xz", "1 names"),
];

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
