//! The search of a machine's memory, beside its reading.
//!
//! Only whoever reads a state knows where its pages are, so one thread reads; other threads of the pool that have nothing to do
//! search what was read, and the reader searches too when it is too far ahead. What was found is noted in the order of reading:
//! it is the same with any number of threads.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use dormouse_block::Result;
use dormouse_disk::{Piece, RamRead, SavedMemory};
use dormouse_packages::{KernelSearch, MemoryBatch, MemoryBatches, MemoryKernels, MemoryTexts};
use rayon::Scope;

/// Batches that were read and not noted: with one that is being filled, all the memory that is held.
const AHEAD: usize = 6;
/// Threads that search beside the one that reads, which does not read faster than they search.
const SEARCHERS: usize = 3;

/// Reads all of a machine's memory, and says what it says.
pub(super) fn search(state: &SavedMemory) -> (Result<RamRead>, MemoryKernels) {
    let queue = Mutex::new(Queue::default());
    rayon::in_place_scope(|scope| {
        let mut searching = Searching {
            scope,
            queue: &queue,
            given: VecDeque::new(),
            spare: Vec::new(),
            search: KernelSearch::default(),
        };
        let mut batches = MemoryBatches::default();
        let read = state.read(&mut |piece| {
            if let Piece::Bytes {
                block,
                offset,
                bytes,
            } = piece
            {
                batches.take(block, *offset, bytes, &mut |batch| searching.give(batch));
            }
            Ok(())
        });
        searching.give(batches.finish());
        (read, searching.finish())
    })
}

/// A batch and what was found in it.
type Searched = (MemoryBatch, MemoryTexts);

/// A batch that waits to be searched.
struct Waiting {
    batch: MemoryBatch,
    done: SyncSender<Searched>,
}

