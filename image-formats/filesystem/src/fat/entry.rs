//! Directory entries: 32 bytes each; those of a long name stand before that of its file, the last part first.

use dormouse_block::{Error, Result, array_at, le_u16, le_u32};

use super::name::{self, checksum};
use crate::Time;

/// Bytes of an entry.
pub const SIZE: usize = 32;
/// `attr`: not to be written.
pub const READ_ONLY: u8 = 1;
/// `attr`: the volume's label.
pub const LABEL: u8 = 8;
/// `attr`: a directory.
pub const DIRECTORY: u8 = 0x10;
/// `attr`: to be archived, which every written file is.
pub const ARCHIVE: u8 = 0x20;
/// `attr` of a part of a long name.
pub const LONG: u8 = 0xF;
/// The first byte of a free entry.
pub const FREE: u8 = 0xE5;
/// Units of UTF-16 in one part of a long name.
const PART: usize = 13;
/// Parts of a long name at most.
const MAX_PARTS: usize = 20;
/// Bit of a part's number that marks the last one, which is stored first.
const LAST: u8 = 0x40;

/// A file or directory as its 32 bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The short name.
    pub short: [u8; 11],
    /// `attr`.
    pub attributes: u8,
    /// Whether base and extension of the short name are shown in lower case.
    pub lower: (bool, bool),
    /// The first cluster; 0 for a file without bytes.
    pub cluster: u32,
    /// Bytes of a file.
    pub size: u32,
    /// Last change.
    pub mtime: Time,
    /// Last read: a day.
    pub atime: Time,
}

impl Entry {
    /// Reads 32 bytes; `high` says whether the upper half of the cluster counts (FAT32).
    ///
    /// # Errors
    /// `Corrupt` for too few bytes.
    pub fn parse(bytes: &[u8], high: bool) -> Result<Self> {
        let short: [u8; 11] = array_at(bytes, 0)?;
        let [attributes, case] = array_at(bytes, 11)?;
        let upper = if high { le_u16(bytes, 20)? } else { 0 };
        Ok(Self {
            short,
            attributes,
            lower: (case & 8 != 0, case & 0x10 != 0),
            cluster: u32::from(le_u16(bytes, 26)?) | u32::from(upper) << 16,
            size: le_u32(bytes, 28)?,
            mtime: time(le_u16(bytes, 24)?, le_u16(bytes, 22)?),
            atime: time(le_u16(bytes, 18)?, 0),
        })
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.attributes & DIRECTORY != 0
    }

    /// Whether it stands for the directory itself or the one above.
    #[must_use]
    pub fn is_dot(&self) -> bool {
        &self.short == b".          " || &self.short == b"..         "
    }
}

/// A date and a time of day, two seconds apart, as seconds since 1970. What no calendar has is taken as the start of its
/// month or day.
pub(crate) fn time(date: u16, clock: u16) -> Time {
    let year = i64::from(date >> 9).saturating_add(1980);
    let month = i64::from(date >> 5 & 0xF).clamp(1, 12);
    let day = i64::from(date & 0x1F).max(1);
    let seconds = i64::from(clock >> 11)
        .saturating_mul(3600)
        .saturating_add(i64::from(clock >> 5 & 0x3F).saturating_mul(60))
        .saturating_add(i64::from(clock & 0x1F).saturating_mul(2));
    Time {
        seconds: days(year, month, day)
            .saturating_mul(86400)
            .saturating_add(seconds),
        nanoseconds: 0,
    }
}

/// Days from 1970-01-01 to a date (proleptic Gregorian calendar), years counted from March.
pub(crate) fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month.saturating_sub(3))
    } else {
        (year.saturating_sub(1), month.saturating_add(9))
    };
    let of_year = month
        .saturating_mul(153)
        .saturating_add(2)
        .div_euclid(5)
        .saturating_add(day)
        .saturating_sub(1);
    year.saturating_mul(365)
        .saturating_add(year.div_euclid(4))
        .saturating_sub(year.div_euclid(100))
        .saturating_add(year.div_euclid(400))
        .saturating_add(of_year)
        .saturating_sub(719_468)
}

/// The time that an entry holds for `time`: between 1980 and 2107, in steps of two seconds.
#[must_use]
pub fn kept(time: Time) -> Time {
    let first = days(1980, 1, 1).saturating_mul(86400);
    let last = days(2108, 1, 1).saturating_mul(86400).saturating_sub(2);
    Time {
        seconds: time.seconds.clamp(first, last) & !1,
        nanoseconds: 0,
    }
}

