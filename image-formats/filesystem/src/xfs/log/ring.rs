//! The ring of blocks: where its head and its tail are.

use dormouse_block::{Error, ErrorKind, Result, Source, array_at, be_u32, slice_at};

use super::super::superblock::Superblock;
use super::super::{index, overflow, wide};
use super::record::{Header, MAGIC, Record};

/// Bytes of a block of the log.
pub(super) const BLOCK: u64 = 512;
/// Blocks behind the head that may be written in any order: eight buffers of 256 KiB (`XLOG_TOTAL_REC_SHIFT`).
const IN_FLIGHT: u64 = 4096;
/// Buffers that may be written at once (`XLOG_MAX_ICLOGS`).
const MAX_BUFFERS: usize = 8;
/// Blocks before the head in which the record of an unmounting is looked for first.
const NEAR: u64 = 8;
/// `XLOG_UNMOUNT_TRANS`: the flag of the operation that tells of an unmounting.
const UNMOUNT: u8 = 0x20;

/// The log's blocks.
pub(super) struct Ring<'a> {
    source: &'a dyn Source,
    start: u64,
    len: u64,
    uuid: [u8; 16],
    sums: bool,
}

/// From where to where the log is to be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Work {
    /// The first record.
    pub(super) tail: u64,
    /// The block after the last one.
    head: u64,
}

fn cycle_of(block: &[u8]) -> Result<u32> {
    match be_u32(block, 0)? {
        MAGIC => be_u32(block, 4),
        cycle => Ok(cycle),
    }
}

/// The place in `window`, whose first block is `start`, of the first block that `cycle` wrote.
fn first_of(window: &[u8], start: u64, cycle: u32) -> Option<u64> {
    window
        .chunks_exact(512)
        .position(|block| cycle_of(block).is_ok_and(|found| found == cycle))
        .map(|nth| start.saturating_add(wide(nth)))
}

impl<'a> Ring<'a> {
    /// The log that begins at byte `start` of `source`.
    pub(super) fn new(source: &'a dyn Source, sb: &Superblock, start: u64) -> Self {
        Self {
            source,
            start,
            len: u64::from(sb.log_blocks) << sb.block_log.saturating_sub(9),
            uuid: sb.uuid,
            sums: sb.features.v5(),
        }
    }

    fn wrap(&self, at: u64) -> u64 {
        if at >= self.len {
            at.saturating_sub(self.len)
        } else {
            at
        }
    }

    /// Blocks from `from` on to `to`, around the ring.
    fn distance(&self, from: u64, to: u64) -> u64 {
        if to >= from {
            to.saturating_sub(from)
        } else {
            self.len.saturating_sub(from).saturating_add(to)
        }
    }

    /// `count` blocks from `at` on, around the ring; at most a few thousand are asked for.
    fn read(&self, at: u64, count: u64) -> Result<Vec<u8>> {
        if at >= self.len || count > self.len {
            return Err(Error::corrupt("a log record leaves the log"));
        }
        let mut bytes = vec![0; index(count.saturating_mul(BLOCK))];
        let first = count.min(self.len.saturating_sub(at));
        let (head, rest) = bytes
            .split_at_mut_checked(index(first.saturating_mul(BLOCK)))
            .ok_or_else(overflow)?;
        let offset = self.start.saturating_add(at.saturating_mul(BLOCK));
        self.source.read_exact_at(offset, head)?;
        if !rest.is_empty() {
            self.source.read_exact_at(self.start, rest)?;
        }
        Ok(bytes)
    }

    fn cycle(&self, at: u64) -> Result<u32> {
        cycle_of(&self.read(at, 1)?)
    }

    fn header(&self, at: u64) -> Result<Header> {
        Header::parse(&self.read(at, 1)?)
    }

