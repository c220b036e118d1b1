//! The blocks of a file: read out of extent trees and block maps, and written back.

use dormouse_block::{Error, Result, slice_at};
use dormouse_filesystem::ext::checksum::crc32c;
use dormouse_filesystem::ext::extent::{self, Extent};
use dormouse_filesystem::ext::inode;
use dormouse_filesystem::ext::superblock::Superblock;
use dormouse_filesystem::ext::{blockmap, features};

use super::core::Core;
use super::record::Record;
use super::space::Run;
use super::store::{index, len64, put16, put32};
use crate::Device;

/// Extents of one file that are read before it is refused.
const MAX_EXTENTS: usize = 1 << 20;

/// Where the blocks of a file are.
#[derive(Debug, Clone, Default)]
pub(super) struct Mapping {
    /// Its data, by logical block; unwritten extents among them.
    pub(super) extents: Vec<Extent>,
    /// Blocks of the tree or of indirection.
    pub(super) tree: Vec<u64>,
}

impl Mapping {
    /// The logical blocks from 0 to `blocks` in `runs`, which may reach further.
    pub(super) fn of_runs(runs: &[Run], blocks: u64) -> Self {
        let mut logical = 0_u32;
        let mut extents = Vec::with_capacity(runs.len());
        for run in runs {
            let mut start = run.start;
            let wanted = blocks.saturating_sub(u64::from(logical));
            let mut left = run.len.min(u32::try_from(wanted).unwrap_or(u32::MAX));
            while left > 0 {
                let len = left.min(extent::MAX_LEN);
                extents.push(Extent {
                    logical,
                    len,
                    physical: start,
                    written: true,
                });
                logical = logical.saturating_add(len);
                start = start.saturating_add(u64::from(len));
                left = left.saturating_sub(len);
            }
        }
        Self {
            extents,
            tree: Vec::new(),
        }
    }

    /// Blocks of data.
    pub(super) fn data_blocks(&self) -> u64 {
        self.extents
            .iter()
            .map(|extent| u64::from(extent.len))
            .sum()
    }

    /// The clusters that its data lies in: the first of each range and the first after it, ascending and apart. One
    /// cluster may hold the blocks of several extents.
    fn clusters(&self, sb: &Superblock) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = self
            .extents
            .iter()
            .map(|extent| {
                let end = extent.physical.saturating_add(u64::from(extent.len));
                (
                    extent.physical >> sb.cluster_log,
                    end.div_ceil(sb.cluster_blocks()),
                )
            })
            .collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        merged
    }

    /// All blocks that it takes, in whole clusters.
    pub(super) fn all_blocks(&self, sb: &Superblock) -> u64 {
        let tree = len64(self.tree.len());
        if sb.cluster_log == 0 {
            return self.data_blocks().saturating_add(tree);
        }
        self.clusters(sb)
            .iter()
            .map(|(start, end)| end.saturating_sub(*start))
            .fold(tree, u64::saturating_add)
            .saturating_mul(sb.cluster_blocks())
    }
}

impl<D: Device> Core<D> {
    /// Whether the inode has a map of blocks at all: not inline, no device, no short link.
    pub(super) fn has_map(&self, record: &Record) -> Result<bool> {
        let inode = record.parsed(&self.sb)?;
        if inode.has(inode::INLINE) {
            return Ok(false);
        }
        Ok(match record.mode()? >> 12 {
            0x4 | 0x8 => true,
            0xA => {
                inode.has(inode::EXTENTS) || inode.size >= 60 || {
                    let own = u64::from(inode.attribute_block != 0);
                    record.blocks(&self.sb)? > own << self.sb.cluster_log
                }
            }
            _ => false,
        })
    }

