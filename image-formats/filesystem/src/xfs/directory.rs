//! Blocks of directories: their headers, and which of their bytes are entries.

use std::ops::Range;
use std::sync::Arc;

use dormouse_block::{Error, Result, be_u16, be_u32};

use super::fork::{Format, Which};
use super::inode::Inode;
use super::{XfsTree, entry, index, stamp, wide};
use crate::DirEntry;

/// The byte of a directory where its index begins (`XFS_DIR2_LEAF_OFFSET`); entries lie below.
pub(super) const INDEX_OFFSET: u64 = 1 << 35;
/// Bytes of one directory that are read.
const MAX_DIRECTORY: u64 = 1 << 30;

/// `XD2B`, `XD2D`, `XDB3`, `XDD3`: a whole small directory, or entries alone, in versions 4 and 5.
const BLOCK_4: u32 = 0x5844_3242;
const DATA_4: u32 = 0x5844_3244;
const BLOCK_5: u32 = 0x5844_4233;
const DATA_5: u32 = 0x5844_4433;

impl XfsTree {
    /// Whether a block's magic number is `four` in version 4, `five` in version 5.
    pub(super) fn is_magic<T: PartialEq + Copy>(&self, found: T, [four, five]: [T; 2]) -> bool {
        found == if self.sb.features.v5() { five } else { four }
    }

    /// The block of a directory at logical block `logical`, checked; `None` when it is a hole.
    ///
    /// # Errors
    /// `Corrupt` for a broken one.
    pub(super) fn directory_block(&self, inode: &Inode, logical: u64) -> Result<Option<Arc<[u8]>>> {
        let owner = inode.number;
        let count = 1 << self.sb.directory_log;
        self.fork_metadata(
            inode,
            Which::Data,
            logical,
            count,
            |bytes, offset, changed| {
                let (stamp, what) = if matches!(be_u32(bytes, 0)?, BLOCK_5 | DATA_5) {
                    (&stamp::DIRECTORY_DATA, "a block of a directory")
                } else {
                    (&stamp::INDEX, "a block of a directory's index")
                };
                self.check_stamp(stamp, bytes, offset, owner, changed, what)
            },
        )
    }

    /// The bytes of a block of entries that hold them.
    ///
    /// # Errors
    /// `Corrupt` for a block of something else.
    pub(super) fn entries_range(&self, bytes: &[u8]) -> Result<Range<usize>> {
        let magic = be_u32(bytes, 0)?;
        let start = if self.sb.features.v5() { 64 } else { 16 };
        if self.is_magic(magic, [DATA_4, DATA_5]) {
            return Ok(start..bytes.len());
        }
        let Some((end, _)) = self.block_index(bytes)? else {
            return Err(Error::corrupt("bad magic number of a directory's block"));
        };
        Ok(start..end)
    }

    /// The byte where the index of a directory in one block begins, and its number of entries; `None` when this is no
    /// such block.
    ///
    /// # Errors
    /// `Corrupt` when it does not fit into the block.
    pub(super) fn block_index(&self, bytes: &[u8]) -> Result<Option<(usize, usize)>> {
        if !self.is_magic(be_u32(bytes, 0)?, [BLOCK_4, BLOCK_5]) {
            return Ok(None);
        }
        let tail = bytes.len().saturating_sub(8);
        let count = index(be_u32(bytes, tail)?);
        let start = count
            .checked_mul(8)
            .and_then(|len| tail.checked_sub(len))
            .filter(|start| *start >= 64)
            .ok_or_else(|| Error::corrupt("bad number of names in a directory"))?;
        Ok(Some((start, count)))
    }

    /// Hands every entry of a directory to `take`, until that returns false; `.` and `..` are left out.
    ///
    /// # Errors
    /// `Corrupt` for a broken directory, `Limit` for one of more than 1 GiB.
    pub(super) fn for_entries(
        &self,
        inode: &Inode,
        take: &mut dyn FnMut(DirEntry) -> Result<bool>,
    ) -> Result<()> {
        let ftype = self.sb.features.ftype();
        if inode.fork(Which::Data)?.format == Format::Local {
            return entry::short_form(inode.local()?, ftype, take);
        }
        let size = wide(self.sb.directory_size());
        if inode.size == 0 || !inode.size.is_multiple_of(size) || inode.size > INDEX_OFFSET {
            return Err(Error::corrupt(format!(
                "bad size of the directory in inode {}",
                inode.number
            )));
        }
        if inode.size > MAX_DIRECTORY {
            return Err(Error::limit("a directory of more than 1 GiB"));
        }
        let end = inode.size >> self.sb.block_log;
        let step = 1_u64 << self.sb.directory_log;
        let mut logical = 0_u64;
        while logical < end {
            if let Some(bytes) = self.directory_block(inode, logical)? {
                let range = self.entries_range(&bytes)?;
                if !entry::for_each(&bytes, range, ftype, take)? {
                    return Ok(());
                }
                logical = logical.saturating_add(step);
                continue;
            }
            if logical == 0 {
                return Err(Error::corrupt(format!(
                    "the directory in inode {} has no first block",
                    inode.number
                )));
            }
            let hole = self.map(inode, Which::Data, logical)?.len;
            logical = logical.saturating_add(hole.max(step) & !step.saturating_sub(1));
        }
        Ok(())
    }

    /// The entry at `address`, in units of 8 bytes from the directory's start.
    ///
    /// # Errors
    /// `Corrupt` when there is none.
    pub(super) fn entry_at(&self, inode: &Inode, address: u32) -> Result<DirEntry> {
        let byte = u64::from(address) << 3;
        let size = wide(self.sb.directory_size());
        let bad = || Error::corrupt("a directory's index leads to no entry");
        let logical = (byte >> self.sb.block_log.saturating_add(self.sb.directory_log))
            << self.sb.directory_log;
        let bytes = self.directory_block(inode, logical)?.ok_or_else(bad)?;
        let range = self.entries_range(&bytes)?;
        let at = index(byte & size.saturating_sub(1));
        if !range.contains(&at) || be_u16(&bytes, at)? == entry::FREE {
            return Err(bad());
        }
        let (entry, _) = entry::parse(&bytes, at, range.end, self.sb.features.ftype())?;
        Ok(entry)
    }
}
