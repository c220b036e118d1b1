//! What `lzop` writes (its `src/lzop.c` and `src/conf.h`): a header, then blocks of LZO1X, each with its sizes and
//! checksums, big-endian. Checksums are held against the data.

use std::io::{Error, ErrorKind, Read, Result};

/// The magic.
pub(super) const MAGIC: &[u8] = b"\x89LZO\0\r\n\x1a\n";
/// Largest block, as lzop itself has it.
const MAX_BLOCK: u32 = 64 << 20;

mod flag {
    pub(super) const ADLER32_OF_DATA: u32 = 0x1;
    pub(super) const ADLER32_OF_PACKED: u32 = 0x2;
    pub(super) const EXTRA_FIELD: u32 = 0x40;
    pub(super) const CRC32_OF_DATA: u32 = 0x100;
    pub(super) const CRC32_OF_PACKED: u32 = 0x200;
    pub(super) const FILTER: u32 = 0x800;
}

/// Unpacks a file of lzop.
pub(super) struct Lzop<R> {
    from: R,
    flags: Option<u32>,
    packed: Vec<u8>,
    block: Vec<u8>,
    at: usize,
    is_over: bool,
}

fn broken(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

impl<R: Read> Lzop<R> {
    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            flags: None,
            packed: Vec::new(),
            block: Vec::new(),
            at: 0,
            is_over: false,
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn skip(&mut self, len: u64) -> Result<()> {
        let skipped = std::io::copy(&mut (&mut self.from).take(len), &mut std::io::sink())?;
        if skipped == len {
            return Ok(());
        }
        Err(ErrorKind::UnexpectedEof.into())
    }

    fn header(&mut self) -> Result<u32> {
        if self.array::<9>()? != MAGIC {
            return Err(broken("it does not begin as lzop's files do"));
        }
        let version = u16::from_be_bytes(self.array()?);
        self.skip(2)?;
        if version >= 0x0940 {
            self.skip(2)?;
        }
        let [method] = self.array()?;
        if !(1..=3).contains(&method) {
            return Err(broken("lzop packed it in another way than LZO1X"));
        }
        if version >= 0x0940 {
            self.skip(1)?;
        }
        let flags = self.u32()?;
        if flags & flag::FILTER != 0 {
            return Err(broken("lzop filtered it, which is not read"));
        }
        // Mode, and times of one or two words.
        self.skip(if version >= 0x0940 { 12 } else { 8 })?;
        let [name] = self.array()?;
        self.skip(u64::from(name))?;
        self.skip(4)?;
        if flags & flag::EXTRA_FIELD != 0 {
            let len = self.u32()?;
            self.skip(u64::from(len).saturating_add(4))?;
        }
        Ok(flags)
    }

    fn next_block(&mut self) -> Result<()> {
        let flags = match self.flags {
            Some(flags) => flags,
            None => {
                let flags = self.header()?;
                *self.flags.insert(flags)
            }
        };
        self.at = 0;
        self.block.clear();
        let size = self.u32()?;
        if size == 0 {
            self.is_over = true;
            return Ok(());
        }
        let packed = self.u32()?;
        if size > MAX_BLOCK || packed > size || packed == 0 {
            return Err(broken("lzop's block has an impossible size"));
        }
        let adler = (flags & flag::ADLER32_OF_DATA != 0).then(|| self.u32());
        let adler = adler.transpose()?;
        let crc = (flags & flag::CRC32_OF_DATA != 0).then(|| self.u32());
        let crc = crc.transpose()?;
        if packed < size {
            for of_packed in [flag::ADLER32_OF_PACKED, flag::CRC32_OF_PACKED] {
                if flags & of_packed != 0 {
                    self.skip(4)?;
                }
            }
        }
        let len = |size: u32| usize::try_from(size).unwrap_or(usize::MAX);
        // No more is made room for than comes.
        self.packed.clear();
        let came = (&mut self.from)
            .take(u64::from(packed))
            .read_to_end(&mut self.packed)?;
        if came != len(packed) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if packed == size {
            std::mem::swap(&mut self.block, &mut self.packed);
        } else {
            self.block.resize(len(size), 0);
            let made = dormouse_block::lzo_decompress(&self.packed, &mut self.block)
                .map_err(Error::other)?;
            if made != len(size) {
                return Err(broken("lzop's block ends too early"));
            }
        }
        let sound = adler.is_none_or(|sum| sum == adler32(&self.block))
            && crc.is_none_or(|sum| sum == crc32fast::hash(&self.block));
        if !sound {
            return Err(broken("lzop's checksum is wrong"));
        }
        Ok(())
    }
}

impl<R: Read> Read for Lzop<R> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        while self.at >= self.block.len() && !self.is_over {
            self.next_block()?;
        }
        let waiting = self.block.get(self.at..).unwrap_or_default();
        let step = waiting.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..step), waiting.get(..step)) {
            to.copy_from_slice(from);
        }
        self.at = self.at.saturating_add(step);
        Ok(step)
    }
}

/// Adler-32 (RFC 1950, section 8.2), which lzop begins at 1.
fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65521;
    let (mut a, mut b) = (1_u32, 0_u32);
    // The most bytes before a sum could overflow.
    for part in bytes.chunks(5552) {
        for byte in part {
            a = a.wrapping_add(u32::from(*byte));
            b = b.wrapping_add(a);
        }
        a = a.checked_rem(MODULUS).unwrap_or(0);
        b = b.checked_rem(MODULUS).unwrap_or(0);
    }
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adler_of_the_rfc_s_own_example() {
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
        assert_eq!(adler32(b""), 1);
    }
}
