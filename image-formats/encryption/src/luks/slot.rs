//! Key slots: a volume's key, blown up and encrypted with what a passphrase gives.

use dormouse_block::{Error, Result, Source, read_vec_at};
use zeroize::Zeroizing;

use crate::cipher::SectorCipher;
use crate::hash::Hash;
use crate::kdf::{Budget, Kdf};

/// Bytes of a key: 64 is what AES-256 in XTS takes.
pub(super) const MAX_KEY: usize = 128;
/// Stripes into which a key is split: everybody has 4000.
const MAX_STRIPES: usize = 16_000;

/// A key slot.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) kdf: Kdf,
    pub(super) salt: Vec<u8>,
    /// Bytes of the volume's key.
    pub(super) key_len: usize,
    /// The cipher of the key's stripes, and the bytes of its own key.
    pub(super) cipher: String,
    pub(super) cipher_key_len: usize,
    /// Where the stripes are.
    pub(super) offset: u64,
    pub(super) stripes: usize,
    pub(super) hash: Hash,
}

/// What tells the right key of a volume.
#[derive(Debug, Clone)]
pub(super) struct KeyDigest {
    pub(super) hash: Hash,
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) digest: Vec<u8>,
}

impl Slot {
    /// The key that `passphrase` takes out of the slot, right or wrong.
    ///
    /// # Errors
    /// `Limit`, `Corrupt` and `Unsupported` by name.
    pub(super) fn open(
        &self,
        source: &dyn Source,
        passphrase: &[u8],
        budget: &mut Budget,
    ) -> Result<Zeroizing<Vec<u8>>> {
        if !(1..=MAX_KEY).contains(&self.key_len) || !(1..=MAX_KEY).contains(&self.cipher_key_len) {
            return Err(Error::corrupt("a key slot has a key of impossible size"));
        }
        if !(1..=MAX_STRIPES).contains(&self.stripes) {
            return Err(Error::limit(format!(
                "a key in {} stripes; {MAX_STRIPES} are allowed",
                self.stripes
            )));
        }
        let size = self.key_len.saturating_mul(self.stripes);
        let mut material = Zeroizing::new(read_vec_at(
            source,
            self.offset,
            size.next_multiple_of(512),
        )?);
        let key = self
            .kdf
            .derive(passphrase, &self.salt, self.cipher_key_len, budget)?;
        SectorCipher::new(&self.cipher, &key)?.decrypt(0, 512, &mut material);
        let stripes = material.get(..size).unwrap_or_default();
        Ok(merge(stripes, self.key_len, self.hash))
    }
}

/// Puts a split key together (LUKS1 on-disk format, "AFmerge").
fn merge(stripes: &[u8], len: usize, hash: Hash) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(vec![0; len]);
    let count = stripes.len().checked_div(len).unwrap_or(0);
    for (stripe, number) in stripes.chunks_exact(len).zip(1..) {
        for (byte, other) in key.iter_mut().zip(stripe) {
            *byte ^= other;
        }
        if number < count {
            for (block, number) in key.chunks_mut(hash.len()).zip(0_u32..) {
                let diffused = Zeroizing::new(hash.of(&[&number.to_be_bytes(), block]));
                for (byte, other) in block.iter_mut().zip(diffused.iter()) {
                    *byte = *other;
                }
            }
        }
    }
    key
}

impl KeyDigest {
    /// Whether `key` is the volume's.
    ///
    /// # Errors
    /// `Limit` when that would take too long.
    pub(super) fn tells(&self, key: &[u8], budget: &mut Budget) -> Result<bool> {
        if !(1..=MAX_KEY).contains(&self.digest.len()) {
            return Err(Error::corrupt("a digest of impossible size"));
        }
        let kdf = Kdf::Pbkdf2 {
            hash: self.hash,
            iterations: self.iterations,
        };
        let derived = kdf.derive(key, &self.salt, self.digest.len(), budget)?;
        Ok(*derived == self.digest)
    }
}
