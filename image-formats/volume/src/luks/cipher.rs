//! Ciphers of sectors, as dm-crypt names and numbers them. Many blocks are decrypted at once, which is several times as
//! fast as one after another where the host has instructions for it.

use aes::{Aes128, Aes192, Aes256};
use cipher::inout::InOutBuf;
use cipher::{BlockDecrypt, BlockEncrypt, KeyInit};
use dormouse_block::{Error, Result};
use serpent::Serpent;
use twofish::Twofish;

use super::hash::Hash;

/// Bytes of a block: all ciphers here have the same.
const BLOCK: usize = 16;

/// A block cipher with its key.
enum Blocks {
    Aes128(Box<Aes128>),
    Aes192(Box<Aes192>),
    Aes256(Box<Aes256>),
    Serpent(Box<Serpent>),
    Twofish(Box<Twofish>),
}

macro_rules! each {
    ($self:expr, $cipher:ident => $call:expr) => {
        match $self {
            Blocks::Aes128($cipher) => $call,
            Blocks::Aes192($cipher) => $call,
            Blocks::Aes256($cipher) => $call,
            Blocks::Serpent($cipher) => $call,
            Blocks::Twofish($cipher) => $call,
        }
    };
}

impl Blocks {
    fn new(name: &str, key: &[u8]) -> Result<Self> {
        fn keyed<C: KeyInit>(name: &str, key: &[u8]) -> Result<Box<C>> {
            C::new_from_slice(key).map(Box::new).map_err(|_| {
                Error::corrupt(format!("{name} takes no key of {} bytes", key.len()))
            })
        }
        Ok(match (name, key.len()) {
            ("aes", 16) => Self::Aes128(keyed(name, key)?),
            ("aes", 24) => Self::Aes192(keyed(name, key)?),
            ("aes", _) => Self::Aes256(keyed(name, key)?),
            ("serpent", _) => Self::Serpent(keyed(name, key)?),
            ("twofish", _) => Self::Twofish(keyed(name, key)?),
            _ => return Err(unknown(name)),
        })
    }

    /// Decrypts whole blocks in place.
    fn decrypt(&self, bytes: &mut [u8]) {
        let (blocks, _) = InOutBuf::from(bytes).into_chunks();
        each!(self, cipher => cipher.decrypt_blocks_inout(blocks));
    }

    /// Encrypts whole blocks in place.
    fn encrypt(&self, bytes: &mut [u8]) {
        let (blocks, _) = InOutBuf::from(bytes).into_chunks();
        each!(self, cipher => cipher.encrypt_blocks_inout(blocks));
    }
}

/// What each sector is told apart by.
enum Iv {
    /// Nothing.
    Null,
    /// The low 32 bits of its number.
    Plain,
    /// Its number.
    Plain64,
    /// Its number, big-endian.
    Plain64Be,
    /// Blocks before it, counted from 1, big-endian.
    Benbi,
    /// Its number, encrypted with a digest of the key.
    Essiv(Blocks),
}

enum Mode {
    Ecb,
    Cbc,
    /// With the cipher of tweaks.
    Xts(Blocks),
}

/// What decrypts a volume's sectors.
pub(super) struct SectorCipher {
    blocks: Blocks,
    mode: Mode,
    iv: Iv,
}

fn unknown(name: &str) -> Error {
    let name = dormouse_block::escape_terminal(name);
    Error::unsupported(format!("the cipher {name} is not known"))
}

