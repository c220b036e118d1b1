//! Compressed units: clusters of qcow and qcow2, grains of VMDK.

use dormouse_block::{Error, Result};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::zstd_safe::{self, DCtx};

/// How the compressed units of an image are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Compression {
    /// Raw deflate.
    Deflate,
    /// Deflate between a zlib header and a checksum.
    Zlib,
    /// A zstd frame.
    Zstd,
}

/// A decoder with its state, so that one serves all units of a disk.
pub(crate) enum Decoder {
    Deflate(Decompress, bool),
    Zstd(DCtx<'static>),
}

impl Decoder {
    pub(crate) fn new(compression: Compression) -> Self {
        match compression {
            Compression::Deflate => Self::Deflate(Decompress::new(false), false),
            Compression::Zlib => Self::Deflate(Decompress::new(true), true),
            Compression::Zstd => Self::Zstd(DCtx::create()),
        }
    }

    /// Fills `out` from `packed`. Bytes behind the end of the compressed data (up to the next sector) are ignored.
    pub(crate) fn decode(&mut self, packed: &[u8], out: &mut [u8]) -> Result<()> {
        match self {
            Self::Deflate(inflate, header) => {
                inflate.reset(*header);
                match inflate.decompress(packed, out, FlushDecompress::Finish) {
                    // Full before the end of the stream is well: the last block may end with nothing.
                    Ok(Status::StreamEnd | Status::BufError | Status::Ok)
                        if usize::try_from(inflate.total_out()) == Ok(out.len()) =>
                    {
                        Ok(())
                    }
                    Ok(_) => Err(Error::corrupt("a compressed cluster ends too early")),
                    Err(error) => {
                        Err(Error::corrupt("a compressed cluster is broken").because(error))
                    }
                }
            }
            Self::Zstd(context) => decode_zstd(context, packed, out),
        }
    }
}
/// Frames until `out` is full. One call decodes one frame into the whole cluster, so no window is ever allocated,
/// whatever its header asks for.
fn decode_zstd(context: &mut DCtx<'static>, packed: &[u8], out: &mut [u8]) -> Result<()> {
    let broken = |code: usize| {
        Error::corrupt(format!(
            "a compressed cluster is broken: {}",
            zstd_safe::get_error_name(code)
        ))
    };
    let (mut packed, mut out) = (packed, out);
    while !out.is_empty() {
        if packed.is_empty() {
            return Err(Error::corrupt("a compressed cluster ends too early"));
        }
        let len = zstd_safe::find_frame_compressed_size(packed).map_err(broken)?;
        let frame = packed
            .get(..len)
            .filter(|frame| !frame.is_empty())
            .ok_or_else(|| Error::corrupt("a compressed cluster ends too early"))?;
        let written = context.decompress(out, frame).map_err(broken)?;
        out = out.get_mut(written..).unwrap_or_default();
        packed = packed.get(len..).unwrap_or_default();
    }
    Ok(())
}
