//! Names: UTF-16 on disk, shown as UTF-8, compared without regard to case by the volume's own table.

use std::cmp::Ordering;

use dormouse_block::{Error, Result, array_at, le_u16, le_u32, le_u64, slice_at};

use super::record::Reference;
use crate::fat::index;
use crate::wtf8::shown;

/// Bytes of `$UpCase`: the upper case of each of 65536 units.
pub(super) const UPCASE: u64 = 128 << 10;
/// `namespace`: a short name that stands beside a long one.
pub(super) const DOS: u8 = 2;
/// Units of the longest name.
pub(super) const MAX_UNITS: usize = 255;

/// A `$FILE_NAME`: an attribute of a file, and the key of its entry in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileName {
    /// The directory.
    pub(super) parent: Reference,
    /// File attributes as they were when the name was last brought up to date.
    pub(super) attributes: u32,
    pub(super) namespace: u8,
    pub(super) units: Vec<u16>,
}

/// File attribute: not to be written.
pub(super) const READ_ONLY: u32 = 1;
/// File attribute: of the system.
pub(super) const SYSTEM: u32 = 4;
/// File attribute: has a reparse point.
pub(super) const REPARSES: u32 = 0x400;
/// File attribute in names: a directory.
pub(super) const DIRECTORY: u32 = 0x1000_0000;

impl FileName {
    /// Reads a name.
    ///
    /// # Errors
    /// `Corrupt` for a broken one.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let [len, namespace] = array_at(bytes, 64)?;
        let name = slice_at(bytes, 66, usize::from(len).saturating_mul(2))?;
        Ok(Self {
            parent: Reference(le_u64(bytes, 0)?),
            attributes: le_u32(bytes, 56)?,
            namespace,
            units: units(name),
        })
    }

    /// The name as users see it.
    ///
    /// # Errors
    /// `Corrupt` for a name that no path can contain.
    pub(super) fn shown(&self) -> Result<Vec<u8>> {
        let name = shown(&self.units);
        if name.is_empty() || name.contains(&0) || name.contains(&b'/') {
            return Err(Error::corrupt(
                "a name that is empty or contains a slash or NUL",
            ));
        }
        Ok(name)
    }
}

/// The units of UTF-16 bytes.
pub(super) fn units(bytes: &[u8]) -> Vec<u16> {
    bytes
        .chunks_exact(2)
        .map(|pair| le_u16(pair, 0).unwrap_or_default())
        .collect()
}

/// Upper case, by the volume's own table.
pub(super) struct Upcase(Vec<u16>);

impl Upcase {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(units(bytes))
    }

    fn upper(&self, unit: u16) -> u16 {
        self.0.get(index(unit)).copied().unwrap_or(unit)
    }

    /// How two names stand to each other in a directory, case aside.
    pub(super) fn compare(&self, one: &[u16], other: &[u16]) -> Ordering {
        let upper = |unit: &u16| self.upper(*unit);
        one.iter().map(upper).cmp(other.iter().map(upper))
    }
}
