//! Extended attributes: in the inode, in leaves, and values in blocks of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use dormouse_block::{Error, Result, array_at, be_u16, be_u32, slice_at};

use super::btree::MAX_LEVELS;
use super::fork::{Format, Which};
use super::inode::Inode;
use super::lookup::NODE;
use super::{XfsTree, index, stamp};

/// Magic numbers of leaves in versions 4 and 5.
const LEAF: [u16; 2] = [0xFBEE, 0x3BEE];
/// `XARM`: a part of a value.
const VALUE: u32 = 0x5841_524D;
/// Bytes before each part of a value in version 5.
const VALUE_HEADER: usize = 56;

/// Flags of an attribute: its value stands beside its name; names of `trusted.`, of `security.`; a pointer to a parent
/// directory; not complete.
const LOCAL: u8 = 1;
const TRUSTED: u8 = 2;
const SECURE: u8 = 4;
const PARENT: u8 = 8;
const INCOMPLETE: u8 = 0x80;

/// Longest value (Linux: `XATTR_SIZE_MAX`).
const MAX_VALUE: usize = 65536;
/// Leaves of one inode that are read.
const MAX_LEAVES: usize = 1 << 14;
/// Bytes of all extended attributes of one inode that are read.
const MAX_BYTES: usize = 16 << 20;

fn bad(what: &str) -> Error {
    Error::corrupt(format!("bad {what} of extended attributes"))
}

/// Attributes as users see them.
#[derive(Default)]
struct Seen {
    out: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
}

impl Seen {
    fn add(&mut self, flags: u8, name: &[u8], value: Vec<u8>) -> Result<()> {
        self.bytes = self
            .bytes
            .saturating_add(name.len().saturating_add(value.len()));
        if self.bytes > MAX_BYTES {
            return Err(Error::limit("more than 16 MiB of extended attributes"));
        }
        if name.is_empty() || name.contains(&0) {
            return Err(bad("name"));
        }
        let prefix: &[u8] = match flags & (TRUSTED | SECURE) {
            0 => b"user.",
            TRUSTED => b"trusted.",
            SECURE => b"security.",
            _ => return Err(bad("flags")),
        };
        if prefix == b"trusted." {
            // The kernel shows access control lists in Linux' form as well.
            let shown: Option<&[u8]> = match name {
                b"SGI_ACL_FILE" => Some(b"system.posix_acl_access"),
                b"SGI_ACL_DEFAULT" => Some(b"system.posix_acl_default"),
                _ => None,
            };
            if let Some(shown) = shown {
                self.out
                    .insert(shown.to_vec(), access_control_list(&value)?);
            }
        }
        self.out.insert([prefix, name].concat(), value);
        Ok(())
    }
}

/// An access control list of XFS in the form that Linux shows users: version 2, little-endian.
fn access_control_list(stored: &[u8]) -> Result<Vec<u8>> {
    let count = index(be_u32(stored, 0)?);
    let list = stored.get(4..).unwrap_or_default();
    if list.len() != count.saturating_mul(12) {
        return Err(Error::corrupt("a broken access control list"));
    }
    let mut out = 2_u32.to_le_bytes().to_vec();
    for entry in list.chunks_exact(12) {
        let tag = be_u32(entry, 0)?;
        let identity = match tag {
            2 | 8 => be_u32(entry, 4)?,
            1 | 4 | 0x10 | 0x20 => u32::MAX,
            _ => return Err(Error::corrupt("a broken access control list")),
        };
        let tag = u16::try_from(tag).unwrap_or_default();
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&be_u16(entry, 8)?.to_le_bytes());
        out.extend_from_slice(&identity.to_le_bytes());
    }
    Ok(out)
}

fn is_shown(flags: u8) -> bool {
    flags & (INCOMPLETE | PARENT) == 0
}

