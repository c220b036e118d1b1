//! Free blocks and inodes: the groups' descriptors and bitmaps.

use dormouse_block::{Error, Result, slice_at};
use dormouse_filesystem::ext::checksum::crc32c;
use dormouse_filesystem::ext::group::{
    BLOCK_UNINIT, Group, INODE_UNINIT, ITABLE_ZEROED, base_blocks, inode_table_blocks,
};
use dormouse_filesystem::ext::superblock::Superblock;

use super::bitmap::Bitmap;
use super::descriptors::{sum_mask, write_descriptor};
use super::store::{Store, index};
use crate::Device;

/// Groups that are edited: with blocks of 4 KiB, 128 TiB.
const MAX_GROUPS: u32 = 1 << 20;

/// Consecutive filesystem blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) len: u32,
}

pub(super) struct Space {
    groups: Vec<State>,
    free_blocks: u64,
    free_inodes: u64,
    /// Blocks promised to directories that are written at the end.
    pub(super) promised: u64,
}

struct State {
    group: Group,
    dirty: bool,
    blocks: Option<Bitmap>,
    blocks_dirty: bool,
    inodes: Option<Bitmap>,
    inodes_dirty: bool,
    /// No run of free blocks is longer than this.
    longest: u32,
    /// Where the last blocks were taken.
    cursor: u32,
    /// No inode below this is free.
    inode_cursor: u32,
}

fn lost() -> Error {
    Error::corrupt("there is no such block group")
}

impl Space {
    pub(super) fn read<D: Device>(sb: &Superblock, store: &mut Store<D>) -> Result<Self> {
        if sb.groups > MAX_GROUPS {
            return Err(Error::limit(
                "a filesystem of more than 2^20 block groups is not edited",
            ));
        }
        let mut groups = Vec::with_capacity(index(sb.groups));
        for number in 0..sb.groups {
            let (block, within) = sb.descriptor_place(number)?;
            let bytes = store.read(block)?;
            let group = Group::parse(
                sb,
                number,
                slice_at(bytes, within, usize::from(sb.descriptor_size))?,
            )?;
            if group.free_blocks > sb.group_blocks(number)
                || group.free_inodes > sb.inodes_per_group
                || group.unused_inodes > sb.inodes_per_group
            {
                return Err(Error::corrupt(format!(
                    "bad counts in group descriptor {number}"
                )));
            }
            groups.push(State {
                group,
                dirty: false,
                blocks: None,
                blocks_dirty: false,
                inodes: None,
                inodes_dirty: false,
                longest: u32::MAX,
                cursor: 0,
                inode_cursor: 0,
            });
        }
        Ok(Self {
            free_blocks: groups
                .iter()
                .map(|state| u64::from(state.group.free_blocks))
                .sum(),
            free_inodes: groups
                .iter()
                .map(|state| u64::from(state.group.free_inodes))
                .sum(),
            groups,
            promised: 0,
        })
    }

    /// Blocks that are free and not promised.
    pub(super) fn free_blocks(&self) -> u64 {
        self.free_blocks.saturating_sub(self.promised)
    }

    /// Blocks that are free, promised or not.
    pub(super) fn all_free_blocks(&self) -> u64 {
        self.free_blocks
    }

    pub(super) fn free_inodes(&self) -> u64 {
        self.free_inodes
    }

    fn state(&mut self, group: u32) -> Result<&mut State> {
        self.groups.get_mut(index(group)).ok_or_else(lost)
    }

    /// The descriptor of `group`.
    pub(super) fn group(&self, group: u32) -> Result<&Group> {
        self.groups
            .get(index(group))
            .map(|state| &state.group)
            .ok_or_else(lost)
    }

    fn load_blocks<D: Device>(
        &mut self,
        sb: &Superblock,
        store: &mut Store<D>,
        group: u32,
    ) -> Result<&mut State> {
        if self.state(group)?.blocks.is_none() {
            let descriptor = self.group(group)?.clone();
            let map = if descriptor.flags & BLOCK_UNINIT != 0 && sb.features.group_checksums() {
                self.fresh_blocks(sb, group)
            } else {
                let bytes = store.read(descriptor.block_bitmap)?;
                if sb.metadata_checksums() {
                    let sum = crc32c(
                        sb.checksum_seed,
                        slice_at(bytes, 0, index(sb.clusters_per_group / 8))?,
                    );
                    if sum & sum_mask(sb) != descriptor.block_bitmap_sum & sum_mask(sb) {
                        return Err(Error::corrupt(format!(
                            "bad checksum of the block bitmap of group {group}"
                        )));
                    }
                }
                Bitmap::from_bytes(bytes)
            };
            if map.free(sb.group_blocks(group)) != descriptor.free_blocks {
                return Err(Error::corrupt(format!(
                    "the block bitmap of group {group} contradicts its descriptor"
                )));
            }
            self.state(group)?.blocks = Some(map);
        }
        self.state(group)
    }

