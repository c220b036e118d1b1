//! Filesystems on several devices: every profile, with all devices, without one, and with one that lies.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{ErrorKind, Result, Source};
use dormouse_filesystem::{Found, Tree, open_all};

use crate::images::bytes;
use crate::oracle::{Mounted, Seen, compare, must, seen_by_kernel, seen_by_us, source};

/// Profile of data and of metadata, devices, and whether any one of them may be missing.
const PROFILES: &[(&str, &str, usize, bool)] = &[
    ("single", "raid1", 2, false),
    ("raid0", "raid0", 3, false),
    ("raid1", "raid1", 2, true),
    ("raid1c3", "raid1c3", 3, true),
    ("raid1c4", "raid1c4", 4, true),
    ("raid10", "raid10", 4, true),
    ("raid5", "raid1", 3, true),
    ("raid6", "raid1c3", 4, true),
];

/// Loop devices, until they are dropped.
struct Loops(Vec<PathBuf>);

impl Loops {
    fn of(images: &[PathBuf]) -> Self {
        let attach = |image: &PathBuf| {
            let device = must("losetup", &["--find", "--show", image.to_str().unwrap()]);
            PathBuf::from(device.trim())
        };
        Self(images.iter().map(attach).collect())
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        for device in &self.0 {
            must("losetup", &["-d", device.to_str().unwrap()]);
        }
    }
}

fn make(folder: &Path, data: &str, metadata: &str, count: usize) -> (Vec<PathBuf>, Seen) {
    let images: Vec<PathBuf> = (0..count)
        .map(|n| folder.join(format!("{data}-{n}")))
        .collect();
    for image in &images {
        File::create(image).unwrap().set_len(256 << 20).unwrap();
    }
    let mut args = vec!["-q", "-d", data, "-m", metadata];
    args.extend(images.iter().map(|image| image.to_str().unwrap()));
    must("mkfs.btrfs", &args);
    let loops = Loops::of(&images);
    let others: Vec<String> = loops.0[1..]
        .iter()
        .map(|device| format!("device={}", device.display()))
        .collect();
    let mounted = Mounted::device(&loops.0[0], &format!("rw,{}", others.join(",")));
    let root = mounted.path();
    for n in 0..20 {
        fs::write(
            root.join(format!("file-{n}")),
            bytes(n * 40_000, n as u32 + 1),
        )
        .unwrap();
    }
    fs::create_dir(root.join("many")).unwrap();
    for n in 0..300 {
        fs::write(root.join(format!("many/{n}")), bytes(n, n as u32)).unwrap();
    }
    rustix::fs::sync();
    let seen = seen_by_kernel(root);
    drop(mounted);
    (images, seen)
}

fn the_tree(found: Vec<Result<Found>>) -> Result<Arc<dyn Tree>> {
    let mut trees = Vec::new();
    for (nth, one) in found.into_iter().enumerate() {
        match one? {
            Found::Tree(tree) => trees.push(tree),
            Found::PartOf(first) => assert!(first == 0 && nth > 0),
            Found::Unknown => panic!("volume {nth} was not recognised"),
        }
    }
    assert_eq!(trees.len(), 1);
    Ok(trees.remove(0))
}

/// Bytes that are all wrong behind the first superblock.
struct Lying(Arc<dyn Source>);

impl Source for Lying {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.0.read_exact_at(offset, buf)?;
        if offset >= 1 << 20 {
            for byte in buf {
                *byte = !*byte;
            }
        }
        Ok(())
    }
}

#[test]
fn every_profile_reads_whole_with_a_device_missing_or_lying() {
    let folder = tempfile::tempdir().unwrap();
    for (data, metadata, count, spare) in PROFILES {
        let (images, kernel) = make(folder.path(), data, metadata, *count);
        let volumes: Vec<Arc<dyn Source>> = images.iter().map(|image| source(image)).collect();
        let ours = seen_by_us(&*the_tree(open_all(&volumes)).unwrap()).unwrap();
        compare(data, &ours, &kernel, None);
        let mut reversed = volumes.clone();
        reversed.reverse();
        let ours = seen_by_us(&*the_tree(open_all(&reversed)).unwrap()).unwrap();
        compare(data, &ours, &kernel, None);
        for missing in 0..*count {
            let mut rest = volumes.clone();
            rest.remove(missing);
            let ours = the_tree(open_all(&rest)).and_then(|tree| seen_by_us(&*tree));
            let mut lying = volumes.clone();
            lying[missing] = Arc::new(Lying(lying[missing].clone()));
            let despite = the_tree(open_all(&lying)).and_then(|tree| seen_by_us(&*tree));
            if *spare {
                compare(data, &ours.unwrap(), &kernel, None);
                compare(data, &despite.unwrap(), &kernel, None);
            } else if let (Err(ours), Err(despite)) = (ours, despite) {
                assert_eq!(ours.kind(), ErrorKind::Unsupported, "{ours}");
                let what = format!("device {} of the btrfs filesystem is missing", missing + 1);
                assert!(ours.to_string().contains(&what), "{ours}");
                assert_eq!(despite.kind(), ErrorKind::Corrupt, "{despite}");
                assert!(despite.to_string().contains("checksum"), "{despite}");
            } else {
                // The second of two single devices may hold nothing but copies of metadata.
                assert_eq!((*data, missing), ("single", 1));
            }
        }
        for image in images {
            fs::remove_file(image).unwrap();
        }
    }
}
