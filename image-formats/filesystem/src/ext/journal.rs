//! The journal (JBD2), read: which blocks of it stand in for which blocks of the filesystem.
//!
//! Nothing is copied: the journal's own copies are remembered by their place. The rules are those of the kernel's
//! `fs/jbd2/recovery.c`: a transaction counts when its commit block is sound; revoked blocks are left out. All
//! integers are big-endian.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use dormouse_block::{Error, Result, Source, be_u16, be_u32, be_u64, read_vec_at, slice_at};

use super::superblock::Superblock;
use super::{checksum, index, overflow};

/// The magic number of all the journal's own blocks.
pub const MAGIC: u32 = 0xC03B_3998;
/// Blocks of the filesystem that a journal may stand in for: with blocks of 4 KiB a journal of 4 GiB, four times the
/// largest that mke2fs makes.
const MAX_REPLAYED: usize = 1 << 20;
/// Revoked blocks that are remembered.
const MAX_REVOKED: usize = 1 << 20;
/// Blocks of a journal; jbd2 counts them in 32 bits, mke2fs makes at most 10,240,000.
const MAX_BLOCKS: u32 = 1 << 24;
/// Blocks of the log itself (not of what it carries) that are read.
const MAX_OWN_BLOCKS: u32 = 1 << 19;
/// Blocks kept for fast commits when the journal does not say (kernel: `JBD2_DEFAULT_FAST_COMMIT_BLOCKS`).
const DEFAULT_FAST_BLOCKS: u32 = 256;

const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const SUPERBLOCK_V1: u32 = 3;
const SUPERBLOCK_V2: u32 = 4;
const REVOKE: u32 = 5;

const COMPAT_CHECKSUM: u32 = 1;
const INCOMPAT_64BIT: u32 = 2;
const INCOMPAT_ASYNC: u32 = 4;
const INCOMPAT_CSUM_V2: u32 = 8;
const INCOMPAT_CSUM_V3: u32 = 0x10;
const INCOMPAT_FAST: u32 = 0x20;
const INCOMPAT_KNOWN: u32 = 0x3F;

const TAG_ESCAPED: u32 = 1;
const TAG_SAME_UUID: u32 = 2;
const TAG_LAST: u32 = 8;

/// A copy in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    /// The filesystem block where the copy is.
    pub block: u64,
    /// Whether the copy lacks the journal's magic number with which the real block begins.
    pub escaped: bool,
}

/// What a journal lays over the filesystem.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replay {
    /// The last copy of each filesystem block.
    pub blocks: BTreeMap<u64, Copy>,
    /// The number that the next transaction gets.
    pub next_sequence: u32,
    /// The filesystem block of the journal's own superblock; 0 when there is no journal.
    pub superblock: u64,
}

/// Consecutive blocks of the journal in consecutive blocks of the filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first block of the journal.
    pub logical: u32,
    /// How many.
    pub len: u32,
    /// The first block of the filesystem.
    pub physical: u64,
}

/// Puts the journal's magic number back to the start of a block of which `buf` is the part from `within` on.
pub fn unescape(within: usize, buf: &mut [u8]) {
    let magic = MAGIC.to_be_bytes();
    for (to, from) in buf.iter_mut().zip(magic.iter().skip(within)) {
        *to = *from;
    }
}

struct Log<'a> {
    source: &'a Arc<dyn Source>,
    sb: &'a Superblock,
    runs: &'a [Run],
    first: u32,
    /// One past the last block of the log proper.
    end: u32,
    incompat: u32,
    v1_checksums: bool,
    seed: u32,
    uuid: [u8; 16],
    budget: u64,
}

/// A block of the log that carries tags or revocations, or a data block between them.
enum Event<'b> {
    Tag { tag: Tag, copy: u64, sequence: u32 },
    Revoke { bytes: &'b [u8], sequence: u32 },
}

#[derive(Debug, Clone, Copy)]
struct Tag {
    block: u64,
    flags: u32,
    sum: u32,
}

