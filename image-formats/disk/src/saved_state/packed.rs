//! Streams that a program packed: libvirt's states, and what `migrate exec:gzip` writes.

use std::io::Read;
use std::sync::Arc;

use dormouse_block::{Error, ErrorKind, Result, Source};

use super::lzop::Lzop;
use super::pieces::Pieces;
use super::stream::{Packed, Stream, broken};
use super::{Looked, Reading, Signs, StateFormat, StateMeaning, qemu};

/// Memory that an xz decoder may take: the largest preset's window, and some.
const XZ_MEMORY: u64 = 128 << 20;
/// Largest window of a zstd frame, as a power of two: what `zstd --ultra` uses.
const ZSTD_WINDOW: u32 = 27;

/// What the packings begin with.
const MAGICS: [(&str, &[u8]); 5] = [
    ("gzip", b"\x1f\x8b\x08"),
    ("bzip2", b"BZh"),
    ("xz", b"\xfd7zXZ\0"),
    ("lzop", super::lzop::MAGIC),
    ("zstd", b"\x28\xb5\x2f\xfd"),
];

/// The format.
pub(super) const FORMAT: StateFormat = StateFormat {
    name: "packed QEMU migration stream",
    is_verified: true,
    beside: &[],
    recognise,
    read,
};

fn packing(head: &[u8]) -> Option<&'static str> {
    let mut magics = MAGICS.iter();
    magics
        .find(|(_, magic)| head.starts_with(magic))
        .map(|(name, _)| *name)
}

fn recognise(looked: &Looked<'_>) -> Result<Option<Signs>> {
    let Some(packing) = packing(looked.head) else {
        return Ok(None);
    };
    // What does not unpack is no saved state that anybody could tell.
    let mut begins = [0; 8];
    let Ok(Some(from)) = unpacker(looked.source, 0, packing) else {
        return Ok(None);
    };
    match read_fully(from, &mut begins).map_err(broken) {
        Ok(()) if &begins == qemu::MAGIC => {}
        Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::Cancelled) => {
            return Err(error);
        }
        _ => return Ok(None),
    }
    let signs = Signs::new("QEVM, version 3", 0, StateMeaning::Suspended);
    Ok(Some(signs.saying(format!("packed with {packing}"))))
}

fn read_fully(mut from: Box<dyn Read>, out: &mut [u8]) -> std::io::Result<()> {
    from.read_exact(out)
}

fn read(reading: &Reading<'_>, pieces: &mut Pieces<'_, '_>) -> Result<()> {
    let mut head = [0; 16];
    reading.source.read_exact_at(0, &mut head)?;
    let packing = packing(&head).ok_or_else(|| Error::corrupt("it is not packed any more"))?;
    let mut stream = unpack(reading.source, 0, packing)?
        .ok_or_else(|| Error::unsupported(format!("a state packed with {packing}")))?;
    qemu::read_stream(&mut stream, pieces)
}

/// What is packed in `source` from `at` on; `None` for a way of packing that is not known.
pub(super) fn unpack(source: &Arc<dyn Source>, at: u64, packing: &str) -> Result<Option<Stream>> {
    let packed = source.len().saturating_sub(at);
    let from = unpacker(source, at, packing)?;
    Ok(from.map(|from| Stream::unpacked(from, packed)))
}

fn unpacker(source: &Arc<dyn Source>, at: u64, packing: &str) -> Result<Option<Box<dyn Read>>> {
    let packed = std::io::BufReader::with_capacity(
        1 << 20,
        Packed {
            source: source.clone(),
            at,
        },
    );
    Ok(Some(match packing {
        "gzip" => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        "bzip2" => Box::new(bzip2::bufread::MultiBzDecoder::new(packed)),
        "xz" => {
            let decoder =
                liblzma::stream::Stream::new_auto_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED);
            let decoder =
                decoder.map_err(|error| Error::corrupt("no decoder for xz").because(error))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(packed, decoder))
        }
        "lzop" => Box::new(Lzop::new(packed)),
        "zstd" => {
            let mut decoder = zstd::Decoder::with_buffer(packed).map_err(broken)?;
            decoder.window_log_max(ZSTD_WINDOW).map_err(broken)?;
            Box::new(decoder)
        }
        _ => return Ok(None),
    }))
}
