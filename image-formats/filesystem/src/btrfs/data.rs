//! Bytes of files: extents read, held against their checksums, and decompressed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Error, Result};

use super::btree::Trees;
use super::compression::Compression;
use super::extent::{Extent, INLINE_AT, Kind};
use super::inode::Inode;
use super::key::{self, Key};
use super::subvolume::Subvolume;
use super::{index, overflow, wide};

/// Bytes read and checked in one step.
const STEP: u64 = 128 << 10;
/// Decompressed extents kept, of at most 128 KiB each.
const KEPT: usize = 8;

/// A decompressed extent: its address, its decompressed size, its bytes.
type Unpacked = (u64, u64, Arc<[u8]>);

/// What reads data: the tree of checksums, and the extents decompressed last.
pub(super) struct Data {
    sums: Option<Subvolume>,
    unpacked: Mutex<VecDeque<Unpacked>>,
}

impl Data {
    /// `sums` is the tree of checksums as it is after the log; `None` when there is none.
    pub(super) fn new(sums: Option<Subvolume>) -> Self {
        Self {
            sums,
            unpacked: Mutex::default(),
        }
    }

    /// Reads a file's or a link's bytes from `offset` on; fewer than asked only at its end.
    pub(super) fn read(
        &self,
        trees: &Trees,
        subvolume: &Subvolume,
        inode: &Inode,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<usize> {
        let len = wide(buf.len()).min(inode.size.saturating_sub(offset));
        let buf = buf.get_mut(..index(len)).unwrap_or_default();
        let mut done = 0_usize;
        while done < buf.len() {
            let at = offset.checked_add(wide(done)).ok_or_else(overflow)?;
            let rest = buf.get_mut(done..).unwrap_or_default();
            let n = self.read_part(trees, subvolume, inode, at, rest)?;
            if n == 0 {
                return Err(overflow());
            }
            done = done.saturating_add(n);
        }
        Ok(done)
    }

    /// Reads from the extent or hole that `at` lies in; at least one byte.
    fn read_part(
        &self,
        trees: &Trees,
        subvolume: &Subvolume,
        inode: &Inode,
        at: u64,
        buf: &mut [u8],
    ) -> Result<usize> {
        let here = Key::new(inode.number, key::EXTENT_DATA, at);
        if let Some((found, item)) = subvolume.prev(trees, here)?
            && found.alike(here)
        {
            let bytes = item.bytes()?;
            let extent = Extent::parse(bytes, trees.sb.sector)?;
            let within = at.saturating_sub(found.offset);
            if let Some(left) = extent.len.checked_sub(within).filter(|left| *left > 0) {
                let n = buf.len().min(index(left.min(STEP)));
                let part = buf.get_mut(..n).unwrap_or_default();
                if extent.kind == Kind::Inline {
                    if found.offset != 0 {
                        return Err(Error::corrupt("inline data within a file"));
                    }
                    let packed = bytes.get(INLINE_AT..).unwrap_or_default();
                    let all =
                        extent
                            .compression
                            .unpack(packed, extent.unpacked, trees.sb.sector)?;
                    copy(&all, within, part)?;
                } else if extent.is_hole() {
                    part.fill(0);
                } else {
                    self.read_extent(trees, &extent, within, inode.is_summed(), part)?;
                }
                return Ok(n);
            }
        }
        // A hole up to the next extent, whether the filesystem writes its holes down or not.
        let next = subvolume
            .next(trees, here)?
            .filter(|(found, _)| found.alike(here))
            .map_or(u64::MAX, |(found, _)| found.offset);
        let n = buf.len().min(index(next.saturating_sub(at)));
        buf.get_mut(..n).unwrap_or_default().fill(0);
        Ok(n)
    }

    /// Fills `buf` from byte `within` of the file's part of `extent`.
    fn read_extent(
        &self,
        trees: &Trees,
        extent: &Extent,
        within: u64,
        summed: bool,
        buf: &mut [u8],
    ) -> Result<()> {
        let start = extent.offset.checked_add(within).ok_or_else(overflow)?;
        if extent.compression != Compression::None {
            let all = self.unpack(trees, extent, summed)?;
            return copy(&all, start, buf);
        }
        let sector = u64::from(trees.sb.sector);
        let first = start.saturating_sub(start.checked_rem(sector).unwrap_or(0));
        let end = start
            .saturating_add(wide(buf.len()))
            .checked_next_multiple_of(sector)
            .ok_or_else(overflow)?;
        let logical = extent.logical.checked_add(first).ok_or_else(overflow)?;
        let bytes = self.read_sectors(trees, logical, end.saturating_sub(first), summed)?;
        copy(&bytes, start.saturating_sub(first), buf)
    }

    fn unpack(&self, trees: &Trees, extent: &Extent, summed: bool) -> Result<Arc<[u8]>> {
        let known = |unpacked: &VecDeque<Unpacked>| {
            unpacked
                .iter()
                .find(|(logical, len, _)| *logical == extent.logical && *len == extent.unpacked)
                .map(|(_, _, bytes)| bytes.clone())
        };
        let lock = || self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = known(&lock()) {
            return Ok(bytes);
        }
        let packed = self.read_sectors(trees, extent.logical, extent.stored, summed)?;
        let bytes = extent
            .compression
            .unpack(&packed, extent.unpacked, trees.sb.sector)
            .map_err(|error| error.at_offset(extent.logical))?;
        let bytes: Arc<[u8]> = bytes.into();
        let mut unpacked = lock();
        unpacked.push_front((extent.logical, extent.unpacked, bytes.clone()));
        unpacked.truncate(KEPT);
        Ok(bytes)
    }

    /// Whole sectors at `logical`, held against their checksums; `len` is at most a step and two sectors.
    fn read_sectors(&self, trees: &Trees, logical: u64, len: u64, summed: bool) -> Result<Vec<u8>> {
        let sums = if summed {
            self.sums_of(trees, logical, len)?
        } else {
            Vec::new()
        };
        let checksum = trees.sb.checksum;
        let sector = index(trees.sb.sector);
        let mut bytes = vec![0; index(len)];
        let whole = |bytes: &[u8]| {
            let sectors = bytes.chunks(sector).zip(sums.chunks(checksum.size()));
            let broken = sectors
                .zip(0_u64..)
                .find(|((sector, sum), _)| !checksum.holds(sum, sector));
            match broken {
                Some((_, nth)) => Err(Error::corrupt(format!(
                    "bad checksum of data at the logical address {}",
                    logical.saturating_add(nth.saturating_mul(wide(sector)))
                ))),
                None => Ok(()),
            }
        };
        if trees.pool.read(logical, &mut bytes, whole).is_ok() {
            return Ok(bytes);
        }
        // Different sectors may be broken in different copies.
        for (nth, part) in (0_u64..).zip(bytes.chunks_mut(sector)) {
            let at = logical
                .checked_add(nth.saturating_mul(wide(sector)))
                .ok_or_else(overflow)?;
            let from = index(nth).saturating_mul(checksum.size());
            let sum = sums.get(from..from.saturating_add(checksum.size()));
            trees.pool.read(at, part, |part| {
                if sum.is_none_or(|sum| checksum.holds(sum, part)) {
                    return Ok(());
                }
                Err(Error::corrupt(format!(
                    "bad checksum of data at the logical address {at}"
                )))
            })?;
        }
        Ok(bytes)
    }

    /// The checksums of the sectors at `logical`.
    fn sums_of(&self, trees: &Trees, logical: u64, len: u64) -> Result<Vec<u8>> {
        let size = trees.sb.checksum.size();
        let sector = u64::from(trees.sb.sector);
        let missing =
            |at: u64| Error::corrupt(format!("no checksum of data at the logical address {at}"));
        let tree = self.sums.as_ref().ok_or_else(|| missing(logical))?;
        let end = logical.checked_add(len).ok_or_else(overflow)?;
        let mut out = Vec::new();
        let mut at = logical;
        while at < end {
            let here = Key::new(key::EXTENT_CSUM, key::EXTENT_CSUM_ITEM, at);
            let (found, item) = tree
                .prev(trees, here)?
                .filter(|(found, _)| found.alike(here))
                .ok_or_else(|| missing(at))?;
            let nth = |at: u64| {
                let sectors = at.saturating_sub(found.offset).checked_div(sector);
                index(sectors.unwrap_or(u64::MAX)).saturating_mul(size)
            };
            let bytes = item.bytes()?;
            let part = bytes
                .get(nth(at)..nth(end).min(bytes.len()))
                .filter(|part| part.len() >= size)
                .ok_or_else(|| missing(at))?;
            let sectors = part.len().checked_div(size).unwrap_or(0);
            out.extend_from_slice(part.get(..sectors.saturating_mul(size)).unwrap_or_default());
            at = at.saturating_add(wide(sectors).saturating_mul(sector));
        }
        Ok(out)
    }
}

/// Copies bytes of `all` from `start` on into the whole of `to`; what lies behind its end is zeroes.
fn copy(all: &[u8], start: u64, to: &mut [u8]) -> Result<()> {
    let from = all.get(index(start)..).ok_or_else(overflow)?;
    let n = from.len().min(to.len());
    let (head, tail) = to.split_at_mut(n);
    head.copy_from_slice(from.get(..n).unwrap_or_default());
    tail.fill(0);
    Ok(())
}
