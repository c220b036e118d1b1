//! Canonical prefix codes of at most 16 bits.

use dormouse_block::{Error, Result};

use super::bits::Bits;
use crate::fat::index;

/// Bits that are looked up at once.
const FAST: u32 = 9;
const MAX_BITS: usize = 16;

/// A code: a table for short words, the canonical order for long ones.
pub(super) struct Code {
    /// For each beginning of `FAST` bits: the symbol and its length, 0 for a longer word.
    fast: Vec<(u16, u8)>,
    /// Symbols by length, then value.
    symbols: Vec<u16>,
    /// How many words there are of each length.
    counts: [u32; 17],
}

impl Code {
    /// The code whose symbols have words of these lengths; 0 is none.
    ///
    /// # Errors
    /// `Corrupt` when there are more words than fit, or fewer (except for a code without any).
    pub(super) fn new(lengths: &[u8]) -> Result<Self> {
        let mut counts = [0_u32; 17];
        for len in lengths {
            let count = counts.get_mut(usize::from(*len)).ok_or_else(bad)?;
            *count = count.saturating_add(1);
        }
        if let Some(none) = counts.first_mut() {
            *none = 0;
        }
        let mut room = 1_i64;
        for count in counts.iter().skip(1) {
            room = room.saturating_mul(2).saturating_sub(i64::from(*count));
            if room < 0 {
                return Err(bad());
            }
        }
        let mut symbols = Vec::with_capacity(lengths.len());
        let mut fast = vec![(0, 0); 1 << FAST];
        let mut slot = 0_usize;
        for len in 1..=MAX_BITS {
            for (symbol, _) in lengths
                .iter()
                .enumerate()
                .filter(|(_, of)| usize::from(**of) == len)
            {
                let symbol = u16::try_from(symbol).map_err(|_| bad())?;
                symbols.push(symbol);
                if let Some(spare) = index(FAST).checked_sub(len) {
                    let width = 1_usize << spare;
                    let end = slot.saturating_add(width);
                    let part = fast.get_mut(slot..end).ok_or_else(bad)?;
                    part.fill((symbol, u8::try_from(len).map_err(|_| bad())?));
                    slot = end;
                }
            }
        }
        if room > 0 && !symbols.is_empty() {
            return Err(bad());
        }
        Ok(Self {
            fast,
            symbols,
            counts,
        })
    }

    /// The next symbol.
    ///
    /// # Errors
    /// `Corrupt` for a word that the code has not.
    pub(super) fn read(&self, bits: &mut Bits<'_>) -> Result<u16> {
        bits.fill()?;
        let (symbol, len) = self
            .fast
            .get(index(bits.peek(FAST)))
            .copied()
            .unwrap_or_default();
        if len > 0 {
            bits.skip(u32::from(len));
            return Ok(symbol);
        }
        let mut first = 0_u32;
        let mut before = 0_u32;
        for len in 1..=16_u32 {
            let count = self.counts.get(index(len)).copied().unwrap_or_default();
            let word = bits.peek(len);
            if let Some(nth) = word.checked_sub(first)
                && nth < count
            {
                bits.skip(len);
                let nth = index(before.saturating_add(nth));
                return self.symbols.get(nth).copied().ok_or_else(bad);
            }
            before = before.saturating_add(count);
            first = first.saturating_add(count).saturating_mul(2);
        }
        Err(bad())
    }
}

fn bad() -> Error {
    Error::corrupt("a bad prefix code in compressed data")
}
