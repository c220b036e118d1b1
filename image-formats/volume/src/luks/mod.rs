//! LUKS1 and LUKS2: volumes encrypted with a key that passphrases and key files unlock.

mod cipher;
mod hash;
mod header;
mod header1;
mod header2;
mod kdf;
mod slot;
mod source;

use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Digest, Error, Gap, Result, Source, window};
use zeroize::Zeroizing;

use crate::joined::join;
use crate::keys::Unlocking;
use crate::{Found, Keys, Note, Placement, Volume, VolumeSystem};
use cipher::SectorCipher;
use header::{Header, Segment};
use kdf::{Budget, Kdf};
use source::Decrypted;

/// The volume system.
pub(crate) struct Luks;

/// One key is derived at a time, whoever asks, since each may take gigabytes of memory.
static DERIVING: Mutex<()> = Mutex::new(());

/// A digest of `bytes` that takes 64 MiB and three passes of Argon2id to make.
pub(crate) fn slow_digest(bytes: &[u8]) -> Result<Digest> {
    let kdf = Kdf::Argon2 {
        algorithm: argon2::Algorithm::Argon2id,
        iterations: 3,
        memory: 64 << 10,
        lanes: 1,
    };
    let derived = kdf.derive(bytes, b"dormouse/keys/v1", 32, &mut Budget::default())?;
    Ok(Digest::of(&*derived))
}

impl VolumeSystem for Luks {
    fn name(&self) -> &'static str {
        "luks"
    }

    fn find(&self, candidates: &[Volume], keys: &Keys) -> Found {
        let mut found = Found::default();
        let mut budget = Budget::default();
        for (position, volume) in candidates.iter().enumerate() {
            let header = match Header::find(&*volume.source) {
                Ok(None) => continue,
                Ok(Some(header)) => Ok(header),
                Err(error) => Err(error),
            };
            found.claimed.push(position);
            match header.and_then(|header| open(volume, header, keys, &mut budget, &mut found)) {
                Ok(opened) => found.volumes.push(opened),
                Err(error) => {
                    found.gaps.push(Gap::from_error(&error, &volume.locator()));
                    found.volumes.push(volume.settled());
                }
            }
        }
        found
    }
}

/// The volume inside of `volume`.
fn open(
    volume: &Volume,
    header: Header,
    keys: &Keys,
    budget: &mut Budget,
    found: &mut Found,
) -> Result<Volume> {
    let encrypted = |why: String| {
        Error::unsupported(format!(
            "it is encrypted with {}, and {why}",
            header.version
        ))
    };
    let key = match unlock(&*volume.source, &header, keys, budget)? {
        Some(key) => key,
        None if keys.is_empty() => return Err(encrypted("no key was given".to_owned())),
        None if keys.len() == 1 => {
            return Err(encrypted(
                "the key that was given does not open it".to_owned(),
            ));
        }
        None => {
            return Err(encrypted(format!(
                "none of the {} keys opens it",
                keys.len()
            )));
        }
    };
    let parts = header
        .segments
        .iter()
        .map(|segment| part(volume, segment, &key))
        .collect::<Result<Vec<_>>>()?;
    found.notes.extend(header.note.map(|what| Note {
        at: volume.locator(),
        what,
    }));
    let mut inside = Volume::made(
        "luks",
        format!("{}/luks", volume.info.name),
        volume,
        join(parts)?,
        Placement::Bound("it is encrypted".to_owned()),
    );
    inside.info.layout = Some(header.version.to_owned());
    inside.info.device_names = vec![format!("/dev/mapper/luks-{}", header.uuid)];
    inside.sector_size = volume.sector_size;
    Ok(inside)
}

/// The volume's key, if one of `keys` unlocks it.
fn unlock(
    source: &dyn Source,
    header: &Header,
    keys: &Keys,
    budget: &mut Budget,
) -> Result<Option<Arc<Zeroizing<Vec<u8>>>>> {
    if keys.is_empty() {
        return Ok(None);
    }
    let known = Digest::of(&header.bytes);
    let _one = DERIVING.lock().unwrap_or_else(PoisonError::into_inner);
    match keys.recall(known) {
        Some(Unlocking::Key(key)) => return Ok(Some(key)),
        Some(Unlocking::WrongKeys) => return Ok(None),
        None => {}
    }
    let mut failure = None;
    for passphrase in keys.candidates() {
        for slot in &header.slots {
            let opened = match slot {
                Ok(slot) => slot
                    .open(source, passphrase, budget)
                    .and_then(|key| Ok(header.digest.tells(&key, budget)?.then_some(key))),
                Err(error) => Err(Error::new(error.kind(), error.with_causes())),
            };
            match opened {
                Ok(Some(key)) => {
                    let key = Arc::new(key);
                    keys.remember(known, Unlocking::Key(key.clone()));
                    return Ok(Some(key));
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
                header.version
            ),
        )
        .because(error)),
        None => {
            keys.remember(known, Unlocking::WrongKeys);
            Ok(None)
        }
    }
}

/// The decrypted bytes of a segment.
fn part(volume: &Volume, segment: &Segment, key: &[u8]) -> Result<Arc<dyn Source>> {
    let (Segment::Encrypted { offset, len, .. } | Segment::Plain { offset, len }) = segment;
    if *offset == 0 {
        return Err(Error::unsupported(
            "it is a detached LUKS header, whose data is on another device",
        ));
    }
    let there = volume.source.len().saturating_sub(*offset);
    if there == 0 {
        return Err(Error::corrupt("its encrypted data lies beyond its end"));
    }
    let below = window(volume.source.clone(), *offset, len.unwrap_or(there))?;
    Ok(match segment {
        Segment::Encrypted {
            cipher,
            sector,
            first,
            ..
        } => {
            let cipher = SectorCipher::new(cipher, key)?;
            Arc::new(Decrypted::new(Arc::new(below), cipher, *sector, *first)?)
        }
        Segment::Plain { .. } => Arc::new(below),
    })
}