impl XfsTree {
    /// The extended attributes of an inode by their full names.
    ///
    /// # Errors
    /// `Corrupt` when they are broken.
    pub(super) fn attributes(&self, inode: &Inode) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut seen = Seen::default();
        if !inode.has_attributes() {
            return Ok(seen.out);
        }
        let fork = inode.fork(Which::Attributes)?;
        match fork.format {
            Format::Local => short_form(fork.bytes, &mut seen)?,
            Format::Extents if fork.extents == 0 => {}
            _ => self.leaves(inode, &mut seen)?,
        }
        Ok(seen.out)
    }

    fn attribute_block(&self, inode: &Inode, block: u64) -> Result<Arc<[u8]>> {
        let owner = inode.number;
        let what = "a block of extended attributes";
        self.fork_metadata(
            inode,
            Which::Attributes,
            block,
            1,
            |bytes, offset, changed| {
                self.check_stamp(&stamp::INDEX, bytes, offset, owner, changed, what)
            },
        )?
        .ok_or_else(|| Error::corrupt("a hole in the extended attributes"))
    }

    fn leaves(&self, inode: &Inode, seen: &mut Seen) -> Result<()> {
        let v5 = self.sb.features.v5();
        let (level_at, child_at) = if v5 { (58, 68) } else { (14, 20) };
        let mut block = 0_u64;
        let mut above: Option<u16> = None;
        // Down to the first leaf.
        let mut bytes = loop {
            let bytes = self.attribute_block(inode, block)?;
            if !self.is_magic(be_u16(&bytes, 8)?, NODE) {
                break bytes;
            }
            let level = be_u16(&bytes, level_at)?;
            if level == 0
                || level > MAX_LEVELS
                || above.is_some_and(|above| above.checked_sub(1) != Some(level))
            {
                return Err(bad("level"));
            }
            above = Some(level);
            block = u64::from(be_u32(&bytes, child_at)?);
        };
        for _ in 0..MAX_LEAVES {
            self.leaf(inode, &bytes, seen)?;
            match be_u32(&bytes, 0)? {
                0 => return Ok(()),
                next => bytes = self.attribute_block(inode, u64::from(next))?,
            }
        }
        Err(Error::limit(
            "extended attributes in more than 16384 leaves",
        ))
    }

    fn leaf(&self, inode: &Inode, bytes: &[u8], seen: &mut Seen) -> Result<()> {
        if !self.is_magic(be_u16(bytes, 8)?, LEAF) {
            return Err(bad("magic number"));
        }
        let (count_at, start) = if self.sb.features.v5() {
            (56, 80)
        } else {
            (12, 32)
        };
        let count = usize::from(be_u16(bytes, count_at)?);
        let entries = slice_at(bytes, start, count.saturating_mul(8))?;
        let end = start.saturating_add(entries.len());
        for entry in entries.chunks_exact(8) {
            let at = usize::from(be_u16(entry, 4)?);
            let [flags] = array_at::<1>(entry, 6)?;
            if !is_shown(flags) {
                continue;
            }
            if at < end {
                return Err(bad("place"));
            }
            if flags & LOCAL != 0 {
                let len = usize::from(be_u16(bytes, at)?);
                let [name_len] = array_at::<1>(bytes, at.saturating_add(2))?;
                let name_at = at.saturating_add(3);
                let name = slice_at(bytes, name_at, usize::from(name_len))?;
                let value = slice_at(bytes, name_at.saturating_add(name.len()), len)?;
                seen.add(flags, name, value.to_vec())?;
            } else {
                let block = be_u32(bytes, at)?;
                let len = index(be_u32(bytes, at.saturating_add(4))?);
                let [name_len] = array_at::<1>(bytes, at.saturating_add(8))?;
                let name = slice_at(bytes, at.saturating_add(9), usize::from(name_len))?;
                let value = self.remote_value(inode, u64::from(block), len)?;
                seen.add(flags, name, value)?;
            }
        }
        Ok(())
    }

    fn remote_value(&self, inode: &Inode, first: u64, len: usize) -> Result<Vec<u8>> {
        if len > MAX_VALUE {
            return Err(Error::corrupt("an extended attribute of more than 64 KiB"));
        }
        let size = self.sb.block_size();
        let mut out = Vec::with_capacity(len);
        let mut block = first;
        let mut bytes = vec![0; size];
        while out.len() < len {
            let place = self
                .map(inode, Which::Attributes, block)?
                .block
                .ok_or_else(|| Error::corrupt("a hole in an extended attribute"))?;
            let offset = self.sb.extent(place, 1)?;
            self.volume.read(offset, &mut bytes)?;
            let left = len.saturating_sub(out.len());
            let part = if self.sb.features.v5() {
                let what = "an extended attribute's value";
                let owner = inode.number;
                self.check_stamp_at(&stamp::REMOTE, &bytes, offset, owner, what)
                    .map_err(|error| error.at_offset(offset))?;
                let part = bytes.get(VALUE_HEADER..).unwrap_or_default();
                let wanted = left.min(part.len());
                if be_u32(&bytes, 0)? != VALUE
                    || index(be_u32(&bytes, 4)?) != out.len()
                    || index(be_u32(&bytes, 8)?) != wanted
                {
                    return Err(bad("value").at_offset(offset));
                }
                part
            } else {
                &bytes
            };
            out.extend(part.iter().take(left));
            block = block.saturating_add(1);
        }
        Ok(out)
    }

    /// The bytes of a symbolic link's target that stand in blocks: each extent has a header in version 5.
    ///
    /// # Errors
    /// `Corrupt` for a broken one.
    pub(super) fn remote_target(&self, inode: &Inode) -> Result<Vec<u8>> {
        /// `XSLM`.
        const MAGIC: u32 = 0x5853_4C4D;
        let len = index(inode.size);
        let mut out = Vec::with_capacity(len);
        let mut logical = 0_u64;
        while out.len() < len {
            let run = self.map(inode, Which::Data, logical)?;
            let block = run
                .block
                .ok_or_else(|| Error::corrupt("a hole in a symbolic link"))?;
            let offset = self.sb.extent(block, 1)?;
            let left = len.saturating_sub(out.len());
            // Of an extent that is longer than any target, the checksum would count bytes that are never read.
            let header = if self.sb.features.v5() {
                VALUE_HEADER
            } else {
                0
            };
            let size = index(run.len).saturating_mul(self.sb.block_size());
            if size
                > left
                    .saturating_add(header)
                    .next_multiple_of(self.sb.block_size())
            {
                return Err(Error::corrupt("a symbolic link in too many blocks"));
            }
            let mut bytes = vec![0; size];
            self.volume.read(offset, &mut bytes)?;
            let wanted = left.min(size.saturating_sub(header));
            if header > 0 {
                let what = "a symbolic link's target";
                self.check_stamp_at(&stamp::REMOTE, &bytes, offset, inode.number, what)?;
                if be_u32(&bytes, 0)? != MAGIC
                    || index(be_u32(&bytes, 4)?) != out.len()
                    || index(be_u32(&bytes, 8)?) != wanted
                {
                    return Err(Error::corrupt("bad header of a symbolic link").at_offset(offset));
                }
            }
            out.extend_from_slice(slice_at(&bytes, header, wanted)?);
            logical = logical.saturating_add(run.len);
        }
        Ok(out)
    }
}

