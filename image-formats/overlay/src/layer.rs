//! The clusters of the image that is written, and where each guest cluster is.
//!
//! New clusters are appended in the order in which they are written. L2 tables stay in memory and are written once, at
//! the end.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;

use dormouse_block::{Error, Result, Source};

use crate::appender::{Appender, length};
use crate::layout::{
    self, Backing, CLUSTER, CLUSTER_LEN, COMPRESSED, COPIED, MAX_L1, OFFSET_MASK, SECTORS_SHIFT,
    TABLE_COVERS, TABLE_ENTRIES, ZERO,
};

use crate::output::{Method, Pack, Spread, is_zero};
use crate::overlay::Packing;

/// Bytes of the base that are read at a time when it is copied.
const STEP: u64 = 1 << 20;
/// Clusters that are compressed at a time: enough for several threads.
const BATCH: usize = 256;

/// The layer's file and its map.
pub(crate) struct Layer {
    host: Appender,
    size: u64,
    /// L2 tables by their index in the L1 table.
    tables: BTreeMap<u64, Box<[u64]>>,
    /// Room for one cluster.
    scratch: Vec<u8>,
    /// Reference counts of the clusters that hold compressed ones; every other cluster has one reference.
    shared: BTreeMap<u64, u16>,
    /// Where the next compressed cluster may begin.
    packed_at: Option<u64>,
    zstd: bool,
    data_clusters: u64,
}

impl Layer {
    pub(crate) fn new(file: File, path: PathBuf, size: u64) -> Result<Self> {
        if size.div_ceil(TABLE_COVERS) > MAX_L1 {
            return Err(Error::limit(format!(
                "a disk of {size} bytes is larger than qcow2 can map"
            )));
        }
        Ok(Self {
            host: Appender::new(file, path),
            size,
            tables: BTreeMap::new(),
            scratch: Vec::new(),
            shared: BTreeMap::new(),
            packed_at: None,
            zstd: false,
            data_clusters: 0,
        })
    }

    pub(crate) fn data_bytes(&self) -> u64 {
        self.data_clusters.saturating_mul(CLUSTER)
    }

    /// The entry of the guest cluster `number`.
    fn entry(&self, number: u64) -> u64 {
        self.tables
            .get(&(number / TABLE_ENTRIES))
            .and_then(|table| table.get(usize::try_from(number % TABLE_ENTRIES).ok()?))
            .copied()
            .unwrap_or(0)
    }

    fn set_entry(&mut self, number: u64, entry: u64) {
        let table = self
            .tables
            .entry(number / TABLE_ENTRIES)
            .or_insert_with(|| vec![0; CLUSTER_LEN / 8].into_boxed_slice());
        let slot = usize::try_from(number % TABLE_ENTRIES)
            .ok()
            .and_then(|index| table.get_mut(index));
        if let Some(slot) = slot {
            *slot = entry;
        }
    }

    /// Writes `bytes` at the guest's `offset`; the range lies within the disk.
    pub(crate) fn write(&mut self, base: &dyn Source, offset: u64, bytes: &[u8]) -> Result<()> {
        let (mut offset, mut bytes) = (offset, bytes);
        while !bytes.is_empty() {
            let number = offset / CLUSTER;
            let within = offset % CLUSTER;
            let fresh = if within == 0 {
                self.fresh(number, bytes)
            } else {
                &[]
            };
            if fresh.len() > CLUSTER_LEN {
                self.place(number, fresh)?;
                offset = offset.saturating_add(length(fresh.len()));
                bytes = bytes.get(fresh.len()..).unwrap_or_default();
                continue;
            }
            let room = usize::try_from(CLUSTER.saturating_sub(within)).unwrap_or(CLUSTER_LEN);
            let (part, rest) = bytes.split_at(room.min(bytes.len()));
            self.write_cluster(base, number, within, part)?;
            offset = offset.saturating_add(length(part.len()));
            bytes = rest;
        }
        Ok(())
    }

