//! Images with bytes changed at random, cut short, or bent into loops: every answer is bounded, nothing panics.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dormouse_block::{ErrorKind, HostFile, Result, Source, window};
use dormouse_filesystem::xfs::Xfs;
use dormouse_filesystem::{Filesystem, NodeKind, Tree};

use crate::images::{attribute, make, mount, noise};
use crate::log::copy;

/// Nodes that one walk of a hostile image visits.
const MAX_NODES: usize = 3000;
/// Names of it that are looked up one by one.
const MAX_LOOKUPS: usize = 300;

/// Reads everything that can be reached, up to bounds, going on after failures; the first of them.
fn read_on(tree: &dyn Tree) -> Result<()> {
    let mut first = Ok(());
    let mut keep = |error| {
        if first.is_ok() {
            first = Err(error);
        }
    };
    let mut seen = BTreeSet::new();
    let mut todo = vec![tree.root()];
    let mut looked = 0;
    let mut buf = vec![0; 65536];
    while let Some(node) = todo.pop() {
        if !seen.insert(node) || seen.len() > MAX_NODES {
            continue;
        }
        let metadata = match tree.metadata(node) {
            Ok(metadata) => metadata,
            Err(error) => {
                keep(error);
                continue;
            }
        };
        tree.xattrs(node).map_or_else(&mut keep, |_| ());
        match metadata.kind {
            NodeKind::Directory => {
                tree.lookup(node, b"no such name")
                    .map_or_else(&mut keep, |_| ());
                match tree.read_dir(node) {
                    Ok(list) => {
                        for entry in list {
                            looked += 1;
                            if looked < MAX_LOOKUPS {
                                tree.lookup(node, &entry.name)
                                    .map_or_else(&mut keep, |_| ());
                            }
                            todo.push(entry.node);
                        }
                    }
                    Err(error) => keep(error),
                }
            }
            NodeKind::Symlink => tree.read_link(node).map_or_else(&mut keep, |_| ()),
            NodeKind::File => {
                for at in [0, 65536, metadata.size / 2, metadata.size.saturating_sub(9)] {
                    tree.read_at(node, at, &mut buf)
                        .map_or_else(&mut keep, |_| ());
                }
            }
            _ => {}
        }
    }
    first
}

/// An image with some bytes changed.
struct Patched {
    image: Arc<dyn Source>,
    changes: Vec<(u64, Vec<u8>)>,
}

impl Source for Patched {
    fn len(&self) -> u64 {
        self.image.len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.image.read_exact_at(offset, buf)?;
        for (at, bytes) in &self.changes {
            for (nth, byte) in bytes.iter().enumerate() {
                let place = (at + nth as u64).checked_sub(offset);
                if let Some(to) = place.and_then(|place| buf.get_mut(place as usize)) {
                    *to = *byte;
                }
            }
        }
        Ok(())
    }
}

/// Where the checksum of a structure is, and how many bytes it covers, by its magic number.
fn summed(block: &[u8]) -> Option<(usize, usize)> {
    Some(match &block[..4] {
        b"XFSB" => (224, 512),
        b"XAGF" => (216, 512),
        b"XAGI" => (312, 512),
        b"IAB3" | b"FIB3" => (52, 4096),
        b"BMA3" => (64, 4096),
        b"XDB3" | b"XDD3" | b"XDF3" => (4, 4096),
        b"XARM" | b"XSLM" => (12, 4096),
        _ if block[..2] == *b"IN" && block[4] == 3 => (100, 512),
        _ if matches!(block[8..10], [0x3D, 0xF1 | 0xFF] | [0x3B | 0x3E, _]) => (12, 4096),
        _ => return None,
    })
}

