//! EROFS: its layout on disk, and reading it.
//!
//! The layout is what the kernel (`fs/erofs`) and erofs-utils read. All integers are little-endian. Plain files, tails within
//! inodes, chunks, and files packed by LZ4 (both forms of index, clusters of several blocks) are read; other packings,
//! packed tails and fragments, deduplication, long prefixes of attributes, and further devices are refused by name.

#![warn(clippy::arithmetic_side_effects)]

mod inode;
mod packed;
mod superblock;
mod tree;

use std::sync::Arc;

use dormouse_block::{Result, Source, read_vec_at};

use crate::{Filesystem, Tree};

pub use tree::ErofsTree;

/// EROFS.
#[derive(Debug, Clone, Copy)]
pub struct Erofs;

impl Filesystem for Erofs {
    fn name(&self) -> &'static str {
        "erofs"
    }

    fn probe(&self, volume: &dyn Source) -> Result<bool> {
        let at = superblock::AT;
        Ok(volume.len() >= at.saturating_add(128)
            && read_vec_at(volume, at, 4)? == b"\xe2\xe1\xf5\xe0")
    }

    fn open(&self, volume: Arc<dyn Source>) -> Result<Arc<dyn Tree>> {
        Ok(Arc::new(ErofsTree::open(volume)?))
    }
}
