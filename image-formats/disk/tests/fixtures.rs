//! Every disk image of the independent fixtures: it opens and reads as QEMU reads it, or is refused by name.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests write files")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod oracle;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dormouse_block::{Digest, ErrorKind, Source, digest_of};
use dormouse_disk::{ACTIVE, FormatName};
use oracle::{assert_sparse, fixtures, open, output, run};

/// What becomes of each file: `Ok(format)`, or the kind of error and a word of its message.
type Expected = Result<&'static str, (ErrorKind, &'static str)>;

const fn not_read(name: &'static str) -> Expected {
    Err((ErrorKind::Unsupported, name))
}

const EXPECTED: &[(&str, Expected)] = &[
    ("DiscUtils/btrfs.vhdx", Ok("vhdx")),
    ("DiscUtils/swap.vhdx", Ok("vhdx")),
    ("DiscUtils/xfs5.vhdx", Ok("vhdx")),
    ("dfvfs/ext2.qcow2", Ok("qcow2")),
    ("dfvfs/ext2.vhd", Ok("vhd")),
    ("dfvfs/ext2.vmdk", Ok("vmdk")),
    ("dfvfs/ntfs-dynamic.vhdx", Ok("vhdx")),
    ("dfvfs/ntfs-fixed.vhdx", Ok("vhdx")),
    (
        "dissect.hypervisor/qcow2/backing-chain-1.qcow2",
        Ok("qcow2"),
    ),
    (
        "dissect.hypervisor/qcow2/backing-chain-2.qcow2",
        Ok("qcow2"),
    ),
    (
        "dissect.hypervisor/qcow2/backing-chain-3.qcow2",
        Ok("qcow2"),
    ),
    ("dissect.hypervisor/qcow2/basic.qcow2", Ok("qcow2")),
    ("dissect.hypervisor/vhd/dynamic.vhd", Ok("vhd")),
    ("dissect.hypervisor/vhd/fixed.vhd", Ok("vhd")),
    ("dissect.hypervisor/vhdx/dynamic.vhdx", Ok("vhdx")),
    // Named as raw disks and not raw: whoever means it must say so.
    (
        "go-vmdk-parser/vmdk-invalid.img",
        Err((ErrorKind::Denied, "vmdk")),
    ),
    (
        "go-vmdk-parser/vmdk-monolith.img",
        Err((ErrorKind::Denied, "vmdk")),
    ),
    (
        "go-vmdk-parser/vmdk-streamoptimized.img",
        Err((ErrorKind::Denied, "vmdk")),
    ),
    ("libguestfs/mbr-ext2-empty.img", Ok("raw")),
    ("osv-scalibr/valid-ext-exfat-fat32-ntfs.qcow2", Ok("qcow2")),
    ("osv-scalibr/valid-ext-exfat-fat32-ntfs.vmdk", Ok("vmdk")),
    ("qemu-iotests/afl5.img", Err((ErrorKind::Denied, "vhd"))),
    ("qemu-iotests/empty.bochs", not_read("bochs")),
    ("qemu-iotests/grub_mbr.raw", Ok("raw")),
    ("qemu-iotests/hyperv2012r2-dynamic.vhd", Ok("vhd")),
    ("qemu-iotests/iotest-dynamic-1G.vhdx", Ok("vhdx")),
    ("qemu-iotests/parallels-v1", Ok("parallels")),
    ("qemu-iotests/parallels-v2", Ok("parallels")),
    ("qemu-iotests/parallels-with-bitmap", Ok("parallels")),
    ("qemu-iotests/simple-dmg.dmg", not_read("dmg")),
    ("qemu-iotests/simple-pattern.cloop", not_read("cloop")),
    ("qemu-iotests/test-disk2vhd.vhdx", Ok("vhdx")),
    ("qemu-iotests/virtualpc-dynamic.vhd", Ok("vhd")),
    ("sleuthkit/image.dd", Ok("raw")),
    ("sleuthkit/image.qcow", Ok("qcow")),
    ("sleuthkit/image.vhd", Ok("vhd")),
    ("sleuthkit/image.vmdk", Ok("vmdk")),
    ("vhd-crate/minimal.vhd", Ok("vhd")),
    ("vhd-crate/ntfs_fixed.vhd", Ok("vhd")),
];

/// Unpacks all disk images into `folder`, keeping their names, so that chains find each other.
fn unpack(from: &Path, folder: &Path, names: &mut BTreeMap<String, PathBuf>, prefix: &str) {
    let mut entries: Vec<_> = std::fs::read_dir(from)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            let inner = folder.join(&name);
            std::fs::create_dir(&inner).unwrap();
            unpack(&entry.path(), &inner, names, &format!("{prefix}{name}/"));
            continue;
        }
        let (program, plain) = match name.rsplit_once('.') {
            Some((plain, "gz")) => ("gzip", plain),
            Some((plain, "bz2")) => ("bzip2", plain),
            Some((plain, "zst")) => ("zstd", plain),
            _ => ("cat", name.as_str()),
        };
        let path = entry.path();
        let args = match program {
            "cat" => vec![path.to_str().unwrap()],
            _ => vec!["-dc", path.to_str().unwrap()],
        };
        let out = output(program, &args);
        assert!(out.status.success(), "{name}");
        let target = folder.join(plain);
        std::fs::write(&target, out.stdout).unwrap();
        names.insert(format!("{prefix}{plain}"), target);
    }
}