    /// The record at block `at`, with its checksum held against it.
    fn record(&self, at: u64) -> Result<Record> {
        let header = self.header(at)?;
        let count = header.headers.saturating_add(header.blocks());
        let bytes = self.read(at, count)?;
        header.check_origin(&self.uuid)?;
        let data = header.unpack(at, &bytes, self.sums)?;
        Ok(Record {
            data,
            next: self.wrap(at.saturating_add(count)),
            header,
        })
    }

    /// Whether the record at `at` ends at `head` and says that the filesystem was unmounted.
    fn is_unmount(&self, at: u64, head: u64) -> Result<bool> {
        let header = self.header(at)?;
        if header.operations != 1 {
            return Ok(false);
        }
        let count = header.headers.saturating_add(header.blocks());
        if self.wrap(at.saturating_add(count)) != self.wrap(head) {
            return Ok(false);
        }
        let bytes = self.read(at, count)?;
        // Whoever wrote it: there is nothing to replay, so its byte order does not matter.
        let data = header.unpack(at, &bytes, self.sums)?;
        let [flags] = array_at::<1>(&data, 9)?;
        Ok(flags & UNMOUNT != 0)
    }

    /// The last block before `end`, at most `room` blocks back around the ring, that begins a record.
    fn header_before(&self, end: u64, room: u64) -> Result<Option<u64>> {
        const STEP: u64 = 256;
        let mut back = 0_u64;
        while back < room {
            let step = STEP.min(room.saturating_sub(back));
            let back_to = back.saturating_add(step);
            let start = self.wrap(end.saturating_add(self.len).saturating_sub(back_to));
            let window = self.read(start, step)?;
            let found = window
                .chunks_exact(512)
                .rposition(|block| be_u32(block, 0).is_ok_and(|word| word == MAGIC));
            if let Some(nth) = found {
                return Ok(Some(self.wrap(start.saturating_add(wide(nth)))));
            }
            back = back_to;
        }
        Ok(None)
    }

    /// Where the cycles change: the head as far as one can tell from the blocks far apart, and the cycle that blocks
    /// behind it have which were not written yet. `None` for a log that was never written.
    fn change_of_cycle(&self) -> Result<Option<(u64, u32)>> {
        let end = self.len.checked_sub(1).ok_or_else(overflow)?;
        let (first, last) = (self.cycle(0)?, self.cycle(end)?);
        if first == 0 {
            return Ok(None);
        }
        if last == 0 && first != 1 {
            return Err(Error::corrupt("this is no log of XFS"));
        }
        if first == last {
            return Ok(Some((self.len, last.saturating_sub(1))));
        }
        let (mut new, mut old) = (0, end);
        while old.saturating_sub(new) > 1 {
            let middle = new.midpoint(old);
            if self.cycle(middle)? == last {
                old = middle;
            } else {
                new = middle;
            }
        }
        Ok(Some((old, last)))
    }

    /// The head: the block after the last record that is whole, as far as the cycles tell.
    fn head(&self, mut head: u64, stop: u32) -> Result<u64> {
        let room = IN_FLIGHT.min(self.len);
        let before = room.saturating_sub(head);
        if before > 0 && stop > 0 {
            // The end of the ring: what this cycle's predecessor should have written there.
            let start = self.len.saturating_sub(before);
            let window = self.read(start, before)?;
            if let Some(found) = first_of(&window, start, stop.saturating_sub(1)) {
                return self.whole(found);
            }
        }
        let start = head.saturating_sub(room);
        let window = self.read(start, head.saturating_sub(start))?;
        if let Some(found) = first_of(&window, start, stop) {
            head = found;
        }
        self.whole(head)
    }

    /// The head once more: where the last record begins, if it does not end at `head`.
    fn whole(&self, head: u64) -> Result<u64> {
        let room = IN_FLIGHT.min(self.len);
        let Some(at) = self.header_before(head, room)? else {
            return Err(Error::corrupt("the log has no record before its head"));
        };
        let ends = self.header(at).map(|header| {
            let count = header.headers.saturating_add(header.blocks());
            self.wrap(at.saturating_add(count)) == self.wrap(head)
        });
        Ok(if ends.unwrap_or(false) {
            self.wrap(head)
        } else {
            at
        })
    }

