//! Records of the file table, and what all structures of several sectors share: a mark at the end of each sector.

use dormouse_block::{Error, Result, array_at, le_u16, le_u32, le_u64, slice_at};

use super::attribute::{self, Attribute};
use super::overflow;
use crate::fat::index;

/// Bytes between two marks, whatever the disk's sectors are.
const STRIDE: usize = 512;
/// `flags`: the record is in use.
const IN_USE: u16 = 1;
/// `flags`: it is a directory.
const DIRECTORY: u16 = 2;
/// Attributes of one record at most: each takes 24 bytes.
const MAX_ATTRIBUTES: usize = 4096;

/// Puts back what the marks took the place of (the update sequence array), after looking whether each sector carries the
/// mark: one that does not was not written together with the others.
///
/// # Errors
/// `Corrupt` for another magic, marks that do not fit, or torn sectors.
pub(super) fn fix(bytes: &mut [u8], magic: &[u8; 4]) -> Result<()> {
    let found: [u8; 4] = array_at(bytes, 0)?;
    if found != *magic {
        return Err(Error::corrupt(format!(
            "a structure begins with {:?} instead of {:?}",
            String::from_utf8_lossy(&found),
            String::from_utf8_lossy(magic)
        )));
    }
    let at = usize::from(le_u16(bytes, 4)?);
    let count = usize::from(le_u16(bytes, 6)?);
    if count.saturating_sub(1).saturating_mul(STRIDE) != bytes.len() || at % 2 != 0 {
        return Err(Error::corrupt("bad marks of sectors"));
    }
    let table = slice_at(bytes, at, count.saturating_mul(2))?.to_vec();
    let (mark, saved) = table.split_at(2);
    for (sector, saved) in bytes.chunks_exact_mut(STRIDE).zip(saved.chunks_exact(2)) {
        let end = sector
            .get_mut(STRIDE.saturating_sub(2)..)
            .ok_or_else(overflow)?;
        if end != mark {
            return Err(Error::corrupt(
                "a sector was not written with its neighbours",
            ));
        }
        end.copy_from_slice(saved);
    }
    Ok(())
}

/// A reference: the record's number and the sequence number it must have; 0 is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reference(pub(super) u64);

impl Reference {
    pub(super) fn number(self) -> u64 {
        self.0 & 0xFFFF_FFFF_FFFF
    }

    pub(super) fn sequence(self) -> u16 {
        u16::try_from(self.0 >> 48).unwrap_or_default()
    }

    pub(super) fn of(number: u64, sequence: u16) -> Self {
        Self(number & 0xFFFF_FFFF_FFFF | u64::from(sequence) << 48)
    }
}

/// A record of the file table in use.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) reference: Reference,
    /// The record it is a part of; 0 when it is one by itself.
    pub(super) base: Reference,
    pub(super) directory: bool,
    bytes: Vec<u8>,
    first: usize,
}

impl Record {
    /// Reads record `number`.
    ///
    /// # Errors
    /// `Corrupt` for a broken one or one that is not in use.
    pub(super) fn parse(mut bytes: Vec<u8>, number: u64) -> Result<Self> {
        fix(&mut bytes, b"FILE")?;
        let flags = le_u16(&bytes, 22)?;
        if flags & IN_USE == 0 {
            return Err(Error::corrupt(
                "no such node: a file record that is not in use",
            ));
        }
        let used = index(le_u32(&bytes, 24)?);
        if used > bytes.len() {
            return Err(Error::corrupt("a file record uses more than it has"));
        }
        bytes.truncate(used);
        Ok(Self {
            reference: Reference::of(number, le_u16(&bytes, 16)?),
            base: Reference(le_u64(&bytes, 32)?),
            directory: flags & DIRECTORY != 0,
            first: usize::from(le_u16(&bytes, 20)?),
            bytes,
        })
    }

    /// Its attributes, in the order they are stored.
    ///
    /// # Errors
    /// `Corrupt` for broken ones.
    pub(super) fn attributes(&self) -> Result<Vec<Attribute<'_>>> {
        let mut out = Vec::new();
        let mut at = self.first;
        loop {
            if le_u32(&self.bytes, at)? == attribute::END {
                return Ok(out);
            }
            let len = index(le_u32(&self.bytes, at.saturating_add(4))?);
            if len < 24 || len % 8 != 0 || out.len() >= MAX_ATTRIBUTES {
                return Err(Error::corrupt("bad length of an attribute"));
            }
            out.push(Attribute::parse(slice_at(&self.bytes, at, len)?)?);
            at = at.saturating_add(len);
        }
    }
}