impl SectorCipher {
    /// The cipher that dm-crypt calls `spec`, such as `aes-xts-plain64` or `aes-cbc-essiv:sha256`.
    ///
    /// # Errors
    /// `Unsupported` for one that is not known, `Corrupt` for a key that does not fit.
    pub(super) fn new(spec: &str, key: &[u8]) -> Result<Self> {
        let mut parts = spec.splitn(3, '-');
        let name = parts.next().unwrap_or_default();
        let mode = parts.next().unwrap_or("cbc");
        // "cbc-plain if nothing is said" (dm-crypt.c, crypt_ctr_cipher_old).
        let iv = parts.next().unwrap_or(if mode == "ecb" { "null" } else { "plain" });
        let half = key.len() / 2;
        let (key, tweak) = match mode {
            "xts" => key.split_at_checked(half).unwrap_or((key, &[])),
            _ => (key, &[][..]),
        };
        let mode = match mode {
            "ecb" => Mode::Ecb,
            "cbc" => Mode::Cbc,
            "xts" => Mode::Xts(Blocks::new(name, tweak)?),
            _ => return Err(unknown(spec)),
        };
        let iv = match iv.split_once(':') {
            None => match iv {
                "null" => Iv::Null,
                "plain" => Iv::Plain,
                "plain64" => Iv::Plain64,
                "plain64be" => Iv::Plain64Be,
                "benbi" => Iv::Benbi,
                _ => return Err(unknown(spec)),
            },
            Some(("essiv", hash)) => {
                Iv::Essiv(Blocks::new(name, &Hash::parse(hash)?.of(&[key]))?)
            }
            Some(_) => return Err(unknown(spec)),
        };
        Ok(Self {
            blocks: Blocks::new(name, key)?,
            mode,
            iv,
        })
    }

    /// Decrypts whole sectors of `size` bytes, the first of which has the number `first` in units of 512 bytes.
    pub(super) fn decrypt(&self, first: u64, size: usize, bytes: &mut [u8]) {
        let units = u64::try_from(size / 512).unwrap_or(1);
        let numbers = (0..bytes.len().div_ceil(size))
            .scan(first, |number, _| {
                let this = *number;
                *number = number.wrapping_add(units);
                Some(this)
            });
        let mut ivs: Vec<u8> = numbers.flat_map(|number| self.plain_iv(number)).collect();
        if let Iv::Essiv(blocks) = &self.iv {
            blocks.encrypt(&mut ivs);
        }
        match &self.mode {
            Mode::Ecb => self.blocks.decrypt(bytes),
            Mode::Cbc => {
                let before = bytes.to_vec();
                self.blocks.decrypt(bytes);
                let sectors = bytes.chunks_mut(size).zip(before.chunks(size));
                for ((sector, before), iv) in sectors.zip(ivs.as_chunks::<BLOCK>().0) {
                    let chain = iv.iter().chain(before);
                    for (byte, mask) in sector.iter_mut().zip(chain) {
                        *byte ^= mask;
                    }
                }
            }
            Mode::Xts(tweaks) => {
                tweaks.encrypt(&mut ivs);
                let mut masks = Vec::with_capacity(bytes.len());
                for iv in ivs.as_chunks::<BLOCK>().0 {
                    // IEEE 1619: multiplied by two in GF(2^128) from block to block.
                    let mut tweak = u128::from_le_bytes(*iv);
                    for _ in 0..size / BLOCK {
                        masks.extend_from_slice(&tweak.to_le_bytes());
                        let carry = tweak >> 127;
                        tweak = tweak << 1 ^ carry.wrapping_mul(0x87);
                    }
                }
                mask(bytes, &masks);
                self.blocks.decrypt(bytes);
                mask(bytes, &masks);
            }
        }
    }

    /// The initial vector of a sector before it is encrypted.
    fn plain_iv(&self, number: u64) -> [u8; BLOCK] {
        let wide = |number: u64| u128::from(number).to_le_bytes();
        match self.iv {
            Iv::Null => [0; BLOCK],
            Iv::Plain => wide(number & 0xffff_ffff),
            Iv::Plain64 | Iv::Essiv(_) => wide(number),
            Iv::Plain64Be => u128::from(number).to_be_bytes(),
            // Blocks of 16 bytes in sectors of 512.
            Iv::Benbi => u128::from((number << 5).wrapping_add(1)).to_be_bytes(),
        }
    }
}

/// The exclusive or of `bytes` and `masks`.
fn mask(bytes: &mut [u8], masks: &[u8]) {
    let words = bytes.as_chunks_mut::<BLOCK>().0;
    for (word, mask) in words.iter_mut().zip(masks.as_chunks::<BLOCK>().0) {
        *word = (u128::from_ne_bytes(*word) ^ u128::from_ne_bytes(*mask)).to_ne_bytes();
    }
}