/// Date and time of day as an entry stores them.
#[must_use]
pub fn stamp(time: Time) -> (u16, u16) {
    let seconds = kept(time).seconds;
    let (all_days, clock) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    let mut year = 1980_i64;
    while days(year.saturating_add(1), 1, 1) <= all_days {
        year = year.saturating_add(1);
    }
    let mut month = 1_i64;
    while month < 12 && days(year, month.saturating_add(1), 1) <= all_days {
        month = month.saturating_add(1);
    }
    let day = all_days
        .saturating_sub(days(year, month, 1))
        .saturating_add(1);
    let date = year.saturating_sub(1980) << 9 | month << 5 | day;
    let clock = (clock / 3600) << 11 | (clock / 60 % 60) << 5 | (clock % 60 / 2);
    (
        u16::try_from(date).unwrap_or_default(),
        u16::try_from(clock).unwrap_or_default(),
    )
}

/// A file, directory or label in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its long name, or its short one as users see it.
    pub name: String,
    /// What its 32 bytes say.
    pub entry: Entry,
    /// The number of the entry in the directory that holds these 32 bytes.
    pub slot: usize,
    /// The number of the first entry of its long name; the same where it has none.
    pub first: usize,
}

/// Parts of a long name that were read and whose file did not come yet.
#[derive(Default)]
struct Long {
    units: Vec<u16>,
    sum: u8,
    /// The number of the part that must come next; 0 when all are there.
    next: u8,
    first: usize,
}

impl Long {
    fn take(&mut self, slot: usize, bytes: &[u8]) -> Result<()> {
        let [number] = array_at(bytes, 0)?;
        let [sum] = array_at(bytes, 13)?;
        let (last, number) = (number & LAST != 0, number & !LAST);
        if last {
            *self = Self {
                units: Vec::new(),
                sum,
                next: number,
                first: slot,
            };
        }
        if number == 0 || usize::from(number) > MAX_PARTS || number != self.next || sum != self.sum
        {
            // Parts that belong to nothing: some other system wrote here.
            *self = Self::default();
            return Ok(());
        }
        let mut part = Vec::with_capacity(PART);
        for at in [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30] {
            part.push(le_u16(bytes, at)?);
        }
        if last {
            let end = part.iter().position(|unit| *unit == 0);
            part.truncate(end.unwrap_or(part.len()));
        }
        part.append(&mut self.units);
        self.units = part;
        self.next = number.saturating_sub(1);
        Ok(())
    }

