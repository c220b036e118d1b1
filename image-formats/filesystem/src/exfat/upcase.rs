//! The table of upper case (section 7.2).

use dormouse_block::{Error, Result, le_u16};

use crate::fat::index;

/// Bytes of the table at most: uncompressed.
pub(super) const MAX: u64 = 128 << 10;
/// Begins a run of units that are their own upper case.
const RUN: u16 = 0xFFFF;

/// Upper case of each unit of UTF-16.
pub(super) struct Upcase(Vec<u16>);

impl Upcase {
    /// Reads the table; `sum` is what its bytes must add up to.
    ///
    /// # Errors
    /// `Corrupt` for another sum or a table that goes on too long.
    pub(super) fn parse(bytes: &[u8], sum: u32) -> Result<Self> {
        let found = bytes.iter().fold(0_u32, |sum, byte| {
            sum.rotate_right(1).wrapping_add(u32::from(*byte))
        });
        if found != sum {
            return Err(Error::corrupt(
                "a table of upper case with a wrong checksum",
            ));
        }
        let mut units: Vec<u16> = (0..=u16::MAX).collect();
        let mut at = 0_usize;
        let mut pairs = bytes.chunks_exact(2).map(|pair| le_u16(pair, 0));
        while let Some(unit) = pairs.next().transpose()? {
            if unit == RUN
                && let Some(run) = pairs.next().transpose()?
            {
                at = at.saturating_add(usize::from(run));
                continue;
            }
            if let Some(place) = units.get_mut(at) {
                *place = unit;
            }
            at = at.saturating_add(1);
        }
        if at > units.len() {
            return Err(Error::corrupt("a table of upper case that is too long"));
        }
        Ok(Self(units))
    }

    /// The name in upper case.
    pub(super) fn upper(&self, name: &[u16]) -> Vec<u16> {
        name.iter()
            .map(|unit| self.0.get(index(*unit)).copied().unwrap_or(*unit))
            .collect()
    }

    /// The hash of a name that stands with it on disk (section 7.6.4).
    pub(super) fn hash(&self, name: &[u16]) -> u16 {
        self.upper(name)
            .iter()
            .flat_map(|unit| unit.to_le_bytes())
            .fold(0, |hash: u16, byte| {
                hash.rotate_right(1).wrapping_add(u16::from(byte))
            })
    }
}
