//! The log, replayed in memory ([MS-VHDX] 2.3): what a host that crashed had promised to write.

use std::collections::BTreeMap;

use dormouse_block::{Error, Result, Source, le_u32, le_u64, read_vec_at, slice_at};

use super::guid::Guid;
use super::header::{Header, checksum};

/// Everything in the log is counted in these.
const SECTOR: usize = 4096;
const SECTOR_64: u64 = 4096;
/// Bytes of an entry's header, and of a descriptor.
const ENTRY_HEADER: usize = 64;
const DESCRIPTOR: usize = 32;
/// Times the log's length that is summed while looking for the newest sequence. A sound log is summed once.
const MAX_SUMMED: usize = 8;

/// A sector's bytes, or nothing where zeroes go.
type Sector = Option<Box<[u8]>>;

/// What replaces stretches of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Patches {
    /// By host offset: the end, and what goes there.
    patches: BTreeMap<u64, (u64, Sector)>,
    /// Bytes that the file must have.
    pub(super) len: u64,
}

/// A valid entry.
struct Entry {
    sequence: u64,
    /// Where the oldest entry stands that was not yet written through when this one was made.
    tail: usize,
    len: usize,
    /// Host bytes that were there when it was made.
    flushed: u64,
    last: u64,
}

/// Replays the log that `header` names.
pub(super) fn replay(file: &dyn Source, header: &Header) -> Result<Patches> {
    let len = usize::try_from(header.log_len).map_err(|_| Error::limit("the log is too large"))?;
    let log = Log {
        bytes: read_vec_at(file, header.log_offset, len)?,
        guid: header.log,
    };
    let sequence = log.newest()?;
    let mut patches = Patches::default();
    for (at, entry) in &sequence {
        if entry.flushed > file.len() {
            return Err(Error::corrupt(format!(
                "the log was written for a file of {} bytes, this one has {}: its end is lost",
                entry.flushed,
                file.len()
            )));
        }
        patches.len = patches.len.max(entry.last);
        log.apply(*at, entry, &mut patches)?;
    }
    patches.len = patches.len.max(file.len());
    Ok(patches)
}

struct Log {
    bytes: Vec<u8>,
    guid: Guid,
}

impl Log {
    /// `len` bytes from `at` on; the log goes round.
    fn circular(&self, at: usize, len: usize) -> Vec<u8> {
        let (before, after) = self.bytes.split_at(at.min(self.bytes.len()));
        after.iter().chain(before).take(len).copied().collect()
    }

    /// `at + len`, going round.
    fn advance(&self, at: usize, len: usize) -> usize {
        at.saturating_add(len)
            .checked_rem(self.bytes.len())
            .unwrap_or(0)
    }

    /// The entry at `at`, if a valid one is there. `summed` counts what was summed for it.
    fn entry(&self, at: usize, summed: &mut usize) -> Option<Entry> {
        let head = self.bytes.get(at..at.checked_add(ENTRY_HEADER)?)?;
        let len = usize::try_from(le_u32(head, 8).ok()?).ok()?;
        let entry = Entry {
            tail: usize::try_from(le_u32(head, 12).ok()?).ok()?,
            sequence: le_u64(head, 16).ok()?,
            flushed: le_u64(head, 48).ok()?,
            last: le_u64(head, 56).ok()?,
            len,
        };
        let sound = head.starts_with(b"loge")
            && len >= SECTOR
            && len <= self.bytes.len()
            && len.is_multiple_of(SECTOR)
            && entry.tail < self.bytes.len()
            && entry.tail.is_multiple_of(SECTOR)
            && entry.sequence > 0
            && Guid::at(head, 32).ok()? == self.guid;
        if !sound {
            return None;
        }
        *summed = summed.saturating_add(len);
        let bytes = self.circular(at, len);
        let good = checksum(&bytes).ok()? == le_u32(&bytes, 4).ok()?
            && descriptors(&bytes, &entry).is_ok();
        good.then_some(entry)
    }

