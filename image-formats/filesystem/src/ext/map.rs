//! From logical blocks of a file to blocks of the filesystem, and names to entries by their hash.

use dormouse_block::{Error, Result};

use super::directory;
use super::extent::{self, Node};
use super::hash::NameHash;
use super::inode::{self, Inode};
use super::tree::{ExtTree, listed};
use super::{blockmap, overflow};
use crate::DirEntry;

/// Consecutive logical blocks that lie together, or are all holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mapped {
    /// How many, at least one.
    pub(super) len: u32,
    /// The first one's place, or `None` for zeroes.
    pub(super) physical: Option<u64>,
}

impl ExtTree {
    /// Where logical block `logical` is, and how many follow in the same way.
    pub(super) fn map(&self, inode: &Inode, logical: u32) -> Result<Mapped> {
        let mapped = if inode.has(inode::EXTENTS) {
            self.map_extents(inode, logical)
        } else {
            self.map_blocks(inode, logical)
        };
        mapped.map_err(|error| Error::new(error.kind(), format!("inode {}: {error}", inode.number)))
    }

    /// As [`ExtTree::map`], joined over consecutive extents as far as `wanted` blocks.
    pub(super) fn map_run(&self, inode: &Inode, logical: u32, wanted: u32) -> Result<Mapped> {
        let mut run = self.map(inode, logical)?;
        while run.len < wanted {
            let Some(next) = logical.checked_add(run.len) else {
                break;
            };
            let more = self.map(inode, next)?;
            let follows = match (run.physical, more.physical) {
                (Some(first), Some(then)) => first.checked_add(u64::from(run.len)) == Some(then),
                (None, None) => true,
                _ => false,
            };
            if !follows {
                break;
            }
            run.len = run.len.saturating_add(more.len);
        }
        Ok(run)
    }

    fn map_extents(&self, inode: &Inode, logical: u32) -> Result<Mapped> {
        let seed = inode.seed(&self.sb);
        let mut node = extent::parse(&self.sb, &inode.map()?, None)?;
        // Where what follows in the tree begins: the end of a hole.
        let mut limit = u32::MAX;
        loop {
            match node {
                Node::Leaf(list) => {
                    let after = list.partition_point(|extent| extent.logical <= logical);
                    let found = after.checked_sub(1).and_then(|nth| list.get(nth));
                    if let Some(extent) = found {
                        let within = logical.saturating_sub(extent.logical);
                        if within < extent.len {
                            return Ok(Mapped {
                                len: extent.len.saturating_sub(within),
                                physical: extent
                                    .written
                                    .then_some(extent.physical.saturating_add(u64::from(within))),
                            });
                        }
                    }
                    let next = list
                        .get(after)
                        .map_or(limit, |next| next.logical.min(limit));
                    return Ok(Mapped {
                        len: next.saturating_sub(logical).max(1),
                        physical: None,
                    });
                }
                Node::Index(list, depth) => {
                    let after = list.partition_point(|child| child.logical <= logical);
                    limit = list
                        .get(after)
                        .map_or(limit, |next| next.logical.min(limit));
                    let Some(child) = after.checked_sub(1).and_then(|nth| list.get(nth)) else {
                        return Ok(Mapped {
                            len: limit.saturating_sub(logical).max(1),
                            physical: None,
                        });
                    };
                    let bytes = self.volume.block(child.block)?;
                    extent::verify(&self.sb, seed, &bytes)?;
                    node = extent::parse(&self.sb, &bytes, Some(depth))?;
                }
            }
        }
    }

