//! Names: directory items, attributes (which have the same shape), and the references that lead back from inodes.

use dormouse_block::{Error, Result, array_at, le_u16, le_u64, slice_at};

use super::index;
use super::key::{self, Key};
use crate::NodeKind;

/// Bytes of an entry before its name.
const HEAD: usize = 30;
/// Bytes of a reference and of an extended reference before their names.
const REF: usize = 10;
const EXTREF: usize = 18;
/// Longest name (kernel: `BTRFS_NAME_LEN`).
const MAX_NAME: usize = 255;
/// Entry type of an attribute.
const XATTR: u8 = 8;
/// Flag in an entry's type: its name is encrypted.
const ENCRYPTED: u8 = 0x80;

/// An entry of a directory, or an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// What it leads to: an inode item or a subvolume's root item.
    pub(super) location: Key,
    pub(super) kind: u8,
    pub(super) name: &'a [u8],
    /// An attribute's value.
    pub(super) value: &'a [u8],
    /// All its bytes.
    pub(super) bytes: &'a [u8],
}

impl Entry<'_> {
    /// What it says it leads to.
    pub(super) fn node_kind(&self) -> Option<NodeKind> {
        match self.kind {
            1 => Some(NodeKind::File),
            2 => Some(NodeKind::Directory),
            3 => Some(NodeKind::CharDevice),
            4 => Some(NodeKind::BlockDevice),
            5 => Some(NodeKind::Fifo),
            6 => Some(NodeKind::Socket),
            7 => Some(NodeKind::Symlink),
            _ => None,
        }
    }

    /// Refuses what no directory may hold.
    pub(super) fn check_name(&self) -> Result<()> {
        if self.kind & ENCRYPTED != 0 {
            return Err(Error::unsupported("encrypted names (fscrypt)"));
        }
        let bad = self.kind == XATTR
            || self.name.is_empty()
            || self.name.contains(&0)
            || self.name.contains(&b'/')
            || matches!(self.name, b"." | b"..");
        if bad {
            return Err(Error::corrupt("a directory entry with a bad name"));
        }
        Ok(())
    }
}

/// The entries of one item: several where the hashes of their names are equal.
pub(super) fn entries(bytes: &[u8]) -> Result<Vec<Entry<'_>>> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let value_len = usize::from(le_u16(rest, 25)?);
        let name_len = usize::from(le_u16(rest, 27)?);
        let [kind] = array_at(rest, 29)?;
        if name_len > MAX_NAME {
            return Err(Error::corrupt("a name of more than 255 bytes"));
        }
        let value_at = HEAD.saturating_add(name_len);
        let len = value_at.saturating_add(value_len);
        out.push(Entry {
            location: Key::parse(rest, 0)?,
            kind,
            name: slice_at(rest, HEAD, name_len)?,
            value: slice_at(rest, value_at, value_len)?,
            bytes: slice_at(rest, 0, len)?,
        });
        rest = rest.get(len..).unwrap_or_default();
    }
    Ok(out)
}

/// The bytes of an entry without a value.
pub(super) fn entry_bytes(location: Key, transaction: u64, kind: u8, name: &[u8]) -> Vec<u8> {
    let mut out = location.to_bytes();
    out.extend_from_slice(&transaction.to_le_bytes());
    out.extend_from_slice(&0_u16.to_le_bytes());
    out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.push(kind);
    out.extend_from_slice(name);
    out
}

/// A name that leads to an inode, as the inode knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// The directory.
    pub(super) parent: u64,
    /// Its place among the directory's entries.
    pub(super) index: u64,
    pub(super) name: Vec<u8>,
    /// Its own bytes within the item.
    pub(super) bytes: Vec<u8>,
}

/// The references in an item at `key`, which is of either kind.
pub(super) fn references(key: Key, bytes: &[u8]) -> Result<Vec<Reference>> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (parent, head) = if key.kind == key::INODE_EXTREF {
            (le_u64(rest, 0)?, EXTREF)
        } else {
            (key.offset, REF)
        };
        let name_len = usize::from(le_u16(rest, head.saturating_sub(2))?);
        if name_len == 0 || name_len > MAX_NAME {
            return Err(Error::corrupt("a reference without a proper name"));
        }
        let len = head.saturating_add(name_len);
        out.push(Reference {
            parent,
            index: le_u64(rest, head.saturating_sub(REF))?,
            name: slice_at(rest, head, name_len)?.to_vec(),
            bytes: slice_at(rest, 0, len)?.to_vec(),
        });
        rest = rest.get(len..).unwrap_or_default();
    }
    Ok(out)
}

/// A subvolume's place in its parent: the directory's inode and the name (`struct btrfs_root_ref`).
pub(super) fn root_reference(bytes: &[u8]) -> Result<(u64, &[u8])> {
    let name_len = index(le_u16(bytes, 16)?);
    Ok((le_u64(bytes, 0)?, slice_at(bytes, 18, name_len)?))
}
