//! Images whose data are encrypted: what decrypts them, once a key is there.
//!
//! Tables and headers never are, nor are compressed clusters, which QEMU writes into such an image as they are. So everything
//! about it but its bytes is known without a key.

use std::sync::Arc;

use dormouse_block::{Error, Result, Source, window};
use dormouse_encryption::{Budget, Keys, Luks, SectorCipher, Sectors};

use crate::mapped::{HostOffset, Locate, Mapping};

/// What qcow's first encryption is called: AES with 128 bits in CBC mode, with a key that is the password itself.
pub(crate) const LEGACY: &str = "AES";
/// Bytes of its key. A longer password ends here, a shorter one goes on with zeroes.
const LEGACY_KEY: usize = 16;
/// Places of a disk at which a key is tried, bytes of each, and look-ups of the map to find data from one on.
const PLACES: u64 = 64;
const SAMPLE: u64 = 4 << 10;
const SAMPLE_LOOKUPS: usize = 256;
/// Of 512 random bytes about 221 are different, give or take 5. What anybody keeps on a disk has sectors with far fewer, and
/// noise has none with so few: the chance is below 2^-100.
const DISTINCT: usize = 160;

/// What a key gives, or why none does. It is asked for when a point is opened, since the chain and the points of an image can
/// be read without.
pub(crate) struct Sealed<T>(Result<T>);

impl<T> From<T> for Sealed<T> {
    fn from(found: T) -> Self {
        Self(Ok(found))
    }
}

impl<T: Clone> Sealed<T> {
    /// What was `found`. A reason why not is kept only if a key would help: when something is `encrypted`.
    ///
    /// # Errors
    /// Any other failure.
    pub(crate) fn new(found: Result<T>, encrypted: bool) -> Result<Self> {
        match found {
            Err(error) if !encrypted => Err(error),
            found => Ok(Self(found)),
        }
    }

    /// What a key gave.
    ///
    /// # Errors
    /// Why none did.
    pub(crate) fn open(&self) -> Result<T> {
        match &self.0 {
            Ok(found) => Ok(found.clone()),
            Err(error) => Err(Error::new(error.kind(), error.with_causes())),
        }
    }
}

/// Why the image at `path` stays closed.
pub(crate) fn locked(path: &str, error: &Error) -> Error {
    let why = error.with_causes();
    Error::new(error.kind(), format!("{path} cannot be opened: {why}"))
}

/// What decrypts the data of an image.
#[derive(Clone)]
pub(crate) struct DataCipher {
    cipher: Arc<SectorCipher>,
    numbers: Numbers,
}

/// What the number of a sector counts.
#[derive(Debug, Clone, Copy)]
enum Numbers {
    /// The file's sectors: "physical disk sector", as LUKS in qcow2 has it.
    Host,
    /// The guest's, the first of which is the one at this byte: legacy encryption.
    Guest(u64),
}

impl DataCipher {
    /// LUKS in the `len` bytes from `at` on of `file`.
    ///
    /// # Errors
    /// `Corrupt` for a broken header, and as [`Luks::unlock`].
    pub(crate) fn luks(
        file: &Arc<dyn Source>,
        (at, len): (u64, u64),
        keys: &Keys,
        budget: &mut Budget,
    ) -> Result<Self> {
        let header = window(file.clone(), at, len)?;
        let luks = Luks::find(&header)?
            .ok_or_else(|| Error::corrupt("there is no LUKS header where it says so"))?;
        let key = luks.unlock(&header, keys, budget)?;
        Ok(Self {
            cipher: Arc::new(luks.container_cipher(&key)?),
            numbers: Numbers::Host,
        })
    }

    /// qcow's first encryption, whose keys nothing tells right from wrong but the data in `file`, which `locate` finds: under
    /// a wrong one they are noise.
    ///
    /// # Errors
    /// `Unsupported` when none of `keys` makes sense of them.
    pub(crate) fn legacy(
        file: &dyn Source,
        size: u64,
        locate: &Locate,
        keys: &Keys,
    ) -> Result<Self> {
        if keys.is_empty() {
            return Err(keys.refusal(LEGACY));
        }
        let samples = samples(file, size, locate)?;
        for password in keys.candidates() {
            let mut key = [0; LEGACY_KEY];
            for (byte, given) in key.iter_mut().zip(password) {
                *byte = *given;
            }
            let cipher = SectorCipher::new("aes-cbc-plain64", &key)?;
            let makes_sense = |(guest, bytes): &(u64, Vec<u8>)| {
                let mut plain = bytes.clone();
                cipher.decrypt(guest / 512, 512, &mut plain);
                plain.chunks(512).any(|sector| !is_noise(sector))
            };
            if samples.is_empty() || samples.iter().any(makes_sense) {
                return Ok(Self {
                    cipher: Arc::new(cipher),
                    numbers: Numbers::Guest(0),
                });
            }
        }
        Err(keys.refusal(LEGACY))
    }

    /// The same for a source that begins at byte `start` of what the guest's sectors are counted in.
    pub(crate) fn from(&self, start: u64) -> Self {
        let numbers = match self.numbers {
            Numbers::Host => Numbers::Host,
            Numbers::Guest(before) => Numbers::Guest(before.saturating_add(start)),
        };
        Self {
            cipher: self.cipher.clone(),
            numbers,
        }
    }

    /// Fills `buf` with the bytes at `guest`, which lie in `file` at `host`. Both have the same place in a sector, since
    /// clusters are made of whole ones.
    pub(crate) fn read(
        &self,
        file: &dyn Source,
        host: HostOffset,
        guest: u64,
        buf: &mut [u8],
    ) -> Result<()> {
        let sectors = match self.numbers {
            Numbers::Host => Sectors::counted(0, 0),
            Numbers::Guest(start) => Sectors::counted(host.0, guest.saturating_add(start)),
        };
        self.cipher.read(file, sectors, host.0, buf)
    }
}

fn is_noise(sector: &[u8]) -> bool {
    let mut seen = [false; 256];
    for byte in sector {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
    }
    seen.iter().filter(|seen| **seen).count() >= DISTINCT
}

/// Encrypted sectors of a disk of `size` bytes, all over it, each run with its place on the disk.
fn samples(file: &dyn Source, size: u64, locate: &Locate) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut seen = 0;
    for place in 0..PLACES {
        // Where the place before found its data, this one has nothing new.
        let mut at = (size / PLACES).saturating_mul(place).max(seen) & !511;
        for _ in 0..SAMPLE_LOOKUPS {
            if at >= size {
                break;
            }
            let stretch = locate(at, size.saturating_sub(at))?;
            let next = at.saturating_add(stretch.len.max(1));
            let len = usize::try_from(stretch.len.min(SAMPLE) & !511).unwrap_or(0);
            if let (Mapping::Data(HostOffset(host)), 1..) = (stretch.mapping, len) {
                found.push((at, dormouse_block::read_vec_at(file, host, len)?));
                seen = at.saturating_add(SAMPLE).min(next);
                break;
            }
            at = next;
            seen = next;
        }
    }
    Ok(found)
}
