//! Memory on its way into its search: pieces that follow each other are joined, so that no border cuts what is looked for.
//!
//! A batch is searched by itself, on any thread. What is looked for in it are things that begin at some of its places; where its
//! last run of bytes goes on, the next batch has the end of it once more, and looks at the places that had too little behind
//! them. So each place is looked at once, with all that its search needs around it, wherever the borders are.

use std::ops::Range;
use std::sync::Arc;

use super::offset;
use super::texts::MemoryTexts;

/// Bytes of a batch: they stay in a processor's own cache while every search runs over them.
const STEP: usize = 128 << 10;
/// Bytes needed before a place: names of driver and device, and the head of a record.
const BEFORE: usize = 128;
/// Bytes needed from a place on: a page, what stands at its beginning being looked at as a whole; texts are shorter.
const AFTER: usize = 4096;

/// Gathers memory into batches.
#[derive(Default)]
pub struct MemoryBatches {
    batch: MemoryBatch,
}

/// Memory that is searched together. No more than 128 KiB of it.
#[derive(Default)]
pub struct MemoryBatch {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    /// Whether its last run goes on in the next batch.
    goes_on: bool,
}

/// Bytes that follow each other.
#[derive(Clone)]
struct Run {
    block: Arc<str>,
    /// Where in the block they begin.
    at: u64,
    /// Where in the batch they begin.
    from: usize,
    /// How many of them an earlier batch looked at.
    seen: usize,
}

/// Places that are looked at, with what stands around them.
pub(super) struct Places<'a> {
    pub(super) block: &'a Arc<str>,
    /// Where in the block the bytes begin.
    pub(super) at: u64,
    pub(super) bytes: &'a [u8],
    /// The places, in the bytes.
    pub(super) range: Range<usize>,
}

impl Places<'_> {
    /// Where in the block a place is.
    pub(super) fn offset(&self, place: usize) -> u64 {
        self.at.saturating_add(offset(place))
    }

    /// The bytes from a place on.
    pub(super) fn from(&self, place: usize) -> &[u8] {
        self.bytes.get(place..).unwrap_or_default()
    }

    /// The first place from `place` on that is a multiple of `size` in the block.
    pub(super) fn aligned(&self, place: usize, size: u64) -> usize {
        let at = self.offset(place);
        let next = at.checked_next_multiple_of(size).unwrap_or(u64::MAX);
        let more = usize::try_from(next.saturating_sub(at)).unwrap_or(usize::MAX);
        place.saturating_add(more)
    }
}

impl MemoryBatches {
    /// Adds a piece of memory: the bytes of `block` from `at` on. Each batch that is full goes to `full`, in their order, which
    /// gives back one to be filled anew, whatever is in it.
    pub fn take(
        &mut self,
        block: &str,
        at: u64,
        bytes: &[u8],
        full: &mut dyn FnMut(MemoryBatch) -> MemoryBatch,
    ) {
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let mut follows = self.batch.is_followed_by(block, at);
            if self.batch.bytes.len() >= STEP {
                self.turn(follows, full);
                follows = self.batch.is_followed_by(block, at);
            }
            if !follows {
                self.batch.begin(block, at);
            }
            let room = STEP.saturating_sub(self.batch.bytes.len());
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.batch.bytes.extend_from_slice(now);
            at = at.saturating_add(offset(now.len()));
            rest = later;
        }
    }

    /// The last batch.
    #[must_use]
    pub fn finish(self) -> MemoryBatch {
        self.batch
    }

    /// Goes on in another batch.
    fn turn(&mut self, goes_on: bool, full: &mut dyn FnMut(MemoryBatch) -> MemoryBatch) {
        self.batch.goes_on = goes_on;
        let again = self.batch.again();
        let mut next = full(std::mem::take(&mut self.batch));
        next.bytes.clear();
        next.runs.clear();
        if let Some((run, bytes)) = again {
            next.bytes.extend(bytes);
            next.runs.push(run);
        }
        next.goes_on = false;
        self.batch = next;
    }
}

impl MemoryBatch {
    fn is_followed_by(&self, block: &str, at: u64) -> bool {
        self.runs.last().is_some_and(|run| {
            let len = self.bytes.len().saturating_sub(run.from);
            run.at.saturating_add(offset(len)) == at && *run.block == *block
        })
    }

    fn begin(&mut self, block: &str, at: u64) {
        let same = self.runs.last().filter(|run| *run.block == *block);
        self.runs.push(Run {
            block: same.map_or_else(|| Arc::from(block), |run| run.block.clone()),
            at,
            from: self.bytes.len(),
            seen: 0,
        });
    }

    /// How many of a run's bytes are looked at here, or were before, where it goes on.
    fn looked_at(run: &Run, len: usize) -> usize {
        run.seen.max(len.saturating_sub(AFTER))
    }

    /// What the next batch has once more of a run that goes on.
    fn again(&self) -> Option<(Run, Vec<u8>)> {
        let run = self.runs.last().filter(|_| self.goes_on)?;
        let bytes = self.bytes.get(run.from..)?;
        let seen = Self::looked_at(run, bytes.len());
        let kept = seen.saturating_sub(BEFORE);
        let again = Run {
            block: run.block.clone(),
            at: run.at.saturating_add(offset(kept)),
            from: 0,
            seen: seen.saturating_sub(kept),
        };
        Some((again, bytes.get(kept..)?.to_vec()))
    }

    /// Looks for what says which kernel runs and when it was started.
    #[must_use]
    pub fn search(&self) -> MemoryTexts {
        let mut found = MemoryTexts::default();
        let ends = self.runs.iter().skip(1).map(|next| next.from);
        let ends = ends.map(Some).chain([None]);
        for (run, end) in self.runs.iter().zip(ends) {
            let bytes = self.bytes.get(run.from..end.unwrap_or(self.bytes.len()));
            let bytes = bytes.unwrap_or_default();
            let until = match end {
                None if self.goes_on => Self::looked_at(run, bytes.len()),
                _ => bytes.len(),
            };
            found.look(&Places {
                block: &run.block,
                at: run.at,
                bytes,
                range: run.seen..until,
            });
        }
        found
    }
}
