//! From guest offsets to where their bytes are: the L1 table, and L2 tables through a bounded cache.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Error, Result, Source, read_vec_at};

use super::header::{Header, L1};

/// Bits 9 to 55 of L1 and L2 entries: a host offset.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 62 of an L2 entry: the cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of an L2 entry, from version 3 on: the cluster reads as zeroes.
const ZERO: u64 = 1;
/// L2 tables are cached in slices of at most this many entries (64 KiB), so that a table of 2 MiB costs no more than
/// the part of it that is used.
const SLICE_ENTRIES: u64 = 8192;
/// Bytes of cached slices for one open point. With clusters of 64 KiB, a slice maps 512 MiB of the disk.
const CACHE_BYTES: usize = 1 << 20;

/// A byte offset in the image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct HostOffset(pub(super) u64);

/// A byte offset on the guest's disk (or, behind its end, in the saved state).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GuestOffset(pub(super) u64);

/// Where the bytes of a stretch of the disk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mapping {
    /// Nowhere, and they read as zeroes whatever the backing file has.
    Zero,
    /// Not in this file: the backing file has them, or they are zeroes.
    Backing,
    /// In the image file, from here on.
    Data(HostOffset),
    /// In the compressed cluster that lies here, within so many bytes.
    Compressed(HostOffset, u64),
}

/// A stretch of the disk that is mapped alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) mapping: Mapping,
    /// Bytes, more than zero.
    pub(super) len: u64,
}

/// The map of one point.
pub(super) struct Map {
    file: Arc<dyn Source>,
    version: u32,
    cluster_bits: u32,
    l2_bits: u32,
    l1: Vec<u64>,
    slices: Mutex<SliceCache>,
}

impl Map {
    /// Loads the L1 table; `header.check_l1` must have passed.
    pub(super) fn load(file: Arc<dyn Source>, header: &Header, l1: L1) -> Result<Self> {
        let table = entries(&*file, l1.offset, u64::from(l1.entries))
            .map_err(|error| error.at_offset(l1.offset))?;
        Ok(Self {
            version: header.version,
            cluster_bits: header.cluster_bits,
            l2_bits: header.l2_bits(),
            l1: table,
            slices: Mutex::new(SliceCache::default()),
            file,
        })
    }

    pub(super) fn cluster_size(&self) -> u64 {
        1_u64.checked_shl(self.cluster_bits).unwrap_or(u64::MAX)
    }

    /// Bytes that one L1 entry covers.
    fn table_covers(&self) -> u64 {
        let bits = self.cluster_bits.saturating_add(self.l2_bits);
        1_u64.checked_shl(bits).unwrap_or(u64::MAX)
    }

    /// How the disk is mapped from `offset` on: the longest stretch that is cheaply known, at most `limit` bytes.
    /// Compressed clusters come one at a time.
    pub(super) fn locate(&self, offset: GuestOffset, limit: u64) -> Result<Extent> {
        let covers = self.table_covers();
        let index = offset.0.checked_div(covers).unwrap_or(0);
        let within_table = offset.0.checked_rem(covers).unwrap_or(0);
        let l2 = self.l1_entry(index)?;
        if l2 == 0 {
            let mut len = covers.saturating_sub(within_table);
            let mut next = index;
            while len < limit {
                next = next.saturating_add(1);
                match usize::try_from(next)
                    .ok()
                    .and_then(|next| self.l1.get(next))
                {
                    Some(entry) if entry & OFFSET_MASK == 0 => len = len.saturating_add(covers),
                    _ => break,
                }
            }
            return Ok(Extent {
                mapping: Mapping::Backing,
                len: len.min(limit),
            });
        }
        let cluster_size = self.cluster_size();
        let within_cluster = offset.0 & cluster_size.saturating_sub(1);
        let cluster = within_table.checked_shr(self.cluster_bits).unwrap_or(0);
        let table_entries = 1_u64.checked_shl(self.l2_bits).unwrap_or(0);
        let slice_entries = table_entries.min(SLICE_ENTRIES);
        let slice_index = cluster.checked_div(slice_entries).unwrap_or(0);
        let in_slice = cluster.checked_rem(slice_entries).unwrap_or(0);
        let first_entry = slice_index.saturating_mul(slice_entries);
        let slice = self.slice(HostOffset(l2), first_entry, slice_entries, offset)?;
        let rest = usize::try_from(in_slice)
            .ok()
            .and_then(|from| slice.get(from..))
            .unwrap_or_default();
        self.extent(rest, within_cluster, limit)
            .map_err(|error| error.at_offset(offset.0))
    }

    /// The extent that begins `within` bytes into the cluster of the first of `entries`.
    fn extent(&self, entries: &[u64], within: u64, limit: u64) -> Result<Extent> {
        let cluster_size = self.cluster_size();
        let Some((&first, more)) = entries.split_first() else {
            return Err(Error::corrupt("the L2 table ends too early"));
        };
        let mapping = self.mapping(first)?;
        let mut len = cluster_size.saturating_sub(within);
        if matches!(mapping, Mapping::Compressed(..)) {
            return Ok(Extent {
                mapping,
                len: len.min(limit),
            });
        }
        for (entry, position) in more.iter().zip(1_u64..) {
            if len >= limit {
                break;
            }
            let wanted = match mapping {
                Mapping::Data(HostOffset(host)) => Mapping::Data(HostOffset(
                    host.saturating_add(cluster_size.saturating_mul(position)),
                )),
                other => other,
            };
            // An entry that is broken ends the stretch; it is reported when its own turn comes.
            if self.mapping(*entry).ok() != Some(wanted) {
                break;
            }
            len = len.saturating_add(cluster_size);
        }
        let mapping = match mapping {
            Mapping::Data(HostOffset(host)) => {
                Mapping::Data(HostOffset(host.saturating_add(within)))
            }
            other => other,
        };
        Ok(Extent {
            mapping,
            len: len.min(limit),
        })
    }