    /// Where the blocks of an inode are.
    pub(super) fn read_mapping(&mut self, record: &Record) -> Result<Mapping> {
        if !self.has_map(record)? {
            return Ok(Mapping::default());
        }
        let store = &mut self.store;
        if record.has(inode::EXTENTS)? {
            let seed = record.seed(&self.sb)?;
            let (extents, tree) =
                extent::collect(&self.sb, seed, record.map()?, MAX_EXTENTS, &mut |block| {
                    store.read(block).map(<[u8]>::to_vec)
                })?;
            for extent in &extents {
                self.check_file_blocks(extent.physical, u64::from(extent.len))?;
            }
            for block in &tree {
                self.check_file_blocks(*block, 1)?;
            }
            return Ok(Mapping { extents, tree });
        }
        let mut mapping = Mapping::default();
        let mut logical = 0_u32;
        let map = record.map()?.to_vec();
        for at in 0..15 {
            let block = blockmap::entry(&map, at)?;
            let level = at.saturating_sub(blockmap::DIRECT.saturating_sub(1));
            self.walk_indirect(block, level, &mut logical, &mut mapping)?;
        }
        Ok(mapping)
    }

    fn walk_indirect(
        &mut self,
        block: u32,
        level: u32,
        logical: &mut u32,
        mapping: &mut Mapping,
    ) -> Result<()> {
        let per = self.sb.block_size() / 4;
        if block == 0 {
            *logical = logical.saturating_add(per.saturating_pow(level));
            return Ok(());
        }
        self.check_file_blocks(u64::from(block), 1)?;
        if mapping.extents.len() > MAX_EXTENTS || mapping.tree.len() > MAX_EXTENTS {
            return Err(Error::limit("a file in more than 2^20 pieces"));
        }
        if level == 0 {
            let physical = u64::from(block);
            match mapping.extents.last_mut() {
                Some(last)
                    if last.len < extent::MAX_LEN
                        && last.logical.saturating_add(last.len) == *logical
                        && last.physical.saturating_add(u64::from(last.len)) == physical =>
                {
                    last.len = last.len.saturating_add(1);
                }
                _ => mapping.extents.push(Extent {
                    logical: *logical,
                    len: 1,
                    physical,
                    written: true,
                }),
            }
            *logical = logical.saturating_add(1);
            return Ok(());
        }
        mapping.tree.push(u64::from(block));
        let bytes = self.store.read(u64::from(block))?.to_vec();
        for at in 0..per {
            let next = blockmap::entry(&bytes, at)?;
            self.walk_indirect(next, level.saturating_sub(1), logical, mapping)?;
        }
        Ok(())
    }

    /// Gives all blocks of an inode back.
    pub(super) fn free_mapping(&mut self, mapping: &Mapping) -> Result<()> {
        self.free_data(mapping, &Mapping::default())?;
        for block in &mapping.tree {
            self.give_blocks(*block, 1)?;
        }
        Ok(())
    }

    /// Gives the blocks of data back that are in `before` and not in `after`: of clusters, those of which nothing is left.
    pub(super) fn free_data(&mut self, before: &Mapping, after: &Mapping) -> Result<()> {
        if self.sb.cluster_log == 0 && after.extents.is_empty() {
            // Not merged: a block that two extents share must be noticed.
            for extent in &before.extents {
                self.give_blocks(extent.physical, u64::from(extent.len))?;
            }
            return Ok(());
        }
        let mut kept = after.clusters(&self.sb).into_iter().peekable();
        for (start, end) in before.clusters(&self.sb) {
            let mut at = start;
            while at < end {
                while kept.next_if(|(_, stop)| *stop <= at).is_some() {}
                let (from, stop) = kept.peek().copied().unwrap_or((end, end));
                let free_end = from.min(end);
                if at < free_end {
                    let log = self.sb.cluster_log;
                    self.give_blocks(at << log, free_end.saturating_sub(at) << log)?;
                }
                at = free_end.max(stop.min(end)).max(at.saturating_add(1));
            }
        }
        Ok(())
    }

