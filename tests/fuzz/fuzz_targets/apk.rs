//! Any bytes as apk's database and as its list of repositories.
#![no_main]

use dormouse_block::Locator;
use dormouse_filesystem::{Guest, MemoryTree};
use dormouse_packages::{apk, take};
use libfuzzer_sys::fuzz_target;

/// Bytes of the list of repositories, since each of its lines is a repository.
const MAX_LIST: usize = 1024;

fuzz_target!(|data: &[u8]| {
    for record in apk::Database::parse(data).records {
        assert!(!record.name.is_empty() && !record.version.is_empty());
        let _ = apk::is_version(&record.version);
    }
    let mut tree = MemoryTree::new();
    let list = &data[..data.len().min(MAX_LIST)];
    tree.file("/lib/apk/db/installed", data).file("/etc/apk/repositories", list).file("/etc/apk/arch", list);
    let inventory = take(&Guest::of(tree), &Locator::default());
    assert!(inventory.coverage.present > 0 || !inventory.coverage.complete);
});
