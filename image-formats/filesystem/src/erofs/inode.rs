//! Inodes: a short and a long form.

use dormouse_block::{Error, Result, le_u16, le_u32, le_u64};

use super::superblock::Superblock;
use crate::NodeKind;

/// Bytes of a number of an inode: a slot.
pub(super) const SLOT: u64 = 32;

/// How a file's bytes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// In blocks that follow each other.
    Plain,
    /// The same, the tail behind the inode.
    Tail,
    /// In chunks.
    Chunks,
    /// Packed, with an index entry of 8 bytes for each cluster.
    PackedFull,
    /// Packed, with 2 or 4 bytes for each.
    PackedCompact,
}

/// An inode.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub(super) kind: NodeKind,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u32,
    pub(super) size: u64,
    pub(super) mtime: (i64, u32),
    pub(super) layout: Layout,
    /// First block, device number or form of chunks.
    pub(super) place: u32,
    /// The byte behind it, at which attributes begin.
    pub(super) xattrs_at: u64,
    /// The byte behind its attributes.
    pub(super) end: u64,
}

/// Bytes of attributes that a count of them in an inode means.
fn xattr_bytes(count: u16) -> u64 {
    match count.checked_sub(1) {
        Some(more) => u64::from(more).saturating_mul(4).saturating_add(12),
        None => 0,
    }
}

impl Inode {
    /// Reads the inode at byte `at`; `bytes` are the 64 from there on, or 32 where no more are.
    ///
    /// # Errors
    /// `Corrupt` for a broken one, `Unsupported` for an unknown layout.
    pub(super) fn parse(bytes: &[u8], at: u64, sb: &Superblock) -> Result<Self> {
        let format = le_u16(bytes, 0)?;
        let layout = match format >> 1 & 7 {
            0 => Layout::Plain,
            1 => Layout::PackedFull,
            2 => Layout::Tail,
            3 => Layout::PackedCompact,
            4 => Layout::Chunks,
            other => {
                return Err(Error::unsupported(format!(
                    "an inode of the unknown layout {other}"
                )));
            }
        };
        if format >> 4 != 0 {
            return Err(Error::unsupported("an inode of an unknown format"));
        }
        let mode = le_u16(bytes, 4)?;
        let kind = match mode & 0o170_000 {
            0o100_000 => NodeKind::File,
            0o040_000 => NodeKind::Directory,
            0o120_000 => NodeKind::Symlink,
            0o020_000 => NodeKind::CharDevice,
            0o060_000 => NodeKind::BlockDevice,
            0o010_000 => NodeKind::Fifo,
            0o140_000 => NodeKind::Socket,
            _ => return Err(Error::corrupt("an inode of an unknown kind")),
        };
        let long = format & 1 != 0;
        let xattrs_at = at.saturating_add(if long { 64 } else { 32 });
        Ok(Self {
            kind,
            mode: mode & 0o7777,
            layout,
            place: le_u32(bytes, 16)?,
            xattrs_at,
            end: xattrs_at.saturating_add(xattr_bytes(le_u16(bytes, 2)?)),
            uid: if long {
                le_u32(bytes, 24)?
            } else {
                u32::from(le_u16(bytes, 24)?)
            },
            gid: if long {
                le_u32(bytes, 28)?
            } else {
                u32::from(le_u16(bytes, 26)?)
            },
            links: if long {
                le_u32(bytes, 44)?
            } else {
                u32::from(le_u16(bytes, 6)?)
            },
            size: if long {
                le_u64(bytes, 8)?
            } else {
                u64::from(le_u32(bytes, 8)?)
            },
            mtime: if long {
                (
                    i64::from_le_bytes(le_u64(bytes, 32)?.to_le_bytes()),
                    le_u32(bytes, 40)?.min(999_999_999),
                )
            } else {
                sb.made
            },
        })
    }
}