    /// Writes `mapping` as the inode's map; its tree's blocks are used again, others taken or given back.
    pub(super) fn write_mapping(
        &mut self,
        record: &mut Record,
        mapping: &mut Mapping,
    ) -> Result<()> {
        let mut spare = std::mem::take(&mut mapping.tree);
        spare.reverse();
        let wanted = self.tree_blocks(mapping);
        let more = wanted.saturating_sub(len64(spare.len())) << self.sb.cluster_log;
        if more > self.space.free_blocks() {
            mapping.tree = spare;
            return Err(Error::limit("no space left for the map of a file"));
        }
        if self.sb.features.incompat(features::EXTENTS) {
            record.set_flags(record.flags()? | inode::EXTENTS)?;
            self.write_tree(record, mapping, &mut spare)?;
        } else {
            self.write_block_map(record, mapping, &mut spare)?;
        }
        for block in spare {
            self.give_blocks(block, 1)?;
        }
        Ok(())
    }

    /// Blocks that the map itself takes at most.
    fn tree_blocks(&self, mapping: &Mapping) -> u64 {
        let per = u64::from(self.sb.block_size() / 4);
        let (mut level, per, end) = if self.sb.features.incompat(features::EXTENTS) {
            // A node holds a third as many extents as a block of numbers, less its header.
            (len64(mapping.extents.len()), (per / 3).saturating_sub(1), 4)
        } else {
            (mapping.data_blocks(), per, 1)
        };
        let mut sum = 0_u64;
        if !self.sb.features.incompat(features::EXTENTS) && level > u64::from(blockmap::DIRECT) {
            // One block more may be begun at each of the three levels.
            sum = 3;
        } else if level <= end || level <= u64::from(blockmap::DIRECT) && end == 1 {
            return 0;
        }
        while level > end {
            level = level.div_ceil(per.max(2));
            sum = sum.saturating_add(level);
        }
        sum
    }

    fn tree_block(&mut self, number: u32, spare: &mut Vec<u64>) -> Result<u64> {
        match spare.pop() {
            Some(block) => Ok(block),
            None => self.take_block(number),
        }
    }

    fn write_tree(
        &mut self,
        record: &mut Record,
        mapping: &mut Mapping,
        spare: &mut Vec<u64>,
    ) -> Result<()> {
        let seed = record.seed(&self.sb)?;
        // Entries of one level, each with the logical block that it begins at.
        let mut level: Vec<(u32, [u8; extent::ENTRY])> = Vec::with_capacity(mapping.extents.len());
        for extent in &mapping.extents {
            let mut entry = [0; extent::ENTRY];
            put32(&mut entry, 0, u64::from(extent.logical))?;
            let len = extent
                .len
                .saturating_add(if extent.written { 0 } else { extent::MAX_LEN });
            put16(&mut entry, 4, u64::from(len))?;
            put16(&mut entry, 6, extent.physical >> 32)?;
            put32(&mut entry, 8, extent.physical)?;
            level.push((extent.logical, entry));
        }
        let room = self.sb.block_len().saturating_sub(extent::ENTRY) / extent::ENTRY;
        let mut depth = 0_u16;
        while level.len() > 4 {
            let mut above = Vec::new();
            for part in level.chunks(room) {
                let block = self.tree_block(record.number, spare)?;
                mapping.tree.push(block);
                let bytes = self.store.create(block)?;
                write_node(bytes, part, room, depth)?;
                if self.sb.metadata_checksums() {
                    let at = extent::checksum_offset(bytes)?;
                    let sum = crc32c(seed, slice_at(bytes, 0, at)?);
                    put32(bytes, at, u64::from(sum))?;
                }
                let logical = part.first().map_or(0, |(logical, _)| *logical);
                let mut entry = [0; extent::ENTRY];
                put32(&mut entry, 0, u64::from(logical))?;
                put32(&mut entry, 4, block)?;
                put16(&mut entry, 8, block >> 32)?;
                above.push((logical, entry));
            }
            level = above;
            depth = depth.saturating_add(1);
            if depth > extent::MAX_DEPTH {
                return Err(Error::limit("an extent tree deeper than 5"));
            }
        }
        let mut root = [0; inode::MAP_SIZE];
        write_node(&mut root, &level, 4, depth)?;
        record.set_map(&root)
    }