    /// The entries to replay, in order: those from the tail of the newest entry of the newest sequence on.
    fn newest(&self) -> Result<Vec<(usize, Entry)>> {
        let most = self.bytes.len().saturating_mul(MAX_SUMMED);
        let mut summed = 0;
        let mut best: Vec<(usize, Entry)> = Vec::new();
        let mut tail = 0;
        while tail < self.bytes.len() {
            let mut sequence: Vec<(usize, Entry)> = Vec::new();
            let mut head = tail;
            let mut used = 0_usize;
            while let Some(entry) = self.entry(head, &mut summed) {
                let follows = sequence
                    .last()
                    .is_none_or(|(_, last)| last.sequence.checked_add(1) == Some(entry.sequence));
                used = used.saturating_add(entry.len);
                if !follows || used > self.bytes.len() {
                    break;
                }
                let len = entry.len;
                sequence.push((head, entry));
                head = self.advance(head, len);
            }
            if summed > most {
                return Err(Error::limit(format!(
                    "the log needs more than {MAX_SUMMED} passes to find where it begins"
                )));
            }
            let newest = |sequence: &[(usize, Entry)]| {
                sequence.last().map_or(0, |(_, entry)| entry.sequence)
            };
            // A sequence whose tail was overwritten is no use.
            let start = sequence
                .last()
                .and_then(|(_, last)| sequence.iter().position(|(at, _)| *at == last.tail));
            let passed = sequence.len();
            if let Some(start) = start
                && newest(&sequence) > newest(&best)
            {
                best = sequence.split_off(start);
            }
            // What has been part of a sequence begins no newer one, unless the sequence went round.
            tail = match (passed, head) {
                (0, _) => tail.saturating_add(SECTOR),
                (_, head) if head > tail => head,
                _ => break,
            };
        }
        if best.is_empty() {
            return Err(Error::corrupt(
                "the file was not closed and its log holds nothing that is whole",
            ));
        }
        Ok(best)
    }

    fn apply(&self, at: usize, entry: &Entry, patches: &mut Patches) -> Result<()> {
        let bytes = self.circular(at, entry.len);
        for descriptor in descriptors(&bytes, entry)? {
            patches.put(descriptor.offset, descriptor.len, descriptor.data)?;
        }
        Ok(())
    }
}

/// What one descriptor asks for.
struct Descriptor {
    offset: u64,
    len: u64,
    data: Sector,
}

/// The descriptors of an entry with their data sectors, which follow in the same order.
fn descriptors(bytes: &[u8], entry: &Entry) -> Result<Vec<Descriptor>> {
    let broken = || Error::corrupt("a log entry is broken");
    let count = usize::try_from(le_u32(bytes, 24)?).map_err(|_| broken())?;
    let table = count
        .checked_mul(DESCRIPTOR)
        .and_then(|len| len.checked_add(ENTRY_HEADER))
        .filter(|len| *len <= bytes.len())
        .ok_or_else(broken)?;
    let mut data_at = table.next_multiple_of(SECTOR);
    let mut found = Vec::new();
    for number in 0..count {
        let at = number
            .saturating_mul(DESCRIPTOR)
            .saturating_add(ENTRY_HEADER);
        let descriptor = slice_at(bytes, at, DESCRIPTOR)?;
        if le_u64(descriptor, 24)? != entry.sequence {
            return Err(broken());
        }
        let offset = le_u64(descriptor, 16)?;
        let (len, data) = match slice_at(descriptor, 0, 4)? {
            b"zero" => (le_u64(descriptor, 8)?, None),
            b"desc" => {
                let sector = slice_at(bytes, data_at, SECTOR)?;
                data_at = data_at.saturating_add(SECTOR);
                let sequence = u64::from(le_u32(sector, 4)?) << 32
                    | u64::from(le_u32(sector, SECTOR.saturating_sub(4))?);
                if !sector.starts_with(b"data") || sequence != entry.sequence {
                    return Err(broken());
                }
                // Signature and sequence stand where the descriptor keeps the sector's own bytes.
                let mut data = sector.to_vec();
                let head = data.get_mut(..8).ok_or_else(broken)?;
                head.copy_from_slice(slice_at(descriptor, 8, 8)?);
                let tail = data
                    .get_mut(SECTOR.saturating_sub(4)..)
                    .ok_or_else(broken)?;
                tail.copy_from_slice(slice_at(descriptor, 4, 4)?);
                (SECTOR_64, Some(data.into_boxed_slice()))
            }
            _ => return Err(broken()),
        };
        if !offset.is_multiple_of(SECTOR_64) || !len.is_multiple_of(SECTOR_64) {
            return Err(broken());
        }
        found.push(Descriptor { offset, len, data });
    }
    Ok(found)
}

