//! Memory on its way to whoever reads it: a page, or many that lie together in the file.

use std::collections::BTreeMap;

use dormouse_block::{Error, Result};

use super::{MAX_BLOCKS, MAX_RAM, MAX_ROUNDS};

/// A piece of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes.
    Bytes {
        /// The block of memory, as its hypervisor calls it: `pc.ram`.
        block: &'a str,
        /// Where in the block they are.
        offset: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// One byte over and over, most often zero.
    Fill {
        /// The block.
        block: &'a str,
        /// Where in the block it begins.
        offset: u64,
        /// How often.
        len: u64,
        /// The byte.
        byte: u8,
    },
}

/// A block of guest memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RamBlock {
    /// As its hypervisor calls it.
    pub name: String,
    /// Bytes.
    pub len: u64,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RamRead {
    /// The blocks, in the order in which the state lists them. Of what no page was kept, all is zero.
    pub blocks: Vec<RamBlock>,
    /// Bytes handed over, fills included, those that came again as often as they came.
    pub bytes: u64,
}

/// Hands pieces over, none of them beyond its block's end, all of them no oftener than may be.
pub(super) struct Pieces<'t, 'f> {
    take: &'t mut (dyn FnMut(&Piece<'_>) -> Result<()> + 'f),
    blocks: Vec<RamBlock>,
    numbers: BTreeMap<String, usize>,
    total: u64,
    handed: u64,
}

impl<'t, 'f> Pieces<'t, 'f> {
    pub(super) fn new(take: &'t mut (dyn FnMut(&Piece<'_>) -> Result<()> + 'f)) -> Self {
        Self {
            take,
            blocks: Vec::new(),
            numbers: BTreeMap::new(),
            total: 0,
            handed: 0,
        }
    }

    /// Adds a block of memory and gives its number.
    pub(super) fn block(&mut self, name: &str, len: u64) -> Result<usize> {
        if self.blocks.len() >= MAX_BLOCKS {
            return Err(Error::limit(format!(
                "the saved memory has more than {MAX_BLOCKS} blocks"
            )));
        }
        self.total = self.total.saturating_add(len);
        if self.total > MAX_RAM {
            return Err(Error::limit(format!(
                "{} bytes of saved memory are more than the {MAX_RAM} allowed",
                self.total
            )));
        }
        let number = self.blocks.len();
        if self.numbers.insert(name.to_owned(), number).is_some() {
            return Err(Error::corrupt(format!(
                "two blocks of memory are called {}",
                dormouse_block::escape_terminal(name)
            )));
        }
        self.blocks.push(RamBlock {
            name: name.to_owned(),
            len,
        });
        Ok(number)
    }

    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    fn charge(&mut self, block: usize, offset: u64, len: u64) -> Result<()> {
        let whole = self.blocks.get(block).map_or(0, |block| block.len);
        if offset.checked_add(len).is_none_or(|end| end > whole) {
            return Err(Error::corrupt(
                "a page lies beyond the end of its block of memory",
            ));
        }
        self.handed = self.handed.saturating_add(len);
        if self.handed > self.total.saturating_mul(MAX_ROUNDS) {
            return Err(Error::limit(format!(
                "the memory was sent more than {MAX_ROUNDS} times"
            )));
        }
        Ok(())
    }

    pub(super) fn bytes(&mut self, block: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.charge(block, offset, size)?;
        let name = self.blocks.get(block).map_or("", |block| &block.name);
        (self.take)(&Piece::Bytes {
            block: name,
            offset,
            bytes,
        })
    }

    pub(super) fn fill(&mut self, block: usize, offset: u64, len: u64, byte: u8) -> Result<()> {
        self.charge(block, offset, len)?;
        let name = self.blocks.get(block).map_or("", |block| &block.name);
        (self.take)(&Piece::Fill {
            block: name,
            offset,
            len,
            byte,
        })
    }

    pub(super) fn finish(self) -> RamRead {
        RamRead {
            blocks: self.blocks,
            bytes: self.handed,
        }
    }
}
