//! LUKS1 and LUKS2: bytes encrypted with a key that passphrases and key files unlock.

mod header;
mod header1;
mod header2;
mod slot;

use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Digest, Error, Result, Source, window};
use zeroize::Zeroizing;

use crate::decrypted::Decrypted;
use crate::keys::Unlocking;
use crate::{Budget, Keys, SectorCipher, Sectors};
use header::{Header, Segment};

/// One key is derived at a time, whoever asks, since each may take gigabytes of memory.
static DERIVING: Mutex<()> = Mutex::new(());

/// A header of LUKS, validated.
pub struct Luks(Header);

/// The key of what a header describes; wiped from memory with its last clone.
#[derive(Clone)]
pub struct LuksKey(Arc<Zeroizing<Vec<u8>>>);

impl Luks {
    /// The header at the beginning of `source`, or of LUKS2 the second copy of it, if `source` is encrypted with LUKS.
    ///
    /// # Errors
    /// `Corrupt` for a broken one, `Unsupported` for what is not known, by name.
    pub fn find(source: &dyn Source) -> Result<Option<Self>> {
        Ok(Header::find(source)?.map(Self))
    }

    /// `LUKS1` or `LUKS2`.
    #[must_use]
    pub fn version(&self) -> &'static str {
        self.0.version
    }

    /// Its UUID as text; control characters are spelled out.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.0.uuid
    }

    /// What is odd about it and hides nothing.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        self.0.note.as_deref()
    }

    /// The key that one of `keys` unlocks. `source` is what the header was found in.
    ///
    /// # Errors
    /// `Unsupported` when none of them does; `Limit`, `Corrupt` and `Unsupported` by name for slots that cannot be tried.
    pub fn unlock(&self, source: &dyn Source, keys: &Keys, budget: &mut Budget) -> Result<LuksKey> {
        let refusal = || keys.refusal(self.0.version);
        if keys.is_empty() {
            return Err(refusal());
        }
        let known = Digest::of(&self.0.bytes);
        let _one = DERIVING.lock().unwrap_or_else(PoisonError::into_inner);
        match keys.recall(known) {
            Some(Unlocking::Key(key)) => return Ok(LuksKey(key)),
            Some(Unlocking::WrongKeys) => return Err(refusal()),
            None => {}
        }
        let mut failure = None;
        for passphrase in keys.candidates() {
            for slot in &self.0.slots {
                let opened = match slot {
                    Ok(slot) => slot
                        .open(source, passphrase, budget)
                        .and_then(|key| Ok(self.0.digest.tells(&key, budget)?.then_some(key))),
                    Err(error) => Err(Error::new(error.kind(), error.with_causes())),
                };
                match opened {
                    Ok(Some(key)) => {
                        let key = Arc::new(key);
                        keys.remember(known, Unlocking::Key(key.clone()));
                        return Ok(LuksKey(key));
                    }
                    Ok(None) => {}
                    // Another slot may be sound.
                    Err(error) => failure = Some(error),
                }
            }
        }
        match failure {
            Some(error) => Err(Error::new(
                error.kind(),
                format!(
                    "it is encrypted with {}, and a key slot cannot be tried",
                    self.0.version
                ),
            )
            .because(error)),
            None => {
                keys.remember(known, Unlocking::WrongKeys);
                Err(refusal())
            }
        }
    }

    /// The decrypted parts of the volume `source`, one after another.
    ///
    /// # Errors
    /// `Corrupt` for parts that do not lie within it, `Unsupported` for detached headers and unknown ciphers.
    pub fn parts(&self, source: &Arc<dyn Source>, key: &LuksKey) -> Result<Vec<Arc<dyn Source>>> {
        let parts = self.0.segments.iter();
        parts.map(|segment| part(source, segment, &key.0)).collect()
    }

    /// What decrypts sectors of 512 bytes that a container with this header keeps wherever it likes, as qcow2 does; where
    /// the header says that they begin is of no account there.
    ///
    /// # Errors
    /// `Unsupported` for LUKS2, which no such container has, and for unknown ciphers.
    pub fn container_cipher(&self, key: &LuksKey) -> Result<SectorCipher> {
        match self.0.segments.as_slice() {
            [
                Segment::Encrypted {
                    cipher,
                    sector: 512,
                    first: 0,
                    ..
                },
            ] if self.0.version == "LUKS1" => SectorCipher::new(cipher, &key.0),
            _ => Err(Error::unsupported(format!(
                "it is encrypted with {}, of which a disk image knows only LUKS1",
                self.0.version
            ))),
        }
    }
}

/// The decrypted bytes of a segment.
fn part(source: &Arc<dyn Source>, segment: &Segment, key: &[u8]) -> Result<Arc<dyn Source>> {
    let (Segment::Encrypted { offset, len, .. } | Segment::Plain { offset, len }) = segment;
    if *offset == 0 {
        return Err(Error::unsupported(
            "it is a detached LUKS header, whose data is on another device",
        ));
    }
    let there = source.len().saturating_sub(*offset);
    if there == 0 {
        return Err(Error::corrupt("its encrypted data lies beyond its end"));
    }
    let below = window(source.clone(), *offset, len.unwrap_or(there))?;
    Ok(match segment {
        Segment::Encrypted {
            cipher,
            sector,
            first,
            ..
        } => {
            let cipher = SectorCipher::new(cipher, key)?;
            let sectors = Sectors::new(*sector, *first)?;
            Arc::new(Decrypted::new(Arc::new(below), cipher, sectors))
        }
        Segment::Plain { .. } => Arc::new(below),
    })
}
