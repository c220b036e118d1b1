//! Keys from passphrases, slow by design, within bounds: a header that nobody trusts says how slow.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use dormouse_block::{Digest, Error, Result};
use zeroize::{Zeroize, Zeroizing};

use crate::hash::Hash;

/// `LUKS2_MAX_MEM`-like bound of cryptsetup's library (`pbkdf_limits`): 4 GiB, in KiB.
const MAX_MEMORY: u32 = 4 << 20;
/// cryptsetup's bound on threads.
const MAX_LANES: u32 = 4;
/// Bytes that one derivation may work through; some minutes. cryptsetup has no bound of its own here, and takes two
/// seconds unless told otherwise: about 4 GiB.
const MAX_WORK: u64 = 128 << 30;
/// Bytes that all derivations for the volumes of one machine may work through.
const MAX_TOTAL: u64 = 512 << 30;

/// Work that is left for deriving the keys of one machine's volumes, or of one disk's images.
pub struct Budget(u64);

impl Default for Budget {
    fn default() -> Self {
        Self(MAX_TOTAL)
    }
}

impl Budget {
    /// Takes `work` bytes of it.
    fn spend(&mut self, work: u64) -> Result<()> {
        if work > MAX_WORK {
            return Err(Error::limit(format!(
                "deriving its key would take more than the {} GiB of work allowed",
                MAX_WORK >> 30
            )));
        }
        self.0 = self.0.checked_sub(work).ok_or_else(|| {
            Error::limit(format!(
                "deriving keys took the {} GiB of work allowed for one machine",
                MAX_TOTAL >> 30
            ))
        })?;
        Ok(())
    }
}

/// How a key is derived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kdf {
    /// PBKDF2.
    Pbkdf2 { hash: Hash, iterations: u32 },
    /// Argon2i or Argon2id (RFC 9106).
    Argon2 {
        algorithm: Algorithm,
        iterations: u32,
        /// KiB.
        memory: u32,
        lanes: u32,
    },
}

impl Kdf {
    /// Derives `len` bytes from `passphrase`.
    ///
    /// # Errors
    /// `Limit` for one that is too costly, `Corrupt` for impossible parameters.
    pub(crate) fn derive(
        &self,
        passphrase: &[u8],
        salt: &[u8],
        len: usize,
        budget: &mut Budget,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let mut out = Zeroizing::new(vec![0; len]);
        match *self {
            Self::Pbkdf2 { hash, iterations } => {
                if iterations == 0 {
                    return Err(Error::corrupt("a key derived by no iteration"));
                }
                // Each iteration compresses two blocks for each digest of output.
                let digests = len.div_ceil(hash.len());
                let work = u64::try_from(digests)
                    .unwrap_or(u64::MAX)
                    .saturating_mul(u64::from(iterations))
                    .saturating_mul(128);
                budget.spend(work)?;
                hash.pbkdf2(passphrase, salt, iterations, &mut out);
            }
            Self::Argon2 {
                algorithm,
                iterations,
                memory,
                lanes,
            } => {
                if memory > MAX_MEMORY || lanes > MAX_LANES {
                    return Err(Error::limit(format!(
                        "its key takes {memory} KiB of memory and {lanes} threads to derive; {MAX_MEMORY} and {MAX_LANES} are allowed"
                    )));
                }
                budget.spend(
                    u64::from(memory)
                        .saturating_mul(1024)
                        .saturating_mul(u64::from(iterations)),
                )?;
                let wrong = |error: argon2::Error| {
                    Error::corrupt(format!("a key cannot be derived so: {error}"))
                };
                let params = Params::new(memory, iterations, lanes, Some(len)).map_err(wrong)?;
                let mut blocks: Vec<Block> = Vec::new();
                blocks
                    .try_reserve_exact(params.block_count())
                    .map_err(|_| Error::limit(format!("there are no {memory} KiB of memory")))?;
                blocks.resize(params.block_count(), Block::default());
                let derived = Argon2::new(algorithm, Version::V0x13, params)
                    .hash_password_into_with_memory(passphrase, salt, &mut out, &mut blocks);
                for block in &mut blocks {
                    block.zeroize();
                }
                derived.map_err(wrong)?;
            }
        }
        Ok(out)
    }
}

/// A digest of `bytes` that takes 64 MiB and three passes of Argon2id to make.
pub(crate) fn slow_digest(bytes: &[u8]) -> Result<Digest> {
    let kdf = Kdf::Argon2 {
        algorithm: Algorithm::Argon2id,
        iterations: 3,
        memory: 64 << 10,
        lanes: 1,
    };
    let derived = kdf.derive(bytes, b"dormouse/keys/v1", 32, &mut Budget::default())?;
    Ok(Digest::of(&*derived))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bombs_are_refused_before_they_go_off() {
        let argon = |iterations, memory, lanes| Kdf::Argon2 {
            algorithm: Algorithm::Argon2id,
            iterations,
            memory,
            lanes,
        };
        for bomb in [
            argon(4, u32::MAX, 4),
            argon(u32::MAX, 1 << 20, 4),
            argon(4, 1 << 16, u32::MAX),
            Kdf::Pbkdf2 {
                hash: Hash::Sha512,
                iterations: u32::MAX,
            },
        ] {
            let refused = bomb.derive(b"key", &[0; 32], 64, &mut Budget::default());
            assert_eq!(
                refused.unwrap_err().kind(),
                dormouse_block::ErrorKind::Limit,
                "{bomb:?}"
            );
        }
        // Many that are allowed each are not allowed together.
        let mut budget = Budget(1 << 20);
        let small = Kdf::Pbkdf2 {
            hash: Hash::Sha256,
            iterations: 1000,
        };
        let passed =
            (0..100).take_while(|_| small.derive(b"key", b"salt", 32, &mut budget).is_ok());
        assert_eq!(passed.count(), 8);
    }
}
