//! LVM2 against lvm2 and the kernel's device mapper: every byte of every logical volume.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(clippy::indexing_slicing, clippy::disallowed_methods, reason = "tests")]
#![allow(clippy::cast_possible_truncation, reason = "tests of small numbers")]

mod kernel;
#[path = "../../disk/tests/oracle/mod.rs"]
mod oracle;

use std::sync::Arc;

use dormouse_block::{Bytes, Digest, Source, read_vec_at};
use dormouse_volume::{DiskInput, Placement, VolumeMap, volumes};
use kernel::{Kernel, Patched, Sums, source, sums};
use oracle::Random;

const MIB: u64 = 1 << 20;

/// Linear, striped, mirrored and RAID volumes over four disks.
const LAYOUTS: &str = r#"
load dm-mod dm-mirror dm-raid raid1 raid10 raid456 raid0
lvm >/tmp/log 2>&1 <<EOF || { cat /tmp/log; exit 9; }
pvcreate -q /run/disks/ubda /run/disks/ubdb /run/disks/ubdc
pvcreate -q --pvmetadatacopies 2 --dataalignment 2m /run/disks/ubdd
vgcreate -q -s 128k my-vg /run/disks/ubda /run/disks/ubdb /run/disks/ubdc /run/disks/ubdd
lvcreate -q -y -Wn -Zn -n linear -L 1m my-vg
lvcreate -q -y -Wn -Zn -n between -L 512k my-vg
lvextend -q -L +1m my-vg/linear
lvcreate -q -y -Wn -Zn -n striped-a -i 3 -I 16k -L 1536k my-vg
lvcreate -q -y -Wn -Zn -n mirror --type mirror -m1 --mirrorlog core -L 512k my-vg
lvcreate -q -y -Wn -Zn -n logged --type mirror -m1 -L 512k my-vg
lvcreate -q -y -Wn -Zn -n raid1 --type raid1 -m1 -L 512k my-vg
lvcreate -q -y -Wn -Zn -n raid0 --type raid0 -i 3 -I 8k -L 768k my-vg
lvcreate -q -y -Wn -Zn -n raid4 --type raid4 -i 2 -I 8k -L 1m my-vg
lvcreate -q -y -Wn -Zn -n raid5 --type raid5 -i 2 -I 8k -L 1m my-vg
lvcreate -q -y -Wn -Zn -n raid5la --type raid5_la -i 3 -I 8k -L 768k my-vg
lvcreate -q -y -Wn -Zn -n raid5ra --type raid5_ra -i 3 -I 4k -L 768k my-vg
lvcreate -q -y -Wn -Zn -n raid5rs --type raid5_rs -i 2 -I 8k -L 1m my-vg
lvcreate -q -y -Wn -Zn -n raid5n --type raid5_n -i 2 -I 8k -L 1m my-vg
lvcreate -q -y -Wn -Zn -n raid10 --type raid10 -i 2 -m 1 -I 8k -L 1m my-vg
lvextend -q -i 2 -I 32k -L +1m my-vg/striped-a
EOF
for lv in /dev/mapper/my--vg-*; do case $lv in *_rimage_*|*_rmeta_*|*_mimage_*|*_mlog*) ;; *) fill $lv $lv; sum "${lv##*/}" "$lv" ;; esac; done
vgchange -q -an my-vg >/dev/null
"#;

