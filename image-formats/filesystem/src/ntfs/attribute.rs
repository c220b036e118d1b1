//! Attributes: everything a file consists of, within its record or in clusters of its own.

use dormouse_block::{Error, Result, array_at, le_u16, le_u32, le_u64, slice_at};

use crate::fat::index;

/// Ends the attributes of a record.
pub(super) const END: u32 = 0xFFFF_FFFF;
/// `$STANDARD_INFORMATION`.
pub(super) const STANDARD: u32 = 0x10;
/// `$ATTRIBUTE_LIST`.
pub(super) const LIST: u32 = 0x20;
/// `$FILE_NAME`.
pub(super) const FILE_NAME: u32 = 0x30;
/// `$VOLUME_NAME`.
pub(super) const VOLUME_NAME: u32 = 0x60;
/// `$VOLUME_INFORMATION`.
pub(super) const VOLUME_INFORMATION: u32 = 0x70;
/// `$DATA`.
pub(super) const DATA: u32 = 0x80;
/// `$INDEX_ROOT`.
pub(super) const INDEX_ROOT: u32 = 0x90;
/// `$INDEX_ALLOCATION`.
pub(super) const INDEX_ALLOCATION: u32 = 0xA0;
/// `$BITMAP`.
pub(super) const BITMAP: u32 = 0xB0;
/// `$REPARSE_POINT`.
pub(super) const REPARSE: u32 = 0xC0;
/// `$EA`.
pub(super) const EA: u32 = 0xE0;

/// `flags`: how it is compressed; 1 is LZNT1.
pub(super) const COMPRESSION: u16 = 0xFF;
/// `flags`: encrypted by EFS.
pub(super) const ENCRYPTED: u16 = 0x4000;

/// An attribute in its record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attribute<'a> {
    pub(super) kind: u32,
    /// Its name, UTF-16.
    pub(super) name: &'a [u8],
    pub(super) flags: u16,
    pub(super) id: u16,
    pub(super) body: Body<'a>,
}

/// Where its bytes are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body<'a> {
    /// In the record.
    Resident(&'a [u8]),
    /// In clusters.
    Clusters(Clusters<'a>),
}

/// The part of an attribute in clusters that one record knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clusters<'a> {
    /// The first cluster of the attribute that this part maps.
    pub(super) first: u64,
    /// The last one.
    pub(super) last: u64,
    /// Log of the clusters that are compressed together.
    pub(super) unit: u8,
    /// Bytes; the first part's counts.
    pub(super) size: u64,
    /// Bytes that were ever written; the rest is zeroes.
    pub(super) valid: u64,
    /// The packed runs.
    pub(super) runs: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// Reads an attribute that fills `bytes`.
    ///
    /// # Errors
    /// `Corrupt` for a broken one.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let [in_clusters, name_len] = array_at(bytes, 8)?;
        let name_at = usize::from(le_u16(bytes, 10)?);
        let name = if name_len == 0 {
            &[][..]
        } else {
            slice_at(bytes, name_at, usize::from(name_len).saturating_mul(2))?
        };
        let body = if in_clusters == 0 {
            let len = index(le_u32(bytes, 16)?);
            Body::Resident(slice_at(bytes, usize::from(le_u16(bytes, 20)?), len)?)
        } else {
            let runs = usize::from(le_u16(bytes, 32)?);
            let [unit] = array_at(bytes, 34)?;
            Body::Clusters(Clusters {
                first: le_u64(bytes, 16)?,
                last: le_u64(bytes, 24)?,
                unit,
                size: le_u64(bytes, 48)?,
                valid: le_u64(bytes, 56)?,
                runs: bytes
                    .get(runs..)
                    .ok_or_else(|| Error::corrupt("runs lie outside their attribute"))?,
            })
        };
        Ok(Self {
            kind: le_u32(bytes, 0)?,
            name,
            flags: le_u16(bytes, 12)?,
            id: le_u16(bytes, 14)?,
            body,
        })
    }

    /// Whether it is of this kind and name.
    pub(super) fn is(&self, kind: u32, name: &[u8]) -> bool {
        self.kind == kind && self.name == name
    }
}
