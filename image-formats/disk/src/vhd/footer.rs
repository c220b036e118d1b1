//! The footer and the dynamic header (Virtual Hard Disk Image Format Specification 1.0).

use dormouse_block::{
    Error, ErrorKind, Result, Source, array_at, be_u16, be_u32, be_u64, read_vec_at, slice_at,
};

use crate::parents::utf16;

/// Bytes of a footer.
pub(super) const FOOTER: u64 = 512;
/// Bytes of a dynamic header.
const DYNAMIC: usize = 1024;
/// The geometry that says no more than "very large".
const LARGEST_GEOMETRY: u64 = 65_535 * 16 * 255;
/// Bytes of a block: 2 MiB is what everybody writes; the specification has no bound.
const MAX_BLOCK: u32 = 256 << 20;
/// Bytes of a parent's name in a locator: Windows' longest path, in UTF-16.
const MAX_LOCATOR: u32 = 2 * 32_768;

/// How the disk is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Fixed,
    Dynamic,
    Differencing,
}

/// A validated footer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) kind: Kind,
    /// Bytes of the disk.
    pub(super) size: u64,
    /// Where the dynamic header lies.
    pub(super) header: u64,
    /// By what a differencing disk knows its parent.
    pub(super) id: [u8; 16],
    /// A machine was suspended on this disk.
    pub(super) suspended: bool,
}

impl Footer {
    /// The footer of `file`, or its copy in front if the end is lost; and whether it was.
    pub(super) fn read(file: &dyn Source) -> Result<(Self, bool)> {
        let end = file
            .len()
            .checked_sub(FOOTER)
            .ok_or_else(|| Error::corrupt("the file is smaller than a VHD footer"))?;
        let last = Self::parse(&read_vec_at(file, end, 512)?);
        let error = match last {
            Ok(footer) => return Ok((footer, false)),
            // Sound and not for us: the copy would say the same.
            Err(error) if error.kind() != ErrorKind::Corrupt => {
                return Err(error);
            }
            Err(error) => error.at_offset(end),
        };
        // Dynamic disks begin with a copy.
        match Self::parse(&read_vec_at(file, 0, 512)?) {
            Ok(copy) if copy.kind != Kind::Fixed => Ok((copy, true)),
            _ => Err(error),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        if slice_at(bytes, 0, 8)? != b"conectix" {
            return Err(Error::corrupt("there is no VHD footer"));
        }
        check_sum(bytes, 64, "the VHD footer")?;
        let version = be_u32(bytes, 12)?;
        if version != 0x0001_0000 {
            return Err(Error::unsupported(format!(
                "a VHD of unknown version {version:#x}"
            )));
        }
        let kind = match be_u32(bytes, 60)? {
            2 => Kind::Fixed,
            3 => Kind::Dynamic,
            4 => Kind::Differencing,
            other => {
                return Err(Error::unsupported(format!("a VHD of unknown type {other}")));
            }
        };
        let size = be_u64(bytes, 48)?;
        let cylinders = u64::from(be_u16(bytes, 56)?);
        let [heads, per_track] = array_at(bytes, 58)?;
        let geometry = cylinders
            .saturating_mul(u64::from(heads))
            .saturating_mul(u64::from(per_track));
        // Virtual PC, and QEMU in its manner, make the disk as large as its geometry; everybody else does not.
        let creator = slice_at(bytes, 28, 4)?;
        let by_geometry =
            matches!(creator, b"vpc " | b"qemu") && geometry != 0 && geometry != LARGEST_GEOMETRY;
        let size = if by_geometry {
            geometry.saturating_mul(512)
        } else {
            size
        };
        if i64::try_from(size).is_err() {
            return Err(Error::limit(format!(
                "a disk of {size} bytes is larger than any host's files"
            )));
        }
        Ok(Self {
            kind,
            size,
            header: be_u64(bytes, 16)?,
            id: array_at(bytes, 68)?,
            suspended: bytes.get(84) == Some(&1),
        })
    }
}

/// The ones' complement of the sum of all bytes but its own.
fn check_sum(bytes: &[u8], at: usize, what: &str) -> Result<()> {
    let stored = be_u32(bytes, at)?;
    let own: u32 = slice_at(bytes, at, 4)?
        .iter()
        .map(|byte| u32::from(*byte))
        .sum();
    let sum = bytes
        .iter()
        .fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)))
        .wrapping_sub(own);
    if !sum != stored {
        return Err(Error::corrupt(format!("the checksum of {what} is wrong")));
    }
    Ok(())
}

