//! Inodes: what is kept of a file beside its bytes and its name.

use dormouse_block::{Error, Result, array_at, be_u16, be_u32, be_u64, slice_at};

use super::fork::{Fork, Format, Which};
use super::superblock::Superblock;
use super::{index, overflow};
use crate::{NodeKind, Time};

/// `IN`.
pub(super) const MAGIC: u16 = 0x494E;
/// Bytes before the data fork in versions 1 and 2.
pub(super) const CORE_2: usize = 100;
/// Bytes before the data fork in version 3.
pub(super) const CORE_3: usize = 176;
/// `XFS_DIFLAG_REALTIME`: the bytes are on the real-time device.
const REAL_TIME: u16 = 1;
/// `XFS_DIFLAG2_BIGTIME`: times are nanoseconds since 1901.
const BIG_TIME: u64 = 1 << 3;
/// `XFS_DIFLAG2_NREXT64`: extents are counted with 48 and 32 bits.
const MANY_EXTENTS: u64 = 1 << 4;
/// `XFS_DIFLAG2_METADATA`: a file of the filesystem itself.
const METADATA: u64 = 1 << 5;
/// Seconds of big times before 1970 (`XFS_BIGTIME_EPOCH_OFFSET`).
const BIG_EPOCH: i64 = 1 << 31;

/// An inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inode {
    /// Its number.
    pub(super) number: u64,
    raw: Vec<u8>,
    /// Type and permissions; 0 when free.
    pub(super) mode: u16,
    /// Owner.
    pub(super) uid: u32,
    /// Group.
    pub(super) gid: u32,
    /// Names that lead to it.
    pub(super) links: u32,
    /// Bytes.
    pub(super) size: u64,
    flags: u16,
    flags2: u64,
    version: u8,
}

fn legacy_time(bytes: [u8; 8]) -> Result<Time> {
    let [a, b, c, d, e, f, g, h] = bytes;
    let nanoseconds = u32::from_be_bytes([e, f, g, h]);
    if nanoseconds >= 1_000_000_000 {
        return Err(Error::corrupt("a time of more than a second's nanoseconds"));
    }
    Ok(Time {
        seconds: i64::from(i32::from_be_bytes([a, b, c, d])),
        nanoseconds,
    })
}

fn big_time(bytes: [u8; 8]) -> Result<Time> {
    const SECOND: u64 = 1_000_000_000;
    let all = u64::from_be_bytes(bytes);
    let seconds = i64::try_from(all / SECOND).map_err(|_| overflow())?;
    Ok(Time {
        seconds: seconds.saturating_sub(BIG_EPOCH),
        nanoseconds: u32::try_from(all % SECOND).map_err(|_| overflow())?,
    })
}

impl Inode {
    /// Reads inode `number` from its bytes, whose checksum was held against them before.
    ///
    /// # Errors
    /// `Corrupt` for what the kernel would refuse as well.
    pub(super) fn parse(sb: &Superblock, number: u64, raw: &[u8]) -> Result<Self> {
        let bad = |what: &str| Err(Error::corrupt(format!("bad {what} of inode {number}")));
        if be_u16(raw, 0)? != MAGIC {
            return bad("magic number");
        }
        let [version] = array_at::<1>(raw, 4)?;
        if version == 0 || version > 3 || (version == 3) != sb.features.v5() {
            return bad("version");
        }
        let size = be_u64(raw, 56)?;
        if size >> 63 != 0 {
            return bad("size");
        }
        Ok(Self {
            number,
            mode: be_u16(raw, 2)?,
            uid: be_u32(raw, 8)?,
            gid: be_u32(raw, 12)?,
            links: if version == 1 {
                u32::from(be_u16(raw, 6)?)
            } else {
                be_u32(raw, 16)?
            },
            size,
            flags: be_u16(raw, 90)?,
            flags2: if version == 3 { be_u64(raw, 120)? } else { 0 },
            version,
            raw: raw.to_vec(),
        })
    }

    /// What it is; `None` for a type that does not exist.
    pub(super) fn kind(&self) -> Option<NodeKind> {
        Some(match self.mode & 0xF000 {
            0x1000 => NodeKind::Fifo,
            0x2000 => NodeKind::CharDevice,
            0x4000 => NodeKind::Directory,
            0x6000 => NodeKind::BlockDevice,
            0x8000 => NodeKind::File,
            0xA000 => NodeKind::Symlink,
            0xC000 => NodeKind::Socket,
            _ => return None,
        })
    }

    /// Whether its bytes are on the real-time device.
    pub(super) fn real_time(&self) -> bool {
        self.flags & REAL_TIME != 0
    }

