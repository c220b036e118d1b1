//! What the targets of filesystems and disks share: images whose empty sectors cost nothing, and a walk over a whole tree.
//!
//! An image is packed (`pack.py`): its length in sectors, 4 bytes little-endian; then each sector that is not empty behind its
//! number, 4 bytes little-endian. A volume of 100 MiB with little in it is a few KiB, so that a change nearly always hits
//! something that is read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;

use dormouse_block::{Error, Result, Source};
use dormouse_filesystem::{NodeKind, Tree};

/// Bytes of a sector.
const SECTOR: usize = 512;
/// Sectors of an image: 256 MiB.
const MAX_SECTORS: u32 = 512 << 10;
/// Nodes visited of a tree, names looked up one by one, and bytes read of each file at a time: as much as reaches every kind of
/// node, since what more nodes of one kind take is taken from the number of inputs.
const MAX_NODES: usize = 120;
const MAX_LOOKUPS: usize = 40;
const MAX_READ: usize = 20 << 10;

/// An image that was unpacked.
pub struct Image {
    sectors: BTreeMap<u32, [u8; SECTOR]>,
    len: u64,
}

impl Image {
    /// What `bytes` pack; sectors beyond its end are left out.
    pub fn unpack(bytes: &[u8]) -> Self {
        let (head, rest) = bytes.split_at(bytes.len().min(4));
        let count = head.try_into().map_or(0, u32::from_le_bytes).min(MAX_SECTORS);
        let mut sectors = BTreeMap::new();
        for record in rest.chunks(4 + SECTOR) {
            let Some((number, content)) = record.split_first_chunk() else {
                break;
            };
            let number = u32::from_le_bytes(*number);
            if number < count {
                let mut sector = [0; SECTOR];
                sector[..content.len()].copy_from_slice(content);
                sectors.insert(number, sector);
            }
        }
        Self {
            sectors,
            len: u64::from(count) * 512,
        }
    }

    /// The first numbers of the runs of `count` sectors, aligned to as many, of which any is not empty.
    pub fn runs(&self, count: u32) -> BTreeSet<u32> {
        self.sectors.keys().map(|number| number / count * count).collect()
    }

    /// Writes `bytes`, whole sectors, from sector `first` on; what lies beyond the end is left out.
    pub fn put(&mut self, first: u32, bytes: &[u8]) {
        for (number, part) in (first..).zip(bytes.as_chunks::<SECTOR>().0) {
            if u64::from(number) * 512 < self.len {
                self.sectors.insert(number, *part);
            }
        }
    }

    /// Writes it as a file with holes.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        use std::io::{Seek as _, SeekFrom};
        let mut file = std::fs::File::create(path)?;
        file.set_len(self.len)?;
        for (number, sector) in &self.sectors {
            file.seek(SeekFrom::Start(u64::from(*number) * 512))?;
            file.write_all(sector)?;
        }
        Ok(())
    }
}

impl Source for Image {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = u64::try_from(buf.len()).ok().and_then(|len| offset.checked_add(len));
        let Some(end) = end.filter(|end| *end <= self.len) else {
            return Err(Error::corrupt("a read beyond the end").at_offset(offset));
        };
        buf.fill(0);
        if buf.is_empty() {
            return Ok(());
        }
        let place = |at: u64| u32::try_from(at / 512).expect("the length is bounded");
        for (number, sector) in self.sectors.range(place(offset)..=place(end - 1)) {
            let start = u64::from(*number) * 512;
            let (from, to) = (start.max(offset), (start + 512).min(end));
            let at = |place: u64, base: u64| usize::try_from(place - base).expect("within the buffer");
            buf[at(from, offset)..at(to, offset)].copy_from_slice(&sector[at(from, start)..at(to, start)]);
        }
        Ok(())
    }
}

/// Everything that can be asked of a tree, going on after failures.
pub fn walk(tree: &dyn Tree) {
    let _ = (tree.info(), tree.left());
    let mut seen = BTreeSet::new();
    let mut todo = vec![tree.root()];
    let mut lookups = 0;
    let mut buf = vec![0; MAX_READ];
    while let Some(node) = todo.pop() {
        if seen.len() >= MAX_NODES || !seen.insert(node) {
            continue;
        }
        let Ok(metadata) = tree.metadata(node) else {
            continue;
        };
        let _ = tree.xattrs(node);
        match metadata.kind {
            NodeKind::Directory => {
                let _ = tree.lookup(node, b"no such name");
                for entry in tree.read_dir(node).unwrap_or_default() {
                    assert!(!entry.name.is_empty() && !entry.name.contains(&b'/') && !entry.name.contains(&0));
                    lookups += 1;
                    if lookups <= MAX_LOOKUPS {
                        let _ = tree.lookup(node, &entry.name);
                    }
                    todo.push(entry.node);
                }
            }
            NodeKind::File => {
                for place in [0, metadata.size / 2, metadata.size.saturating_sub(9)] {
                    if let Ok(read) = tree.read_at(node, place, &mut buf) {
                        assert!(read <= buf.len() && (read > 0 || place >= metadata.size), "{read} bytes at {place}");
                    }
                }
            }
            _ => {
                let _ = tree.read_link(node);
            }
        }
    }
}