impl Patches {
    /// Replaces the `len` bytes at `start`, whatever replaced them before.
    fn put(&mut self, start: u64, len: u64, data: Sector) -> Result<()> {
        let end = start
            .checked_add(len)
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or_else(|| Error::corrupt("a log entry writes beyond every file"))?;
        if len == 0 {
            return Ok(());
        }
        let before = self.patches.range(..start).next_back();
        if let Some((at, (old_end, _))) = before.map(|(at, (end, data))| (*at, (*end, data)))
            && old_end > start
        {
            // Only zeroes reach over a sector's border.
            self.patches.insert(at, (start, None));
            if old_end > end {
                self.patches.insert(end, (old_end, None));
            }
        }
        let covered: Vec<u64> = self.patches.range(start..end).map(|(at, _)| *at).collect();
        for at in covered {
            if let Some((old_end, _)) = self.patches.remove(&at)
                && old_end > end
            {
                self.patches.insert(end, (old_end, None));
            }
        }
        self.patches.insert(start, (end, data));
        Ok(())
    }

    /// Changes `buf`, read at `offset`, as the log says.
    fn apply(&self, offset: u64, buf: &mut [u8]) {
        let end = offset.saturating_add(u64::try_from(buf.len()).unwrap_or(u64::MAX));
        let first = self
            .patches
            .range(..=offset)
            .next_back()
            .map_or(offset, |(at, _)| *at);
        for (at, (patch_end, data)) in self.patches.range(first..end) {
            let (from, to) = ((*at).max(offset), (*patch_end).min(end));
            if from >= to {
                continue;
            }
            let index = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
            let Some(part) =
                buf.get_mut(index(from.saturating_sub(offset))..index(to.saturating_sub(offset)))
            else {
                continue;
            };
            match data {
                None => part.fill(0),
                Some(data) => {
                    let range = index(from.saturating_sub(*at))..index(to.saturating_sub(*at));
                    if let Some(new) = data.get(range) {
                        part.copy_from_slice(new);
                    }
                }
            }
        }
    }
}

/// The file as it would be once its log was written through.
pub(super) struct Replayed<S> {
    file: S,
    patches: Patches,
}

impl<S: Source> Replayed<S> {
    pub(super) fn new(file: S, patches: Patches) -> Self {
        Self { file, patches }
    }
}

impl<S: Source> Source for Replayed<S> {
    fn len(&self) -> u64 {
        self.patches.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let wanted = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        if offset
            .checked_add(wanted)
            .is_none_or(|end| end > self.patches.len)
        {
            return Err(Error::corrupt(format!(
                "{wanted} bytes are wanted of a file of {}",
                self.patches.len
            ))
            .at_offset(offset));
        }
        let there = self.file.len().saturating_sub(offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(buf.len());
        let (data, beyond) = buf.split_at_mut(there);
        beyond.fill(0);
        if !data.is_empty() {
            self.file.read_exact_at(offset, data)?;
        }
        self.patches.apply(offset, buf);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_block::Bytes;

    #[test]
    fn later_patches_win_and_zeroes_are_split() {
        let sector = |byte: u8| Some(vec![byte; SECTOR].into_boxed_slice());
        let mut patches = Patches {
            len: 5 * SECTOR_64,
            ..Patches::default()
        };
        patches.put(0, 4 * SECTOR_64, None).unwrap();
        patches.put(SECTOR_64, SECTOR_64, sector(7)).unwrap();
        patches.put(2 * SECTOR_64, SECTOR_64, sector(8)).unwrap();
        patches.put(2 * SECTOR_64, SECTOR_64, None).unwrap();
        let file = Replayed::new(Bytes::new(vec![1; 4 * SECTOR + 9]), patches);
        let all = read_vec_at(&file, 0, 5 * SECTOR).unwrap();
        let at = |index: usize| (all[index * SECTOR], all[(index + 1) * SECTOR - 1]);
        assert_eq!(
            [at(0), at(1), at(2), at(3), at(4)],
            [(0, 0), (7, 7), (0, 0), (0, 0), (1, 0)]
        );
        assert_eq!(read_vec_at(&file, 4095, 2).unwrap(), [0, 7]);
        assert!(read_vec_at(&file, 5 * SECTOR_64, 1).is_err());
    }
}
