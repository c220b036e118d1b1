//! Decompression of indices, as streams with a bound.

use std::io::{BufRead, BufReader, Read};

use dormouse_block::{Error, Result};
use liblzma::stream::{CONCATENATED, IGNORE_CHECK, Stream};

/// Bytes that one index may unpack to. All of Debian's main has 50 MB.
pub(crate) const MAX_UNPACKED: u64 = 2 << 30;
/// Memory that an xz stream may ask for, in bytes. `xz -9` asks for 65 MiB.
const MAX_XZ_MEMORY: u64 = 128 << 20;
/// Largest zstd window, as a power of two: 128 MiB, what `zstd --ultra` asks for.
const MAX_ZSTD_WINDOW: u32 = 27;

/// A compression of index files.
///
/// xz and zstd go through their reference C libraries, built statically: xz in the best pure Rust reads 89 MiB/s where
/// liblzma reads 133, zstd 357 where libzstd reads 1135, and an index is on the path of every judgement. What they read
/// has been held against a signed digest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// None.
    Plain,
    /// `.gz`.
    Gzip,
    /// `.xz`.
    Xz,
    /// `.zst`.
    Zstd,
    /// `.bz2`, of feeds only.
    Bzip2,
}

impl Codec {
    /// How many times larger than the compressed index what is kept of it may be expected to be; a guess that saves
    /// moving it while it grows.
    pub(crate) fn expected_growth(self) -> u64 {
        match self {
            Self::Plain => 1,
            Self::Gzip | Self::Bzip2 => 3,
            Self::Xz | Self::Zstd => 4,
        }
    }

    /// All, the one to be preferred first: what is there uncompressed costs nothing, then by speed.
    pub(crate) const ALL: [Self; 4] = [Self::Plain, Self::Zstd, Self::Gzip, Self::Xz];

    /// What its files' names end with.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Gzip => ".gz",
            Self::Xz => ".xz",
            Self::Zstd => ".zst",
            Self::Bzip2 => ".bz2",
        }
    }

    /// What a file is compressed by, from its first bytes; `None` for an archive that is not read.
    pub(crate) fn of_head(head: &[u8]) -> Option<Self> {
        Some(match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [b'P', b'K', 3, 4, ..] => return None,
            _ => Self::Plain,
        })
    }

    /// What `input`, whose digest was checked, unpacks to; more than [`MAX_UNPACKED`] bytes are an error of the stream.
    pub(crate) fn open<'a>(self, input: impl BufRead + 'a) -> Result<BufReader<Bounded<'a>>> {
        // Its own CRC-64 would cost a tenth of the time, and says less than the digest that was checked.
        self.open_with(input, MAX_UNPACKED, CONCATENATED | IGNORE_CHECK)
    }

    /// What `input`, of which nothing was checked, unpacks to; more than `limit` bytes are an error of the stream.
    pub(crate) fn open_unchecked<'a>(
        self,
        input: impl BufRead + 'a,
        limit: u64,
    ) -> Result<BufReader<Bounded<'a>>> {
        self.open_with(input, limit, CONCATENATED)
    }

    fn open_with<'a>(
        self,
        input: impl BufRead + 'a,
        limit: u64,
        flags: u32,
    ) -> Result<BufReader<Bounded<'a>>> {
        let inner: Box<dyn Read + 'a> = match self {
            Self::Plain => Box::new(input),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Self::Xz => {
                let stream = Stream::new_stream_decoder(MAX_XZ_MEMORY, flags)
                    .map_err(|error| Error::unsupported("cannot read xz").because(error))?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)
                    .map_err(|error| Error::unsupported("cannot read zstd").because(error))?;
                decoder
                    .window_log_max(MAX_ZSTD_WINDOW)
                    .map_err(|error| Error::unsupported("cannot read zstd").because(error))?;
                Box::new(decoder)
            }
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        };
        let bounded = Bounded { inner, left: limit };
        Ok(BufReader::with_capacity(128 << 10, bounded))
    }
}

/// A stream that fails, rather than ends, past its bound.
pub(crate) struct Bounded<'a> {
    inner: Box<dyn Read + 'a>,
    left: u64,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.left = u64::try_from(n)
            .ok()
            .and_then(|n| self.left.checked_sub(n))
            .ok_or_else(|| {
                std::io::Error::other("it unpacks to more bytes than are read of one file")
            })?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn unpack(codec: Codec, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        codec.open(bytes).unwrap().read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn every_codec_reads_what_its_writer_wrote_even_in_several_members() {
        let xz = |bytes: &[u8]| liblzma::encode_all(bytes, 6).unwrap();
        let zst = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
        let gz = |bytes: &[u8]| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(unpack(Codec::Plain, b"one").unwrap(), b"one");
        assert_eq!(
            unpack(Codec::Xz, &[xz(b"one "), xz(b"two")].concat()).unwrap(),
            b"one two"
        );
        assert_eq!(
            unpack(Codec::Zstd, &[zst(b"one "), zst(b"two")].concat()).unwrap(),
            b"one two"
        );
        assert_eq!(
            unpack(Codec::Gzip, &[gz(b"one "), gz(b"two")].concat()).unwrap(),
            b"one two"
        );
        for (codec, bytes) in [
            (Codec::Xz, xz(b"text")),
            (Codec::Zstd, zst(b"text")),
            (Codec::Gzip, gz(b"text")),
        ] {
            assert!(
                unpack(codec, &bytes[..bytes.len() - 3]).is_err(),
                "{codec:?} cut short"
            );
        }
    }

    #[test]
    fn a_stream_past_its_bound_fails() {
        let mut bounded = Bounded {
            inner: Box::new(std::io::repeat(0)),
            left: 100,
        };
        assert!(bounded.read(&mut [0; 60]).is_ok());
        assert!(bounded.read(&mut [0; 60]).is_err());
    }
}
