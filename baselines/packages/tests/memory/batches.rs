//! Borders of batches and pieces, which change nothing.

use dormouse_packages::MemoryKernels;

use crate::kernels::{OTHER, TEXT};
use crate::starts::{START, clock, ring};
use crate::{Search, in_pieces, offset};

/// Bytes of a batch.
const BATCH: usize = 128 << 10;

fn put(memory: &mut [u8], at: usize, bytes: &[u8]) {
    memory[at..at + bytes.len()].copy_from_slice(bytes);
}

fn places(found: &MemoryKernels) -> Vec<(String, u64, u64)> {
    let candidates = found.candidates.iter();
    candidates
        .map(|one| (format!("{:?}", one.text), one.places, one.first.1))
        .collect()
}

#[test]
fn what_lies_over_the_border_of_a_batch_is_found_once_at_its_place() {
    // A batch begins with what the one before could not look at, so borders are everywhere in front of its size.
    for at in (BATCH - 4800..BATCH + 600)
        .step_by(24)
        .chain([3 * BATCH - 9000])
    {
        let mut memory = vec![0xff; 4 * BATCH];
        put(&mut memory, at, &ring(START));
        put(&mut memory, at + 160, &clock(START, 40, 0));
        put(&mut memory, at + 301, format!("\0{TEXT}\n\0").as_bytes());
        let found = in_pieces(&memory, 4096);
        assert_eq!(
            places(&found),
            [("Banner".to_owned(), 1, offset(at + 302))],
            "{at}"
        );
        // A second banner lets the start be said.
        put(
            &mut memory,
            4 * BATCH - 200,
            format!("\0{TEXT}\n\0").as_bytes(),
        );
        assert_eq!(
            in_pieces(&memory, 4096).started.unwrap().why,
            [
                "the record of its log, in one place",
                "its kernel's clock, in one place"
            ],
            "{at}"
        );
    }
}

#[test]
fn pages_over_the_border_of_a_batch_are_looked_at_whole() {
    for page in BATCH / 4096 - 4..BATCH / 4096 + 4 {
        let mut memory = vec![0; 2 * BATCH];
        put(&mut memory, page * 4096, b"OSRELEASE=6.1.0-9-amd64\n");
        // Far behind, and of the same page.
        put(&mut memory, page * 4096 + 4000, b"BUILD-ID=eb4fbcd0\n");
        memory[page * 4096 + 24..page * 4096 + 4000].fill(b'\n');
        put(&mut memory, 100, format!("{TEXT}\n").as_bytes());
        let whole = in_pieces(&memory, memory.len());
        let running = whole.running.clone().unwrap();
        assert_eq!(running.build_id.as_deref(), Some("eb4fbcd0"), "{page}");
        for size in [1000, 4096, 5000, BATCH - 1, BATCH + 1] {
            assert_eq!(in_pieces(&memory, size), whole, "{page}, pieces of {size}");
        }
    }
}

#[test]
fn no_size_of_pieces_changes_what_is_found() {
    let mut memory = vec![0; 5 * BATCH];
    // Texts of every kind, at distances that are multiples of nothing.
    for (nth, at) in (50..memory.len() - 4096).step_by(3571).enumerate() {
        let text = match nth % 5 {
            0 => format!("{TEXT}\n\0").into_bytes(),
            1 => format!("{TEXT}8)\n\0").into_bytes(),
            2 => format!("[    0.0] {OTHER}\n").into_bytes(),
            3 => ring(START),
            _ => clock(START, 40, 0),
        };
        put(&mut memory, at.next_multiple_of(8), &text);
    }
    let whole = in_pieces(&memory, memory.len());
    assert!(whole.running.is_ok() && whole.started.is_ok(), "{whole:?}");
    assert_eq!(whole.candidates.len(), 3);
    for size in [61, 4096, 65_536, BATCH - 8, BATCH, BATCH + 8, 200_003] {
        assert_eq!(in_pieces(&memory, size), whole, "pieces of {size}");
    }
}

#[test]
fn runs_that_end_in_a_batch_end_there() {
    let banner = format!("{TEXT}\n\0");
    let (one, two) = banner.as_bytes().split_at(40);
    // What begins a block stands behind nothing of another one, in a batch or over its border.
    for filled in [0, BATCH - 40, BATCH - 39, BATCH] {
        let mut search = Search::default();
        search.take("a", 0, &vec![b'x'; filled]);
        search.take("a", offset(filled), one);
        search.take("b", offset(filled + 40), two);
        search.take("c", 0, banner.as_bytes());
        let found = search.finish();
        assert_eq!(places(&found), [("Banner".to_owned(), 1, 0)], "{filled}");
        assert_eq!(found.candidates[0].first.0, "c");
    }
}

#[test]
fn memory_is_searched_as_it_comes() {
    let mut search = Search::default();
    for nth in 0..1000 {
        // Pages alone, and pages in a row.
        search.take("ram", nth * 8192, &[1; 4096]);
        search.take("row", nth * 4096, &[1; 4096]);
    }
    assert!(search.full >= 2000 * 4096 / BATCH, "{}", search.full);
}

#[test]
fn memory_full_of_kernels_is_a_gap_with_so_many_candidates() {
    let banner = |nth: usize| format!("Linux version 6.1.{nth} (a@b) #1 SMP\n\0");
    let note = |nth: usize| format!("OSRELEASE=6.1.{nth}\nBUILD-ID={nth:08x}\n\0");
    for of_notes in [false, true] {
        let mut memory = vec![0; 3 << 20];
        for nth in 0..memory.len() / 4096 {
            let text = if of_notes { note(nth) } else { banner(nth) };
            put(&mut memory, nth * 4096, text.as_bytes());
        }
        let whole = in_pieces(&memory, memory.len());
        assert_eq!(whole.candidates.len(), 256);
        let why = whole.running.clone().unwrap_err();
        assert!(why.contains("more than 256 different texts"), "{why}");
        for size in [4096, 99_991] {
            assert_eq!(in_pieces(&memory, size), whole, "pieces of {size}");
        }
    }
    // The beginnings of banners, of which none goes on as one: a gap past 2^20 of them.
    let memory = "Linux version ".repeat((1 << 20) + 1).into_bytes();
    let why = in_pieces(&memory, 1 << 20).running.unwrap_err();
    assert!(why.contains("1048576 in all"), "{why}");
    let why = in_pieces(&memory[14..], 1 << 20).running.unwrap_err();
    assert!(why.contains("no text"), "{why}");
}
