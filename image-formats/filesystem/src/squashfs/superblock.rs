//! The superblock.

use dormouse_block::{Error, Result, Source, le_u16, le_u32, le_u64, read_vec_at};

use super::packing::Packing;

/// Bytes of the largest data block (`SQUASHFS_FILE_MAX_SIZE`).
const MAX_BLOCK: u32 = 1 << 20;
/// A table that is not there.
const NONE: u64 = u64::MAX;

/// The superblock, checked: its numbers fit the volume.
#[derive(Debug, Clone)]
pub(super) struct Superblock {
    pub(super) packing: Packing,
    /// Bytes of a data block.
    pub(super) block: u32,
    /// Packed tails of files.
    pub(super) fragments: u32,
    /// Owners.
    pub(super) ids: u16,
    /// Where the root's inode is.
    pub(super) root: u64,
    /// Bytes used.
    pub(super) bytes: u64,
    pub(super) id_table: u64,
    pub(super) xattr_table: Option<u64>,
    pub(super) inode_table: u64,
    pub(super) directory_table: u64,
    pub(super) fragment_table: Option<u64>,
}

impl Superblock {
    /// Reads the superblock of `volume`.
    ///
    /// # Errors
    /// `Corrupt` for a broken one, `Unsupported` for other versions and packings.
    pub(super) fn read(volume: &dyn Source) -> Result<Self> {
        let bytes = read_vec_at(volume, 0, 96)?;
        let bad = |what: &'static str| Error::corrupt(what).at_offset(0);
        let (major, minor) = (le_u16(&bytes, 28)?, le_u16(&bytes, 30)?);
        if (major, minor) != (4, 0) {
            return Err(Error::unsupported(format!(
                "squashfs of version {major}.{minor}"
            )));
        }
        let block = le_u32(&bytes, 12)?;
        if !block.is_power_of_two()
            || !(4096..=MAX_BLOCK).contains(&block)
            || block.trailing_zeros() != u32::from(le_u16(&bytes, 22)?)
        {
            return Err(bad("bad size of blocks in the superblock"));
        }
        let used = le_u64(&bytes, 40)?;
        if used > volume.len() {
            return Err(Error::corrupt(format!(
                "a filesystem of {used} bytes on a volume of {}",
                volume.len()
            )));
        }
        let table = |at: usize| -> Result<Option<u64>> {
            match le_u64(&bytes, at)? {
                NONE => Ok(None),
                place if place < used => Ok(Some(place)),
                _ => Err(bad("a table lies outside the volume")),
            }
        };
        let must = |at: usize| table(at)?.ok_or_else(|| bad("a table is missing"));
        Ok(Self {
            packing: Packing::of(le_u16(&bytes, 20)?)?,
            block,
            fragments: le_u32(&bytes, 16)?,
            ids: le_u16(&bytes, 26)?,
            root: le_u64(&bytes, 32)?,
            bytes: used,
            id_table: must(48)?,
            xattr_table: table(56)?,
            inode_table: must(64)?,
            directory_table: must(72)?,
            fragment_table: table(80)?,
        })
    }
}
