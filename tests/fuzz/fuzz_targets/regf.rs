//! A registry hive, and behind it its transaction log: whatever they say, every answer is bounded and nothing panics.
#![no_main]

use std::sync::Arc;

use dormouse_block::{Bytes, Result, Source};
use dormouse_packages::windows::regf::{Hive, Key};
use libfuzzer_sys::fuzz_target;

/// Keys visited of a hive, and subkeys of each that are looked up by name, which goes over all of them.
const MAX_KEYS: usize = 500;
const MAX_LOOKUPS: usize = 4;

fn walk(key: &Key<'_>, depth: usize, left: &mut usize) -> Result<()> {
    for value in key.values()? {
        let _ = value.data();
        let _ = value.text();
    }
    if depth < 64 {
        for (nth, child) in key.subkeys()?.enumerate() {
            let child = child?;
            if nth < MAX_LOOKUPS {
                let _ = key.subkey(child.name());
            }
            let Some(fewer) = left.checked_sub(1) else {
                return Ok(());
            };
            *left = fewer;
            walk(&child, depth + 1, left)?;
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
        let _ = hive.root().and_then(|root| walk(&root, 0, &mut MAX_KEYS.clone()));
    }
});
