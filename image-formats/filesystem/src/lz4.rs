//! LZ4 blocks (the format's own description, lz4_Block_format.md), as squashfs and EROFS have them.

use dormouse_block::{Error, Result};

/// Unpacks `packed` into `out`, as much as fits; how many bytes were written.
///
/// # Errors
/// `Corrupt` for a broken block.
pub(crate) fn unpack(packed: &[u8], out: &mut [u8]) -> Result<usize> {
    let mut rest = packed;
    let mut done = 0_usize;
    while let Some((&token, after)) = rest.split_first() {
        rest = after;
        let literals = length(usize::from(token >> 4), &mut rest)?;
        let wanted = literals.min(out.len().saturating_sub(done));
        let (from, after) = rest.split_at_checked(literals).ok_or_else(broken)?;
        let end = done.saturating_add(wanted);
        out.get_mut(done..end)
            .ok_or_else(broken)?
            .copy_from_slice(from.get(..wanted).ok_or_else(broken)?);
        done = end;
        rest = after;
        // The last token has no match; a caller who wants no more stops here as well.
        if rest.is_empty() || done == out.len() {
            return Ok(done);
        }
        let (offset, after) = rest.split_first_chunk::<2>().ok_or_else(broken)?;
        rest = after;
        let back = usize::from(u16::from_le_bytes(*offset));
        let len = length(usize::from(token & 0xF), &mut rest)?.saturating_add(4);
        let from = done
            .checked_sub(back)
            .filter(|_| back > 0)
            .ok_or_else(broken)?;
        let len = len.min(out.len().saturating_sub(done));
        repeat(out, from, done, len);
        done = done.saturating_add(len);
    }
    Ok(done)
}

/// A length of four bits that goes on in bytes.
fn length(first: usize, rest: &mut &[u8]) -> Result<usize> {
    let mut out = first;
    if first == 15 {
        loop {
            let (&more, after) = rest.split_first().ok_or_else(broken)?;
            *rest = after;
            out = out.saturating_add(usize::from(more));
            if more != 255 {
                break;
            }
        }
    }
    Ok(out)
}

/// Repeats `len` bytes from `from` on at `to`, which comes later; where the two overlap, the first ones are repeated.
pub(crate) fn repeat(out: &mut [u8], from: usize, to: usize, len: usize) {
    let back = to.saturating_sub(from);
    if back >= len {
        if to.saturating_add(len) <= out.len() {
            out.copy_within(from..from.saturating_add(len), to);
        }
        return;
    }
    for nth in 0..len {
        let Some(byte) = out.get(from.saturating_add(nth)).copied() else {
            return;
        };
        if let Some(place) = out.get_mut(to.saturating_add(nth)) {
            *place = byte;
        }
    }
}

fn broken() -> Error {
    Error::corrupt("broken compressed data (LZ4)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_that_overlap_repeat_and_bombs_stop_at_the_buffer() {
        let mut out = [0; 12];
        // One literal, then 11 more of it.
        assert_eq!(unpack(&[0x17, b'a', 1, 0], &mut out).unwrap(), 12);
        assert_eq!(&out, b"aaaaaaaaaaaa");
        assert_eq!(
            unpack(&[0x1F, b'a', 1, 0, 255, 255, 255, 0], &mut out).unwrap(),
            12
        );
        for bad in [
            &[0x17_u8, b'a', 2, 0][..],
            &[0x17, b'a', 0, 0],
            &[0xF0],
            &[0x17, b'a', 1],
        ] {
            assert!(unpack(bad, &mut out).is_err(), "{bad:?}");
        }
    }
}
