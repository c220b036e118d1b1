//! NTFS: its layout on disk, and reading it.
//!
//! Microsoft publishes no specification; the layout is what the Linux kernel (`fs/ntfs3`), ntfs-3g and the Linux-NTFS
//! documentation read, and compressed streams are those of MS-XCA and the Windows imaging format. All integers are
//! little-endian. [`NtfsTree`] puts the structures together; nothing here writes.
//!
//! How Windows's notions are shown:
//! * Everything belongs to root with mode 0755 (0555 for a file with the read-only attribute): security descriptors are
//!   not read. Times are those of `$STANDARD_INFORMATION`.
//! * Look-ups ignore case as the volume's own `$UpCase` table says, through the index; an equal name goes before one that
//!   differs in case. Short (DOS) names lead to files and are not listed. The first 16 records (`$MFT`, `$Secure`, ...) are
//!   hidden, as the kernel hides them.
//! * Symbolic links, junctions and WSL's links, devices, pipes and sockets are read from their reparse points; drive C of a
//!   target is the root, any other drive a folder named so (`/D:`). Links and devices that ntfs-3g made (Interix) are read
//!   as well, but not its pipes and sockets, which are nothing but empty system files.
//! * Alternate streams are extended attributes `user.stream.NAME`; extended attributes of OS/2 and WSL are `user.ea.NAME`
//!   unless they already carry a namespace of Linux.
//!
//! The log is not replayed. A volume left dirty, with work in its log, or hibernated (which fast startup does at every
//! shutdown) says so in [`Tree::left`], since what Windows holds elsewhere may be newer than what is read here.

#![warn(clippy::arithmetic_side_effects)]

mod attribute;
mod bits;
mod boot;
mod directory;
mod extents;
mod huffman;
mod index;
mod left;
mod lists;
mod lznt1;
mod lzx;
mod name;
mod node;
mod record;
mod reparse;
mod table;
mod tree;
mod wof;
mod xpress;

use std::sync::Arc;

use dormouse_block::{Error, Result, Source, read_vec_at};

use crate::{Filesystem, Time, Tree};

pub use tree::NtfsTree;

/// NTFS of all versions.
#[derive(Debug, Clone, Copy)]
pub struct Ntfs;

impl Filesystem for Ntfs {
    fn name(&self) -> &'static str {
        "ntfs"
    }

    fn probe(&self, volume: &dyn Source) -> Result<bool> {
        Ok(volume.len() >= 512 && read_vec_at(volume, 3, 8)? == b"NTFS    ")
    }

    fn open(&self, volume: Arc<dyn Source>) -> Result<Arc<dyn Tree>> {
        Ok(Arc::new(NtfsTree::open(volume)?))
    }
}

fn overflow() -> Error {
    Error::corrupt("a number of the filesystem overflows")
}

/// Units of 100 nanoseconds since 1601 as the seconds since 1970.
fn time(units: u64) -> Time {
    const PER_SECOND: i64 = 10_000_000;
    const EPOCH: i64 = 11_644_473_600;
    let units = i64::from_le_bytes(units.to_le_bytes());
    Time {
        seconds: units.div_euclid(PER_SECOND).saturating_sub(EPOCH),
        nanoseconds: u32::try_from(units.rem_euclid(PER_SECOND).saturating_mul(100))
            .unwrap_or_default(),
    }
}