#[test]
fn every_layout_is_what_the_kernel_reads() {
    let kernel = Kernel::new(&[24 * MIB; 4]);
    let expected = kernel.run(LAYOUTS);
    assert_eq!(expected.len(), 14);
    let map = kernel.volumes(|_| true);
    assert!(map.gaps.is_empty(), "{:#?}", map.gaps);
    assert_eq!(by_device(&map), expected);
    for volume in &map.volumes {
        let plain = matches!(volume.info.layout.as_deref(), Some("linear"));
        assert_eq!(
            matches!(volume.placement, Placement::Ranges(_)),
            plain,
            "{}",
            volume.info.name
        );
    }
    // A plain volume's ranges hold its bytes.
    let linear = map
        .volumes
        .iter()
        .find(|one| one.info.name == "lvm/my-vg/linear")
        .unwrap();
    let Placement::Ranges(ranges) = &linear.placement else {
        panic!("{:?}", linear.placement)
    };
    let mut bytes = Vec::new();
    for range in ranges {
        let disk: usize = range.disk.strip_prefix("disk").unwrap().parse().unwrap();
        let disk = source(&kernel.disks[disk]);
        bytes
            .extend(read_vec_at(&*disk, range.start, usize::try_from(range.len).unwrap()).unwrap());
    }
    assert_eq!(ranges.len(), 2);
    assert_eq!(Digest::of(&bytes).hex(), expected["my--vg-linear"]);
    // Without a disk, only what needs it is missing, and says what it needs.
    for gone in 0..4 {
        let map = kernel.volumes(|number| number != gone);
        let mut found = by_device(&map);
        for gap in &map.gaps {
            let name = gap
                .at
                .volume
                .as_deref()
                .unwrap()
                .strip_prefix("lvm/my-vg/")
                .unwrap();
            assert!(
                gap.may_hide_packages && gap.why.contains("missing"),
                "{gap}"
            );
            let mapped = format!("my--vg-{}", name.replace('-', "--"));
            found.insert(mapped.clone(), expected[&mapped].clone());
        }
        assert_eq!(found, expected, "without disk {gone}");
        assert!(map.gaps.len() < expected.len(), "{:#?}", map.gaps);
    }
    // A copy of a disk beside it is told of, and nothing is guessed.
    let mut disks: Vec<DiskInput> = (0..4)
        .map(|number| DiskInput::new(format!("disk{number}"), source(&kernel.disks[number])))
        .collect();
    disks.push(DiskInput::new("copy", source(&kernel.disks[0])));
    let map = volumes(&disks);
    assert!(
        map.gaps
            .iter()
            .any(|gap| gap.why.contains("one is a copy of the other"))
    );
    mutated_metadata_never_panics(&kernel);
}

/// The digests of all volumes, by the device mapper's names.
fn by_device(map: &VolumeMap) -> Sums {
    let sums = sums(map);
    map.volumes
        .iter()
        .filter_map(|volume| {
            let device = volume.info.device_names.first()?;
            let mapped = device.strip_prefix("/dev/mapper/")?.to_owned();
            Some((mapped, sums[&volume.info.name].clone()))
        })
        .collect()
}

/// Thin volumes, their snapshots, snapshots of the older kind, and an external origin.
const SNAPSHOTS: &str = r#"
load dm-mod dm-thin-pool dm-snapshot
lvm >/tmp/log 2>&1 <<EOF || { cat /tmp/log; exit 9; }
pvcreate -q /run/disks/ubda /run/disks/ubdb
vgcreate -q -s 128k vg /run/disks/ubda /run/disks/ubdb
lvcreate -q -y -Wn -Zn -n root -L 1m vg
lvcreate -q -y -Wn -Zn -n outside -L 1m vg
lvcreate -q -y -T -L 8m --poolmetadatasize 2m -c 64k vg/pool
lvcreate -q -y -Wn -V 64m -T vg/pool -n thin
lvcreate -q -y -Wn -V 64m -T vg/pool -n blank
EOF
fill /dev/mapper/vg-root first
fill /dev/mapper/vg-outside outside
part() { head -c "$3" "$1" | dd of="$2" bs=4k seek="$4" conv=notrunc,fsync status=none; }
part /dev/mapper/vg-root /dev/mapper/vg-thin 1000000 3
part /dev/mapper/vg-outside /dev/mapper/vg-thin 300000 9000
lvm >/tmp/log 2>&1 <<EOF || { cat /tmp/log; exit 9; }
lvcreate -q -y -s -n before -L 2m -c 4k vg/root
lvcreate -q -y -s -n full -L 256k -c 8k vg/root
lvcreate -q -y -s -n thin-snap -kn vg/thin
lvchange -q -an vg/outside
lvchange -q -pr vg/outside
lvcreate -q -y -s -n external -kn --thinpool vg/pool vg/outside
EOF
part /dev/mapper/vg-thin /dev/mapper/vg-root 200000 17
part /dev/mapper/vg-thin /dev/mapper/vg-root 4096 200
part /dev/mapper/vg-root /dev/mapper/vg-before 9000 60
part /dev/mapper/vg-root /dev/mapper/vg-thin 131072 64
part /dev/mapper/vg-root /dev/mapper/vg-thin--snap 70000 3000
part /dev/mapper/vg-root /dev/mapper/vg-external 50000 20
lvm >/tmp/log 2>&1 <<EOF || { cat /tmp/log; exit 9; }
lvcreate -q -y -s -n third -kn vg/thin-snap
EOF
part /dev/mapper/vg-root /dev/mapper/vg-root 900000 17
sync
for lv in root before thin blank thin--snap third external; do sum vg-$lv /dev/mapper/vg-$lv; done
lvm lvs -a -o lv_name,segtype,lv_attr vg > /tmp/out/lvs 2>&1 || :
vgchange -q -an vg >/dev/null
"#;