    /// The bitmap of a group that has none on disk yet: only the filesystem's own tables are in use.
    fn fresh_blocks(&self, sb: &Superblock, group: u32) -> Bitmap {
        let mut map = Bitmap::from_bytes(&vec![0; sb.block_len()]);
        let blocks = sb.group_blocks(group);
        map.fill(
            blocks,
            (sb.block_size().saturating_mul(8)).saturating_sub(blocks),
            true,
        );
        map.fill(0, base_blocks(sb, group).min(blocks), true);
        let start = sb.group_start(group);
        let end = start.saturating_add(u64::from(blocks));
        let table = inode_table_blocks(sb);
        let mut mark = |first: u64, len: u64| {
            let (from, to) = (first.max(start), first.saturating_add(len).min(end));
            if from < to {
                let at = u32::try_from(from.saturating_sub(start)).unwrap_or(u32::MAX);
                let len = u32::try_from(to.saturating_sub(from)).unwrap_or(0);
                map.fill(at, len, true);
            }
        };
        // With flexible groups the tables of any group may lie here.
        for state in &self.groups {
            mark(state.group.block_bitmap, 1);
            mark(state.group.inode_bitmap, 1);
            mark(state.group.inode_table, table);
        }
        map
    }

    fn load_inodes<D: Device>(
        &mut self,
        sb: &Superblock,
        store: &mut Store<D>,
        group: u32,
    ) -> Result<&mut State> {
        if self.state(group)?.inodes.is_none() {
            let descriptor = self.group(group)?.clone();
            let count = sb.inodes_per_group;
            let map = if descriptor.flags & INODE_UNINIT != 0 && sb.features.group_checksums() {
                let mut map = Bitmap::from_bytes(&vec![0; sb.block_len()]);
                map.fill(
                    count,
                    (sb.block_size().saturating_mul(8)).saturating_sub(count),
                    true,
                );
                map
            } else {
                let bytes = store.read(descriptor.inode_bitmap)?;
                if sb.metadata_checksums() {
                    let sum = crc32c(sb.checksum_seed, slice_at(bytes, 0, index(count / 8))?);
                    if sum & sum_mask(sb) != descriptor.inode_bitmap_sum & sum_mask(sb) {
                        return Err(Error::corrupt(format!(
                            "bad checksum of the inode bitmap of group {group}"
                        )));
                    }
                }
                Bitmap::from_bytes(bytes)
            };
            if map.free(count) != descriptor.free_inodes {
                return Err(Error::corrupt(format!(
                    "the inode bitmap of group {group} contradicts its descriptor"
                )));
            }
            self.state(group)?.inodes = Some(map);
        }
        self.state(group)
    }

