//! squashfs 4.0: its layout on disk, and reading it.
//!
//! The layout is what the kernel (`fs/squashfs`) and squashfs-tools read. All integers are little-endian. Metadata lies in
//! blocks of 8 KiB, each packed by itself; tables of such blocks begin with the places of their blocks. gzip, lzma, LZO, xz (with its
//! filters), lz4 and zstd are unpacked.

#![warn(clippy::arithmetic_side_effects)]

mod inode;
mod packing;
mod superblock;
mod tree;

use std::sync::Arc;

use dormouse_block::{Result, Source, read_vec_at};

use crate::{Filesystem, Tree};

pub use tree::SquashfsTree;

/// squashfs of version 4.
#[derive(Debug, Clone, Copy)]
pub struct Squashfs;

impl Filesystem for Squashfs {
    fn name(&self) -> &'static str {
        "squashfs"
    }

    fn probe(&self, volume: &dyn Source) -> Result<bool> {
        Ok(volume.len() >= 96 && read_vec_at(volume, 0, 4)? == b"hsqs")
    }

    fn open(&self, volume: Arc<dyn Source>) -> Result<Arc<dyn Tree>> {
        Ok(Arc::new(SquashfsTree::open(volume)?))
    }
}
