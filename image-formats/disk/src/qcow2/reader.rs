//! One point of an image as a byte source.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Error, Result, Source};

use super::Store;
use super::decoder::Decoder;
use super::header::L1;
use super::map::{Extent, GuestOffset, HostOffset, Map, Mapping};

/// Bytes of decoded clusters that are kept; always room for one cluster.
const DECODED_BYTES: usize = 1 << 20;

/// Extents that one search for data passes: 32 TiB of empty L2 tables at 64 KiB a cluster. A table that maps itself
/// over and over could keep it busy for hours otherwise.
const MAX_STEPS: usize = 1 << 16;

/// The disk of a point, or the saved state behind it.
pub(super) struct Point {
    store: Arc<Store>,
    map: Map,
    /// Where the source begins in the map's space: 0 for a disk.
    start: u64,
    len: u64,
    backing: Option<Arc<dyn Source>>,
    decoded: Mutex<Decoded>,
}

/// Decoded clusters and what it takes to decode one.
struct Decoded {
    decoder: Decoder,
    packed: Vec<u8>,
    /// By the host offset of their compressed bytes, the one used last at the end.
    clusters: Vec<(HostOffset, Vec<u8>)>,
}

impl Point {
    /// The disk of `size` bytes that `l1` maps.
    pub(super) fn disk(store: Arc<Store>, l1: L1, size: u64) -> Result<Self> {
        let backing = store.backing.clone();
        Self::new(store, l1, size, 0, size, backing)
    }

    /// The `len` bytes of saved state behind the disk of `size` bytes that `l1` maps: QEMU keeps them from the first
    /// L1 entry on that the disk does not need (`qcow2_vm_state_offset`).
    pub(super) fn memory(store: Arc<Store>, l1: L1, size: u64, len: u64) -> Result<Self> {
        let header = &store.header;
        let shift = header.cluster_bits.saturating_add(header.l2_bits());
        let start = header
            .l1_entries_for(size)
            .checked_mul(1_u64.checked_shl(shift).unwrap_or(u64::MAX))
            .ok_or_else(|| Error::corrupt("the saved state lies beyond every limit"))?;
        let end = start
            .checked_add(len)
            .ok_or_else(|| Error::corrupt("the saved state is larger than every limit"))?;
        Self::new(store, l1, end, start, len, None)
    }

    fn new(
        store: Arc<Store>,
        l1: L1,
        mapped: u64,
        start: u64,
        len: u64,
        backing: Option<Arc<dyn Source>>,
    ) -> Result<Self> {
        store
            .header
            .check_l1(&*store.file, l1, mapped, "the restore point")?;
        Ok(Self {
            map: Map::load(store.file.clone(), &store.header, l1)?,
            decoded: Mutex::new(Decoded {
                decoder: Decoder::new(store.header.compression),
                packed: Vec::new(),
                clusters: Vec::new(),
            }),
            store,
            start,
            len,
            backing,
        })
    }

    /// Reads data clusters straight into `buf`.
    fn read_data(&self, host: HostOffset, guest: u64, buf: &mut [u8]) -> Result<()> {
        let len = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        let file = &self.store.file;
        if host.0.checked_add(len).is_none_or(|end| end > file.len()) {
            return Err(Error::corrupt(format!(
                "the data of guest byte {guest} lie beyond the end of the file, which has {} bytes",
                file.len()
            ))
            .at_offset(host.0));
        }
        file.read_exact_at(host.0, buf)
    }

