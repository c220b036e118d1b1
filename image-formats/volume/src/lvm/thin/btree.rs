//! B-trees of 64-bit keys and values (`drivers/md/persistent-data/dm-btree-internal.h`), little-endian.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Error, Result, Source, le_u32, le_u64, read_vec_at};

/// Bytes of a node (`THIN_METADATA_BLOCK_SIZE`).
pub(super) const BLOCK: usize = 4096;
/// `BTREE_CSUM_XOR`.
const SALT: u32 = 121_107;
/// Bytes of a node's header.
const HEADER: usize = 32;
/// Flags of a node.
const INTERNAL: u32 = 1;
const LEAF: u32 = 2;
/// Nodes from a root to a leaf: seven levels of 126 entries hold more blocks than any pool.
const MAX_DEPTH: usize = 16;
/// Nodes looked at for one question: as deep as a tree is, twice over, in a sound one.
const MAX_VISITS: usize = 1024;
/// Nodes kept in memory, some 4 KiB each.
const MAX_KEPT: usize = 1024;

/// The kernel's checksum of a block: CRC-32C of all but the sum itself, salted.
pub(super) fn checksum(block: &[u8], salt: u32) -> u32 {
    !crc32c::crc32c(block.get(4..).unwrap_or_default()) ^ salt
}

/// A node that was held against its checksum and its place.
struct Node {
    leaf: bool,
    keys: Vec<u64>,
    values: Vec<u64>,
}

/// Trees in the same metadata.
pub(super) struct Btree {
    metadata: Arc<dyn Source>,
    nodes: Mutex<HashMap<u64, Arc<Node>>>,
}

impl Btree {
    pub(super) fn new(metadata: Arc<dyn Source>) -> Self {
        Self {
            metadata,
            nodes: Mutex::default(),
        }
    }

    /// The value of `key` in the tree at `root`.
    pub(super) fn get(&self, root: u64, key: u64) -> Result<Option<u64>> {
        let mut block = root;
        for _ in 0..MAX_DEPTH {
            let node = self.node(block)?;
            let Some(at) = node.at_or_before(key) else {
                return Ok(None);
            };
            let value = node.values.get(at).copied();
            if node.leaf {
                return Ok(value.filter(|_| node.keys.get(at) == Some(&key)));
            }
            let Some(child) = value else {
                return Ok(None);
            };
            block = child;
        }
        Err(deep())
    }

    /// The first key at or after `key` in the tree at `root`.
    pub(super) fn next(&self, root: u64, key: u64) -> Result<Option<u64>> {
        // Nodes on the way down, and the entry to look at next in each.
        let mut way = vec![(self.node(root)?, None::<usize>)];
        for _ in 0..MAX_VISITS {
            let Some((node, entry)) = way.last_mut() else {
                return Ok(None);
            };
            let at = match *entry {
                Some(at) => at,
                None if node.leaf => node.keys.partition_point(|known| *known < key),
                None => node.at_or_before(key).unwrap_or(0),
            };
            *entry = Some(at.saturating_add(1));
            if node.leaf {
                let found = node.keys.get(at).copied();
                if found.is_some() {
                    return Ok(found);
                }
                way.pop();
                continue;
            }
            let Some(child) = node.values.get(at).copied() else {
                way.pop();
                continue;
            };
            if way.len() >= MAX_DEPTH {
                return Err(deep());
            }
            way.push((self.node(child)?, None));
        }
        Err(Error::corrupt(
            "a tree of the thin pool has too many empty nodes",
        ))
    }

    fn node(&self, block: u64) -> Result<Arc<Node>> {
        let nodes = || self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes().get(&block) {
            return Ok(node.clone());
        }
        let node = Arc::new(self.read(block)?);
        let mut kept = nodes();
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(block, node.clone());
        Ok(node)
    }

    fn read(&self, block: u64) -> Result<Node> {
        let at = block
            .checked_mul(4096)
            .ok_or_else(|| Error::corrupt("a node beyond every pool's metadata"))?;
        let bytes = read_vec_at(&*self.metadata, at, BLOCK)?;
        let wrong = |what: &'static str| Error::corrupt(what).at_offset(at);
        if checksum(&bytes, SALT) != le_u32(&bytes, 0)? {
            return Err(wrong("the checksum of a thin pool's node is wrong"));
        }
        if le_u64(&bytes, 8)? != block {
            return Err(wrong("a thin pool's node says it stands elsewhere"));
        }
        let leaf = match le_u32(&bytes, 4)? {
            INTERNAL => false,
            LEAF => true,
            _ => return Err(wrong("a thin pool's node is neither inner node nor leaf")),
        };
        let count = usize::try_from(le_u32(&bytes, 16)?).unwrap_or(usize::MAX);
        let room = usize::try_from(le_u32(&bytes, 20)?).unwrap_or(usize::MAX);
        let fits = room
            .checked_mul(16)
            .and_then(|size| size.checked_add(HEADER))
            .is_some_and(|size| size <= BLOCK);
        if !fits || count > room || le_u32(&bytes, 24)? != 8 {
            return Err(wrong("a thin pool's node has impossible sizes"));
        }
        let column = |start: usize| -> Result<Vec<u64>> {
            (0..count)
                .map(|entry| le_u64(&bytes, start.saturating_add(entry.saturating_mul(8))))
                .collect()
        };
        let keys = column(HEADER)?;
        let values = column(HEADER.saturating_add(room.saturating_mul(8)))?;
        if !keys.is_sorted_by(|a, b| a < b) {
            return Err(wrong("the keys of a thin pool's node are not in order"));
        }
        Ok(Node { leaf, keys, values })
    }
}

impl Node {
    /// The last entry whose key is not after `key`.
    fn at_or_before(&self, key: u64) -> Option<usize> {
        self.keys
            .partition_point(|known| *known <= key)
            .checked_sub(1)
    }
}

fn deep() -> Error {
    Error::corrupt("a tree of the thin pool is deeper than any is, or goes round")
}
