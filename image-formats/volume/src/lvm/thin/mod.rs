//! Thin pools (`drivers/md/dm-thin-metadata.c`): a tree of trees maps each volume's blocks to those of the pool.

mod btree;
mod superblock;

use std::ops::Range;
use std::sync::Arc;

use dormouse_block::{Error, Result, Source};

use crate::joined::{check_range, length, split_at};
use btree::Btree;
use superblock::Superblock;

/// Low bits of a mapping that say when it was made; the block stands above them.
const TIME_BITS: u32 = 24;

/// A pool.
pub(in crate::lvm) struct Pool {
    data: Arc<dyn Source>,
    block: u64,
    mappings: u64,
    tree: Btree,
}

impl Pool {
    /// The pool of `metadata` and `data`, whose blocks have `block` bytes.
    ///
    /// # Errors
    /// `Corrupt`, and `Unsupported` for what is not known.
    pub(in crate::lvm) fn open(
        metadata: Arc<dyn Source>,
        data: Arc<dyn Source>,
        block: u64,
    ) -> Result<Self> {
        let superblock = Superblock::read(&*metadata)?;
        if superblock.block != block {
            return Err(Error::corrupt(format!(
                "the pool's blocks have {} bytes by its own account, and {block} by the group's",
                superblock.block
            )));
        }
        Ok(Self {
            data,
            block,
            mappings: superblock.mappings,
            tree: Btree::new(metadata),
        })
    }
}

/// A volume in a pool.
pub(in crate::lvm) struct ThinVolume {
    pool: Arc<Pool>,
    /// Root of the tree of its mappings.
    root: u64,
    len: u64,
    /// What shows where nothing is mapped.
    outside: Option<Arc<dyn Source>>,
}

impl ThinVolume {
    /// Device `id` of `pool`, of `len` bytes; where it maps nothing, `outside` shows through.
    ///
    /// # Errors
    /// `Corrupt` when the pool does not know it.
    pub(in crate::lvm) fn open(
        pool: Arc<Pool>,
        id: u64,
        len: u64,
        outside: Option<Arc<dyn Source>>,
    ) -> Result<Self> {
        let root = pool
            .tree
            .get(pool.mappings, id)?
            .ok_or_else(|| Error::corrupt(format!("its pool knows no device {id}")))?;
        Ok(Self {
            pool,
            root,
            len,
            outside,
        })
    }

    fn read_block(&self, number: u64, within: u64, buf: &mut [u8]) -> Result<()> {
        if let Some(mapping) = self.pool.tree.get(self.root, number)? {
            let at = (mapping >> TIME_BITS)
                .checked_mul(self.pool.block)
                .and_then(|at| at.checked_add(within))
                .ok_or_else(|| Error::corrupt("a mapping beyond every pool"))?;
            return self.pool.data.read_exact_at(at, buf);
        }
        let Some(outside) = &self.outside else {
            buf.fill(0);
            return Ok(());
        };
        let at = number
            .saturating_mul(self.pool.block)
            .saturating_add(within);
        let (there, beyond) = split_at(buf, outside.len().saturating_sub(at));
        if !there.is_empty() {
            outside.read_exact_at(at, there)?;
        }
        beyond.fill(0);
        Ok(())
    }
}

impl Source for ThinVolume {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(offset, buf.len(), self.len)?;
        let block = self.pool.block;
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let number = at.checked_div(block).unwrap_or(0);
            let within = at.checked_rem(block).unwrap_or(0);
            let (now, later) = split_at(rest, block.saturating_sub(within));
            self.read_block(number, within, now)?;
            at = at.saturating_add(length(now));
            rest = later;
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        if offset >= self.len {
            return Ok(None);
        }
        if self.outside.is_some() {
            return Ok(Some(offset..self.len));
        }
        let block = self.pool.block;
        let number = offset.checked_div(block).unwrap_or(0);
        let found = self.pool.tree.next(self.root, number)?;
        Ok(found
            .map(|number| {
                let start = number.saturating_mul(block);
                start.max(offset)..start.saturating_add(block).min(self.len)
            })
            .filter(|range| range.start < self.len))
    }
}
