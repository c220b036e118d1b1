//! Any bytes as a saved state, packed as an image behind an odd byte: recognised, its memory read to its end, and searched for a
//! kernel and its start.
#![no_main]

use std::sync::Arc;

use dormouse_block::{Bytes, Source};
use dormouse_disk::{Piece, SavedMemory};
use dormouse_fuzz::Image;
use dormouse_packages::{KernelSearch, MemoryBatches};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    let source: Arc<dyn Source> = if kind & 1 == 1 {
        Arc::new(Image::unpack(data))
    } else {
        Arc::new(Bytes::new(data))
    };
    let Ok(Some(state)) = SavedMemory::of(source, "state.vmrs") else {
        return;
    };
    let mut batches = MemoryBatches::default();
    let mut search = KernelSearch::default();
    let read = state.read(&mut |piece| {
        if let Piece::Bytes {
            block,
            offset,
            bytes,
        } = piece
        {
            batches.take(block, *offset, bytes, &mut |batch| {
                search.note(batch.search());
                batch
            });
        }
        Ok(())
    });
    search.note(batches.finish().search());
    let found = search.finish();
    if read.is_err() {
        return;
    }
    if let Ok(kernel) = found.running {
        assert!(!kernel.why.is_empty());
    }
    if let Ok(start) = found.started {
        assert!(!start.why.is_empty());
    }
});
