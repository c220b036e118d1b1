//! btrfs: its layout on disk, and reading it, on one device or several.
//!
//! The modules describe one structure each, as the kernel's `include/uapi/linux/btrfs_tree.h` and `fs/btrfs` define
//! it; all integers are little-endian. A *logical address* is a `u64` in bytes that chunks map to devices; a *tree* is
//! a B-tree of items sorted by their keys; a *subvolume* is a tree of files with inode numbers of its own.
//!
//! What is read is held against its checksum, copy by copy. Changes that were synced into the log trees and not yet
//! committed are replayed in memory, as the kernel would replay them on disk.

#![warn(clippy::arithmetic_side_effects)]

mod btree;
mod checksum;
mod chunk;
mod compression;
mod data;
mod directory;
mod extent;
mod features;
mod inode;
mod key;
mod log;
mod node;
mod pool;
mod subvolume;
mod superblock;
mod tree;
mod volume;

use std::sync::Arc;

use dormouse_block::{Error, Result, Source};

use crate::{Filesystem, Tree};

pub(crate) use crate::ext::{index, wide};
pub use tree::BtrfsTree;

/// btrfs.
#[derive(Debug, Clone, Copy)]
pub struct Btrfs;

impl Filesystem for Btrfs {
    fn name(&self) -> &'static str {
        "btrfs"
    }

    fn probe(&self, volume: &dyn Source) -> Result<bool> {
        let [first, ..] = superblock::OFFSETS;
        if volume.len() < first.saturating_add(wide(superblock::SIZE)) {
            return Ok(false);
        }
        let mut magic = [0; 8];
        volume.read_exact_at(first.saturating_add(0x40), &mut magic)?;
        Ok(magic == *superblock::MAGIC)
    }

    fn open(&self, volume: Arc<dyn Source>) -> Result<Arc<dyn Tree>> {
        self.open_over(volume, &[])
    }

    fn spans(&self, volume: &dyn Source) -> Result<Option<[u8; 16]>> {
        let sb = superblock::Superblock::read(volume)?;
        Ok((sb.num_devices > 1).then_some(sb.fsid))
    }

    fn open_over(
        &self,
        volume: Arc<dyn Source>,
        others: &[Arc<dyn Source>],
    ) -> Result<Arc<dyn Tree>> {
        Ok(Arc::new(BtrfsTree::open(volume, others)?))
    }
}

/// What is said when numbers of the image do not fit together arithmetically.
fn overflow() -> Error {
    Error::corrupt("a number of the filesystem is too large")
}
