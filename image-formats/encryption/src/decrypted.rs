//! Decrypted bytes, sector by sector.

use std::sync::Arc;

use dormouse_block::{Error, Result, Source};

use crate::SectorCipher;

/// Bytes decrypted at once.
const STEP: u64 = 256 << 10;

/// How encrypted sectors lie in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sectors {
    /// Bytes of each, a power of two.
    size: u64,
    /// Number of the one at the source's first byte, in units of 512 bytes; it wraps around.
    first: u64,
}

impl Sectors {
    /// Sectors of `size` bytes, the first of which has the number `first` in units of 512 bytes, modulo 2^64.
    ///
    /// # Errors
    /// `Corrupt` for sectors of impossible size: they have 512 to 4096 bytes, a power of two.
    pub fn new(size: u64, first: u64) -> Result<Self> {
        if !size.is_power_of_two() || !(512..=4096).contains(&size) {
            return Err(Error::corrupt(format!(
                "sectors of {size} bytes are impossible"
            )));
        }
        Ok(Self { size, first })
    }

    /// Sectors of 512 bytes, of which the one at byte `at` of the source has the number that byte `seen_at` would have if
    /// they were counted from 0 there.
    #[must_use]
    pub fn counted(at: u64, seen_at: u64) -> Self {
        Self {
            size: 512,
            first: (seen_at / 512).wrapping_sub(at / 512),
        }
    }

    fn mask(self) -> u64 {
        self.size.saturating_sub(1)
    }

    fn bytes(self) -> usize {
        usize::try_from(self.size).unwrap_or(512)
    }
}

impl SectorCipher {
    /// Fills `buf` with the decrypted bytes of `below` from byte `at` on. Sectors that are wanted in part are read whole.
    ///
    /// # Errors
    /// What keeps `below` from being read, the end of it within a sector included.
    pub fn read(
        &self,
        below: &dyn Source,
        sectors: Sectors,
        at: u64,
        buf: &mut [u8],
    ) -> Result<()> {
        let mut at = at;
        let mut rest = buf;
        while !rest.is_empty() {
            let left = u64::try_from(rest.len()).unwrap_or(u64::MAX);
            let within = at & sectors.mask();
            let whole = left.min(STEP) & !sectors.mask();
            let step = if within == 0 && whole > 0 {
                whole
            } else {
                left.min(sectors.size.saturating_sub(within))
            };
            let len = usize::try_from(step).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(len);
            if within == 0 && whole > 0 {
                self.read_sectors(below, sectors, at, now)?;
            } else {
                let mut sector = vec![0; sectors.bytes()];
                self.read_sectors(below, sectors, at.saturating_sub(within), &mut sector)?;
                let from = usize::try_from(within).unwrap_or(0);
                for (byte, plain) in now.iter_mut().zip(sector.iter().skip(from)) {
                    *byte = *plain;
                }
            }
            at = at.saturating_add(step);
            rest = later;
        }
        Ok(())
    }

    /// Decrypts whole sectors from byte `start` on into `buf`.
    fn read_sectors(
        &self,
        below: &dyn Source,
        sectors: Sectors,
        start: u64,
        buf: &mut [u8],
    ) -> Result<()> {
        below.read_exact_at(start, buf)?;
        let number = sectors.first.wrapping_add(start / 512);
        self.decrypt(number, sectors.bytes(), buf);
        Ok(())
    }
}

/// A part of a volume, decrypted as it is read.
pub(crate) struct Decrypted {
    below: Arc<dyn Source>,
    cipher: SectorCipher,
    sectors: Sectors,
    len: u64,
}

impl Decrypted {
    /// `below` in these sectors; what is left after the last whole one is not part of it.
    pub(crate) fn new(below: Arc<dyn Source>, cipher: SectorCipher, sectors: Sectors) -> Self {
        let len = below.len() & !sectors.mask();
        Self {
            below,
            cipher,
            sectors,
            len,
        }
    }
}

impl Source for Decrypted {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = u64::try_from(buf.len())
            .ok()
            .and_then(|wanted| offset.checked_add(wanted));
        if end.is_none_or(|end| end > self.len) {
            return Err(Error::corrupt(format!(
                "{} bytes are wanted of a volume of {}",
                buf.len(),
                self.len
            ))
            .at_offset(offset));
        }
        self.cipher.read(&*self.below, self.sectors, offset, buf)
    }
}
