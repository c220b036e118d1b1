//! Partition tables against sfdisk, fdisk and libblkid's expected answers, and against damage.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(clippy::indexing_slicing, clippy::disallowed_methods, reason = "tests")]

#[path = "../../disk/tests/oracle/mod.rs"]
mod oracle;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use dormouse_block::{Bytes, ErrorKind, HostFile, Source};
use dormouse_volume::{DiskInput, VolumeMap, volumes};
use oracle::{fixtures, output, run};

/// Number, first byte, bytes, type, name, `PARTUUID` (GPT only).
type Row = (u32, u64, u64, String, Option<String>, Option<String>);

fn map_of(bytes: Vec<u8>) -> VolumeMap {
    volumes(&[DiskInput::new("disk0", Arc::new(Bytes::new(bytes)))])
}

fn map_file(path: &Path) -> VolumeMap {
    volumes(&[DiskInput::new(
        "disk0",
        Arc::new(HostFile::open(path).unwrap()),
    )])
}

/// A blank disk that sfdisk partitions by `script`.
fn partitioned(path: &Path, len: u64, script: &str) {
    std::fs::File::create(path).unwrap().set_len(len).unwrap();
    let mut child = Command::new("sfdisk")
        .args(["-q", path.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the oracle sfdisk is required");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// What `sfdisk -J` says of `path`, without extended partitions: (number, start, size, type, name, uuid).
fn sfdisk(path: &Path) -> Vec<Row> {
    let text = run("sfdisk", &["-J", path.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let table = &json["partitiontable"];
    let sector = table["sectorsize"].as_u64().unwrap_or(512);
    let gpt = table["label"] == "gpt";
    let mut rows = Vec::new();
    for row in table["partitions"].as_array().unwrap() {
        let node = row["node"].as_str().unwrap();
        let number = node[path.to_str().unwrap().len()..]
            .trim_start_matches('p')
            .parse()
            .unwrap();
        let kind = row["type"].as_str().unwrap();
        if !gpt && matches!(kind, "5" | "f" | "85") {
            continue;
        }
        let kind = if gpt {
            kind.to_lowercase()
        } else {
            format!("{:#04x}", u8::from_str_radix(kind, 16).unwrap())
        };
        rows.push((
            number,
            row["start"].as_u64().unwrap() * sector,
            row["size"].as_u64().unwrap() * sector,
            kind,
            row["name"].as_str().map(str::to_owned),
            row["uuid"].as_str().map(str::to_lowercase),
        ));
    }
    rows
}

fn ours(map: &VolumeMap) -> Vec<Row> {
    map.volumes
        .iter()
        .map(|volume| {
            let partition = volume.info.partition.clone().unwrap();
            assert_eq!(volume.source.len(), volume.info.size);
            let uuid = (volume.info.system == "gpt")
                .then_some(partition.uuid)
                .flatten();
            (
                partition.number,
                volume.info.start,
                volume.info.size,
                partition.kind,
                partition.label,
                uuid,
            )
        })
        .collect()
}

const GPT: &str = "label: gpt\nsize=2M,type=21686148-6449-6E6F-744E-656564454649\nsize=8M,type=U,name=\"EFI System\"\n\
                   size=20M,type=L,name=\"r\u{f6}\u{f6}t\",attrs=LegacyBIOSBootable\nstart=80M,size=4M,type=S\n";
const MBR: &str = "label: dos\nlabel-id: 0x1234abcd\nsize=8M,type=ef,bootable\nsize=20M,type=83\ntype=5\n\
                   size=4M,type=83\nsize=5M,type=82\nsize=6M,type=8e\nsize=7M,type=83\n";

#[test]
fn tables_read_as_sfdisk_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    for script in [
        GPT,
        MBR,
        "label: gpt\n",
        "label: dos\nstart=63,size=100,type=c\n",
        "label: dos\n,,f\n,4M\n,4M\n",
    ] {
        partitioned(&disk, 100 << 20, script);
        let map = map_file(&disk);
        assert!(map.gaps.is_empty(), "{script}: {:?}", map.gaps);
        assert!(map.notes.is_empty(), "{script}: {:?}", map.notes);
        if script == "label: gpt\n" {
            assert!(map.volumes.is_empty());
        } else {
            assert_eq!(ours(&map), sfdisk(&disk), "{script}");
        }
    }
    partitioned(&disk, 100 << 20, MBR);
    let names: Vec<_> = map_file(&disk)
        .volumes
        .iter()
        .map(|volume| volume.info.name.clone())
        .collect();
    assert_eq!(
        names,
        [
            "disk0/mbr1",
            "disk0/mbr2",
            "disk0/mbr5",
            "disk0/mbr6",
            "disk0/mbr7",
            "disk0/mbr8"
        ]
    );
    let boot = map_file(&disk).volumes[0].info.partition.clone().unwrap();
    assert!(boot.bootable);
    assert_eq!(boot.uuid.as_deref(), Some("1234abcd-01"));
}

#[test]
fn many_random_tables_read_as_sfdisk_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    let mut random = oracle::Random(5);
    for round in 0..20 {
        let gpt = round % 2 == 0;
        let mut script = format!("label: {}\n", if gpt { "gpt" } else { "dos" });
        let count = random.below(if gpt { 20 } else { 9 }) + 1;
        for number in 0..count {
            if !gpt && number == 3 {
                script.push_str("type=5\n");
            } else {
                script.push_str(&format!("size={}K\n", (random.below(3000) + 1) * 4));
            }
        }
        partitioned(&disk, 300 << 20, &script);
        let map = map_file(&disk);
        assert!(map.gaps.is_empty(), "{script}: {:?}", map.gaps);
        assert_eq!(ours(&map), sfdisk(&disk), "{script}");
    }
}

/// Writes the same table for sectors of 4096 bytes, which sfdisk makes only on such a device: all fields by hand.
fn gpt_of_large_sectors(len: usize) -> Vec<u8> {
    let mut disk = vec![0_u8; len];
    let sectors = len / 4096;
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[446 + 4] = 0xee;
    disk[446 + 8..446 + 12].copy_from_slice(&1_u32.to_le_bytes());
    disk[446 + 12..446 + 16].copy_from_slice(&u32::try_from(sectors - 1).unwrap().to_le_bytes());
    let mut entries = vec![0_u8; 128 * 128];
    entries[..16].copy_from_slice(&[
        0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d,
        0xe4,
    ]);
    entries[16..32].fill(7);
    entries[32..40].copy_from_slice(&256_u64.to_le_bytes());
    entries[40..48].copy_from_slice(&511_u64.to_le_bytes());
    let mut header = |lba: usize, other: usize, array: usize| {
        let at = lba * 4096;
        let field = |disk: &mut [u8], offset: usize, bytes: &[u8]| {
            disk[at + offset..at + offset + bytes.len()].copy_from_slice(bytes);
        };
        let long = |value: usize| u64::try_from(value).unwrap().to_le_bytes();
        field(&mut disk, 0, b"EFI PART\0\0\x01\0\x5c\0\0\0");
        field(&mut disk, 24, &long(lba));
        field(&mut disk, 32, &long(other));
        field(&mut disk, 40, &long(6));
        field(&mut disk, 48, &long(sectors - 6));
        field(&mut disk, 72, &long(array));
        field(&mut disk, 80, &128_u32.to_le_bytes());
        field(&mut disk, 84, &128_u32.to_le_bytes());
        field(&mut disk, 88, &crc32fast::hash(&entries).to_le_bytes());
        let crc = crc32fast::hash(&disk[at..at + 92]);
        field(&mut disk, 16, &crc.to_le_bytes());
        disk[array * 4096..array * 4096 + entries.len()].copy_from_slice(&entries);
    };
    header(1, sectors - 1, 2);
    header(sectors - 1, 1, sectors - 5);
    disk
}

#[test]
fn sectors_of_4096_bytes_are_found_out_and_agree_with_fdisk() {
    let dir = tempfile::tempdir().unwrap();
    let disk = gpt_of_large_sectors(8 << 20);
    let map = map_of(disk.clone());
    assert!(
        map.gaps.is_empty() && map.notes.is_empty(),
        "{:?} {:?}",
        map.gaps,
        map.notes
    );
    assert_eq!(map.volumes[0].info.start, 256 * 4096);
    assert_eq!(map.volumes[0].info.size, 256 * 4096);
    // The same through the backup alone.
    let mut broken = disk.clone();
    broken[4096 + 80] ^= 1;
    let map = map_of(broken);
    assert!(map.gaps.is_empty());
    assert_eq!(map.notes.len(), 1);
    assert_eq!(map.volumes[0].info.start, 256 * 4096);
    // fdisk, told the sector size, sees the same partition.
    let path = dir.path().join("disk");
    std::fs::write(&path, disk).unwrap();
    assert_eq!(fdisk_4096(&path), [(256, 256)]);
}

/// What fdisk says of a disk of large sectors: first sector and number of sectors.
fn fdisk_4096(path: &Path) -> Vec<(u64, u64)> {
    let columns = [
        "-b",
        "4096",
        "-o",
        "Start,Sectors",
        "-l",
        path.to_str().unwrap(),
    ];
    run("fdisk", &columns)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().map(str::parse);
            Some((fields.next()?.ok()?, fields.next()?.ok()?))
        })
        .collect()
}

#[test]
fn a_broken_table_is_read_from_its_backup_and_both_broken_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    partitioned(&disk, 100 << 20, GPT);
    let sound = std::fs::read(&disk).unwrap();
    let expected = sfdisk(&disk);
    for place in [512, 512 + 17, 512 + 72, 1024 + 300] {
        let mut bytes = sound.clone();
        bytes[place] ^= 0x40;
        let map = map_of(bytes);
        assert!(map.gaps.is_empty(), "{:?}", map.gaps);
        assert_eq!(map.notes.len(), 1, "{place}");
        assert_eq!(ours(&map), expected);
    }
    // The backup broken: a note, nothing hidden.
    let mut bytes = sound.clone();
    let last = bytes.len() - 512;
    bytes[last + 20] ^= 1;
    let map = map_of(bytes.clone());
    assert!(map.gaps.is_empty());
    assert_eq!(map.notes.len(), 1);
    bytes[512 + 60] ^= 1;
    let map = map_of(bytes);
    assert!(map.volumes.is_empty());
    assert_eq!(map.gaps.len(), 1);
    assert_eq!(map.gaps[0].kind, ErrorKind::Corrupt);
    assert!(map.gaps[0].may_hide_packages);
    // Cut short: the backup is gone, and a partition with it.
    let cut = sound[..82 << 20].to_vec();
    let map = map_of(cut);
    assert_eq!(map.volumes.len(), 4);
    assert!(map.volumes[3].info.truncated);
    assert_eq!(map.volumes[3].info.size, 2 << 20);
    assert_eq!(map.gaps.len(), 1);
    assert_eq!(map.gaps[0].at.volume.as_deref(), Some("disk0/gpt4"));
}

