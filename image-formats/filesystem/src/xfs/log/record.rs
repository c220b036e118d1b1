//! Records of the log: a header, and blocks whose first bytes the header keeps.

use dormouse_block::{Error, Result, array_at, be_u32, be_u64, le_u32, slice_at};

use super::super::{index, overflow};
use super::ring::BLOCK;

/// `XLOG_HEADER_MAGIC_NUM`.
pub(super) const MAGIC: u32 = 0xFEED_BABE;
/// `XLOG_FMT_LINUX_LE`: items are in the order of a little-endian processor.
const LITTLE_ENDIAN: u32 = 1;
/// Bytes of data after one block of headers; the first words of their blocks stand in it.
const PER_HEADER: u32 = 32768;
/// Blocks whose first words stand in one header.
const WORDS: usize = 64;
/// Bytes of the longest record (`XLOG_MAX_RECORD_BSIZE`).
const MAX_RECORD: u32 = 256 << 10;
/// Bytes of the header that its checksum covers, on 64-bit and on 32-bit processors (`struct xlog_rec_header`).
const HEADER_SIZES: [usize; 2] = [328, 324];
/// Bytes of each further header that the checksum covers.
const MORE_SIZE: usize = 260;

/// The header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// The cycle and block of the record.
    pub(super) lsn: u64,
    /// The cycle and block of the oldest record that is still needed.
    pub(super) tail: u64,
    /// Operations in it.
    pub(super) operations: u32,
    /// Bytes of data.
    len: u32,
    /// Blocks of headers.
    pub(super) headers: u64,
    version: u32,
    checksum: u32,
    format: u32,
    uuid: [u8; 16],
}

/// A record, its data as they were before it was written.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) header: Header,
    pub(super) data: Vec<u8>,
    /// The block after it.
    pub(super) next: u64,
}

impl Header {
    /// Reads the first block of a record.
    ///
    /// # Errors
    /// `Corrupt` for one that cannot be.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = |what: &str| Err(Error::corrupt(format!("bad {what} of a log record")));
        if be_u32(bytes, 0)? != MAGIC {
            return bad("magic number");
        }
        let version = be_u32(bytes, 8)?;
        if version == 0 || version & !3 != 0 {
            return bad("version");
        }
        let len = be_u32(bytes, 12)?;
        if len == 0 || len > MAX_RECORD {
            return bad("length");
        }
        let size = be_u32(bytes, 320)?;
        let headers = if version & 2 != 0 && size > PER_HEADER {
            size.min(MAX_RECORD).div_ceil(PER_HEADER)
        } else {
            1
        };
        Ok(Self {
            lsn: be_u64(bytes, 16)?,
            tail: be_u64(bytes, 24)?,
            operations: be_u32(bytes, 40)?,
            len,
            headers: u64::from(headers),
            version,
            checksum: le_u32(bytes, 32)?,
            format: be_u32(bytes, 300)?,
            uuid: array_at(bytes, 304)?,
        })
    }

    /// Blocks of data.
    pub(super) fn blocks(&self) -> u64 {
        u64::from(self.len).div_ceil(BLOCK)
    }

    /// Refuses a record of another filesystem, or one written by a processor of the other byte order.
    ///
    /// # Errors
    /// `Unsupported`, `Corrupt`.
    pub(super) fn check_origin(&self, uuid: &[u8; 16]) -> Result<()> {
        if self.format != LITTLE_ENDIAN {
            return Err(Error::unsupported(format!(
                "an unreplayed log of XFS in format {} (big-endian)",
                self.format
            )));
        }
        if self.uuid != *uuid {
            return Err(Error::corrupt("the log belongs to another filesystem"));
        }
        Ok(())
    }

    /// Whether the checksum fits; `bytes` are the whole record as it stands in the log. `must` says that there must be
    /// one: only version 5 promises it.
    fn sum_is_right(&self, bytes: &[u8], must: bool) -> Result<bool> {
        if self.checksum == 0 && !must {
            return Ok(true);
        }
        let start = index(self.headers.saturating_mul(BLOCK));
        let data = slice_at(bytes, start, index(self.len))?;
        for size in HEADER_SIZES {
            let mut sum = super::super::checksum(slice_at(bytes, 0, size)?, 32)?;
            if self.version & 2 != 0 {
                for nth in 1..self.headers {
                    let more = slice_at(bytes, index(nth.saturating_mul(BLOCK)), MORE_SIZE)?;
                    sum = crc32c::crc32c_append(sum, more);
                }
            }
            if crc32c::crc32c_append(sum, data) == self.checksum {
                return Ok(true);
            }
        }
        Ok(!must)
    }

    /// The data of the record that stands as `bytes` in the log, at block `at`.
    ///
    /// # Errors
    /// `Corrupt` for a wrong checksum.
    pub(super) fn unpack(&self, at: u64, bytes: &[u8], must: bool) -> Result<Vec<u8>> {
        if self.lsn & 0xFFFF_FFFF != at {
            return Err(Error::corrupt("a log record is not where it says"));
        }
        if !self.sum_is_right(bytes, must)? {
            return Err(Error::corrupt("bad checksum of a log record"));
        }
        let start = index(self.headers.saturating_mul(BLOCK));
        let mut data = slice_at(bytes, start, index(self.len))?.to_vec();
        for (nth, block) in data.chunks_mut(index(BLOCK)).enumerate() {
            // The first header keeps its words after 44 bytes, the others after 4.
            let header = nth / WORDS;
            let word = nth % WORDS;
            if header >= index(self.headers) {
                return Err(Error::corrupt(
                    "a log record is longer than its headers say",
                ));
            }
            let within = if header == 0 { 44_usize } else { 4 };
            let at = header
                .checked_mul(index(BLOCK))
                .and_then(|at| at.checked_add(within))
                .and_then(|at| at.checked_add(word.saturating_mul(4)))
                .ok_or_else(overflow)?;
            for (to, from) in block.iter_mut().zip(slice_at(bytes, at, 4)?) {
                *to = *from;
            }
        }
        Ok(data)
    }
}
