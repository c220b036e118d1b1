//! The keys that a user trusts.

use std::path::Path;

use dormouse_block::{Error, HostFile, Result, Source as _, read_vec_at};
use pgp::composed::{Deserializable as _, SignedPublicKey};
use pgp::types::KeyDetails as _;

/// Largest keyring file read, in bytes. Debian's has about 60 KiB.
const MAX_KEYRING: u64 = 16 << 20;
/// Certificates of one keyring. Every signature is held against each that its issuer names.
const MAX_CERTIFICATES: usize = 10_000;
/// What an armored key begins with.
const ARMOR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// A set of OpenPGP certificates, from binary (`.gpg`) or armored (`.asc`) files.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    certificates: Vec<SignedPublicKey>,
}

impl Keyring {
    /// Reads a keyring file.
    ///
    /// # Errors
    /// The host's, `Limit` for a file of more than 16 MiB, otherwise as [`Keyring::parse`].
    pub fn read(path: &Path) -> Result<Self> {
        let file = HostFile::open(path)?;
        if file.len() > MAX_KEYRING {
            return Err(Error::limit("a keyring of more than 16 MiB").in_file(path.display()));
        }
        let len = usize::try_from(file.len()).map_err(|_| Error::limit("a keyring too large"))?;
        let bytes = read_vec_at(&file, 0, len)?;
        Self::parse(&bytes).map_err(|error| error.in_file(path.display()))
    }

    /// Reads the bytes of a keyring: OpenPGP packets, or one or several armored blocks.
    ///
    /// # Errors
    /// `Corrupt` when there is no key in it or one does not read, `Unsupported` for GnuPG's keybox format.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let bad =
            |error: pgp::errors::Error| Error::corrupt("cannot read the keyring").because(error);
        // GnuPG's keybox: a first blob of type 1, and this word at byte 8.
        if bytes.get(8..12) == Some(b"KBXf") {
            return Err(Error::unsupported(
                "a keybox file; export its keys with gpg --export first",
            ));
        }
        let mut keyring = Self::default();
        // Binary packets begin with a byte whose highest bit is set; text does not.
        if bytes.first().is_some_and(|&first| first & 0x80 != 0) {
            for key in SignedPublicKey::from_bytes_many(bytes).map_err(bad)? {
                keyring.push(key.map_err(bad)?)?;
            }
        } else {
            let text = std::str::from_utf8(bytes)
                .map_err(|error| Error::corrupt("cannot read the keyring").because(error))?;
            for block in text.split(ARMOR).skip(1) {
                let block = format!("{ARMOR}{block}");
                let (keys, _) = SignedPublicKey::from_armor_many(block.as_bytes()).map_err(bad)?;
                for key in keys {
                    keyring.push(key.map_err(bad)?)?;
                }
            }
        }
        if keyring.certificates.is_empty() {
            return Err(Error::corrupt("no OpenPGP public key in it"));
        }
        Ok(keyring)
    }

    fn push(&mut self, key: SignedPublicKey) -> Result<()> {
        if self.certificates.len() >= MAX_CERTIFICATES {
            return Err(Error::limit("more than 10000 keys in one keyring"));
        }
        self.certificates.push(key);
        Ok(())
    }

    /// Adds the keys of another keyring.
    pub fn extend(&mut self, other: Self) {
        self.certificates.extend(other.certificates);
    }

    /// Whether there is no key in it; nothing verifies then.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// The fingerprints of its primary keys, as upper-case hexadecimal digits, sorted.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<String> {
        let mut all: Vec<_> = self
            .certificates
            .iter()
            .map(|key| format!("{:X}", key.primary_key.fingerprint()))
            .collect();
        all.sort();
        all.dedup();
        all
    }

    pub(super) fn certificates(&self) -> &[SignedPublicKey] {
        &self.certificates
    }
}
