//! Chunks of 64 inodes: which of them exist, and which are in use.

use std::sync::Arc;

use dormouse_block::{Error, Result, be_u16, be_u32, be_u64};

use super::btree::{INODES, MAX_LEVELS, up_to};
use super::superblock::InodePlace;
use super::volume::Place;
use super::{XfsTree, stamp, wide};

/// `XAGI`.
const MAGIC: u32 = 0x5841_4749;
/// Inodes of a chunk, of which each bit of a mask of holes stands for four.
const CHUNK: u64 = 64;
/// Bytes of a chunk's record.
const RECORD: usize = 16;
/// `XFS_SB_FEAT_INCOMPAT_SPINODES`: chunks may have holes.
const SPARSE: u32 = 0x2;

impl XfsTree {
    fn group_inodes(&self, group: u64) -> Result<Arc<[u8]>> {
        let offset = self.sb.group_sector(group, 2)?;
        let place = Place {
            offset,
            owner: group,
            len: 1 << self.sb.sector_log,
        };
        let what = "the header of an allocation group";
        self.volume.metadata(place, |buf| {
            self.volume.read(offset, buf)?;
            self.check_stamp_at(&stamp::GROUP_INODES, buf, offset, group, what)?;
            if be_u32(buf, 0)? != MAGIC || u64::from(be_u32(buf, 8)?) != group {
                return Err(Error::corrupt(format!("bad magic number of {what}")));
            }
            Ok(())
        })
    }

    /// Refuses an inode that its allocation group does not know, or knows to be free.
    ///
    /// # Errors
    /// `Corrupt`, for a broken btree as well.
    pub(super) fn check_in_use(&self, number: u64, place: &InodePlace) -> Result<()> {
        let header = self.group_inodes(place.group)?;
        let free = || Error::corrupt(format!("inode {number} is not in use"));
        let mut block = be_u32(&header, 20)?;
        let levels = be_u32(&header, 24)?;
        let within = u64::from(place.within);
        let mut level = u16::try_from(levels)
            .ok()
            .filter(|levels| *levels <= MAX_LEVELS)
            .and_then(|levels| levels.checked_sub(1))
            .ok_or_else(|| Error::corrupt("bad height of an inode btree"))?;
        let node = loop {
            let at = (place.group << self.sb.group_log) | u64::from(block);
            let node = self.btree_block(&INODES, place.group, at, level)?;
            if level == 0 {
                break node;
            }
            let after = up_to(node.count, within, |nth| node.key(nth))?;
            let nth = after.checked_sub(1).ok_or_else(free)?;
            block = u32::try_from(node.pointer(nth)?).map_err(|_| free())?;
            level = level.saturating_sub(1);
        };
        let records = node.records();
        let start = |nth: usize| be_u32(records, nth.saturating_mul(RECORD)).map(u64::from);
        let nth = up_to(node.count, within, start)?
            .checked_sub(1)
            .ok_or_else(free)?;
        let bit = within.saturating_sub(start(nth)?);
        if bit >= CHUNK {
            return Err(free());
        }
        let at = nth.saturating_mul(RECORD);
        let bit = u32::try_from(bit).map_err(|_| free())?;
        let sparse = self.sb.features.v5() && self.sb.features.incompat & SPARSE != 0;
        let holes = u64::from(be_u16(records, at.saturating_add(4))?);
        let unused = be_u64(records, at.saturating_add(8))?;
        if unused >> bit & 1 == 1 || (sparse && holes >> (bit / 4) & 1 == 1) {
            return Err(free());
        }
        Ok(())
    }

    /// Free blocks as the allocation groups count them, which the superblock does only after unmounting.
    ///
    /// # Errors
    /// `Corrupt` for a broken header.
    pub(super) fn free_by_groups(&self) -> Result<u64> {
        let mut free = 0_u64;
        for group in 0..u64::from(self.sb.groups) {
            let offset = self.sb.group_sector(group, 1)?;
            let mut header = [0; 64];
            self.volume.read(offset, &mut header)?;
            // In the btrees by place and length, on the list kept for the btrees, and in the btrees' own blocks.
            for at in [52, 48, 60] {
                free = free.saturating_add(u64::from(be_u32(&header, at)?));
            }
        }
        Ok(free.min(wide(usize::MAX)))
    }
}
