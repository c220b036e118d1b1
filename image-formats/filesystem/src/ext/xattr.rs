//! Extended attributes: in the inode, in a block, or in inodes of their own.

use dormouse_block::{Error, Result, array_at, le_u16, le_u32, slice_at};

use super::superblock::Superblock;
use super::{checksum, index};

/// The magic number before attributes, in the inode and in a block.
pub const MAGIC: u32 = 0xEA02_0000;
/// Bytes before the entries of a block.
pub const BLOCK_HEADER: usize = 32;
/// Bytes before the entries in an inode.
pub const INODE_HEADER: usize = 4;
/// Bytes of an entry before its name.
pub const ENTRY: usize = 16;
/// Longest value (Linux: `XATTR_SIZE_MAX`).
pub const MAX_VALUE: u32 = 65536;
/// The index of the prefix `system.`.
pub const SYSTEM: u8 = 7;
/// The name under [`SYSTEM`] of the rest of inline data.
pub const INLINE_NAME: &[u8] = b"data";
const ACL_ACCESS: u8 = 2;
const ACL_DEFAULT: u8 = 3;
/// The index of encryption contexts, which are no attributes to users.
const ENCRYPTION: u8 = 9;

/// Prefixes by index; those of ACLs are whole names.
const PREFIXES: &[(u8, &[u8])] = &[
    (1, b"user."),
    (ACL_ACCESS, b"system.posix_acl_access"),
    (ACL_DEFAULT, b"system.posix_acl_default"),
    (4, b"trusted."),
    (5, b"lustre."),
    (6, b"security."),
    (SYSTEM, b"system."),
    (8, b"system.richacl"),
];

/// One attribute as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored<'a> {
    /// The index of the name's prefix.
    pub prefix: u8,
    /// The rest of the name.
    pub name: &'a [u8],
    /// Its value.
    pub value: Value<'a>,
    /// The hash of name and value.
    pub hash: u32,
}

/// Where a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Beside the names.
    Here(&'a [u8]),
    /// In the data of an inode, with this many bytes.
    Inode(u32, u32),
}

impl Stored<'_> {
    /// The full name, or `None` when this is no attribute to users or the prefix is unknown.
    #[must_use]
    pub fn full_name(&self) -> Option<Vec<u8>> {
        if self.prefix == ENCRYPTION || self.is_inline_data() {
            return None;
        }
        let (_, prefix) = PREFIXES.iter().find(|(index, _)| *index == self.prefix)?;
        Some([*prefix, self.name].concat())
    }

    /// Whether it holds the rest of inline data.
    #[must_use]
    pub fn is_inline_data(&self) -> bool {
        self.prefix == SYSTEM && self.name == INLINE_NAME
    }
}

/// Splits a full name into the index of its prefix and the rest; `None` when no prefix is known.
#[must_use]
pub fn split_name(full: &[u8]) -> Option<(u8, &[u8])> {
    for (index, name) in PREFIXES {
        let whole = !name.ends_with(b".");
        if whole && full == *name {
            return Some((*index, &[]));
        }
    }
    PREFIXES.iter().find_map(|(index, prefix)| {
        let rest = full.strip_prefix(*prefix)?;
        (prefix.ends_with(b".") && !rest.is_empty() && rest.len() <= 255).then_some((*index, rest))
    })
}

/// The attributes in the bytes of an inode after its fields; none when there is no magic number.
///
/// # Errors
/// `Corrupt` for entries that leave the area.
pub fn in_inode(area: &[u8]) -> Result<Vec<Stored<'_>>> {
    if area.len() < INODE_HEADER.saturating_add(4) || le_u32(area, 0)? != MAGIC {
        return Ok(Vec::new());
    }
    let bytes = area.get(INODE_HEADER..).unwrap_or_default();
    entries(bytes, 0)
}

/// The attributes in a block.
///
/// # Errors
/// `Corrupt` for a wrong magic number or checksum, or entries that leave the block.
pub fn in_block<'a>(sb: &Superblock, block: u64, bytes: &'a [u8]) -> Result<Vec<Stored<'a>>> {
    if le_u32(bytes, 0)? != MAGIC || le_u32(bytes, 8)? != 1 {
        return Err(Error::corrupt("a broken block of extended attributes"));
    }
    if sb.metadata_checksums() && block_checksum(sb, block, bytes)? != le_u32(bytes, 0x10)? {
        return Err(Error::corrupt(
            "bad checksum of a block of extended attributes",
        ));
    }
    entries(bytes, BLOCK_HEADER)
}

/// The checksum that a block of attributes should have.
///
/// # Errors
/// `Corrupt` for a block that is too short.
pub fn block_checksum(sb: &Superblock, block: u64, bytes: &[u8]) -> Result<u32> {
    let sum = checksum::crc32c(sb.checksum_seed, &block.to_le_bytes());
    let sum = checksum::crc32c(sum, slice_at(bytes, 0, 0x10)?);
    let sum = checksum::crc32c(sum, &[0; 4]);
    Ok(checksum::crc32c(sum, bytes.get(0x14..).unwrap_or_default()))
}