/// Reads the journal in `runs` of a filesystem that was left with work in it.
///
/// # Errors
/// `Corrupt` for a broken journal, as the kernel would refuse the mount; `Unsupported` for features that are not
/// known and for fast commits; `Limit` for one that is too large.
pub fn replay(source: &Arc<dyn Source>, sb: &Superblock, runs: &[Run]) -> Result<Replay> {
    let place = |logical| locate(runs, logical);
    let head = place(0)?;
    let bytes = read_block(source, sb, head)?;
    let version = be_u32(&bytes, 4)?;
    if be_u32(&bytes, 0)? != MAGIC || !matches!(version, SUPERBLOCK_V1 | SUPERBLOCK_V2) {
        return Err(Error::corrupt("the journal has no superblock"));
    }
    if be_u32(&bytes, 12)? != sb.block_size() {
        return Err(Error::corrupt("the journal has blocks of another size"));
    }
    let (compat, incompat) = match version {
        SUPERBLOCK_V2 => (be_u32(&bytes, 36)?, be_u32(&bytes, 40)?),
        _ => (0, 0),
    };
    if incompat & !INCOMPAT_KNOWN != 0 {
        return Err(Error::unsupported(format!(
            "a journal with the incompatible features {:#x}",
            incompat & !INCOMPAT_KNOWN
        )));
    }
    let checksums = incompat & (INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3) != 0;
    if checksums {
        if slice_at(&bytes, 80, 1)? != [4] {
            return Err(Error::unsupported(
                "a journal with checksums other than crc32c",
            ));
        }
        if superblock_checksum(&bytes)? != be_u32(&bytes, 252)? {
            return Err(Error::corrupt("bad checksum of the journal's superblock"));
        }
    }
    let max = be_u32(&bytes, 16)?;
    let start = be_u32(&bytes, 28)?;
    let mut out = Replay {
        blocks: BTreeMap::new(),
        next_sequence: be_u32(&bytes, 24)?,
        superblock: head,
    };
    if start == 0 {
        return Ok(out);
    }
    if max > MAX_BLOCKS {
        return Err(Error::limit(format!("a journal of {max} blocks")));
    }
    let first = be_u32(&bytes, 20)?;
    let fast = if incompat & INCOMPAT_FAST != 0 {
        match be_u32(&bytes, 84)? {
            0 => DEFAULT_FAST_BLOCKS,
            n => n,
        }
    } else {
        0
    };
    let end = max.saturating_sub(fast);
    if first == 0
        || first >= end
        || start < first
        || start >= end
        || place(max.saturating_sub(1)).is_err()
    {
        return Err(Error::corrupt(
            "the journal's superblock contradicts itself",
        ));
    }
    let uuid: [u8; 16] = dormouse_block::array_at(&bytes, 48)?;
    let log = Log {
        source,
        sb,
        runs,
        first,
        end,
        incompat,
        v1_checksums: compat & COMPAT_CHECKSUM != 0 && !checksums,
        seed: checksum::crc32c(!0, &uuid),
        uuid,
        budget: u64::from(end.saturating_sub(first)),
    };
    let begin = out.next_sequence;
    let stop = log.scan(start, begin)?;
    let mut revoked: HashMap<u64, u32> = HashMap::new();
    log.walk(start, begin, stop, &mut |event| {
        log.revocations(&event, &mut revoked)
    })?;
    log.walk(start, begin, stop, &mut |event| {
        let Event::Tag {
            tag,
            copy,
            sequence,
        } = event
        else {
            return Ok(());
        };
        if revoked
            .get(&tag.block)
            .is_some_and(|&by| not_before(by, sequence))
        {
            return Ok(());
        }
        log.check_copy(tag, copy, sequence)?;
        sb.check_blocks(tag.block, 1).or_else(|error| {
            // The block of the superblock itself may be written as well.
            if tag.block <= u64::from(sb.first_data_block) {
                Ok(())
            } else {
                Err(error)
            }
        })?;
        if out.blocks.len() >= MAX_REPLAYED {
            return Err(Error::limit(
                "a journal with more than 2^20 blocks to replay",
            ));
        }
        let escaped = tag.flags & TAG_ESCAPED != 0;
        out.blocks.insert(
            tag.block,
            Copy {
                block: copy,
                escaped,
            },
        );
        Ok(())
    })?;
    out.next_sequence = stop;
    if fast > 0 {
        // One block between the log and the area is not used (kernel: j_fc_first is j_last + 1).
        log.refuse_fast_commits(end.saturating_add(1), stop)?;
    }
    Ok(out)
}

/// The checksum that the journal's superblock should have.
///
/// # Errors
/// `Corrupt` for a block that is too short.
pub fn superblock_checksum(bytes: &[u8]) -> Result<u32> {
    let sum = checksum::crc32c(!0, slice_at(bytes, 0, 252)?);
    let sum = checksum::crc32c(sum, &[0; 4]);
    Ok(checksum::crc32c(sum, slice_at(bytes, 256, 768)?))
}

/// Whether the journal's superblock has a checksum.
///
/// # Errors
/// `Corrupt` for a block that is too short.
pub fn superblock_has_checksum(bytes: &[u8]) -> Result<bool> {
    let checksums = be_u32(bytes, 40)? & (INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3) != 0;
    Ok(be_u32(bytes, 4)? == SUPERBLOCK_V2 && checksums)
}

/// Whether transaction `a` is `b` or later; the numbers wrap around.
fn not_before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) < 0x8000_0000
}

