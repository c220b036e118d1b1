//! Ed25519 keys, kept in the PEM forms that every other tool reads.

use dormouse_block::{Digest, Error, Result};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{Signer as _, Verifier as _};

use crate::Signer;

/// Longest signature or key text that is read, in bytes.
const MAX_KEY_TEXT: usize = 16 << 10;

/// A private signing key. Its memory is wiped when it goes.
pub struct SigningKey(ed25519_dalek::SigningKey);

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

impl SigningKey {
    /// The key that 32 random bytes stand for.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// Reads a PKCS#8 PEM (`-----BEGIN PRIVATE KEY-----`), as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// `Corrupt` for anything else.
    pub fn from_pem(pem: &str) -> Result<Self> {
        bounded(pem)?;
        ed25519_dalek::SigningKey::from_pkcs8_pem(pem.trim())
            .map(Self)
            .map_err(|error| {
                Error::corrupt("not an Ed25519 private key in PKCS#8 PEM").because(error)
            })
    }

    /// The key as PKCS#8 PEM.
    ///
    /// # Errors
    /// Never for a sound key.
    pub fn to_pem(&self) -> Result<String> {
        self.0
            .to_pkcs8_pem(LineEnding::LF)
            .map(|pem| pem.to_string())
            .map_err(|error| Error::corrupt("cannot write the key as PEM").because(error))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }
}

impl Signer for SigningKey {
    fn key_id(&self) -> String {
        self.public().key_id()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        Ok(self.0.sign(message).to_bytes().to_vec())
    }
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo PEM (`-----BEGIN PUBLIC KEY-----`).
    ///
    /// # Errors
    /// `Corrupt` for anything else.
    pub fn from_pem(pem: &str) -> Result<Self> {
        bounded(pem)?;
        ed25519_dalek::VerifyingKey::from_public_key_pem(pem.trim())
            .map(Self)
            .map_err(|error| Error::corrupt("not an Ed25519 public key in PEM").because(error))
    }

    /// The key as SubjectPublicKeyInfo PEM.
    ///
    /// # Errors
    /// Never for a sound key.
    pub fn to_pem(&self) -> Result<String> {
        self.0
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| Error::corrupt("cannot write the key as PEM").because(error))
    }

    /// SHA-256 of the key's SubjectPublicKeyInfo in DER, in hexadecimal: a hint for finding keys, never a reason for
    /// trust.
    #[must_use]
    pub fn key_id(&self) -> String {
        self.0
            .to_public_key_der()
            .map_or_else(|_| String::new(), |der| Digest::of(der.as_bytes()).hex())
    }

    /// Whether `signature` over `message` was made with this key. Weak keys and malleable signatures do not pass.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else {
            return false;
        };
        !self.0.is_weak()
            && self.0.verify(message, &signature).is_ok()
            && self.0.verify_strict(message, &signature).is_ok()
    }
}

fn bounded(pem: &str) -> Result<()> {
    if pem.len() > MAX_KEY_TEXT {
        return Err(Error::limit("a key file of more than 16 KiB"));
    }
    Ok(())
}
