//! Names to entries by their hash: in the index of a directory.

use std::cmp::Ordering;

use dormouse_block::{Error, Result, be_u16, be_u32};

use super::btree::MAX_LEVELS;
use super::directory::INDEX_OFFSET;
use super::fork::{Format, Which};
use super::inode::Inode;
use super::{XfsTree, entry};
use crate::DirEntry;

/// Magic numbers of index blocks in versions 4 and 5: the one leaf of a small directory, a leaf of many, a node.
const LEAF_ALONE: [u16; 2] = [0xD2F1, 0x3DF1];
const LEAF: [u16; 2] = [0xD2FF, 0x3DFF];
pub(super) const NODE: [u16; 2] = [0xFEBE, 0x3EBE];
/// Leaves of one hash value that are searched.
const MAX_LEAVES: u32 = 4096;

/// The hash of a name (`xfs_da_hashname`).
fn hash(name: &[u8]) -> u32 {
    name.iter()
        .fold(0_u32, |hash, byte| hash.rotate_left(7) ^ u32::from(*byte))
}

/// A letter without its case, in ASCII and Latin-1 (`xfs_ascii_ci_xfrm`).
fn fold_case(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' | 0xC0..=0xD6 | 0xD8..=0xDE => byte | 0x20,
        _ => byte,
    }
}

/// The name that is looked for.
struct Wanted<'a> {
    name: &'a [u8],
    ascii_ci: bool,
    hash: u32,
    /// What was found so far: with the exact name, or with one that differs in case.
    found: Option<DirEntry>,
}

impl<'a> Wanted<'a> {
    fn new(name: &'a [u8], ascii_ci: bool) -> Self {
        let folded: Vec<u8>;
        let hashed = if ascii_ci {
            folded = name.iter().copied().map(fold_case).collect();
            &folded
        } else {
            name
        };
        Self {
            name,
            ascii_ci,
            hash: hash(hashed),
            found: None,
        }
    }

    /// Keeps `entry` if it is wanted; whether the search goes on.
    fn offer(&mut self, entry: DirEntry) -> bool {
        if entry.name == self.name {
            self.found = Some(entry);
            return false;
        }
        let folded = |name: &[u8]| name.iter().copied().map(fold_case).collect::<Vec<_>>();
        if self.ascii_ci && self.found.is_none() && folded(&entry.name) == folded(self.name) {
            self.found = Some(entry);
        }
        true
    }
}

/// A list of pairs of hash and address, ascending by hash.
struct Index<'a> {
    bytes: &'a [u8],
    start: usize,
    count: usize,
}

impl Index<'_> {
    fn word(&self, nth: usize, within: usize) -> Result<u32> {
        let at = nth.saturating_mul(8).saturating_add(self.start);
        be_u32(self.bytes, at.saturating_add(within))
    }

    /// The first pair whose hash is at least `hash`.
    fn first(&self, hash: u32) -> Result<usize> {
        let (mut low, mut high) = (0_usize, self.count);
        while low < high {
            let middle = low.midpoint(high);
            match self.word(middle, 0)?.cmp(&hash) {
                Ordering::Less => low = middle.saturating_add(1),
                _ => high = middle,
            }
        }
        Ok(low)
    }
}

impl XfsTree {
    /// The entry `name` of a directory.
    ///
    /// # Errors
    /// `Corrupt` for a broken directory or index.
    pub(super) fn find_entry(&self, inode: &Inode, name: &[u8]) -> Result<Option<DirEntry>> {
        let mut wanted = Wanted::new(name, self.sb.features.ascii_ci());
        let fork = inode.fork(Which::Data)?;
        if fork.format == Format::Local {
            let ftype = self.sb.features.ftype();
            entry::short_form(inode.local()?, ftype, &mut |entry| Ok(wanted.offer(entry)))?;
            return Ok(wanted.found);
        }
        let first = INDEX_OFFSET >> self.sb.block_log;
        match self.directory_block(inode, first)? {
            Some(_) => self.find_in_index(inode, first, &mut wanted)?,
            None => {
                let bytes = self
                    .directory_block(inode, 0)?
                    .ok_or_else(|| Error::corrupt("a directory without blocks"))?;
                let (start, count) = self
                    .block_index(&bytes)?
                    .ok_or_else(|| Error::corrupt("a directory without an index"))?;
                let index = Index {
                    bytes: &bytes,
                    start,
                    count,
                };
                self.follow(inode, &index, &mut wanted)?;
            }
        }
        Ok(wanted
            .found
            .filter(|entry| entry.name != b"." && entry.name != b".."))
    }

