//! Extent trees: the map from a file's logical blocks to the filesystem's.

use dormouse_block::{Error, Result, le_u16, le_u32, slice_at};

use super::superblock::Superblock;
use super::{checksum, overflow};

/// `eh_magic`.
pub const MAGIC: u16 = 0xF30A;
/// Bytes of a header and of every entry.
pub const ENTRY: usize = 12;
/// Deepest tree (kernel: `EXT4_MAX_EXTENT_DEPTH`).
pub const MAX_DEPTH: u16 = 5;
/// Longest written extent; longer lengths mean unwritten ones.
pub const MAX_LEN: u32 = 32768;

/// Consecutive logical blocks in consecutive filesystem blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first logical block.
    pub logical: u32,
    /// How many, 1 to [`MAX_LEN`].
    pub len: u32,
    /// The first filesystem block.
    pub physical: u64,
    /// Whether they were written; if not they are read as zeroes.
    pub written: bool,
}

/// A node further down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// The first logical block below it.
    pub logical: u32,
    /// The filesystem block of the node.
    pub block: u64,
}

/// One node of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Depth 0: extents by ascending logical block, not overlapping.
    Leaf(Vec<Extent>),
    /// Nodes of depth one less, by ascending logical block.
    Index(Vec<Child>, u16),
}

/// Reads a node. `depth` is what the parent says it must be; a root may be of any depth up to [`MAX_DEPTH`].
///
/// # Errors
/// `Corrupt` for a node that the kernel would refuse as well.
pub fn parse(sb: &Superblock, bytes: &[u8], depth: Option<u16>) -> Result<Node> {
    if le_u16(bytes, 0)? != MAGIC {
        return Err(Error::corrupt("bad magic number of an extent node"));
    }
    let entries = le_u16(bytes, 2)?;
    let max = le_u16(bytes, 4)?;
    let own = le_u16(bytes, 6)?;
    let room = bytes
        .len()
        .checked_div(ENTRY)
        .unwrap_or(0)
        .saturating_sub(1);
    if entries > max || usize::from(max) > room || max == 0 {
        return Err(Error::corrupt("bad number of entries in an extent node"));
    }
    if own > MAX_DEPTH || depth.is_some_and(|depth| depth != own) {
        return Err(Error::corrupt("bad depth of an extent node"));
    }
    let list = bytes
        .get(ENTRY..)
        .unwrap_or_default()
        .chunks_exact(ENTRY)
        .take(usize::from(entries));
    let mut next = 0_u64;
    if own == 0 {
        let mut out = Vec::with_capacity(usize::from(entries));
        for entry in list {
            let extent = leaf_entry(entry)?;
            if u64::from(extent.logical) < next {
                return Err(Error::corrupt("extents overlap or are out of order"));
            }
            next = u64::from(extent.logical).saturating_add(u64::from(extent.len));
            if next > u64::from(u32::MAX).saturating_add(1) {
                return Err(overflow());
            }
            sb.check_blocks(extent.physical, u64::from(extent.len))?;
            out.push(extent);
        }
        return Ok(Node::Leaf(out));
    }
    if entries == 0 {
        return Err(Error::corrupt("an extent index without entries"));
    }
    let mut out = Vec::with_capacity(usize::from(entries));
    for entry in list {
        let child = Child {
            logical: le_u32(entry, 0)?,
            block: u64::from(le_u32(entry, 4)?) | u64::from(le_u16(entry, 8)?) << 32,
        };
        if u64::from(child.logical) < next {
            return Err(Error::corrupt("extent index entries are out of order"));
        }
        next = u64::from(child.logical).saturating_add(1);
        sb.check_blocks(child.block, 1)?;
        out.push(child);
    }
    Ok(Node::Index(out, own.saturating_sub(1)))
}

fn leaf_entry(entry: &[u8]) -> Result<Extent> {
    let len = u32::from(le_u16(entry, 4)?);
    let (len, written) = match len {
        0 => return Err(Error::corrupt("an extent of no blocks")),
        1..=MAX_LEN => (len, true),
        _ => (len.saturating_sub(MAX_LEN), false),
    };
    Ok(Extent {
        logical: le_u32(entry, 0)?,
        len,
        physical: u64::from(le_u32(entry, 8)?) | u64::from(le_u16(entry, 6)?) << 32,
        written,
    })
}

/// Where the checksum of a node in a block of its own is: after the last entry that there is room for.
///
/// # Errors
/// `Corrupt` when there is no room for it.
pub fn checksum_offset(bytes: &[u8]) -> Result<usize> {
    let max = usize::from(le_u16(bytes, 4)?);
    let at = max.saturating_add(1).saturating_mul(ENTRY);
    slice_at(bytes, at, 4)?;
    Ok(at)
}

/// Checks the checksum of a node in a block of its own; `seed` is the inode's.
///
/// # Errors
/// `Corrupt` when it is wrong.
pub fn verify(sb: &Superblock, seed: u32, bytes: &[u8]) -> Result<()> {
    if !sb.metadata_checksums() {
        return Ok(());
    }
    let at = checksum_offset(bytes)?;
    if checksum::crc32c(seed, slice_at(bytes, 0, at)?) != le_u32(bytes, at)? {
        return Err(Error::corrupt("bad checksum of an extent block"));
    }
    Ok(())
}

/// Every extent of the tree below `root` (an inode's 60 bytes), in order, and every block of the tree itself.
/// `read` fetches a filesystem block.
///
/// # Errors
/// As [`parse`] and `read`; `Limit` for more than `limit` extents or blocks of the tree.
pub fn collect<B: AsRef<[u8]>>(
    sb: &Superblock,
    seed: u32,
    root: &[u8],
    limit: usize,
    read: &mut dyn FnMut(u64) -> Result<B>,
) -> Result<(Vec<Extent>, Vec<u64>)> {
    let mut extents: Vec<Extent> = Vec::new();
    let mut blocks = Vec::new();
    let mut todo = vec![parse(sb, root, None)?];
    while let Some(node) = todo.pop() {
        match node {
            Node::Leaf(list) => {
                if let (Some(last), Some(first)) = (extents.last(), list.first())
                    && last.logical.saturating_add(last.len) > first.logical
                {
                    return Err(Error::corrupt("extents overlap or are out of order"));
                }
                extents.extend(list);
            }
            Node::Index(children, depth) => {
                // Depth first and in order: at most MAX_DEPTH levels of pending children are parsed.
                let Some((first, rest)) = children.split_first() else {
                    continue;
                };
                if !rest.is_empty() {
                    todo.push(Node::Index(rest.to_vec(), depth));
                }
                blocks.push(first.block);
                let bytes = read(first.block)?;
                verify(sb, seed, bytes.as_ref())?;
                todo.push(parse(sb, bytes.as_ref(), Some(depth))?);
            }
        }
        if extents.len() > limit || blocks.len() > limit {
            return Err(Error::limit(format!("a file of more than {limit} extents")));
        }
    }
    Ok((extents, blocks))
}
