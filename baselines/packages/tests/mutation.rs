//! Broken databases: whatever a status file holds, reading it ends, and what is not read is said.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic, write files and run its oracles"
)]

use dormouse_block::Locator;
use dormouse_filesystem::{Guest, MemoryTree};
use dormouse_packages::deb822::{ParagraphReader, paragraphs};
use dormouse_packages::dpkg::{Database, RelationField};
use dormouse_packages::{OsRelease, take};

const STATUS: &[u8] = b"Package: done\nStatus: install ok installed\nPriority: optional\nInstalled-Size: 12\nArchitecture: amd64\n\
    Multi-Arch: same\nSource: made (1:2.0-1)\nVersion: 1:2.0-1+b1\nDepends: libc6 (>= 2.36), a | b (<< 3), c:any\nConffiles:\n \
    /etc/done d41d8cd98f00b204e9800998ecf8427e\n /etc/gone d41d8cd98f00b204e9800998ecf8427e obsolete\nDescription: one\n two\n\n\
    Package: half\nStatus: install reinstreq half-installed\nArchitecture: amd64\nVersion: 1\nTriggers-Pending: x\n";

/// A small generator of pseudo-random numbers (xorshift), so that a failure is the same failure again.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % below.max(1)
    }

    fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        const BYTES: &[u8] = b"\n\0: \t|,()<>=~-+\xff\xc3aZ09\r#";
        let mut out = bytes.to_vec();
        for _ in 0..=self.next(4) {
            let at = self.next(out.len());
            let end = (at + self.next(40)).min(out.len());
            match self.next(5) {
                0 => out.truncate(at),
                1 => drop(out.drain(at..end)),
                2 => {
                    let part = out[at..end].to_vec();
                    let to = self.next(out.len());
                    out.splice(to..to, part);
                }
                3 if !out.is_empty() => out[at] = BYTES[self.next(BYTES.len())],
                _ => out.insert(at, BYTES[self.next(BYTES.len())]),
            }
        }
        out
    }
}

#[test]
fn no_broken_database_is_more_than_a_gap() {
    let mut random = Random(0x5eed_0003);
    let mut broken = 0;
    for _ in 0..20_000 {
        let bytes = random.mutate(STATUS);
        let database = Database::parse(&bytes);
        let found = paragraphs(&bytes).count();
        let told = database.records().len() + database.gaps.len();
        assert!(
            told >= found,
            "{found} paragraphs, {told} told of: {:?}",
            String::from_utf8_lossy(&bytes)
        );
        broken += usize::from(!database.gaps.is_empty());
        for record in database.records() {
            for field in RelationField::ALL {
                let _ = record.relations(field);
            }
            assert!(!record.name.is_empty());
        }
    }
    assert!(broken > 1000, "the mutations broke something: {broken}");
}

#[test]
fn a_stream_and_a_slice_see_the_same_paragraphs() {
    let mut random = Random(0x5eed_0004);
    for _ in 0..5_000 {
        let bytes = random.mutate(STATUS);
        let capacity = 1 + random.next(50);
        let mut reader =
            ParagraphReader::new(std::io::BufReader::with_capacity(capacity, &bytes[..]));
        for (_, want) in paragraphs(&bytes) {
            assert_eq!(
                reader
                    .next_paragraph()
                    .unwrap()
                    .map(|paragraph| paragraph.raw().to_vec()),
                Some(want.raw().to_vec())
            );
        }
        assert!(reader.next_paragraph().unwrap().is_none());
    }
}

#[test]
fn an_endless_paragraph_is_a_limit_in_a_stream() {
    let mut reader = ParagraphReader::new(std::io::BufReader::new(std::io::repeat(b'a')));
    let error = reader.next_paragraph().unwrap_err();
    assert_eq!(error.kind(), dormouse_block::ErrorKind::Limit);
}

#[test]
fn os_release_and_inventory_take_anything() {
    let mut random = Random(0x5eed_0005);
    let os = b"ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME='x'\nID_LIKE=\"a b\"\n# c\n";
    for _ in 0..2_000 {
        let os = random.mutate(os);
        let _ = OsRelease::parse(&os);
        let mut tree = MemoryTree::new();
        tree.file("/etc/os-release", &os)
            .file("/var/lib/dpkg/status", &random.mutate(STATUS));
        let inventory = take(&Guest::of(tree), &Locator::default());
        assert!(inventory.coverage.present > 0 || !inventory.coverage.complete);
        serde_json::to_string(&inventory).unwrap();
    }
}
