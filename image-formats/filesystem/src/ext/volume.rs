//! Blocks of the filesystem as they are after its journal: from the journal's copies where there are any.

use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Error, Result, Source};

use super::journal::Replay;
use super::{index, overflow, wide};
use crate::recent::Recent;

/// Bytes of metadata blocks that are kept in memory.
const CACHE_BYTES: usize = 4 << 20;

/// The volume's blocks.
pub struct Volume {
    source: Arc<dyn Source>,
    block_log: u32,
    replay: Replay,
    cache: Mutex<Recent<u64, Arc<[u8]>>>,
}

impl Volume {
    /// The blocks of `source`, of 2^`block_log` bytes, with what `replay` lays over them.
    #[must_use]
    pub fn new(source: Arc<dyn Source>, block_log: u32, replay: Replay) -> Self {
        Self {
            source,
            block_log,
            replay,
            cache: Mutex::new(Recent::new(CACHE_BYTES)),
        }
    }

    /// What the journal lays over the blocks.
    #[must_use]
    pub fn replay(&self) -> &Replay {
        &self.replay
    }

    /// The source below.
    #[must_use]
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    fn offset(&self, block: u64) -> Result<u64> {
        block.checked_mul(1 << self.block_log).ok_or_else(overflow)
    }

    /// A block of metadata, kept in memory for a while.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn block(&self, block: u64) -> Result<Arc<[u8]>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = cache.get(&block, |bytes| bytes.len()) {
            return Ok(bytes);
        }
        drop(cache);
        let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, 1_usize << self.block_log).collect();
        // Nobody else has it yet.
        let buf = Arc::get_mut(&mut bytes).ok_or_else(overflow)?;
        self.read_one(block, 0, buf)?;
        cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.put(block, bytes.clone(), bytes.len());
        Ok(bytes)
    }

    /// Bytes of one block from `within` on, through the journal.
    fn read_one(&self, block: u64, within: usize, buf: &mut [u8]) -> Result<()> {
        let copy = self.replay.blocks.get(&block);
        let from = copy.map_or(block, |copy| copy.block);
        let offset = self.offset(from)?.saturating_add(wide(within));
        self.source.read_exact_at(offset, buf)?;
        if copy.is_some_and(|copy| copy.escaped) {
            super::journal::unescape(within, buf);
        }
        Ok(())
    }

    /// Fills `buf` with bytes of consecutive blocks, from byte `within` of `block` on; nothing is kept in memory.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(&self, block: u64, within: usize, buf: &mut [u8]) -> Result<()> {
        let size = 1_usize << self.block_log;
        let last = block.saturating_add(wide(within.saturating_add(buf.len())) >> self.block_log);
        if self.replay.blocks.range(block..=last).next().is_none() {
            let offset = self.offset(block)?.saturating_add(wide(within));
            return self.source.read_exact_at(offset, buf);
        }
        let mut block = block;
        let mut within = within;
        let mut rest = buf;
        while !rest.is_empty() {
            let step = size.saturating_sub(within).min(rest.len());
            let (part, after) = rest
                .split_at_mut_checked(step)
                .filter(|_| step > 0)
                .ok_or_else(|| Error::corrupt("a read outside its block"))?;
            self.read_one(block, within, part)?;
            rest = after;
            within = 0;
            block = block.saturating_add(1);
        }
        Ok(())
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_len(&self) -> usize {
        index(1_u64 << self.block_log)
    }
}
