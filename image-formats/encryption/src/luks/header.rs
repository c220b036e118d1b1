//! What the headers of both versions say.

use dormouse_block::{Error, Result, Source, be_u16, escape_terminal, read_vec_at, slice_at};

use super::slot::{KeyDigest, Slot};
use super::{header1, header2};

/// Magic of the header, and of the second copy of LUKS2's.
pub(super) const MAGIC: &[u8] = b"LUKS\xba\xbe";
pub(super) const SECOND_MAGIC: &[u8] = b"SKUL\xba\xbe";

/// A header.
pub(super) struct Header {
    /// `LUKS1` or `LUKS2`.
    pub(super) version: &'static str,
    pub(super) uuid: String,
    /// Slots in the order in which they are to be tried, and what is wrong with others.
    pub(super) slots: Vec<Result<Slot>>,
    pub(super) digest: KeyDigest,
    /// Parts of the volume, one after another.
    pub(super) segments: Vec<Segment>,
    /// What is odd.
    pub(super) note: Option<String>,
    /// All that was read of it.
    pub(super) bytes: Vec<u8>,
}

/// A part of the volume. Offsets and lengths are in bytes; without a length it goes on to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// Encrypted in sectors of `sector` bytes, the first of which has the number `first`.
    Encrypted {
        offset: u64,
        len: Option<u64>,
        cipher: String,
        sector: u64,
        first: u64,
    },
    /// As it is.
    Plain { offset: u64, len: Option<u64> },
}

impl Header {
    /// The header of `source`, if it is encrypted with LUKS.
    ///
    /// # Errors
    /// `Corrupt` for a broken one, `Unsupported` for what is not known, by name.
    pub(super) fn find(source: &dyn Source) -> Result<Option<Self>> {
        let Ok(start) = read_vec_at(source, 0, 8) else {
            return Ok(None);
        };
        if slice_at(&start, 0, 6)? == MAGIC {
            return match be_u16(&start, 6)? {
                1 => header1::read(source).map(Some),
                2 => header2::read(source).map(Some),
                version => Err(Error::unsupported(format!("LUKS of version {version}"))),
            };
        }
        if header2::second_copy(source) {
            return header2::read(source).map(Some);
        }
        Ok(None)
    }
}

/// The text in `len` bytes, up to a NUL, spelled so that a terminal takes no harm.
pub(super) fn text(bytes: &[u8], at: usize, len: usize) -> Result<String> {
    let field = slice_at(bytes, at, len)?;
    let field = field.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(escape_terminal(&String::from_utf8_lossy(field)).into_owned())
}
