//! XFS of versions 4 and 5, read as it is after its log.
//!
//! The modules describe one structure each, as "XFS Algorithms & Data Structures" (the filesystem's own documentation)
//! and the kernel's `fs/xfs` define it; all integers are big-endian but checksums, which are little-endian, and what the
//! log holds of formats, which are in the order of the processor that wrote it. Nothing here writes: what a log holds is
//! laid over the volume in memory.
//!
//! Units: a *filesystem block* is a `u64`, the allocation group in its upper bits; a *logical block* is a `u64` counted
//! from the start of a file; an *inode number* is a `u64` made of its filesystem block and its place there; a *basic
//! block* of the log has 512 bytes.

#![warn(clippy::arithmetic_side_effects)]

mod attribute;
mod btree;
mod chunk;
mod directory;
mod entry;
mod features;
mod fork;
mod inode;
mod log;
mod lookup;
mod map;
mod stamp;
mod superblock;
mod tree;
mod volume;

use std::sync::Arc;

use dormouse_block::{Error, Result, Source, be_u32, slice_at};

use crate::ext::{index, overflow, wide};
use crate::{Filesystem, Tree};

pub use tree::XfsTree;

/// XFS.
#[derive(Debug, Clone, Copy)]
pub struct Xfs;

impl Filesystem for Xfs {
    fn name(&self) -> &'static str {
        "xfs"
    }

    fn probe(&self, volume: &dyn Source) -> Result<bool> {
        if volume.len() < 512 {
            return Ok(false);
        }
        let mut magic = [0; 4];
        volume.read_exact_at(0, &mut magic)?;
        Ok(be_u32(&magic, 0)? == superblock::MAGIC)
    }

    fn open(&self, volume: Arc<dyn Source>) -> Result<Arc<dyn Tree>> {
        Ok(Arc::new(XfsTree::open(volume)?))
    }
}

/// The CRC-32C of `bytes`, of which the four at `field`, where it is stored, count as zeroes.
fn checksum(bytes: &[u8], field: usize) -> Result<u32> {
    let sum = crc32c::crc32c(slice_at(bytes, 0, field)?);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    let rest = bytes
        .get(field.saturating_add(4)..)
        .ok_or_else(|| Error::corrupt("a structure ends before its checksum"))?;
    Ok(crc32c::crc32c_append(sum, rest))
}
