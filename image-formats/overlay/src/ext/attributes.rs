//! Extended attributes, written: in the inode as far as they fit, the rest in a block.

use std::collections::BTreeMap;

use dormouse_block::{Error, Result, le_u32};
use dormouse_filesystem::ext::inode;
use dormouse_filesystem::ext::xattr::{self, Stored, Value};

use super::core::Core;
use super::mapping::Mapping;
use super::record::Record;
use super::store::{len64, put, put16, put32};
use crate::Device;

/// One attribute to be stored. The order is that in which a block must hold them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Attribute {
    prefix: u8,
    name_len: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Attribute {
    fn size(&self) -> usize {
        xattr::entry_size(self.name.len()).saturating_add(self.value.len().next_multiple_of(4))
    }
}

impl<D: Device> Core<D> {
    /// Makes `wanted` the extended attributes of an inode; those that are not named are removed.
    pub(super) fn set_xattrs(
        &mut self,
        record: &mut Record,
        wanted: &BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<()> {
        let mut list = Vec::with_capacity(wanted.len());
        for (full, value) in wanted {
            let (prefix, name) = xattr::split_name(full).ok_or_else(|| {
                Error::unsupported(format!(
                    "ext cannot hold the extended attribute {}",
                    String::from_utf8_lossy(full)
                ))
            })?;
            list.push(Attribute {
                prefix,
                name_len: name.len(),
                name: name.to_vec(),
                value: xattr::value_to_store(prefix, value)?,
            });
        }
        list.sort();
        let (current, inline) = self.stored(record)?;
        if current == list {
            return Ok(());
        }
        // Inline data stays where it is: in the inode, before all others.
        let mut here: Vec<Attribute> = inline.into_iter().collect();
        let area = record.attribute_area().len();
        let mut used = xattr::INODE_HEADER.saturating_add(4);
        used = here
            .iter()
            .fold(used, |used, one| used.saturating_add(one.size()));
        let mut there = Vec::new();
        for attribute in list {
            if used.saturating_add(attribute.size()) <= area {
                used = used.saturating_add(attribute.size());
                here.push(attribute);
            } else {
                there.push(attribute);
            }
        }
        let room = self
            .sb
            .block_len()
            .saturating_sub(xattr::BLOCK_HEADER)
            .saturating_sub(4);
        if there.iter().map(Attribute::size).sum::<usize>() > room {
            return Err(Error::limit(format!(
                "the extended attributes do not fit a block of {} bytes",
                self.sb.block_size()
            )));
        }
        if !there.is_empty() && self.space.free_blocks() == 0 {
            return Err(Error::limit("no space left for extended attributes"));
        }
        self.drop_attribute_block(record)?;
        let area = record.attribute_area();
        area.fill(0);
        if !here.is_empty() {
            put32(area, 0, u64::from(xattr::MAGIC))?;
            let rest = area.get_mut(xattr::INODE_HEADER..).unwrap_or_default();
            write_entries(rest, 0, &here)?;
        }
        if there.is_empty() {
            return Ok(());
        }
        let block = self.take_block(record.number)?;
        let blocks = record.blocks(&self.sb)?;
        let blocks = blocks.saturating_add(self.sb.cluster_blocks());
        record.set_blocks(&self.sb, blocks)?;
        record.set_attribute_block(block)?;
        let bytes = self.store.create(block)?;
        put32(bytes, 0, u64::from(xattr::MAGIC))?;
        put32(bytes, 4, 1)?;
        put32(bytes, 8, 1)?;
        let hash = write_entries(bytes, xattr::BLOCK_HEADER, &there)?;
        put32(bytes, 0xC, u64::from(hash))?;
        if self.sb.metadata_checksums() {
            let sum = xattr::block_checksum(&self.sb, block, bytes)?;
            put32(bytes, 0x10, u64::from(sum))?;
        }
        Ok(())
    }

    /// Prepares an inode whose bytes were inline for blocks: what was inline is forgotten, its attributes are kept.
    pub(super) fn leave_inline(&mut self, record: &mut Record) -> Result<()> {
        let mut keep = BTreeMap::new();
        for stored in xattr::in_inode(record.attribute_area())? {
            let (Some(name), Value::Here(value)) = (stored.full_name(), stored.value) else {
                continue;
            };
            keep.insert(name, xattr::value_for_users(stored.prefix, value)?);
        }
        let block = record.attribute_block()?;
        if block != 0 {
            for stored in xattr::in_block(&self.sb, block, self.store.read(block)?)? {
                if let (Some(name), Value::Here(value)) = (stored.full_name(), stored.value) {
                    keep.insert(name, xattr::value_for_users(stored.prefix, value)?);
                }
            }
        }
        self.drop_attribute_block(record)?;
        record.attribute_area().fill(0);
        record.set_flags(record.flags()? & !inode::INLINE)?;
        record.set_map(&[])?;
        // An empty map of either kind; what is written next replaces it.
        self.write_mapping(record, &mut Mapping::default())?;
        self.set_xattrs(record, &keep)
    }

    /// What an inode has now, sorted, and its inline data apart.
    fn stored(&mut self, record: &mut Record) -> Result<(Vec<Attribute>, Option<Attribute>)> {
        let mut out = Vec::new();
        let mut inline = None;
        let mut take = |list: Vec<Stored<'_>>| {
            for stored in list {
                let Value::Here(value) = stored.value else {
                    return Err(Error::unsupported(
                        "an extended attribute in an inode of its own",
                    ));
                };
                let attribute = Attribute {
                    prefix: stored.prefix,
                    name_len: stored.name.len(),
                    name: stored.name.to_vec(),
                    value: value.to_vec(),
                };
                if stored.is_inline_data() {
                    inline = Some(attribute);
                } else {
                    out.push(attribute);
                }
            }
            Ok(())
        };
        take(xattr::in_inode(record.attribute_area())?)?;
        let block = record.attribute_block()?;
        if block != 0 {
            self.check_file_blocks(block, 1)?;
            take(xattr::in_block(&self.sb, block, self.store.read(block)?)?)?;
        }
        out.sort();
        Ok((out, inline))
    }

