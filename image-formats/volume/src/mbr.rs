//! Master boot records, with the chain of logical partitions inside an extended one.

use std::collections::BTreeSet;

use dormouse_block::{Error, Gap, Result, Source, le_u32, read_vec_at, slice_at};

use crate::partition::{PartitionInfo, Range, divide};
use crate::{Found, Keys, Volume, VolumeSystem, identify, kinds};

/// Logical partitions of one disk; Linux names no more than 256 of them.
const MAX_LOGICAL: usize = 1024;
/// Extended partitions: DOS, Windows 95 with LBA, Linux.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

/// The volume system.
pub(crate) struct Mbr;

impl VolumeSystem for Mbr {
    fn name(&self) -> &'static str {
        "mbr"
    }

    fn find(&self, candidates: &[Volume], _: &Keys) -> Found {
        let mut found = Found::default();
        for (position, disk) in candidates.iter().enumerate() {
            if !disk.is_disk() {
                continue;
            }
            match look(disk) {
                Ok(None) => {}
                Ok(Some((ranges, gaps))) => {
                    found.claimed.push(position);
                    found.gaps.extend(gaps);
                    divide(disk, "mbr", ranges, &mut found);
                }
                Err(error) => {
                    found.claimed.push(position);
                    found.gaps.push(Gap::from_error(&error, &disk.locator()));
                }
            }
        }
        found
    }
}

/// An entry of a boot record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    status: u8,
    pub(crate) kind: u8,
    /// First sector, in sectors of the disk.
    first: u32,
    sectors: u32,
}

impl Entry {
    pub(crate) fn is_used(&self) -> bool {
        self.kind != 0 && self.sectors != 0
    }

    fn is_extended(&self) -> bool {
        self.is_used() && EXTENDED.contains(&self.kind)
    }
}

/// The entries of the boot record at the beginning of `source`; `None` when there is none.
pub(crate) fn boot_record(source: &dyn Source) -> Result<Option<[Entry; 4]>> {
    if source.len() < 512 {
        return Ok(None);
    }
    let sector = read_vec_at(source, 0, 512)?;
    let Some(entries) = entries(&sector)? else {
        return Ok(None);
    };
    // "80h indicates active, 00h inactive": anything else is the code of a filesystem's boot sector.
    let plausible = entries.iter().all(|entry| matches!(entry.status, 0 | 0x80));
    Ok(plausible.then_some(entries))
}

fn entries(sector: &[u8]) -> Result<Option<[Entry; 4]>> {
    if slice_at(sector, 510, 2)? != [0x55, 0xaa] {
        return Ok(None);
    }
    let entry = |position: usize| -> Result<Entry> {
        let bytes = slice_at(
            sector,
            446_usize.saturating_add(position.saturating_mul(16)),
            16,
        )?;
        Ok(Entry {
            status: bytes.first().copied().unwrap_or(0),
            kind: bytes.get(4).copied().unwrap_or(0),
            first: le_u32(bytes, 8)?,
            sectors: le_u32(bytes, 12)?,
        })
    };
    Ok(Some([entry(0)?, entry(1)?, entry(2)?, entry(3)?]))
}

/// The partitions of `disk` and what is broken in its chains; `None` when it has no partition table.
fn look(disk: &Volume) -> Result<Option<(Vec<Range>, Vec<Gap>)>> {
    let source = &*disk.source;
    let Some(entries) = boot_record(source)? else {
        return Ok(None);
    };
    if !entries.iter().any(Entry::is_used) {
        return Ok(None);
    }
    // A boot sector of FAT, NTFS and their like ends in the same two bytes; its code rarely reads as a table that
    // fits the disk.
    let in_place = |size: u64| {
        entries.iter().filter(|entry| entry.is_used()).all(|entry| {
            entry.first != 0 && u64::from(entry.first).saturating_mul(size) < source.len()
        })
    };
    if !in_place(512) && identify(source)?.is_some() {
        return Ok(None);
    }
    let size = match disk.sector_size {
        Some(size) => u64::from(size),
        None => sector_size(source, &entries)?,
    };
    let disk_id = le_u32(&read_vec_at(source, 440, 4)?, 0)?;
    let table = Chain {
        disk,
        source,
        sector_size: size,
        disk_id,
    };
    let mut ranges = Vec::new();
    let mut gaps = Vec::new();
    for (entry, number) in entries.iter().zip(1_u32..) {
        if entry.is_used() && !entry.is_extended() {
            ranges.push(table.range(entry, u64::from(entry.first), number));
        }
    }
    let mut number = 5;
    for entry in entries.iter().filter(|entry| entry.is_extended()) {
        if let Err(error) = table.logical(entry, &mut number, &mut ranges) {
            gaps.push(Gap::from_error(&error, &disk.locator()));
        }
    }
    Ok(Some((ranges, gaps)))
}

