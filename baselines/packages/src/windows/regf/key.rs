//! Keys of a hive, and the lists that lead to their subkeys.

use dormouse_block::{Error, Result, le_u16, le_u32, le_u64, slice_at};

use super::{Hive, Value};

/// No cell.
const NIL: u32 = u32::MAX;
/// Subkeys or values of one key. The fullest known (`Classes\CLSID`, the component store's) have some 30,000.
const MAX_CHILDREN: u32 = 1 << 20;
/// Bytes of a key's cell before its name.
const NODE: usize = 76;
/// Longest name in bytes: 255 characters of UTF-16, with some room for those who write hives themselves.
const MAX_NAME: usize = 1024;
/// The name is in Latin-1.
const COMPRESSED_NAME: u16 = 0x20;
/// The fields of values mean something else.
const PREDEFINED_HANDLE: u16 = 0x40;
/// How deep a path of keys may be: Windows' own limit.
const MAX_DEPTH: usize = 512;

/// A key.
#[derive(Clone)]
pub struct Key<'h> {
    hive: &'h Hive,
    offset: u32,
    name: String,
    last_written: u64,
    subkeys: (u32, u32),
    values: (u32, u32),
}

impl<'h> Key<'h> {
    /// The key at `offset`, which must be a child of `parent`.
    pub(super) fn read(hive: &'h Hive, offset: u32, parent: Option<u32>) -> Result<Self> {
        Self::decode(hive, offset, parent).map_err(|error| error.at_offset(offset.into()))
    }

    fn decode(hive: &'h Hive, offset: u32, parent: Option<u32>) -> Result<Self> {
        let cell = hive.cell(offset, NODE + MAX_NAME)?;
        if slice_at(&cell, 0, 2)? != b"nk" {
            return Err(Error::corrupt("a key that is none"));
        }
        if parent.is_some_and(|parent| le_u32(&cell, 16).ok() != Some(parent)) {
            return Err(Error::corrupt("a key that says another one is its parent"));
        }
        let flags = le_u16(&cell, 2)?;
        let length = usize::from(le_u16(&cell, 72)?);
        let name = slice_at(&cell, NODE, length)?;
        let name = if flags & COMPRESSED_NAME == 0 {
            utf16(name)
        } else {
            latin1(name)
        };
        let values = if flags & PREDEFINED_HANDLE == 0 {
            (le_u32(&cell, 36)?, le_u32(&cell, 40)?)
        } else {
            (0, NIL)
        };
        let subkeys = (le_u32(&cell, 20)?, le_u32(&cell, 28)?);
        if subkeys.0 > MAX_CHILDREN || values.0 > MAX_CHILDREN {
            return Err(Error::limit("a key of more than 1048576 subkeys or values"));
        }
        Ok(Self {
            hive,
            offset,
            name,
            last_written: le_u64(&cell, 4)?,
            subkeys,
            values,
        })
    }

    /// Its name. Halves of surrogate pairs without the other half are replaced.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it was last changed, in units of 100 ns since 1601 UTC.
    #[must_use]
    pub fn last_written(&self) -> u64 {
        self.last_written
    }

