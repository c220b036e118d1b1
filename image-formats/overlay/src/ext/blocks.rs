//! Blocks taken and given back, in whole clusters.

use dormouse_block::{Error, Result};
use dormouse_filesystem::ext::group::BLOCK_UNINIT;
use dormouse_filesystem::ext::superblock::Superblock;

use super::space::{Run, Space, lost};
use super::store::Store;
use crate::Device;

/// Clusters taken in one piece at most: the longest extent is as long as a group of 4 KiB blocks.
const MAX_PIECE: u64 = 32768;

impl Space {
    /// Takes at least `wanted` blocks, in whole clusters, near the start of `group` if they are free there, in as few
    /// runs as can be found without a search for the best. What is promised to directories is left.
    ///
    /// # Errors
    /// `Limit` when there are not enough; then none is taken.
    pub(super) fn take_blocks<D: Device>(
        &mut self,
        sb: &Superblock,
        store: &mut Store<D>,
        near: u32,
        wanted: u64,
    ) -> Result<Vec<Run>> {
        if wanted > self.free_blocks() {
            return Err(Error::limit(format!(
                "no space left: {wanted} blocks are wanted and {} are free",
                self.free_blocks()
            )));
        }
        let mut runs: Vec<Run> = Vec::new();
        let mut left = wanted.div_ceil(sb.cluster_blocks());
        let most = (MAX_PIECE >> sb.cluster_log).max(1);
        let mut piece = u32::MAX;
        let mut near = near;
        while left > 0 {
            piece = piece.min(u32::try_from(left.min(most)).unwrap_or(u32::MAX));
            match self.take_run(sb, store, near, piece)? {
                Some(start) => {
                    left = left.saturating_sub(u64::from(piece));
                    near = sb.group_of_block(start).map_or(near, |(group, _)| group);
                    let len = piece << sb.cluster_log;
                    match runs.last_mut() {
                        Some(last)
                            if last.start.saturating_add(u64::from(last.len)) == start
                                && last.len.checked_add(len).is_some() =>
                        {
                            last.len = last.len.saturating_add(len);
                        }
                        _ => runs.push(Run { start, len }),
                    }
                }
                None if piece > 1 => piece /= 2,
                None => {
                    return Err(Error::corrupt(
                        "the free blocks that are counted cannot be found",
                    ));
                }
            }
        }
        Ok(runs)
    }

    /// Takes `wanted` consecutive clusters; their first block.
    fn take_run<D: Device>(
        &mut self,
        sb: &Superblock,
        store: &mut Store<D>,
        near: u32,
        wanted: u32,
    ) -> Result<Option<u64>> {
        for step in 0..sb.groups {
            let group = near
                .saturating_add(step)
                .checked_rem(sb.groups)
                .unwrap_or(0);
            let state = self.state(group)?;
            if state.group.free_blocks < wanted || state.longest < wanted {
                continue;
            }
            // A last cluster that the filesystem's end cuts short is left alone.
            let clusters = sb.group_blocks(group) >> sb.cluster_log;
            let state = self.load_blocks(sb, store, group)?;
            let Some(map) = state.blocks.as_mut() else {
                return Err(lost());
            };
            let found = map
                .run(state.cursor, clusters, wanted)
                .or_else(|| map.run(0, clusters, wanted));
            let Some(start) = found else {
                state.longest = wanted.saturating_sub(1);
                continue;
            };
            map.change(start, wanted, true);
            state.cursor = start.saturating_add(wanted);
            state.group.free_blocks = state.group.free_blocks.saturating_sub(wanted);
            state.group.flags &= !BLOCK_UNINIT;
            state.blocks_dirty = true;
            self.free_clusters = self.free_clusters.saturating_sub(u64::from(wanted));
            let first = sb
                .group_start(group)
                .saturating_add(u64::from(start) << sb.cluster_log);
            let len = u64::from(wanted) << sb.cluster_log;
            sb.check_blocks(first, 1)?;
            self.zones.check(first, len)?;
            return Ok(Some(first));
        }
        Ok(None)
    }

    /// Gives back the clusters that hold these blocks.
    ///
    /// # Errors
    /// `Corrupt` for blocks that are free already or belong to the filesystem itself.
    pub(super) fn give_blocks<D: Device>(
        &mut self,
        sb: &Superblock,
        store: &mut Store<D>,
        start: u64,
        len: u64,
    ) -> Result<()> {
        let mask = sb.cluster_blocks().saturating_sub(1);
        let end = start
            .saturating_add(len)
            .checked_next_multiple_of(sb.cluster_blocks())
            .unwrap_or(u64::MAX)
            .min(sb.blocks_count);
        // Clusters are counted from block 0, where groups with clusters begin as well.
        let mut at = if mask == 0 { start } else { start & !mask };
        self.zones.check(at, end.saturating_sub(at))?;
        store.forget(at, end.saturating_sub(at));
        while at < end {
            let (group, within) = sb
                .group_of_block(at)
                .ok_or_else(|| Error::corrupt(format!("block {at} lies outside the filesystem")))?;
            let room = sb.group_blocks(group).saturating_sub(within);
            let blocks = u32::try_from(end.saturating_sub(at))
                .unwrap_or(u32::MAX)
                .min(room);
            let count = blocks.div_ceil(1 << sb.cluster_log);
            let state = self.load_blocks(sb, store, group)?;
            let changed = state
                .blocks
                .as_mut()
                .is_some_and(|map| map.change(within >> sb.cluster_log, count, false));
            if !changed || count == 0 {
                return Err(Error::corrupt(format!(
                    "block {at} is in use and free at once"
                )));
            }
            state.group.free_blocks = state.group.free_blocks.saturating_add(count);
            state.group.flags &= !BLOCK_UNINIT;
            state.blocks_dirty = true;
            state.longest = u32::MAX;
            self.free_clusters = self.free_clusters.saturating_add(u64::from(count));
            at = at.saturating_add(u64::from(blocks));
        }
        if len == 0 || start >= end {
            return Err(Error::corrupt(format!(
                "block {start} lies outside the filesystem"
            )));
        }
        Ok(())
    }
}
