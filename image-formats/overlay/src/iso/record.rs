//! Descriptors, directory records and the fields of Rock Ridge in them, byte by byte.

use dormouse_block::{Error, Result};
use dormouse_filesystem::Time;
use jiff::Timestamp;

use super::{DESCRIPTORS, Layout, SECTOR, add, too_large};

/// A directory record (9.1).
pub(super) fn record(
    sector: u32,
    len: u32,
    folder: bool,
    identifier: &[u8],
    system: &[u8],
    made: &Stamp,
) -> Result<Vec<u8>> {
    let mut out = vec![0, 0];
    out.extend(both(sector));
    out.extend(both(len));
    out.extend(made.short);
    out.extend([if folder { 2 } else { 0 }, 0, 0]);
    out.extend([1, 0, 0, 1]);
    out.push(u8::try_from(identifier.len()).map_err(|_| too_large())?);
    out.extend(identifier);
    if identifier.len().is_multiple_of(2) {
        out.push(0);
    }
    out.extend(system);
    if out.len() % 2 == 1 {
        out.push(0);
    }
    let len = u8::try_from(out.len()).map_err(|_| too_large())?;
    if let Some(first) = out.first_mut() {
        *first = len;
    }
    Ok(out)
}

/// PX: mode, links, owner and group (RRIP 4.1.1). All may read, nobody may write, root owns it.
pub(super) fn posix(folder: bool) -> Vec<u8> {
    let mut out = vec![b'P', b'X', 36, 1];
    let (mode, links) = if folder {
        (0o040_555, 2)
    } else {
        (0o100_444, 1)
    };
    for value in [mode, links, 0, 0] {
        out.extend(both(value));
    }
    out
}

/// ER: which protocol the fields are of (SUSP 5.5).
pub(super) fn extension() -> Vec<u8> {
    let id = b"RRIP_1991A";
    let about = b"POSIX names and modes";
    let source = b"Rock Ridge Interchange Protocol 1.10";
    let mut out = vec![b'E', b'R'];
    // Constant lengths below 256.
    let size = |part: &[u8]| u8::try_from(part.len()).unwrap_or_default();
    out.push(
        8_u8.saturating_add(size(id))
            .saturating_add(size(about))
            .saturating_add(size(source)),
    );
    out.extend([1, size(id), size(about), size(source), 1]);
    out.extend(id);
    out.extend(about);
    out.extend(source);
    out
}

/// The primary volume descriptor (8.4).
pub(super) fn primary(layout: &Layout, label: &str, made: &Stamp) -> Result<Vec<u8>> {
    let mut out = vec![1];
    out.extend(b"CD001\x01\0");
    out.extend(padded("", 32)?);
    out.extend(padded(label, 32)?);
    out.extend([0; 8]);
    out.extend(both(layout.sectors));
    out.extend([0; 32]);
    // One volume, its number, and the bytes of a block.
    out.extend([1, 0, 0, 1, 1, 0, 0, 1, 0, 8, 8, 0]);
    out.extend(both(layout.table_len));
    let first = DESCRIPTORS + 2;
    out.extend(first.to_le_bytes());
    out.extend([0; 4]);
    out.extend(add(first, layout.table_sectors)?.to_be_bytes());
    out.extend([0; 4]);
    let root = layout.folders.first();
    let root = root.ok_or_else(|| Error::corrupt("an image without a root"))?;
    out.extend(record(root.sector, root.len, true, &[0], &[], made)?);
    for (text, len) in [
        ("", 128),
        ("", 128),
        ("", 128),
        ("DORMOUSE", 128),
        ("", 37),
        ("", 37),
        ("", 37),
    ] {
        out.extend(padded(text, len)?);
    }
    // Created, modified; expires and takes effect at no time.
    out.extend(made.long);
    out.extend(made.long);
    for _ in 0..2 {
        out.extend([b'0'; 16]);
        out.push(0);
    }
    out.extend([1, 0]);
    out.resize(SECTOR as usize, 0);
    Ok(out)
}

/// The descriptor that ends their set (8.3).
pub(super) fn terminator() -> Vec<u8> {
    let mut out = vec![255];
    out.extend(b"CD001\x01");
    out.resize(SECTOR as usize, 0);
    out
}

/// A text filled with spaces.
fn padded(text: &str, len: usize) -> Result<Vec<u8>> {
    if text.len() > len || !text.is_ascii() {
        return Err(Error::limit(format!(
            "{text:?} is no label of {len} letters at most"
        )));
    }
    let mut out = text.as_bytes().to_vec();
    out.resize(len, b' ');
    Ok(out)
}

/// A number in both byte orders (7.3.3).
pub(super) fn both(value: u32) -> [u8; 8] {
    let mut out = [0; 8];
    let (little, big) = out.split_at_mut(4);
    little.copy_from_slice(&value.to_le_bytes());
    big.copy_from_slice(&value.to_be_bytes());
    out
}

/// A time in the two forms of the format, in UTC.
pub(super) struct Stamp {
    /// 9.1.5
    short: [u8; 7],
    /// 8.4.26.1
    long: [u8; 17],
}

impl Stamp {
    pub(super) fn of(time: Time) -> Result<Self> {
        let bad = || Error::limit("a time that ISO 9660 cannot hold");
        let instant = Timestamp::from_second(time.seconds).map_err(|_| bad())?;
        let at = instant.to_zoned(jiff::tz::TimeZone::UTC).datetime();
        let year = at
            .year()
            .checked_sub(1900)
            .and_then(|year| u8::try_from(year).ok());
        let mut short = [year.ok_or_else(bad)?, 0, 0, 0, 0, 0, 0];
        let parts = [at.month(), at.day(), at.hour(), at.minute(), at.second()];
        for (to, from) in short.iter_mut().skip(1).zip(parts) {
            *to = u8::try_from(from).map_err(|_| bad())?;
        }
        let text = format!(
            "{:04}{:02}{:02}{:02}{:02}{:02}00\0",
            at.year(),
            at.month(),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        );
        let long = <[u8; 17]>::try_from(text.as_bytes()).map_err(|_| bad())?;
        Ok(Self { short, long })
    }
}