impl Patched {
    /// Changes a byte, and then makes the checksum of whatever structure of 512 or 4096 bytes it is in right again, so
    /// that the change reaches the parsers behind it.
    fn change(&mut self, at: u64, byte: u8) {
        self.changes.push((at, vec![byte]));
        for size in [512_u64, 4096] {
            let start = at / size * size;
            let mut block = vec![0; size as usize];
            if self.read_exact_at(start, &mut block).is_err() {
                continue;
            }
            if let Some((field, len)) = summed(&block)
                && len as u64 == size
            {
                block[field..field + 4].fill(0);
                let sum = crc32c::crc32c(&block);
                self.changes
                    .push((start + field as u64, sum.to_le_bytes().to_vec()));
            }
        }
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

/// A small filesystem with one of everything; its twin with the last changes in the log alone.
fn small(folder: &Path) -> [std::path::PathBuf; 2] {
    let image = make(folder, "small", "-d agcount=1", 24);
    let mounted = mount(&image, "loop,noatime");
    let root = mounted.path();
    for nth in 0..400 {
        std::fs::write(
            root.join(format!("name-{nth}-{}", "n".repeat(nth % 150))),
            b"x",
        )
        .unwrap();
    }
    let file = File::create(root.join("fragments")).unwrap();
    // Within the file's end nothing is allocated ahead.
    file.set_len(300 * 8192).unwrap();
    for nth in 0..300 {
        file.write_all_at(b"piece", nth * 8192).unwrap();
    }
    drop(file);
    for nth in 0..60 {
        attribute(
            &root.join("fragments"),
            &format!("user.{nth}"),
            &noise(100, nth),
        );
    }
    attribute(&root.join("fragments"), "user.large", &noise(9000, 1));
    std::fs::create_dir(root.join("block")).unwrap();
    for nth in 0..20 {
        File::create(root.join(format!("block/{nth}"))).unwrap();
    }
    std::os::unix::fs::symlink("t".repeat(900), root.join("link")).unwrap();
    crate::kernel::must("sync", &["-f", root.to_str().unwrap()]);
    let dirty = copy(&image, "small.dirty");
    drop(mounted);
    [image, dirty]
}

/// The places of an image that hold anything, in units of 64 bytes.
fn used(image: &dyn Source) -> Vec<u64> {
    let mut out = Vec::new();
    let mut block = [0; 64];
    let mut at = 0;
    while let Some(range) = image.next_data(at).unwrap() {
        for unit in range.start / 64..range.end / 64 {
            image.read_exact_at(unit * 64, &mut block).unwrap();
            if block != [0; 64] {
                out.push(unit);
            }
        }
        at = range.end;
    }
    out
}

/// DORMOUSE_FUZZ_SECONDS lengthens the run; DORMOUSE_FUZZ_SEED repeats one execution.
#[test]
fn mutated_images_neither_panic_nor_hang() {
    let folder = tempfile::tempdir().unwrap();
    let mut images: Vec<Arc<dyn Source>> = Vec::new();
    for path in small(folder.path()) {
        images.push(Arc::new(HostFile::open(&path).unwrap()));
    }
    images.push(Arc::new(
        HostFile::open(&crate::old::small(folder.path())).unwrap(),
    ));
    let used: Vec<Vec<u64>> = images.iter().map(|image| used(image.as_ref())).collect();
    let seconds = std::env::var("DORMOUSE_FUZZ_SECONDS").map_or(4, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let only = std::env::var("DORMOUSE_FUZZ_SEED")
        .ok()
        .map(|text| text.parse::<u64>().unwrap());
    let mut seed = only.map_or(0x00D0_0000_u64, |seed| seed - 1);
    let first = seed;
    let (mut opened, mut whole) = (0_u64, 0_u64);
    while Instant::now() < until {
        seed += 1;
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let which = random.below(images.len());
        let mut bytes = Patched {
            image: images[which].clone(),
            changes: Vec::new(),
        };
        for _ in 0..1 + random.below(8) {
            let at = match random.below(6) {
                0 => random.below(2048) as u64,
                _ => used[which][random.below(used[which].len())] * 64 + random.below(64) as u64,
            };
            let mut old = [0];
            bytes.read_exact_at(at, &mut old).unwrap();
            let byte = match random.below(4) {
                0 => 0xFF,
                1 => 0,
                2 => old[0] ^ (1 << random.below(8)),
                _ => random.next() as u8,
            };
            bytes.change(at, byte);
        }
        let started = spent();
        let volume: Arc<dyn Source> = Arc::new(bytes);
        if let Ok(tree) = Xfs.open(volume) {
            opened += 1;
            whole += u64::from(read_on(&*tree).is_ok());
        }
        let took = spent() - started;
        assert!(took < Duration::from_secs(20), "seed {seed} took {took:?}");
        if only.is_some() {
            println!("image {which} took {took:?}");
            break;
        }
    }
    println!(
        "{} executions, {opened} of them opened, {whole} read through",
        seed - first
    );
    assert!(opened > 0);
}

#[test]
fn truncated_images_are_refused_or_read_up_to_their_end() {
    let folder = tempfile::tempdir().unwrap();
    let [image, dirty] = small(folder.path());
    for path in [image, dirty] {
        let source: Arc<dyn Source> = Arc::new(HostFile::open(&path).unwrap());
        let len = source.len();
        for cut in [
            0,
            3,
            511,
            512,
            700,
            4096,
            65536,
            len / 3,
            len / 2,
            len - 4096,
            len - 1,
        ] {
            let short: Arc<dyn Source> = Arc::new(window(source.clone(), 0, cut).unwrap());
            let probed = Xfs.probe(short.as_ref()).unwrap();
            assert_eq!(probed, cut >= 512, "{cut}");
            let error = Xfs.open(short).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{cut}: {error}");
        }
        assert!(Xfs.open(source).is_ok());
    }
}

/// Writes `bytes` into what xfs_db says is the place of a structure.
fn bend(source: &Arc<dyn Source>, changes: &[(u64, &[u8])]) -> Arc<dyn Source> {
    let mut bytes = Patched {
        image: source.clone(),
        changes: Vec::new(),
    };
    for (at, change) in changes {
        for (nth, byte) in change.iter().enumerate() {
            bytes.change(at + nth as u64, *byte);
        }
    }
    Arc::new(bytes)
}

fn place(image: &Path, commands: &[&str]) -> u64 {
    let mut args = vec!["-r"];
    for command in commands {
        args.extend(["-c", command]);
    }
    args.extend(["-c", "daddr", image.to_str().unwrap()]);
    let text = crate::kernel::must("xfs_db", &args);
    let number = text.split_whitespace().last().expect("a sector");
    number.parse::<u64>().unwrap() * 512
}

#[test]
fn loops_and_huge_counts_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [image, _] = small(folder.path());
    let source: Arc<dyn Source> = Arc::new(HostFile::open(&image).unwrap());
    let tree = Xfs.open(source.clone()).unwrap();
    let node = tree
        .lookup(tree.root(), b"fragments")
        .unwrap()
        .unwrap()
        .node;
    let inode = format!("inode {}", node.0);
    // The first leaf of the file's extents.
    let leaf = place(&image, &[&inode, "addr u3.bmbt.ptrs[1]"]);
    let mut magic = [0; 4];
    source.read_exact_at(leaf, &mut magic).unwrap();
    assert_eq!(magic, *b"BMA3");
    let refused = |what: &str, changes: &[(u64, &[u8])]| {
        let tree = Xfs.open(bend(&source, changes)).unwrap();
        let mut buf = vec![0; 1 << 20];
        let error = tree.read_at(node, 0, &mut buf).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
        println!("{what}: {}", error.with_causes());
    };
    // The leaf says that it is an index whose first pointer leads to itself, or holds more than there is room for.
    let own = (leaf / 4096).to_be_bytes();
    let first_pointer = leaf + 72 + (4096 - 72) / 16 * 8;
    refused("itself", &[(leaf + 4, &[0, 1]), (first_pointer, &own)]);
    refused("many", &[(leaf + 6, &[0xFF, 0xFF])]);
    // The extents of the inode's attributes are as many as can be said.
    let attributes = Xfs
        .open(bend(
            &source,
            &[(inode_place(&image, node.0) + 80, &[0xFF; 2])],
        ))
        .unwrap();
    assert_eq!(
        attributes.xattrs(node).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    // An index of a directory whose leaf goes on in itself is only followed while hashes are the same.
    let root = format!("inode {}", tree.root().0);
    let index = place(&image, &[&root, "dblock 8388608"]);
    let mut bytes = [0; 4096];
    source.read_exact_at(index, &mut bytes).unwrap();
    println!("the index begins with {:x?}", &bytes[..64]);
    let bent = Xfs
        .open(bend(&source, &[(index + 58, &[0xFF; 2])]))
        .unwrap();
    match bent.lookup(bent.root(), b"name-7-nnnnnnn") {
        Ok(found) => assert!(found.is_some()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}"),
    }
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let [image, _] = small(folder.path());
    let source: Arc<dyn Source> = Arc::new(HostFile::open(&image).unwrap());
    for (at, byte, kind, why) in [
        (
            216,
            0x80,
            ErrorKind::Unsupported,
            "incompatible features of XFS: 0x80000000",
        ),
        (219, 0x10, ErrorKind::Corrupt, "must be repaired"),
        (101, 0xB3, ErrorKind::Unsupported, "version 3"),
        (126, 1, ErrorKind::Corrupt, "never ended"),
        (4, 1, ErrorKind::Corrupt, "bad block"),
        (88, 1, ErrorKind::Corrupt, "allocation groups"),
    ] {
        let error = Xfs
            .open(bend(&source, &[(at, &[byte])]))
            .map(|_| ())
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    let error = Xfs
        .open(bend(&source, &[(48, &[0; 8])]))
        .map(|_| ())
        .unwrap_err();
    assert!(
        error.to_string().contains("log is on another device"),
        "{error}"
    );
    // Features that only matter to writers are named.
    let tree = Xfs.open(bend(&source, &[(212, &[0x80])])).unwrap();
    assert!(
        tree.info()
            .features
            .contains(&"ro_compat_0x80000000".to_owned())
    );
    let node = tree
        .lookup(tree.root(), b"fragments")
        .unwrap()
        .unwrap()
        .node;
    let flags = inode_place(&image, node.0) + 91;
    let tree = Xfs.open(bend(&source, &[(flags, &[1])])).unwrap();
    let error = tree.read_at(node, 0, &mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("real-time device"), "{error}");
}

fn inode_place(image: &Path, number: u64) -> u64 {
    // xfs_db names the sector of the inode's buffer; its place within follows from its number.
    place(image, &[&format!("inode {number}")]) / 4096 * 4096 + number % 8 * 512
}