/// The table does not say in which sectors it counts. On a disk of 4096-byte sectors, what lies there is known and what
/// lies where 512-byte sectors would put it is not.
fn sector_size(source: &dyn Source, entries: &[Entry; 4]) -> Result<u64> {
    let known_at = |size: u64| -> Result<bool> {
        for entry in entries.iter().filter(|entry| entry.is_used()) {
            let start = u64::from(entry.first).saturating_mul(size);
            if start >= source.len() {
                continue;
            }
            let rest = Rest { source, start };
            if entry.is_extended() {
                let sector = read_vec_at(&rest, 510, 2).unwrap_or_default();
                if sector == [0x55, 0xaa] {
                    return Ok(true);
                }
            } else if identify(&rest)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let last = entries
        .iter()
        .filter(|entry| entry.is_used())
        .map(|entry| u64::from(entry.first).saturating_add(u64::from(entry.sectors)))
        .max()
        .unwrap_or(0);
    // Counted in large sectors, the partitions must still fit the disk.
    if last.saturating_mul(4096) > source.len() || known_at(512)? || !known_at(4096)? {
        return Ok(512);
    }
    Ok(4096)
}

/// A borrowed source from some byte on.
struct Rest<'a> {
    source: &'a dyn Source,
    start: u64,
}

impl Source for Rest<'_> {
    fn len(&self) -> u64 {
        self.source.len().saturating_sub(self.start)
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.source
            .read_exact_at(self.start.saturating_add(offset), buf)
    }
}

struct Chain<'a> {
    disk: &'a Volume,
    source: &'a dyn Source,
    sector_size: u64,
    disk_id: u32,
}

impl Chain<'_> {
    fn range(&self, entry: &Entry, first: u64, number: u32) -> Range {
        let kind = format!("{:#04x}", entry.kind);
        Range {
            start: first.saturating_mul(self.sector_size),
            size: u64::from(entry.sectors).saturating_mul(self.sector_size),
            partition: PartitionInfo {
                number,
                kind_name: kinds::name(&kind),
                kind,
                label: None,
                uuid: (self.disk_id != 0).then(|| format!("{:08x}-{number:02x}", self.disk_id)),
                bootable: entry.status == 0x80,
            },
        }
    }

    /// Follows the records of the extended partition `outer`. Each names one logical partition, relative to itself,
    /// and the next record, relative to the extended partition.
    fn logical(&self, outer: &Entry, number: &mut u32, ranges: &mut Vec<Range>) -> Result<()> {
        let base = u64::from(outer.first);
        let end = base.saturating_add(u64::from(outer.sectors));
        let mut seen = BTreeSet::new();
        let mut record = Some(base);
        while let Some(lba) = record {
            let at = lba.saturating_mul(self.sector_size);
            let place = |error: Error| error.at_offset(at).located(&self.disk.locator());
            if !seen.insert(lba) {
                return Err(place(Error::corrupt(
                    "the chain of logical partitions leads back to itself",
                )));
            }
            if seen.len() > MAX_LOGICAL {
                return Err(place(Error::limit(format!(
                    "more than {MAX_LOGICAL} logical partitions"
                ))));
            }
            let sector = read_vec_at(self.source, at, 512).map_err(place)?;
            let Some(entries) = entries(&sector)? else {
                return Err(place(Error::corrupt(
                    "the chain of logical partitions breaks: no boot record",
                )));
            };
            for (entry, position) in entries.iter().zip(0_u32..) {
                if !entry.is_used() || entry.is_extended() {
                    continue;
                }
                let first = lba.saturating_add(u64::from(entry.first));
                let last = first.saturating_add(u64::from(entry.sectors));
                // The third and fourth entry should be empty; Linux takes them when they fit.
                if position >= 2 && (first < base || last > end) {
                    continue;
                }
                ranges.push(self.range(entry, first, *number));
                *number = number.saturating_add(1);
            }
            record = entries
                .iter()
                .find(|entry| entry.is_extended())
                .map(|next| base.saturating_add(u64::from(next.first)));
        }
        Ok(())
    }
}
