//! Images with bytes changed at random, with their checksums made good again: every answer is bounded, nothing panics.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dormouse_block::{Bytes, Error, ErrorKind, Result, Source, window};
use dormouse_filesystem::{Filesystem, NodeKind, Tree, btrfs::Btrfs};

use crate::images::{bytes, set};
use crate::oracle::{Mounted, must};

/// Nodes that one walk of a hostile image visits.
const MAX_NODES: usize = 3000;
/// Bytes that are read of each of its files.
const MAX_READ: u64 = 1 << 20;

/// How far a walk goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Names, metadata, attributes and targets.
    Names,
    /// The bytes of files, too.
    All,
}

/// Reads everything that can be reached, up to bounds; the first failure ends it.
pub fn read_all(tree: &dyn Tree, reads: Reads) -> Result<usize> {
    let mut seen = BTreeSet::new();
    let mut todo = vec![tree.root()];
    let mut names = 0;
    while let Some(node) = todo.pop() {
        if seen.len() > MAX_NODES || !seen.insert(node) {
            continue;
        }
        let metadata = tree.metadata(node)?;
        tree.xattrs(node)?;
        match metadata.kind {
            NodeKind::Directory => {
                for entry in tree.read_dir(node)? {
                    names += 1;
                    tree.lookup(node, &entry.name)?;
                    todo.push(entry.node);
                }
            }
            NodeKind::Symlink => {
                tree.read_link(node)?;
            }
            NodeKind::File if reads == Reads::All => {
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
        if seen.len() > MAX_NODES || !seen.insert(node) {
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

/// An image with some blocks of 4096 bytes in place of its own.
struct Patched {
    image: Arc<[u8]>,
    blocks: Vec<(usize, Vec<u8>)>,
}

impl Source for Patched {
    fn len(&self) -> u64 {
        self.image.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buf.len());
        let from = self.image.get(start..end);
        buf.copy_from_slice(from.ok_or_else(|| Error::corrupt("a read outside"))?);
        for (at, block) in &self.blocks {
            for (n, byte) in block.iter().enumerate() {
                if (start..end).contains(&(at + n)) {
                    buf[at + n - start] = *byte;
                }
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
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// A small image with files in every form, snapshots, and a log if `logged`; tree nodes of 4096 bytes.
fn small(folder: &std::path::Path, logged: bool) -> Arc<[u8]> {
    let set = set("small", "-M -n 4096", "rw,compress=zstd", 32);
    let image = crate::images::make(folder, &set);
    let mounted = Mounted::on(&image, "rw,compress=zstd,commit=300");
    let root = mounted.path();
    for n in 0..120 {
        fs::write(root.join(format!("name-{n}")), bytes(n * 90, n as u32)).unwrap();
    }
    fs::write(root.join("large"), "text\n".repeat(60_000)).unwrap();
    std::os::unix::fs::symlink("name-1", root.join("link")).unwrap();
    let at = |name: &str| root.join(name).to_str().unwrap().to_owned();
    must("btrfs", &["subvolume", "create", &at("sub")]);
    fs::write(at("sub/file"), "file").unwrap();
    must(
        "btrfs",
        &["subvolume", "snapshot", &at("sub"), &at("snapshot")],
    );
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::lsetxattr(root.join("large"), "user.name", b"value", flags).unwrap();
    rustix::fs::sync();
    if logged {
        fs::rename(root.join("name-7"), root.join("renamed")).unwrap();
        fs::hard_link(root.join("name-8"), root.join("linked")).unwrap();
        for name in ["renamed", "linked", "."] {
            File::open(root.join(name)).unwrap().sync_all().unwrap();
        }
        fs::remove_file(root.join("name-9")).unwrap();
        fs::write(root.join("name-10"), bytes(20_000, 3)).unwrap();
        for name in ["name-10", "."] {
            File::open(root.join(name)).unwrap().sync_all().unwrap();
        }
    }
    let out = fs::read(&image).unwrap();
    drop(mounted);
    fs::remove_file(image).unwrap();
    out.into()
}

/// Where superblocks and tree nodes lie.
fn summed_blocks(image: &[u8]) -> Vec<usize> {
    let fsid = &image[65536 + 0x20..65536 + 0x30];
    (0..image.len() / 4096)
        .map(|n| n * 4096)
        .filter(|at| image[at + 0x20..at + 0x30] == *fsid)
        .collect()
}

fn seal(block: &mut [u8]) {
    let sum = crc32c::crc32c(&block[32..]);
    block[..4].copy_from_slice(&sum.to_le_bytes());
}

/// DORMOUSE_FUZZ_SECONDS lengthens the run; a failure names its seed, and DORMOUSE_FUZZ_SEED repeats it.
#[test]
fn mutated_images_neither_panic_nor_hang() {
    let folder = tempfile::tempdir().unwrap();
    let images = [small(folder.path(), false), small(folder.path(), true)];
    assert!(
        Btrfs
            .open(Arc::new(Bytes::new(images[1].clone())))
            .unwrap()
            .info()
            .journal_replayed
    );
    let blocks: Vec<Vec<usize>> = images.iter().map(|image| summed_blocks(image)).collect();
    let seconds = std::env::var("DORMOUSE_FUZZ_SECONDS").map_or(4, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let only = std::env::var("DORMOUSE_FUZZ_SEED")
        .ok()
        .map(|text| text.parse::<u64>().unwrap());
    let mut seed = only.map_or(0x00B7_0000_u64, |seed| seed - 1);
    let first = seed;
    let mut opened = 0_u64;
    while Instant::now() < until {
        seed += 1;
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let which = random.below(images.len());
        let mut source = Patched {
            image: images[which].clone(),
            blocks: Vec::new(),
        };
        for _ in 0..1 + random.below(4) {
            let at = match random.below(12) {
                0 => 65536,
                _ => blocks[which][random.below(blocks[which].len())],
            };
            let mut block = images[which][at..at + 4096].to_vec();
            for _ in 0..1 + random.below(6) {
                // Headers and the heads of items more often than their bytes.
                let to = match random.below(3) {
                    0 => 0x50 + random.below(0x20),
                    1 => 0x65 + random.below(600),
                    _ => 32 + random.below(4064),
                };
                block[to] = match random.below(4) {
                    0 => 0xFF,
                    1 => 0,
                    2 => block[to] ^ (1 << random.below(8)),
                    _ => random.next() as u8,
                };
            }
            seal(&mut block);
            source.blocks.push((at, block));
        }
        let started = spent();
        if let Ok(tree) = Btrfs.open(Arc::new(source)) {
            opened += 1;
            if let Ok(list) = tree.subvolumes() {
                for one in list {
                    let _ = tree
                        .subvolume(one.id)
                        .map(|tree| read_all(&*tree, Reads::Names));
                }
            }
            let _ = read_all(&*tree, Reads::All);
            read_on(&*tree);
        }
        let took = spent() - started;
        assert!(took < Duration::from_secs(20), "seed {seed} took {took:?}");
        if only.is_some() {
            break;
        }
    }
    println!("{} executions, {opened} of them opened", seed - first);
    assert!(opened > 0);
}

#[test]
fn every_truncation_is_refused_by_kind() {
    let folder = tempfile::tempdir().unwrap();
    let image = small(folder.path(), true);
    let whole: Arc<dyn Source> = Arc::new(Bytes::new(image.clone()));
    for len in [0, 1, 65_536, 65_600, 69_632, 1 << 20, 5 << 20, 7 << 20] {
        let part: Arc<dyn Source> = Arc::new(window(whole.clone(), 0, len).unwrap());
        let probed = Btrfs.probe(&part).unwrap();
        assert_eq!(probed, len >= 69_632, "{len}");
        let result = Btrfs
            .open(part)
            .and_then(|tree| read_all(&*tree, Reads::All));
        if let Err(error) = result {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{len}: {error}");
        } else {
            assert!(len > 5 << 20, "{len} bytes are enough");
        }
    }
}

#[test]
fn a_broken_superblock_gives_way_to_its_copy_and_a_broken_copy_of_a_node_to_the_other() {
    use std::os::unix::fs::FileExt;
    let folder = tempfile::tempdir().unwrap();
    let image = crate::images::make(folder.path(), &crate::images::OPTION_SETS[0]);
    let mounted = Mounted::on(&image, "rw");
    crate::images::populate(mounted.path());
    drop(mounted);
    let sound = crate::oracle::seen_by_us(&*crate::oracle::open(&image)).unwrap();
    let file = File::options().read(true).write(true).open(&image).unwrap();
    let mut label = [0; 1];
    file.read_exact_at(&mut label, 65536 + 0x12B).unwrap();
    file.write_all_at(&[label[0] ^ 1], 65536 + 0x12B).unwrap();
    let tree = crate::oracle::open(&image);
    assert_eq!(tree.info().label.as_deref(), Some("dormouse"));
    assert_eq!(crate::oracle::seen_by_us(&*tree).unwrap(), sound);
    // Metadata is kept twice: the first copy of every node is broken.
    let bytes = fs::read(&image).unwrap();
    let mut seen = BTreeSet::new();
    let mut broken = 0;
    for at in summed_blocks(&bytes)
        .into_iter()
        .filter(|at| at % 16384 == 0)
    {
        let logical = u64::from_le_bytes(bytes[at + 0x30..at + 0x38].try_into().unwrap());
        if at as u64 != 64 << 10 && at as u64 != 64 << 20 && seen.insert(logical) {
            file.write_all_at(&[bytes[at + 0x200] ^ 0x55], at as u64 + 0x200)
                .unwrap();
            broken += 1;
        }
    }
    assert!(broken > 10, "{broken} nodes");
    let tree = crate::oracle::open(&image);
    assert_eq!(crate::oracle::seen_by_us(&*tree).unwrap(), sound);
}
