//! Keys of encrypted volumes and disk images, and what they have unlocked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use dormouse_block::{Digest, Error, Result};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::kdf::slow_digest;

/// Bytes of a key file: `cryptsetup` takes no more than 8 MiB (`DEFAULT_KEYFILE_SIZE_MAXKB`).
const MAX_KEY: usize = 8 << 20;
/// Keys for one library.
const MAX_KEYS: usize = 64;

/// Keys that may unlock encrypted volumes and disk images: the bytes of key files and passphrases.
///
/// What a key has unlocked is remembered as long as the value lives, clones included, since unlocking is meant to be
/// slow. Nothing prints, compares or stores a key, and all are wiped from memory with the last clone.
#[derive(Clone, Default)]
pub struct Keys(Arc<Inner>);

#[derive(Default)]
struct Inner {
    keys: Vec<Zeroizing<Vec<u8>>>,
    /// What keys have unlocked, by the digest of the header and its key material.
    unlocked: Mutex<BTreeMap<Digest, Unlocking>>,
    fingerprint: OnceLock<Digest>,
}

/// What came of trying all keys on a volume.
#[derive(Clone)]
pub(crate) enum Unlocking {
    /// The key of the volume's data.
    Key(Arc<Zeroizing<Vec<u8>>>),
    /// None of the keys is one of the volume's.
    WrongKeys,
}

impl Keys {
    /// Keys from the bytes of key files. A file that ends in a newline is also tried without it, since a passphrase
    /// written with an editor has one.
    ///
    /// # Errors
    /// `Limit` for more than 64 keys and keys of more than 8 MiB.
    pub fn new(files: impl IntoIterator<Item = Vec<u8>>) -> Result<Self> {
        let mut keys = Vec::new();
        for file in files {
            let file = Zeroizing::new(file);
            if file.len() > MAX_KEY {
                return Err(Error::limit(format!("a key of more than {MAX_KEY} bytes")));
            }
            if keys.len() >= MAX_KEYS {
                return Err(Error::limit(format!("more than {MAX_KEYS} keys")));
            }
            keys.push(file);
        }
        Ok(Self(Arc::new(Inner {
            keys,
            ..Inner::default()
        })))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.keys.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.keys.is_empty()
    }

    /// What tells these keys from others, and `None` without any. It is derived as slowly as a volume's key is, so that
    /// whoever finds it does not guess passphrases by it more easily than by the volume itself.
    ///
    /// # Errors
    /// `Limit` when there is no memory for that.
    pub fn fingerprint(&self) -> Result<Option<Digest>> {
        if self.is_empty() {
            return Ok(None);
        }
        if let Some(known) = self.0.fingerprint.get() {
            return Ok(Some(*known));
        }
        // Digests of one size each, so that no two lists of keys look the same.
        let mut all = Zeroizing::new(Vec::new());
        for key in &self.0.keys {
            all.extend_from_slice(&Sha256::digest(key.as_slice()));
        }
        let derived = slow_digest(&all)?;
        Ok(Some(*self.0.fingerprint.get_or_init(|| derived)))
    }

    /// Everything to try, in order: each file whole, then without the newline at its end.
    pub fn candidates(&self) -> impl Iterator<Item = &[u8]> {
        self.0.keys.iter().flat_map(|key| {
            let whole: &[u8] = key;
            std::iter::once(whole).chain(whole.strip_suffix(b"\n"))
        })
    }

    /// Says that something encrypted with `how` stays closed, for which reason.
    #[must_use]
    pub fn refusal(&self, how: &str) -> Error {
        let why = match self.len() {
            0 => "no key was given".to_owned(),
            1 => "the key that was given does not open it".to_owned(),
            keys => format!("none of the {keys} keys opens it"),
        };
        Error::unsupported(format!("it is encrypted with {how}, and {why}"))
    }

    /// What came of the volume whose header has this digest, if it was met before.
    pub(crate) fn recall(&self, header: Digest) -> Option<Unlocking> {
        let unlocked = self.0.unlocked.lock();
        let unlocked = unlocked.unwrap_or_else(PoisonError::into_inner);
        unlocked.get(&header).cloned()
    }

    /// Remembers what came of it.
    pub(crate) fn remember(&self, header: Digest, what: Unlocking) {
        let unlocked = self.0.unlocked.lock();
        let mut unlocked = unlocked.unwrap_or_else(PoisonError::into_inner);
        unlocked.insert(header, what);
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.len())
    }
}