    /// Reads from the backing file: zeroes where it has ended.
    fn read_backing(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let Some(backing) = &self.backing else {
            buf.fill(0);
            return Ok(());
        };
        let there = backing.len().saturating_sub(offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(buf.len());
        let (data, beyond) = buf.split_at_mut(there);
        beyond.fill(0);
        if data.is_empty() {
            return Ok(());
        }
        backing.read_exact_at(offset, data)
    }

    /// Reads `buf` from `within` bytes into a compressed cluster on.
    fn read_compressed(
        &self,
        host: HostOffset,
        packed_len: u64,
        within: u64,
        buf: &mut [u8],
    ) -> Result<()> {
        let cluster_size = usize::try_from(self.map.cluster_size())
            .map_err(|_| Error::limit("the cluster is too large"))?;
        let within = usize::try_from(within).unwrap_or(usize::MAX);
        let mut state = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
        let Decoded {
            decoder,
            packed,
            clusters,
        } = &mut *state;
        if let Some(position) = clusters.iter().position(|(at, _)| *at == host) {
            if let Some(range) = clusters.get_mut(position..) {
                range.rotate_left(1);
            }
        } else {
            let file = &self.store.file;
            // The last compressed cluster's last sector may be cut short by the end of the file.
            let len = packed_len.min(file.len().saturating_sub(host.0));
            let len = usize::try_from(len).map_err(|_| Error::limit("the cluster is too large"))?;
            if len == 0 {
                return Err(Error::corrupt(format!(
                    "a compressed cluster lies beyond the end of the file, which has {} bytes",
                    file.len()
                ))
                .at_offset(host.0));
            }
            packed.resize(len, 0);
            file.read_exact_at(host.0, packed)?;
            let failed = |error: Error| error.at_offset(host.0);
            if buf.len() == cluster_size {
                return decoder.decode(packed, buf).map_err(failed);
            }
            let room = DECODED_BYTES.checked_div(cluster_size).unwrap_or(0).max(1);
            let mut cluster = if clusters.len() >= room {
                clusters.remove(0).1
            } else {
                vec![0; cluster_size]
            };
            decoder.decode(packed, &mut cluster).map_err(failed)?;
            clusters.push((host, cluster));
        }
        let part = clusters
            .last()
            .and_then(|(_, cluster)| cluster.get(within..within.checked_add(buf.len())?))
            .ok_or_else(|| Error::corrupt("a compressed cluster is too small"))?;
        buf.copy_from_slice(part);
        Ok(())
    }

    /// Where the first byte at or after `offset` that the file or its backing may hold lies, within `extent`.
    /// `below` is the backing file's data found last, so that many small holes in front of it ask for it once.
    fn data_within(
        &self,
        offset: u64,
        extent: Extent,
        below: &mut Option<Range<u64>>,
    ) -> Result<Option<Range<u64>>> {
        let end = offset.saturating_add(extent.len);
        match extent.mapping {
            Mapping::Zero => Ok(None),
            Mapping::Compressed(..) => Ok(Some(offset..end)),
            Mapping::Data(HostOffset(host)) => {
                // A cluster may be allocated and yet a hole of the host's file, as preallocation leaves them.
                let Some(found) = self.store.file.next_data(host)? else {
                    // Beyond the end of the file is not zeroes: reading it says what is wrong.
                    let broken = host.saturating_add(extent.len) > self.store.file.len();
                    return Ok(broken.then_some(offset..end));
                };
                let from = found.start.saturating_sub(host);
                let to = found.end.saturating_sub(host).min(extent.len);
                if from >= extent.len {
                    return Ok(None);
                }
                let beyond = host.saturating_add(extent.len) > self.store.file.len();
                let to = if beyond { extent.len } else { to };
                Ok(Some(offset.saturating_add(from)..offset.saturating_add(to)))
            }
            Mapping::Backing => {
                let Some(backing) = &self.backing else {
                    return Ok(None);
                };
                // What was found last still holds as long as it lies ahead.
                if below.as_ref().is_none_or(|range| range.end <= offset) {
                    let nothing = self.len..u64::MAX;
                    *below = Some(backing.next_data(offset)?.unwrap_or(nothing));
                }
                let found = below.as_ref().filter(|range| range.start < end);
                Ok(found.map(|range| range.start.max(offset)..range.end.min(end)))
            }
        }
    }
}

impl Point {
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let wanted = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        if offset.checked_add(wanted).is_none_or(|end| end > self.len) {
            return Err(Error::corrupt(format!(
                "{wanted} bytes are wanted of a disk of {}",
                self.len
            ))
            .at_offset(offset));
        }
        let mut guest = self.start.saturating_add(offset);
        let mut buf = buf;
        while !buf.is_empty() {
            let left = u64::try_from(buf.len()).unwrap_or(u64::MAX);
            let extent = self.map.locate(GuestOffset(guest), left)?;
            let len = usize::try_from(extent.len)
                .unwrap_or(usize::MAX)
                .clamp(1, buf.len());
            let (part, rest) = std::mem::take(&mut buf).split_at_mut(len);
            match extent.mapping {
                Mapping::Zero => part.fill(0),
                Mapping::Backing => self.read_backing(guest, part)?,
                Mapping::Data(host) => self.read_data(host, guest, part)?,
                Mapping::Compressed(host, packed) => {
                    let within = guest & self.map.cluster_size().saturating_sub(1);
                    self.read_compressed(host, packed, within, part)?;
                }
            }
            guest = guest.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
            buf = rest;
        }
        Ok(())
    }

    fn search(&self, offset: u64) -> Result<Option<Range<u64>>> {
        let mut at = offset;
        let mut below = None;
        for _ in 0..MAX_STEPS {
            if at >= self.len {
                return Ok(None);
            }
            let guest = GuestOffset(self.start.saturating_add(at));
            let extent = self.map.locate(guest, self.len.saturating_sub(at))?;
            if let Some(found) = self.data_within(at, extent, &mut below)? {
                return Ok(Some(found));
            }
            at = at.saturating_add(extent.len.max(1));
        }
        // The whole rest is always a right answer.
        Ok((at < self.len).then_some(at..self.len))
    }
}

impl Source for Point {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.read(offset, buf)
            .map_err(|error| error.in_file(&self.store.path))
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        self.search(offset)
            .map_err(|error| error.in_file(&self.store.path))
    }
}
