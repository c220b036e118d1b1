//! The signatures against libblkid's own expected answers for its own images.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests write files")]

#[path = "../../disk/tests/oracle/mod.rs"]
mod oracle;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use dormouse_block::{Bytes, Source};
use dormouse_volume::{DiskInput, identify, volumes};
use oracle::{fixtures, output, run};

/// An image as upstream packed it, unpacked in memory.
pub fn unpacked(path: &Path) -> Vec<u8> {
    let program = match path.extension().and_then(|name| name.to_str()) {
        Some("xz") => "xz",
        Some("gz") => "gzip",
        Some("bz2") => "bzip2",
        Some("zst") => "zstd",
        _ => return std::fs::read(path).unwrap(),
    };
    let out = output(program, &["-dc", path.to_str().unwrap()]);
    assert!(out.status.success(), "{}", path.display());
    out.stdout
}

#[test]
fn every_image_of_libblkid_gets_the_name_that_libblkid_gives_it() {
    let folder = fixtures().join("fs-misc/util-linux-blkid");
    let mut wrong = BTreeMap::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.join("expected")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let Some(name) = name.strip_prefix("low-probe-") else {
            continue;
        };
        let image = folder.join(format!("images-fs/{name}.img.xz"));
        if !image.is_file() {
            // Sessions of one disc, probed at offsets that only upstream's script knows.
            assert!(name.contains("-multi-"), "{name} has no image");
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let expected = text
            .lines()
            .find_map(|line| line.strip_prefix("ID_FS_TYPE="))
            .unwrap_or("")
            .to_owned();
        let source = Bytes::new(unpacked(&image));
        let found = identify(&source).unwrap();
        let kind = found.as_ref().map_or("", |found| found.kind.as_str());
        seen += 1;
        // What cannot hold packages is a short list; the rest, known or not, may.
        let harmless = [
            "swap",
            "swsuspend",
            "jbd",
            "xfs_external_log",
            "vfat",
            "exfat",
            "zonefs",
        ];
        if let Some(found) = &found {
            assert_eq!(found.may_hold_packages, !harmless.contains(&kind), "{name}");
        }
        if kind != expected {
            wrong.insert(name.to_owned(), format!("{kind:?} instead of {expected:?}"));
        }
    }
    assert!(seen > 100, "only {seen} images were there");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_hibernated_system_is_known_by_its_swap() {
    let dir = tempfile::tempdir().unwrap();
    let swap = dir.path().join("swap");
    std::fs::File::create(&swap)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    run("mkswap", &["-q", swap.to_str().unwrap()]);
    let mut bytes = std::fs::read(&swap).unwrap();
    let cold = identify(&Bytes::new(bytes.clone())).unwrap().unwrap();
    assert_eq!((cold.kind.as_str(), cold.hibernated), ("swap", false));
    assert!(!cold.may_hold_packages);
    // What the kernel writes in its place when it suspends (kernel/power/swap.c).
    bytes[0xff6..0xff6 + 10].copy_from_slice(b"S1SUSPEND\0");
    let asleep = identify(&Bytes::new(bytes)).unwrap().unwrap();
    assert!(asleep.hibernated);
}

#[test]
fn an_unreplayed_journal_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("ext4");
    std::fs::File::create(&disk)
        .unwrap()
        .set_len(8 << 20)
        .unwrap();
    run("mke2fs", &["-q", "-t", "ext4", disk.to_str().unwrap()]);
    let read = || {
        identify(&Bytes::new(std::fs::read(&disk).unwrap()))
            .unwrap()
            .unwrap()
    };
    assert!(!read().unclean);
    run(
        "debugfs",
        &[
            "-w",
            "-R",
            "feature +needs_recovery",
            disk.to_str().unwrap(),
        ],
    );
    assert!(read().unclean);
}

#[test]
fn an_unreadable_beginning_is_a_gap_and_not_an_unknown_volume() {
    struct Broken;
    impl Source for Broken {
        fn len(&self) -> u64 {
            1 << 20
        }
        fn read_exact_at(&self, _: u64, _: &mut [u8]) -> dormouse_block::Result<()> {
            Err(dormouse_block::Error::corrupt("cut"))
        }
    }
    let map = volumes(&[DiskInput::new("disk0", Arc::new(Broken))]);
    assert!(!map.gaps.is_empty());
    assert!(map.gaps.iter().all(|gap| gap.may_hide_packages));
}
