//! LZNT1 (MS-XCA 2.5): what a compressed attribute is packed with.

use dormouse_block::{Error, Result, le_u16};

use crate::fat::wide;
use crate::lz4::repeat;

/// Bytes that one chunk stands for.
const CHUNK: usize = 4096;

/// Unpacks `packed` into `out`; what the chunks do not fill is zeroes.
///
/// # Errors
/// `Corrupt` for broken chunks.
pub(super) fn unpack(packed: &[u8], out: &mut [u8]) -> Result<()> {
    let mut rest = packed;
    let mut chunks = out.chunks_mut(CHUNK);
    while rest.len() >= 2 {
        let head = le_u16(rest, 0)?;
        if head == 0 {
            break;
        }
        let Some(to) = chunks.next() else {
            return Err(broken());
        };
        let len = usize::from(head & 0xFFF).saturating_add(1);
        let body = rest.get(2..len.saturating_add(2)).ok_or_else(broken)?;
        rest = rest.get(len.saturating_add(2)..).unwrap_or_default();
        if head & 0x8000 == 0 {
            to.get_mut(..len).ok_or_else(broken)?.copy_from_slice(body);
            to.get_mut(len..).unwrap_or_default().fill(0);
        } else {
            let done = chunk(body, to)?;
            to.get_mut(done..).unwrap_or_default().fill(0);
        }
    }
    for to in chunks {
        to.fill(0);
    }
    Ok(())
}

/// Unpacks one chunk; how many bytes it stands for.
fn chunk(body: &[u8], out: &mut [u8]) -> Result<usize> {
    let mut done = 0_usize;
    let mut rest = body.iter().copied();
    while let Some(flags) = rest.next() {
        for bit in 0..8_u32 {
            if flags >> bit & 1 == 0 {
                let Some(byte) = rest.next() else {
                    return Ok(done);
                };
                *out.get_mut(done).ok_or_else(broken)? = byte;
                done = done.saturating_add(1);
                continue;
            }
            let Some(low) = rest.next() else {
                return Ok(done);
            };
            let high = rest.next().ok_or_else(broken)?;
            let pair = u16::from_le_bytes([low, high]);
            // The more there is behind, the more bits of the pair say how far back.
            let before = wide(done.saturating_sub(1));
            let bits = 64_u32.saturating_sub(before.leading_zeros()).max(4);
            let for_len = 16_u32.saturating_sub(bits).min(12);
            let back = usize::from(pair >> for_len).saturating_add(1);
            let len = usize::from(pair & (1_u16 << for_len).saturating_sub(1)).saturating_add(3);
            let from = done.checked_sub(back).ok_or_else(broken)?;
            let end = done.saturating_add(len);
            if end > out.len() {
                return Err(broken());
            }
            repeat(out, from, done, len);
            done = end;
        }
    }
    Ok(done)
}

fn broken() -> Error {
    Error::corrupt("broken compressed data (LZNT1)")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of MS-XCA 3.3.
    #[test]
    fn the_example_of_the_specification_is_unpacked() {
        let packed: &[u8] = &[
            0x38, 0xb0, 0x88, 0x46, 0x23, 0x20, 0x00, 0x20, 0x47, 0x20, 0x41, 0x00, 0x10, 0xa2,
            0x47, 0x01, 0xa0, 0x45, 0x20, 0x44, 0x00, 0x08, 0x45, 0x01, 0x50, 0x79, 0x00, 0xc0,
            0x45, 0x20, 0x05, 0x24, 0x13, 0x88, 0x05, 0xb4, 0x02, 0x4a, 0x44, 0xef, 0x03, 0x58,
            0x02, 0x8c, 0x09, 0x16, 0x01, 0x48, 0x45, 0x00, 0xbe, 0x00, 0x9e, 0x00, 0x04, 0x01,
            0x18, 0x90, 0x00,
        ];
        let wanted = b"F# F# G A A G F# E D D E F# F# E E F# F# G A A G F# E D D E F# E D D E E F# D E F# G F# D E \
                       F# G F# E D E A F# F# G A A G F# E D D E F# E D D\0";
        let mut out = vec![9; 8192];
        unpack(packed, &mut out).unwrap();
        assert_eq!(&out[..wanted.len()], wanted);
        assert!(out[wanted.len()..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_bomb_and_a_reference_before_the_beginning_are_corrupt() {
        assert!(unpack(&[0x03, 0xb0, 0x01, 0, 0, 0], &mut [0; 4096]).is_err());
        assert!(unpack(&[0x03, 0xb0, 0x02, b'a', 0xff, 0x0f], &mut [0; 64]).is_err());
    }
}
