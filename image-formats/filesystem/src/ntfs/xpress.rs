//! XPRESS with prefix codes (MS-XCA 2.1, 2.2), as chunks of files compressed by Windows have it.

use dormouse_block::{Error, Result, array_at, le_u16, slice_at};

use super::bits::Bits;
use super::huffman::Code;
use crate::fat::index;
use crate::lz4::repeat;

/// Symbols: 256 bytes, and 16 lengths at 16 distances.
const SYMBOLS: usize = 512;

/// Unpacks one chunk, which fills `out`.
///
/// # Errors
/// `Corrupt` for broken data.
pub(super) fn unpack(packed: &[u8], out: &mut [u8]) -> Result<()> {
    let lengths: Vec<u8> = slice_at(packed, 0, SYMBOLS / 2)?
        .iter()
        .flat_map(|byte| [byte & 0xF, byte >> 4])
        .collect();
    let code = Code::new(&lengths)?;
    let mut bits = Bits::new(packed, SYMBOLS / 2);
    let mut done = 0_usize;
    while done < out.len() {
        let symbol = code.read(&mut bits)?;
        if let Ok(byte) = u8::try_from(symbol) {
            *out.get_mut(done).ok_or_else(broken)? = byte;
            done = done.saturating_add(1);
            continue;
        }
        let log = u32::from(symbol >> 4 & 0xF);
        bits.fill()?;
        let back = index(1_u32 << log | bits.peek(log));
        bits.skip(log);
        let mut len = usize::from(symbol & 0xF);
        if len == 0xF {
            let [more] = array_at(bits.bytes(1)?, 0)?;
            len = len.saturating_add(usize::from(more));
            if more == 0xFF {
                len = usize::from(le_u16(bits.bytes(2)?, 0)?);
            }
        }
        len = len.saturating_add(3);
        let from = done.checked_sub(back).ok_or_else(broken)?;
        let end = done.saturating_add(len);
        if end > out.len() {
            return Err(broken());
        }
        repeat(out, from, done, len);
        done = end;
    }
    Ok(())
}

fn broken() -> Error {
    Error::corrupt("broken compressed data (XPRESS)")
}
