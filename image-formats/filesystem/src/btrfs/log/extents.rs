//! Extents in the log: each takes the place of whatever its stretch of the file held.

use dormouse_block::Result;

use super::{Replay, unfit};
use crate::btrfs::extent::{Extent, Kind};
use crate::btrfs::features::NO_HOLES;
use crate::btrfs::key::{self, Key};
use crate::btrfs::overflow;

/// Offsets, within an extent item, of where its part of the extent begins and how long it is.
const OFFSET_AT: usize = 37;
const LEN_AT: usize = 45;

impl Replay<'_> {
    /// An extent of a file.
    pub(super) fn replay_extent(&mut self, at: Key, bytes: &[u8]) -> Result<()> {
        if self.inode(at.objectid)?.is_none() {
            return Err(unfit("an inode is missing"));
        }
        let extent = Extent::parse(bytes, self.trees.sb.sector)?;
        if extent.kind != Kind::Inline && self.get(at)?.as_deref() == Some(bytes) {
            return Ok(());
        }
        let end = self.end(at, &extent)?;
        self.drop_extents(at.objectid, at.offset, end)?;
        let hole = extent.kind != Kind::Inline && extent.logical == 0;
        if hole && self.trees.sb.incompat & NO_HOLES != 0 {
            return Ok(());
        }
        self.put(at, bytes.to_vec())
    }

    /// Where an extent ends within its file: inline ones take whole sectors.
    fn end(&self, at: Key, extent: &Extent) -> Result<u64> {
        let end = at.offset.checked_add(extent.len);
        if extent.kind == Kind::Inline {
            let sector = u64::from(self.trees.sb.sector);
            return end
                .and_then(|end| end.checked_next_multiple_of(sector))
                .ok_or_else(overflow);
        }
        end.ok_or_else(overflow)
    }

    /// Takes the bytes from `start` to `end` out of a file; extents that reach beyond keep what lies there.
    pub(super) fn drop_extents(&mut self, inode: u64, start: u64, end: u64) -> Result<()> {
        let from = Key::new(inode, key::EXTENT_DATA, start);
        let before = self.tree.prev(self.trees, from)?;
        let first = before
            .filter(|(at, _)| at.alike(from))
            .map_or(from, |(at, _)| at);
        let mut touched = Vec::new();
        self.tree.each(self.trees, first, |at, bytes| {
            if at.offset < end {
                touched.push((at, bytes.to_vec()));
            }
            if touched.len() > super::MAX_TOUCHED {
                return Err(dormouse_block::Error::limit(
                    "a file of more than 1048576 extents in a log",
                ));
            }
            Ok(at.offset < end)
        })?;
        for (at, bytes) in touched {
            let extent = Extent::parse(&bytes, self.trees.sb.sector)?;
            let extent_end = self.end(at, &extent)?;
            if extent_end <= start {
                continue;
            }
            let partial = at.offset < start || extent_end > end;
            if partial && extent.kind == Kind::Inline {
                return Err(unfit("it cuts inline data"));
            }
            if extent_end > end {
                let cut = end.saturating_sub(at.offset);
                let offset = extent.offset.checked_add(cut).ok_or_else(overflow)?;
                let len = extent_end.saturating_sub(end);
                let right = cut_extent(&bytes, &extent, offset, len)?;
                self.put(Key { offset: end, ..at }, right)?;
            }
            if at.offset < start {
                let len = start.saturating_sub(at.offset);
                self.put(at, cut_extent(&bytes, &extent, extent.offset, len)?)?;
            } else {
                self.change(at, None)?;
            }
        }
        Ok(())
    }
}

fn cut_extent(bytes: &[u8], extent: &Extent, offset: u64, len: u64) -> Result<Vec<u8>> {
    let mut out = bytes.to_vec();
    // A hole has no place in any extent.
    let offset = if extent.kind == Kind::Regular && extent.logical == 0 {
        0
    } else {
        offset
    };
    super::store(&mut out, OFFSET_AT, &offset.to_le_bytes())?;
    super::store(&mut out, LEN_AT, &len.to_le_bytes())?;
    Ok(out)
}
