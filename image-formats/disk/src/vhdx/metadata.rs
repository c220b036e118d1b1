//! The metadata: sizes, and the parent of a differencing disk ([MS-VHDX] 2.6).

use std::collections::BTreeMap;

use dormouse_block::{Error, Result, Source, le_u16, le_u32, le_u64, read_vec_at, slice_at};

use super::guid::Guid;
use super::header::{MAX_ENTRIES, Region};
use crate::parents::utf16;

/// Bytes of the table; items lie behind it.
const TABLE: u64 = 64 << 10;
/// "Length ... must be less than or equal to 1 MB."
const MAX_ITEM: u32 = 1 << 20;
/// "The maximum virtual disk size is 64 TB."
const MAX_SIZE: u64 = 64 << 40;
/// Blocks are 1 to 256 MiB.
const BLOCKS: std::ops::RangeInclusive<u32> = (1 << 20)..=(256 << 20);
/// Keys of a parent locator; the specification knows five.
const MAX_KEYS: u16 = 64;

const FILE_PARAMETERS: Guid = Guid::new(
    0xcaa1_6737,
    0xfa36,
    0x4d43,
    [0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b],
);
const DISK_SIZE: Guid = Guid::new(
    0x2fa5_4224,
    0xcd1b,
    0x4876,
    [0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8],
);
const DISK_ID: Guid = Guid::new(
    0xbeca_12ab,
    0xb2e6,
    0x4523,
    [0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46],
);
const LOGICAL_SECTOR: Guid = Guid::new(
    0x8141_bf1d,
    0xa96f,
    0x4709,
    [0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f],
);
const PHYSICAL_SECTOR: Guid = Guid::new(
    0xcda3_48c7,
    0x445d,
    0x4471,
    [0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56],
);
const PARENT_LOCATOR: Guid = Guid::new(
    0xa8d3_5f2d,
    0xb30b,
    0x454d,
    [0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c],
);
/// The only type of locator.
const VHDX_LOCATOR: Guid = Guid::new(
    0xb04a_efb7,
    0xd19e,
    0x4a81,
    [0xb7, 0x89, 0x25, 0xb8, 0xe9, 0x44, 0x59, 0x13],
);

/// Validated metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metadata {
    /// Bytes of a block, a power of two.
    pub(super) block: u64,
    /// Bytes of the disk.
    pub(super) size: u64,
    /// 512 or 4096: the unit of sector bitmaps.
    pub(super) sector: u64,
    pub(super) parent: Option<Parent>,
}

/// What a differencing disk says of its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parent {
    /// The ids of the parent's content under which it is the right one.
    pub(super) linkages: Vec<String>,
    /// Its names, the relative one first.
    pub(super) names: Vec<Vec<u8>>,
}

impl Metadata {
    pub(super) fn read(file: &dyn Source, region: Region) -> Result<Self> {
        let items = Items::read(file, region)?;
        let parameters = items.wanted(FILE_PARAMETERS, 8, "file parameters")?;
        let (block, flags) = (le_u32(&parameters, 0)?, le_u32(&parameters, 4)?);
        if !BLOCKS.contains(&block) || !block.is_power_of_two() {
            return Err(Error::corrupt(format!(
                "blocks of {block} bytes are impossible"
            )));
        }
        let sector = le_u32(&items.wanted(LOGICAL_SECTOR, 4, "logical sector size")?, 0)?;
        if !matches!(sector, 512 | 4096) {
            return Err(Error::corrupt(format!(
                "sectors of {sector} bytes are impossible"
            )));
        }
        let size = le_u64(&items.wanted(DISK_SIZE, 8, "disk size")?, 0)?;
        if size > MAX_SIZE {
            return Err(Error::limit(format!(
                "a disk of {size} bytes is larger than the 64 TiB that VHDX allows"
            )));
        }
        if !size.is_multiple_of(u64::from(sector)) {
            return Err(Error::corrupt(format!(
                "a disk of {size} bytes is no whole number of sectors of {sector}"
            )));
        }
        let parent = if flags & 2 != 0 {
            Some(Parent::parse(&items.wanted(
                PARENT_LOCATOR,
                20,
                "parent locator",
            )?)?)
        } else {
            None
        };
        Ok(Self {
            block: u64::from(block),
            size,
            sector: u64::from(sector),
            parent,
        })
    }
}

