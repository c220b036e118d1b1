//! The volume's bytes as they are after the log: from the log's copies where there are any.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Error, Result, Source};

use super::{index, overflow, wide};
use crate::recent::Recent;

/// Bytes of metadata that are kept in memory.
const CACHE_BYTES: usize = 4 << 20;
/// Bytes that a log may change; the active part of most logs is far smaller.
const MAX_CHANGED: usize = 256 << 20;
/// The unit of the log: a basic block.
const SECTOR: usize = 512;

/// A piece of metadata by the byte where it begins and the inode that owns it, 0 for what belongs to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) owner: u64,
    pub(super) len: usize,
}

/// Sectors that the log changes, by their number.
#[derive(Default)]
pub(super) struct Changes(BTreeMap<u64, Box<[u8; SECTOR]>>);

impl Changes {
    /// Whether any of `len` bytes at `offset` are changed.
    pub(super) fn touch(&self, offset: u64, len: usize) -> bool {
        let first = offset >> 9;
        let end = offset.saturating_add(wide(len)).div_ceil(512);
        !self.0.is_empty() && first < end && self.0.range(first..end).next().is_some()
    }

    /// Fills `buf` with what `source` holds at `offset` and lays the changes over it.
    pub(super) fn read(&self, source: &dyn Source, offset: u64, buf: &mut [u8]) -> Result<()> {
        source.read_exact_at(offset, buf)?;
        let end = offset.saturating_add(wide(buf.len()));
        if self.0.is_empty() || buf.is_empty() {
            return Ok(());
        }
        for (number, bytes) in self.0.range(offset >> 9..end.div_ceil(512)) {
            let at = number << 9;
            let from = index(offset.saturating_sub(at));
            let to = index(at.saturating_sub(offset));
            let Some(bytes) = bytes.get(from..) else {
                continue;
            };
            for (to, from) in buf.iter_mut().skip(to).zip(bytes) {
                *to = *from;
            }
        }
        Ok(())
    }

    /// Changes `bytes` at `offset`.
    ///
    /// # Errors
    /// `Corrupt` for what lies outside `source`, `Limit` for more than 256 MiB.
    pub(super) fn write(&mut self, source: &dyn Source, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = offset
            .checked_add(wide(bytes.len()))
            .filter(|end| *end <= source.len())
            .ok_or_else(|| Error::corrupt("the log changes what lies outside the volume"))?;
        let mut rest = bytes;
        for number in offset >> 9..end.div_ceil(512) {
            let at = number << 9;
            let within = index(offset.saturating_sub(at));
            let (now, after) = rest
                .split_at_checked(SECTOR.saturating_sub(within).min(rest.len()))
                .ok_or_else(overflow)?;
            if self.0.len().saturating_mul(SECTOR) >= MAX_CHANGED {
                return Err(Error::limit("a log that changes more than 256 MiB"));
            }
            let sector = match self.0.entry(number) {
                std::collections::btree_map::Entry::Occupied(old) => old.into_mut(),
                std::collections::btree_map::Entry::Vacant(new) => {
                    let mut buf = Box::new([0; SECTOR]);
                    source.read_exact_at(at, &mut buf[..])?;
                    new.insert(buf)
                }
            };
            for (to, from) in sector.iter_mut().skip(within).zip(now) {
                *to = *from;
            }
            rest = after;
        }
        Ok(())
    }
}

/// The volume under the filesystem.
pub(super) struct Volume {
    source: Arc<dyn Source>,
    changes: Changes,
    cache: Mutex<Recent<Place, Arc<[u8]>>>,
}

impl Volume {
    pub(super) fn new(source: Arc<dyn Source>, changes: Changes) -> Self {
        Self {
            source,
            changes,
            cache: Mutex::new(Recent::new(CACHE_BYTES)),
        }
    }

    /// Whether the log changed any of `len` bytes at `offset`. The checksums of those are made when they are written,
    /// and so are not right yet.
    pub(super) fn changed(&self, offset: u64, len: usize) -> bool {
        self.changes.touch(offset, len)
    }

    /// Fills `buf` with the bytes at `offset`; nothing is kept in memory.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.changes.read(self.source.as_ref(), offset, buf)
    }

    /// The metadata at `place`, kept in memory for a while. `load` fills and checks it when it is not there yet.
    ///
    /// # Errors
    /// Those of `load`.
    pub(super) fn metadata(
        &self,
        place: Place,
        load: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<Arc<[u8]>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = cache.get(&place, |bytes| bytes.len()) {
            return Ok(bytes);
        }
        drop(cache);
        let mut buf = vec![0; place.len];
        load(&mut buf).map_err(|error| error.at_offset(place.offset))?;
        let bytes: Arc<[u8]> = buf.into();
        cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.put(place, bytes.clone(), bytes.len());
        Ok(bytes)
    }
}
