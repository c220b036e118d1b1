//! Transaction logs: what Windows writes before it writes the hive, and applies when it finds the hive dirty.

use std::sync::Arc;

use dormouse_block::{Error, Result, Source, le_u32, le_u64, read_vec_at, slice_at};

use super::base_block::{BaseBlock, FileKind, sound_bins};
use super::marvin32::marvin32;
use super::pages::Pages;

/// Bytes of a log's base block, and what all of its parts are aligned to.
const SECTOR: u64 = 512;
/// Bytes of an entry's header.
const ENTRY: usize = 40;
/// Largest entry read, in bytes.
const MAX_ENTRY: u32 = 64 << 20;
/// Largest log read, in bytes: Windows begins a new one long before.
const MAX_LOG: u64 = 256 << 20;

/// A log whose base block is sound and whose own writing was ended.
struct Log {
    file: Arc<dyn Source>,
    base: BaseBlock,
}

/// What was applied.
pub(super) struct Applied {
    /// The base block that the hive has now.
    pub(super) base: BaseBlock,
    /// Entries applied; an old log has one.
    pub(super) entries: usize,
}

/// Applies to a dirty hive what its logs hold, as Windows would on the next start; `None` when no log fits it.
///
/// # Errors
/// Failures of the host, and `Limit`.
pub(super) fn recover(
    base: &BaseBlock,
    pages: &mut Pages,
    files: &[Arc<dyn Source>],
) -> Result<Option<Applied>> {
    let mut logs = Vec::new();
    for file in files {
        if file.len() > MAX_LOG {
            return Err(Error::limit("a transaction log of more than 256 MiB"));
        }
        // A log that was never used is empty, and one that is torn is of no use: Windows passes over both.
        match BaseBlock::read(file.as_ref()) {
            Ok(base) if !base.is_dirty() && base.kind != FileKind::Primary => logs.push(Log {
                file: file.clone(),
                base,
            }),
            Err(error) if error.kind() == dormouse_block::ErrorKind::Io => return Err(error),
            _ => {}
        }
    }
    if logs.iter().any(|log| log.base.kind == FileKind::NewLog) {
        logs.retain(|log| log.base.kind == FileKind::NewLog);
        return apply_entries(base, pages, logs);
    }
    for log in logs {
        if let Some(applied) = apply_vector(base, pages, &log)? {
            return Ok(Some(applied));
        }
        pages.forget();
    }
    Ok(None)
}

/// Whether sequence number `a` comes before `b`; they wrap around.
fn before(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) < 1 << 31
}

/// The new form: entries that follow one another, in one log and then in the other.
fn apply_entries(
    base: &BaseBlock,
    pages: &mut Pages,
    mut logs: Vec<Log>,
) -> Result<Option<Applied>> {
    // Oldest first; with the hive's own block torn there is nothing but the logs to count from.
    let from = match logs.first() {
        Some(log) if !base.sound => log.base.primary_sequence,
        _ => base.secondary_sequence,
    };
    logs.sort_by_key(|log| log.base.primary_sequence.wrapping_sub(from) ^ 1 << 31);
    if base.sound {
        logs.retain(|log| !before(log.base.primary_sequence, base.secondary_sequence));
    } else if logs.len() > 1 {
        // With the hive's own block torn, Windows takes the later log alone.
        let later = logs.pop();
        logs = later.into_iter().collect();
    }
    let mut applied: Option<Applied> = None;
    for log in &logs {
        let first = log.base.primary_sequence;
        if applied
            .as_ref()
            .is_some_and(|applied| applied.base.primary_sequence.wrapping_add(1) != first)
        {
            break;
        }
        let Some((entries, last, bins)) = log.apply(pages)? else {
            continue;
        };
        let already = applied.map_or(0, |applied| applied.entries);
        applied = Some(Applied {
            base: BaseBlock {
                primary_sequence: last,
                secondary_sequence: last,
                kind: FileKind::Primary,
                bins,
                ..log.base
            },
            entries: entries.saturating_add(already),
        });
    }
    Ok(applied)
}

impl Log {
    /// Applies the log's entries up to the first that is not whole: their number, the last one's sequence number, and the
    /// bytes of bins that it speaks of.
    fn apply(&self, pages: &mut Pages) -> Result<Option<(usize, u32, u32)>> {
        let mut at = SECTOR;
        let mut wanted = self.base.primary_sequence;
        let mut last = None;
        let mut entries = 0_usize;
        while let Some(entry) = self.entry(at, wanted)? {
            let bins = entry.apply(pages)?;
            entries = entries.saturating_add(1);
            last = Some((entries, wanted, bins));
            wanted = wanted.wrapping_add(1);
            at = at.saturating_add(u64::try_from(entry.bytes.len()).unwrap_or(u64::MAX));
        }
        Ok(last)
    }

