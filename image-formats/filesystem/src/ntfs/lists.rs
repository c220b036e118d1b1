//! Attribute lists: where the attributes are of a file that takes more than one record.

use dormouse_block::{Error, Result, array_at, le_u16, le_u32, le_u64, slice_at};

use super::record::Reference;

/// Bytes of a list at most; Windows makes none of more than 256 KiB.
pub(super) const MAX_LIST: u64 = 256 << 10;

/// Where an attribute, or a part of one, is.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) kind: u32,
    pub(super) name: Vec<u8>,
    /// The first cluster of the attribute that the part maps.
    pub(super) first: u64,
    pub(super) record: Reference,
    pub(super) id: u16,
}

/// The entries of a list.
///
/// # Errors
/// `Corrupt` for a broken one.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Listed>> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while rest.len() >= 26 {
        let len = usize::from(le_u16(rest, 4)?);
        let [name_len, name_at] = array_at(rest, 6)?;
        if len < 26 {
            return Err(Error::corrupt("bad length in an attribute list"));
        }
        let entry = slice_at(rest, 0, len)?;
        out.push(Listed {
            kind: le_u32(entry, 0)?,
            name: if name_len == 0 {
                Vec::new()
            } else {
                let len = usize::from(name_len).saturating_mul(2);
                slice_at(entry, usize::from(name_at), len)?.to_vec()
            },
            first: le_u64(entry, 8)?,
            record: Reference(le_u64(entry, 16)?),
            id: le_u16(entry, 24)?,
        });
        rest = rest.get(len..).unwrap_or_default();
    }
    Ok(out)
}
