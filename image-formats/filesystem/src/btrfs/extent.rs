//! Extents of files: where a stretch of a file's bytes lies (`struct btrfs_file_extent_item`).

use dormouse_block::{Error, Result, array_at, le_u16, le_u64};

use super::compression::{Compression, MAX_UNPACKED};
use super::{overflow, wide};

/// Bytes before inline data.
pub(super) const INLINE_AT: usize = 21;

/// What an extent holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The bytes stand in the item itself.
    Inline,
    /// The bytes are on disk, or are a hole.
    Regular,
    /// Room without any bytes yet: it reads as zeroes.
    Prealloc,
}

/// An extent of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) kind: Kind,
    pub(super) compression: Compression,
    /// Bytes of the whole extent, decompressed.
    pub(super) unpacked: u64,
    /// Logical address of the whole extent; 0 for a hole.
    pub(super) logical: u64,
    /// Bytes of it on disk.
    pub(super) stored: u64,
    /// First byte of the decompressed extent that belongs to the file.
    pub(super) offset: u64,
    /// Bytes of the file that it covers.
    pub(super) len: u64,
}

impl Extent {
    /// The extent in `bytes`, of a filesystem with sectors of `sector` bytes.
    pub(super) fn parse(bytes: &[u8], sector: u32) -> Result<Self> {
        let bad = |what: &str| Error::corrupt(format!("bad {what} of a file extent"));
        let [compression, encryption] = array_at(bytes, 16)?;
        let [kind] = array_at(bytes, 20)?;
        let compression = Compression::new(compression)?;
        if encryption != 0 {
            return Err(Error::unsupported("an encrypted extent (fscrypt)"));
        }
        if le_u16(bytes, 18)? != 0 {
            return Err(Error::unsupported("an extent in another encoding"));
        }
        let unpacked = le_u64(bytes, 8)?;
        if compression != Compression::None && unpacked > MAX_UNPACKED {
            return Err(Error::limit(format!(
                "a compressed extent of {unpacked} bytes; at most {MAX_UNPACKED} are unpacked"
            )));
        }
        let kind = match kind {
            0 => {
                let stored = wide(bytes.len().saturating_sub(INLINE_AT));
                // Without compression the item's own size counts, as for the kernel.
                let len = if compression == Compression::None {
                    stored
                } else {
                    unpacked
                };
                return Ok(Self {
                    kind: Kind::Inline,
                    compression,
                    unpacked: len,
                    logical: 0,
                    stored,
                    offset: 0,
                    len,
                });
            }
            1 => Kind::Regular,
            2 => Kind::Prealloc,
            _ => return Err(bad("type")),
        };
        let extent = Self {
            kind,
            compression,
            unpacked,
            logical: le_u64(bytes, 21)?,
            stored: le_u64(bytes, 29)?,
            offset: le_u64(bytes, 37)?,
            len: le_u64(bytes, 45)?,
        };
        let unit = u64::from(sector).saturating_sub(1);
        if extent.len == 0
            || (extent.logical | extent.stored | extent.offset | extent.len) & unit != 0
        {
            return Err(bad("alignment"));
        }
        if extent.is_hole() {
            return Ok(extent);
        }
        let end = extent.offset.checked_add(extent.len).ok_or_else(overflow)?;
        if end > extent.unpacked || extent.logical.checked_add(extent.stored).is_none() {
            return Err(bad("size"));
        }
        match compression {
            Compression::None if end > extent.stored => Err(bad("size on disk")),
            Compression::None => Ok(extent),
            _ if extent.stored == 0 || extent.stored > MAX_UNPACKED => Err(bad("compressed size")),
            _ => Ok(extent),
        }
    }

    /// Whether it reads as zeroes.
    pub(super) fn is_hole(&self) -> bool {
        match self.kind {
            Kind::Inline => false,
            Kind::Regular => self.logical == 0,
            Kind::Prealloc => true,
        }
    }
}
