//! Any bytes as an rpm database of each backend, and as the log beside one.
#![no_main]

use dormouse_block::Locator;
use dormouse_filesystem::{Guest, MemoryTree};
use dormouse_packages::take;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for name in ["rpmdb.sqlite", "Packages.db", "Packages"] {
        let mut tree = MemoryTree::new();
        tree.file(&format!("/var/lib/rpm/{name}"), data);
        // The second half as a write-ahead log.
        let (first, second) = data.split_at(data.len() / 2);
        if name == "rpmdb.sqlite" {
            tree.file("/usr/lib/sysimage/rpm/rpmdb.sqlite", first)
                .file("/usr/lib/sysimage/rpm/rpmdb.sqlite-wal", second);
        }
        let inventory = take(&Guest::of(tree), &Locator::default());
        assert!(inventory.coverage.present > 0 || !inventory.coverage.complete);
    }
});
