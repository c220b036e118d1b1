//! One quota file: a tree over the numbers of owners with an entry for each (Linux: `fs/quota/quota_tree.c`, `quota_v2.c`;
//! version 1 with entries of 72 bytes, which is what the `quota` feature keeps).

use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::{Error, Result, le_u32, le_u64, slice_at};

use super::quota::Usage;
use super::store::{index, len64, put, put32};

/// Kinds of owners: users, groups, projects.
pub(super) const KINDS: usize = 3;
/// Bytes of a block of the tree.
pub(super) const BLOCK: usize = 1024;
/// The magic numbers of the files of users, groups and projects.
const MAGIC: [u32; KINDS] = [0xD9C0_1F11, 0xD9C0_1927, 0xD9C0_3F14];
/// Where the fields of the whole file begin: two times of grace, flags, counts of blocks.
const INFO: usize = 8;
/// The block of the tree's root.
const ROOT: u32 = 1;
/// Levels of the tree: one for each byte of an owner's number.
const LEVELS: u32 = 4;
/// Entries of a node.
const FAN: usize = 256;
/// Bytes before the entries of a block of entries.
const HEADER: usize = 16;
/// Bytes of an entry.
const ENTRY: usize = 72;
/// Entries of a block.
const PER_BLOCK: usize = (BLOCK - HEADER) / ENTRY;

/// Limits and usage of one owner, as stored: number, then eight numbers of 64 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Limits and times, untouched.
    raw: [u8; ENTRY],
}

/// Where the number of inodes is in an entry.
const INODES: usize = 24;
/// Where the number of bytes is.
const BYTES: usize = 48;
/// Where the time is at which inodes were too many; 1 marks an entry that is otherwise all zeroes.
const INODE_TIME: usize = 64;

/// A quota file's contents.
#[derive(Debug)]
pub(super) struct QuotaFile {
    kind: usize,
    /// Times of grace and flags.
    info: [u8; 12],
    entries: BTreeMap<u32, Entry>,
}

impl QuotaFile {
    /// Reads a file.
    ///
    /// # Errors
    /// `Corrupt` for a broken one, `Unsupported` for another version.
    pub(super) fn parse(kind: usize, bytes: &[u8]) -> Result<Self> {
        if MAGIC.get(kind) != Some(&le_u32(bytes, 0)?) {
            return Err(Error::corrupt("bad magic number"));
        }
        if le_u32(bytes, 4)? != 1 {
            return Err(Error::unsupported("quota files of another version than 1"));
        }
        let mut info = [0; 12];
        info.copy_from_slice(slice_at(bytes, INFO, 12)?);
        let blocks = le_u32(bytes, INFO + 12)?;
        if u64::from(blocks).saturating_mul(len64(BLOCK)) > len64(bytes.len()) || blocks <= ROOT {
            return Err(Error::corrupt("more blocks than the file has"));
        }
        let mut this = Self {
            kind,
            info,
            entries: BTreeMap::new(),
        };
        let mut seen = BTreeSet::new();
        // Nodes to be read: block, level, the bytes of the number so far.
        let mut todo = vec![(ROOT, 0_u32, 0_u32)];
        while let Some((node, level, prefix)) = todo.pop() {
            if !seen.insert(node) {
                return Err(Error::corrupt("the tree meets a block twice"));
            }
            let block = block(bytes, blocks, node)?;
            for (nth, slot) in (0_u32..).zip(block.chunks_exact(4)) {
                let to = le_u32(slot, 0)?;
                if to == 0 {
                    continue;
                }
                let number = prefix << 8 | nth;
                if level.saturating_add(1) < LEVELS {
                    todo.push((to, level.saturating_add(1), number));
                } else {
                    this.take(bytes, blocks, to, number)?;
                }
            }
        }
        Ok(this)
    }

    /// Takes the entry of `owner` from block `at`.
    fn take(&mut self, bytes: &[u8], blocks: u32, at: u32, owner: u32) -> Result<()> {
        let block = block(bytes, blocks, at)?;
        let list = block.get(HEADER..).unwrap_or_default();
        for raw in list.chunks_exact(ENTRY).take(PER_BLOCK) {
            // An owner of number 0 is told from a free entry by what else it holds.
            if le_u32(raw, 0)? == owner && raw.iter().any(|byte| *byte != 0) {
                let mut entry = Entry { raw: [0; ENTRY] };
                entry.raw.copy_from_slice(raw);
                self.entries.insert(owner, entry);
                return Ok(());
            }
        }
        Err(Error::corrupt(format!(
            "the entry of owner {owner} is missing"
        )))
    }

    /// Changes what `owner` has.
    ///
    /// # Errors
    /// `Corrupt` when that would be less than nothing.
    pub(super) fn change(&mut self, owner: u32, by: Usage) -> Result<()> {
        let entry = self
            .entries
            .entry(owner)
            .or_insert(Entry { raw: [0; ENTRY] });
        put32(&mut entry.raw, 0, u64::from(owner))?;
        for (at, by) in [(INODES, by.inodes), (BYTES, by.bytes)] {
            let now = le_u64(&entry.raw, at)?
                .checked_add_signed(by)
                .ok_or_else(|| Error::corrupt(format!("owner {owner} has less than nothing")))?;
            put(&mut entry.raw, at, &now.to_le_bytes())?;
        }
        Ok(())
    }

