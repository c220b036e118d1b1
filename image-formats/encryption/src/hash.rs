//! The digests that LUKS names.

use dormouse_block::{Error, Result};
use hmac::digest::Digest;
use ripemd::Ripemd160;
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use whirlpool::Whirlpool;

/// A digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Ripemd160,
    Whirlpool,
}

impl Hash {
    /// The digest called `name`.
    ///
    /// # Errors
    /// `Unsupported` for one that is not known.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "sha1" => Self::Sha1,
            "sha224" => Self::Sha224,
            "sha256" => Self::Sha256,
            "sha384" => Self::Sha384,
            "sha512" => Self::Sha512,
            "ripemd160" | "rmd160" => Self::Ripemd160,
            "whirlpool" => Self::Whirlpool,
            other => {
                let other = dormouse_block::escape_terminal(other);
                return Err(Error::unsupported(format!(
                    "the digest {other} is not known"
                )));
            }
        })
    }

    /// The digest of `parts`, one after another.
    pub(crate) fn of(self, parts: &[&[u8]]) -> Vec<u8> {
        fn digest<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
            let mut hasher = D::new();
            for part in parts {
                hasher.update(part);
            }
            hasher.finalize().to_vec()
        }
        match self {
            Self::Sha1 => digest::<Sha1>(parts),
            Self::Sha224 => digest::<Sha224>(parts),
            Self::Sha256 => digest::<Sha256>(parts),
            Self::Sha384 => digest::<Sha384>(parts),
            Self::Sha512 => digest::<Sha512>(parts),
            Self::Ripemd160 => digest::<Ripemd160>(parts),
            Self::Whirlpool => digest::<Whirlpool>(parts),
        }
    }

    /// Its bytes.
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Sha1 | Self::Ripemd160 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 | Self::Whirlpool => 64,
        }
    }

    /// PBKDF2 (RFC 8018) with HMAC of this digest.
    pub(crate) fn pbkdf2(self, key: &[u8], salt: &[u8], iterations: u32, out: &mut [u8]) {
        match self {
            Self::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(key, salt, iterations, out),
            Self::Sha224 => pbkdf2::pbkdf2_hmac::<Sha224>(key, salt, iterations, out),
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(key, salt, iterations, out),
            Self::Sha384 => pbkdf2::pbkdf2_hmac::<Sha384>(key, salt, iterations, out),
            Self::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(key, salt, iterations, out),
            Self::Ripemd160 => pbkdf2::pbkdf2_hmac::<Ripemd160>(key, salt, iterations, out),
            Self::Whirlpool => pbkdf2::pbkdf2_hmac::<Whirlpool>(key, salt, iterations, out),
        }
    }
}
