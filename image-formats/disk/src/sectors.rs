//! Bitmaps that say sector by sector whether a layer or its parent holds the data.

use dormouse_block::Result;

use crate::pages::Pages;

/// Which bit of a byte comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BitOrder {
    /// The highest, as VHD has it.
    HighFirst,
    /// The lowest, as VHDX has it.
    LowFirst,
}

/// Whether bit `index` of the bitmap at `at` is set, and how many bits from there on say the same: at most `most`, and
/// no more than one page of the file holds.
pub(crate) fn run(
    pages: &Pages,
    at: u64,
    index: u64,
    most: u64,
    order: BitOrder,
) -> Result<(bool, u64)> {
    let first: [u8; 1] = pages.entry(at, index / 8)?;
    let bit = |byte: u8, number: u64| {
        let shift = u32::try_from(number % 8).unwrap_or(0);
        match order {
            BitOrder::HighFirst => byte & 0x80_u8.wrapping_shr(shift) != 0,
            BitOrder::LowFirst => byte & 1_u8.wrapping_shl(shift) != 0,
        }
    };
    let [first] = first;
    let set = bit(first, index);
    let (page, start) = pages.page(at.saturating_add(index / 8))?;
    let bytes = page.get(start..).unwrap_or_default();
    let mut count = 0_u64;
    let mut number = index;
    for byte in bytes {
        let whole =
            number.is_multiple_of(8) && (*byte == 0 || *byte == 0xff) && bit(*byte, 0) == set;
        if whole {
            count = count.saturating_add(8);
            number = number.saturating_add(8);
        } else {
            loop {
                if bit(*byte, number) != set {
                    return Ok((set, count.clamp(1, most.max(1))));
                }
                count = count.saturating_add(1);
                number = number.saturating_add(1);
                if number.is_multiple_of(8) {
                    break;
                }
            }
        }
        if count >= most {
            break;
        }
    }
    Ok((set, count.clamp(1, most.max(1))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_block::Bytes;
    use std::sync::Arc;

    #[test]
    fn runs_end_where_bits_change() {
        let pages = Pages::new(Arc::new(Bytes::new(vec![9, 0b1110_0000, 0xff, 0xff, 1])));
        let high = |index, most| run(&pages, 1, index, most, BitOrder::HighFirst).unwrap();
        assert_eq!(high(0, 99), (true, 3));
        assert_eq!(high(3, 99), (false, 5));
        assert_eq!(high(8, 99), (true, 16));
        assert_eq!(high(8, 5), (true, 5));
        assert_eq!(high(24, 99), (false, 7));
        let low = |index, most| run(&pages, 1, index, most, BitOrder::LowFirst).unwrap();
        assert_eq!(low(0, 99), (false, 5));
        assert_eq!(low(5, 99), (true, 20));
        assert!(run(&pages, 1, 32, 1, BitOrder::LowFirst).is_err());
    }
}
