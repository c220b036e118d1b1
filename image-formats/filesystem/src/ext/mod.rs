//! ext2, ext3 and ext4: their layout on disk, and reading them.
//!
//! The modules describe one structure each, as the Linux documentation (`Documentation/filesystems/ext4`) and the
//! kernel's `fs/ext4` and `fs/jbd2` define it; all integers of ext are little-endian, those of its journal
//! big-endian. [`ExtTree`] puts them together for reading. The layout is public because the editor of ext4 works on
//! the same structures; nothing here writes.
//!
//! Units: a *filesystem block* is a `u64` counted from the start of the volume; a *logical block* is a `u32` counted
//! from the start of a file; an *inode number* is a `u32` counted from 1.

#![warn(clippy::arithmetic_side_effects)]

pub mod blockmap;
pub mod checksum;
pub mod directory;
pub mod extent;
pub mod features;
pub mod group;
pub mod hash;
pub mod inode;
pub mod journal;
mod map;
pub mod superblock;
mod touched;
mod tree;
mod volume;
pub mod xattr;

use std::sync::Arc;

use dormouse_block::{Error, Result, Source, le_u16};

use crate::{Filesystem, Tree};

pub(crate) use touched::touched;
pub use tree::ExtTree;
pub use volume::Volume;

/// ext2, ext3 and ext4.
#[derive(Debug, Clone, Copy)]
pub struct Ext4;

impl Filesystem for Ext4 {
    fn name(&self) -> &'static str {
        "ext4"
    }

    fn probe(&self, volume: &dyn Source) -> Result<bool> {
        let end = superblock::OFFSET.saturating_add(superblock::SIZE as u64);
        if volume.len() < end {
            return Ok(false);
        }
        let mut magic = [0; 2];
        volume.read_exact_at(superblock::OFFSET.saturating_add(0x38), &mut magic)?;
        Ok(le_u16(&magic, 0)? == superblock::MAGIC)
    }

    fn open(&self, volume: Arc<dyn Source>) -> Result<Arc<dyn Tree>> {
        Ok(Arc::new(ExtTree::open(volume)?))
    }
}

/// What is said when numbers of the image do not fit together arithmetically.
pub(crate) fn overflow() -> Error {
    Error::corrupt("a number of the filesystem is too large")
}

/// A 64-bit size as an index; what does not fit is beyond any buffer.
pub(crate) fn index(n: impl TryInto<usize>) -> usize {
    n.try_into().unwrap_or(usize::MAX)
}

/// An index as a 64-bit size.
pub(crate) fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