#[test]
fn snapshots_and_thin_volumes_are_what_the_kernel_reads() {
    let kernel = Kernel::new(&[24 * MIB; 2]);
    let expected = kernel.run(SNAPSHOTS);
    assert_eq!(expected.len(), 7);
    let map = kernel.volumes(|_| true);
    let mut found = by_device(&map);
    assert!(found.remove("vg-outside").is_some());
    assert_eq!(found, expected);
    let of = |name: &str| {
        let name = format!("lvm/vg/{name}");
        let volume = map
            .volumes
            .iter()
            .find(|one| one.info.name == name)
            .unwrap();
        volume.info.snapshot_of.clone()
    };
    assert_eq!(of("before").as_deref(), Some("lvm/vg/root"));
    assert_eq!(of("thin-snap").as_deref(), Some("lvm/vg/thin"));
    assert_eq!(of("third").as_deref(), Some("lvm/vg/thin-snap"));
    assert_eq!(of("root"), None);
    assert_eq!(of("thin"), None);
    // The snapshot that overflowed is the one thing that cannot be read.
    assert_eq!(map.gaps.len(), 1, "{:#?}", map.gaps);
    assert_eq!(map.gaps[0].at.volume.as_deref(), Some("lvm/vg/full"));
    assert!(map.gaps[0].why.contains("invalid"), "{}", map.gaps[0]);
    // Holes of a thin volume are seen without reading them.
    let thin = map
        .volumes
        .iter()
        .find(|one| one.info.name == "lvm/vg/thin")
        .unwrap();
    let hole = thin.source.next_data(4 * MIB).unwrap().unwrap();
    assert!(hole.start > 30 * MIB, "{hole:?}");
    mutated_trees_never_panic(&kernel);
}

fn runs() -> u64 {
    std::env::var("DORMOUSE_FUZZ_RUNS").map_or(200, |runs| runs.parse().unwrap())
}

/// Reads here and there in every volume.
fn read_all(map: &VolumeMap) {
    for volume in &map.volumes {
        assert_eq!(volume.source.len(), volume.info.size);
        for at in [
            0,
            volume.info.size / 2,
            volume.info.size.saturating_sub(512),
        ] {
            let len = (volume.info.size - at).min(4096);
            let mut buf = vec![0; usize::try_from(len).unwrap()];
            let _ = volume.source.read_exact_at(at, &mut buf);
        }
        let _ = volume.source.next_data(0);
    }
}

/// lvm2's checksum.
fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(!0xf597_a6cf);
    hasher.update(bytes);
    !hasher.finalize()
}

/// Changes the text of the first disk's metadata, with right checksums again.
fn mutated_metadata_never_panics(kernel: &Kernel) {
    let first = source(&kernel.disks[0]);
    let header = read_vec_at(&*first, 4096, 512).unwrap();
    let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
    let (offset, len) = (number(40), usize::try_from(number(48)).unwrap());
    let text = read_vec_at(&*first, 4096 + offset, len).unwrap();
    let mut random = Random(0x1e2);
    let mut opened = 0;
    for _ in 0..runs() {
        let mut text = text.clone();
        for _ in 0..=random.below(3) {
            let at = usize::try_from(random.below(len.try_into().unwrap())).unwrap();
            // Mostly digits for digits and letters for letters, so that the text still means something.
            let byte = random.next().to_le_bytes()[0];
            text[at] = match text[at] {
                b'0'..=b'9' if byte < 240 => b'0' + byte % 10,
                b'a'..=b'z' if byte < 240 => b'a' + byte % 26,
                _ => byte,
            };
        }
        let mut header = header.clone();
        header[56..60].copy_from_slice(&checksum(&text).to_le_bytes());
        let sum = checksum(&header[4..]);
        header[..4].copy_from_slice(&sum.to_le_bytes());
        let patched = Patched::over(first.clone(), vec![(4096, header), (4096 + offset, text)]);
        // Alone it is believed; the other disks know better only by their sequence number.
        let mut disks = vec![DiskInput::new("disk0", patched)];
        for number in 1..4 {
            let empty = vec![(4096, vec![0; 512])];
            let disk = Patched::over(source(&kernel.disks[number]), empty);
            disks.push(DiskInput::new(format!("disk{number}"), disk));
        }
        let map = volumes(&disks);
        opened += map.volumes.len();
        assert!(map.volumes.len() + map.gaps.len() > 0);
        read_all(&map);
    }
    assert!(opened > 1000, "only {opened} volumes were opened");
}

