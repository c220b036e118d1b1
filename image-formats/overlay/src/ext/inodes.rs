//! Inodes taken and given back.

use dormouse_block::{Error, Result, slice_at};
use dormouse_filesystem::ext::checksum::crc32c;
use dormouse_filesystem::ext::group::{BLOCK_UNINIT, INODE_UNINIT, ITABLE_ZEROED};
use dormouse_filesystem::ext::superblock::Superblock;

use super::bitmap::Bitmap;
use super::descriptors::sum_mask;
use super::space::{Space, State, lost};
use super::store::{Store, index};
use crate::Device;

impl Space {
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
}