    fn of(&self, short: &[u8; 11]) -> Option<String> {
        if self.units.is_empty() || self.next != 0 || self.sum != checksum(short) {
            return None;
        }
        let name: String = char::decode_utf16(self.units.iter().copied())
            .map(|one| one.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
        Some(name)
    }
}

/// The entries of a directory: files, directories and the label, not `.` and `..`. `high` as in [`Entry::parse`].
///
/// # Errors
/// `Corrupt` for names that cannot be.
pub fn entries(bytes: &[u8], high: bool) -> Result<Vec<Named>> {
    let mut out = Vec::new();
    let mut long = Long::default();
    for (slot, raw) in bytes.chunks_exact(SIZE).enumerate() {
        let [first] = array_at(raw, 0)?;
        let [attributes] = array_at(raw, 11)?;
        if first == 0 {
            break;
        }
        if first == FREE {
            long = Long::default();
            continue;
        }
        if attributes & 0x3F == LONG {
            long.take(slot, raw)?;
            continue;
        }
        let entry = Entry::parse(raw, high)?;
        let parts = std::mem::take(&mut long);
        if entry.is_dot() {
            continue;
        }
        let label = entry.attributes & LABEL != 0;
        let name = parts.of(&entry.short).filter(|_| !label);
        let first = if name.is_some() { parts.first } else { slot };
        let name = name.unwrap_or_else(|| name::shown(&entry.short, entry.lower));
        if !label && (name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']))
        {
            return Err(Error::corrupt("an impossible name in a directory"));
        }
        out.push(Named {
            name,
            entry,
            slot,
            first,
        });
    }
    Ok(out)
}

/// The entries that a file or directory of this name takes: the parts of its long name (unless `long` is `None`), then
/// its own.
///
/// # Errors
/// `Corrupt` for a name of more than 255 units.
pub fn build(long: Option<&str>, entry: &Entry) -> Result<Vec<[u8; SIZE]>> {
    let mut out = Vec::new();
    if let Some(long) = long {
        let mut units: Vec<u16> = long.encode_utf16().collect();
        if units.len() > name::MAX_LONG {
            return Err(Error::corrupt("a name of more than 255 characters"));
        }
        let parts = units.len().div_ceil(PART);
        if !units.len().is_multiple_of(PART) {
            units.push(0);
        }
        units.resize(parts.saturating_mul(PART), 0xFFFF);
        let sum = checksum(&entry.short);
        for (nth, part) in units.chunks_exact(PART).enumerate().rev() {
            let number = u8::try_from(nth.saturating_add(1)).unwrap_or_default();
            let last = if nth.saturating_add(1) == parts {
                LAST
            } else {
                0
            };
            let mut raw = [0; SIZE];
            put(&mut raw, 0, &[number | last])?;
            put(&mut raw, 11, &[LONG, 0, sum])?;
            let places = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
            for (at, unit) in places.into_iter().zip(part) {
                put(&mut raw, at, &unit.to_le_bytes())?;
            }
            out.push(raw);
        }
    }
    let mut raw = [0; SIZE];
    put(&mut raw, 0, &entry.short)?;
    write(&mut raw, entry)?;
    out.push(raw);
    Ok(out)
}

/// Puts cluster, size and times of `entry` into its 32 bytes; its name stays.
///
/// # Errors
/// `Corrupt` for too few bytes.
pub fn write(raw: &mut [u8], entry: &Entry) -> Result<()> {
    let case = u8::from(entry.lower.0) << 3 | u8::from(entry.lower.1) << 4;
    put(raw, 11, &[entry.attributes, case])?;
    let (date, clock) = stamp(entry.mtime);
    // Made when it was changed; the day of the last read as well.
    put(raw, 13, &[0])?;
    put(raw, 14, &clock.to_le_bytes())?;
    put(raw, 16, &date.to_le_bytes())?;
    put(raw, 18, &stamp(entry.atime).0.to_le_bytes())?;
    put(raw, 22, &clock.to_le_bytes())?;
    put(raw, 24, &date.to_le_bytes())?;
    let [a, b, c, d] = entry.cluster.to_le_bytes();
    put(raw, 20, &[c, d])?;
    put(raw, 26, &[a, b])?;
    put(raw, 28, &entry.size.to_le_bytes())
}

fn put(raw: &mut [u8], at: usize, value: &[u8]) -> Result<()> {
    at.checked_add(value.len())
        .and_then(|end| raw.get_mut(at..end))
        .ok_or_else(|| Error::corrupt("a field lies outside its entry"))?
        .copy_from_slice(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            short: *b"ALONGN~1TEX",
            attributes: ARCHIVE,
            lower: (false, false),
            cluster: 0x0012_3456,
            size: 77,
            mtime: kept(Time {
                seconds: 1_700_000_001,
                nanoseconds: 5,
            }),
            atime: time(stamp(Time::default()).0, 0),
        }
    }

    #[test]
    fn long_names_are_read_as_they_were_built() {
        for name in [
            "a",
            "a long näme of 27 characters",
            "exactly 13 ch",
            &"ü".repeat(255),
        ] {
            let built = build(Some(name), &entry()).unwrap();
            let found = entries(&built.concat(), true).unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].name, *name);
            assert_eq!(found[0].entry, entry());
            assert_eq!((found[0].first, found[0].slot), (0, built.len() - 1));
        }
        assert!(build(Some(&"x".repeat(256)), &entry()).is_err());
    }

    #[test]
    fn parts_that_belong_to_nothing_are_left_out() {
        let mut built = build(Some("a long name of two parts"), &entry()).unwrap();
        built[1][13] ^= 1;
        let found = entries(&built.concat(), true).unwrap();
        assert_eq!(found[0].name, "ALONGN~1.TEX");
        assert_eq!(found[0].first, found[0].slot);
    }

    #[test]
    fn times_come_back_to_two_seconds() {
        for seconds in [
            315_532_800,
            951_782_400,
            1_700_000_000,
            4_354_819_198,
            4_107_542_398,
        ] {
            let wanted = Time {
                seconds,
                nanoseconds: 0,
            };
            let (date, clock) = stamp(wanted);
            assert_eq!(time(date, clock), wanted);
        }
        assert_eq!(kept(Time::default()).seconds, 315_532_800);
    }
}
