//! Free blocks and inodes: the groups' descriptors and bitmaps.

use dormouse_block::{Error, Result, slice_at};
use dormouse_filesystem::ext::checksum::crc32c;
use dormouse_filesystem::ext::group::{BLOCK_UNINIT, Group};
use dormouse_filesystem::ext::superblock::Superblock;

use super::bitmap::Bitmap;
use super::descriptors::{sum_mask, write_descriptor};
use super::store::{Store, index};
use super::zones::Zones;
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
    pub(super) groups: Vec<State>,
    /// Where no file may have a block.
    pub(super) zones: Zones,
    pub(super) free_clusters: u64,
    pub(super) free_inodes: u64,
    /// Blocks of a cluster, as a power of two: bits of the block bitmaps stand for clusters.
    cluster_log: u32,
    /// Clusters promised to directories that are written at the end.
    promised: u64,
}

pub(super) struct State {
    pub(super) group: Group,
    dirty: bool,
    pub(super) blocks: Option<Bitmap>,
    pub(super) blocks_dirty: bool,
    pub(super) inodes: Option<Bitmap>,
    pub(super) inodes_dirty: bool,
    /// No run of free clusters is longer than this.
    pub(super) longest: u32,
    /// Where the last clusters were taken.
    pub(super) cursor: u32,
    /// No inode below this is free.
    pub(super) inode_cursor: u32,
}

pub(super) fn lost() -> Error {
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
            if group.free_blocks > sb.group_clusters(number)
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
            free_clusters: groups
                .iter()
                .map(|state| u64::from(state.group.free_blocks))
                .sum(),
            free_inodes: groups
                .iter()
                .map(|state| u64::from(state.group.free_inodes))
                .sum(),
            zones: Zones::of(sb, groups.iter().map(|state| &state.group)),
            groups,
            cluster_log: sb.cluster_log,
            promised: 0,
        })
    }

    /// Blocks that are free and not promised: whole clusters.
    pub(super) fn free_blocks(&self) -> u64 {
        self.free_clusters.saturating_sub(self.promised) << self.cluster_log
    }

    /// Blocks that are free, promised or not.
    pub(super) fn all_free_blocks(&self) -> u64 {
        self.free_clusters << self.cluster_log
    }

    /// Promises clusters.
    ///
    /// # Errors
    /// `Limit` when fewer are free.
    pub(super) fn promise(&mut self, clusters: u64, what: &str) -> Result<()> {
        if clusters > self.free_clusters.saturating_sub(self.promised) {
            return Err(Error::limit(format!("no space left for {what}")));
        }
        self.promised = self.promised.saturating_add(clusters);
        Ok(())
    }

    /// Takes a promise back.
    pub(super) fn release(&mut self, clusters: u64) {
        self.promised = self.promised.saturating_sub(clusters);
    }

    pub(super) fn free_inodes(&self) -> u64 {
        self.free_inodes
    }

    pub(super) fn state(&mut self, group: u32) -> Result<&mut State> {
        self.groups.get_mut(index(group)).ok_or_else(lost)
    }

    /// The descriptor of `group`.
    pub(super) fn group(&self, group: u32) -> Result<&Group> {
        self.groups
            .get(index(group))
            .map(|state| &state.group)
            .ok_or_else(lost)
    }

    pub(super) fn load_blocks<D: Device>(
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
            if map.free(sb.group_clusters(group)) != descriptor.free_blocks {
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
        let clusters = sb.group_clusters(group);
        map.fill(
            clusters,
            (sb.block_size().saturating_mul(8)).saturating_sub(clusters),
            true,
        );
        let start = sb.group_start(group);
        let end = start.saturating_add(u64::from(sb.group_blocks(group)));
        // With flexible groups the tables of any group may lie here.
        for (first, stop) in self.zones.within(start, end) {
            let from = first.saturating_sub(start) >> sb.cluster_log;
            let to = stop.saturating_sub(start).div_ceil(sb.cluster_blocks());
            let at = u32::try_from(from).unwrap_or(u32::MAX);
            let len = u32::try_from(to.saturating_sub(from)).unwrap_or(0);
            map.fill(at, len, true);
        }
        map
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
