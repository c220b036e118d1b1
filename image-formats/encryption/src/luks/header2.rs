//! LUKS2 (LUKS2 On-Disk Format Specification 1.1): two copies of a binary header, big-endian, each with a JSON text.

use std::collections::BTreeMap;

use argon2::Algorithm;
use base64ct::{Base64, Encoding};
use dormouse_block::{
    Error, Result, Source, be_u16, be_u64, escape_terminal, read_vec_at, slice_at,
};
use serde::Deserialize;

use super::header::{Header, MAGIC, SECOND_MAGIC, Segment, text};
use super::slot::{KeyDigest, Slot};
use crate::hash::Hash;
use crate::kdf::Kdf;

/// Bytes of a binary header, before its JSON.
const BINARY: usize = 4096;
/// Sizes that a header may have, JSON included, and so the places of the second copy.
const SIZES: [u64; 9] = [
    0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000,
];
/// Slots, segments and digests ("LUKS2_KEYSLOTS_MAX", 32 each).
const MAX_OBJECTS: usize = 32;

/// The JSON text, as far as it is needed.
#[derive(Deserialize)]
struct Metadata {
    keyslots: BTreeMap<u32, JsonSlot>,
    segments: BTreeMap<u32, JsonSegment>,
    digests: BTreeMap<u32, JsonDigest>,
    config: JsonConfig,
}

#[derive(Deserialize)]
struct JsonSlot {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    key_size: usize,
    af: Option<JsonSplit>,
    area: JsonArea,
    kdf: Option<JsonKdf>,
    priority: Option<u32>,
}

#[derive(Deserialize)]
struct JsonSplit {
    #[serde(rename = "type")]
    kind: String,
    stripes: usize,
    hash: String,
}

#[derive(Deserialize)]
struct JsonArea {
    offset: String,
    encryption: Option<String>,
    key_size: Option<usize>,
}

#[derive(Deserialize)]
struct JsonKdf {
    #[serde(rename = "type")]
    kind: String,
    salt: String,
    hash: Option<String>,
    iterations: Option<u32>,
    time: Option<u32>,
    memory: Option<u32>,
    cpus: Option<u32>,
}

#[derive(Deserialize)]
struct JsonSegment {
    #[serde(rename = "type")]
    kind: String,
    offset: String,
    size: String,
    iv_tweak: Option<String>,
    encryption: Option<String>,
    sector_size: Option<u64>,
    integrity: Option<serde_json::Value>,
    #[serde(default)]
    flags: Vec<String>,
}

#[derive(Deserialize)]
struct JsonDigest {
    #[serde(rename = "type")]
    kind: String,
    keyslots: Vec<String>,
    segments: Vec<String>,
    hash: String,
    iterations: u32,
    salt: String,
    digest: String,
}

#[derive(Deserialize)]
struct JsonConfig {
    requirements: Option<JsonRequirements>,
}

#[derive(Deserialize)]
struct JsonRequirements {
    #[serde(default)]
    mandatory: Vec<String>,
}

/// Whether the second copy of a header stands where one may, though the first is gone.
pub(super) fn second_copy(source: &dyn Source) -> bool {
    SIZES
        .iter()
        .any(|at| read_vec_at(source, *at, 8).is_ok_and(|bytes| bytes.starts_with(SECOND_MAGIC)))
}

/// Reads the newer of the two copies whose checksums are right.
///
/// # Errors
/// `Corrupt` when neither is, `Unsupported` for what is not read, by name.
pub(super) fn read(source: &dyn Source) -> Result<Header> {
    let first = copy(source, 0, MAGIC);
    let second_at = match &first {
        Ok(first) => vec![first.size],
        Err(_) => SIZES.to_vec(),
    };
    let mut second = Err(Error::corrupt("there is no second copy of the header"));
    for at in second_at {
        second = copy(source, at, SECOND_MAGIC);
        if second.is_ok() {
            break;
        }
    }
    let (copy, note) = match (first, second) {
        (Ok(first), Ok(second)) if second.sequence > first.sequence => (
            second,
            Some("the second copy of the LUKS header is newer".to_owned()),
        ),
        (Ok(first), Ok(_)) => (first, None),
        (Ok(first), Err(error)) => {
            let note = format!(
                "the second copy of the LUKS header is unusable: {}",
                error.with_causes()
            );
            (first, Some(note))
        }
        (Err(error), Ok(second)) => {
            let note = format!(
                "the first copy of the LUKS header is unusable: {}",
                error.with_causes()
            );
            (second, Some(note))
        }
        (Err(error), Err(_)) => return Err(error),
    };
    copy.header(note)
}

