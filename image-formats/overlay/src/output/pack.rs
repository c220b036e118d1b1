//! Compression of independent units, so that whoever has threads can compress several at once: the result is the same.

use dormouse_block::{Error, Result};
use flate2::{Compress, Compression, FlushCompress, Status};

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// How units are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// zstd frames.
    Zstd,
    /// Raw deflate, in a window of 4 KiB, which is all that QEMU's readers of qcow2 look back.
    Deflate,
    /// Deflate with a zlib header.
    Zlib,
}

/// One unit: its bytes, then what they compress to.
pub struct Pack {
    method: Method,
    /// Where on the disk it stands, for whoever stores it.
    pub(crate) at: u64,
    pub(crate) bytes: Vec<u8>,
    packed: Result<Vec<u8>>,
}

/// Runs [`Pack::run`] on each of the units, in any order and on any thread.
pub type Spread<'a> = dyn Fn(&mut [Pack]) + 'a;

/// One after the other.
pub fn serially(units: &mut [Pack]) {
    units.iter_mut().for_each(Pack::run);
}

impl Pack {
    pub(crate) fn new(method: Method, at: u64, bytes: Vec<u8>) -> Self {
        Self {
            method,
            at,
            bytes,
            packed: Err(Error::corrupt("a unit was not compressed")),
        }
    }

    /// Compresses the unit.
    pub fn run(&mut self) {
        self.packed = match self.method {
            Method::Zstd => zstd::bulk::compress(&self.bytes, ZSTD_LEVEL)
                .map_err(|error| Error::io("cannot compress", error)),
            Method::Deflate => deflate(
                Compress::new_with_window_bits(Compression::default(), false, 12),
                &self.bytes,
            ),
            Method::Zlib => deflate(Compress::new(Compression::default(), true), &self.bytes),
        };
    }

    /// What it was compressed to.
    ///
    /// # Errors
    /// When it could not be, or was not.
    pub(crate) fn packed(&self) -> Result<&[u8]> {
        match &self.packed {
            Ok(packed) => Ok(packed),
            Err(error) => Err(Error::new(error.kind(), error.to_string())),
        }
    }
}

fn deflate(mut stream: Compress, bytes: &[u8]) -> Result<Vec<u8>> {
    let failed = || Error::corrupt("a unit could not be deflated");
    // What cannot be compressed grows by a few bytes in each block.
    let room = bytes
        .len()
        .saturating_add(bytes.len() / 64)
        .saturating_add(256);
    let mut out = Vec::with_capacity(room);
    match stream.compress_vec(bytes, &mut out, FlushCompress::Finish) {
        Ok(Status::StreamEnd) => Ok(out),
        _ => Err(failed()),
    }
}