    /// The entry at `at`, if it is the one wanted and both of its checksums are right.
    fn entry(&self, at: u64, wanted: u32) -> Result<Option<Entry>> {
        let left = self.file.len().saturating_sub(at);
        if left < 512 {
            return Ok(None);
        }
        let header = read_vec_at(self.file.as_ref(), at, ENTRY)?;
        let size = le_u32(&header, 4)?;
        if slice_at(&header, 0, 4)? != b"HvLE"
            || le_u32(&header, 12)? != wanted
            || !(512..=MAX_ENTRY).contains(&size)
            || !size.is_multiple_of(512)
            || u64::from(size) > left
            || !sound_bins(le_u32(&header, 16)?)
            || le_u64(&header, 32)? != marvin32(slice_at(&header, 0, 32)?)
        {
            return Ok(None);
        }
        let size = usize::try_from(size).map_err(|_| Error::limit("a log entry beyond memory"))?;
        let bytes = read_vec_at(self.file.as_ref(), at, size)?;
        let body = slice_at(&bytes, ENTRY, size.saturating_sub(ENTRY))?;
        Ok((le_u64(&header, 24)? == marvin32(body)).then_some(Entry { bytes }))
    }
}

/// One entry whose checksums are right.
struct Entry {
    bytes: Vec<u8>,
}

impl Entry {
    /// Lays the entry's pages over the hive; the bytes of bins that the hive has then.
    fn apply(&self, pages: &mut Pages) -> Result<u32> {
        let count = usize::try_from(le_u32(&self.bytes, 20)?)
            .map_err(|_| Error::corrupt("a log entry of too many pages"))?;
        let references = count
            .checked_mul(8)
            .ok_or_else(|| Error::corrupt("a log entry of too many pages"))?;
        let (references, _) = slice_at(&self.bytes, ENTRY, references)?.as_chunks::<8>();
        let mut from = ENTRY.saturating_add(count.saturating_mul(8));
        for reference in references {
            let offset = le_u32(reference, 0)?;
            let size = usize::try_from(le_u32(reference, 4)?)
                .map_err(|_| Error::corrupt("a dirty page beyond its log entry"))?;
            pages.lay(offset, slice_at(&self.bytes, from, size)?)?;
            from = from.saturating_add(size);
        }
        le_u32(&self.bytes, 16)
    }
}

/// The old form: a bitmap of the hive's 512-byte pages, and those of them that are dirty.
fn apply_vector(base: &BaseBlock, pages: &mut Pages, log: &Log) -> Result<Option<Applied>> {
    let written = if base.sound {
        base.last_written
    } else {
        // The first bin keeps a copy.
        let mut copy = [0; 8];
        match pages.read(20, &mut copy) {
            Ok(()) => u64::from_le_bytes(copy),
            Err(_) => return Ok(None),
        }
    };
    if log.base.last_written != written {
        return Ok(None);
    }
    let vector = u64::from(log.base.bins / 4096);
    let start = SECTOR
        .saturating_add(4)
        .saturating_add(vector)
        .next_multiple_of(SECTOR);
    if log.file.len() < start {
        return Ok(None);
    }
    let vector =
        usize::try_from(vector).map_err(|_| Error::limit("a dirty vector beyond memory"))?;
    let bitmap = read_vec_at(log.file.as_ref(), SECTOR, vector.saturating_add(4))?;
    let Some(bitmap) = bitmap.strip_prefix(b"DIRT") else {
        return Ok(None);
    };
    let mut from = start;
    let mut offset = 0_u32;
    for byte in bitmap {
        for bit in 0..8_u32 {
            if byte >> bit & 1 == 1 {
                if from.saturating_add(SECTOR) > log.file.len() {
                    return Ok(None);
                }
                let mut page = [0; 512];
                log.file.read_exact_at(from, &mut page)?;
                pages.lay(offset, &page)?;
                from = from.saturating_add(SECTOR);
            }
            offset = offset.saturating_add(512);
        }
    }
    if from == start {
        return Ok(None);
    }
    Ok(Some(Applied {
        base: BaseBlock {
            kind: FileKind::Primary,
            ..log.base
        },
        entries: 1,
    }))
}
