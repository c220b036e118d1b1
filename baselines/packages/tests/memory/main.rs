//! What a machine's memory says of the kernel that runs in it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod batches;
mod kernels;
mod starts;

use dormouse_packages::{KernelSearch, MemoryBatches, MemoryKernels};

fn offset(len: usize) -> u64 {
    u64::try_from(len).unwrap()
}

/// A search on one thread, batch after batch.
#[derive(Default)]
struct Search {
    batches: MemoryBatches,
    search: KernelSearch,
    /// Batches that were full.
    full: usize,
}

impl Search {
    fn take(&mut self, block: &str, at: u64, bytes: &[u8]) {
        self.batches.take(block, at, bytes, &mut |batch| {
            self.search.note(batch.search());
            self.full += 1;
            batch
        });
    }

    fn finish(mut self) -> MemoryKernels {
        self.search.note(self.batches.finish().search());
        self.search.finish()
    }
}

/// What a block of memory says, taken in pieces of that size.
fn in_pieces(memory: &[u8], size: usize) -> MemoryKernels {
    let mut search = Search::default();
    for (number, piece) in memory.chunks(size).enumerate() {
        search.take("ram", offset(number * size), piece);
    }
    search.finish()
}
