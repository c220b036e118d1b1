//! ISO 9660 with Rock Ridge and Joliet: its layout on disk, and reading it.
//!
//! The modules describe one structure each, as ECMA-119, IEEE P1281 (SUSP), P1282 (Rock Ridge) and the Joliet specification
//! define it; numbers that stand there in both byte orders are read in the little one. As Linux does, Rock Ridge is
//! preferred to Joliet and Joliet to plain names, which are shown in lower case without their version. Files of several
//! extents are one; a volume that is UDF as well is left to readers of that, since its ISO 9660 part often holds nothing but
//! a notice; interleaved files, files on other volumes of a set, and files packed by zisofs are refused by name.

#![warn(clippy::arithmetic_side_effects)]

mod descriptor;
mod record;
mod rock;
mod tree;

use std::sync::Arc;

use dormouse_block::{Result, Source};

use crate::{Filesystem, Tree};

pub use tree::IsoTree;

/// Bytes of a sector.
const SECTOR: u64 = 2048;

/// ISO 9660.
#[derive(Debug, Clone, Copy)]
pub struct Iso9660;

impl Filesystem for Iso9660 {
    fn name(&self) -> &'static str {
        "iso9660"
    }

    fn probe(&self, volume: &dyn Source) -> Result<bool> {
        descriptor::probe(volume)
    }

    fn open(&self, volume: Arc<dyn Source>) -> Result<Arc<dyn Tree>> {
        Ok(Arc::new(IsoTree::open(volume)?))
    }
}