#[test]
fn overlaps_and_ranges_outside_the_disk_are_gaps_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    partitioned(
        &disk,
        100 << 20,
        "label: dos\nstart=2048,size=20480,type=83\nstart=30720,size=4096,type=83\n",
    );
    let mut bytes = std::fs::read(&disk).unwrap();
    // The second now begins within the first; a third lies outside.
    bytes[446 + 16 + 8..446 + 16 + 12].copy_from_slice(&4096_u32.to_le_bytes());
    bytes[446 + 32 + 4] = 0x83;
    bytes[446 + 32 + 8..446 + 32 + 12].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    bytes[446 + 32 + 12..446 + 32 + 16].copy_from_slice(&8_u32.to_le_bytes());
    let map = map_of(bytes);
    let named: Vec<_> = map
        .gaps
        .iter()
        .map(|gap| gap.at.volume.clone().unwrap())
        .collect();
    assert_eq!(named, ["disk0/mbr2", "disk0/mbr3"]);
    assert!(
        map.gaps[0].why.contains("overlaps partition 1"),
        "{}",
        map.gaps[0].why
    );
    assert_eq!(map.volumes.len(), 2);
}

#[test]
fn a_chain_of_logical_partitions_that_loops_ends_in_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    partitioned(&disk, 100 << 20, MBR);
    let mut bytes = std::fs::read(&disk).unwrap();
    let extended = u64::from(u32::from_le_bytes(
        bytes[446 + 32 + 8..446 + 32 + 12].try_into().unwrap(),
    ));
    let first = usize::try_from(extended * 512).unwrap();
    // The second record of the chain points back at the first.
    let next = u32::from_le_bytes(
        bytes[first + 446 + 24..first + 446 + 28]
            .try_into()
            .unwrap(),
    );
    let second = first + usize::try_from(next).unwrap() * 512;
    bytes[second + 446 + 24..second + 446 + 28].fill(0);
    let map = map_of(bytes.clone());
    assert_eq!(map.gaps.len(), 1);
    assert!(
        map.gaps[0].why.contains("leads back to itself"),
        "{}",
        map.gaps[0].why
    );
    assert_eq!(map.volumes.len(), 4);
    // And one that ends in nothing.
    bytes[second + 510] = 0;
    let map = map_of(bytes);
    assert!(map.gaps[0].why.contains("breaks"), "{}", map.gaps[0].why);
    assert_eq!(map.volumes.len(), 3);
}

