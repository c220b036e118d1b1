//! Partition tables and signatures changed at random: none makes the search panic, hang, or leave its disk.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests write files")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "../../disk/tests/oracle/mod.rs"]
mod oracle;

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use dormouse_block::{Bytes, Source};
use dormouse_volume::{DiskInput, volumes};
use oracle::{Random, fixtures, output};

const LEN: u64 = 3 << 20;

fn partitioned(script: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    std::fs::File::create(&path).unwrap().set_len(LEN).unwrap();
    let mut child = Command::new("sfdisk")
        .args(["-q", "--no-reread", path.to_str().unwrap()])
        .stdin(Stdio::piped())
        .spawn()
        .expect("the oracle sfdisk is required");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
    std::fs::read(&path).unwrap()
}

/// A right checksum over whatever the header says now, so that mutations reach what lies behind it.
fn seal(disk: &mut [u8]) {
    let count = u32::from_le_bytes(disk[512 + 80..512 + 84].try_into().unwrap());
    let size = u32::from_le_bytes(disk[512 + 84..512 + 88].try_into().unwrap());
    let at = u64::from_le_bytes(disk[512 + 72..512 + 80].try_into().unwrap());
    let range = usize::try_from(at)
        .ok()
        .and_then(|at| at.checked_mul(512))
        .zip(usize::try_from(u64::from(count) * u64::from(size)).ok())
        .and_then(|(at, len)| disk.get(at..at.checked_add(len)?));
    if let Some(entries) = range {
        let crc = crc32fast::hash(entries);
        disk[512 + 88..512 + 92].copy_from_slice(&crc.to_le_bytes());
    }
    disk[512 + 16..512 + 20].fill(0);
    let crc = crc32fast::hash(&disk[512..512 + 92]);
    disk[512 + 16..512 + 20].copy_from_slice(&crc.to_le_bytes());
}

/// A fixed number of them: `DORMOUSE_FUZZ_RUNS` makes it more.
#[test]
fn mutated_tables_never_panic_and_never_leave_their_disk() {
    let runs: u64 = std::env::var("DORMOUSE_FUZZ_RUNS").map_or(6000, |runs| runs.parse().unwrap());
    let gpt = partitioned("label: gpt\nstart=34,size=100\nsize=1000,name=root\nsize=500\n");
    let mbr = partitioned("label: dos\nsize=500\nsize=500\ntype=5\nsize=300\nsize=300\nsize=300\n");
    let extended = usize::try_from(u32::from_le_bytes(
        mbr[446 + 40..446 + 44].try_into().unwrap(),
    ))
    .unwrap()
        * 512;
    let mut random = Random(0x5eed);
    let pick = |random: &mut Random, bound: usize| {
        usize::try_from(random.below(u64::try_from(bound).unwrap())).unwrap()
    };
    let mut found = 0;
    for run in 0..runs {
        let of_gpt = run % 2 == 0;
        let mut disk = if of_gpt { gpt.clone() } else { mbr.clone() };
        for _ in 0..=random.below(5) {
            let at = match (of_gpt, random.below(3)) {
                (true, 0) => 512 + pick(&mut random, 92),
                (true, 1) => 1024 + pick(&mut random, 400),
                (_, 2) => 440 + pick(&mut random, 72),
                _ => extended + pick(&mut random, 3000),
            };
            disk[at] = random.next().to_le_bytes()[0];
        }
        if of_gpt && random.below(4) != 0 {
            seal(&mut disk);
        }
        if random.below(50) == 0 {
            let len = pick(&mut random, disk.len());
            disk.truncate(len);
        }
        let len = u64::try_from(disk.len()).unwrap();
        let map = volumes(&[DiskInput::new("disk0", Arc::new(Bytes::new(disk)))]);
        for volume in &map.volumes {
            assert!(volume.info.start + volume.info.size <= len);
            assert_eq!(volume.source.len(), volume.info.size);
            found += u64::from(volume.info.partition.is_some());
        }
        // Nothing disappears: what is not a volume is a gap, or the table is empty.
        assert!(map.gaps.iter().all(|gap| gap.may_hide_packages));
    }
    assert!(found > runs, "only {found} partitions survived");
}

#[test]
fn mutated_superblocks_never_panic() {
    let folder = fixtures().join("fs-misc/util-linux-blkid/images-fs");
    let mut random = Random(0xface);
    for name in [
        "ext4",
        "mdraid-1",
        "zfs",
        "udf",
        "xfs-log",
        "squashfs4",
        "small-fat32",
        "lvm2",
        "swap1",
        "via-raid",
    ] {
        let packed = folder.join(format!("{name}.img.xz"));
        let out = output("xz", &["-dc", packed.to_str().unwrap()]);
        assert!(out.status.success(), "{name}");
        let sound = out.stdout;
        for _ in 0..60 {
            let mut bytes = sound.clone();
            for _ in 0..40 {
                let at = random.below(u64::try_from(bytes.len()).unwrap().min(70_000));
                bytes[usize::try_from(at).unwrap()] = random.next().to_le_bytes()[0];
            }
            let len = random.below(u64::try_from(bytes.len()).unwrap());
            if random.below(3) == 0 {
                bytes.truncate(usize::try_from(len).unwrap());
            }
            let map = volumes(&[DiskInput::new("disk0", Arc::new(Bytes::new(bytes)))]);
            assert!(map.volumes.len() + map.gaps.len() > 0);
        }
    }
}