fn short_form(bytes: &[u8], seen: &mut Seen) -> Result<()> {
    let total = usize::from(be_u16(bytes, 0)?);
    let [count] = array_at::<1>(bytes, 2)?;
    let bytes = slice_at(bytes, 0, total)?;
    let mut at = 4_usize;
    for _ in 0..count {
        let [name_len, value_len, flags] = array_at::<3>(bytes, at)?;
        let name_at = at.saturating_add(3);
        let name = slice_at(bytes, name_at, usize::from(name_len))?;
        let value_at = name_at.saturating_add(name.len());
        let value = slice_at(bytes, value_at, usize::from(value_len))?;
        at = value_at.saturating_add(value.len());
        if is_shown(flags) {
            seen.add(flags, name, value.to_vec())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_control_lists_are_shown_in_linux_form() {
        let stored = [
            &2_u32.to_be_bytes()[..],
            &[0, 0, 0, 1, 0, 0, 0, 0, 0, 6, 0, 0],
            &[0, 0, 0, 2, 0, 0, 3, 232, 0, 4, 0, 0],
        ]
        .concat();
        let shown = [
            &2_u32.to_le_bytes()[..],
            &[1, 0, 6, 0, 255, 255, 255, 255],
            &[2, 0, 4, 0, 232, 3, 0, 0],
        ]
        .concat();
        assert_eq!(access_control_list(&stored).unwrap(), shown);
        assert!(access_control_list(&stored[..20]).is_err());
    }
}