#[test]
fn filesystems_without_a_table_are_the_disk_itself() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    for (program, args, kind) in [
        ("mkfs.vfat", &["-F", "32"][..], "vfat"),
        ("mkfs.vfat", &["-F", "12"], "vfat"),
        ("mke2fs", &["-q", "-t", "ext4", "-F"], "ext4"),
        ("mkswap", &["-q"], "swap"),
    ] {
        std::fs::File::create(&disk)
            .unwrap()
            .set_len(64 << 20)
            .unwrap();
        let mut all = args.to_vec();
        all.push(disk.to_str().unwrap());
        run(program, &all);
        let map = map_file(&disk);
        assert!(map.gaps.is_empty());
        assert_eq!(map.volumes.len(), 1);
        let info = &map.volumes[0].info;
        assert_eq!(
            (
                info.name.as_str(),
                info.content.as_ref().unwrap().kind.as_str()
            ),
            ("disk0", kind)
        );
        assert_eq!(info.may_hold_packages(), kind == "ext4");
    }
}

#[test]
fn several_disks_keep_their_order_and_names() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    partitioned(&disk, 100 << 20, GPT);
    let one = DiskInput::new(
        "disk0",
        Arc::new(Bytes::new(vec![1; 4096])) as Arc<dyn Source>,
    );
    let two = DiskInput::new("disk1", Arc::new(Bytes::new(std::fs::read(&disk).unwrap())));
    let map = volumes(&[one, two]);
    let names: Vec<_> = map
        .volumes
        .iter()
        .map(|volume| volume.info.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "disk0",
            "disk1/gpt1",
            "disk1/gpt2",
            "disk1/gpt3",
            "disk1/gpt4"
        ]
    );
    let json = serde_json::to_string(&map.volumes[1].info).unwrap();
    assert_eq!(
        serde_json::from_str::<dormouse_volume::VolumeInfo>(&json).unwrap(),
        map.volumes[1].info
    );
}