/// A copy whose checksum is right.
struct Copy {
    size: u64,
    sequence: u64,
    bytes: Vec<u8>,
}

fn copy(source: &dyn Source, at: u64, magic: &[u8]) -> Result<Copy> {
    let binary = read_vec_at(source, at, BINARY)?;
    if slice_at(&binary, 0, 6)? != magic || be_u16(&binary, 6)? != 2 {
        return Err(Error::corrupt("the header has no signature").at_offset(at));
    }
    let size = be_u64(&binary, 8)?;
    if !SIZES.contains(&size) || be_u64(&binary, 256)? != at {
        return Err(Error::corrupt("the header has an impossible size or place").at_offset(at));
    }
    let mut bytes = read_vec_at(source, at, usize::try_from(size).unwrap_or(BINARY))?;
    let hash = Hash::parse(&text(&binary, 72, 32)?)?;
    let expected = slice_at(&binary, 448, hash.len())?;
    if let Some(field) = bytes.get_mut(448..512) {
        field.fill(0);
    }
    if hash.of(&[&bytes]) != expected {
        return Err(Error::corrupt("the checksum of the header is wrong").at_offset(at));
    }
    Ok(Copy {
        size,
        sequence: be_u64(&binary, 16)?,
        bytes,
    })
}

impl Copy {
    fn header(self, note: Option<String>) -> Result<Header> {
        let json = self.bytes.get(BINARY..).unwrap_or_default();
        let json = json.split(|byte| *byte == 0).next().unwrap_or_default();
        // serde_json bounds the nesting; the size was bounded above.
        let metadata: Metadata = serde_json::from_slice(json)
            .map_err(|error| Error::corrupt(format!("the header's JSON is broken: {error}")))?;
        metadata.check()?;
        let (segments, digest) = metadata.segments()?;
        let slots = metadata.slots(digest);
        Ok(Header {
            version: "LUKS2",
            uuid: text(&self.bytes, 168, 40)?,
            slots,
            digest: KeyDigest {
                hash: Hash::parse(&digest.hash)?,
                iterations: digest.iterations,
                salt: base64(&digest.salt)?,
                digest: base64(&digest.digest)?,
            },
            segments,
            note,
            bytes: self.bytes,
        })
    }
}

impl Metadata {
    /// Refuses what this version cannot read, by name.
    fn check(&self) -> Result<()> {
        let most = self
            .keyslots
            .len()
            .max(self.segments.len())
            .max(self.digests.len());
        if most > MAX_OBJECTS {
            return Err(Error::limit(format!(
                "{most} slots, segments or digests; {MAX_OBJECTS} are allowed"
            )));
        }
        if self.keyslots.values().any(|slot| slot.kind == "reencrypt") {
            return Err(Error::unsupported("it is being re-encrypted"));
        }
        let mandatory = self
            .config
            .requirements
            .as_ref()
            .and_then(|requirements| requirements.mandatory.first());
        if let Some(what) = mandatory {
            return Err(Error::unsupported(format!(
                "it requires {}, which is not known",
                escape_terminal(what)
            )));
        }
        Ok(())
    }

    /// The parts of the volume, and the digest of the one key for all of them.
    fn segments(&self) -> Result<(Vec<Segment>, &JsonDigest)> {
        let mut segments = Vec::new();
        let mut digests: Option<(u32, &JsonDigest)> = None;
        for (number, segment) in &self.segments {
            // Copies of what was before a re-encryption.
            if segment.flags.iter().any(|flag| flag.starts_with("backup-")) {
                continue;
            }
            segments.push(segment.read()?);
            if segment.kind != "crypt" {
                continue;
            }
            let (of, digest) = self
                .digests
                .iter()
                .find(|(_, digest)| digest.segments.contains(&number.to_string()))
                .ok_or_else(|| Error::corrupt(format!("segment {number} has no digest")))?;
            if digests.is_some_and(|(known, _)| known != *of) {
                return Err(Error::unsupported("its segments have different keys"));
            }
            digests = Some((*of, digest));
        }
        let (_, digest) = digests.ok_or_else(|| Error::corrupt("it has no encrypted segment"))?;
        if digest.kind != "pbkdf2" {
            return Err(Error::unsupported(format!(
                "digests of type {}",
                escape_terminal(&digest.kind)
            )));
        }
        Ok((segments, digest))
    }

