//! Bits of a stream of 16-bit words, the highest first, as XPRESS and LZX have them.

use dormouse_block::{Error, Result, le_u16, slice_at};

/// Reads bits and, between them, whole bytes. Beyond the end there are zeroes, as many as a look ahead needs.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u32,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            held: 0,
            count: 0,
        }
    }

    /// Makes at least 16 bits ready.
    pub(super) fn fill(&mut self) -> Result<()> {
        if self.count < 16 {
            let word = if self.at < self.bytes.len() {
                le_u16(self.bytes, self.at)?
            } else if self.at > self.bytes.len().saturating_add(4) {
                return Err(ended());
            } else {
                0
            };
            self.at = self.at.saturating_add(2);
            self.held |= u32::from(word) << 16_u32.saturating_sub(self.count);
            self.count = self.count.saturating_add(16);
        }
        Ok(())
    }

    /// The next `n` of the bits that are ready, at most 16.
    pub(super) fn peek(&self, n: u32) -> u32 {
        self.held.checked_shr(32_u32.saturating_sub(n)).unwrap_or(0)
    }

    /// Goes on by `n` bits that are ready.
    pub(super) fn skip(&mut self, n: u32) {
        self.held = self.held.checked_shl(n).unwrap_or(0);
        self.count = self.count.saturating_sub(n);
    }

    /// The next `n` bits, at most 16.
    pub(super) fn read(&mut self, n: u32) -> Result<u32> {
        self.fill()?;
        let bits = self.peek(n);
        self.skip(n);
        Ok(bits)
    }

    /// The next `n` bytes behind the words that were begun.
    pub(super) fn bytes(&mut self, n: usize) -> Result<&'a [u8]> {
        let out = slice_at(self.bytes, self.at, n).map_err(|_| ended())?;
        self.at = self.at.saturating_add(n);
        Ok(out)
    }

    /// Drops the rest of the word; a whole word that was read ahead is given back.
    pub(super) fn align(&mut self) {
        if self.count >= 16 {
            self.at = self.at.saturating_sub(2);
        }
        self.held = 0;
        self.count = 0;
    }

    /// Goes on by one byte if words would not begin here.
    pub(super) fn pad(&mut self, odd: bool) {
        if odd {
            self.at = self.at.saturating_add(1);
        }
    }
}

fn ended() -> Error {
    Error::corrupt("compressed data ends too soon")
}
