//! The decrypted bytes of a volume.

use std::sync::Arc;

use dormouse_block::{Error, Result, Source};

use super::cipher::SectorCipher;
use crate::joined::{check_range, length, split_at};

/// Bytes decrypted at once.
const STEP: u64 = 256 << 10;

/// A part of a volume, decrypted as it is read.
pub(super) struct Decrypted {
    below: Arc<dyn Source>,
    cipher: SectorCipher,
    sector: u64,
    /// Number of the first sector, in units of 512 bytes.
    first: u64,
    len: u64,
}

impl Decrypted {
    /// `below` in sectors of `sector` bytes; what is left after the last whole one is not part of it.
    ///
    /// # Errors
    /// `Corrupt` for sectors of impossible size.
    pub(super) fn new(
        below: Arc<dyn Source>,
        cipher: SectorCipher,
        sector: u64,
        first: u64,
    ) -> Result<Self> {
        if !sector.is_power_of_two() || !(512..=4096).contains(&sector) {
            return Err(Error::corrupt(format!(
                "sectors of {sector} bytes are impossible"
            )));
        }
        let len = below.len() & !sector.saturating_sub(1);
        Ok(Self {
            below,
            cipher,
            sector,
            first,
            len,
        })
    }

    /// Decrypts whole sectors from `start` on into `buf`.
    fn read_sectors(&self, start: u64, buf: &mut [u8]) -> Result<()> {
        self.below.read_exact_at(start, buf)?;
        let number = self.first.wrapping_add(start / 512);
        let size = usize::try_from(self.sector).unwrap_or(512);
        self.cipher.decrypt(number, size, buf);
        Ok(())
    }
}

impl Source for Decrypted {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(offset, buf.len(), self.len)?;
        let inside = self.sector.saturating_sub(1);
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let whole = length(rest) & !inside;
            if at & inside == 0 && whole > 0 {
                let (now, later) = split_at(rest, whole.min(STEP));
                self.read_sectors(at, now)?;
                at = at.saturating_add(length(now));
                rest = later;
                continue;
            }
            let start = at & !inside;
            let within = at.saturating_sub(start);
            let (now, later) = split_at(rest, self.sector.saturating_sub(within));
            let mut sector = vec![0; usize::try_from(self.sector).unwrap_or(512)];
            self.read_sectors(start, &mut sector)?;
            let from = usize::try_from(within).unwrap_or(0);
            for (byte, plain) in now.iter_mut().zip(sector.iter().skip(from)) {
                *byte = *plain;
            }
            at = at.saturating_add(length(now));
            rest = later;
        }
        Ok(())
    }
}
