//! exFAT: its layout on disk, and reading it.
//!
//! The modules describe one structure each, as Microsoft's "exFAT file system specification" (1.00) defines it; all
//! integers are little-endian. [`ExfatTree`] puts them together for reading; nothing here writes.
//!
//! As with FAT, everything belongs to root with mode 0755 (0555 for a file with the read-only attribute). Times without an
//! offset to UTC are taken as UTC. Names are found whatever their case, by the volume's own table. Checksums of the boot
//! region, the table of upper case and every set of entries are verified.

#![warn(clippy::arithmetic_side_effects)]

mod boot;
mod entry;
mod tree;
mod upcase;

use std::sync::Arc;

use dormouse_block::{Result, Source, read_vec_at};

use crate::{Filesystem, Tree};

pub use tree::ExfatTree;

/// exFAT.
#[derive(Debug, Clone, Copy)]
pub struct Exfat;

impl Filesystem for Exfat {
    fn name(&self) -> &'static str {
        "exfat"
    }

    fn probe(&self, volume: &dyn Source) -> Result<bool> {
        Ok(volume.len() >= 512 && read_vec_at(volume, 3, 8)? == b"EXFAT   ")
    }

    fn open(&self, volume: Arc<dyn Source>) -> Result<Arc<dyn Tree>> {
        Ok(Arc::new(ExfatTree::open(volume)?))
    }
}
