//! The bins of a hive by pages: read when they are wanted, or as a transaction log has them.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use dormouse_block::{Error, Result, Source};

use super::base_block::BASE_BLOCK;

/// Bytes of a page: the unit in which Windows tracks what is dirty.
const PAGE: usize = 4096;
/// Pages of the primary file remembered (16 MiB); then they are forgotten and read again.
const MAX_CLEAN: usize = 4096;
/// Pages taken from logs (128 MiB). Logs are a fraction of their hive, the largest of which have some 150 MiB.
const MAX_DIRTY: usize = 32_768;

/// The bins of one hive. Nothing is ever written to the file itself.
pub(super) struct Pages {
    file: Arc<dyn Source>,
    /// Bytes of all bins.
    bins: u32,
    clean: RefCell<HashMap<u64, Arc<[u8]>>>,
    dirty: BTreeMap<u64, Vec<u8>>,
}

fn split(offset: u32) -> (u64, usize) {
    let page = u64::from(offset) / 4096;
    let within = usize::try_from(offset % 4096).unwrap_or(0);
    (page, within)
}

impl Pages {
    pub(super) fn new(file: Arc<dyn Source>, bins: u32) -> Self {
        Self {
            file,
            bins,
            clean: RefCell::default(),
            dirty: BTreeMap::new(),
        }
    }

    pub(super) fn bins(&self) -> u32 {
        self.bins
    }

    pub(super) fn set_bins(&mut self, bins: u32) {
        self.bins = bins;
    }

    /// Whether the file holds all bins by itself.
    pub(super) fn is_whole(&self) -> bool {
        self.file.len() >= BASE_BLOCK.saturating_add(u64::from(self.bins))
    }

    /// A page of the file, with zeroes where the file ends within it; `None` where it ended before.
    fn from_file(&self, page: u64) -> Result<Option<Vec<u8>>> {
        let start = page
            .checked_mul(4096)
            .and_then(|start| start.checked_add(BASE_BLOCK))
            .ok_or_else(|| Error::corrupt("a page beyond every hive"))?;
        let there = self.file.len().saturating_sub(start).min(4096);
        if there == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; PAGE];
        let there = usize::try_from(there).unwrap_or(PAGE);
        if let Some(part) = bytes.get_mut(..there) {
            self.file.read_exact_at(start, part)?;
        }
        Ok(Some(bytes))
    }

    /// Lays `bytes`, as a log has them, over the bins at `offset`.
    ///
    /// # Errors
    /// `Limit` for more pages than are held.
    pub(super) fn lay(&mut self, offset: u32, mut bytes: &[u8]) -> Result<()> {
        let mut at = offset;
        while !bytes.is_empty() {
            let (page, within) = split(at);
            if !self.dirty.contains_key(&page) {
                if self.dirty.len() >= MAX_DIRTY {
                    return Err(Error::limit("more than 128 MiB of dirty pages"));
                }
                let known = self.from_file(page)?.unwrap_or_else(|| vec![0; PAGE]);
                self.dirty.insert(page, known);
            }
            let n = bytes.len().min(PAGE.saturating_sub(within));
            let (now, rest) = bytes.split_at_checked(n).unwrap_or((bytes, &[]));
            if let Some(part) = self
                .dirty
                .get_mut(&page)
                .and_then(|known| known.get_mut(within..)?.get_mut(..n))
            {
                part.copy_from_slice(now);
            }
            bytes = rest;
            at = u32::try_from(n)
                .ok()
                .and_then(|n| at.checked_add(n))
                .ok_or_else(|| Error::corrupt("a dirty page beyond every hive"))?;
        }
        Ok(())
    }

    /// Forgets what logs gave.
    pub(super) fn forget(&mut self) {
        self.dirty.clear();
    }

    /// Pages that a log gave.
    pub(super) fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// Fills `buf` from the bins at `offset`.
    ///
    /// # Errors
    /// `Corrupt` for what lies beyond the bins or the file.
    pub(super) fn read(&self, offset: u32, mut buf: &mut [u8]) -> Result<()> {
        let end = u64::try_from(buf.len())
            .ok()
            .and_then(|len| len.checked_add(u64::from(offset)));
        if end.is_none_or(|end| end > u64::from(self.bins)) {
            return Err(Error::corrupt("a cell beyond the hive's bins").at_offset(offset.into()));
        }
        let (mut page, mut within) = split(offset);
        while !buf.is_empty() {
            let n = buf.len().min(PAGE.saturating_sub(within));
            let (now, rest) = buf.split_at_mut_checked(n).unwrap_or((&mut [], &mut []));
            self.copy(page, within, now)?;
            buf = rest;
            page = page.saturating_add(1);
            within = 0;
        }
        Ok(())
    }

    fn copy(&self, page: u64, within: usize, to: &mut [u8]) -> Result<()> {
        let mut from = |bytes: &[u8]| {
            let part = bytes.get(within..).and_then(|rest| rest.get(..to.len()));
            if let Some(part) = part {
                to.copy_from_slice(part);
            }
        };
        if let Some(bytes) = self.dirty.get(&page) {
            from(bytes);
            return Ok(());
        }
        if let Some(bytes) = self.clean.borrow().get(&page) {
            from(bytes);
            return Ok(());
        }
        let Some(bytes) = self.from_file(page)? else {
            return Err(Error::corrupt("the hive's file ends before its bins do")
                .at_offset(page.saturating_mul(4096)));
        };
        from(&bytes);
        let mut clean = self.clean.borrow_mut();
        if clean.len() >= MAX_CLEAN {
            clean.clear();
        }
        clean.insert(page, bytes.into());
        Ok(())
    }
}
