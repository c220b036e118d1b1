//! Values of keys.

use dormouse_block::{Error, Result, le_u16, le_u32, slice_at};

use super::Hive;
use super::key::{latin1, utf16};

/// The data is in the value's own cell, in the field that otherwise says where it is.
const RESIDENT: u32 = 1 << 31;
/// Bytes of a value's cell before its name.
const HEAD: usize = 20;
/// Longest name in bytes: 16,383 characters of UTF-16.
const MAX_NAME: usize = 2 * 16_383;
/// Most data read of one value, in bytes. What is wanted of a hive here has a few hundred.
const MAX_DATA: u32 = 16 << 20;
/// Most data in one cell, in hives of version 1.4 and later.
const SEGMENT: usize = 16_344;
/// The name is in Latin-1.
const COMPRESSED_NAME: u16 = 1;

/// A value: a name, a type, and data.
#[derive(Clone)]
pub struct Value<'h> {
    hive: &'h Hive,
    name: String,
    kind: u32,
    size: u32,
    data: u32,
}

impl<'h> Value<'h> {
    /// A string.
    pub const SZ: u32 = 1;
    /// A string with names of variables in it.
    pub const EXPAND_SZ: u32 = 2;
    /// A 32-bit number.
    pub const DWORD: u32 = 4;
    /// Several strings.
    pub const MULTI_SZ: u32 = 7;
    /// A 64-bit number.
    pub const QWORD: u32 = 11;

    pub(super) fn read(hive: &'h Hive, offset: u32) -> Result<Self> {
        Self::decode(hive, offset).map_err(|error| error.at_offset(offset.into()))
    }

    fn decode(hive: &'h Hive, offset: u32) -> Result<Self> {
        let mut cell = hive.cell(offset, HEAD + 64)?;
        if slice_at(&cell, 0, 2)? != b"vk" {
            return Err(Error::corrupt("a value that is none"));
        }
        let length = usize::from(le_u16(&cell, 2)?).min(MAX_NAME);
        if length > 64 {
            cell = hive.cell(offset, HEAD.saturating_add(length))?;
        }
        let name = slice_at(&cell, HEAD, length)?;
        let name = if le_u16(&cell, 16)? & COMPRESSED_NAME == 0 {
            utf16(name)
        } else {
            latin1(name)
        };
        Ok(Self {
            hive,
            name,
            kind: le_u32(&cell, 12)?,
            size: le_u32(&cell, 4)?,
            data: le_u32(&cell, 8)?,
        })
    }

    /// Its name; empty for the key's own value.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its type, such as [`Value::SZ`].
    #[must_use]
    pub fn kind(&self) -> u32 {
        self.kind
    }

    /// Its data.
    ///
    /// # Errors
    /// `Corrupt` when a cell of it is broken, `Limit` for more than 16 MiB.
    pub fn data(&self) -> Result<Vec<u8>> {
        if self.size & RESIDENT != 0 {
            let length = usize::try_from(self.size & !RESIDENT).unwrap_or(usize::MAX);
            return Ok(slice_at(&self.data.to_le_bytes(), 0, length)?.to_vec());
        }
        if self.size == 0 {
            return Ok(Vec::new());
        }
        if self.size > MAX_DATA {
            return Err(Error::limit("a value of more than 16 MiB"));
        }
        let length = usize::try_from(self.size).unwrap_or(usize::MAX);
        if length > SEGMENT && self.hive.has_big_data() {
            let cell = self.hive.cell(self.data, 8)?;
            if slice_at(&cell, 0, 2)? == b"db" {
                return self.segments(&cell, length);
            }
        }
        let mut data = self.hive.cell(self.data, length)?;
        if data.len() < length {
            return Err(
                Error::corrupt("a value whose cell is smaller than its data")
                    .at_offset(self.data.into()),
            );
        }
        data.truncate(length);
        Ok(data)
    }

    fn segments(&self, cell: &[u8], length: usize) -> Result<Vec<u8>> {
        let count = usize::from(le_u16(cell, 2)?);
        let list = self.hive.cell(le_u32(cell, 4)?, count.saturating_mul(4))?;
        let mut data = Vec::with_capacity(length);
        for index in 0..count {
            let want = length.saturating_sub(data.len()).min(SEGMENT);
            if want == 0 {
                break;
            }
            let segment = self
                .hive
                .cell(le_u32(&list, index.saturating_mul(4))?, want)?;
            data.extend_from_slice(slice_at(&segment, 0, want)?);
        }
        if data.len() < length {
            return Err(
                Error::corrupt("a value with fewer segments than its data has")
                    .at_offset(self.data.into()),
            );
        }
        Ok(data)
    }

    /// The text of a string, up to its first NUL; `None` for other types.
    ///
    /// # Errors
    /// As [`Value::data`].
    pub fn text(&self) -> Result<Option<String>> {
        if !matches!(self.kind, Self::SZ | Self::EXPAND_SZ) {
            return Ok(None);
        }
        let text = utf16(&self.data()?);
        Ok(text.split('\0').next().map(str::to_owned))
    }

    /// A number of 32 bits; `None` for other types and sizes.
    ///
    /// # Errors
    /// As [`Value::data`].
    pub fn number(&self) -> Result<Option<u32>> {
        if self.kind != Self::DWORD {
            return Ok(None);
        }
        Ok(self.data()?.try_into().ok().map(u32::from_le_bytes))
    }
}
