//! LZO1X, decompressed: what `lzo1x_1_compress` writes and any LZO1X stream may hold.
//!
//! The stream is a run of instructions, as the kernel's `Documentation/staging/lzo.rst` describes them: each copies
//! bytes from what was written before and then a few from the stream.

use crate::{Error, Result};

struct Stream<'a> {
    from: std::slice::Iter<'a, u8>,
    out: &'a mut [u8],
    done: usize,
}

fn bad() -> Error {
    Error::corrupt("broken LZO data")
}

impl Stream<'_> {
    fn byte(&mut self) -> Result<usize> {
        self.from
            .next()
            .map(|byte| usize::from(*byte))
            .ok_or_else(bad)
    }

    /// A length that goes on: every zero byte adds 255, the first other byte ends it.
    fn length(&mut self, base: usize) -> Result<usize> {
        let mut len = base;
        loop {
            let byte = self.byte()?;
            if byte != 0 {
                return Ok(len.saturating_add(byte));
            }
            len = len.saturating_add(255);
            // No longer run fits, and the stream's end bounds this loop besides.
            if len > self.out.len().saturating_add(255) {
                return Err(bad());
            }
        }
    }

    fn literals(&mut self, count: usize) -> Result<()> {
        let end = self.done.saturating_add(count);
        let to = self.out.get_mut(self.done..end).ok_or_else(bad)?;
        let from = self.from.as_slice().get(..count).ok_or_else(bad)?;
        to.copy_from_slice(from);
        self.from = self.from.as_slice().get(count..).unwrap_or_default().iter();
        self.done = end;
        Ok(())
    }

    fn repeat(&mut self, distance: usize, count: usize) -> Result<()> {
        let end = self.done.saturating_add(count);
        let mut from = self.done.checked_sub(distance).ok_or_else(bad)?;
        if end > self.out.len() || distance == 0 {
            return Err(bad());
        }
        // Byte by byte: a run may repeat what it just wrote.
        while self.done < end {
            let byte = self.out.get(from).copied().ok_or_else(bad)?;
            *self.out.get_mut(self.done).ok_or_else(bad)? = byte;
            from = from.saturating_add(1);
            self.done = self.done.saturating_add(1);
        }
        Ok(())
    }
}

/// Decompresses one segment of LZO1X into `out`; returns how many bytes it made. btrfs and lzop keep such segments.
///
/// # Errors
/// `Corrupt` when it is broken, or makes more than `out` holds.
pub fn decompress(packed: &[u8], out: &mut [u8]) -> Result<usize> {
    let mut stream = Stream {
        from: packed.iter(),
        out,
        done: 0,
    };
    // Bytes copied from the stream after the last instruction: 0, 1 to 3, or 4 for a long run.
    let mut state = 0_usize;
    let first = stream.byte()?;
    let mut code = first;
    if first > 17 {
        let count = first.saturating_sub(17);
        stream.literals(count)?;
        state = count.min(4);
        code = stream.byte()?;
    }
    loop {
        let trailing;
        if code < 16 {
            if state == 0 {
                let count = if code == 0 { stream.length(15)? } else { code };
                stream.literals(count.saturating_add(3))?;
                state = 4;
                code = stream.byte()?;
                continue;
            }
            let high = stream.byte()? << 2;
            trailing = code & 3;
            if state == 4 {
                stream.repeat(high.saturating_add(code >> 2).saturating_add(2049), 3)?;
            } else {
                stream.repeat(high.saturating_add(code >> 2).saturating_add(1), 2)?;
            }
        } else if code < 64 {
            let (bits, far) = if code >= 32 {
                (code & 31, 1)
            } else {
                (code & 7, 16384_usize.saturating_add((code & 8) << 11))
            };
            let base = if code >= 32 { 31 } else { 7 };
            let count = if bits == 0 {
                stream.length(base)?
            } else {
                bits
            };
            let low = stream.byte()?;
            let high = stream.byte()?;
            let distance = (low >> 2) | (high << 6);
            trailing = low & 3;
            if code < 32 && distance == 0 && far == 16384 {
                // The end of the stream.
                return Ok(stream.done);
            }
            let distance = distance.saturating_add(far);
            stream.repeat(distance, count.saturating_add(2))?;
        } else {
            let high = stream.byte()? << 3;
            let distance = high.saturating_add((code >> 2) & 7).saturating_add(1);
            trailing = code & 3;
            stream.repeat(distance, (code >> 5).saturating_add(1))?;
        }
        stream.literals(trailing)?;
        state = trailing;
        code = stream.byte()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_then_the_end() {
        let packed = [17 + 5, b'h', b'e', b'l', b'l', b'o', 17, 0, 0];
        let mut out = [0; 8];
        assert_eq!(decompress(&packed, &mut out).unwrap(), 5);
        assert_eq!(&out[..5], b"hello");
    }

    #[test]
    fn a_run_that_repeats_itself() {
        // One literal "a" and 10 more by a match at distance 1: length 10 = 8 + 2 in the form for 16 KiB.
        let packed = [17 + 4, b'a', b'a', b'a', b'a', 32 + 8, 0, 0, 17, 0, 0];
        let mut out = [0; 14];
        assert_eq!(decompress(&packed, &mut out).unwrap(), 14);
        assert_eq!(out, [b'a'; 14]);
    }

    #[test]
    fn a_match_further_away_than_32_kib() {
        // 40,000 literals "a" but for a "b" at the beginning, then 3 bytes from 32,768 + 7,232 back: where the "b" is.
        let mut packed = vec![0];
        packed.extend([0; 156]);
        packed.push(202);
        packed.push(b'b');
        packed.extend([b'a'; 39_999]);
        let distance = 40_000_u16 - 32_768;
        packed.extend([
            16 | 8 | 1,
            distance.to_le_bytes()[0] << 2,
            (distance >> 6).to_le_bytes()[0],
        ]);
        packed.extend([17, 0, 0]);
        let mut out = vec![0; 40_003];
        assert_eq!(decompress(&packed, &mut out).unwrap(), 40_003);
        assert_eq!(&out[40_000..], b"baa");
    }

    #[test]
    fn what_is_broken_is_refused() {
        let mut out = [0; 8];
        for packed in [
            &[][..],
            &[17],
            &[40, 0],
            &[32, 0, 0, 0, 0],
            &[64, 0, 0],
            &[255; 40],
        ] {
            assert!(decompress(packed, &mut out).is_err(), "{packed:?}");
        }
    }
}
