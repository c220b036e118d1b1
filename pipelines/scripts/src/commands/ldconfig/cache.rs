//! The file `/etc/ld.so.cache`: entries in the order in which the dynamic linker searches them by halves, strings, and
//! since glibc 2.33 a table of names of processors' abilities and the name of the program that wrote it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
/// The file's numbers are little-endian.
const ENDIAN: u32 = 2;
/// Marks an entry whose ability is a row of the extension's table.
const HWCAP_EXTENSION: u64 = 1 << 62;

/// One library.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) soname: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) flags: u32,
    pub(super) os_version: u32,
    pub(super) hwcap: Option<Vec<u8>>,
}

/// The order of names: runs of digits by their value.
pub(super) fn compare_names(one: &[u8], two: &[u8]) -> Ordering {
    let number = |text: &mut &[u8]| {
        let mut value = 0_i32;
        while let Some((&byte, rest)) = text.split_first()
            && byte.is_ascii_digit()
        {
            value = value
                .wrapping_mul(10)
                .wrapping_add(i32::from(byte) - i32::from(b'0'));
            *text = rest;
        }
        value
    };
    let signed = |byte: u8| i32::from(i8::from_ne_bytes([byte]));
    let (mut one, mut two) = (one, two);
    loop {
        match (one.split_first(), two.split_first()) {
            (None, None) => return Ordering::Equal,
            (None, Some((&byte, _))) => return 0.cmp(&signed(byte)),
            (Some((first, _)), second) if first.is_ascii_digit() => {
                if !second.is_some_and(|(byte, _)| byte.is_ascii_digit()) {
                    return Ordering::Greater;
                }
                let (left, right) = (number(&mut one), number(&mut two));
                if left != right {
                    return left.wrapping_sub(right).cmp(&0);
                }
            }
            (Some(_), Some((byte, _))) if byte.is_ascii_digit() => return Ordering::Less,
            (Some((&first, rest)), second) => {
                let other = second.map_or(0, |(&byte, _)| byte);
                if first != other {
                    return signed(first).cmp(&signed(other));
                }
                one = rest;
                two = second.map(|(_, rest)| rest).unwrap_or_default();
            }
        }
    }
}

fn order(one: &Entry, two: &Entry) -> Ordering {
    compare_names(&two.soname, &one.soname)
        .then(two.flags.cmp(&one.flags))
        // Libraries of abilities stand before those for all.
        .then(one.hwcap.is_none().cmp(&two.hwcap.is_none()))
        .then_with(|| one.hwcap.cmp(&two.hwcap))
        .then(two.os_version.cmp(&one.os_version))
}

/// The file's bytes; `None` where an offset would not fit.
pub(super) fn write(mut entries: Vec<Entry>, generator: Option<&[u8]>) -> Option<Vec<u8>> {
    entries.sort_by(order);
    match generator {
        Some(generator) => write_extended(&entries, generator),
        None => write_plain(&entries),
    }
}

fn size(length: usize) -> Option<u32> {
    u32::try_from(length).ok()
}

/// Where each string begins: strings that end another share its bytes.
struct Strings {
    bytes: Vec<u8>,
    at: BTreeMap<Vec<u8>, usize>,
}

impl Strings {
    fn of<'s>(all: impl Iterator<Item = &'s [u8]>) -> Self {
        let unique: BTreeSet<&[u8]> = all.collect();
        let mut sorted: Vec<&[u8]> = unique.into_iter().collect();
        // By their ends, from the last on; of two that end alike, the longer first.
        sorted.sort_by(|one, two| {
            let differ = one
                .iter()
                .rev()
                .zip(two.iter().rev())
                .find(|(left, right)| left != right);
            match differ {
                Some((left, right)) => right.cmp(left),
                None => two.len().cmp(&one.len()),
            }
        });
        let mut out = Self {
            bytes: Vec::new(),
            at: BTreeMap::new(),
        };
        let mut last: &[u8] = &[];
        let mut last_at = 0_usize;
        for text in sorted {
            let at = if !out.bytes.is_empty() && last.ends_with(text) {
                last_at.saturating_add(last.len().saturating_sub(text.len()))
            } else {
                let at = out.bytes.len();
                out.bytes.extend_from_slice(text);
                out.bytes.push(0);
                at
            };
            out.at.insert(text.to_vec(), at);
            (last, last_at) = (text, at);
        }
        out
    }

    fn offset(&self, text: &[u8], start: usize) -> Option<u32> {
        size(self.at.get(text)?.checked_add(start)?)
    }
}