/// Changes nodes of the thin pool's trees and the exceptions of snapshots, with right checksums again.
fn mutated_trees_never_panic(kernel: &Kernel) {
    let disks: Vec<_> = kernel.disks.iter().map(|path| source(path)).collect();
    let sum = |block: &[u8], salt: u32| !crc32c::crc32c(&block[4..]) ^ salt;
    let mut blocks = Vec::new();
    for (disk, bytes) in disks.iter().enumerate() {
        for at in (0..bytes.len()).step_by(4096) {
            let block = read_vec_at(&**bytes, at, 4096).unwrap();
            let own = u32::from_le_bytes(block[..4].try_into().unwrap());
            for salt in [121_107, 160_774] {
                if sum(&block, salt) == own {
                    blocks.push((disk, at, block.clone(), Some(salt)));
                }
            }
            if block.starts_with(b"SnAp") {
                let table = read_vec_at(&**bytes, at + 4096, 4096).unwrap();
                blocks.push((disk, at, block, None));
                blocks.push((disk, at + 4096, table, None));
            }
        }
    }
    assert!(blocks.len() > 6, "only {} blocks were found", blocks.len());
    let mut random = Random(0x7b1);
    for _ in 0..runs() {
        let pick = usize::try_from(random.below(blocks.len().try_into().unwrap())).unwrap();
        let (disk, at, block, salt) = &blocks[pick];
        let mut block = block.clone();
        for _ in 0..=random.below(4) {
            let place = usize::try_from(random.below(400)).unwrap();
            block[place] = random.next().to_le_bytes()[0];
        }
        if let Some(salt) = salt {
            let sum = sum(&block, *salt);
            block[..4].copy_from_slice(&sum.to_le_bytes());
        }
        let inputs: Vec<DiskInput> = disks
            .iter()
            .enumerate()
            .map(|(number, bytes)| {
                let patches = if number == *disk {
                    vec![(*at, block.clone())]
                } else {
                    vec![]
                };
                DiskInput::new(
                    format!("disk{number}"),
                    Patched::over(bytes.clone(), patches),
                )
            })
            .collect();
        read_all(&volumes(&inputs));
    }
}

/// A disk of 1 MiB with a label, a metadata area whose text begins `offset` bytes into it, and 14 extents of 64 KiB.
fn disk_with(id: u8, text: &str, offset: usize) -> Vec<u8> {
    const AREA: usize = 65_536;
    let mut disk = vec![0; 1 << 20];
    let mut put = |at: usize, bytes: &[u8]| disk[at..at + bytes.len()].copy_from_slice(bytes);
    put(512, b"LABELONE");
    put(520, &1_u64.to_le_bytes());
    put(532, &32_u32.to_le_bytes());
    put(536, b"LVM2 001");
    put(544, &[id; 32]);
    put(576, &(1_u64 << 20).to_le_bytes());
    put(584, &(128_u64 << 10).to_le_bytes());
    put(616, &4096_u64.to_le_bytes());
    put(624, &(AREA as u64).to_le_bytes());
    put(4100, b" LVM2 x[5A%r0N*>");
    put(4116, &1_u32.to_le_bytes());
    put(4120, &4096_u64.to_le_bytes());
    put(4128, &(AREA as u64).to_le_bytes());
    if !text.is_empty() {
        put(4136, &(offset as u64).to_le_bytes());
        put(4144, &(text.len() as u64).to_le_bytes());
        put(4152, &checksum(text.as_bytes()).to_le_bytes());
        let first = text.len().min(AREA - offset);
        put(4096 + offset, &text.as_bytes()[..first]);
        put(4096 + 512, &text.as_bytes()[first..]);
    }
    for extent in 0..14 {
        put(
            (128 << 10) + extent * 65_536,
            &[u8::try_from(extent).unwrap() + 1; 64],
        );
    }
    let sum = checksum(&disk[532..1024]);
    disk[528..532].copy_from_slice(&sum.to_le_bytes());
    let sum = checksum(&disk[4100..4608]);
    disk[4096..4100].copy_from_slice(&sum.to_le_bytes());
    disk
}

/// A group on one physical volume, `a`, with these logical volumes: name and segment.
fn group(seqno: u32, volumes: &[(&str, &str)]) -> String {
    let id = "a".repeat(32);
    let logical: String = volumes
        .iter()
        .map(|(name, segment)| {
            format!(
                "{name} {{ id = \"x\" status = [\"READ\", \"VISIBLE\"] segment_count = 1\n segment1 {{ start_extent = 0 {segment} }} }}\n"
            )
        })
        .collect();
    format!(
        "vg {{ id = \"g\" seqno = {seqno} status = [\"EXPORTED\"] extent_size = 128\n physical_volumes {{ pv0 {{ id = \"{id}\" pe_start = 256 pe_count = 14 }} }}\n logical_volumes {{ {logical} }} }}\n"
    )
}

