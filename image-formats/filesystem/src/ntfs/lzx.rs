//! LZX as the Windows imaging format has it (MS-PATCH 2, with what imaging changed): chunks of 32 KiB, each by itself.

use dormouse_block::{Error, Result, le_u32, slice_at};

use super::bits::Bits;
use super::huffman::Code;
use crate::fat::index;
use crate::lz4::repeat;

/// Bytes of a chunk, and of the window.
pub(super) const CHUNK: usize = 32 << 10;
/// Slots of distances for that window.
const SLOTS: usize = 30;
/// Symbols of the main code: 256 bytes, and 8 lengths for each slot.
const MAIN: usize = 256 + 8 * SLOTS;
/// Symbols of the code for further lengths.
const LENGTHS: usize = 249;
/// What distances of call instructions were made absolute for, whatever the file's size.
const CALLS: i32 = 12_000_000;

/// Unpacks one chunk, which fills `out`.
///
/// # Errors
/// `Corrupt` for broken data.
pub(super) fn unpack(packed: &[u8], out: &mut [u8]) -> Result<()> {
    if out.len() > CHUNK {
        return Err(broken());
    }
    let mut bits = Bits::new(packed, 0);
    let mut main = vec![0_u8; MAIN];
    let mut further = vec![0_u8; LENGTHS];
    // The last three distances.
    let mut recent = [1_usize; 3];
    let mut done = 0_usize;
    while done < out.len() {
        let kind = bits.read(3)?;
        let size = if bits.read(1)? == 1 {
            CHUNK
        } else {
            index(bits.read(16)?)
        };
        let end = done
            .checked_add(size)
            .filter(|end| size > 0 && *end <= out.len())
            .ok_or_else(broken)?;
        match kind {
            1 | 2 => {
                let aligned = if kind == 2 {
                    let mut lengths = [0_u8; 8];
                    for len in &mut lengths {
                        *len = u8::try_from(bits.read(3)?).map_err(|_| broken())?;
                    }
                    Some(Code::new(&lengths)?)
                } else {
                    None
                };
                let (bytes, matches) = main.split_at_mut(256);
                lengths(&mut bits, bytes)?;
                lengths(&mut bits, matches)?;
                lengths(&mut bits, &mut further)?;
                let codes = Codes {
                    main: Code::new(&main)?,
                    further: Code::new(&further)?,
                    aligned,
                };
                block(&mut bits, &codes, &mut recent, out, done, end)?;
            }
            3 => {
                // A block that begins on a word is preceded by an empty one.
                bits.fill()?;
                bits.read(1)?;
                bits.align();
                for distance in &mut recent {
                    *distance = index(le_u32(bits.bytes(4)?, 0)?);
                }
                let to = out.get_mut(done..end).ok_or_else(broken)?;
                to.copy_from_slice(bits.bytes(size)?);
                bits.pad(size % 2 == 1);
            }
            _ => return Err(broken()),
        }
        done = end;
    }
    calls(out)
}

/// The codes of a block.
struct Codes {
    main: Code,
    further: Code,
    /// For the lowest three bits of a distance.
    aligned: Option<Code>,
}

/// Reads the lengths of a code's words, which are stored as differences to those of the block before.
fn lengths(bits: &mut Bits<'_>, out: &mut [u8]) -> Result<()> {
    let mut pre = [0_u8; 20];
    for len in &mut pre {
        *len = u8::try_from(bits.read(4)?).map_err(|_| broken())?;
    }
    let pre = Code::new(&pre)?;
    let less = |before: u8, by: u16| -> Result<u8> {
        let by = u8::try_from(by).map_err(|_| broken())?;
        Ok(before
            .checked_sub(by)
            .unwrap_or_else(|| before.saturating_add(17).saturating_sub(by)))
    };
    let mut at = 0_usize;
    while let Some(before) = out.get(at).copied() {
        let symbol = pre.read(bits)?;
        let (run, len) = match symbol {
            0..=16 => (1, less(before, symbol)?),
            17 => (index(bits.read(4)?).saturating_add(4), 0),
            18 => (index(bits.read(5)?).saturating_add(20), 0),
            _ => {
                let run = index(bits.read(1)?).saturating_add(4);
                let symbol = pre.read(bits)?;
                if symbol > 16 {
                    return Err(broken());
                }
                (run, less(before, symbol)?)
            }
        };
        let end = at.saturating_add(run);
        out.get_mut(at..end).ok_or_else(broken)?.fill(len);
        at = end;
    }
    Ok(())
}

/// The lowest distance of a slot (counted from 0, before 2 is taken off), and how many more bits it has.
fn slot(nth: usize) -> (usize, u32) {
    if nth < 4 {
        return (nth, 0);
    }
    let extra = (nth / 2).saturating_sub(1);
    let base = (2 | nth & 1) << extra;
    (base, u32::try_from(extra).unwrap_or(0))
}

fn block(
    bits: &mut Bits<'_>,
    codes: &Codes,
    recent: &mut [usize; 3],
    out: &mut [u8],
    mut done: usize,
    end: usize,
) -> Result<()> {
    while done < end {
        let symbol = codes.main.read(bits)?;
        if let Ok(byte) = u8::try_from(symbol) {
            *out.get_mut(done).ok_or_else(broken)? = byte;
            done = done.saturating_add(1);
            continue;
        }
        let rest = usize::from(symbol.saturating_sub(256));
        let mut len = rest & 7;
        if len == 7 {
            len = len.saturating_add(usize::from(codes.further.read(bits)?));
        }
        len = len.saturating_add(2);
        let nth = rest >> 3;
        let back = if nth < 3 {
            recent.swap(0, nth);
            let [first, _, _] = *recent;
            first
        } else {
            let (base, extra) = slot(nth);
            let more = match &codes.aligned {
                Some(code) if extra >= 3 => {
                    let high = bits.read(extra.saturating_sub(3))?;
                    high << 3 | u32::from(code.read(bits)?)
                }
                _ => bits.read(extra)?,
            };
            let back = base
                .saturating_add(index(more))
                .checked_sub(2)
                .ok_or_else(broken)?;
            let [first, second, _] = *recent;
            *recent = [back, first, second];
            back
        };
        let from = done
            .checked_sub(back)
            .filter(|_| back > 0)
            .ok_or_else(broken)?;
        let to = done.saturating_add(len);
        if to > end {
            return Err(broken());
        }
        repeat(out, from, done, len);
        done = to;
    }
    Ok(())
}

/// Makes the targets of call instructions (0xE8) relative again.
fn calls(out: &mut [u8]) -> Result<()> {
    let Some(last) = out.len().checked_sub(10) else {
        return Ok(());
    };
    let mut at = 0_usize;
    while at < last {
        if out.get(at) != Some(&0xE8) {
            at = at.saturating_add(1);
            continue;
        }
        let place = i32::try_from(at).map_err(|_| broken())?;
        let from = at.saturating_add(1);
        let target = slice_at(out, from, 4)?;
        let target = i32::from_le_bytes(target.try_into().map_err(|_| broken())?);
        if target >= place.saturating_neg() && target < CALLS {
            let relative = if target >= 0 {
                target.wrapping_sub(place)
            } else {
                target.wrapping_add(CALLS)
            };
            let to = out
                .get_mut(from..from.saturating_add(4))
                .ok_or_else(broken)?;
            to.copy_from_slice(&relative.to_le_bytes());
        }
        at = at.saturating_add(5);
    }
    Ok(())
}

fn broken() -> Error {
    Error::corrupt("broken compressed data (LZX)")
}
