//! Volume descriptors (ECMA-119 section 8).

use dormouse_block::{Error, Result, Source, array_at, le_u16, le_u32, read_vec_at, slice_at};

use super::SECTOR;
use super::record::{self, Record};
use crate::fat::index;

/// The byte at which the descriptors begin.
pub(super) const FIRST: u64 = 16 * SECTOR;
/// Descriptors read at most.
const MAX: u64 = 64;
/// The place of the root's record in a descriptor.
const ROOT: u64 = 156;

/// What a primary or Joliet descriptor says.
#[derive(Debug, Clone)]
pub(super) struct Descriptor {
    /// The byte at which the root's record is.
    pub(super) root_at: u64,
    pub(super) root: Record,
    /// Bytes of a logical block: 512, 1024 or 2048.
    pub(super) block: u64,
    /// Blocks.
    pub(super) blocks: u32,
    pub(super) label: String,
    /// When it was changed last, or made, in the form that blkid calls its UUID.
    pub(super) stamp: Option<String>,
}

/// Whether `volume` has descriptors of ISO 9660 and none of UDF.
///
/// # Errors
/// Only when the volume cannot be read.
pub(super) fn probe(volume: &dyn Source) -> Result<bool> {
    let mut found = false;
    for nth in 0..MAX {
        let at = FIRST.saturating_add(nth.saturating_mul(SECTOR));
        if volume.len() < at.saturating_add(SECTOR) {
            break;
        }
        match &read_vec_at(volume, at.saturating_add(1), 5)?[..] {
            b"CD001" => found = true,
            b"NSR02" | b"NSR03" => return Ok(false),
            b"BEA01" | b"BOOT2" | b"TEA01" => {}
            _ => break,
        }
    }
    Ok(found)
}

/// The primary descriptor, and that of Joliet if there is one.
///
/// # Errors
/// `Corrupt` for broken ones or none.
pub(super) fn read(volume: &dyn Source) -> Result<(Descriptor, Option<Descriptor>)> {
    let (mut primary, mut joliet) = (None, None);
    for nth in 0..MAX {
        let at = FIRST.saturating_add(nth.saturating_mul(SECTOR));
        let bytes = read_vec_at(volume, at, index(SECTOR))?;
        let [kind] = array_at(&bytes, 0)?;
        if array_at::<5>(&bytes, 1)? != *b"CD001" || kind == 255 {
            break;
        }
        let wide = kind == 2 && matches!(&array_at::<3>(&bytes, 88)?, b"%/@" | b"%/C" | b"%/E");
        if kind == 1 && primary.is_none() {
            primary = Some(parse(&bytes, at, false)?);
        } else if wide && joliet.is_none() {
            joliet = Some(parse(&bytes, at, true)?);
        }
    }
    let primary = primary.ok_or_else(|| Error::corrupt("no primary volume descriptor"))?;
    Ok((primary, joliet))
}

fn parse(bytes: &[u8], at: u64, joliet: bool) -> Result<Descriptor> {
    let bad = |what: &'static str| Error::corrupt(what).at_offset(at);
    let block = u64::from(le_u16(bytes, 128)?);
    if !matches!(block, 512 | 1024 | 2048) {
        return Err(bad("bad size of blocks in a volume descriptor"));
    }
    let root_at = at.saturating_add(ROOT);
    let root = record::parse(slice_at(bytes, index(ROOT), 34)?)?
        .ok_or_else(|| bad("no root directory"))?;
    if !root.directory {
        return Err(bad("the root is no directory"));
    }
    let label = slice_at(bytes, 40, 32)?;
    let label = if joliet {
        let units: Vec<u16> = label
            .chunks_exact(2)
            .map(|pair| {
                u16::from_be_bytes([
                    pair.first().copied().unwrap_or(0),
                    pair.last().copied().unwrap_or(0),
                ])
            })
            .collect();
        String::from_utf16_lossy(&units)
    } else {
        String::from_utf8_lossy(label).into_owned()
    };
    Ok(Descriptor {
        root_at,
        root,
        block,
        blocks: le_u32(bytes, 80)?,
        label: label.trim_end_matches(['\0', ' ']).to_owned(),
        stamp: stamp(slice_at(bytes, 830, 16)?).or_else(|| stamp(bytes.get(813..829)?)),
    })
}

/// Sixteen digits in groups; `None` when they are no time.
fn stamp(digits: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(digits).ok()?;
    if !digits.iter().all(u8::is_ascii_digit) || digits.iter().all(|digit| *digit == b'0') {
        return None;
    }
    let parts = [0..4, 4..6, 6..8, 8..10, 10..12, 12..14, 14..16];
    let parts: Option<Vec<&str>> = parts.into_iter().map(|part| text.get(part)).collect();
    Some(parts?.join("-"))
}
