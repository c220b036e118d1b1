//! From guest offsets to where their bytes are: the L1 table, and L2 tables through a bounded cache.

use std::sync::Arc;

use dormouse_block::{Error, Result, Source, be_u64, read_vec_at};

use super::header::{Header, L1};
use crate::mapped::{HostOffset, Mapping, Packed, Stretch};
use crate::pages::Pages;

/// Bits 9 to 55 of L1 and L2 entries: a host offset.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 63 of an L2 entry: exactly one reference, so that the cluster may be written in place.
const COPIED: u64 = 1 << 63;
/// Bit 62 of an L2 entry: the cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of an L2 entry, from version 3 on: the cluster reads as zeroes.
const ZERO: u64 = 1;
/// Subclusters in a cluster, with extended L2 entries.
const SUBCLUSTERS: u64 = 32;
/// L2 entries that are looked at for one stretch.
const MAX_ENTRIES: usize = 8192;

/// The map of one point.
pub(super) struct Map {
    pages: Pages,
    file_len: u64,
    version: u32,
    cluster_bits: u32,
    l2_bits: u32,
    extended: bool,
    /// Data clusters lie in another file, where offset 0 is a place like any other.
    external: bool,
    l1: Vec<u64>,
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
            extended: header.extended_l2,
            external: header.data_file.is_some(),
            l1: table,
            file_len: file.len(),
            pages: Pages::new(file),
        })
    }

    fn cluster_size(&self) -> u64 {
        1_u64.checked_shl(self.cluster_bits).unwrap_or(u64::MAX)
    }

    /// Bytes that one L1 entry covers.
    fn table_covers(&self) -> u64 {
        let bits = self.cluster_bits.saturating_add(self.l2_bits);
        1_u64.checked_shl(bits).unwrap_or(u64::MAX)
    }

    /// How the disk is mapped from `offset` on: the longest stretch that is cheaply known, at most `limit` bytes.
    /// Compressed clusters come one at a time.
    pub(super) fn locate(&self, offset: u64, limit: u64) -> Result<Stretch> {
        let covers = self.table_covers();
        let index = offset.checked_div(covers).unwrap_or(0);
        let within_table = offset.checked_rem(covers).unwrap_or(0);
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
            return Ok(Stretch {
                mapping: Mapping::Below,
                len: len.min(limit),
            });
        }
        let width: u64 = if self.extended { 16 } else { 8 };
        let table_len = width.checked_shl(self.l2_bits).unwrap_or(u64::MAX);
        if l2.saturating_add(table_len) > self.file_len {
            return Err(Error::corrupt(format!(
                "the L2 table for guest byte {offset} lies beyond the end of the file, which has {} bytes",
                self.file_len
            ))
            .at_offset(l2));
        }
        let within_cluster = offset & self.cluster_size().saturating_sub(1);
        let cluster = within_table.checked_shr(self.cluster_bits).unwrap_or(0);
        let at = l2.saturating_add(cluster.saturating_mul(width));
        let (page, start) = self.pages.page(at)?;
        let left = l2.saturating_add(table_len).saturating_sub(at);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let rest = page.get(start..).unwrap_or_default();
        let rest = rest.get(..left.min(rest.len())).unwrap_or_default();
        if self.extended {
            self.subclusters(rest, within_cluster, limit)
        } else {
            self.clusters(rest, within_cluster, limit)
        }
        .map_err(|error| error.at_offset(offset))
    }

    /// The stretch that begins `within` bytes into the cluster of the first of `entries`, of 8 bytes each.
    fn clusters(&self, entries: &[u8], within: u64, limit: u64) -> Result<Stretch> {
        let cluster_size = self.cluster_size();
        let (entries, _) = entries.as_chunks::<8>();
        let Some((first, more)) = entries.split_first() else {
            return Err(Error::corrupt("the L2 table ends too early"));
        };
        let mapping = self.mapping(u64::from_be_bytes(*first), within)?;
        let mut len = cluster_size.saturating_sub(within);
        if matches!(mapping, Mapping::Packed(_)) {
            return Ok(Stretch { mapping, len }.at_most(limit));
        }
        for entry in more.iter().take(MAX_ENTRIES) {
            if len >= limit {
                break;
            }
            let wanted = match mapping {
                Mapping::Data(HostOffset(host)) => {
                    Mapping::Data(HostOffset(host.saturating_add(len)))
                }
                other => other,
            };
            // An entry that is broken ends the stretch; it is reported when its own turn comes.
            if self.mapping(u64::from_be_bytes(*entry), 0).ok() != Some(wanted) {
                break;
            }
            len = len.saturating_add(cluster_size);
        }
        Ok(Stretch { mapping, len }.at_most(limit))
    }

    /// The same with extended entries of 16 bytes: the second half is a bitmap of allocated subclusters (the low 32
    /// bits) and of those that read as zeroes (the high ones).
    fn subclusters(&self, entries: &[u8], within: u64, limit: u64) -> Result<Stretch> {
        let cluster_size = self.cluster_size();
        let entry = be_u64(entries, 0)?;
        if entry & COMPRESSED != 0 {
            let mapping = self.mapping(entry, within)?;
            let len = cluster_size.saturating_sub(within);
            return Ok(Stretch { mapping, len }.at_most(limit));
        }
        if entry & ZERO != 0 {
            return Err(Error::corrupt(
                "an extended L2 entry carries the zero bit, which it has no use for",
            ));
        }
        let bitmap = be_u64(entries, 8)?;
        let (allocated, zeroes) = (bitmap & u64::from(u32::MAX), bitmap >> 32);
        if allocated & zeroes != 0 {
            return Err(Error::corrupt("a subcluster is both allocated and zeroes"));
        }
        let size = cluster_size / SUBCLUSTERS;
        let first = within.checked_div(size).unwrap_or(0);
        let kind = |number: u64| {
            let bit = 1_u64
                .checked_shl(u32::try_from(number).unwrap_or(63))
                .unwrap_or(0);
            (allocated & bit != 0, zeroes & bit != 0)
        };
        let of = kind(first);
        let last = (first..SUBCLUSTERS)
            .find(|number| kind(*number) != of)
            .unwrap_or(SUBCLUSTERS);
        let mapping = match of {
            (_, true) => Mapping::Zero,
            (false, false) => Mapping::Below,
            (true, false) => match self.mapping(entry, within)? {
                Mapping::Below => {
                    return Err(Error::corrupt(
                        "a subcluster is allocated in a cluster that is not",
                    ));
                }
                data => data,
            },
        };
        let len = last.saturating_mul(size).saturating_sub(within);
        Ok(Stretch { mapping, len }.at_most(limit))
    }

    /// What one L2 entry says of the byte `within` its cluster.
    fn mapping(&self, entry: u64, within: u64) -> Result<Mapping> {
        if entry & COMPRESSED != 0 {
            if self.external {
                return Err(Error::corrupt(
                    "a compressed cluster in an image whose data lie in another file",
                ));
            }
            return Ok(self.compressed(entry, within));
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
        if host == 0 && !(self.external && entry & COPIED != 0) {
            return Ok(Mapping::Below);
        }
        if host & self.cluster_size().saturating_sub(1) != 0 {
            return Err(Error::corrupt(format!(
                "a data cluster at {host:#x} is not on the cluster grid"
            )));
        }
        Ok(Mapping::Data(HostOffset(host.saturating_add(within))))
    }

    /// "Compressed Clusters Descriptor": x = 62 - (cluster_bits - 8) bits of host offset, then the number of further
    /// sectors of 512 bytes after the one in which the data begin.
    fn compressed(&self, entry: u64, within: u64) -> Mapping {
        let x = 62_u32.saturating_sub(self.cluster_bits.saturating_sub(8));
        let mask = 1_u64.checked_shl(x).unwrap_or(0).saturating_sub(1);
        let host = entry & mask;
        let sectors = (entry & (COMPRESSED.saturating_sub(1)))
            .checked_shr(x)
            .unwrap_or(0)
            .saturating_add(1);
        Mapping::Packed(Packed {
            at: HostOffset(host),
            len: sectors.saturating_mul(512).saturating_sub(host & 511),
            unit: usize::try_from(self.cluster_size()).unwrap_or(0),
            within,
        })
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