    /// What is to be replayed; `None` when the filesystem was unmounted.
    ///
    /// # Errors
    /// `Corrupt` for a broken log.
    pub(super) fn work(&self) -> Result<Option<Work>> {
        let Some((near, stop)) = self.change_of_cycle()? else {
            return Ok(None);
        };
        // An unmounting is written after all else is in its place: when it is whole, so is everything before it.
        if let Some(at) = self.header_before(near, NEAR.min(self.len))?
            && self.is_unmount(at, near).unwrap_or(false)
        {
            return Ok(None);
        }
        let mut head = self.head(near, stop)?;
        let last = |head: u64| -> Result<u64> {
            self.header_before(head, self.len)?
                .ok_or_else(|| Error::corrupt("the log has no records"))
        };
        let mut at = last(head)?;
        if self.is_unmount(at, head).unwrap_or(false) {
            return Ok(None);
        }
        if let Some(bad) = self.first_torn(head)? {
            head = bad;
            at = last(head)?;
            if self.is_unmount(at, head).unwrap_or(false) {
                return Ok(None);
            }
        }
        let tail = self.header(at)?.tail & 0xFFFF_FFFF;
        if tail >= self.len {
            return Err(Error::corrupt("the log's tail lies outside of it"));
        }
        Ok((tail != head).then_some(Work { tail, head }))
    }

    /// The first of the last eight records before `head` that was not written whole.
    fn first_torn(&self, head: u64) -> Result<Option<u64>> {
        let mut last = Vec::new();
        let mut end = head;
        while last.len() < MAX_BUFFERS {
            let left = self.len.saturating_sub(self.distance(end, head));
            match self.header_before(end, left)? {
                Some(at) if at != end => {
                    last.push(at);
                    end = at;
                }
                _ => break,
            }
        }
        let newest = *last.first().ok_or_else(overflow)?;
        let tail = match self.header(newest) {
            Ok(header) => header.tail & 0xFFFF_FFFF,
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(Some(newest)),
            Err(error) => return Err(error),
        };
        for at in last.iter().rev() {
            // What lies before the tail may be anything.
            if self.distance(*at, head) > self.distance(tail, head) {
                continue;
            }
            match self.record(*at) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(Some(*at)),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Hands every record of `work` to `take`, from the tail on.
    ///
    /// # Errors
    /// `Corrupt` for a record that is not whole, and those of `take`.
    pub(super) fn each(
        &self,
        work: Work,
        mut take: impl FnMut(Record) -> Result<()>,
    ) -> Result<()> {
        let mut at = work.tail;
        let mut left = self.distance(work.tail, work.head);
        while left > 0 {
            let record = self.record(at).map_err(|error| {
                error.at_offset(self.start.saturating_add(at.saturating_mul(BLOCK)))
            })?;
            let step = self.distance(at, record.next);
            left = left
                .checked_sub(step)
                .filter(|_| step > 0)
                .ok_or_else(|| Error::corrupt("a log record goes on beyond the head"))?;
            at = record.next;
            take(record)?;
        }
        Ok(())
    }

    /// When the broken record at `bad` may be what the last writes before the crash went over, the record after it.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(super) fn after_overwritten(&self, work: Work, bad: u64) -> Result<Option<u64>> {
        if self.distance(work.head, bad) > IN_FLIGHT {
            return Ok(None);
        }
        let mut at = self.wrap(bad.saturating_add(1));
        while at != work.head && self.distance(work.head, at) <= IN_FLIGHT.saturating_mul(2) {
            let block = self.read(at, 1)?;
            if slice_at(&block, 0, 4)? == MAGIC.to_be_bytes() {
                return Ok(Some(at));
            }
            at = self.wrap(at.saturating_add(1));
        }
        Ok(None)
    }
}
