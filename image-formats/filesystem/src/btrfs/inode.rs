//! Inodes: what is kept about a file beside its names, extents and attributes.

use dormouse_block::{Error, Result, array_at, le_u32, le_u64};

use crate::{NodeKind, Time};

/// Flag of an inode whose data have no checksums.
const NODATASUM: u64 = 1;

/// An inode item; fields as in `struct btrfs_inode_item`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inode {
    pub(super) number: u64,
    /// Transaction that made it; 0 in a log that only says that it exists.
    pub(super) generation: u64,
    pub(super) size: u64,
    pub(super) links: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Type and permissions.
    pub(super) mode: u32,
    rdev: u64,
    flags: u64,
    pub(super) atime: Time,
    pub(super) ctime: Time,
    pub(super) mtime: Time,
}

impl Inode {
    pub(super) fn parse(number: u64, bytes: &[u8]) -> Result<Self> {
        Ok(Self {
            number,
            generation: le_u64(bytes, 0)?,
            size: le_u64(bytes, 16)?,
            links: le_u32(bytes, 40)?,
            uid: le_u32(bytes, 44)?,
            gid: le_u32(bytes, 48)?,
            mode: le_u32(bytes, 52)?,
            rdev: le_u64(bytes, 56)?,
            flags: le_u64(bytes, 64)?,
            atime: time(bytes, 112)?,
            ctime: time(bytes, 124)?,
            mtime: time(bytes, 136)?,
        })
    }

    /// What it is.
    pub(super) fn kind(&self) -> Result<NodeKind> {
        match self.mode & 0o170_000 {
            0o100_000 => Ok(NodeKind::File),
            0o040_000 => Ok(NodeKind::Directory),
            0o120_000 => Ok(NodeKind::Symlink),
            0o020_000 => Ok(NodeKind::CharDevice),
            0o060_000 => Ok(NodeKind::BlockDevice),
            0o010_000 => Ok(NodeKind::Fifo),
            0o140_000 => Ok(NodeKind::Socket),
            _ => Err(Error::corrupt(format!(
                "inode {} has no known type",
                self.number
            ))),
        }
    }

    /// Permission, set-id and sticky bits.
    pub(super) fn permissions(&self) -> u16 {
        u16::try_from(self.mode & 0o7777).unwrap_or(0)
    }

    /// Major and minor number; stored as the kernel keeps them, with 20 bits for the minor one.
    pub(super) fn device(&self) -> Option<(u32, u32)> {
        let number = u32::try_from(self.rdev & 0xFFFF_FFFF).ok()?;
        Some((number >> 20, number & 0xF_FFFF))
    }

    /// Whether its data have checksums.
    pub(super) fn is_summed(&self) -> bool {
        self.flags & NODATASUM == 0
    }
}

fn time(bytes: &[u8], at: usize) -> Result<Time> {
    Ok(Time {
        seconds: i64::from_le_bytes(array_at(bytes, at)?),
        nanoseconds: le_u32(bytes, at.saturating_add(8))?,
    })
}
