//! Blocks of metadata in memory until they are written, and file data on its way in large pieces.

use std::collections::BTreeMap;

use dormouse_block::{Error, Result};

use crate::Device;

/// Bytes of metadata kept in memory; above this all of it is written and forgotten between two operations.
const MAX_CACHED: usize = 96 << 20;
/// Bytes of consecutive blocks that are written at once.
const MAX_WRITE: usize = 1 << 20;

pub(super) struct Store<D> {
    device: D,
    block_log: u32,
    blocks: BTreeMap<u64, Cached>,
    /// Room for file data that follows on without a gap and is not yet written, how much of it there is, and where it begins.
    pending: Vec<u8>,
    pending_len: usize,
    pending_at: u64,
}

struct Cached {
    bytes: Box<[u8]>,
    dirty: bool,
}

impl<D: Device> Store<D> {
    pub(super) fn new(device: D, block_log: u32) -> Self {
        Self {
            device,
            block_log,
            blocks: BTreeMap::new(),
            pending: Vec::new(),
            pending_len: 0,
            pending_at: 0,
        }
    }

    pub(super) fn block_len(&self) -> usize {
        1 << self.block_log
    }

    fn offset(&self, block: u64) -> Result<u64> {
        block
            .checked_mul(1 << self.block_log)
            .filter(|offset| *offset < self.device.len())
            .ok_or_else(|| Error::corrupt(format!("block {block} lies outside the volume")))
    }

    fn load(&mut self, block: u64) -> Result<&mut Cached> {
        if !self.blocks.contains_key(&block) {
            let mut bytes = vec![0; self.block_len()].into_boxed_slice();
            self.device.read_exact_at(self.offset(block)?, &mut bytes)?;
            self.blocks.insert(
                block,
                Cached {
                    bytes,
                    dirty: false,
                },
            );
        }
        self.blocks
            .get_mut(&block)
            .ok_or_else(|| Error::corrupt("a block was lost"))
    }

    /// A block of metadata.
    pub(super) fn read(&mut self, block: u64) -> Result<&[u8]> {
        self.load(block).map(|cached| &*cached.bytes)
    }

    /// A block of metadata, to be changed.
    pub(super) fn modify(&mut self, block: u64) -> Result<&mut [u8]> {
        let cached = self.load(block)?;
        cached.dirty = true;
        Ok(&mut cached.bytes)
    }

    /// A block of metadata that is new: zeroes, whatever was there.
    pub(super) fn create(&mut self, block: u64) -> Result<&mut [u8]> {
        self.offset(block)?;
        let bytes = vec![0; self.block_len()].into_boxed_slice();
        let cached = Cached { bytes, dirty: true };
        let cached = match self.blocks.entry(block) {
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                entry.insert(cached);
                entry.into_mut()
            }
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(cached),
        };
        Ok(&mut cached.bytes)
    }

    /// The block is no metadata any more: what is in memory of it must never be written.
    pub(super) fn forget(&mut self, start: u64, len: u64) {
        if self
            .blocks
            .range(start..)
            .next()
            .is_none_or(|(&block, _)| block.saturating_sub(start) >= len)
        {
            return;
        }
        let gone: Vec<u64> = self
            .blocks
            .range(start..start.saturating_add(len))
            .map(|(&block, _)| block)
            .collect();
        for block in gone {
            self.blocks.remove(&block);
        }
    }

    /// Writes file data at byte `offset` of the volume; pieces that follow each other go out together.
    pub(super) fn write_data(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        if bytes.len() >= MAX_WRITE {
            self.flush_data()?;
            return self.device.write_at(offset, bytes);
        }
        self.fill_data(offset, bytes.len(), |part| {
            part.copy_from_slice(bytes);
            Ok(())
        })
    }

    /// Writes `len` bytes of file data at byte `offset` of the volume, at most [`MAX_WRITE`]. `fill` puts all of them over
    /// others.
    pub(super) fn fill_data(
        &mut self,
        offset: u64,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let end = self.pending_at.saturating_add(len64(self.pending_len));
        if end != offset || self.pending_len.saturating_add(len) > MAX_WRITE {
            self.flush_data()?;
            self.pending_at = offset;
        }
        let from = self.pending_len;
        let to = from.saturating_add(len);
        if self.pending.len() < to {
            self.pending.resize(to, 0);
        }
        fill(self.pending.get_mut(from..to).unwrap_or_default())?;
        self.pending_len = to;
        Ok(())
    }

    fn flush_data(&mut self) -> Result<()> {
        let pending = self.pending.get(..self.pending_len).unwrap_or_default();
        if !pending.is_empty() {
            self.device.write_at(self.pending_at, pending)?;
            self.pending_len = 0;
        }
        Ok(())
    }

    /// Reads file data at byte `offset` of the volume, written or still on its way.
    pub(super) fn read_data(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.device.read_exact_at(offset, buf)?;
        let end = offset.saturating_add(len64(buf.len()));
        let pending_end = self.pending_at.saturating_add(len64(self.pending_len));
        let (start, end) = (offset.max(self.pending_at), end.min(pending_end));
        if start < end {
            let len = index(end.saturating_sub(start));
            let to = index(start.saturating_sub(offset));
            let from = index(start.saturating_sub(self.pending_at));
            if let (Some(to), Some(from)) = (
                buf.get_mut(to..to.saturating_add(len)),
                self.pending.get(from..from.saturating_add(len)),
            ) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    /// Writes everything and forgets it when there is too much of it.
    pub(super) fn trim(&mut self) -> Result<()> {
        if self.blocks.len().saturating_mul(self.block_len()) > MAX_CACHED {
            self.flush()?;
            self.blocks.clear();
        }
        Ok(())
    }

    /// Writes everything, consecutive blocks together.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.flush_data()?;
        let mut piece: Vec<u8> = Vec::new();
        let mut start = 0_u64;
        let mut next = None;
        for (&block, cached) in &mut self.blocks {
            if !cached.dirty {
                continue;
            }
            if next != Some(block) || piece.len() >= MAX_WRITE {
                if !piece.is_empty() {
                    self.device.write_at(start << self.block_log, &piece)?;
                    piece.clear();
                }
                start = block;
            }
            piece.extend_from_slice(&cached.bytes);
            next = block.checked_add(1);
            cached.dirty = false;
        }
        if !piece.is_empty() {
            self.device.write_at(start << self.block_log, &piece)?;
        }
        Ok(())
    }
}

pub(super) fn len64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

pub(super) fn index(n: impl TryInto<usize>) -> usize {
    n.try_into().unwrap_or(usize::MAX)
}

/// Puts `value` at `offset` of `bytes`.
pub(super) fn put(bytes: &mut [u8], offset: usize, value: &[u8]) -> Result<()> {
    offset
        .checked_add(value.len())
        .and_then(|end| bytes.get_mut(offset..end))
        .ok_or_else(|| Error::corrupt("a field lies outside its structure"))?
        .copy_from_slice(value);
    Ok(())
}

pub(super) fn put16(bytes: &mut [u8], offset: usize, value: u64) -> Result<()> {
    let value = u16::try_from(value & 0xFFFF).unwrap_or_default();
    put(bytes, offset, &value.to_le_bytes())
}

pub(super) fn put32(bytes: &mut [u8], offset: usize, value: u64) -> Result<()> {
    let value = u32::try_from(value & 0xFFFF_FFFF).unwrap_or_default();
    put(bytes, offset, &value.to_le_bytes())
}