/// The table of items.
struct Items<'a> {
    file: &'a dyn Source,
    /// Host offset and length by id.
    places: BTreeMap<Guid, (u64, usize)>,
}

impl<'a> Items<'a> {
    fn read(file: &'a dyn Source, region: Region) -> Result<Self> {
        const KNOWN: [Guid; 6] = [
            FILE_PARAMETERS,
            DISK_SIZE,
            DISK_ID,
            LOGICAL_SECTOR,
            PHYSICAL_SECTOR,
            PARENT_LOCATOR,
        ];
        let table = read_vec_at(file, region.offset, 64 << 10)?;
        if slice_at(&table, 0, 8)? != b"metadata" {
            return Err(Error::corrupt("the metadata table is not there").at_offset(region.offset));
        }
        let count = u32::from(le_u16(&table, 10)?);
        if count > MAX_ENTRIES {
            return Err(Error::corrupt(format!(
                "a metadata table of {count} entries is impossible"
            )));
        }
        let mut places = BTreeMap::new();
        for number in 0..usize::try_from(count).unwrap_or(0) {
            let entry = slice_at(&table, number.saturating_mul(32).saturating_add(32), 32)?;
            let id = Guid::at(entry, 0)?;
            let (offset, len, flags) = (
                u64::from(le_u32(entry, 16)?),
                le_u32(entry, 20)?,
                le_u32(entry, 24)?,
            );
            // Bit 0: a user's; bit 2: whoever does not know it must not open the file.
            if flags & 1 != 0 || !KNOWN.contains(&id) {
                if flags & 4 != 0 {
                    return Err(Error::unsupported(format!(
                        "needs the unknown metadata {id}"
                    )));
                }
                continue;
            }
            if len > MAX_ITEM {
                return Err(Error::limit(format!(
                    "metadata of {len} bytes are larger than {MAX_ITEM}"
                )));
            }
            let within = offset >= TABLE && offset.saturating_add(u64::from(len)) <= region.len;
            if !within {
                return Err(
                    Error::corrupt("metadata lie outside of their region").at_offset(region.offset)
                );
            }
            let place = (
                region.offset.saturating_add(offset),
                usize::try_from(len).unwrap_or(0),
            );
            if places.insert(id, place).is_some() {
                return Err(Error::corrupt("the metadata table names an item twice"));
            }
        }
        Ok(Self { file, places })
    }

    fn wanted(&self, id: Guid, least: usize, what: &str) -> Result<Vec<u8>> {
        let (offset, len) = self
            .places
            .get(&id)
            .filter(|(_, len)| *len >= least)
            .ok_or_else(|| Error::corrupt(format!("the metadata have no {what}")))?;
        read_vec_at(self.file, *offset, *len)
    }
}

impl Parent {
    fn parse(item: &[u8]) -> Result<Self> {
        let kind = Guid::at(item, 0)?;
        if kind != VHDX_LOCATOR {
            return Err(Error::unsupported(format!(
                "a parent locator of unknown type {kind}"
            )));
        }
        let count = le_u16(item, 18)?;
        if count > MAX_KEYS {
            return Err(Error::limit(format!(
                "a parent locator of {count} keys is longer than {MAX_KEYS}"
            )));
        }
        let text = |offset: u32, len: u16| -> Result<String> {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            let (units, _) = slice_at(item, offset, usize::from(len))?.as_chunks::<2>();
            Ok(utf16(units.iter().map(|unit| u16::from_le_bytes(*unit))))
        };
        let mut keys = BTreeMap::new();
        for number in 0..usize::from(count) {
            let entry = slice_at(item, number.saturating_mul(12).saturating_add(20), 12)?;
            let key = text(le_u32(entry, 0)?, le_u16(entry, 8)?)?;
            let value = text(le_u32(entry, 4)?, le_u16(entry, 10)?)?;
            keys.insert(key, value);
        }
        let linkages: Vec<String> = ["parent_linkage", "parent_linkage2"]
            .iter()
            .filter_map(|key| keys.get(*key))
            .map(|value| value.trim_matches(['{', '}']).to_ascii_lowercase())
            .collect();
        if linkages.is_empty() {
            return Err(Error::corrupt(
                "the parent locator does not say which content it is a layer over",
            ));
        }
        let names = ["relative_path", "absolute_win32_path", "volume_path"]
            .iter()
            .filter_map(|key| keys.get(*key))
            .map(|value| value.clone().into_bytes())
            .collect();
        Ok(Self { linkages, names })
    }
}