    /// Takes `wanted` blocks, near the start of `group` if they are free there, in as few runs as can be found
    /// without a search for the best. What is promised to directories is left.
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
        let mut left = wanted;
        let mut piece = u32::MAX;
        let mut near = near;
        while left > 0 {
            // The longest extent is as long as a group of 4 KiB blocks.
            piece = piece.min(u32::try_from(left.min(32768)).unwrap_or(u32::MAX));
            match self.take_run(sb, store, near, piece)? {
                Some(run) => {
                    left = left.saturating_sub(u64::from(run.len));
                    near = sb
                        .group_of_block(run.start)
                        .map_or(near, |(group, _)| group);
                    match runs.last_mut() {
                        Some(last)
                            if last.start.saturating_add(u64::from(last.len)) == run.start =>
                        {
                            last.len = last.len.saturating_add(run.len);
                        }
                        _ => runs.push(run),
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

    fn take_run<D: Device>(
        &mut self,
        sb: &Superblock,
        store: &mut Store<D>,
        near: u32,
        wanted: u32,
    ) -> Result<Option<Run>> {
        for step in 0..sb.groups {
            let group = near
                .saturating_add(step)
                .checked_rem(sb.groups)
                .unwrap_or(0);
            let state = self.state(group)?;
            if state.group.free_blocks < wanted || state.longest < wanted {
                continue;
            }
            let blocks = sb.group_blocks(group);
            let state = self.load_blocks(sb, store, group)?;
            let Some(map) = state.blocks.as_mut() else {
                return Err(lost());
            };
            let found = map
                .run(state.cursor, blocks, wanted)
                .or_else(|| map.run(0, blocks, wanted));
            let Some(start) = found else {
                state.longest = wanted.saturating_sub(1);
                continue;
            };
            map.change(start, wanted, true);
            state.cursor = start.saturating_add(wanted);
            state.group.free_blocks = state.group.free_blocks.saturating_sub(wanted);
            state.group.flags &= !BLOCK_UNINIT;
            state.blocks_dirty = true;
            self.free_blocks = self.free_blocks.saturating_sub(u64::from(wanted));
            return Ok(Some(Run {
                start: sb.group_start(group).saturating_add(u64::from(start)),
                len: wanted,
            }));
        }
        Ok(None)
    }

    /// Gives blocks back.
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
        let mut at = start;
        let end = start.saturating_add(len);
        store.forget(start, len);
        while at < end {
            let (group, within) = sb
                .group_of_block(at)
                .ok_or_else(|| Error::corrupt(format!("block {at} lies outside the filesystem")))?;
            let room = sb.group_blocks(group).saturating_sub(within);
            let count = u32::try_from(end.saturating_sub(at))
                .unwrap_or(u32::MAX)
                .min(room);
            let state = self.load_blocks(sb, store, group)?;
            let changed = state
                .blocks
                .as_mut()
                .is_some_and(|map| map.change(within, count, false));
            if !changed || count == 0 {
                return Err(Error::corrupt(format!(
                    "block {at} is in use and free at once"
                )));
            }
            state.group.free_blocks = state.group.free_blocks.saturating_add(count);
            state.group.flags &= !BLOCK_UNINIT;
            state.blocks_dirty = true;
            state.longest = u32::MAX;
            self.free_blocks = self.free_blocks.saturating_add(u64::from(count));
            at = at.saturating_add(u64::from(count));
        }
        Ok(())
    }

    /// Takes an inode, in `near` if one is free there.
    ///
    /// # Errors
    /// `Limit` when none is free.
    pub(super) fn take_inode<D: Device>(
        &mut self,
        sb: &Superblock,
        store: &mut Store<D>,
        near: u32,
        directory: bool,
    ) -> Result<u32> {
        for step in 0..sb.groups {
            let group = near
                .saturating_add(step)
                .checked_rem(sb.groups)
                .unwrap_or(0);
            if self.state(group)?.group.free_inodes == 0 {
                continue;
            }
            // The first inodes are kept for the filesystem itself.
            let reserved = if group == 0 {
                sb.first_inode.saturating_sub(1)
            } else {
                0
            };
            let state = self.load_inodes(sb, store, group)?;
            let from = reserved.max(state.inode_cursor);
            let map = state.inodes.as_mut().ok_or_else(lost)?;
            let Some(nth) = map.next(from, sb.inodes_per_group, false) else {
                continue;
            };
            map.fill(nth, 1, true);
            state.inode_cursor = nth;
            state.inodes_dirty = true;
            state.group.free_inodes = state.group.free_inodes.saturating_sub(1);
            if directory {
                state.group.directories = state.group.directories.saturating_add(1);
            }
            self.free_inodes = self.free_inodes.saturating_sub(1);
            if sb.features.group_checksums() {
                self.open_table(sb, store, group, nth)?;
            }
            return Ok(group
                .saturating_mul(sb.inodes_per_group)
                .saturating_add(nth)
                .saturating_add(1));
        }
        Err(Error::limit("no space left: every inode is in use"))
    }

    /// Makes the inode table of `group` hold inode `nth`: what lies before it and was never initialised is zeroed.
    fn open_table<D: Device>(
        &mut self,
        sb: &Superblock,
        store: &mut Store<D>,
        group: u32,
        nth: u32,
    ) -> Result<()> {
        // The block bitmap must exist before the table is used (as the kernel has it).
        if self.group(group)?.flags & BLOCK_UNINIT != 0 {
            let state = self.load_blocks(sb, store, group)?;
            state.group.flags &= !BLOCK_UNINIT;
            state.blocks_dirty = true;
        }
        let state = self.state(group)?;
        let unused = if state.group.flags & INODE_UNINIT != 0 {
            sb.inodes_per_group
        } else {
            state.group.unused_inodes
        };
        state.group.flags &= !INODE_UNINIT;
        let used = sb.inodes_per_group.saturating_sub(unused);
        if nth < used {
            state.group.unused_inodes = unused;
            return Ok(());
        }
        state.group.unused_inodes = sb.inodes_per_group.saturating_sub(nth).saturating_sub(1);
        if state.group.flags & ITABLE_ZEROED != 0 {
            return Ok(());
        }
        let table = state.group.inode_table;
        let size = u64::from(sb.inode_size);
        let block = u64::from(sb.block_size());
        let mut at = u64::from(used).saturating_mul(size);
        let end = u64::from(nth)
            .saturating_add(1)
            .saturating_mul(size)
            .next_multiple_of(block);
        while at < end {
            let within = at & block.saturating_sub(1);
            let number = table.saturating_add(at >> sb.block_log);
            let bytes = if within == 0 {
                store.create(number)?
            } else {
                store.modify(number)?
            };
            bytes.get_mut(index(within)..).unwrap_or_default().fill(0);
            at = at.saturating_sub(within).saturating_add(block);
        }
        Ok(())
    }

    /// Gives an inode back.
    ///
    /// # Errors
    /// `Corrupt` for one that is free already.
    pub(super) fn give_inode<D: Device>(
        &mut self,
        sb: &Superblock,
        store: &mut Store<D>,
        inode: u32,
        directory: bool,
    ) -> Result<()> {
        let (group, nth) = sb.inode_place(inode)?;
        let state = self.load_inodes(sb, store, group)?;
        let changed = state
            .inodes
            .as_mut()
            .is_some_and(|map| map.change(nth, 1, false));
        if !changed || inode < sb.first_inode {
            return Err(Error::corrupt(format!(
                "inode {inode} is in use and free at once"
            )));
        }
        state.inode_cursor = state.inode_cursor.min(nth);
        state.inodes_dirty = true;
        state.group.free_inodes = state.group.free_inodes.saturating_add(1);
        if directory {
            state.group.directories = state.group.directories.saturating_sub(1);
        }
        self.free_inodes = self.free_inodes.saturating_add(1);
        Ok(())
    }

    /// Whether inode `inode` is in use.
    pub(super) fn inode_in_use<D: Device>(
        &mut self,
        sb: &Superblock,
        store: &mut Store<D>,
        inode: u32,
    ) -> Result<bool> {
        let (group, nth) = sb.inode_place(inode)?;
        let state = self.load_inodes(sb, store, group)?;
        Ok(state.inodes.as_ref().is_some_and(|map| map.test(nth)))
    }

    /// Puts bitmaps and descriptors with their checksums into their blocks.
    pub(super) fn flush<D: Device>(&mut self, sb: &Superblock, store: &mut Store<D>) -> Result<()> {
        for (number, state) in self.groups.iter_mut().enumerate() {
            let number = u32::try_from(number).map_err(|_| lost())?;
            for (map, dirty, block, bits, sum) in [
                (
                    &state.blocks,
                    &mut state.blocks_dirty,
                    state.group.block_bitmap,
                    sb.clusters_per_group,
                    &mut state.group.block_bitmap_sum,
                ),
                (
                    &state.inodes,
                    &mut state.inodes_dirty,
                    state.group.inode_bitmap,
                    sb.inodes_per_group,
                    &mut state.group.inode_bitmap_sum,
                ),
            ] {
                let (true, Some(map)) = (*dirty, map) else {
                    continue;
                };
                let bytes = store.create(block)?;
                for (to, from) in bytes.iter_mut().zip(map.bytes()) {
                    *to = from;
                }
                if sb.metadata_checksums() {
                    *sum = crc32c(sb.checksum_seed, slice_at(bytes, 0, index(bits / 8))?);
                }
                *dirty = false;
                state.dirty = true;
            }
            if std::mem::take(&mut state.dirty) {
                write_descriptor(sb, store, number, &state.group)?;
            }
        }
        Ok(())
    }
}