    /// Offers the entries of `wanted`'s hash; whether those go on in the next leaf.
    fn follow(&self, inode: &Inode, index: &Index<'_>, wanted: &mut Wanted<'_>) -> Result<bool> {
        let mut nth = index.first(wanted.hash)?;
        while nth < index.count {
            if index.word(nth, 0)? != wanted.hash {
                return Ok(false);
            }
            let address = index.word(nth, 4)?;
            // Entries that were removed leave their hash behind.
            if address != 0 && !wanted.offer(self.entry_at(inode, address)?) {
                return Ok(false);
            }
            nth = nth.saturating_add(1);
        }
        Ok(true)
    }

    fn find_in_index(&self, inode: &Inode, first: u64, wanted: &mut Wanted<'_>) -> Result<()> {
        let head = if self.sb.features.v5() { 56 } else { 12 };
        let start = if self.sb.features.v5() { 64 } else { 16 };
        let mut block = first;
        let mut above: Option<u16> = None;
        let mut leaves = 0_u32;
        loop {
            let bytes = self
                .directory_block(inode, block)?
                .ok_or_else(|| Error::corrupt("a hole in a directory's index"))?;
            let magic = be_u16(&bytes, 8)?;
            let count = usize::from(be_u16(&bytes, head)?);
            let room = bytes.len().saturating_sub(start) / 8;
            let index = Index {
                bytes: &bytes,
                start,
                count,
            };
            if count > room {
                return Err(Error::corrupt(
                    "bad number of hashes in a directory's index",
                ));
            }
            if self.is_magic(magic, NODE) {
                let level = be_u16(&bytes, head.saturating_add(2))?;
                if level == 0
                    || level > MAX_LEVELS
                    || leaves > 0
                    || above.is_some_and(|above| above.checked_sub(1) != Some(level))
                {
                    return Err(Error::corrupt("bad level in a directory's index"));
                }
                let nth = index.first(wanted.hash)?;
                if nth >= count {
                    // The last hash of each level is the greatest there is.
                    return Ok(());
                }
                block = u64::from(index.word(nth, 4)?);
                above = Some(level);
            } else if self.is_magic(magic, LEAF_ALONE) && above.is_none() {
                self.follow(inode, &index, wanted)?;
                return Ok(());
            } else if self.is_magic(magic, LEAF) && above.is_none_or(|above| above == 1) {
                leaves = leaves.saturating_add(1);
                if leaves > MAX_LEAVES {
                    return Err(Error::limit("more than 4096 leaves of one hash"));
                }
                let next = u64::from(be_u32(&bytes, 0)?);
                if !self.follow(inode, &index, wanted)? || next == 0 {
                    return Ok(());
                }
                block = next;
            } else {
                return Err(Error::corrupt("bad magic number in a directory's index"));
            }
            if block < first {
                return Err(Error::corrupt("a directory's index leads outside of it"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_kernels() {
        // As `xfs_db` prints them (`hash NAME`).
        assert_eq!(hash(b"frame000000.tst"), 0xA3A0_40B4);
        assert_eq!(hash(b"lost+found"), 0x021A_A60C);
    }

    #[test]
    fn case_is_folded_in_latin_1_as_well() {
        assert_eq!(
            [b'A', b'[', 0xC0, 0xD7, 0xDE, 0xDF].map(fold_case),
            [b'a', b'[', 0xE0, 0xD7, 0xFE, 0xDF]
        );
    }
}