impl Waiting {
    fn search(self) {
        let found = self.batch.search();
        // Nobody waits for it any more once another search panicked.
        let _ = self.done.send((self.batch, found));
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Threads that search, or were asked to.
    searchers: usize,
}

fn with<T>(queue: &Mutex<Queue>, act: impl FnOnce(&mut Queue) -> T) -> T {
    act(&mut queue.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Searches whatever waits.
fn search_waiting(queue: &Mutex<Queue>) {
    let next = |queue: &mut Queue| {
        let next = queue.waiting.pop_front();
        if next.is_none() {
            queue.searchers = queue.searchers.saturating_sub(1);
        }
        next
    };
    while let Some(next) = with(queue, next) {
        next.search();
    }
}

/// The reader's side.
struct Searching<'s, 'scope> {
    scope: &'s Scope<'scope>,
    queue: &'scope Mutex<Queue>,
    /// Where each batch that was given away comes back, in their order.
    given: VecDeque<Receiver<Searched>>,
    spare: Vec<MemoryBatch>,
    search: KernelSearch,
}

impl Searching<'_, '_> {
    /// Has a batch searched, and gives one to be filled.
    fn give(&mut self, batch: MemoryBatch) -> MemoryBatch {
        let (done, back) = sync_channel(1);
        self.given.push_back(back);
        let wants_searcher = with(self.queue, |queue| {
            queue.waiting.push_back(Waiting { batch, done });
            let wants = queue.searchers < SEARCHERS;
            queue.searchers = queue.searchers.saturating_add(usize::from(wants));
            wants
        });
        if wants_searcher {
            let queue = self.queue;
            self.scope.spawn(move |_| search_waiting(queue));
        }
        while let Some(searched) = self.given.front().and_then(|back| back.try_recv().ok()) {
            self.note(searched);
        }
        while self.given.len() > AHEAD {
            self.wait();
        }
        self.spare.pop().unwrap_or_default()
    }

    /// Notes the batch that was given away first; searches until it is there.
    fn wait(&mut self) {
        let Some(back) = self.given.front() else {
            return;
        };
        if let Ok(searched) = back.try_recv() {
            self.note(searched);
        } else if let Some(next) = with(self.queue, |queue| queue.waiting.pop_front()) {
            next.search();
        } else if let Ok(searched) = back.recv() {
            self.note(searched);
        } else {
            // Its search panicked, which the scope hands on.
            self.given.pop_front();
        }
    }

    fn note(&mut self, (batch, found): Searched) {
        self.given.pop_front();
        self.search.note(found);
        self.spare.push(batch);
    }

    fn finish(mut self) -> MemoryKernels {
        while !self.given.is_empty() {
            self.wait();
        }
        self.search.finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use std::sync::Arc;

    use dormouse_block::{Bytes, ErrorKind};

    use super::*;

    const PAGES: u64 = 3000;

    /// A stream of QEMU: pages of one block, some left out, some sent again, with banners in and over them.
    fn stream() -> Vec<u8> {
        let size = PAGES * 4096;
        let text = b"\0Linux version 6.1.0-9-amd64 (a@b) #1 SMP Debian\n\0";
        let mut memory = vec![b'.'; usize::try_from(size).unwrap()];
        for at in (4000..memory.len() - 100).step_by(99_991) {
            memory[at..at + text.len()].copy_from_slice(text);
        }
        let mut bytes = b"QEVM\0\0\0\x03\x01\0\0\0\x07\x03ram".to_vec();
        bytes.extend([0_u32.to_be_bytes(), 4_u32.to_be_bytes()].concat());
        bytes.extend((size | 4).to_be_bytes());
        bytes.extend(b"\x01r");
        bytes.extend([size.to_be_bytes(), 0x10_u64.to_be_bytes()].concat());
        bytes.extend([3, 0, 0, 0, 7]);
        let pages = (0..PAGES).filter(|page| page % 701 != 700);
        for page in pages.chain(20..60) {
            bytes.extend(((page * 4096) | 8).to_be_bytes());
            bytes.extend(b"\x01r");
            let at = usize::try_from(page * 4096).unwrap();
            bytes.extend(&memory[at..at + 4096]);
        }
        bytes.extend(0x10_u64.to_be_bytes());
        bytes
    }

    fn state(bytes: Vec<u8>) -> SavedMemory {
        let state = SavedMemory::of(Arc::new(Bytes::new(bytes)), "");
        state.unwrap().unwrap()
    }

    fn in_pool(threads: usize, state: &SavedMemory) -> (Result<RamRead>, MemoryKernels) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| search(state))
    }

    #[test]
    fn any_number_of_threads_finds_the_same() {
        let state = state(stream());
        // Batch after batch.
        let (mut batches, mut one) = (MemoryBatches::default(), KernelSearch::default());
        let read = state.read(&mut |piece| {
            if let Piece::Bytes {
                block,
                offset,
                bytes,
            } = piece
            {
                batches.take(block, *offset, bytes, &mut |batch| {
                    one.note(batch.search());
                    batch
                });
            }
            Ok(())
        });
        one.note(batches.finish().search());
        let (read, one) = (read.unwrap(), one.finish());
        assert!(one.running.is_ok(), "{one:?}");
        assert!(one.candidates[0].places > 100, "{one:?}");
        for threads in [1, 2, 3, 8] {
            for _ in 0..10 {
                let (beside, found) = in_pool(threads, &state);
                assert_eq!((beside.unwrap(), found), (read.clone(), one.clone()));
            }
        }
        assert_eq!(search(&state).1, one);
        // Several at once in a pool that is too small for them.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2);
        let found = pool.build().unwrap().install(|| {
            let (a, b) = rayon::join(|| search(&state), || search(&state));
            [a.1, b.1]
        });
        assert_eq!(found, [one.clone(), one]);
    }

    #[test]
    fn what_was_read_of_a_state_that_is_cut_off_is_searched() {
        let mut bytes = stream();
        bytes.truncate(bytes.len() / 2);
        let state = state(bytes);
        for threads in [1, 3] {
            let (read, found) = in_pool(threads, &state);
            assert_eq!(read.unwrap_err().kind(), ErrorKind::Corrupt);
            assert!(found.candidates[0].places > 50, "{found:?}");
        }
    }
}
