//! FAT12, FAT16 and FAT32 with long names: their layout on disk, and reading them.
//!
//! The modules describe one structure each, as Microsoft's "FAT: General Overview of On-Disk Format" (1.03) and
//! ECMA-107 define it and Linux (`fs/fat`) reads it; all integers are little-endian. [`FatTree`] puts them together for
//! reading. The layout is public because the editor works on the same structures; nothing here writes.
//!
//! FAT keeps no owners, modes or extended attributes: everything belongs to root with mode 0755 (0555 where the
//! read-only attribute is set), whatever the options of a mount say. Its times have no zone and are taken as UTC.
//!
//! Units: a *sector* is a `u64` counted from the start of the volume; a *cluster* is a `u32`, the first of which is 2.

#![warn(clippy::arithmetic_side_effects)]

pub mod boot;
pub mod chain;
pub mod entry;
pub mod name;
pub mod table;
mod tree;

use std::sync::Arc;

use dormouse_block::{Result, Source};

use crate::{Filesystem, Tree};

pub use tree::FatTree;

/// FAT12, FAT16 and FAT32.
#[derive(Debug, Clone, Copy)]
pub struct Fat;

/// The mode of everything that may be written.
pub const MODE: u16 = 0o755;

impl Filesystem for Fat {
    fn name(&self) -> &'static str {
        "vfat"
    }

    fn probe(&self, volume: &dyn Source) -> Result<bool> {
        boot::probe(volume)
    }

    fn open(&self, volume: Arc<dyn Source>) -> Result<Arc<dyn Tree>> {
        Ok(Arc::new(FatTree::open(volume)?))
    }
}

/// A number as an index; what does not fit is beyond any buffer.
pub(crate) fn index(n: impl TryInto<usize>) -> usize {
    n.try_into().unwrap_or(usize::MAX)
}

/// An index as a 64-bit size.
pub(crate) fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