fn write_extended(entries: &[Entry], generator: &[u8]) -> Option<Vec<u8>> {
    let hwcaps: Vec<&[u8]> = entries
        .iter()
        .filter_map(|entry| entry.hwcap.as_deref())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let strings = Strings::of(
        entries
            .iter()
            .flat_map(|entry| [&entry.soname[..], &entry.path])
            .chain(hwcaps.iter().copied()),
    );
    let start = entries.len().checked_mul(24)?.checked_add(48)?;
    let strings_end = start.checked_add(strings.bytes.len())?;
    let extension = strings_end.checked_next_multiple_of(4)?;
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    for field in [
        size(entries.len())?,
        size(strings.bytes.len())?,
        ENDIAN,
        size(extension)?,
        0,
        0,
        0,
    ] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    for entry in entries {
        let hwcap = match &entry.hwcap {
            None => 0,
            Some(name) => {
                let row = hwcaps.iter().position(|known| known == name)?;
                HWCAP_EXTENSION | u64::try_from(row).ok()?
            }
        };
        for field in [
            entry.flags,
            strings.offset(&entry.soname, start)?,
            strings.offset(&entry.path, start)?,
            entry.os_version,
        ] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&hwcap.to_le_bytes());
    }
    out.extend_from_slice(&strings.bytes);
    out.resize(extension, 0);
    // Sections: tag, flags, offset, size. The program's name is 0, the table of abilities 1.
    let sections: usize = if hwcaps.is_empty() { 1 } else { 2 };
    let table = extension.checked_add(sections.checked_mul(16)?.checked_add(8)?)?;
    let table_size = hwcaps.len().checked_mul(4)?;
    let mut fields = vec![
        EXTENSION_MAGIC,
        size(sections)?,
        0,
        0,
        size(table.checked_add(table_size)?)?,
        size(generator.len())?,
    ];
    if !hwcaps.is_empty() {
        fields.extend([1, 0, size(table)?, size(table_size)?]);
    }
    for name in hwcaps {
        fields.push(strings.offset(name, start)?);
    }
    for field in fields {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(generator);
    Some(out)
}

/// The format without extension: strings one after the other, each name before its path.
fn write_plain(entries: &[Entry]) -> Option<Vec<u8>> {
    if entries.iter().any(|entry| entry.hwcap.is_some()) {
        return None;
    }
    let start = entries.len().checked_mul(24)?.checked_add(48)?;
    let mut strings: Vec<u8> = Vec::new();
    let mut rows = Vec::new();
    for entry in entries {
        let mut put = |text: &[u8]| {
            let at = start.checked_add(strings.len())?;
            strings.extend_from_slice(text);
            strings.push(0);
            size(at)
        };
        rows.push([
            entry.flags,
            put(&entry.soname)?,
            put(&entry.path)?,
            entry.os_version,
            0,
            0,
        ]);
    }
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    let header = [
        size(entries.len())?,
        size(strings.len())?,
        ENDIAN,
        0,
        0,
        0,
        0,
    ];
    for field in header.into_iter().chain(rows.into_iter().flatten()) {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&strings);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_compare_by_value() {
        for (one, two, wanted) in [
            ("libz.so.1", "libz.so.2", Ordering::Less),
            ("libz.so.10", "libz.so.9", Ordering::Greater),
            ("libz.so", "libz.so.1", Ordering::Less),
            ("lib1.so", "liba.so", Ordering::Greater),
            ("liba.so", "lib1.so", Ordering::Less),
            ("lib01.so", "lib1.so", Ordering::Equal),
            ("", "a", Ordering::Less),
        ] {
            assert_eq!(
                compare_names(one.as_bytes(), two.as_bytes()),
                wanted,
                "{one} {two}"
            );
        }
    }

    #[test]
    fn ends_are_shared() {
        let strings = Strings::of([&b"/lib/a.so"[..], b"a.so", b"b.so"].into_iter());
        assert_eq!(strings.bytes, b"b.so\0/lib/a.so\0");
        assert_eq!(strings.offset(b"a.so", 0), Some(10));
    }
}
