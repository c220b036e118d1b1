//! Items of transactions, played onto the volume in memory.

use std::collections::BTreeMap;

use dormouse_block::{Error, Result, Source, be_u32};

use super::super::superblock::Superblock;
use super::super::volume::Changes;
use super::intent::{ATTRIBUTE, EXCHANGE, Intents, MAPPING};
use super::transaction::Item;
use super::{buffer, inode};

/// `XFS_LI_EFI` and `XFS_LI_EFD`: extents to be freed.
const FREE: [u16; 2] = [0x1236, 0x1237];
/// `XFS_LI_IUNLINK`, which no kernel writes any more.
const UNLINK: u16 = 0x1238;
const INODE: u16 = 0x123B;
const BUFFER: u16 = 0x123C;
/// `XFS_LI_DQUOT` and `XFS_LI_QUOTAOFF`: quotas.
const QUOTAS: [u16; 2] = [0x123D, 0x123E];
/// `XFS_LI_ICREATE`: a chunk of inodes made at once.
const CREATE: u16 = 0x123F;
/// The reverse map and reference counts, intended and done, on the data device and on the real-time one: no reader
/// asks for either.
const REVERSE_AND_COUNTS: [u16; 4] = [0x1240, 0x1241, 0x1242, 0x1243];
const MAPPING_DONE: u16 = MAPPING + 1;
const ATTRIBUTE_DONE: u16 = ATTRIBUTE + 1;
const EXCHANGE_DONE: u16 = EXCHANGE + 1;
const REAL_TIME: [u16; 6] = [0x124A, 0x124B, 0x124C, 0x124D, 0x124E, 0x124F];

/// Bytes of an inode buffer of inodes of 256 bytes (`XFS_INODE_BIG_CLUSTER_SIZE`), and how large those are.
const CLUSTER: u64 = 8192;
const SMALL_INODE_LOG: u32 = 8;

/// Buffers by their first sector and length in sectors.
type Cancelled = BTreeMap<(u64, u32), u32>;

/// Plays items onto a volume.
pub(super) struct Player<'a> {
    source: &'a dyn Source,
    sb: &'a Superblock,
    changes: Changes,
    cancelled: Cancelled,
    intents: Intents,
}

impl<'a> Player<'a> {
    pub(super) fn new(source: &'a dyn Source, sb: &'a Superblock) -> Self {
        Self {
            source,
            sb,
            changes: Changes::default(),
            cancelled: Cancelled::new(),
            intents: Intents::default(),
        }
    }

    /// What was played, and what is left to be done.
    pub(super) fn finish(self) -> (Changes, Intents) {
        (self.changes, self.intents)
    }

    /// Forgets which buffers are cancelled.
    pub(super) fn forget(&mut self) {
        self.cancelled.clear();
    }

    /// Notes the buffers that a transaction cancels: their earlier changes must not be played, since their blocks may
    /// hold something else by now.
    ///
    /// # Errors
    /// `Corrupt` for a broken item.
    pub(super) fn note_cancelled(&mut self, items: &[Item]) -> Result<()> {
        for item in items {
            if item.kind()? == BUFFER {
                let format = buffer::Format::parse(item.region(0)?)?;
                if format.cancels() {
                    let count = self.cancelled.entry(format.place()).or_default();
                    *count = count.saturating_add(1);
                }
            }
        }
        Ok(())
    }

    /// Plays a transaction that began at `lsn`: buffers first, inodes after those, cancellations last.
    ///
    /// # Errors
    /// `Corrupt` for a broken item, `Unsupported` for an unknown one.
    pub(super) fn play(&mut self, lsn: u64, items: Vec<Item>) -> Result<()> {
        let mut later = Vec::new();
        let mut ended = Vec::new();
        for item in items {
            match item.kind()? {
                BUFFER => {
                    let format = buffer::Format::parse(item.region(0)?)?;
                    if format.cancels() {
                        ended.push(format.place());
                    } else if !self.cancelled.contains_key(&format.place()) {
                        buffer::play(self.sb, self.source, &mut self.changes, &format, &item, lsn)?;
                    }
                }
                CREATE => self.create(&item)?,
                _ => later.push(item),
            }
        }
        for item in later {
            self.play_other(lsn, item)?;
        }
        for place in ended {
            if let Some(count) = self.cancelled.get_mut(&place) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.cancelled.remove(&place);
                }
            }
        }
        Ok(())
    }

    fn play_other(&mut self, lsn: u64, item: Item) -> Result<()> {
        match item.kind()? {
            INODE => {
                let format = inode::Format::parse(item.region(0)?)?;
                if self.cancelled.contains_key(&format.buffer()) {
                    return Ok(());
                }
                inode::play(self.sb, self.source, &mut self.changes, &format, &item, lsn)
            }
            kind @ (MAPPING | ATTRIBUTE | EXCHANGE) => self.intents.announce(kind, item),
            kind @ (MAPPING_DONE | ATTRIBUTE_DONE | EXCHANGE_DONE) => {
                self.intents.done(kind.saturating_sub(1), &item)
            }
            UNLINK => Ok(()),
            kind if FREE.contains(&kind)
                || QUOTAS.contains(&kind)
                || REVERSE_AND_COUNTS.contains(&kind)
                || REAL_TIME.contains(&kind) =>
            {
                Ok(())
            }
            kind => Err(Error::unsupported(format!(
                "an item of unknown type {kind:#x} in the log of XFS"
            ))),
        }
    }

    /// Blocks of a buffer of inodes, as the kernel reads and cancels them.
    fn cluster_blocks(&self) -> u64 {
        let sb = self.sb;
        let mut size = CLUSTER;
        if sb.features.v5() {
            let larger = size << sb.inode_log.saturating_sub(SMALL_INODE_LOG);
            if u64::from(sb.inode_alignment) >= larger >> sb.block_log {
                size = larger;
            }
        }
        (size >> sb.block_log).max(1)
    }

    /// Makes a chunk of free inodes.
    fn create(&mut self, item: &Item) -> Result<()> {
        let bytes = item.region(0)?;
        let sb = self.sb;
        let group = u64::from(be_u32(bytes, 4)?);
        let first = be_u32(bytes, 8)?;
        let count = u64::from(be_u32(bytes, 12)?);
        let size = be_u32(bytes, 16)?;
        let length = u64::from(be_u32(bytes, 20)?);
        let generation = be_u32(bytes, 24)?;
        // A chunk has 64 inodes, or is one block where blocks hold more.
        let most = 64_u64.max(1 << sb.inodes_log);
        if size.checked_shr(sb.inode_log) != Some(1)
            || count == 0
            || count > most
            || length << sb.inodes_log != count
        {
            return Err(Error::corrupt(
                "a chunk of inodes of no known size in the log",
            ));
        }
        let start = (group << sb.group_log) | u64::from(first);
        let offset = sb.extent(start, length)?;
        let cluster = self.cluster_blocks();
        let sectors = u32::try_from((cluster << sb.block_log) >> 9).unwrap_or(u32::MAX);
        let mut block = 0;
        while block < length {
            let at = offset.saturating_add(block << sb.block_log);
            if self.cancelled.contains_key(&(at >> 9, sectors)) {
                return Ok(());
            }
            block = block.saturating_add(cluster);
        }
        for nth in 0..count {
            let number =
                (((group << sb.group_log) | u64::from(first)) << sb.inodes_log).saturating_add(nth);
            let at = offset.saturating_add(nth << sb.inode_log);
            let fresh = inode::fresh(sb, number, generation);
            self.changes.write(self.source, at, &fresh)?;
        }
        Ok(())
    }
}
