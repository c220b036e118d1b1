//! What a filesystem was left with: transactions in its journal, and inodes that were being removed or cut.

use std::sync::Arc;

use dormouse_block::{Error, Result, Source, be_u32, le_u32, read_vec_at, slice_at};
use dormouse_filesystem::ext::checksum::crc32c;
use dormouse_filesystem::ext::extent::Extent;
use dormouse_filesystem::ext::features::RECOVER;
use dormouse_filesystem::ext::superblock::{OFFSET, SIZE, Superblock};
use dormouse_filesystem::ext::{ExtTree, inode, journal};

use super::core::Core;
use super::mapping::Mapping;
use super::record::Record;
use super::store::{index, put, put32};
use crate::Device;

/// Inodes that were being removed or cut and are dealt with.
const MAX_ORPHANS: usize = 1 << 20;
/// `ob_magic` at the end of a block of the orphan file.
const ORPHAN_MAGIC: u32 = 0x0B10_CA04;

/// Writes what the journal holds to its places and empties the journal; the superblock's bytes afterwards.
pub(super) fn replay(device: &Arc<dyn Device>) -> Result<Vec<u8>> {
    let source: Arc<dyn Source> = device.clone();
    let bytes = read_vec_at(source.as_ref(), OFFSET, SIZE)?;
    if !Superblock::parse(&bytes)?.features.incompat(RECOVER) {
        return Ok(bytes);
    }
    let tree = ExtTree::open(source.clone())?;
    let sb = tree.superblock();
    let replay = tree.volume().replay();
    let offset = |block: u64| block << sb.block_log;
    let head = read_vec_at(source.as_ref(), offset(replay.superblock), sb.block_len())?;
    if be_u32(&head, 32)? != 0 {
        return Err(Error::denied(
            "the journal says that the filesystem has errors; e2fsck must check it first",
        ));
    }
    let mut buf = vec![0; sb.block_len()];
    for block in replay.blocks.keys() {
        tree.volume().read(*block, 0, &mut buf)?;
        device.write_at(offset(*block), &buf)?;
    }
    let mut head = read_vec_at(source.as_ref(), offset(replay.superblock), sb.block_len())?;
    put(&mut head, 24, &replay.next_sequence.to_be_bytes())?;
    put(&mut head, 28, &[0; 4])?;
    if journal::superblock_has_checksum(&head)? {
        let sum = journal::superblock_checksum(&head)?;
        put(&mut head, 252, &sum.to_be_bytes())?;
    }
    device.write_at(offset(replay.superblock), &head)?;
    let mut bytes = read_vec_at(source.as_ref(), OFFSET, SIZE)?;
    let incompat = le_u32(&bytes, 0x60)? & !RECOVER;
    put32(&mut bytes, 0x60, u64::from(incompat))?;
    if sb.metadata_checksums() {
        let sum = crc32c(!0, slice_at(&bytes, 0, 0x3FC)?);
        put32(&mut bytes, 0x3FC, u64::from(sum))?;
    }
    device.write_at(OFFSET, &bytes)?;
    Ok(bytes)
}

impl<D: Device> Core<D> {
    /// Deals with the inodes of the list that begins at `first`.
    pub(super) fn clear_orphan_list(&mut self, first: u32) -> Result<()> {
        let mut next = first;
        let mut count = 0_usize;
        while next != 0 {
            count = count.saturating_add(1);
            if count > MAX_ORPHANS {
                return Err(Error::corrupt("the list of orphaned inodes has no end"));
            }
            let (mut record, inode) = self.record(next)?;
            next = inode.dtime;
            self.clear_orphan(&mut record)?;
        }
        Ok(())
    }

    /// Deals with the inodes in the orphan file, and empties it.
    pub(super) fn clear_orphan_file(&mut self, number: u32) -> Result<()> {
        let (record, _) = self.record(number)?;
        let seed = record.seed(&self.sb)?;
        let mapping = self.read_mapping(&record)?;
        let end = self.sb.block_len().saturating_sub(8);
        for extent in &mapping.extents {
            for nth in 0..extent.len {
                let block = extent.physical.saturating_add(u64::from(nth));
                let bytes = self.store.read(block)?.to_vec();
                let sum = |bytes: &[u8]| -> Result<u32> {
                    let sum = crc32c(seed, &block.to_le_bytes());
                    Ok(crc32c(sum, slice_at(bytes, 0, end)?))
                };
                let checked = self.sb.metadata_checksums();
                if le_u32(&bytes, end)? != ORPHAN_MAGIC
                    || (checked && sum(&bytes)? != le_u32(&bytes, end.saturating_add(4))?)
                {
                    return Err(Error::corrupt("a broken block of the orphan file"));
                }
                for slot in bytes.get(..end).unwrap_or_default().chunks_exact(4) {
                    let orphan = le_u32(slot, 0)?;
                    if orphan != 0 {
                        let (mut record, _) = self.record(orphan)?;
                        self.clear_orphan(&mut record)?;
                    }
                }
                let fresh = self.store.modify(block)?;
                fresh.get_mut(..end).unwrap_or_default().fill(0);
                if checked {
                    let sum = sum(fresh)?;
                    put32(fresh, end.saturating_add(4), u64::from(sum))?;
                }
            }
        }
        Ok(())
    }