    /// Its subkeys, in the order of their list.
    ///
    /// # Errors
    /// `Corrupt` for a list that is broken or does not have as many as the key says.
    pub fn subkeys(&self) -> Result<Subkeys<'h>> {
        Ok(Subkeys {
            hive: self.hive,
            parent: self.offset,
            offsets: self.list(None)?.into_iter(),
        })
    }

    /// The subkey of this name, with ASCII letters of either case.
    ///
    /// # Errors
    /// `Corrupt` for a broken list or key.
    pub fn subkey(&self, name: &str) -> Result<Option<Self>> {
        for offset in self.list(Some(name))? {
            let key = Self::read(self.hive, offset, Some(self.offset))?;
            if key.name.eq_ignore_ascii_case(name) {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// The key at `path` below this one: names between backslashes, with ASCII letters of either case.
    ///
    /// # Errors
    /// As [`Key::subkey`]; `Limit` for a path of more than 512 names.
    pub fn descendant(&self, path: &str) -> Result<Option<Self>> {
        let mut here = self.clone();
        let names = path.split('\\').filter(|name| !name.is_empty());
        for (depth, name) in names.enumerate() {
            if depth >= MAX_DEPTH {
                return Err(Error::limit("a path of more than 512 keys"));
            }
            match here.subkey(name)? {
                Some(next) => here = next,
                None => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    /// The offsets of the subkeys' cells; with a name, those that may have it by their hash.
    fn list(&self, name: Option<&str>) -> Result<Vec<u32>> {
        let (count, list) = self.subkeys;
        let mut offsets = Vec::new();
        if count == 0 {
            return Ok(offsets);
        }
        let mut left = count;
        let cell = self.hive.cell(list, LIST)?;
        if slice_at(&cell, 0, 2)? == b"ri" {
            for index in 0..usize::from(le_u16(&cell, 2)?) {
                let leaf = le_u32(&cell, index.saturating_mul(4).saturating_add(4))?;
                let leaf = self.hive.cell(leaf, LIST)?;
                take(&leaf, name, &mut left, &mut offsets)?;
            }
        } else {
            take(&cell, name, &mut left, &mut offsets)?;
        }
        if left != 0 {
            return Err(
                Error::corrupt("a list with fewer subkeys than the key says")
                    .at_offset(self.offset.into()),
            );
        }
        Ok(offsets)
    }

    /// Its values, in the order of their list.
    ///
    /// # Errors
    /// `Corrupt` for a broken list or value.
    pub fn values(&self) -> Result<Vec<Value<'h>>> {
        let (count, list) = self.values;
        if count == 0 {
            return Ok(Vec::new());
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let size = count.saturating_mul(4);
        let cell = self.hive.cell(list, size)?;
        let (offsets, _) = slice_at(&cell, 0, size)?.as_chunks::<4>();
        offsets
            .iter()
            .map(|offset| Value::read(self.hive, u32::from_le_bytes(*offset)))
            .collect()
    }

    /// The value of this name, with ASCII letters of either case; the empty name is the key's own value.
    ///
    /// # Errors
    /// As [`Key::values`].
    pub fn value(&self, name: &str) -> Result<Option<Value<'h>>> {
        let mut values = self.values()?.into_iter();
        Ok(values.find(|value| value.name().eq_ignore_ascii_case(name)))
    }
}

/// Largest list of subkeys, in bytes: 65,535 entries.
const LIST: usize = 4 + 8 * 0xffff;

/// Takes the entries of one leaf.
fn take(leaf: &[u8], name: Option<&str>, left: &mut u32, offsets: &mut Vec<u32>) -> Result<()> {
    let kind = slice_at(leaf, 0, 2)?;
    let width = match kind {
        b"li" => 4,
        b"lf" | b"lh" => 8,
        _ => return Err(Error::corrupt("a list of subkeys that is none")),
    };
    // Windows itself finds keys by this hash, so one under a wrong hash is not there for it either.
    let hash = name.filter(|_| kind == b"lh").map(name_hash);
    for index in 0..usize::from(le_u16(leaf, 2)?) {
        *left = left
            .checked_sub(1)
            .ok_or_else(|| Error::corrupt("a list with more subkeys than the key says"))?;
        let at = index.saturating_mul(width).saturating_add(4);
        let offset = le_u32(leaf, at)?;
        if hash.is_none_or(|hash| le_u32(leaf, at.saturating_add(4)).ok() == Some(hash)) {
            offsets.push(offset);
        }
    }
    Ok(())
}

/// The hash of a name in hash leaves: 37 times the hash so far and the next character in upper case.
fn name_hash(name: &str) -> u32 {
    name.encode_utf16().fold(0_u32, |hash, unit| {
        let unit = match u8::try_from(unit) {
            Ok(byte) => u32::from(byte.to_ascii_uppercase()),
            Err(_) => u32::from(unit),
        };
        hash.wrapping_mul(37).wrapping_add(unit)
    })
}

/// The subkeys of a key.
pub struct Subkeys<'h> {
    hive: &'h Hive,
    parent: u32,
    offsets: std::vec::IntoIter<u32>,
}

impl<'h> Iterator for Subkeys<'h> {
    type Item = Result<Key<'h>>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.offsets.next()?;
        Some(Key::read(self.hive, offset, Some(self.parent)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.offsets.size_hint()
    }
}

impl ExactSizeIterator for Subkeys<'_> {}

/// Little-endian UTF-16; an odd byte at the end is left out.
pub(super) fn utf16(bytes: &[u8]) -> String {
    let (units, _) = bytes.as_chunks::<2>();
    let units = units.iter().map(|unit| u16::from_le_bytes(*unit));
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

pub(super) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}