    /// Whether it is a file of the filesystem itself, in no directory that users see.
    pub(super) fn is_metadata(&self) -> bool {
        self.flags2 & METADATA != 0
    }

    fn time(&self, at: usize) -> Result<Time> {
        let bytes = array_at(&self.raw, at)?;
        if self.flags2 & BIG_TIME != 0 {
            big_time(bytes)
        } else {
            legacy_time(bytes)
        }
    }

    /// Times of the last read, of the last change of its bytes, and of itself.
    ///
    /// # Errors
    /// `Corrupt` for times that do not exist.
    pub(super) fn times(&self) -> Result<[Time; 3]> {
        Ok([self.time(32)?, self.time(40)?, self.time(48)?])
    }

    /// Major and minor number of a device: 14 and 18 bits.
    ///
    /// # Errors
    /// `Corrupt` when it has none.
    pub(super) fn device(&self) -> Result<(u32, u32)> {
        let fork = self.fork(Which::Data)?;
        if fork.format != Format::Device {
            return Err(Error::corrupt(format!(
                "inode {} is a device without a number",
                self.number
            )));
        }
        let number = be_u32(fork.bytes, 0)?;
        Ok(((number >> 18) & 0x3FFF, number & 0x3_FFFF))
    }

    /// Bytes before the forks.
    fn core(&self) -> usize {
        if self.version == 3 { CORE_3 } else { CORE_2 }
    }

    /// Where the forks begin and how many bytes each has.
    ///
    /// # Errors
    /// `Corrupt` when they do not fit into the inode.
    pub(super) fn fork_range(&self, which: Which) -> Result<(usize, usize)> {
        let [forkoff] = array_at::<1>(&self.raw, 82)?;
        let core = self.core();
        let room = self.raw.len().saturating_sub(core);
        let split = usize::from(forkoff).saturating_mul(8);
        if split >= room && forkoff != 0 {
            return Err(Error::corrupt(format!(
                "the attributes of inode {} begin outside of it",
                self.number
            )));
        }
        Ok(match (which, split) {
            (Which::Data, 0) => (core, room),
            (Which::Data, _) => (core, split),
            (Which::Attributes, 0) => (self.raw.len(), 0),
            (Which::Attributes, _) => (core.saturating_add(split), room.saturating_sub(split)),
        })
    }

    /// A fork.
    ///
    /// # Errors
    /// `Corrupt` for one that does not fit into the inode or of no known format.
    pub(super) fn fork(&self, which: Which) -> Result<Fork<'_>> {
        let (start, len) = self.fork_range(which)?;
        let raw = &self.raw;
        let many = self.flags2 & MANY_EXTENTS != 0;
        let ([format], extents) = match (which, many) {
            (Which::Data, false) => (array_at(raw, 5)?, u64::from(be_u32(raw, 76)?)),
            (Which::Data, true) => (array_at(raw, 5)?, be_u64(raw, 24)?),
            (Which::Attributes, false) => (array_at(raw, 83)?, u64::from(be_u16(raw, 80)?)),
            (Which::Attributes, true) => (array_at(raw, 83)?, u64::from(be_u32(raw, 76)?)),
        };
        Ok(Fork {
            format: match format {
                0 if which == Which::Data => Format::Device,
                1 => Format::Local,
                2 => Format::Extents,
                3 => Format::Btree,
                _ => {
                    return Err(Error::corrupt(format!(
                        "inode {} has a fork of unknown format {format}",
                        self.number
                    )));
                }
            },
            bytes: slice_at(raw, start, len)?,
            extents,
        })
    }

    /// Whether it has a fork of attributes.
    pub(super) fn has_attributes(&self) -> bool {
        array_at::<1>(&self.raw, 82).is_ok_and(|[forkoff]| forkoff != 0)
    }

    /// The bytes of a fork that keeps them in the inode, as many as the inode's size says.
    ///
    /// # Errors
    /// `Corrupt` when there are fewer.
    pub(super) fn local(&self) -> Result<&[u8]> {
        slice_at(self.fork(Which::Data)?.bytes, 0, index(self.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_both_kinds() {
        let time = |seconds, nanoseconds| Time {
            seconds,
            nanoseconds,
        };
        assert_eq!(
            legacy_time([0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 9]).unwrap(),
            time(-1, 9)
        );
        assert!(legacy_time([0xFF; 8]).is_err());
        assert_eq!(big_time([0; 8]).unwrap(), time(-(1 << 31), 0));
        // The last one that the kernel writes is in July 2486.
        let last = (u64::from(u32::MAX) << 32).to_be_bytes();
        assert_eq!(big_time(last).unwrap().seconds, 16_299_260_421);
    }
}
