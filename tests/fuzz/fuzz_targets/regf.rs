//! A registry hive, and behind it its transaction log: whatever they say, every answer is bounded and nothing panics.
#![no_main]

use std::sync::Arc;

use dormouse_block::{Bytes, Result, Source};
use dormouse_packages::windows::regf::{Hive, Key};
use libfuzzer_sys::fuzz_target;

fn walk(key: &Key<'_>, depth: usize) -> Result<()> {
    for value in key.values()? {
        let _ = value.data();
        let _ = value.text();
    }
    if depth < 64 {
        for child in key.subkeys()? {
            let child = child?;
            let _ = key.subkey(child.name());
            walk(&child, depth + 1)?;
        }
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    // The first two bytes say how many pages the hive has.
    let Some((pages, rest)) = bytes.split_at_checked(2) else {
        return;
    };
    let pages = usize::from(u16::from_le_bytes([pages[0], pages[1]]));
    let (hive, log) = rest.split_at((pages * 512).min(rest.len()));
    let log: Arc<dyn Source> = Arc::new(Bytes::new(log));
    if let Ok(hive) = Hive::open(Arc::new(Bytes::new(hive)), &[log]) {
        let _ = hive.root().and_then(|root| walk(&root, 0));
    }
});
