//! What all operations share: the superblock, blocks in memory, free space, and inodes.

use dormouse_block::{Error, Result, slice_at};
use dormouse_filesystem::Time;
use dormouse_filesystem::ext::inode::{self, Inode};
use dormouse_filesystem::ext::superblock::Superblock;

use super::quota::Quota;
use super::record::Record;
use super::space::{Run, Space};
use super::store::{Store, index, put};
use crate::Device;

pub(super) struct Core<D> {
    pub(super) sb: Superblock,
    pub(super) store: Store<D>,
    pub(super) space: Space,
    pub(super) quota: Quota,
    pub(super) now: Time,
}

impl<D: Device> Core<D> {
    fn place(&self, number: u32) -> Result<(u64, usize)> {
        let (group, nth) = self.sb.inode_place(number)?;
        let at = u64::from(nth).saturating_mul(u64::from(self.sb.inode_size));
        let table = self.space.group(group)?.inode_table;
        let within = at & u64::from(self.sb.block_size().saturating_sub(1));
        Ok((table.saturating_add(at >> self.sb.block_log), index(within)))
    }

    /// The bytes of an inode, whatever they are.
    pub(super) fn raw_record(&mut self, number: u32) -> Result<Record> {
        let (block, within) = self.place(number)?;
        let size = usize::from(self.sb.inode_size);
        let raw = slice_at(self.store.read(block)?, within, size)?.to_vec();
        Ok(Record { number, raw })
    }

    /// An inode that is in use, its checksum verified.
    pub(super) fn record(&mut self, number: u32) -> Result<(Record, Inode)> {
        if number < self.sb.first_inode && number != inode::ROOT {
            return Err(Error::corrupt(format!(
                "inode {number} is kept for the filesystem"
            )));
        }
        if !self.space.inode_in_use(&self.sb, &mut self.store, number)? {
            return Err(Error::corrupt(format!("inode {number} is not in use")));
        }
        let record = self.raw_record(number)?;
        let inode = Inode::parse(&self.sb, number, &record.raw)?;
        if inode.kind().is_none() {
            return Err(Error::corrupt(format!("inode {number} has no known type")));
        }
        Ok((record, inode))
    }

    /// Seals an inode and puts it into its table; its owners are charged for what it takes more than before.
    pub(super) fn put_record(&mut self, record: &mut Record) -> Result<()> {
        if self.quota.is_kept() {
            let before = self.raw_record(record.number)?;
            self.quota.change(&self.sb, &before, record)?;
        }
        self.put_hidden(record)
    }

    /// As [`Core::put_record`] for an inode that is charged to nobody.
    pub(super) fn put_hidden(&mut self, record: &mut Record) -> Result<()> {
        record.seal(&self.sb)?;
        let (block, within) = self.place(record.number)?;
        put(self.store.modify(block)?, within, &record.raw)
    }

    /// A new inode of `mode`, near inode `parent`, with no names yet.
    pub(super) fn new_record(&mut self, parent: u32, mode: u16) -> Result<Record> {
        let (group, _) = self.sb.inode_place(parent)?;
        let directory = mode >> 12 == 4;
        let number = self
            .space
            .take_inode(&self.sb, &mut self.store, group, directory)?;
        let old = self.raw_record(number)?.generation()?;
        let mut record = Record::fresh(&self.sb, number, old)?;
        // Whatever a former inode left here has nothing to do with the quota of its owner.
        self.put_hidden(&mut record)?;
        record.set_mode(mode)?;
        let above = self.raw_record(parent)?;
        record.inherit(&above)?;
        Ok(record)
    }

    /// Refuses blocks of a file that lie outside the filesystem or in its own tables.
    pub(super) fn check_file_blocks(&self, start: u64, len: u64) -> Result<()> {
        self.sb.check_blocks(start, len)?;
        self.space.zones.check(start, len)
    }

    /// Takes at least `wanted` blocks, in whole clusters, near inode `number`.
    pub(super) fn take_blocks(&mut self, number: u32, wanted: u64) -> Result<Vec<Run>> {
        let (group, _) = self.sb.inode_place(number)?;
        self.space
            .take_blocks(&self.sb, &mut self.store, group, wanted)
    }

    /// Takes one block (the first of a cluster) near inode `number`.
    pub(super) fn take_block(&mut self, number: u32) -> Result<u64> {
        let runs = self.take_blocks(number, 1)?;
        runs.first()
            .map(|run| run.start)
            .ok_or_else(|| Error::limit("no space left"))
    }

    pub(super) fn give_blocks(&mut self, start: u64, len: u64) -> Result<()> {
        self.space
            .give_blocks(&self.sb, &mut self.store, start, len)
    }
}
