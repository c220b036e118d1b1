//! What blocks are packed with.

use std::io::Read;

use dormouse_block::{Error, Result};

use crate::lz4;

/// A packing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
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
            2 => return Err(Error::unsupported("squashfs packed with lzma")),
            3 => return Err(Error::unsupported("squashfs packed with LZO")),
            4 => return Err(Error::unsupported("squashfs packed with xz")),
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
            Self::Lz4 => {
                let mut out = vec![0; most];
                let len = lz4::unpack(packed, &mut out)?;
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
