//! The snapshot table.

use dormouse_block::{
    Error, Result, Source, be_u16, be_u32, be_u64, escape_terminal, read_vec_at, slice_at,
};

use super::header::{Header, L1};

/// QEMU's own limit (`QCOW_MAX_SNAPSHOTS`).
const MAX_SNAPSHOTS: u32 = 65536;
/// QEMU's own limit (`QCOW_MAX_SNAPSHOT_EXTRA_DATA`).
const MAX_EXTRA_DATA: u32 = 1024;
/// Bytes of the whole table. QEMU allows 64 MiB; a quarter of it holds 65536 entries of 256 bytes, and entries as
/// QEMU writes them take about 100.
const MAX_TABLE: u64 = 16 << 20;
/// Fixed fields of an entry.
const ENTRY: u64 = 40;

/// An internal snapshot: the same image by another L1 table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) l1: L1,
    pub(super) id: String,
    pub(super) name: String,
    /// Since 1970-01-01 UTC.
    pub(super) seconds: u32,
    pub(super) nanoseconds: u32,
    /// Nanoseconds of the guest's virtual clock.
    pub(super) vm_clock: u64,
    /// Bytes of saved state; 0 when there is none.
    pub(super) memory: u64,
    /// Bytes of the disk when the snapshot was taken.
    pub(super) disk_size: u64,
}

/// Reads the snapshot table of `file`.
pub(super) fn read(file: &dyn Source, header: &Header) -> Result<Vec<Snapshot>> {
    let (count, offset) = header.snapshots;
    if count == 0 {
        return Ok(Vec::new());
    }
    if count > MAX_SNAPSHOTS {
        return Err(Error::limit(format!(
            "{count} snapshots are more than the {MAX_SNAPSHOTS} allowed"
        )));
    }
    header.check_table(
        file,
        offset,
        u64::from(count).saturating_mul(ENTRY),
        "the snapshot table",
    )?;
    // Entries have no common length, so where the table ends is known only at its end.
    let len = file.len().saturating_sub(offset).min(MAX_TABLE);
    let table = TableReader { file, offset, len };
    let mut snapshots = Vec::new();
    let mut at = 0;
    for position in 0..count {
        let (snapshot, next) = table
            .entry(at, header, position)
            .map_err(|error| error.at_offset(offset.saturating_add(at)))?;
        snapshots.push(snapshot);
        at = next;
    }
    Ok(snapshots)
}

struct TableReader<'a> {
    file: &'a dyn Source,
    offset: u64,
    len: u64,
}

impl TableReader<'_> {
    fn bytes(&self, at: u64, len: u64) -> Result<Vec<u8>> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(if self.len == MAX_TABLE {
                Error::limit(format!(
                    "the snapshot table is larger than {MAX_TABLE} bytes"
                ))
            } else {
                Error::corrupt("the snapshot table goes beyond the end of the file")
            });
        }
        let len =
            usize::try_from(len).map_err(|_| Error::limit("a snapshot entry is too large"))?;
        read_vec_at(self.file, self.offset.saturating_add(at), len)
    }

    /// The entry at `at` of the table, and where the next one begins.
    fn entry(&self, at: u64, header: &Header, position: u32) -> Result<(Snapshot, u64)> {
        let fixed = self.bytes(at, ENTRY)?;
        let id_len = usize::from(be_u16(&fixed, 12)?);
        let name_len = usize::from(be_u16(&fixed, 14)?);
        let extra_len = be_u32(&fixed, 36)?;
        if extra_len > MAX_EXTRA_DATA {
            return Err(Error::limit(format!(
                "snapshot entry {position} has {extra_len} bytes of extra data, more than {MAX_EXTRA_DATA}"
            )));
        }
        let extra_len = usize::try_from(extra_len).unwrap_or(usize::MAX);
        let rest_len = extra_len.saturating_add(id_len).saturating_add(name_len);
        let rest_len_64 = u64::try_from(rest_len).unwrap_or(u64::MAX);
        let rest = self.bytes(at.saturating_add(ENTRY), rest_len_64)?;
        let extra = slice_at(&rest, 0, extra_len)?;
        // For saved states over 4 GiB QEMU leaves the 32-bit field zero, so the 64-bit one decides where it exists.
        let short = u64::from(be_u32(&fixed, 32)?);
        let memory = if extra.len() >= 8 {
            be_u64(extra, 0)?.max(short)
        } else {
            short
        };
        let disk_size = if extra.len() >= 16 {
            be_u64(extra, 8)?
        } else {
            header.size
        };
        if i64::try_from(disk_size).is_err() {
            return Err(Error::limit(format!(
                "snapshot entry {position} claims a disk of {disk_size} bytes"
            )));
        }
        let text = |from: usize, len: usize| -> Result<String> {
            let bytes = slice_at(&rest, from, len)?;
            Ok(escape_terminal(&String::from_utf8_lossy(bytes)).into_owned())
        };
        let next = at
            .checked_add(ENTRY)
            .and_then(|end| end.checked_add(rest_len_64))
            .and_then(|end| end.checked_next_multiple_of(8))
            .ok_or_else(|| Error::corrupt("a snapshot entry has an impossible length"))?;
        let snapshot = Snapshot {
            l1: L1 {
                offset: be_u64(&fixed, 0)?,
                entries: be_u32(&fixed, 8)?,
            },
            id: text(extra_len, id_len)?,
            name: text(extra_len.saturating_add(id_len), name_len)?,
            seconds: be_u32(&fixed, 16)?,
            nanoseconds: be_u32(&fixed, 20)?,
            vm_clock: be_u64(&fixed, 24)?,
            memory,
            disk_size,
        };
        Ok((snapshot, next))
    }
}