fn one(disk: Vec<u8>) -> VolumeMap {
    volumes(&[DiskInput::new("disk0", Arc::new(Bytes::new(disk)))])
}

const LINEAR: &str = "extent_count = 2 type = \"striped\" stripe_count = 1 stripes = [\"pv0\", 3]";

#[test]
fn a_text_that_goes_round_its_ring_is_read_and_an_exported_group_noted() {
    let map = one(disk_with(
        b'a',
        &group(1, &[("root", LINEAR)]),
        65_536 - 100,
    ));
    assert!(map.gaps.is_empty(), "{:#?}", map.gaps);
    let volume = &map.volumes[0];
    assert_eq!(
        (volume.info.name.as_str(), volume.info.size),
        ("lvm/vg/root", 131_072)
    );
    assert_eq!(read_vec_at(&*volume.source, 65_536, 4).unwrap(), [5; 4]);
    assert!(map.notes[0].what.contains("exported"));
}

#[test]
fn volumes_on_themselves_are_errors_and_hide_nothing_else() {
    let on = |name: &str| {
        format!("extent_count = 2 type = \"striped\" stripe_count = 1 stripes = [\"{name}\", 0]")
    };
    let snapshot = "extent_count = 2 type = \"snapshot\" chunk_size = 8 origin = \"snap\" cow_store = \"snap\"";
    let pool = "extent_count = 2 type = \"thin-pool\" metadata = \"thin\" pool = \"thin\" chunk_size = 128 transaction_id = 0";
    let thin =
        "extent_count = 2 type = \"thin\" thin_pool = \"pool\" transaction_id = 0 device_id = 1";
    let mut all = vec![
        ("self", on("self")),
        ("one", on("two")),
        ("two", on("one")),
        ("snap", LINEAR.to_owned()),
        ("snapshot0", snapshot.to_owned()),
        ("pool", pool.to_owned()),
        ("thin", thin.to_owned()),
        ("root", LINEAR.to_owned()),
    ];
    let names: Vec<String> = (0..200).map(|number| format!("deep{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        // Twice each: without a memory of what was opened, that would be 2^200 volumes.
        let below = names.get(number + 1).map_or("pv0", |name| name);
        let both = format!(
            "extent_count = 2 type = \"striped\" stripe_count = 2 stripe_size = 8 stripes = [\"{below}\", 0, \"{below}\", 0]"
        );
        all.push((name, both));
    }
    let all: Vec<(&str, &str)> = all
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    let map = one(disk_with(b'a', &group(1, &all), 512));
    assert!(map.volumes.iter().any(|one| one.info.name == "lvm/vg/root"));
    for name in ["self", "one", "two", "thin", "deep0"] {
        let at = format!("lvm/vg/{name}");
        assert!(
            map.gaps
                .iter()
                .any(|gap| gap.at.volume.as_ref() == Some(&at)),
            "{name}"
        );
    }
    read_all(&map);
}

#[test]
fn the_newest_text_counts_and_empty_physical_volumes_hide_nothing() {
    let older = disk_with(b'a', &group(4, &[("old", LINEAR)]), 512);
    let id = "b".repeat(32);
    let newer = group(5, &[("new", LINEAR)]).replace(
        "physical_volumes {",
        &format!("physical_volumes {{ pv1 {{ id = \"{id}\" pe_start = 256 pe_count = 14 }}"),
    );
    let newer = disk_with(b'b', &newer, 512);
    let disk = |name: &str, bytes: Vec<u8>| DiskInput::new(name, Arc::new(Bytes::new(bytes)));
    let map = volumes(&[disk("disk0", older), disk("disk1", newer)]);
    let names: Vec<_> = map
        .volumes
        .iter()
        .map(|one| one.info.name.as_str())
        .collect();
    assert_eq!(names, ["lvm/vg/new"]);
    let map = one(disk_with(b'c', "", 512));
    assert!(map.gaps.is_empty());
    assert!(!map.volumes[0].info.may_hold_packages());
    let mut broken = disk_with(b'a', &group(1, &[("root", LINEAR)]), 512);
    broken[4700] ^= 1;
    let map = one(broken);
    assert_eq!(map.gaps.len(), 1);
    assert!(map.gaps[0].why.contains("checksum"), "{}", map.gaps[0]);
}
