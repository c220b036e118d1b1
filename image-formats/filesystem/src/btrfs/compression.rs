//! Compressed extents: zlib, LZO and zstd as btrfs frames them.

use dormouse_block::{Error, Result, le_u32};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::DParameter;

use super::index;

/// Bytes of a compressed extent, decompressed and on disk (kernel: `BTRFS_MAX_UNCOMPRESSED`).
pub(super) const MAX_UNPACKED: u64 = 128 << 10;
/// Largest window of zstd (kernel: `ZSTD_BTRFS_MAX_WINDOWLOG`).
const MAX_WINDOW_LOG: u32 = 17;

/// How an extent is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Zlib,
    Lzo,
    Zstd,
}

impl Compression {
    pub(super) fn new(kind: u8) -> Result<Self> {
        match kind {
            0 => Ok(Self::None),
            1 => Ok(Self::Zlib),
            2 => Ok(Self::Lzo),
            3 => Ok(Self::Zstd),
            _ => Err(Error::unsupported(format!("compression of kind {kind}"))),
        }
    }

    /// The `len` bytes that `packed` stands for; `len` was held against [`MAX_UNPACKED`].
    ///
    /// Where `packed` ends early the rest is zeroes, as the kernel has it; what follows its end does not count, for
    /// extents are padded to whole sectors.
    pub(super) fn unpack(self, packed: &[u8], len: u64, sector: u32) -> Result<Vec<u8>> {
        let mut out = vec![0; index(len)];
        match self {
            Self::None => {
                let n = out.len().min(packed.len());
                if let (Some(to), Some(from)) = (out.get_mut(..n), packed.get(..n)) {
                    to.copy_from_slice(from);
                }
            }
            Self::Zlib => inflate(packed, &mut out)?,
            Self::Lzo => unpack_lzo(packed, &mut out, index(sector))?,
            Self::Zstd => unpack_zstd(packed, &mut out)?,
        }
        Ok(out)
    }
}

fn inflate(packed: &[u8], out: &mut [u8]) -> Result<()> {
    let mut stream = flate2::Decompress::new(true);
    loop {
        let (read, written) = (stream.total_in(), stream.total_out());
        let from = packed.get(index(read)..).unwrap_or_default();
        let to = out.get_mut(index(written)..).unwrap_or_default();
        if to.is_empty() {
            return Ok(());
        }
        let status = stream
            .decompress(from, to, flate2::FlushDecompress::None)
            .map_err(|error| Error::corrupt("broken zlib data").because(error))?;
        match status {
            flate2::Status::StreamEnd => return Ok(()),
            _ if stream.total_in() == read && stream.total_out() == written => {
                return Err(Error::corrupt("zlib data that end early"));
            }
            _ => {}
        }
    }
}

fn unpack_zstd(packed: &[u8], out: &mut [u8]) -> Result<()> {
    let broken = |error| Error::corrupt("broken zstd data").because(error);
    let mut decoder = Decoder::new().map_err(broken)?;
    decoder
        .set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))
        .map_err(broken)?;
    let mut from = InBuffer::around(packed);
    let mut to = OutBuffer::around(out);
    loop {
        let before = (from.pos(), to.pos());
        // The frame's end is told, so that the padding after it is never taken for another one.
        let hint = decoder.run(&mut from, &mut to).map_err(broken)?;
        if hint == 0 || to.pos() == to.capacity() {
            return Ok(());
        }
        if (from.pos(), to.pos()) == before {
            return Err(Error::corrupt("zstd data that end early"));
        }
    }
}

/// Segments, each of at most one sector, with their lengths before them; a length never straddles two sectors.
fn unpack_lzo(packed: &[u8], out: &mut [u8], sector: usize) -> Result<()> {
    let early = || Error::corrupt("LZO data that end early");
    let total = index(le_u32(packed, 0)?);
    let packed = packed.get(..total).ok_or_else(early)?;
    let mut at = 4_usize;
    let mut done = 0_usize;
    while done < out.len() && at < total {
        let within = at.checked_rem(sector).unwrap_or(0);
        let left = sector.saturating_sub(within);
        if left < 4 {
            at = at.saturating_add(left);
            if at >= total {
                break;
            }
        }
        let len = index(le_u32(packed, at)?);
        at = at.saturating_add(4);
        let end = at.saturating_add(len);
        let segment = packed.get(at..end).ok_or_else(early)?;
        let room = done.saturating_add(sector).min(out.len());
        let to = out.get_mut(done..room).unwrap_or_default();
        dormouse_block::lzo_decompress(segment, to)?;
        done = room;
        at = end;
    }
    Ok(())
}
