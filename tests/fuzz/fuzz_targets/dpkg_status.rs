//! Any bytes as dpkg's status file, as os-release, and as paragraphs cut anywhere.
#![no_main]

use dormouse_block::Locator;
use dormouse_filesystem::{Guest, MemoryTree};
use dormouse_packages::deb822::{ParagraphReader, paragraphs};
use dormouse_packages::dpkg::{Database, RelationField};
use dormouse_packages::take;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let database = Database::parse(data);
    for record in database.records() {
        assert!(!record.name.is_empty());
        for field in RelationField::ALL {
            let _ = record.relations(field);
        }
    }
    let mut reader = ParagraphReader::new(std::io::BufReader::with_capacity(7, data));
    for (_, want) in paragraphs(data) {
        let got = reader.next_paragraph().expect("memory does not fail");
        assert_eq!(got.map(|paragraph| paragraph.raw().to_vec()).as_deref(), Some(want.raw()));
    }
    let mut tree = MemoryTree::new();
    tree.file("/var/lib/dpkg/status", data).file("/etc/os-release", data).file("/var/lib/dpkg/arch", data);
    let inventory = take(&Guest::of(tree), &Locator::default());
    assert!(inventory.coverage.present > 0 || !inventory.coverage.complete);
});
