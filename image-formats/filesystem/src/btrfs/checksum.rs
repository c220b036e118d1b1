//! The checksums of btrfs: one kind for a whole filesystem, over its superblocks, tree nodes and sectors of data.

use dormouse_block::{Error, Result};
use sha2::Digest as _;

/// Bytes that a checksum takes in a header (kernel: `BTRFS_CSUM_SIZE`); shorter kinds leave the rest unused.
pub(super) const FIELD: usize = 32;

type Blake2b256 = blake2::Blake2b<blake2::digest::consts::U32>;

/// A kind of checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksum {
    Crc32c,
    XxHash64,
    Sha256,
    Blake2b,
}

impl Checksum {
    /// The kind that the superblock's `csum_type` stands for.
    pub(super) fn new(kind: u16) -> Result<Self> {
        match kind {
            0 => Ok(Self::Crc32c),
            1 => Ok(Self::XxHash64),
            2 => Ok(Self::Sha256),
            3 => Ok(Self::Blake2b),
            _ => Err(Error::unsupported(format!("checksums of kind {kind}"))),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Crc32c => "crc32c",
            Self::XxHash64 => "xxhash64",
            Self::Sha256 => "sha256",
            Self::Blake2b => "blake2b",
        }
    }

    /// Bytes of one checksum.
    pub(super) fn size(self) -> usize {
        match self {
            Self::Crc32c => 4,
            Self::XxHash64 => 8,
            Self::Sha256 | Self::Blake2b => 32,
        }
    }

    /// Whether `stored` is the checksum of `bytes`.
    pub(super) fn holds(self, stored: &[u8], bytes: &[u8]) -> bool {
        match self {
            Self::Crc32c => stored == crc32c::crc32c(bytes).to_le_bytes(),
            Self::XxHash64 => stored == twox_hash::XxHash64::oneshot(0, bytes).to_le_bytes(),
            Self::Sha256 => stored == sha2::Sha256::digest(bytes).as_slice(),
            Self::Blake2b => stored == Blake2b256::digest(bytes).as_slice(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720's catalogue value, the reference implementations' values for "abc" and the empty string.
    #[test]
    fn check_values() {
        assert!(Checksum::Crc32c.holds(&0xE306_9283_u32.to_le_bytes(), b"123456789"));
        assert!(Checksum::XxHash64.holds(&0xEF46_DB37_51D8_E999_u64.to_le_bytes(), b""));
        assert!(Checksum::XxHash64.holds(&0x44BC_2CF5_AD77_0999_u64.to_le_bytes(), b"abc"));
        let hex = |text: &str| -> Vec<u8> {
            let digits = text.as_bytes().chunks(2).map(std::str::from_utf8);
            digits
                .map(|digits| u8::from_str_radix(digits.unwrap(), 16).unwrap())
                .collect()
        };
        let sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(Checksum::Sha256.holds(&hex(sha), b"abc"));
        let blake = "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319";
        assert!(Checksum::Blake2b.holds(&hex(blake), b"abc"));
        assert!(!Checksum::Blake2b.holds(&hex(blake), b"abd"));
        assert!(Checksum::new(4).is_err());
    }
}