#[test]
fn every_fixture_opens_as_qemu_reads_it_or_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut names = BTreeMap::new();
    unpack(
        &fixtures().join("disk-formats"),
        folder.path(),
        &mut names,
        "",
    );
    let expected: BTreeMap<_, _> = EXPECTED.iter().copied().collect();
    let listed: Vec<_> = expected.keys().map(|name| (*name).to_owned()).collect();
    assert_eq!(names.keys().cloned().collect::<Vec<_>>(), listed);
    for (name, path) in &names {
        let result = open(path, None);
        match expected[name.as_str()] {
            Ok(format) => {
                let image =
                    result.unwrap_or_else(|error| panic!("{name}: {}", error.with_causes()));
                assert_eq!(image.format().as_str(), format, "{name}");
                let raw = folder.path().join("out.raw");
                run(
                    "qemu-img",
                    &[
                        "convert",
                        "-f",
                        if format == "vhd" { "vpc" } else { format },
                        "-O",
                        "raw",
                        path.to_str().unwrap(),
                        raw.to_str().unwrap(),
                    ],
                );
                let source = image.open_point(ACTIVE).unwrap();
                assert_sparse(&*source, &raw, name);
            }
            Err((kind, word)) => {
                let Err(error) = result else {
                    panic!("{name} opened");
                };
                assert_eq!(error.kind(), kind, "{name}: {error}");
                assert!(error.to_string().contains(word), "{name}: {error}");
            }
        }
    }
}

#[test]
fn the_chain_of_three_merges_as_its_makers_say() {
    let folder = tempfile::tempdir().unwrap();
    let mut names = BTreeMap::new();
    let from = fixtures().join("disk-formats/dissect.hypervisor/qcow2");
    unpack(&from, folder.path(), &mut names, "");
    let chain: Vec<_> = (1..=3)
        .map(|n| folder.path().join(format!("backing-chain-{n}.qcow2")))
        .collect();
    let opened: Vec<_> = chain.iter().map(|path| open(path, None).unwrap()).collect();
    let lengths: Vec<_> = opened.iter().map(|image| image.files().len()).collect();
    assert!(lengths.contains(&3), "{lengths:?}");
    let top = &opened[lengths.iter().position(|len| *len == 3).unwrap()];
    let source = top.open_point(ACTIVE).unwrap();
    let mut seen = Vec::new();
    for mib in 0..5_u64 {
        let mut text = [0; 32];
        source.read_exact_at(mib << 20, &mut text).unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        seen.push(text.trim_end_matches('\0').trim_end().to_owned());
    }
    assert!(
        seen.iter().any(|text| text.contains("Nothing here")),
        "{seen:?}"
    );
    assert!(
        seen.iter().any(|text| text.contains("Something here")),
        "{seen:?}"
    );
}

#[test]
fn a_saved_machine_of_libvirt_is_refused_by_name_and_its_disk_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut names = BTreeMap::new();
    let from = fixtures().join("saved-state/libvirt");
    unpack(&from, folder.path(), &mut names, "");
    let error = open(&names["save-raw.img"], None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(
        error.to_string().contains("libvirt saved machine"),
        "{error}"
    );
    let renamed = folder.path().join("web.save");
    std::fs::rename(&names["save-raw.img"], &renamed).unwrap();
    let error = open(&renamed, None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.to_string().contains("libvirt saved machine"),
        "{error}"
    );
    let disk = &names["disk-at-save-raw.qcow2"];
    let raw = folder.path().join("out.raw");
    run(
        "qemu-img",
        &[
            "convert",
            "-O",
            "raw",
            disk.to_str().unwrap(),
            raw.to_str().unwrap(),
        ],
    );
    let source = open(disk, None).unwrap().open_point(ACTIVE).unwrap();
    assert!(digest_of(&*source).unwrap() == Digest::of(std::fs::read(&raw).unwrap()));
}

#[test]
fn wrapped_images_are_refused_by_what_wraps_them() {
    let folder = fixtures().join("disk-formats");
    for (name, word) in [
        ("dfvfs/ext2.qcow2.zst", "zstd"),
        ("dissect.hypervisor/qcow2/basic.qcow2.gz", "gzip"),
        ("qemu-iotests/afl5.img.bz2", "bzip2"),
    ] {
        let error = open(&folder.join(name), None).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(word), "{error}");
    }
    assert!(FormatName::parse("vpc").is_ok_and(|format| format.as_str() == "vhd"));
    assert!(FormatName::parse("floppy").is_err());
}
