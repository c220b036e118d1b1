//! MD arrays against mdadm and the kernel's own driver: every byte of every array.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(clippy::indexing_slicing, clippy::disallowed_methods, reason = "tests")]

mod kernel;
#[path = "../../disk/tests/oracle/mod.rs"]
mod oracle;

use dormouse_block::{Source as _, read_vec_at};
use dormouse_volume::{DiskInput, VolumeMap, volumes};
use kernel::{Kernel, Patched, Sums, source, sums};
use oracle::Random;

const MIB: u64 = 1 << 20;

/// Every level and superblock, on partitions of four disks that are loop devices' windows.
const ARRAYS: &str = r#"
load md-mod linear raid0 raid1 raid10 raid456
n=0
make() { name=$1; shift; n=$((n+1))
  mdadm --create /dev/md$n --name=$name --run --quiet --assume-clean "$@" 2>/tmp/err >/tmp/err || { echo "$name"; cat /tmp/err; exit 9; }
  fill /dev/md$n $name; sum $name /dev/md$n; mdadm --stop --quiet /dev/md$n 2>/dev/null; }
d() { for i in "$@"; do echo /dev/ubd$i; done; }
make one --metadata=1.1 --level=1 --raid-devices=2 $(d a b)
make two --metadata=1.0 --level=1 --raid-devices=2 $(d c d)
make lin --metadata=1.2 --level=linear --raid-devices=2 $(d e f)
make old --metadata=0.90 --level=5 --raid-devices=3 --chunk=8 $(d g h i)
make zoned --metadata=1.2 --level=0 --chunk=8 --raid-devices=3 $(d j k l)
make ten --metadata=1.2 --level=10 --layout=n2 --chunk=8 --raid-devices=3 $(d m n o)
"#;

#[test]
fn every_array_is_what_the_kernel_reads() {
    let mut sizes = vec![2 * MIB; 15];
    sizes[10] = 3 * MIB;
    sizes[11] = 4 * MIB;
    let kernel = Kernel::new(&sizes);
    let expected = kernel.run(ARRAYS);
    assert_eq!(expected.len(), 6);
    let named = |map: &VolumeMap| -> Sums {
        let old = |name: &str| {
            if name == "4" {
                "old".to_owned()
            } else {
                name.to_owned()
            }
        };
        let all = sums(map).into_iter();
        all.filter_map(|(name, sum)| Some((old(name.strip_prefix("md/")?), sum)))
            .collect()
    };
    let map = kernel.volumes(|_| true);
    assert!(map.gaps.is_empty(), "{:#?}", map.gaps);
    assert_eq!(named(&map), expected);
    assert_eq!(map.volumes.len(), 6);
    // Without one member each, what has redundancy is whole, and says what is missing; the others are gaps.
    for gone in 0..15 {
        let map = kernel.volumes(|number| number != gone);
        let mut found = named(&map);
        let without = [(4..6, "lin"), (9..12, "zoned")];
        let lost = without.iter().find(|(members, _)| members.contains(&gone));
        if let Some((_, name)) = lost {
            assert_eq!(map.gaps.len(), 1, "without {gone}: {:#?}", map.gaps);
            assert_eq!(
                map.gaps[0].at.volume.as_ref().unwrap(),
                &format!("md/{name}")
            );
            assert!(map.gaps[0].why.contains("missing") && map.gaps[0].may_hide_packages);
            assert!(
                found
                    .insert((*name).to_owned(), expected[*name].clone())
                    .is_none()
            );
        } else {
            assert!(map.gaps.is_empty(), "without {gone}: {:#?}", map.gaps);
            assert!(map.notes[0].what.contains("missing"), "{:?}", map.notes);
        }
        assert_eq!(found, expected, "without {gone}");
    }
    let map = kernel.volumes(|number| !(6..8).contains(&number));
    assert_eq!(map.gaps.len(), 1);
    assert!(
        map.gaps[0].why.contains("members 0, 1 of 3"),
        "{}",
        map.gaps[0]
    );
    stale_and_mutated(&kernel);
}

/// A superblock of version 1 with a right sum.
fn seal(block: &mut [u8]) {
    let roles = usize::try_from(u32::from_le_bytes(block[220..224].try_into().unwrap())).unwrap();
    let len = (256 + roles.min(1900) * 2).min(block.len());
    block[216..220].fill(0);
    let mut sum = 0_u64;
    for word in block[..len].chunks(4) {
        let mut whole = [0; 4];
        whole[..word.len()].copy_from_slice(word);
        sum += u64::from(u32::from_le_bytes(whole));
    }
    let folded = u32::try_from(((sum & 0xffff_ffff) + (sum >> 32)) & 0xffff_ffff).unwrap();
    block[216..220].copy_from_slice(&folded.to_le_bytes());
}

fn stale_and_mutated(kernel: &Kernel) {
    // A mirror (1.1, at byte 0) whose first half missed some events is read from the other half.
    let halves = [source(&kernel.disks[0]), source(&kernel.disks[1])];
    let mut newer = read_vec_at(&*halves[1], 0, 4096).unwrap();
    let events = u64::from_le_bytes(newer[200..208].try_into().unwrap());
    newer[200..208].copy_from_slice(&(events + 9).to_le_bytes());
    seal(&mut newer);
    let changed = Patched::over(
        halves[1].clone(),
        vec![(0, newer), (MIB + 4096, vec![7; 64])],
    );
    let stale = vec![
        DiskInput::new("disk0", halves[0].clone()),
        DiskInput::new("disk1", changed),
    ];
    let map = volumes(&stale);
    assert!(
        map.notes
            .iter()
            .any(|note| note.what.contains("out of date")),
        "{:?}",
        map.notes
    );
    let array = &map.volumes[0];
    let whole = read_vec_at(&*array.source, 0, usize::try_from(array.info.size).unwrap()).unwrap();
    assert!(
        whole.windows(64).any(|window| window == [7; 64]),
        "the stale half was read"
    );
    let runs: u64 = std::env::var("DORMOUSE_FUZZ_RUNS").map_or(1500, |runs| runs.parse().unwrap());
    let mut random = Random(0x3d);
    for _ in 0..runs {
        // RAID 0 with zones, RAID 10 and the mirror.
        let members: &[usize] = match random.below(3) {
            0 => &[9, 10, 11],
            1 => &[12, 13, 14],
            _ => &[0, 1],
        };
        let at = if members[0] == 0 { 0 } else { 4096 };
        let change = (
            random.below(4),
            random.below(270),
            random.next().to_le_bytes()[0],
        );
        let disks: Vec<DiskInput> = members
            .iter()
            .map(|member| {
                let bytes = source(&kernel.disks[*member]);
                let mut block = read_vec_at(&*bytes, at, 4096).unwrap();
                // What all members agree on, mostly; what one of them says alone, sometimes.
                if change.0 > 0 || random.below(2) == 0 {
                    block[usize::try_from(change.1).unwrap()] = change.2;
                }
                seal(&mut block);
                DiskInput::new(
                    format!("disk{member}"),
                    Patched::over(bytes, vec![(at, block)]),
                )
            })
            .collect();
        let map = volumes(&disks);
        assert!(map.volumes.len() + map.gaps.len() > 0);
        for volume in &map.volumes {
            for at in [
                0,
                volume.info.size / 2,
                volume.info.size.saturating_sub(512),
            ] {
                let len = (volume.info.size - at).min(4096);
                let mut buf = vec![0; usize::try_from(len).unwrap()];
                let _ = volume.source.read_exact_at(at, &mut buf);
            }
        }
    }
}
