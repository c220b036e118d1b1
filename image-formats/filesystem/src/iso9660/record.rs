//! Directory records and times (ECMA-119 sections 8.4.26 and 9.1).

use dormouse_block::{Error, Result, array_at, le_u16, le_u32, slice_at};

use crate::Time;
use crate::fat::entry::days;

/// `flags`: a directory.
const DIRECTORY: u8 = 2;
/// `flags`: an associated file, which Linux does not show either.
const ASSOCIATED: u8 = 4;
/// `flags`: the file goes on in the next record.
const GOES_ON: u8 = 0x80;

/// A directory record.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// Bytes it takes.
    pub(super) len: usize,
    /// First block of its bytes, behind what extended attributes take.
    pub(super) extent: u32,
    /// Bytes.
    pub(super) size: u32,
    pub(super) time: Time,
    pub(super) directory: bool,
    pub(super) associated: bool,
    pub(super) goes_on: bool,
    /// Why its bytes cannot be read, if they cannot.
    pub(super) unread: Option<&'static str>,
    /// The name as it stands there.
    pub(super) name: Vec<u8>,
    /// What follows the name: Rock Ridge.
    pub(super) system: Vec<u8>,
}

impl Record {
    /// Whether it stands for the directory itself or the one above.
    pub(super) fn is_dot(&self) -> bool {
        matches!(self.name.as_slice(), [0 | 1])
    }
}

/// Reads the record at the beginning of `bytes`; `None` when the rest of the sector is empty.
///
/// # Errors
/// `Corrupt` for a broken one.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Record>> {
    let Some(&len) = bytes.first().filter(|len| **len != 0) else {
        return Ok(None);
    };
    let len = usize::from(len);
    if len < 34 {
        return Err(Error::corrupt("a directory record that is too short"));
    }
    let bytes = slice_at(bytes, 0, len)?;
    let [attributes] = array_at(bytes, 1)?;
    let [flags, unit, gap] = array_at(bytes, 25)?;
    let [name_len] = array_at(bytes, 32)?;
    let name_len = usize::from(name_len);
    let name = slice_at(bytes, 33, name_len)?.to_vec();
    // The name is padded to an even length of the record.
    let system = 33_usize.saturating_add(name_len);
    let system = system.saturating_add(system & 1);
    Ok(Some(Record {
        len,
        extent: le_u32(bytes, 2)?
            .checked_add(u32::from(attributes))
            .ok_or_else(|| Error::corrupt("a file lies outside the volume"))?,
        size: le_u32(bytes, 10)?,
        time: short_time(array_at(bytes, 18)?),
        directory: flags & DIRECTORY != 0,
        associated: flags & ASSOCIATED != 0,
        goes_on: flags & GOES_ON != 0,
        unread: if unit != 0 || gap != 0 {
            Some("the file is interleaved, which is not read")
        } else if le_u16(bytes, 28)? > 1 {
            Some("the file is on another volume of the set")
        } else {
            None
        },
        name,
        system: bytes.get(system..).unwrap_or_default().to_vec(),
    }))
}

fn moment(year: i64, rest: [u8; 5], zone: u8) -> Time {
    let [month, day, hour, minute, second] = rest.map(i64::from);
    let seconds = days(year, month.clamp(1, 12), day.max(1))
        .saturating_mul(86400)
        .saturating_add(hour.saturating_mul(3600))
        .saturating_add(minute.saturating_mul(60))
        .saturating_add(second);
    // Quarters of an hour east of Greenwich.
    let zone = i64::from(i8::from_le_bytes([zone])).clamp(-48, 52);
    Time {
        seconds: seconds.saturating_sub(zone.saturating_mul(900)),
        nanoseconds: 0,
    }
}

/// Seven bytes, the first of which counts years from 1900.
pub(super) fn short_time(bytes: [u8; 7]) -> Time {
    let [year, month, day, hour, minute, second, zone] = bytes;
    if bytes == [0; 7] {
        return Time::default();
    }
    moment(
        i64::from(year).saturating_add(1900),
        [month, day, hour, minute, second],
        zone,
    )
}

/// Seventeen bytes, all but the last of which are digits; `None` for no time.
pub(super) fn long_time(bytes: &[u8]) -> Option<Time> {
    let (digits, zone) = bytes.split_at_checked(16)?;
    let number = |from: usize, to: usize| -> Option<u8> {
        std::str::from_utf8(digits.get(from..to)?)
            .ok()?
            .parse()
            .ok()
    };
    let year: i64 = std::str::from_utf8(digits.get(..4)?).ok()?.parse().ok()?;
    if year == 0 {
        return None;
    }
    let mut time = moment(
        year,
        [
            number(4, 6)?,
            number(6, 8)?,
            number(8, 10)?,
            number(10, 12)?,
            number(12, 14)?,
        ],
        *zone.first()?,
    );
    time.nanoseconds = u32::from(number(14, 16)?).saturating_mul(10_000_000);
    Some(time)
}
