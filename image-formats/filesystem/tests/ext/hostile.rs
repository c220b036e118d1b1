//! Images with bytes changed at random: every answer is bounded, nothing panics.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dormouse_block::{Error, Result, Source};
use dormouse_filesystem::{Filesystem, NodeKind, Tree, ext::Ext4};

use crate::images::{make, populate_small};

/// Nodes that one walk of a hostile image visits.
const MAX_NODES: usize = 5000;
/// Names of it that are looked up one by one.
const MAX_LOOKUPS: usize = 500;
/// Bytes that are read of each of its files.
const MAX_READ: u64 = 1 << 20;

/// Reads everything that can be reached, up to bounds; the first failure ends it.
pub fn read_all(tree: &dyn Tree) -> Result<usize> {
    let mut seen = BTreeSet::new();
    let mut todo = vec![tree.root()];
    let mut names = 0;
    while let Some(node) = todo.pop() {
        if !seen.insert(node) || seen.len() > MAX_NODES {
            continue;
        }
        let metadata = tree.metadata(node)?;
        tree.xattrs(node)?;
        match metadata.kind {
            NodeKind::Directory => {
                for entry in tree.read_dir(node)? {
                    names += 1;
                    if names < MAX_LOOKUPS {
                        tree.lookup(node, &entry.name)?;
                    }
                    todo.push(entry.node);
                }
            }
            NodeKind::Symlink => {
                tree.read_link(node)?;
            }
            NodeKind::File => {
                let mut buf = vec![0; 65536];
                let mut offset = 0;
                while offset < metadata.size.min(MAX_READ) {
                    offset += tree.read_at(node, offset, &mut buf)? as u64;
                }
                tree.read_at(node, metadata.size.saturating_sub(9), &mut buf)?;
            }
            _ => {}
        }
    }
    Ok(names)
}

/// As [`read_all`], going on after failures, so that one broken node does not hide the others.
fn read_on(tree: &dyn Tree) {
    let mut seen = BTreeSet::new();
    let mut todo = vec![tree.root()];
    while let Some(node) = todo.pop() {
        if !seen.insert(node) || seen.len() > MAX_NODES {
            continue;
        }
        let Ok(metadata) = tree.metadata(node) else {
            continue;
        };
        let _ = tree.xattrs(node);
        let _ = tree.read_link(node);
        let mut buf = vec![0; 65536];
        let _ = tree.read_at(node, 0, &mut buf);
        let _ = tree.read_at(node, metadata.size / 2, &mut buf);
        let _ = tree.lookup(node, b"name-1234");
        if let Ok(list) = tree.read_dir(node) {
            todo.extend(list.iter().map(|entry| entry.node));
        }
    }
}

/// An image with some bytes changed.
struct Patched {
    image: Arc<[u8]>,
    changes: Vec<(usize, u8)>,
}

impl Source for Patched {
    fn len(&self) -> u64 {
        self.image.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let from = usize::try_from(offset)
            .ok()
            .and_then(|at| self.image.get(at..at.checked_add(buf.len())?))
            .ok_or_else(|| Error::corrupt("a read outside"))?;
        buf.copy_from_slice(from);
        for (at, byte) in &self.changes {
            if let Some(to) = at
                .checked_sub(offset as usize)
                .and_then(|at| buf.get_mut(at))
            {
                *to = *byte;
            }
        }
        Ok(())
    }
}

/// Processor time of this thread: the wall's says how busy the host is.
fn spent() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// A small generator (xorshift64*), so that a failing run can be repeated.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// DORMOUSE_FUZZ_SECONDS lengthens the run; a failure names its seed.
#[test]
fn mutated_images_neither_panic_nor_hang() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    fs::create_dir(&content).unwrap();
    populate_small(&content);
    // Without checksums most changes reach the parsers behind them.
    let sets = [
        ("plain", "-t ext4 -b 1024 -O ^metadata_csum", 4),
        ("summed", "-t ext4 -b 1024", 4),
        (
            "inline",
            "-t ext4 -b 1024 -O inline_data,^metadata_csum -I 256",
            8,
        ),
        ("classic", "-t ext2 -b 1024", 4),
        (
            "bigalloc",
            "-t ext4 -b 1024 -C 8192 -O bigalloc,^metadata_csum,ea_inode",
            8,
        ),
    ];
    let mut images: Vec<Arc<[u8]>> = sets
        .iter()
        .map(|(name, options, mib)| {
            Arc::from(fs::read(make(folder.path(), name, options, *mib, &content)).unwrap())
        })
        .collect();
    for name in [
        "j_corrupt_journal_block",
        "f_h_normal",
        "f_extents",
        "f_jnl_64bit",
    ] {
        let packed = crate::fixtures::fixtures().join(format!("fs-ext4/e2fsprogs/{name}/image.gz"));
        images.push(Arc::from(crate::fixtures::unpack(&packed)));
    }
    let seconds = std::env::var("DORMOUSE_FUZZ_SECONDS").map_or(5, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    // DORMOUSE_FUZZ_SEED repeats one execution.
    let only = std::env::var("DORMOUSE_FUZZ_SEED")
        .ok()
        .map(|text| text.parse::<u64>().unwrap());
    let mut seed = only.map_or(0x00D0_0000_u64, |seed| seed - 1);
    let first = seed;
    let mut opened = 0_u64;
    let used: Vec<Vec<usize>> = images
        .iter()
        .map(|image| {
            (0..image.len() / 64)
                .filter(|n| image[n * 64..n * 64 + 64] != [0; 64])
                .collect()
        })
        .collect();
    while Instant::now() < until {
        seed += 1;
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let which = random.below(images.len());
        let mut bytes = Patched {
            image: images[which].clone(),
            changes: Vec::new(),
        };
        for _ in 0..1 + random.below(8) {
            // Mostly where there is something already; the superblock and descriptors more often than their size.
            let at = match random.below(4) {
                0 => 1024 + random.below(3072),
                _ => used[which][random.below(used[which].len())] * 64 + random.below(64),
            };
            let byte = match random.below(4) {
                0 => 0xFF,
                1 => 0,
                2 => bytes.image[at] ^ (1 << random.below(8)),
                _ => random.next() as u8,
            };
            bytes.changes.push((at, byte));
        }
        let started = spent();
        let volume: Arc<dyn Source> = Arc::new(bytes);
        if let Ok(tree) = Ext4.open(volume) {
            opened += 1;
            let _ = read_all(&*tree);
            read_on(&*tree);
        }
        let took = spent() - started;
        assert!(
            took < Duration::from_secs(20),
            "seed {seed:#x} took {took:?}"
        );
        if only.is_some() {
            println!("image {which} took {took:?}");
            break;
        }
    }
    println!("{} executions, {opened} of them opened", seed - first);
    assert!(opened > 0);
}