    /// The whole file.
    ///
    /// # Errors
    /// Never for what was read by [`QuotaFile::parse`].
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        let mut out = Tree {
            bytes: vec![0; BLOCK.saturating_mul(2)],
        };
        let mut leaf: Option<(usize, usize)> = None;
        for (owner, entry) in &self.entries {
            let number = entry.raw.get(4..).unwrap_or_default();
            if number.iter().all(|byte| *byte == 0) && *owner != 0 {
                continue;
            }
            let (at, nth) = match leaf {
                Some((at, nth)) if nth < PER_BLOCK => (at, nth),
                _ => (out.grow(), 0),
            };
            leaf = Some((at, nth.saturating_add(1)));
            let mut raw = entry.raw;
            if raw.iter().all(|byte| *byte == 0) {
                put(&mut raw, INODE_TIME, &[1])?;
            }
            let offset = at.saturating_mul(BLOCK);
            let place = HEADER.saturating_add(nth.saturating_mul(ENTRY));
            put(&mut out.bytes, offset.saturating_add(place), &raw)?;
            let count = u16::try_from(nth.saturating_add(1)).unwrap_or(u16::MAX);
            put(
                &mut out.bytes,
                offset.saturating_add(8),
                &count.to_le_bytes(),
            )?;
            out.enter(*owner, at)?;
        }
        let blocks = out.bytes.len() / BLOCK;
        let magic = MAGIC.get(self.kind).copied().unwrap_or_default();
        put32(&mut out.bytes, 0, u64::from(magic))?;
        put32(&mut out.bytes, 4, 1)?;
        put(&mut out.bytes, INFO, &self.info)?;
        put32(&mut out.bytes, INFO + 12, len64(blocks))?;
        // No block is free; the last one of entries may have room.
        let room = leaf
            .filter(|(_, nth)| *nth < PER_BLOCK)
            .map_or(0, |(at, _)| at);
        put32(&mut out.bytes, INFO + 20, len64(room))?;
        Ok(out.bytes)
    }
}

/// Block `number` of a file of `blocks`.
fn block(bytes: &[u8], blocks: u32, number: u32) -> Result<&[u8]> {
    if number < ROOT || number >= blocks {
        return Err(Error::corrupt(format!("there is no block {number}")));
    }
    slice_at(bytes, index(number).saturating_mul(BLOCK), BLOCK)
}

/// The file being made: its first block and the root are there.
struct Tree {
    bytes: Vec<u8>,
}

impl Tree {
    /// Adds a block; its number.
    fn grow(&mut self) -> usize {
        let at = self.bytes.len() / BLOCK;
        self.bytes.resize(self.bytes.len().saturating_add(BLOCK), 0);
        at
    }

    /// Lets the tree lead from `owner` to block `leaf`.
    fn enter(&mut self, owner: u32, leaf: usize) -> Result<()> {
        let mut node = index(ROOT);
        let path = owner.to_be_bytes();
        for (level, byte) in path.iter().enumerate() {
            let at = node
                .saturating_mul(BLOCK)
                .saturating_add(usize::from(*byte).min(FAN).saturating_mul(4));
            let next = le_u32(&self.bytes, at)?;
            let to = if level.saturating_add(1) == path.len() {
                leaf
            } else if next != 0 {
                index(next)
            } else {
                self.grow()
            };
            put32(&mut self.bytes, at, len64(to))?;
            node = to;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> QuotaFile {
        let mut file = QuotaFile {
            kind: 0,
            info: [7; 12],
            entries: BTreeMap::new(),
        };
        for n in 0..100_u32 {
            let usage = Usage {
                bytes: i64::from(n).saturating_mul(4096),
                inodes: i64::from(n),
            };
            file.change(n.wrapping_mul(40_503_777), usage).unwrap();
        }
        file
    }

    #[test]
    fn what_is_written_is_read_again() {
        let file = file();
        let bytes = file.bytes().unwrap();
        let again = QuotaFile::parse(0, &bytes).unwrap();
        assert_eq!(again.entries.len(), 100);
        assert_eq!(again.bytes().unwrap(), bytes);
        assert!(QuotaFile::parse(1, &bytes).is_err());
    }

    #[test]
    fn nobody_has_less_than_nothing() {
        let less = Usage {
            bytes: 0,
            inodes: -1,
        };
        assert!(file().change(5, less).is_err());
    }

    #[test]
    fn a_tree_that_loops_or_leads_outside_is_corrupt() {
        let bytes = file().bytes().unwrap();
        for (at, to) in [(BLOCK, 1_u32), (BLOCK, 0xFFFF_FFFF), (BLOCK, 0x7FFF_0000)] {
            let mut broken = bytes.clone();
            put32(&mut broken, at, u64::from(to)).unwrap();
            assert!(QuotaFile::parse(0, &broken).is_err());
        }
        for at in (0..bytes.len()).step_by(389) {
            let mut broken = bytes.clone();
            broken[at] ^= 0x41;
            let _ = QuotaFile::parse(0, &broken);
        }
    }
}