    fn write_cluster(
        &mut self,
        base: &dyn Source,
        number: u64,
        within: u64,
        part: &[u8],
    ) -> Result<()> {
        let entry = self.entry(number);
        let host = entry & OFFSET_MASK;
        if host != 0 {
            return self.host.overwrite(host.saturating_add(within), part);
        }
        let start = number.saturating_mul(CLUSTER);
        // The last cluster of a disk may be cut by its end; what is beyond is nobody's.
        let whole = part.len() == CLUSTER_LEN
            || (within == 0 && start.saturating_add(length(part.len())) == self.size);
        if whole && !is_zero(part) {
            return self.place(number, part);
        }
        // What is there now: read rather than asked for, since a map of holes costs more than a cluster.
        let mut cluster = std::mem::take(&mut self.scratch);
        cluster.resize(CLUSTER_LEN, 0);
        let outcome = if entry == ZERO {
            cluster.fill(0);
            Ok(())
        } else {
            read_base(base, start, &mut cluster)
        };
        let outcome = outcome.and_then(|()| {
            let there = usize::try_from(within)
                .ok()
                .and_then(|at| cluster.get_mut(at..at.checked_add(part.len())?))
                .ok_or_else(|| Error::corrupt("a write goes beyond its cluster"))?;
            if there == part {
                return Ok(());
            }
            if whole {
                self.set_entry(number, ZERO);
                return Ok(());
            }
            there.copy_from_slice(part);
            self.place(number, &cluster)
        });
        self.scratch = cluster;
        outcome
    }

