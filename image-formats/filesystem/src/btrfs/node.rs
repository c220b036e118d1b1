//! Tree nodes: a header, then either keys with children or keys with items.

use dormouse_block::{Error, Result, array_at, le_u32, le_u64, slice_at};

use super::checksum::FIELD;
use super::index;
use super::key::{self, Key};
use super::superblock::Superblock;

/// Highest level of a root node (kernel: `BTRFS_MAX_LEVEL` less one).
pub(super) const MAX_LEVEL: u8 = 7;
/// Bytes of the header.
const HEADER: usize = 101;
/// Bytes of an item's head: its key, where its bytes are, and how many.
const ITEM: usize = key::SIZE + 8;
/// Bytes of a child's entry: its first key, its address, its generation.
const CHILD: usize = key::SIZE + 16;

/// A child of an inner node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Child {
    pub(super) first: Key,
    pub(super) logical: u64,
    pub(super) generation: u64,
}

/// A node that was checked as a whole: its keys ascend, its items lie within it.
#[derive(Debug)]
pub(super) struct Node {
    bytes: Vec<u8>,
    pub(super) level: u8,
    pub(super) generation: u64,
    pub(super) owner: u64,
    pub(super) count: usize,
}

/// Holds the checksum and address of a node's bytes against what they should be; `knows` says which UUIDs belong here.
pub(super) fn check(
    sb: &Superblock,
    knows: impl Fn(&[u8; 16]) -> bool,
    logical: u64,
    bytes: &[u8],
) -> Result<()> {
    let bad = |what: &str| Error::corrupt(format!("bad {what} of the tree node at {logical}"));
    let summed = bytes.get(FIELD..).unwrap_or_default();
    if !sb
        .checksum
        .holds(slice_at(bytes, 0, sb.checksum.size())?, summed)
    {
        return Err(bad("checksum"));
    }
    if le_u64(bytes, 0x30)? != logical {
        return Err(bad("own address"));
    }
    if !knows(&array_at(bytes, 0x20)?) {
        return Err(bad("fsid"));
    }
    Ok(())
}

impl Node {
    /// The node in `bytes`, which passed [`check`].
    pub(super) fn parse(logical: u64, bytes: Vec<u8>) -> Result<Self> {
        let bad = |what: &str| Error::corrupt(format!("bad {what} of the tree node at {logical}"));
        let [level] = array_at(&bytes, 0x64)?;
        let count = index(le_u32(&bytes, 0x60)?);
        let size = if level == 0 { ITEM } else { CHILD };
        let heads = count
            .checked_mul(size)
            .and_then(|heads| heads.checked_add(HEADER))
            .filter(|heads| *heads <= bytes.len())
            .ok_or_else(|| bad("number of items"))?;
        if level > MAX_LEVEL || (level > 0 && count == 0) {
            return Err(bad("level"));
        }
        let node = Self {
            level,
            generation: le_u64(&bytes, 0x50)?,
            owner: le_u64(&bytes, 0x58)?,
            count,
            bytes,
        };
        let mut before = None;
        let mut end = node.bytes.len();
        for nth in 0..count {
            let key = node.key(nth)?;
            if before.is_some_and(|before| before >= key) {
                return Err(bad("order of keys"));
            }
            before = Some(key);
            if level == 0 {
                // Items fill the node from its end, without room between them.
                let (start, len) = node.extent(nth)?;
                if start.checked_add(len) != Some(end) || start < heads {
                    return Err(bad("place of an item"));
                }
                end = start;
            }
        }
        Ok(node)
    }

    fn head(&self, nth: usize) -> usize {
        let size = if self.level == 0 { ITEM } else { CHILD };
        HEADER.saturating_add(nth.saturating_mul(size))
    }

    /// The key of entry `nth`.
    pub(super) fn key(&self, nth: usize) -> Result<Key> {
        Key::parse(&self.bytes, self.head(nth))
    }

    fn extent(&self, nth: usize) -> Result<(usize, usize)> {
        let at = self.head(nth).saturating_add(key::SIZE);
        let start = HEADER.saturating_add(index(le_u32(&self.bytes, at)?));
        Ok((start, index(le_u32(&self.bytes, at.saturating_add(4))?)))
    }

    /// The bytes of item `nth` of a leaf.
    pub(super) fn item(&self, nth: usize) -> Result<&[u8]> {
        let (start, len) = self.extent(nth)?;
        slice_at(&self.bytes, start, len)
    }

    /// Child `nth` of an inner node.
    pub(super) fn child(&self, nth: usize) -> Result<Child> {
        let at = self.head(nth).saturating_add(key::SIZE);
        Ok(Child {
            first: self.key(nth)?,
            logical: le_u64(&self.bytes, at)?,
            generation: le_u64(&self.bytes, at.saturating_add(8))?,
        })
    }

    /// The number of entries whose keys are below `key`.
    pub(super) fn below(&self, key: Key) -> Result<usize> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle)? < key {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}