#[test]
fn libblkids_own_tables_read_as_it_expects() {
    let folder = fixtures().join("partitions/util-linux");
    for name in [
        "gpt",
        "dos+bsd",
        "bsd",
        "sun",
        "sgi",
        "atari-primary",
        "atari-xgm",
    ] {
        let packed = folder.join(format!("{name}.img.xz"));
        let out = output("xz", &["-dc", packed.to_str().unwrap()]);
        assert!(out.status.success());
        let map = map_of(out.stdout);
        let expected = std::fs::read_to_string(folder.join(format!("lowprobe-pt-{name}"))).unwrap();
        let rows: Vec<(u32, u64, u64)> = expected
            .lines()
            .filter_map(|line| {
                let (number, rest) = line.strip_prefix('#')?.split_once(':')?;
                let mut fields = rest.split_whitespace();
                let start: u64 = fields.next()?.parse().ok()?;
                Some((
                    number.parse().ok()?,
                    start * 512,
                    fields.next()?.parse::<u64>().ok()? * 512,
                ))
            })
            .collect();
        match name {
            "gpt" => {
                let found: Vec<_> = ours(&map)
                    .into_iter()
                    .map(|row| (row.0, row.1, row.2))
                    .collect();
                assert_eq!(found, rows, "{:?}", map.gaps);
            }
            // The label inside the second partition is not read, and said to be there.
            "dos+bsd" => {
                assert_eq!(ours(&map).len(), 1);
                assert_eq!((ours(&map)[0].1, ours(&map)[0].2), (rows[0].1, rows[0].2));
                assert_eq!(map.gaps.len(), 1);
                assert_eq!(map.gaps[0].at.volume.as_deref(), Some("disk0/mbr2"));
                assert_eq!(map.gaps[0].kind, ErrorKind::Unsupported);
            }
            // Atari's table has no magic: the disk stays one unknown volume, which may hide packages.
            "atari-primary" | "atari-xgm" => assert!(map.volumes[0].info.may_hold_packages()),
            _ => {
                assert!(map.volumes.is_empty(), "{name}");
                assert_eq!(map.gaps.len(), 1, "{name}");
                assert_eq!(map.gaps[0].kind, ErrorKind::Unsupported, "{name}");
                assert!(map.gaps[0].may_hide_packages);
            }
        }
    }
}

#[test]
fn the_tables_of_other_libraries_tests_read_as_sfdisk_reads_them() {
    for name in [
        "gptman/disk1.img",
        "gptman/disk2.img",
        "gptman/disk3.img",
        "gptman/disk4.img",
        "gptman/disk5.img",
        "mbrman/disk1.img",
        "mbrman/disk2.img",
    ] {
        let path = fixtures().join("partitions").join(name);
        let map = map_file(&path);
        let known = sfdisk(&path);
        if known.iter().any(|row| row.3 == "0xee") {
            // sfdisk takes files for disks of 512-byte sectors and sees only the protective partition.
            let found: Vec<_> = ours(&map)
                .iter()
                .map(|row| (row.1 / 4096, row.2 / 4096))
                .collect();
            assert_eq!(found, fdisk_4096(&path), "{name} {:?}", map.gaps);
        } else {
            assert_eq!(ours(&map), known, "{name} {:?}", map.gaps);
        }
    }
}
