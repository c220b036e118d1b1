//! What blocks are packed with.

use std::io::Read;

use dormouse_block::{Error, Result};
use liblzma::read::XzDecoder;
use liblzma::stream::Stream;

use crate::lz4;

/// Bytes that unpacking a block of xz or lzma may take: no dictionary needs to be larger than the largest block of 1 MiB.
const MAX_MEMORY: u64 = 16 << 20;

/// A packing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    /// In a file of its own kind before xz: what old vendors' kernels read.
    Lzma,
    Lzo,
    Xz,
    Lz4,
    Zstd,
}

impl Packing {
    /// The packing of this number.
    ///
    /// # Errors
    /// `Unsupported` for others.
    pub(super) fn of(number: u16) -> Result<Self> {
        Ok(match number {
            1 => Self::Gzip,
            2 => Self::Lzma,
            3 => Self::Lzo,
            4 => Self::Xz,
            5 => Self::Lz4,
            6 => Self::Zstd,
            _ => {
                return Err(Error::unsupported(format!(
                    "squashfs packed with the unknown method {number}"
                )));
            }
        })
    }

    /// Its name as mksquashfs has it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Lzma => "lzma",
            Self::Lzo => "lzo",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Unpacks a block of at most `most` bytes.
    ///
    /// # Errors
    /// `Corrupt` for a broken block or one of more.
    pub(super) fn unpack(self, packed: &[u8], most: usize) -> Result<Vec<u8>> {
        let broken = |error: std::io::Error| {
            Error::corrupt(format!("broken compressed data ({})", self.as_str())).because(error)
        };
        match self {
            Self::Gzip => bounded(flate2::read::ZlibDecoder::new(packed), most).map_err(broken),
            Self::Zstd => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(packed).map_err(broken)?;
                // No window needs to be larger than the block.
                decoder.window_log_max(24).map_err(broken)?;
                bounded(decoder, most).map_err(broken)
            }
            // The filters for machine code that mksquashfs offers (-Xbcj) are part of xz.
            Self::Xz => Stream::new_stream_decoder(MAX_MEMORY, 0)
                .map_err(Into::into)
                .and_then(|stream| bounded(XzDecoder::new_stream(packed, stream), most))
                .map_err(broken),
            Self::Lzma => Stream::new_lzma_decoder(MAX_MEMORY)
                .map_err(Into::into)
                .and_then(|stream| bounded(XzDecoder::new_stream(packed, stream), most))
                .map_err(broken),
            Self::Lz4 | Self::Lzo => {
                let mut out = vec![0; most];
                let len = match self {
                    Self::Lz4 => lz4::unpack(packed, &mut out)?,
                    _ => dormouse_block::lzo_decompress(packed, &mut out)?,
                };
                out.truncate(len);
                Ok(out)
            }
        }
    }
}

/// Reads to the end, which must come before more than `most` bytes.
fn bounded(from: impl Read, most: usize) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let limit = crate::fat::wide(most).saturating_add(1);
    from.take(limit).read_to_end(&mut out)?;
    if out.len() > most {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "more than a block holds",
        ));
    }
    Ok(out)
}