    fn clear_orphan(&mut self, record: &mut Record) -> Result<()> {
        if record.number < self.sb.first_inode {
            return Err(Error::corrupt(
                "an orphaned inode that is kept for the filesystem",
            ));
        }
        if record.links()? == 0 {
            self.quota.forget(&self.sb, record)?;
            return self.release_record(record);
        }
        self.cut(record)?;
        put32(&mut record.raw, 0x14, 0)?;
        self.put_record(record)
    }

    /// Frees what lies beyond the end of a file.
    fn cut(&mut self, record: &mut Record) -> Result<()> {
        if !self.has_map(record)? {
            return Ok(());
        }
        let parsed = record.parsed(&self.sb)?;
        let end = parsed.blocks(&self.sb)?;
        let mut mapping = self.read_mapping(record)?;
        let mut keep: Vec<Extent> = Vec::new();
        for mut extent in mapping.extents.iter().copied() {
            extent.len = end.saturating_sub(extent.logical).min(extent.len);
            if extent.len > 0 {
                keep.push(extent);
            }
        }
        let kept = Mapping {
            extents: keep.clone(),
            tree: Vec::new(),
        };
        self.free_data(&mapping, &kept)?;
        let within = parsed.size & u64::from(self.sb.block_size().saturating_sub(1));
        if let (Some(last), true) = (keep.last(), within != 0) {
            let reaches = last.logical.saturating_add(last.len) == end;
            if reaches && last.written {
                let block = last
                    .physical
                    .saturating_add(u64::from(last.len))
                    .saturating_sub(1);
                let from = (block << self.sb.block_log).saturating_add(within);
                let rest = u64::from(self.sb.block_size()).saturating_sub(within);
                self.store.write_data(from, &vec![0; index(rest)])?;
            }
        }
        mapping.extents = keep;
        self.write_mapping(record, &mut mapping)?;
        let attributes = u64::from(record.attribute_block()? != 0);
        let attributes = attributes << self.sb.cluster_log;
        let blocks = mapping.all_blocks(&self.sb).saturating_add(attributes);
        record.set_blocks(&self.sb, blocks)
    }

    /// Frees an inode that no name leads to, and all that it has.
    pub(super) fn release_record(&mut self, record: &mut Record) -> Result<()> {
        let mapping = self.read_mapping(record)?;
        self.free_mapping(&mapping)?;
        self.drop_attribute_block(record)?;
        let directory = record.is_directory()?;
        // What a later inode of this number must never show: attributes, and where the bytes were.
        record.attribute_area().fill(0);
        record.set_flags(
            record.flags()? & !(inode::INLINE | inode::EXTENTS | inode::INDEX | inode::HUGE),
        )?;
        record.set_map(&[])?;
        record.set_size(0)?;
        record.set_blocks(&self.sb, 0)?;
        record.set_links(0)?;
        record.set_removed(self.now)?;
        self.put_record(record)?;
        self.space
            .give_inode(&self.sb, &mut self.store, record.number, directory)
    }

    /// As [`Core::release_record`], but the blocks of data stay with the caller.
    pub(super) fn release_but_content(&mut self, record: &mut Record) -> Result<()> {
        let mapping = self.read_mapping(record)?;
        for block in &mapping.tree {
            self.give_blocks(*block, 1)?;
        }
        record.set_flags(record.flags()? & !inode::EXTENTS)?;
        record.set_map(&[])?;
        self.release_record(record)
    }

    /// Writes `size` bytes that `content` gives into new blocks near inode `near`.
    pub(super) fn write_content(
        &mut self,
        near: u32,
        size: u64,
        content: &mut dyn std::io::Read,
    ) -> Result<Vec<super::space::Run>> {
        let blocks = size.div_ceil(u64::from(self.sb.block_size()));
        let runs = self.take_blocks(near, blocks)?;
        let written = self.fill(&runs, size, content);
        if let Err(error) = written {
            for run in &runs {
                self.give_blocks(run.start, u64::from(run.len))?;
            }
            return Err(error);
        }
        Ok(runs)
    }

    fn fill(
        &mut self,
        runs: &[super::space::Run],
        size: u64,
        content: &mut dyn std::io::Read,
    ) -> Result<()> {
        const STEP: u64 = 256 << 10;
        let mut left = size;
        for run in runs {
            let mut at = run.start << self.sb.block_log;
            let mut room = u64::from(run.len) << self.sb.block_log;
            while room > 0 && left > 0 {
                let step = STEP.min(room).min(left);
                let padded = step.next_multiple_of(u64::from(self.sb.block_size()));
                if padded > room {
                    return Err(Error::corrupt("a piece larger than its place"));
                }
                self.store.fill_data(at, index(padded), |part| {
                    let (bytes, rest) = part
                        .split_at_mut_checked(index(step))
                        .ok_or_else(|| Error::corrupt("a piece larger than its place"))?;
                    rest.fill(0);
                    content.read_exact(bytes).map_err(|error| {
                        if error.kind() == std::io::ErrorKind::UnexpectedEof {
                            Error::corrupt("the content of a file ends before its size")
                                .because(error)
                        } else {
                            Error::io("reading the content of a file", error)
                        }
                    })
                })?;
                at = at.saturating_add(padded);
                room = room.saturating_sub(padded);
                left = left.saturating_sub(step);
            }
        }
        let mut more = [0];
        match content.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Error::corrupt(
                "the content of a file goes on after its size",
            )),
            Err(error) => Err(Error::io("reading the content of a file", error)),
        }
    }
}