    /// What one L2 entry says.
    fn mapping(&self, entry: u64) -> Result<Mapping> {
        if entry & COMPRESSED != 0 {
            return Ok(self.compressed(entry));
        }
        let host = entry & OFFSET_MASK;
        if entry & ZERO != 0 {
            if self.version < 3 {
                return Err(Error::corrupt(
                    "a zero cluster in an image of version 2, which has none",
                ));
            }
            return Ok(Mapping::Zero);
        }
        if host == 0 {
            return Ok(Mapping::Backing);
        }
        if host & self.cluster_size().saturating_sub(1) != 0 {
            return Err(Error::corrupt(format!(
                "a data cluster at {host:#x} is not on the cluster grid"
            )));
        }
        Ok(Mapping::Data(HostOffset(host)))
    }

    /// "Compressed Clusters Descriptor": x = 62 - (cluster_bits - 8) bits of host offset, then the number of further
    /// sectors of 512 bytes after the one in which the data begin.
    fn compressed(&self, entry: u64) -> Mapping {
        let x = 62_u32.saturating_sub(self.cluster_bits.saturating_sub(8));
        let mask = 1_u64.checked_shl(x).unwrap_or(0).saturating_sub(1);
        let host = entry & mask;
        let sectors = (entry & (COMPRESSED.saturating_sub(1)))
            .checked_shr(x)
            .unwrap_or(0)
            .saturating_add(1);
        let len = sectors.saturating_mul(512).saturating_sub(host & 511);
        Mapping::Compressed(HostOffset(host), len)
    }

    /// The host offset of the L2 table that covers this part, 0 when there is none.
    fn l1_entry(&self, index: u64) -> Result<u64> {
        let entry = usize::try_from(index)
            .ok()
            .and_then(|index| self.l1.get(index))
            .ok_or_else(|| Error::corrupt(format!("the L1 table has no entry {index}")))?;
        let l2 = entry & OFFSET_MASK;
        if l2 & self.cluster_size().saturating_sub(1) != 0 {
            return Err(Error::corrupt(format!(
                "the L2 table at {l2:#x} is not on the cluster grid"
            )));
        }
        Ok(l2)
    }

    fn slice(
        &self,
        table: HostOffset,
        first: u64,
        count: u64,
        guest: GuestOffset,
    ) -> Result<Arc<[u64]>> {
        let at = table.0.saturating_add(first.saturating_mul(8));
        let cached = lock(&self.slices).get(at);
        if let Some(slice) = cached {
            return Ok(slice);
        }
        let end = at.saturating_add(count.saturating_mul(8));
        if end > self.file.len() {
            return Err(Error::corrupt(format!(
                "the L2 table for guest byte {} lies beyond the end of the file, which has {} bytes",
                guest.0,
                self.file.len()
            ))
            .at_offset(table.0));
        }
        let slice: Arc<[u64]> = entries(&*self.file, at, count)?.into();
        lock(&self.slices).put(at, slice.clone());
        Ok(slice)
    }
}

fn lock(slices: &Mutex<SliceCache>) -> std::sync::MutexGuard<'_, SliceCache> {
    // A cache is right or empty at every moment, whoever panicked beside it.
    slices.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads `count` big-endian entries; the caller has held the count against a limit.
fn entries(file: &dyn Source, offset: u64, count: u64) -> Result<Vec<u64>> {
    /// Entries converted at a time, so that a large table is not held twice.
    const STEP: u64 = 1 << 13;
    if count
        .checked_mul(8)
        .and_then(|len| offset.checked_add(len))
        .is_none_or(|end| end > file.len())
    {
        return Err(Error::corrupt("a table lies beyond the end of the file").at_offset(offset));
    }
    let mut out = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
    let mut done = 0;
    while done < count {
        let step = STEP.min(count.saturating_sub(done));
        let len = usize::try_from(step.saturating_mul(8)).unwrap_or(0);
        let at = offset.saturating_add(done.saturating_mul(8));
        let bytes = read_vec_at(file, at, len)?;
        out.extend(
            bytes
                .as_chunks::<8>()
                .0
                .iter()
                .map(|entry| u64::from_be_bytes(*entry)),
        );
        done = done.saturating_add(step);
    }
    Ok(out)
}

/// The slices used last, by host offset.
#[derive(Default)]
struct SliceCache {
    slices: HashMap<u64, (Arc<[u64]>, u64)>,
    bytes: usize,
    clock: u64,
}

impl SliceCache {
    fn get(&mut self, at: u64) -> Option<Arc<[u64]>> {
        self.clock = self.clock.saturating_add(1);
        let (slice, used) = self.slices.get_mut(&at)?;
        *used = self.clock;
        Some(slice.clone())
    }

    fn put(&mut self, at: u64, slice: Arc<[u64]>) {
        let size = |slice: &Arc<[u64]>| slice.len().saturating_mul(8);
        self.bytes = self.bytes.saturating_add(size(&slice));
        if let Some((old, _)) = self.slices.insert(at, (slice, self.clock)) {
            self.bytes = self.bytes.saturating_sub(size(&old));
        }
        while self.bytes > CACHE_BYTES && self.slices.len() > 1 {
            let oldest = self
                .slices
                .iter()
                .filter(|(key, _)| **key != at)
                .min_by_key(|(_, (_, used))| *used)
                .map(|(key, _)| *key);
            let Some((old, _)) = oldest.and_then(|key| self.slices.remove(&key)) else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(size(&old));
        }
    }
}
