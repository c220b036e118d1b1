//! Entries of directories: in the inode, and in blocks.

use std::ops::Range;

use dormouse_block::{Error, Result, array_at, be_u16, be_u32, be_u64, slice_at};

use crate::{DirEntry, NodeId, NodeKind};

/// What stands in place of an entry's first two bytes when it is free (`XFS_DIR2_DATA_FREE_TAG`).
pub(super) const FREE: u16 = 0xFFFF;

fn bad(what: &str) -> Error {
    Error::corrupt(format!("bad {what} of a directory"))
}

/// What `ftype` says; it says nothing of whiteouts, which are devices of their own kind.
fn kind(ftype: u8) -> Option<NodeKind> {
    Some(match ftype {
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

fn entry(name: &[u8], node: u64, ftype: u8) -> Result<DirEntry> {
    if name.is_empty() || name.contains(&0) || name.contains(&b'/') {
        return Err(bad("name"));
    }
    Ok(DirEntry {
        name: name.to_vec(),
        node: NodeId(node),
        kind: kind(ftype),
    })
}

/// The entry at byte `at` of a block whose entries end at `end`, and where the next one begins.
///
/// # Errors
/// `Corrupt` for a broken one.
pub(super) fn parse(bytes: &[u8], at: usize, end: usize, ftype: bool) -> Result<(DirEntry, usize)> {
    let node = be_u64(bytes, at)?;
    let [len] = array_at::<1>(bytes, at.saturating_add(8))?;
    let name_at = at.saturating_add(9);
    let name = slice_at(bytes, name_at, usize::from(len))?;
    let type_at = name_at.saturating_add(name.len());
    let tag_at = type_at.saturating_add(usize::from(ftype));
    let size = tag_at
        .saturating_add(2)
        .saturating_sub(at)
        .next_multiple_of(8);
    let next = at.saturating_add(size);
    if next > end || usize::from(be_u16(bytes, next.saturating_sub(2))?) != at & 0xFFFF {
        return Err(bad("entry"));
    }
    let [of] = if ftype {
        array_at::<1>(bytes, type_at)?
    } else {
        [0]
    };
    Ok((entry(name, node, of)?, next))
}

/// Hands the entries in `range` of a block to `take`, but `.` and `..`; whether it wants more.
///
/// # Errors
/// `Corrupt` for broken ones, and those of `take`.
pub(super) fn for_each(
    bytes: &[u8],
    range: Range<usize>,
    ftype: bool,
    take: &mut dyn FnMut(DirEntry) -> Result<bool>,
) -> Result<bool> {
    let mut at = range.start;
    while at < range.end {
        if be_u16(bytes, at)? == FREE {
            let len = usize::from(be_u16(bytes, at.saturating_add(2))?);
            at = at.saturating_add(len);
            if len == 0 || len % 8 != 0 || at > range.end {
                return Err(bad("free part"));
            }
            continue;
        }
        let (entry, next) = parse(bytes, at, range.end, ftype)?;
        at = next;
        if entry.name != b"." && entry.name != b".." && !take(entry)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Hands the entries of a directory in an inode to `take`, until that returns false.
///
/// # Errors
/// `Corrupt` for broken ones, and those of `take`.
pub(super) fn short_form(
    bytes: &[u8],
    ftype: bool,
    take: &mut dyn FnMut(DirEntry) -> Result<bool>,
) -> Result<()> {
    let [small, large] = array_at::<2>(bytes, 0)?;
    // With any inode number of more than 32 bits, all have 64; the parent's stands first.
    let wide = large != 0;
    let width = if wide { 8 } else { 4 };
    let count = if wide { small.max(large) } else { small };
    let mut at = 2_usize.saturating_add(width);
    for _ in 0..count {
        let [len] = array_at::<1>(bytes, at)?;
        let name_at = at.saturating_add(3);
        let name = slice_at(bytes, name_at, usize::from(len))?;
        let mut rest = name_at.saturating_add(name.len());
        let mut of = 0;
        if ftype {
            [of] = array_at::<1>(bytes, rest)?;
            rest = rest.saturating_add(1);
        }
        let node = if wide {
            be_u64(bytes, rest)?
        } else {
            u64::from(be_u32(bytes, rest)?)
        };
        at = rest.saturating_add(width);
        if !take(entry(name, node, of)?)? {
            return Ok(());
        }
    }
    if at != bytes.len() {
        return Err(bad("end"));
    }
    Ok(())
}
