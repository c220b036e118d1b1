//! Tables of an image file, read a page at a time through a bounded cache.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Error, Result, Source, read_vec_at};
use foldhash::fast::RandomState;

/// Bytes of a page. With entries of 4 bytes for blocks of 64 KiB, one page maps 512 MiB.
const PAGE: u64 = 32 << 10;
/// Bytes of cached pages for one open table.
const CACHE_BYTES: usize = 1 << 20;

/// Pages of a file, by the offset at which they begin: multiples of their size, so that neighbouring tables share them.
pub(crate) struct Pages {
    file: Arc<dyn Source>,
    cache: Mutex<Cache>,
}

impl Pages {
    pub(crate) fn new(file: Arc<dyn Source>) -> Self {
        Self {
            file,
            cache: Mutex::new(Cache::default()),
        }
    }

    /// The `N` bytes that entry `index` of the table at `table` takes.
    pub(crate) fn entry<const N: usize>(&self, table: u64, index: u64) -> Result<[u8; N]> {
        let width = u64::try_from(N).unwrap_or(u64::MAX);
        let at = index
            .checked_mul(width)
            .and_then(|within| table.checked_add(within))
            .filter(|at| {
                at.checked_add(width)
                    .is_some_and(|end| end <= self.file.len())
            })
            .ok_or_else(|| {
                Error::corrupt(format!(
                    "a table lies beyond the end of the file, which has {} bytes",
                    self.file.len()
                ))
                .at_offset(table)
            })?;
        let mut entry = [0; N];
        // Tables are aligned to their entries, but nothing makes a hostile one be.
        if !at.is_multiple_of(width) {
            self.file.read_exact_at(at, &mut entry)?;
            return Ok(entry);
        }
        let (page, within) = self.page(at)?;
        entry.copy_from_slice(dormouse_block::slice_at(&page, within, N)?);
        Ok(entry)
    }

    /// Entry `index` of the table at `table`, and how many entries from it on are the same: at least one, at most `most`,
    /// and no more than one page holds. Empty stretches of large tables are passed by this.
    pub(crate) fn repeated<const N: usize>(
        &self,
        table: u64,
        index: u64,
        most: u64,
    ) -> Result<([u8; N], u64)> {
        let entry = self.entry::<N>(table, index)?;
        let width = u64::try_from(N).unwrap_or(1);
        let at = table.saturating_add(index.saturating_mul(width));
        if !at.is_multiple_of(width) {
            return Ok((entry, 1));
        }
        let (page, within) = self.page(at)?;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let (entries, _) = page.get(within..).unwrap_or_default().as_chunks::<N>();
        let same = entries
            .iter()
            .take(most)
            .take_while(|next| **next == entry)
            .count();
        Ok((entry, u64::try_from(same).unwrap_or(1).max(1)))
    }

    /// The page that holds the byte `at`, and where in it. The last page of a file is a short one.
    pub(crate) fn page(&self, at: u64) -> Result<(Arc<[u8]>, usize)> {
        let within = usize::try_from(at % PAGE).unwrap_or(0);
        let start = at.saturating_sub(at % PAGE);
        if let Some(page) = self.lock().get(start) {
            return Ok((page, within));
        }
        let len = PAGE.min(self.file.len().saturating_sub(start));
        let len = usize::try_from(len).unwrap_or(0);
        let page: Arc<[u8]> = read_vec_at(&*self.file, start, len)?.into();
        self.lock().put(start, page.clone());
        Ok((page, within))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        // A cache is right or empty at every moment, whoever panicked beside it.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pages used last.
#[derive(Default)]
struct Cache {
    pages: HashMap<u64, (Arc<[u8]>, u64), RandomState>,
    bytes: usize,
    clock: u64,
}

impl Cache {
    fn get(&mut self, at: u64) -> Option<Arc<[u8]>> {
        self.clock = self.clock.saturating_add(1);
        let (page, used) = self.pages.get_mut(&at)?;
        *used = self.clock;
        Some(page.clone())
    }

    fn put(&mut self, at: u64, page: Arc<[u8]>) {
        self.bytes = self.bytes.saturating_add(page.len());
        if let Some((old, _)) = self.pages.insert(at, (page, self.clock)) {
            self.bytes = self.bytes.saturating_sub(old.len());
        }
        while self.bytes > CACHE_BYTES && self.pages.len() > 1 {
            let oldest = self
                .pages
                .iter()
                .filter(|(key, _)| **key != at)
                .min_by_key(|(_, (_, used))| *used)
                .map(|(key, _)| *key);
            let Some((old, _)) = oldest.and_then(|key| self.pages.remove(&key)) else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(old.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_block::Bytes;

    #[test]
    fn entries_are_found_in_any_page_and_none_beyond_the_end() {
        let bytes: Vec<u8> = (0..30_000_u32).flat_map(u32::to_le_bytes).collect();
        let pages = Pages::new(Arc::new(Bytes::new(bytes)));
        let odd = pages.entry::<4>(1, 0).unwrap();
        assert_eq!(odd, [0, 0, 0, 1]);
        for index in [0, 1, 8191, 8192, 29_000] {
            assert_eq!(
                u32::from_le_bytes(pages.entry(4, index).unwrap()),
                u32::try_from(index).unwrap() + 1
            );
        }
        assert!(pages.entry::<4>(4, 29_999).is_err());
        assert!(pages.entry::<8>(u64::MAX, 1).is_err());
        assert!(pages.entry::<8>(0, u64::MAX).is_err());
    }
}
