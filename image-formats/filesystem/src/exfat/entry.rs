//! Directory entries: 32 bytes each; a file is a set of them that follow each other (sections 6 and 7).

use dormouse_block::{Error, Result, array_at, le_u16, le_u32, le_u64, slice_at};

use crate::Time;
use crate::fat::entry::time;

/// Bytes of an entry.
const SIZE: usize = 32;
/// Bits of `EntryType`: in use.
const IN_USE: u8 = 0x80;
/// Bits of `EntryType`: belongs to the set that a primary entry began.
const SECONDARY: u8 = 0x40;
/// Bits of `EntryType`: whoever does not know it may go past it.
const BENIGN: u8 = 0x20;
const BITMAP: u8 = 0x81;
const UPCASE: u8 = 0x82;
const LABEL: u8 = 0x83;
const FILE: u8 = 0x85;
const STREAM: u8 = 0xC0;
const NAME: u8 = 0xC1;
/// Attribute: not to be written.
pub(super) const READ_ONLY: u16 = 1;
/// Attribute: a directory.
pub(super) const DIRECTORY: u16 = 0x10;
/// `GeneralSecondaryFlags`: the clusters follow each other and the table does not count.
const CONTIGUOUS: u8 = 2;
/// Units of UTF-16 in one entry of a name.
const PART: usize = 15;

/// Clusters and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// First cluster; 0 when there are no bytes.
    pub(super) first: u32,
    /// Bytes.
    pub(super) len: u64,
    /// Whether the clusters follow each other without the table.
    pub(super) contiguous: bool,
}

/// A file or directory.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// Its first entry's number in the directory.
    pub(super) slot: u32,
    pub(super) attributes: u16,
    pub(super) mtime: Time,
    pub(super) atime: Time,
    pub(super) ctime: Time,
    pub(super) place: Place,
    /// Bytes that were ever written; the rest is zeroes.
    pub(super) valid: u64,
    pub(super) name: Vec<u16>,
    pub(super) hash: u16,
}

/// What a directory holds; all but the files stands in the root alone.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) files: Vec<File>,
    pub(super) bitmap: Option<Place>,
    /// The table of upper case and its checksum.
    pub(super) upcase: Option<(Place, u32)>,
    pub(super) label: Option<String>,
}

/// Reads the bytes of a directory.
///
/// # Errors
/// `Corrupt` for broken sets, `Unsupported` for entries that must be understood and are not.
pub(super) fn entries(bytes: &[u8]) -> Result<Entries> {
    let mut out = Entries::default();
    let mut rest = bytes;
    let mut slot = 0_u32;
    while let Some((entry, after)) = rest.split_at_checked(SIZE) {
        let [kind, count] = array_at(entry, 0)?;
        let mut taken = 1_usize;
        match kind {
            // Nothing follows.
            0 => break,
            _ if kind & IN_USE == 0 => {}
            BITMAP => {
                // With two tables there are two maps; the first bit says which.
                if count & 1 == 0 {
                    out.bitmap = Some(place(entry, 0)?);
                }
            }
            UPCASE => out.upcase = Some((place(entry, 0)?, le_u32(entry, 4)?)),
            LABEL => {
                let len = usize::from(count).min(11).saturating_mul(2);
                let units = units(slice_at(entry, 2, len)?);
                out.label = Some(String::from_utf16_lossy(&units));
            }
            FILE => {
                taken = usize::from(count).saturating_add(1);
                let set = rest
                    .get(..taken.saturating_mul(SIZE))
                    .ok_or_else(|| bad("a set of entries ends with its directory"))?;
                out.files.push(file(set, slot)?);
            }
            // Such as the identifier of the volume.
            _ if kind & SECONDARY == 0 && kind & BENIGN != 0 => {}
            _ if kind & SECONDARY != 0 => return Err(bad("an entry that belongs to no file")),
            _ => {
                return Err(Error::unsupported(format!(
                    "a directory entry of the unknown kind {kind:#04x}"
                )));
            }
        }
        rest = if taken == 1 {
            after
        } else {
            rest.get(taken.saturating_mul(SIZE)..).unwrap_or_default()
        };
        slot = slot.saturating_add(u32::try_from(taken).unwrap_or(u32::MAX));
    }
    Ok(out)
}

fn bad(what: &'static str) -> Error {
    Error::corrupt(what)
}

