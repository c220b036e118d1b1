//! Directory blocks: entries, the checksum at the end, and the index of hashed directories.

use dormouse_block::{Error, Result, le_u16, le_u32, slice_at};

use super::checksum;
use super::features::FILETYPE;
use super::superblock::Superblock;
use crate::NodeKind;

/// Bytes of an entry before its name.
pub const HEADER: usize = 8;
/// Bytes of the entry that holds the checksum at the end of a block.
pub const TAIL: usize = 12;
/// The type that marks that entry.
const TAIL_TYPE: u8 = 0xDE;
/// Where the index information is in a root block: after `.` and `..`.
pub const ROOT_INFO: usize = 24;
/// Where the entries of a root block's index are.
pub const ROOT_ENTRIES: usize = 32;
/// Where the entries of an inner index block are: after one empty entry.
pub const NODE_ENTRIES: usize = 8;

/// One entry of a directory block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it is in its block.
    pub offset: usize,
    /// Bytes up to the next one.
    pub length: usize,
    /// The inode, 0 for an unused entry.
    pub inode: u32,
    /// What it says it leads to, as stored.
    pub kind: u8,
    /// The name.
    pub name: &'a [u8],
}

/// Bytes that an entry with a name of `len` bytes takes at least.
#[must_use]
pub fn entry_size(len: usize) -> usize {
    HEADER.saturating_add(len).next_multiple_of(4)
}

/// The stored type of an entry as a kind.
#[must_use]
pub fn kind(stored: u8) -> Option<NodeKind> {
    Some(match stored {
        1 => NodeKind::File,
        2 => NodeKind::Directory,
        3 => NodeKind::CharDevice,
        4 => NodeKind::BlockDevice,
        5 => NodeKind::Fifo,
        6 => NodeKind::Socket,
        7 => NodeKind::Symlink,
        _ => return None,
    })
}

/// A kind as it is stored in an entry.
#[must_use]
pub fn stored_kind(kind: NodeKind) -> u8 {
    match kind {
        NodeKind::File => 1,
        NodeKind::Directory => 2,
        NodeKind::CharDevice => 3,
        NodeKind::BlockDevice => 4,
        NodeKind::Fifo => 5,
        NodeKind::Socket => 6,
        NodeKind::Symlink => 7,
    }
}

/// The length field of an entry, in which 64 KiB do not fit.
#[must_use]
pub fn entry_length(stored: u16, block_size: usize) -> usize {
    if block_size < 65536 {
        return usize::from(stored);
    }
    match stored {
        0 | 0xFFFF => block_size,
        _ => usize::from(stored & 0xFFFC) | usize::from(stored & 3) << 16,
    }
}

/// Hands every entry of `bytes`, used or not, to `take`, until that returns false.
///
/// # Errors
/// `Corrupt` for entries that overlap, leave the block, or have impossible names.
pub fn entries<'a>(
    sb: &Superblock,
    bytes: &'a [u8],
    mut take: impl FnMut(Entry<'a>) -> Result<bool>,
) -> Result<()> {
    let mut offset = 0_usize;
    while offset < bytes.len() {
        let rest = bytes.len().saturating_sub(offset);
        let bad = || Error::corrupt("a broken entry in a directory");
        if rest < HEADER {
            return Err(bad());
        }
        let inode = le_u32(bytes, offset)?;
        let length = entry_length(le_u16(bytes, offset.saturating_add(4))?, sb.block_len());
        let sizes = slice_at(bytes, offset.saturating_add(6), 2)?;
        let (name_len, kind) = match sizes {
            [len, kind] if sb.features.incompat(FILETYPE) => (usize::from(*len), *kind),
            _ => (usize::from(le_u16(sizes, 0)?), 0),
        };
        if length > rest
            || !length.is_multiple_of(4)
            || length < entry_size(name_len.max(1))
            || name_len > 255
        {
            return Err(bad());
        }
        let name = slice_at(bytes, offset.saturating_add(HEADER), name_len)?;
        if inode != 0 && (name.is_empty() || name.contains(&b'/') || name.contains(&0)) {
            return Err(Error::corrupt("an impossible name in a directory"));
        }
        if inode > sb.inodes_count {
            return Err(Error::corrupt(format!(
                "a directory entry leads to inode {inode}"
            )));
        }
        if !take(Entry {
            offset,
            length,
            inode,
            kind,
            name,
        })? {
            return Ok(());
        }
        offset = offset.saturating_add(length);
    }
    Ok(())
}

/// Bytes of a block that hold entries: all but the checksum's.
#[must_use]
pub fn usable(sb: &Superblock) -> usize {
    if sb.metadata_checksums() {
        sb.block_len().saturating_sub(TAIL)
    } else {
        sb.block_len()
    }
}

/// The entry at the end of a block of entries that holds its checksum; `seed` is the directory's.
///
/// # Errors
/// `Corrupt` for a block that is too short.
pub fn tail(sb: &Superblock, seed: u32, bytes: &[u8]) -> Result<[u8; TAIL]> {
    let sum = checksum::crc32c(seed, slice_at(bytes, 0, usable(sb))?);
    let mut out = [0, 0, 0, 0, 12, 0, 0, TAIL_TYPE, 0, 0, 0, 0];
    for (to, from) in out.iter_mut().skip(8).zip(sum.to_le_bytes()) {
        *to = from;
    }
    Ok(out)
}

/// Checks the checksum of a block of entries.
///
/// # Errors
/// `Corrupt` when it is wrong or missing.
pub fn verify_leaf(sb: &Superblock, seed: u32, bytes: &[u8]) -> Result<()> {
    if sb.metadata_checksums() && slice_at(bytes, usable(sb), TAIL)? != tail(sb, seed, bytes)? {
        return Err(Error::corrupt("bad checksum of a directory block"));
    }
    Ok(())
}

