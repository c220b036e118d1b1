//! Ciphers of sectors, as dm-crypt names and numbers them. Many blocks are decrypted at once, which is several times as
//! fast as one after another where the host has instructions for it.

use aes::{Aes128, Aes192, Aes256};
use cipher::inout::InOutBuf;
use cipher::{BlockDecrypt, BlockEncrypt, KeyInit};
use dormouse_block::{Error, Result, array_at};
use serpent::Serpent;
use twofish::Twofish;

use crate::hash::Hash;

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
            C::new_from_slice(key)
                .map(Box::new)
                .map_err(|_| Error::corrupt(format!("{name} takes no key of {} bytes", key.len())))
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
    /// With the multiples of its tweak key by 2^(n+1) - 1.
    Lrw(Box<[u128; 128]>),
}

/// What decrypts sectors.
pub struct SectorCipher {
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
    pub fn new(spec: &str, key: &[u8]) -> Result<Self> {
        let mut parts = spec.splitn(3, '-');
        let name = parts.next().unwrap_or_default();
        let mode = parts.next().unwrap_or("cbc");
        // "cbc-plain if nothing is said" (dm-crypt.c, crypt_ctr_cipher_old).
        let iv = parts
            .next()
            .unwrap_or(if mode == "ecb" { "null" } else { "plain" });
        let whole = key;
        let split = match mode {
            "xts" => key.len() / 2,
            "lrw" => key.len().saturating_sub(BLOCK),
            _ => key.len(),
        };
        let (key, tweak) = key.split_at_checked(split).unwrap_or((key, &[]));
        let mode = match mode {
            "ecb" => Mode::Ecb,
            "cbc" => Mode::Cbc,
            "xts" => Mode::Xts(Blocks::new(name, tweak)?),
            "lrw" => Mode::Lrw(multiples(u128::from_be_bytes(array_at(tweak, 0)?))),
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
                // The kernel's name for the first half of a Whirlpool digest.
                let (hash, len) = match hash {
                    "wp256" => (Hash::Whirlpool, 32),
                    _ => (Hash::parse(hash)?, BLOCK.saturating_mul(4)),
                };
                let mut salt = hash.of(&[whole]);
                salt.truncate(len);
                Iv::Essiv(Blocks::new(name, &salt)?)
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
    pub fn decrypt(&self, first: u64, size: usize, bytes: &mut [u8]) {
        let units = u64::try_from(size / 512).unwrap_or(1);
        let numbers = (0..bytes.len().div_ceil(size)).scan(first, |number, _| {
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
                        tweak = doubled(tweak);
                    }
                }
                self.decrypt_between(bytes, &masks);
            }
            Mode::Lrw(multiples) => {
                let mut masks = Vec::with_capacity(bytes.len());
                for iv in ivs.as_chunks::<BLOCK>().0 {
                    // Block by block the tweak key is multiplied by the block's number, of which an increment
                    // changes the low bits up to the first that is not set.
                    let mut number = u128::from_be_bytes(*iv);
                    let mut tweak = multiplied(multiples, number);
                    for _ in 0..size / BLOCK {
                        masks.extend_from_slice(&tweak.to_be_bytes());
                        let changed = usize::try_from(number.trailing_ones()).unwrap_or(0);
                        tweak ^= multiples.get(changed).copied().unwrap_or_default();
                        number = number.wrapping_add(1);
                    }
                }
                self.decrypt_between(bytes, &masks);
            }
        }
    }

    /// Decrypts `bytes` with `masks` before and after.
    fn decrypt_between(&self, bytes: &mut [u8], masks: &[u8]) {
        mask(bytes, masks);
        self.blocks.decrypt(bytes);
        mask(bytes, masks);
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

/// Twice `value` in GF(2^128), of which the polynomial is x^128 + x^7 + x^2 + x + 1.
fn doubled(value: u128) -> u128 {
    value << 1 ^ (value >> 127).wrapping_mul(0x87)
}

/// `key` times 2^(n+1) - 1 for each n: the exclusive or of its first multiples by powers of two.
fn multiples(key: u128) -> Box<[u128; 128]> {
    let mut power = key;
    let mut sum = 0;
    let mut multiples = Box::new([0; 128]);
    for multiple in multiples.iter_mut() {
        sum ^= power;
        *multiple = sum;
        power = doubled(power);
    }
    multiples
}

/// The key of `multiples` times `number`.
fn multiplied(multiples: &[u128; 128], number: u128) -> u128 {
    let mut product = 0;
    let mut before = 0;
    for (bit, multiple) in multiples.iter().enumerate() {
        if number >> bit & 1 == 1 {
            product ^= multiple ^ before;
        }
        before = *multiple;
    }
    product
}

/// The exclusive or of `bytes` and `masks`.
fn mask(bytes: &mut [u8], masks: &[u8]) {
    let words = bytes.as_chunks_mut::<BLOCK>().0;
    for (word, mask) in words.iter_mut().zip(masks.as_chunks::<BLOCK>().0) {
        *word = (u128::from_ne_bytes(*word) ^ u128::from_ne_bytes(*mask)).to_ne_bytes();
    }
}