fn locate(runs: &[Run], logical: u32) -> Result<u64> {
    let nth = runs.partition_point(|run| run.logical <= logical);
    nth.checked_sub(1)
        .and_then(|nth| runs.get(nth))
        .and_then(|run| {
            let within = logical.checked_sub(run.logical)?;
            (within < run.len).then(|| run.physical.saturating_add(u64::from(within)))
        })
        .ok_or_else(|| Error::corrupt("the journal has a hole"))
}

fn read_block(source: &Arc<dyn Source>, sb: &Superblock, block: u64) -> Result<Vec<u8>> {
    let offset = block
        .checked_mul(u64::from(sb.block_size()))
        .ok_or_else(overflow)?;
    read_vec_at(source.as_ref(), offset, sb.block_len())
}

impl Log<'_> {
    fn next(&self, logical: u32) -> u32 {
        let next = logical.saturating_add(1);
        if next >= self.end { self.first } else { next }
    }

    fn read(&self, logical: u32) -> Result<Vec<u8>> {
        read_block(self.source, self.sb, locate(self.runs, logical)?)
    }

    fn has(&self, feature: u32) -> bool {
        self.incompat & feature != 0
    }

    fn checksums(&self) -> bool {
        self.has(INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3)
    }

    /// Whether the checksum in the last four bytes of a descriptor or revocation block is right.
    fn tail_is_sound(&self, bytes: &[u8]) -> Result<bool> {
        if !self.checksums() {
            return Ok(true);
        }
        let at = bytes.len().saturating_sub(4);
        let sum = checksum::crc32c(self.seed, slice_at(bytes, 0, at)?);
        Ok(checksum::crc32c(sum, &[0; 4]) == be_u32(bytes, at)?)
    }

    fn tags(&self, bytes: &[u8]) -> Result<Vec<Tag>> {
        let size = if self.has(INCOMPAT_CSUM_V3) {
            16
        } else {
            let sum = if self.has(INCOMPAT_CSUM_V2) { 2 } else { 0 };
            let high = if self.has(INCOMPAT_64BIT) { 4 } else { 0 };
            8_usize.saturating_add(sum).saturating_add(high)
        };
        let tail = if self.checksums() { 4 } else { 0 };
        let end = bytes.len().saturating_sub(tail);
        let mut out = Vec::new();
        let mut at = 12_usize;
        while at.saturating_add(size) <= end {
            let low = u64::from(be_u32(bytes, at)?);
            let (flags, high, sum) = if self.has(INCOMPAT_CSUM_V3) {
                let high = be_u32(bytes, at.saturating_add(8))?;
                (
                    be_u32(bytes, at.saturating_add(4))?,
                    high,
                    be_u32(bytes, at.saturating_add(12))?,
                )
            } else {
                let flags = u32::from(be_u16(bytes, at.saturating_add(6))?);
                let high = if self.has(INCOMPAT_64BIT) {
                    be_u32(bytes, at.saturating_add(8))?
                } else {
                    0
                };
                (flags, high, u32::from(be_u16(bytes, at.saturating_add(4))?))
            };
            let high = if self.has(INCOMPAT_64BIT) {
                u64::from(high) << 32
            } else {
                0
            };
            out.push(Tag {
                block: low | high,
                flags,
                sum,
            });
            at = at.saturating_add(size);
            if flags & TAG_SAME_UUID == 0 {
                at = at.saturating_add(self.uuid.len());
            }
            if flags & TAG_LAST != 0 {
                break;
            }
        }
        Ok(out)
    }

    /// The number of the first transaction that is not complete.
    fn scan(&self, start: u32, begin: u32) -> Result<u32> {
        let mut at = start;
        let mut sequence = begin;
        let mut left = self.budget;
        let mut crc = !0_u32;
        let mut last_time = 0_u64;
        let mut suspect = false;
        let mut own = 0_u32;
        while left > 0 {
            own = own.saturating_add(1);
            if own > MAX_OWN_BLOCKS {
                return Err(Error::limit(
                    "a journal with more than 2^19 blocks of its own",
                ));
            }
            let bytes = self.read(at)?;
            if be_u32(&bytes, 0)? != MAGIC || be_u32(&bytes, 8)? != sequence {
                break;
            }
            at = self.next(at);
            left = left.saturating_sub(1);
            match be_u32(&bytes, 4)? {
                DESCRIPTOR => {
                    suspect |= !self.tail_is_sound(&bytes)?;
                    let tags = self.tags(&bytes)?;
                    if self.v1_checksums {
                        crc = checksum::crc32_be(crc, &bytes);
                    }
                    for _ in tags {
                        left = left.saturating_sub(1);
                        if self.v1_checksums && left > 0 {
                            crc = checksum::crc32_be(crc, &self.read(at)?);
                        }
                        at = self.next(at);
                    }
                }
                REVOKE => suspect |= !self.tail_is_sound(&bytes)?,
                COMMIT => {
                    let time = be_u64(&bytes, 48)?;
                    let sound = self.commit_is_sound(&bytes, crc)?;
                    if !sound || suspect {
                        // Left over from an earlier round of the log, not of this one.
                        if time < last_time {
                            break;
                        }
                        if self.has(INCOMPAT_ASYNC) && !suspect {
                            break;
                        }
                        return Err(Error::corrupt(format!(
                            "bad checksum in transaction {sequence} of the journal"
                        )));
                    }
                    last_time = time;
                    crc = !0;
                    sequence = sequence.wrapping_add(1);
                }
                _ => break,
            }
        }
        Ok(sequence)
    }

    fn commit_is_sound(&self, bytes: &[u8], crc: u32) -> Result<bool> {
        let found = be_u32(bytes, 16)?;
        if self.checksums() {
            let sum = checksum::crc32c(self.seed, slice_at(bytes, 0, 16)?);
            let sum = checksum::crc32c(sum, &[0; 4]);
            let sum = checksum::crc32c(sum, bytes.get(20..).unwrap_or_default());
            return Ok(sum == found);
        }
        if !self.v1_checksums {
            return Ok(true);
        }
        let kind = slice_at(bytes, 12, 2)?;
        Ok((kind == [1, 4] && found == crc) || (kind == [0, 0] && found == 0))
    }

    /// Hands every tag and revocation of the transactions from `begin` up to `stop` to `take`.
    fn walk(
        &self,
        start: u32,
        begin: u32,
        stop: u32,
        take: &mut dyn FnMut(Event<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut at = start;
        let mut sequence = begin;
        let mut left = self.budget;
        while sequence != stop && left > 0 {
            let bytes = self.read(at)?;
            at = self.next(at);
            left = left.saturating_sub(1);
            match be_u32(&bytes, 4)? {
                DESCRIPTOR => {
                    for tag in self.tags(&bytes)? {
                        left = left.saturating_sub(1);
                        let copy = locate(self.runs, at)?;
                        take(Event::Tag {
                            tag,
                            copy,
                            sequence,
                        })?;
                        at = self.next(at);
                    }
                }
                REVOKE => take(Event::Revoke {
                    bytes: &bytes,
                    sequence,
                })?,
                COMMIT => sequence = sequence.wrapping_add(1),
                _ => break,
            }
        }
        Ok(())
    }

    fn revocations(&self, event: &Event<'_>, revoked: &mut HashMap<u64, u32>) -> Result<()> {
        let Event::Revoke { bytes, sequence } = event else {
            return Ok(());
        };
        let room = bytes
            .len()
            .saturating_sub(if self.checksums() { 4 } else { 0 });
        let end = index(be_u32(bytes, 12)?);
        if end > room {
            return Err(Error::corrupt("a broken revocation block in the journal"));
        }
        let size = if self.has(INCOMPAT_64BIT) { 8 } else { 4 };
        let records = bytes.get(16..end).unwrap_or_default();
        for record in records.chunks_exact(size) {
            let block = if size == 8 {
                be_u64(record, 0)?
            } else {
                u64::from(be_u32(record, 0)?)
            };
            let last = revoked.entry(block).or_insert(*sequence);
            if not_before(*sequence, *last) {
                *last = *sequence;
            }
        }
        if revoked.len() > MAX_REVOKED {
            return Err(Error::limit("a journal with more than 2^20 revoked blocks"));
        }
        Ok(())
    }

    fn check_copy(&self, tag: Tag, copy: u64, sequence: u32) -> Result<()> {
        if !self.checksums() {
            return Ok(());
        }
        let bytes = read_block(self.source, self.sb, copy)?;
        let sum = checksum::crc32c(self.seed, &sequence.to_be_bytes());
        let sum = checksum::crc32c(sum, &bytes);
        let wanted = if self.has(INCOMPAT_CSUM_V3) {
            sum
        } else {
            sum & 0xFFFF
        };
        if wanted == tag.sum {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "bad checksum of a block in transaction {sequence} of the journal"
        )))
    }

    /// Fast commits follow the last transaction in their own area, in a format of their own that is not read yet.
    fn refuse_fast_commits(&self, area: u32, sequence: u32) -> Result<()> {
        const HEAD: u16 = 9;
        let bytes = self.read(area)?;
        // Tag and length of 16 bits, then features and the transaction; little-endian, unlike all else here.
        let tag = dormouse_block::le_u16(&bytes, 0)?;
        let transaction = dormouse_block::le_u32(&bytes, 8)?;
        if tag == HEAD && transaction == sequence {
            return Err(Error::unsupported("fast commits that are not yet replayed"));
        }
        Ok(())
    }
}