/// Entries from `start` on; the offsets of values count from the start of `bytes`.
fn entries(bytes: &[u8], start: usize) -> Result<Vec<Stored<'_>>> {
    let mut out = Vec::new();
    let mut at = start;
    loop {
        let Ok(head) = array_at::<4>(bytes, at) else {
            return Err(Error::corrupt("extended attributes without an end"));
        };
        if head == [0; 4] {
            return Ok(out);
        }
        let [name_len, prefix, ..] = head;
        let offset = le_u16(bytes, at.saturating_add(2))?;
        let inode = le_u32(bytes, at.saturating_add(4))?;
        let size = le_u32(bytes, at.saturating_add(8))?;
        let hash = le_u32(bytes, at.saturating_add(12))?;
        let name = slice_at(bytes, at.saturating_add(ENTRY), usize::from(name_len))?;
        if size > MAX_VALUE && inode == 0 {
            return Err(Error::corrupt("an extended attribute is too large"));
        }
        let value = if inode != 0 {
            Value::Inode(inode, size)
        } else if size == 0 {
            Value::Here(&[])
        } else {
            let value = slice_at(bytes, usize::from(offset), index(size))?;
            if usize::from(offset) < at.saturating_add(ENTRY) {
                return Err(Error::corrupt("an extended attribute overlaps its name"));
            }
            Value::Here(value)
        };
        out.push(Stored {
            prefix,
            name,
            value,
            hash,
        });
        at = at.saturating_add(entry_size(name.len()));
    }
}

/// Bytes that an entry with a name of `len` bytes takes, without its value.
#[must_use]
pub fn entry_size(len: usize) -> usize {
    ENTRY.saturating_add(len).next_multiple_of(4)
}

/// The hash of an attribute's name and value that its entry stores (kernel: `ext4_xattr_hash_entry`).
#[must_use]
pub fn hash(name: &[u8], value: &[u8]) -> u32 {
    let seed = name
        .iter()
        .fold(0_u32, |hash, &byte| hash.rotate_left(5) ^ u32::from(byte));
    value.chunks(4).fold(seed, |hash, part| {
        let mut word = [0; 4];
        for (to, from) in word.iter_mut().zip(part) {
            *to = *from;
        }
        hash.rotate_left(16) ^ u32::from_le_bytes(word)
    })
}

/// A value as users see it: POSIX ACLs are stored in a shorter form.
///
/// # Errors
/// `Corrupt` for a broken ACL.
pub fn value_for_users(prefix: u8, stored: &[u8]) -> Result<Vec<u8>> {
    if !matches!(prefix, ACL_ACCESS | ACL_DEFAULT) {
        return Ok(stored.to_vec());
    }
    let bad = || Error::corrupt("a broken access control list");
    if le_u32(stored, 0)? != 1 {
        return Err(bad());
    }
    let mut out = 2_u32.to_le_bytes().to_vec();
    let mut rest = stored.get(4..).unwrap_or_default();
    while !rest.is_empty() {
        let tag = le_u16(rest, 0)?;
        let named = matches!(tag, 2 | 8);
        if !named && !matches!(tag, 1 | 4 | 0x10 | 0x20) {
            return Err(bad());
        }
        out.extend_from_slice(slice_at(rest, 0, 4)?);
        if named {
            out.extend_from_slice(slice_at(rest, 4, 4)?);
        } else {
            out.extend_from_slice(&[0xFF; 4]);
        }
        rest = rest.get(if named { 8 } else { 4 }..).ok_or_else(bad)?;
    }
    Ok(out)
}

/// The stored form of a value that users gave: the reverse of [`value_for_users`].
///
/// # Errors
/// `Corrupt` for a broken ACL.
pub fn value_to_store(prefix: u8, given: &[u8]) -> Result<Vec<u8>> {
    if !matches!(prefix, ACL_ACCESS | ACL_DEFAULT) {
        return Ok(given.to_vec());
    }
    let bad = || Error::corrupt("a broken access control list");
    if le_u32(given, 0)? != 2 {
        return Err(bad());
    }
    let mut out = 1_u32.to_le_bytes().to_vec();
    let list = given.get(4..).unwrap_or_default();
    if list.len() % 8 != 0 {
        return Err(bad());
    }
    for entry in list.chunks_exact(8) {
        let named = match le_u16(entry, 0)? {
            2 | 8 => true,
            1 | 4 | 0x10 | 0x20 => false,
            _ => return Err(bad()),
        };
        out.extend_from_slice(slice_at(entry, 0, if named { 8 } else { 4 })?);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_at_their_prefix() {
        assert_eq!(
            split_name(b"security.capability"),
            Some((6, &b"capability"[..]))
        );
        assert_eq!(split_name(b"system.posix_acl_access"), Some((2, &b""[..])));
        assert_eq!(split_name(b"system.other"), Some((7, &b"other"[..])));
        assert_eq!(split_name(b"unknown.x"), None);
        assert_eq!(split_name(b"user."), None);
    }

    #[test]
    fn access_control_lists_convert_both_ways() {
        let given = [
            &2_u32.to_le_bytes()[..],
            &[1, 0, 6, 0, 255, 255, 255, 255],
            &[2, 0, 4, 0, 232, 3, 0, 0],
            &[4, 0, 4, 0, 255, 255, 255, 255],
        ]
        .concat();
        let stored = value_to_store(2, &given).unwrap();
        assert_eq!(stored.len(), 4 + 4 + 8 + 4);
        assert_eq!(value_for_users(2, &stored).unwrap(), given);
        assert!(value_for_users(2, &[1, 0, 0, 0, 9]).is_err());
    }
}