    /// As many of `bytes` as fill whole clusters from `number` on that this layer does not have yet, and are not zeroes.
    fn fresh<'b>(&self, number: u64, bytes: &'b [u8]) -> &'b [u8] {
        let fresh = bytes
            .chunks_exact(CLUSTER_LEN)
            .zip(number..)
            .take_while(|(cluster, number)| {
                self.entry(*number) & OFFSET_MASK == 0 && !is_zero(cluster)
            })
            .count();
        bytes
            .get(..fresh.saturating_mul(CLUSTER_LEN))
            .unwrap_or_default()
    }

    /// Gives the guest clusters from `number` on new host clusters with these bytes.
    fn place(&mut self, number: u64, bytes: &[u8]) -> Result<()> {
        let host = self.host.append(bytes)?;
        let clusters = length(bytes.len().div_ceil(CLUSTER_LEN));
        self.data_clusters = self.data_clusters.saturating_add(clusters);
        for nth in 0..clusters {
            let host = host.saturating_add(nth.saturating_mul(CLUSTER));
            self.set_entry(number.saturating_add(nth), host | COPIED);
        }
        Ok(())
    }

    /// Reads from the guest's `offset` on; the range lies within the disk.
    pub(crate) fn read(&self, base: &dyn Source, offset: u64, buf: &mut [u8]) -> Result<()> {
        let (mut offset, mut buf) = (offset, buf);
        while !buf.is_empty() {
            let number = offset / CLUSTER;
            let within = offset % CLUSTER;
            let entry = self.entry(number);
            let host = entry & OFFSET_MASK;
            // As many clusters as continue this one.
            let mut clusters = 1_u64;
            let mut len = CLUSTER.saturating_sub(within);
            while len < length(buf.len()) {
                let next = self.entry(number.saturating_add(clusters));
                let continued = if host == 0 {
                    next == entry
                } else {
                    next & OFFSET_MASK == host.saturating_add(clusters.saturating_mul(CLUSTER))
                        // What waits in memory is not read in one piece with what is in the file.
                        && next & OFFSET_MASK != self.host.waiting_from()
                };
                if !continued {
                    break;
                }
                clusters = clusters.saturating_add(1);
                len = len.saturating_add(CLUSTER);
            }
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(buf.len());
            let (part, rest) = std::mem::take(&mut buf).split_at_mut(len);
            match (host, entry) {
                (0, ZERO) => part.fill(0),
                (0, _) => read_base(base, offset, part)?,
                _ => self.host.fetch(host.saturating_add(within), part)?,
            }
            offset = offset.saturating_add(length(len));
            buf = rest;
        }
        Ok(())
    }

    /// The next range that may hold data, in the layer or below it.
    pub(crate) fn next_data(&self, base: &dyn Source, offset: u64) -> Result<Option<Range<u64>>> {
        let mut at = offset;
        let mut below: Option<Range<u64>> = None;
        while at < self.size {
            let number = at / CLUSTER;
            let table = self.tables.get(&(number / TABLE_ENTRIES));
            let entry = self.entry(number);
            let end = if table.is_none() {
                (number / TABLE_ENTRIES)
                    .saturating_add(1)
                    .saturating_mul(TABLE_COVERS)
            } else {
                number.saturating_add(1).saturating_mul(CLUSTER)
            }
            .min(self.size);
            if entry & OFFSET_MASK != 0 {
                return Ok(Some(at..end));
            }
            if entry != ZERO {
                if below.as_ref().is_none_or(|range| range.end <= at) {
                    let Some(found) = base.next_data(at)? else {
                        below = Some(self.size..u64::MAX);
                        at = end;
                        continue;
                    };
                    below = Some(found);
                }
                if let Some(range) = below.as_ref().filter(|range| range.start < end) {
                    return Ok(Some(range.start.max(at)..range.end.min(end)));
                }
            }
            at = end;
        }
        Ok(None)
    }

    /// Copies every cluster of the base that is not yet in the layer and holds anything; `spread` compresses.
    pub(crate) fn absorb(
        &mut self,
        base: &dyn Source,
        packing: Packing,
        spread: &Spread<'_>,
    ) -> Result<()> {
        let method = match packing {
            Packing::Plain => None,
            Packing::Deflate => Some(Method::Deflate),
            Packing::Zstd => Some(Method::Zstd),
        };
        self.zstd = packing == Packing::Zstd;
        let mut batch = Vec::new();
        let mut buf = vec![0; usize::try_from(STEP).unwrap_or(CLUSTER_LEN)];
        let mut at = 0;
        while let Some(range) = base.next_data(at)? {
            let mut from = range.start.saturating_sub(range.start % CLUSTER).max(at);
            let end = range.end.min(self.size);
            while from < end {
                let len = STEP.min(self.size.saturating_sub(from));
                let len = usize::try_from(len).unwrap_or(CLUSTER_LEN).min(buf.len());
                let part = buf.get_mut(..len).unwrap_or_default();
                read_base(base, from, part)?;
                for (cluster, number) in part.chunks(CLUSTER_LEN).zip(from / CLUSTER..) {
                    if self.entry(number) != 0 || is_zero(cluster) {
                        continue;
                    }
                    let Some(method) = method else {
                        self.place(number, cluster)?;
                        continue;
                    };
                    // A compressed cluster always unpacks to a whole one.
                    let mut cluster = cluster.to_vec();
                    cluster.resize(CLUSTER_LEN, 0);
                    batch.push(Pack::new(method, number, cluster));
                }
                if batch.len() >= BATCH {
                    self.copy_in(&mut batch, spread)?;
                }
                from = from.saturating_add(STEP);
            }
            at = from;
        }
        self.copy_in(&mut batch, spread)
    }

    fn copy_in(&mut self, batch: &mut Vec<Pack>, spread: &Spread<'_>) -> Result<()> {
        spread(batch);
        for pack in batch.drain(..) {
            let packed = pack.packed()?;
            if packed.len() >= CLUSTER_LEN {
                self.place(pack.at, &pack.bytes)?;
            } else {
                self.pack(pack.at, packed)?;
            }
        }
        Ok(())
    }

    /// Stores a compressed cluster behind the one before, where it fits or its rest can follow in a new host cluster.
    fn pack(&mut self, number: u64, packed: &[u8]) -> Result<()> {
        let len = length(packed.len());
        let end_of_file = self.host.end();
        let room = |at: u64| at.next_multiple_of(CLUSTER).saturating_sub(at);
        let at = match self.packed_at {
            Some(at) if room(at) >= len => at,
            Some(at) if at.next_multiple_of(CLUSTER) == end_of_file => {
                self.host.append(&[0; CLUSTER_LEN])?;
                at
            }
            _ => self.host.append(&[0; CLUSTER_LEN])?,
        };
        // It may lie across the border of what has been brought to the file.
        let split = self.host.waiting_from().saturating_sub(at);
        let split = usize::try_from(split)
            .unwrap_or(usize::MAX)
            .min(packed.len());
        let (first, second) = packed.split_at(split);
        if !first.is_empty() {
            self.host.overwrite(at, first)?;
        }
        if !second.is_empty() {
            self.host
                .overwrite(at.saturating_add(length(split)), second)?;
        }
        let last = at.saturating_add(len).saturating_sub(1);
        let sectors = (last >> 9).saturating_sub(at >> 9);
        for host in at / CLUSTER..=last / CLUSTER {
            let count = self.shared.entry(host).or_default();
            *count = count
                .checked_add(1)
                .ok_or_else(|| Error::limit("too many compressed clusters share a cluster"))?;
        }
        self.packed_at = Some(at.saturating_add(len)).filter(|next| next % CLUSTER != 0);
        self.data_clusters = self.data_clusters.saturating_add(1);
        self.set_entry(number, COMPRESSED | sectors << SECTORS_SHIFT | at);
        Ok(())
    }

    /// Appends tables and reference counts, writes the header and brings everything to the disk. Gives the file's
    /// length.
    pub(crate) fn complete(&mut self, backing: Option<&Backing>) -> Result<u64> {
        let l1_entries = self.size.div_ceil(TABLE_COVERS).max(1);
        let mut l1 = vec![0_u64; usize::try_from(l1_entries).unwrap_or(1)];
        for (index, table) in std::mem::take(&mut self.tables) {
            // Without a backing file, no entry reads as zeroes already.
            let plain = |entry: u64| {
                if backing.is_none() && entry == ZERO {
                    0
                } else {
                    entry
                }
            };
            let entries: Vec<u64> = table.iter().map(|entry| plain(*entry)).collect();
            if entries.iter().all(|entry| *entry == 0) {
                continue;
            }
            let host = self.host.append(&big_endian(&entries))?;
            if let Some(slot) = usize::try_from(index).ok().and_then(|at| l1.get_mut(at)) {
                *slot = host | COPIED;
            }
        }
        let l1_offset = self.host.append(&big_endian(&l1))?;
        let used = self.host.end() / CLUSTER;
        let (blocks, table) = layout::refcount_clusters(used);
        let total = used.saturating_add(blocks).saturating_add(table);
        let mut table_entries = Vec::new();
        for block in 0..blocks {
            let first = block.saturating_mul(CLUSTER / 2);
            let last = first.saturating_add(CLUSTER / 2).min(total);
            let counts: Vec<u8> = (first..last)
                .flat_map(|host| self.shared.get(&host).copied().unwrap_or(1).to_be_bytes())
                .collect();
            table_entries.push(self.host.append(&counts)?);
        }
        let mut table_bytes = big_endian(&table_entries);
        let table_len = usize::try_from(table.saturating_mul(CLUSTER))
            .map_err(|_| Error::limit("the image has too many clusters"))?;
        table_bytes.resize(table_len, 0);
        let refcount_table = self.host.append(&table_bytes)?;
        let header = layout::Header {
            size: self.size,
            l1_entries: u32::try_from(l1_entries)
                .map_err(|_| Error::limit("the disk is too large"))?,
            l1_offset,
            refcount_table,
            refcount_clusters: u32::try_from(table)
                .map_err(|_| Error::limit("the image has too many clusters"))?,
            zstd: self.zstd,
            backing,
        };
        self.host.finish(&header.bytes()?)?;
        Ok(self.host.end())
    }
}

fn big_endian(entries: &[u64]) -> Vec<u8> {
    entries
        .iter()
        .flat_map(|entry| entry.to_be_bytes())
        .collect()
}

/// Reads the base, which ends somewhere: zeroes follow.
fn read_base(base: &dyn Source, offset: u64, buf: &mut [u8]) -> Result<()> {
    let there = usize::try_from(base.len().saturating_sub(offset)).unwrap_or(usize::MAX);
    let (data, beyond) = buf.split_at_mut(there.min(buf.len()));
    beyond.fill(0);
    if data.is_empty() {
        return Ok(());
    }
    base.read_exact_at(offset, data)
}