fn units(bytes: &[u8]) -> Vec<u16> {
    bytes
        .chunks_exact(2)
        .map(|pair| le_u16(pair, 0).unwrap_or_default())
        .collect()
}

/// First cluster and length as all entries have them.
fn place(entry: &[u8], flags: u8) -> Result<Place> {
    Ok(Place {
        first: le_u32(entry, 20)?,
        len: le_u64(entry, 24)?,
        contiguous: flags & CONTIGUOUS != 0,
    })
}

fn file(set: &[u8], slot: u32) -> Result<File> {
    let mut sum = 0_u16;
    for (nth, byte) in set.iter().enumerate() {
        if !matches!(nth, 2 | 3) {
            sum = sum.rotate_right(1).wrapping_add(u16::from(*byte));
        }
    }
    if sum != le_u16(set, 2)? {
        return Err(bad("a set of entries with a wrong checksum"));
    }
    let mut entries = set.chunks_exact(SIZE).skip(1);
    let stream = entries
        .next()
        .ok_or_else(|| bad("a file without a stream"))?;
    let [kind, flags, _, len] = array_at(stream, 0)?;
    if kind != STREAM {
        return Err(bad("a file without a stream"));
    }
    let len = usize::from(len);
    let mut name = Vec::with_capacity(len);
    for entry in entries {
        let [kind] = array_at(entry, 0)?;
        match kind {
            NAME if name.len() < len => {
                let part = units(slice_at(entry, 2, PART * 2)?);
                let wanted = len.saturating_sub(name.len()).min(PART);
                name.extend(part.iter().take(wanted));
            }
            // What vendors add, and other benign ones.
            _ if kind & (IN_USE | SECONDARY | BENIGN) == IN_USE | SECONDARY | BENIGN => {}
            _ if kind & IN_USE == 0 => {}
            _ => {
                return Err(Error::unsupported(format!(
                    "a file with an entry of the unknown kind {kind:#04x}"
                )));
            }
        }
    }
    if name.is_empty() || name.len() < len {
        return Err(bad("a file without its whole name"));
    }
    let place = place(stream, flags)?;
    let valid = le_u64(stream, 8)?;
    if valid > place.len || place.len != 0 && (place.first == 0 || flags & 1 == 0) {
        return Err(bad("sizes of a file that do not fit together"));
    }
    let [created, modified, _, _, _] = array_at::<5>(set, 20)?;
    let [zone_c, zone_m, zone_a] = array_at(set, 22)?;
    let stamp = |at: usize, hundredths: u8, zone: u8| -> Result<Time> {
        Ok(moment(le_u32(set, at)?, hundredths, zone))
    };
    Ok(File {
        slot,
        attributes: le_u16(set, 4)?,
        ctime: stamp(8, created, zone_c)?,
        mtime: stamp(12, modified, zone_m)?,
        atime: stamp(16, 0, zone_a)?,
        place,
        valid,
        name,
        hash: le_u16(stream, 4)?,
    })
}

/// A local time with its hundredths of two seconds and its offset to UTC in quarters of an hour, if that is known.
fn moment(stamp: u32, hundredths: u8, zone: u8) -> Time {
    let [date, clock] = [stamp >> 16, stamp & 0xFFFF].map(|half| u16::try_from(half).unwrap_or(0));
    let mut out = time(date, clock);
    let hundredths = u32::from(hundredths.min(199));
    out.seconds = out.seconds.saturating_add(i64::from(hundredths / 100));
    out.nanoseconds = (hundredths % 100).saturating_mul(10_000_000);
    if zone & 0x80 != 0 {
        // Seven bits with a sign.
        let quarters = i64::from(i8::from_le_bytes([zone << 1]) / 2);
        out.seconds = out.seconds.saturating_sub(quarters.saturating_mul(900));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_local_to_their_offset() {
        // 2024-02-29 23:59:58 and 1.5 seconds, two hours east and half an hour west.
        let stamp = (44 << 9 | 2 << 5 | 29) << 16 | (23 << 11 | 59 << 5 | 29);
        let at = 1_709_251_198;
        let seconds = |zone: u8| moment(stamp, 150, zone);
        assert_eq!(
            (seconds(0).seconds, seconds(0).nanoseconds),
            (at + 1, 500_000_000)
        );
        assert_eq!(seconds(0x80 | 8).seconds, at + 1 - 7200);
        assert_eq!(seconds(0x80 | 0x7E).seconds, at + 1 + 1800);
    }
}
