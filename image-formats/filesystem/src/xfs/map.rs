//! From logical blocks of a fork to blocks of the filesystem, and to bytes.

use std::sync::Arc;

use dormouse_block::{Error, Result};

use super::btree::{EXTENTS, up_to};
use super::fork::{self, Extent, Format, Root, Which};
use super::inode::Inode;
use super::volume::Place;
use super::{XfsTree, index, overflow, wide};

/// Consecutive logical blocks that lie together, or are all read as zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mapped {
    /// How many, at least one.
    pub(super) len: u64,
    /// The first one's filesystem block, or `None` for zeroes.
    pub(super) block: Option<u64>,
}

impl XfsTree {
    /// Where logical block `logical` of a fork is, and how many follow in the same way.
    ///
    /// # Errors
    /// `Corrupt` for a broken fork.
    pub(super) fn map(&self, inode: &Inode, which: Which, logical: u64) -> Result<Mapped> {
        let (extent, next) = self
            .extent_of(inode, which, logical)
            .map_err(|error| error.because(InInode(inode.number)))?;
        let mut mapped = match extent {
            Some(extent) => {
                let within = logical.saturating_sub(extent.logical);
                let len = extent.len.saturating_sub(within);
                let block = extent.block.saturating_add(within);
                if extent.written {
                    self.sb.extent(block, len)?;
                }
                Mapped {
                    len,
                    block: extent.written.then_some(block),
                }
            }
            None => Mapped {
                len: next.unwrap_or(u64::MAX).saturating_sub(logical).max(1),
                block: None,
            },
        };
        for change in self.pending.of(inode.number, which) {
            change.lay_over(logical, &mut mapped);
        }
        Ok(mapped)
    }

    fn extent_of(
        &self,
        inode: &Inode,
        which: Which,
        logical: u64,
    ) -> Result<(Option<Extent>, Option<u64>)> {
        let fork = inode.fork(which)?;
        match fork.format {
            Format::Extents => {
                let (list, count) = fork.list()?;
                return fork::find(list, count, logical);
            }
            Format::Btree => {}
            Format::Device | Format::Local => {
                return Err(Error::corrupt("a fork without extents is asked for them"));
            }
        }
        let root = Root::parse(fork.bytes)?;
        let mut limit = None;
        let mut follow = |count: usize, key: &dyn Fn(usize) -> Result<u64>| {
            let after = up_to(count, logical, key)?;
            if after < count {
                limit = Some(key(after)?);
            }
            // What lies before the first key is a hole.
            Ok::<_, Error>((after.checked_sub(1), limit))
        };
        let (Some(nth), mut next) = follow(root.count, &|nth| root.key(nth))? else {
            return Ok((None, Some(root.key(0)?)));
        };
        let mut block = root.pointer(nth)?;
        let mut level = root.level.saturating_sub(1);
        loop {
            let node = self.btree_block(&EXTENTS, inode.number, block, level)?;
            if level == 0 {
                let (found, then) = fork::find(node.records(), node.count, logical)?;
                return Ok((found, then.or(next)));
            }
            let (nth, then) = follow(node.count, &|nth| node.key(nth))?;
            next = then;
            let Some(nth) = nth else {
                return Ok((None, Some(node.key(0)?)));
            };
            block = node.pointer(nth)?;
            level = level.saturating_sub(1);
        }
    }

    /// Fills `buf` with the bytes of a fork from `offset` on; holes and unwritten extents are zeroes.
    ///
    /// # Errors
    /// As [`XfsTree::map`].
    pub(super) fn read_fork(
        &self,
        inode: &Inode,
        which: Which,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<()> {
        let log = self.sb.block_log;
        let mut done = 0_usize;
        while done < buf.len() {
            let at = offset.checked_add(wide(done)).ok_or_else(overflow)?;
            let run = self.map(inode, which, at >> log)?;
            let within = at & wide(self.sb.block_size()).saturating_sub(1);
            let bytes = run.len.saturating_mul(1 << log).saturating_sub(within);
            let end = done.saturating_add(index(bytes)).min(buf.len());
            let part = buf
                .get_mut(done..end)
                .filter(|part| !part.is_empty())
                .ok_or_else(overflow)?;
            match run.block {
                Some(block) => {
                    let start = self.sb.extent(block, 1)?;
                    self.volume.read(start.saturating_add(within), part)?;
                }
                None => part.fill(0),
            }
            done = end;
        }
        Ok(())
    }

    /// `count` blocks of metadata of a fork from logical block `logical` on, as one piece that `check` holds against
    /// what it should be: it is told the piece, the byte where it begins, and whether the log changed any of it. `None`
    /// when they are a hole.
    ///
    /// # Errors
    /// As [`XfsTree::map`], and those of `check`.
    pub(super) fn fork_metadata(
        &self,
        inode: &Inode,
        which: Which,
        logical: u64,
        count: u64,
        check: impl FnOnce(&[u8], u64, bool) -> Result<()>,
    ) -> Result<Option<Arc<[u8]>>> {
        let Some(first) = self.map(inode, which, logical)?.block else {
            return Ok(None);
        };
        let offset = self.sb.extent(first, 1)?;
        let place = Place {
            offset,
            owner: inode.number,
            len: self.sb.block_size().saturating_mul(index(count)),
        };
        let load = |buf: &mut [u8]| {
            let mut changed = false;
            let size = self.sb.block_size();
            let mut at = logical;
            let mut rest = buf;
            while !rest.is_empty() {
                let run = self.map(inode, which, at)?;
                let Some(block) = run.block else {
                    return Err(Error::corrupt("a hole within a block of metadata"));
                };
                let len = index(run.len).saturating_mul(size).min(rest.len());
                let (part, after) = rest.split_at_mut_checked(len).ok_or_else(overflow)?;
                let start = self.sb.extent(block, 1)?;
                self.volume.read(start, part)?;
                changed |= self.volume.changed(start, part.len());
                at = at.saturating_add(run.len);
                rest = after;
            }
            Ok(changed)
        };
        self.volume
            .metadata(place, |buf| {
                let changed = load(buf)?;
                check(buf, offset, changed)
            })
            .map(Some)
    }
}

/// Names the inode that an error belongs to.
#[derive(Debug)]
struct InInode(u64);

impl std::fmt::Display for InInode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "in inode {}", self.0)
    }
}

impl std::error::Error for InInode {}