    /// Lets go of an inode's block of attributes, which other inodes may share.
    pub(super) fn drop_attribute_block(&mut self, record: &mut Record) -> Result<()> {
        let block = record.attribute_block()?;
        if block == 0 {
            return Ok(());
        }
        self.check_file_blocks(block, 1)?;
        let bytes = self.store.read(block)?;
        xattr::in_block(&self.sb, block, bytes)?;
        let users = le_u32(bytes, 4)?;
        if users > 1 {
            let bytes = self.store.modify(block)?;
            put32(bytes, 4, u64::from(users.saturating_sub(1)))?;
            if self.sb.metadata_checksums() {
                let sum = xattr::block_checksum(&self.sb, block, bytes)?;
                put32(bytes, 0x10, u64::from(sum))?;
            }
        } else {
            self.give_blocks(block, 1)?;
        }
        record.set_attribute_block(0)?;
        let blocks = record.blocks(&self.sb)?;
        record.set_blocks(&self.sb, blocks.saturating_sub(self.sb.cluster_blocks()))
    }
}

/// Writes entries from `start` on and their values from the end down; the hash over all of them.
fn write_entries(bytes: &mut [u8], start: usize, list: &[Attribute]) -> Result<u32> {
    let mut at = start;
    let mut end = bytes.len();
    let mut all = 0_u32;
    for attribute in list {
        let hash = xattr::hash(&attribute.name, &attribute.value);
        all = if hash == 0 {
            all
        } else {
            all.rotate_left(16) ^ hash
        };
        let name_len = u8::try_from(attribute.name.len())
            .map_err(|_| Error::corrupt("the name of an extended attribute is too long"))?;
        put(bytes, at, &[name_len, attribute.prefix])?;
        if !attribute.value.is_empty() {
            end = end.saturating_sub(attribute.value.len().next_multiple_of(4));
            put16(bytes, at.saturating_add(2), len64(end))?;
            put(bytes, end, &attribute.value)?;
        }
        put32(bytes, at.saturating_add(8), len64(attribute.value.len()))?;
        put32(bytes, at.saturating_add(12), u64::from(hash))?;
        put(bytes, at.saturating_add(xattr::ENTRY), &attribute.name)?;
        at = at.saturating_add(xattr::entry_size(attribute.name.len()));
    }
    // A block's hash of 0 says that it must not be shared: an entry without a hash makes it so.
    let whole = list
        .iter()
        .all(|one| xattr::hash(&one.name, &one.value) != 0);
    Ok(if whole { all } else { 0 })
}