/// A validated dynamic header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dynamic {
    /// Where the block allocation table lies.
    pub(super) table: u64,
    /// Entries in it.
    pub(super) entries: u32,
    /// Bytes of a block, a power of two.
    pub(super) block: u32,
    /// The parent's id.
    pub(super) parent: [u8; 16],
    /// The parent's names, as they are written, the most telling first.
    pub(super) names: Vec<Vec<u8>>,
}

impl Dynamic {
    /// The dynamic header at `at` of `file`.
    pub(super) fn read(file: &dyn Source, at: u64) -> Result<Self> {
        let bytes = read_vec_at(file, at, DYNAMIC)
            .map_err(|_| Error::corrupt("the dynamic header lies beyond the end of the file"))?;
        if slice_at(&bytes, 0, 8)? != b"cxsparse" {
            return Err(Error::corrupt("there is no dynamic header").at_offset(at));
        }
        check_sum(&bytes, 36, "the dynamic header")?;
        let version = be_u32(&bytes, 24)?;
        if version != 0x0001_0000 {
            return Err(Error::unsupported(format!(
                "a dynamic header of unknown version {version:#x}"
            )));
        }
        let header = Self {
            table: be_u64(&bytes, 16)?,
            entries: be_u32(&bytes, 28)?,
            block: be_u32(&bytes, 32)?,
            parent: array_at(&bytes, 40)?,
            names: names(file, &bytes)?,
        };
        if header.block > MAX_BLOCK {
            return Err(Error::limit(format!(
                "blocks of {} bytes are larger than the {MAX_BLOCK} allowed",
                header.block
            )));
        }
        if header.block < 512 || !header.block.is_power_of_two() {
            return Err(Error::corrupt(format!(
                "blocks of {} bytes are impossible",
                header.block
            )));
        }
        let end = u64::from(header.entries)
            .saturating_mul(4)
            .checked_add(header.table);
        if end.is_none_or(|end| end > file.len()) {
            return Err(Error::corrupt(
                "the block allocation table lies beyond the end of the file",
            )
            .at_offset(header.table));
        }
        Ok(header)
    }

    /// Bytes of the sector bitmap before each block's data: whole sectors.
    pub(super) fn bitmap(&self) -> u64 {
        (u64::from(self.block) / 512 / 8).next_multiple_of(512)
    }
}

/// What the parent is called: by the eight locators, the relative one first, and by the header itself.
fn names(file: &dyn Source, header: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for number in 0..8_usize {
        let at = number.saturating_mul(24).saturating_add(576);
        let code: [u8; 4] = array_at(header, at)?;
        let rank = match &code {
            b"W2ru" => 0,
            b"W2ku" => 1,
            // Older forms, in bytes, and macOS's.
            b"Wi2r" => 2,
            b"Wi2k" => 3,
            b"MacX" => 4,
            _ => continue,
        };
        let len = be_u32(header, at.saturating_add(8))?;
        let offset = be_u64(header, at.saturating_add(16))?;
        if len > MAX_LOCATOR {
            return Err(Error::limit(format!(
                "a parent locator of {len} bytes is longer than any path"
            )));
        }
        let len = usize::try_from(len).unwrap_or(0);
        let bytes = read_vec_at(file, offset, len)
            .map_err(|_| Error::corrupt("a parent locator lies beyond the end of the file"))?;
        let name = if rank < 2 {
            let (units, _) = bytes.as_chunks::<2>();
            utf16(units.iter().map(|unit| u16::from_le_bytes(*unit))).into_bytes()
        } else {
            bytes
                .split(|byte| *byte == 0)
                .next()
                .unwrap_or_default()
                .to_vec()
        };
        let name = name
            .strip_prefix(b"file://localhost")
            .or_else(|| name.strip_prefix(b"file://"))
            .map_or(name.clone(), <[u8]>::to_vec);
        found.push((rank, name));
    }
    let (units, _) = slice_at(header, 64, 512)?.as_chunks::<2>();
    let own = utf16(units.iter().map(|unit| u16::from_be_bytes(*unit)));
    found.push((5, own.into_bytes()));
    found.sort();
    Ok(found
        .into_iter()
        .map(|(_, name)| name)
        .filter(|name| !name.is_empty())
        .collect())
}