    /// The slots that hold the key of `digest`, those last that are only for whoever asks for them.
    fn slots(&self, digest: &JsonDigest) -> Vec<Result<Slot>> {
        let mut slots: Vec<_> = self
            .keyslots
            .iter()
            .filter(|(number, _)| digest.keyslots.contains(&number.to_string()))
            .collect();
        // 2 is preferred, 1 is normal, 0 is to be ignored.
        slots.sort_by_key(|(_, slot)| std::cmp::Reverse(slot.priority.unwrap_or(1)));
        slots.into_iter().map(|(_, slot)| slot.read()).collect()
    }
}

impl JsonSegment {
    fn read(&self) -> Result<Segment> {
        let offset = number(&self.offset)?;
        let len = match self.size.as_str() {
            "dynamic" => None,
            size => Some(number(size)?),
        };
        match self.kind.as_str() {
            "linear" => return Ok(Segment::Plain { offset, len }),
            "crypt" => {}
            kind => {
                return Err(Error::unsupported(format!(
                    "a segment of type {} is not read",
                    escape_terminal(kind)
                )));
            }
        }
        if self.integrity.is_some() {
            return Err(Error::unsupported(
                "it is authenticated (dm-integrity), which is not read",
            ));
        }
        Ok(Segment::Encrypted {
            offset,
            len,
            cipher: self
                .encryption
                .clone()
                .ok_or_else(|| Error::corrupt("a segment without a cipher"))?,
            sector: self.sector_size.unwrap_or(512),
            first: number(self.iv_tweak.as_deref().unwrap_or("0"))?,
        })
    }
}

impl JsonSlot {
    fn read(&self) -> Result<Slot> {
        if self.kind != "luks2" {
            return Err(Error::unsupported(format!(
                "a key slot of type {}",
                escape_terminal(&self.kind)
            )));
        }
        let missing = || Error::corrupt("a key slot lacks what it needs");
        let split = self.af.as_ref().ok_or_else(missing)?;
        if split.kind != "luks1" {
            return Err(Error::unsupported(format!(
                "keys split as {}",
                escape_terminal(&split.kind)
            )));
        }
        let kdf = self.kdf.as_ref().ok_or_else(missing)?;
        Ok(Slot {
            kdf: kdf.read()?,
            salt: base64(&kdf.salt)?,
            key_len: self.key_size,
            cipher: self.area.encryption.clone().ok_or_else(missing)?,
            cipher_key_len: self.area.key_size.ok_or_else(missing)?,
            offset: number(&self.area.offset)?,
            stripes: split.stripes,
            hash: Hash::parse(&split.hash)?,
        })
    }
}

impl JsonKdf {
    fn read(&self) -> Result<Kdf> {
        let missing = || Error::corrupt("a key slot lacks what its derivation needs");
        let algorithm = match self.kind.as_str() {
            "pbkdf2" => {
                return Ok(Kdf::Pbkdf2 {
                    hash: Hash::parse(self.hash.as_deref().ok_or_else(missing)?)?,
                    iterations: self.iterations.ok_or_else(missing)?,
                });
            }
            "argon2i" => Algorithm::Argon2i,
            "argon2id" => Algorithm::Argon2id,
            kind => {
                return Err(Error::unsupported(format!(
                    "keys derived with {}",
                    escape_terminal(kind)
                )));
            }
        };
        Ok(Kdf::Argon2 {
            algorithm,
            iterations: self.time.ok_or_else(missing)?,
            memory: self.memory.ok_or_else(missing)?,
            lanes: self.cpus.ok_or_else(missing)?,
        })
    }
}

/// Numbers of 64 bits stand as text.
fn number(text: &str) -> Result<u64> {
    text.parse()
        .map_err(|_| Error::corrupt("a number of the header's JSON is none"))
}

fn base64(text: &str) -> Result<Vec<u8>> {
    if text.len() > 4096 {
        return Err(Error::limit("a salt or digest of more than 3 KiB"));
    }
    Base64::decode_vec(text).map_err(|_| Error::corrupt("a salt or digest is no Base64"))
}
