//! The compressions that deb(5) names.

use std::io::{BufReader, Read};

use dormouse_block::{Error, Result};

/// Bytes handed to a decoder in one step.
const STEP: usize = 128 << 10;
/// Memory an xz decoder may take: `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 128 << 20;
/// Largest zstd window accepted, as a power of two: `zstd --ultra -22` uses 27.
const ZSTD_WINDOW: u32 = 27;

/// A compression of a tar member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Codec {
    None,
    Gzip,
    Xz,
    Zstd,
    Bzip2,
}

/// Each codec by the end of the member's name.
const CODECS: &[(&str, Codec)] = &[
    ("", Codec::None),
    (".gz", Codec::Gzip),
    (".xz", Codec::Xz),
    (".zst", Codec::Zstd),
    (".bz2", Codec::Bzip2),
];

impl Codec {
    /// The codec of the member `name`, which begins with `stem`.
    pub(crate) fn of(name: &str, stem: &str) -> Result<Self> {
        let ending = name.strip_prefix(stem).unwrap_or_default();
        CODECS
            .iter()
            .find(|(known, _)| *known == ending)
            .map(|(_, codec)| *codec)
            .ok_or_else(|| Error::unsupported(format!("unknown compression of the member {name}")))
    }

    /// Decodes `inner`, whose digest was checked: xz' own CRC-64 would cost a tenth of the time, and says less.
    pub(crate) fn decode<'a>(self, inner: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
        let inner = BufReader::with_capacity(STEP, inner);
        let failed = |error| Error::io("cannot set up a decoder", error);
        Ok(match self {
            Self::None => Box::new(inner),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(inner)),
            Self::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(
                    XZ_MEMORY,
                    liblzma::stream::CONCATENATED | liblzma::stream::IGNORE_CHECK,
                )
                .map_err(|error| failed(error.into()))?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(inner, stream))
            }
            Self::Zstd => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(inner).map_err(failed)?;
                decoder.window_log_max(ZSTD_WINDOW).map_err(failed)?;
                Box::new(decoder)
            }
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(inner)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_compressions_of_the_format_are_known() {
        assert_eq!(Codec::of("data.tar", "data.tar").unwrap(), Codec::None);
        assert_eq!(Codec::of("data.tar.zst", "data.tar").unwrap(), Codec::Zstd);
        for name in ["data.tar.lzma", "data.tar.", "data.tarx", "data.tar.gz.gz"] {
            let error = Codec::of(name, "data.tar").unwrap_err();
            assert_eq!(
                error.kind(),
                dormouse_block::ErrorKind::Unsupported,
                "{name}"
            );
        }
    }
}