/// Whether a block of a hashed directory is an inner index block: one empty entry over all of it.
///
/// # Errors
/// `Corrupt` for a block that is too short.
pub fn is_index_node(bytes: &[u8]) -> Result<bool> {
    Ok(le_u32(bytes, 0)? == 0 && entry_length(le_u16(bytes, 4)?, bytes.len()) == bytes.len())
}

/// One entry of an index: names from this hash on are in that block. The lowest bit of the hash is set when names
/// of the same hash stand in the block before as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// The lowest hash; 0 for the first entry.
    pub hash: u32,
    /// The logical block.
    pub block: u32,
}

/// The index in a root block or an inner block whose entries begin at `start`.
///
/// # Errors
/// `Corrupt` for impossible counts.
pub fn index_entries(bytes: &[u8], start: usize) -> Result<Vec<IndexEntry>> {
    let limit = usize::from(le_u16(bytes, start)?);
    let count = usize::from(le_u16(bytes, start.saturating_add(2))?);
    let room = bytes.len().saturating_sub(start) / 8;
    if count == 0 || count > limit || limit > room {
        return Err(Error::corrupt("bad number of entries in a directory index"));
    }
    let mut out: Vec<IndexEntry> = Vec::with_capacity(count);
    for nth in 0..count {
        let at = start.saturating_add(nth.saturating_mul(8));
        let hash = if nth == 0 { 0 } else { le_u32(bytes, at)? };
        if out.last().is_some_and(|last| last.hash > hash) {
            return Err(Error::corrupt("a directory index is out of order"));
        }
        out.push(IndexEntry {
            hash,
            // The kernel masks the same bits.
            block: le_u32(bytes, at.saturating_add(4))? & 0x0FFF_FFFF,
        });
    }
    Ok(out)
}

/// The checksum that an index block should have, and where it is stored; `start` is where its entries begin.
///
/// # Errors
/// `Corrupt` when there is no room for it.
pub fn index_checksum(seed: u32, bytes: &[u8], start: usize) -> Result<(u32, usize)> {
    let limit = usize::from(le_u16(bytes, start)?);
    let count = usize::from(le_u16(bytes, start.saturating_add(2))?);
    let tail = start.saturating_add(limit.saturating_mul(8));
    if count > limit {
        return Err(Error::corrupt("bad number of entries in a directory index"));
    }
    let sum = checksum::crc32c(
        seed,
        slice_at(bytes, 0, start.saturating_add(count.saturating_mul(8)))?,
    );
    let sum = checksum::crc32c(sum, slice_at(bytes, tail, 4)?);
    let at = tail.saturating_add(4);
    slice_at(bytes, at, 4)?;
    Ok((checksum::crc32c(sum, &[0; 4]), at))
}

/// Checks the checksum of an index block.
///
/// # Errors
/// `Corrupt` when it is wrong.
pub fn verify_index(sb: &Superblock, seed: u32, bytes: &[u8], start: usize) -> Result<()> {
    if sb.metadata_checksums() {
        let (sum, at) = index_checksum(seed, bytes, start)?;
        if sum != le_u32(bytes, at)? {
            return Err(Error::corrupt("bad checksum of a directory index"));
        }
    }
    Ok(())
}

/// Checks the checksum of block `logical` of a directory, whatever it holds; `hashed` says whether the directory has
/// the `INDEX` flag.
///
/// # Errors
/// `Corrupt` when it is wrong or missing.
pub fn verify(sb: &Superblock, seed: u32, hashed: bool, logical: u32, bytes: &[u8]) -> Result<()> {
    match index_start(hashed, logical, bytes)? {
        Some(start) => verify_index(sb, seed, bytes, start),
        None => verify_leaf(sb, seed, bytes),
    }
}

/// Where the index entries of block `logical` begin, or `None` for a block of names.
///
/// # Errors
/// `Corrupt` for a block that is too short.
pub fn index_start(hashed: bool, logical: u32, bytes: &[u8]) -> Result<Option<usize>> {
    if hashed && logical == 0 {
        return Ok(Some(ROOT_ENTRIES));
    }
    Ok((hashed && is_index_node(bytes)?).then_some(NODE_ENTRIES))
}

/// The length field of an entry: the reverse of [`entry_length`].
#[must_use]
pub fn stored_length(length: usize, block_size: usize) -> u16 {
    if length >= 65536 {
        return if length == block_size { 0xFFFF } else { 0 };
    }
    u16::try_from(length).unwrap_or(0)
}

/// What a root block says of its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootInfo {
    /// Which hash.
    pub hash_version: u8,
    /// Levels of inner index blocks.
    pub levels: u8,
}

/// Reads what a root block says of its index; `None` when it says nothing that can be followed.
///
/// # Errors
/// `Corrupt` for a block that is too short.
pub fn root_info(sb: &Superblock, bytes: &[u8]) -> Result<Option<RootInfo>> {
    let info = slice_at(bytes, ROOT_INFO, 8)?;
    let [0, 0, 0, 0, hash_version, 8, levels, flags] = info else {
        return Ok(None);
    };
    if flags & 1 != 0 || *levels > sb.index_levels() {
        return Ok(None);
    }
    Ok(Some(RootInfo {
        hash_version: *hash_version,
        levels: *levels,
    }))
}

/// Room for entries in an index block whose entries begin at `start`.
#[must_use]
pub fn index_limit(sb: &Superblock, start: usize) -> usize {
    let tail = if sb.metadata_checksums() { 8 } else { 0 };
    sb.block_len().saturating_sub(start).saturating_sub(tail) / 8
}