    fn write_block_map(
        &mut self,
        record: &mut Record,
        mapping: &mut Mapping,
        spare: &mut Vec<u64>,
    ) -> Result<()> {
        let blocks = mapping.extents.last().map_or(0, |last| {
            u64::from(last.logical).saturating_add(u64::from(last.len))
        });
        let mut list = vec![0_u32; index(blocks)];
        for extent in &mapping.extents {
            for nth in 0..extent.len {
                let physical = u32::try_from(extent.physical.saturating_add(u64::from(nth)))
                    .map_err(|_| Error::limit("a block beyond 32 bits in a block map"))?;
                if let Some(to) = list.get_mut(index(extent.logical.saturating_add(nth))) {
                    *to = physical;
                }
            }
        }
        let per = index(self.sb.block_size() / 4);
        let mut root = [0; inode::MAP_SIZE];
        let (direct, mut rest) = list
            .split_at_checked(index(blockmap::DIRECT))
            .unwrap_or((&list, &[]));
        for (at, block) in direct.iter().enumerate() {
            put32(&mut root, at.saturating_mul(4), u64::from(*block))?;
        }
        let mut reach = per;
        for level in 0..3_usize {
            if rest.is_empty() {
                break;
            }
            let (part, after) = rest.split_at_checked(reach).unwrap_or((rest, &[]));
            let block = self.write_indirect(record.number, part, reach, mapping, spare)?;
            put32(
                &mut root,
                level.saturating_add(12).saturating_mul(4),
                u64::from(block),
            )?;
            rest = after;
            reach = reach.saturating_mul(per);
        }
        if !rest.is_empty() {
            return Err(Error::limit("a file larger than a block map can hold"));
        }
        record.set_map(&root)
    }

    /// One indirect block over `part`, which reaches over `reach` blocks when full.
    fn write_indirect(
        &mut self,
        number: u32,
        part: &[u32],
        reach: usize,
        mapping: &mut Mapping,
        spare: &mut Vec<u64>,
    ) -> Result<u32> {
        if part.iter().all(|block| *block == 0) {
            return Ok(0);
        }
        let per = index(self.sb.block_size() / 4);
        let own = self.tree_block(number, spare)?;
        mapping.tree.push(own);
        let below = reach.checked_div(per).unwrap_or(1).max(1);
        let mut entries = Vec::with_capacity(per);
        for piece in part.chunks(below) {
            entries.push(if below == 1 {
                piece.first().copied().unwrap_or_default()
            } else {
                self.write_indirect(number, piece, below, mapping, spare)?
            });
        }
        let bytes = self.store.create(own)?;
        for (at, entry) in entries.iter().enumerate() {
            put32(bytes, at.saturating_mul(4), u64::from(*entry))?;
        }
        u32::try_from(own).map_err(|_| Error::limit("a block beyond 32 bits in a block map"))
    }
}

fn write_node(
    bytes: &mut [u8],
    entries: &[(u32, [u8; extent::ENTRY])],
    room: usize,
    depth: u16,
) -> Result<()> {
    put16(bytes, 0, u64::from(extent::MAGIC))?;
    put16(bytes, 2, len64(entries.len()))?;
    put16(bytes, 4, len64(room))?;
    put16(bytes, 6, u64::from(depth))?;
    for (nth, (_, entry)) in entries.iter().enumerate() {
        super::store::put(
            bytes,
            nth.saturating_add(1).saturating_mul(extent::ENTRY),
            entry,
        )?;
    }
    Ok(())
}
