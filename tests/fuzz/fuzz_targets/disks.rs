//! Any packed bytes as an image of each format that is read, but qcow2, which has a target of its own: the first byte chooses.
#![no_main]

use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;

use dormouse_block::Source;
use dormouse_disk::{ACTIVE, DenyAll, FORMATS, OpenOptions, open};
use dormouse_fuzz::Image;
use libfuzzer_sys::fuzz_target;

/// Reads some of `source` and walks its map; what it answers must lie within it.
fn exercise(source: &dyn Source) {
    let len = source.len();
    let mut buf = vec![0; 150_000];
    for place in [0, len / 3, len / 2, len.saturating_sub(150_000)] {
        let left = usize::try_from(len.saturating_sub(place)).unwrap_or(usize::MAX);
        let part = left.min(buf.len());
        let _ = source.read_exact_at(place, &mut buf[..part]);
    }
    let mut at = 0;
    for _ in 0..64 {
        match source.next_data(at) {
            Ok(Some(range)) => {
                assert!(range.start >= at && range.start < range.end && range.end <= len);
                at = range.end;
            }
            Ok(None) | Err(_) => break,
        }
    }
    assert!(source.read_exact_at(len, &mut [0]).is_err());
}

thread_local! {
    static FILE: OnceCell<PathBuf> = const { OnceCell::new() };
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    FILE.with(|file| {
        let path = file.get_or_init(|| {
            // Memory, where there is such a folder: the target writes a file for each run.
            let shared = PathBuf::from("/dev/shm");
            let folder = if shared.is_dir() { shared } else { std::env::temp_dir() };
            folder.join(format!("dormouse-fuzz-{}.disk", std::process::id()))
        });
        Image::unpack(data).write(path).expect("the host can write a temporary file");
        let format = FORMATS[usize::from(*choice) % FORMATS.len()].name();
        if let Ok(image) = open(path, &OpenOptions::new(Arc::new(DenyAll)).format(format)) {
            if let Ok(disk) = image.open_point(ACTIVE) {
                exercise(&*disk);
            }
        }
    });
});
