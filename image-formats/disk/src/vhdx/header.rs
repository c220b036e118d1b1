//! The two headers and the two region tables at the start of the file ([MS-VHDX] 2.2).

use dormouse_block::{Error, Result, Source, le_u16, le_u32, le_u64, read_vec_at, slice_at};

use super::guid::Guid;

const MIB: u64 = 1 << 20;
/// Where the headers and the region tables lie.
const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
const REGION_TABLES: [u64; 2] = [192 << 10, 256 << 10];
/// Bytes of a header and of a region table.
const HEADER: usize = 4096;
const REGION_TABLE: usize = 64 << 10;
/// "EntryCount ... must be less than or equal to 2,047."
pub(super) const MAX_ENTRIES: u32 = 2047;
/// Bytes of a log: Hyper-V makes one of 1 MiB. All of it is held while it is replayed.
const MAX_LOG: u32 = 16 << 20;

const BAT: Guid = Guid::new(
    0x2dc2_7766,
    0xf623,
    0x4200,
    [0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08],
);
const METADATA: Guid = Guid::new(
    0x8b7c_a206,
    0x4790,
    0x4b9a,
    [0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e],
);

/// The header that counts: of the valid ones that with the higher sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    sequence: u64,
    /// Changes with every change of what a guest reads.
    pub(super) data_write: Guid,
    /// The entries of the log that are to be replayed carry this; none are when it is empty.
    pub(super) log: Guid,
    pub(super) log_offset: u64,
    pub(super) log_len: u32,
}

impl Header {
    pub(super) fn read(file: &dyn Source) -> Result<Self> {
        if read_vec_at(file, 0, 8).map_err(|_| short())? != b"vhdxfile" {
            return Err(Error::corrupt("not a VHDX file"));
        }
        let [first, second] = HEADERS.map(|at| Self::parse(file, at));
        let header = match (first, second) {
            (Ok(first), Ok(second)) if first.sequence == second.sequence && first != second => {
                return Err(Error::corrupt(
                    "both VHDX headers claim to be the newest and say different things",
                ));
            }
            (Ok(first), Ok(second)) if first.sequence < second.sequence => second,
            (Ok(header), _) | (Err(_), Ok(header)) => header,
            (Err(error), Err(_)) => return Err(error),
        };
        if header.log_len > MAX_LOG {
            return Err(Error::limit(format!(
                "a log of {} bytes is larger than the {MAX_LOG} allowed",
                header.log_len
            )));
        }
        let aligned =
            header.log_offset.is_multiple_of(MIB) && u64::from(header.log_len).is_multiple_of(MIB);
        let end = header.log_offset.checked_add(u64::from(header.log_len));
        if !header.log.is_nil()
            && (!aligned || header.log_offset < MIB || end.is_none_or(|end| end > file.len()))
        {
            return Err(
                Error::corrupt("the log lies where no log can be").at_offset(header.log_offset)
            );
        }
        Ok(header)
    }

    fn parse(file: &dyn Source, at: u64) -> Result<Self> {
        let bytes = read_vec_at(file, at, HEADER).map_err(|_| short())?;
        check(&bytes, b"head", "a VHDX header").map_err(|error| error.at_offset(at))?;
        let (log_version, version) = (le_u16(&bytes, 64)?, le_u16(&bytes, 66)?);
        let header = Self {
            sequence: le_u64(&bytes, 8)?,
            data_write: Guid::at(&bytes, 32)?,
            log: Guid::at(&bytes, 48)?,
            log_len: le_u32(&bytes, 68)?,
            log_offset: le_u64(&bytes, 72)?,
        };
        if version != 1 || (log_version != 0 && !header.log.is_nil()) {
            return Err(Error::unsupported(format!(
                "a VHDX of unknown version {version}, with a log of version {log_version}"
            )));
        }
        Ok(header)
    }
}

fn short() -> Error {
    Error::corrupt("the file ends within the VHDX headers")
}

/// Holds a structure against its signature and its CRC-32C, in which its own field counts as zero.
fn check(bytes: &[u8], signature: &[u8; 4], what: &str) -> Result<()> {
    if slice_at(bytes, 0, 4)? != signature {
        return Err(Error::corrupt(format!("{what} is not there")));
    }
    if checksum(bytes)? != le_u32(bytes, 4)? {
        return Err(Error::corrupt(format!("the checksum of {what} is wrong")));
    }
    Ok(())
}

/// The CRC-32C of a structure whose checksum stands at byte 4.
pub(super) fn checksum(bytes: &[u8]) -> Result<u32> {
    let crc = crc32c::crc32c(slice_at(bytes, 0, 4)?);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    Ok(crc32c::crc32c_append(
        crc,
        bytes.get(8..).unwrap_or_default(),
    ))
}

/// A stretch of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// Where the block allocation table and the metadata lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Regions {
    pub(super) bat: Region,
    pub(super) metadata: Region,
}

impl Regions {
    /// The first valid region table of `file`.
    pub(super) fn read(file: &dyn Source) -> Result<Self> {
        let [first, second] = REGION_TABLES.map(|at| Self::parse(file, at));
        match (first, second) {
            (Ok(regions), _) | (Err(_), Ok(regions)) => Ok(regions),
            (Err(error), Err(_)) => Err(error),
        }
    }

    fn parse(file: &dyn Source, at: u64) -> Result<Self> {
        let bytes = read_vec_at(file, at, REGION_TABLE).map_err(|_| short())?;
        check(&bytes, b"regi", "the region table").map_err(|error| error.at_offset(at))?;
        let count = le_u32(&bytes, 8)?;
        if count > MAX_ENTRIES {
            return Err(Error::corrupt(format!(
                "a region table of {count} entries is impossible"
            )));
        }
        let (mut bat, mut metadata) = (None, None);
        for number in 0..usize::try_from(count).unwrap_or(0) {
            let entry = slice_at(&bytes, number.saturating_mul(32).saturating_add(16), 32)?;
            let guid = Guid::at(entry, 0)?;
            let region = Region {
                offset: le_u64(entry, 16)?,
                len: u64::from(le_u32(entry, 24)?),
            };
            let required = le_u32(entry, 28)? & 1 != 0;
            let slot = match guid {
                BAT => &mut bat,
                METADATA => &mut metadata,
                _ if required => {
                    return Err(Error::unsupported(format!(
                        "needs the unknown region {guid}"
                    )));
                }
                _ => continue,
            };
            if region.offset < MIB
                || !region.offset.is_multiple_of(MIB)
                || !region.len.is_multiple_of(MIB)
            {
                return Err(
                    Error::corrupt("a region lies where none can be").at_offset(region.offset)
                );
            }
            let end = region.offset.checked_add(region.len);
            if end.is_none_or(|end| end > file.len()) {
                return Err(Error::corrupt("a region lies beyond the end of the file")
                    .at_offset(region.offset));
            }
            if slot.replace(region).is_some() {
                return Err(Error::corrupt("the region table names a region twice"));
            }
        }
        match (bat, metadata) {
            (Some(bat), Some(metadata)) => Ok(Self { bat, metadata }),
            _ => Err(Error::corrupt(
                "the region table lacks the block allocation table or the metadata",
            )),
        }
    }
}
