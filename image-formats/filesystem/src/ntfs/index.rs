//! Directory indices: a B-tree of names, whose root lies in the record and whose blocks lie in clusters.

use dormouse_block::{Error, Result, le_u16, le_u32, le_u64, slice_at};

use super::name::FileName;
use super::record::{Reference, fix};
use crate::fat::index;

/// The name of all attributes of a directory's index, `$I30`.
pub(super) const NAME: &[u8] = b"$\0I\x003\x000\0";
/// How names are sorted (`COLLATION_FILE_NAME`).
const BY_NAME: u32 = 1;
/// Bytes of the largest block.
const MAX_BLOCK: u32 = 64 << 10;
/// `flags` of an entry: something lies below, before it.
const BELOW: u16 = 1;
/// `flags` of an entry: ends the node, without a name.
const END: u16 = 2;

/// An entry of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) file: Reference,
    /// `None` for the end.
    pub(super) name: Option<FileName>,
    /// The block with the names before this one.
    pub(super) below: Option<u64>,
}

/// `$INDEX_ROOT`.
pub(super) struct Root {
    /// Bytes of a block.
    pub(super) block: u32,
    pub(super) entries: Vec<Entry>,
}

impl Root {
    /// Reads the root of a directory's index.
    ///
    /// # Errors
    /// `Corrupt` for a broken one.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let block = le_u32(bytes, 8)?;
        if le_u32(bytes, 4)? != BY_NAME || !block.is_power_of_two() {
            return Err(Error::corrupt("a directory's index is not one of names"));
        }
        if !(512..=MAX_BLOCK).contains(&block) {
            return Err(Error::corrupt("bad size of a directory's index blocks"));
        }
        Ok(Self {
            block,
            entries: entries(bytes.get(16..).unwrap_or_default())?,
        })
    }
}

/// The entries of a block that says it is number `number`.
///
/// # Errors
/// `Corrupt` for a broken one.
pub(super) fn block(mut bytes: Vec<u8>, number: u64) -> Result<Vec<Entry>> {
    fix(&mut bytes, b"INDX")?;
    if le_u64(&bytes, 16)? != number {
        return Err(Error::corrupt("an index block is not the one it should be"));
    }
    entries(bytes.get(24..).unwrap_or_default())
}

/// The entries behind an index header.
fn entries(bytes: &[u8]) -> Result<Vec<Entry>> {
    let mut at = index(le_u32(bytes, 0)?);
    let end = index(le_u32(bytes, 4)?);
    let bytes = slice_at(bytes, 0, end)?;
    let mut out = Vec::new();
    loop {
        let len = usize::from(le_u16(bytes, at.saturating_add(8))?);
        let entry = slice_at(bytes, at, len)?;
        let flags = le_u16(entry, 12)?;
        let below = if flags & BELOW != 0 {
            let place = len
                .checked_sub(8)
                .ok_or_else(|| Error::corrupt("bad length of an index entry"))?;
            Some(le_u64(entry, place)?)
        } else {
            None
        };
        let last = flags & END != 0;
        let name = if last {
            None
        } else {
            let key = usize::from(le_u16(entry, 10)?);
            Some(FileName::parse(slice_at(entry, 16, key)?)?)
        };
        out.push(Entry {
            file: Reference(le_u64(entry, 0)?),
            name,
            below,
        });
        if last {
            return Ok(out);
        }
        // 16 bytes at least were read of the entry, so this ends.
        at = at.saturating_add(len);
    }
}