    fn map_blocks(&self, inode: &Inode, logical: u32) -> Result<Mapped> {
        let path = blockmap::path(&self.sb, logical)?;
        let map = inode.map()?;
        let per = self.sb.block_size() / 4;
        let (last, way) = path.split_last().ok_or_else(overflow)?;
        let mut holder: Option<std::sync::Arc<[u8]>> = None;
        for (nth, at) in way.iter().enumerate() {
            let block = match &holder {
                None => blockmap::entry(&map, *at)?,
                Some(bytes) => blockmap::entry(bytes, *at)?,
            };
            if block == 0 {
                // The whole subtree is a hole: as many blocks as are left of it.
                let mut below: u64 = 1;
                let mut within: u64 = 0;
                for at in path.iter().skip(nth.saturating_add(1)).rev() {
                    within = within.saturating_add(u64::from(*at).saturating_mul(below));
                    below = below.saturating_mul(u64::from(per));
                }
                let left = below.saturating_sub(within).max(1);
                return Ok(Mapped {
                    len: u32::try_from(left).unwrap_or(u32::MAX),
                    physical: None,
                });
            }
            self.sb.check_blocks(u64::from(block), 1)?;
            holder = Some(self.volume.block(u64::from(block))?);
        }
        let (bytes, room): (&[u8], u32) = match &holder {
            None => (&map, blockmap::DIRECT),
            Some(bytes) => (bytes, per),
        };
        let first = blockmap::entry(bytes, *last)?;
        let mut len = 1_u32;
        while last.saturating_add(len) < room {
            let next = blockmap::entry(bytes, last.saturating_add(len))?;
            let follows = if first == 0 {
                Some(0)
            } else {
                first.checked_add(len)
            };
            if follows != Some(next) {
                break;
            }
            len = len.saturating_add(1);
        }
        if first == 0 {
            return Ok(Mapped {
                len,
                physical: None,
            });
        }
        self.sb.check_blocks(u64::from(first), u64::from(len))?;
        Ok(Mapped {
            len,
            physical: Some(u64::from(first)),
        })
    }

    /// The entry `name` of a hashed directory, found by its hash; `None` when the directory has no index that can be
    /// followed, so that all of it must be read.
    pub(super) fn lookup_hashed(
        &self,
        inode: &Inode,
        name: &[u8],
    ) -> Result<Option<Option<DirEntry>>> {
        if !inode.is_hashed(&self.sb) || inode.has(inode::INLINE) || inode.has(inode::CASEFOLD) {
            return Ok(None);
        }
        let seed = inode.seed(&self.sb);
        let blocks = inode.blocks(&self.sb)?;
        let read = |logical: u32| {
            if logical >= blocks {
                return Err(Error::corrupt(
                    "a directory index leads outside the directory",
                ));
            }
            let physical = self
                .map(inode, logical)?
                .physical
                .ok_or_else(|| Error::corrupt("a hole in a hashed directory"))?;
            let bytes = self.volume.block(physical)?;
            self.check_directory_block(inode, seed, logical, &bytes)?;
            Ok(bytes)
        };
        let root = read(0)?;
        let Some(info) = directory::root_info(&self.sb, &root)? else {
            return Ok(None);
        };
        let Some(hasher) = NameHash::of(&self.sb, info.hash_version) else {
            return Ok(None);
        };
        let hash = hasher.hash(name).major;
        // One list of index entries for each level; `nth` is the entry that was followed.
        let list = directory::index_entries(&root, directory::ROOT_ENTRIES)?;
        let nth = list
            .partition_point(|entry| entry.hash <= hash)
            .saturating_sub(1);
        let mut levels = vec![(list, nth)];
        loop {
            let (list, nth) = levels.last().ok_or_else(overflow)?;
            let block = list.get(*nth).ok_or_else(overflow)?.block;
            let bytes = read(block)?;
            if levels.len() <= usize::from(info.levels) {
                let list = directory::index_entries(&bytes, directory::NODE_ENTRIES)?;
                let nth = list
                    .partition_point(|entry| entry.hash <= hash)
                    .saturating_sub(1);
                levels.push((list, nth));
                continue;
            }
            let mut found = None;
            directory::entries(&self.sb, &bytes, |entry| {
                if entry.inode != 0 && entry.name == name {
                    found = Some(listed(&entry));
                }
                Ok(found.is_none())
            })?;
            if found.is_some() {
                return Ok(Some(found));
            }
            // Names of the same hash may go on in the next block, whose hash then has its lowest bit set.
            let next = loop {
                let Some((list, nth)) = levels.last_mut() else {
                    return Ok(Some(None));
                };
                *nth = nth.saturating_add(1);
                match list.get(*nth) {
                    Some(entry) => break entry.hash,
                    None => {
                        levels.pop();
                    }
                }
            };
            if next != hash | 1 {
                return Ok(Some(None));
            }
            let wanted = usize::from(info.levels).saturating_add(1);
            while levels.len() < wanted {
                let (list, nth) = levels.last().ok_or_else(overflow)?;
                let bytes = read(list.get(*nth).ok_or_else(overflow)?.block)?;
                levels.push((
                    directory::index_entries(&bytes, directory::NODE_ENTRIES)?,
                    0,
                ));
            }
        }
    }
}
