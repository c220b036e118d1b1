//! Block maps of ext2 and ext3: 12 direct blocks, then single, double and triple indirect ones.

use dormouse_block::{Result, le_u32};

use super::superblock::Superblock;
use super::{index, overflow};

/// Direct blocks in the inode.
pub const DIRECT: u32 = 12;

/// The way to a logical block: its entry in the inode's map, then in each indirect block.
///
/// # Errors
/// `Corrupt` for a logical block beyond the map's reach.
pub fn path(sb: &Superblock, logical: u32) -> Result<Vec<u32>> {
    let per = u64::from(sb.block_size() / 4);
    let mut rest = u64::from(logical);
    if rest < u64::from(DIRECT) {
        return Ok(vec![logical]);
    }
    rest = rest.saturating_sub(u64::from(DIRECT));
    let mut reach = per;
    for level in 1_u32..=3 {
        if rest < reach {
            let mut way = vec![DIRECT.saturating_add(level).saturating_sub(1)];
            let mut below = reach;
            for _ in 0..level {
                below = below.checked_div(per).ok_or_else(overflow)?;
                let entry = rest.checked_div(below).ok_or_else(overflow)?;
                way.push(u32::try_from(entry).map_err(|_| overflow())?);
                rest = rest.checked_rem(below).ok_or_else(overflow)?;
            }
            return Ok(way);
        }
        rest = rest.saturating_sub(reach);
        reach = reach.saturating_mul(per);
    }
    Err(overflow())
}

/// Entry `at` of a map or an indirect block: a filesystem block, or 0 for a hole.
///
/// # Errors
/// `Corrupt` when the block is shorter.
pub fn entry(bytes: &[u8], at: u32) -> Result<u32> {
    le_u32(bytes, index(at).saturating_mul(4))
}
