//! Broken databases of every kind: reading them ends, and what is not read is said.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use dormouse_filesystem::MemoryTree;
use dormouse_packages::{Inventory, rpm};

use crate::{Random, fixture, inventory, read, run, unwrapped};

/// A database: where it is, its bytes, and how many packages it has.
struct Sample {
    path: &'static str,
    bytes: Vec<u8>,
    present: usize,
}

/// Small databases, so that many mutations are quick.
fn samples() -> &'static [Sample] {
    static SAMPLES: OnceLock<Vec<Sample>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("rpmdb.sqlite");
        std::fs::write(&database, unwrapped("pkgdb/rpm/fedora-44/rpmdb.sqlite.zst")).unwrap();
        let script = "pragma journal_mode=delete; delete from Packages where length(blob) > 9000 or hnum % 3 = 0; \
            drop table Basenames; drop table Dirnames; drop table Requirename; drop table Providename; pragma page_size=1024; vacuum;";
        run(std::process::Command::new("sqlite3").arg(&database).arg(script));
        let mut samples = vec![
            ("/var/lib/rpm/rpmdb.sqlite", read(&database)),
            ("/var/lib/rpm/Packages.db", ndb()),
            ("/var/lib/rpm/Packages", unwrapped("pkgdb/rpm/libuuid-bdb/Packages.zst")),
            ("/usr/lib/apk/db/installed", read(fixture("pkgdb/apk/apko-usr-lib-installed"))),
            ("/var/lib/pacman/local/gmp-6.2.1-2/desc", read(fixture("pkgdb/pacman/syft/gmp-6.2.1-2/desc"))),
        ];
        samples
            .drain(..)
            .map(|(path, bytes)| {
                let inventory = of(path, &bytes);
                assert!(inventory.coverage.complete, "{path}: {:?}", inventory.gaps);
                assert!(bytes.len() < 400_000, "{path}: {}", bytes.len());
                let present = inventory.coverage.present;
                Sample { path, bytes, present }
            })
            .collect()
    })
}

/// SUSE's database, cut down to the packages with the smallest headers, in one page of slots.
fn ndb() -> Vec<u8> {
    let whole = unwrapped("pkgdb/rpm/sle15-bci-ndb/Packages.db.zst");
    let word = |bytes: &[u8], at: usize| {
        usize::try_from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap()
    };
    let mut out = whole[..4096].to_vec();
    for slot in (32..4096).step_by(16) {
        let (package, start, count) = (
            word(&out, slot + 4),
            word(&out, slot + 8),
            word(&out, slot + 12),
        );
        if package == 0 {
            continue;
        }
        if count * 16 > 12_000 {
            out[slot + 4..slot + 16].fill(0);
            continue;
        }
        let at = u32::try_from(out.len() / 16).unwrap();
        out.extend_from_slice(&whole[start * 16..(start + count) * 16]);
        out[slot + 8..slot + 12].copy_from_slice(&at.to_le_bytes());
    }
    out
}

fn of(path: &str, bytes: &[u8]) -> Inventory {
    let mut tree = MemoryTree::new();
    tree.file(path, bytes);
    inventory(tree)
}

/// Either all is there, or a gap says that it may not be.
fn honest(inventory: &Inventory, sample: &Sample, what: &str) {
    let found = inventory.coverage.present;
    assert!(
        found >= sample.present || !inventory.coverage.complete,
        "{} {what}: {found} of {} packages and no gap",
        sample.path,
        sample.present
    );
}

#[test]
fn no_cut_hides_a_package() {
    let mut random = Random(0x5eed_0110);
    for sample in samples() {
        for _ in 0..60 {
            let at = random.next(sample.bytes.len());
            let inventory = of(sample.path, &sample.bytes[..at]);
            if sample.path.ends_with("desc") {
                // A text of fields that ends early is a shorter text of fields.
                continue;
            }
            honest(&inventory, sample, &format!("cut at {at}"));
        }
        assert!(!of(sample.path, b"").coverage.complete, "{}", sample.path);
    }
}

/// DORMOUSE_FUZZ_SECONDS lengthens the run.
#[test]
fn no_mutation_is_more_than_a_gap() {
    let seconds = std::env::var("DORMOUSE_FUZZ_SECONDS").map_or(3, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut random = Random(0x5eed_0111);
    let (mut broken, mut rounds) = (0, 0);
    while rounds < 100 || Instant::now() < until {
        for sample in samples() {
            let mut bytes = sample.bytes.clone();
            for _ in 0..=random.next(6) {
                // Heads of files and pages are where the structure is.
                let at = match random.next(3) {
                    0 => random.next(bytes.len()),
                    1 => random.next(200.min(bytes.len())),
                    _ => (random.next(bytes.len()) & !1023) + random.next(40),
                };
                let at = at.min(bytes.len() - 1);
                match random.next(4) {
                    0 => bytes[at] = 0xff,
                    1 => bytes[at] ^= 1 << random.next(8),
                    2 => bytes[at] = 0,
                    _ => bytes[at] = u8::try_from(random.next(256)).unwrap(),
                }
            }
            if rounds % 5 == 0 {
                let at = random.next(bytes.len());
                bytes.truncate(at);
            }
            let inventory = of(sample.path, &bytes);
            serde_json::to_string(&inventory).unwrap();
            broken += usize::from(!inventory.coverage.complete);
            rounds += 1;
        }
    }
    println!("{rounds} mutated databases, {broken} with gaps");
    assert!(
        broken > rounds / 10,
        "the mutations broke something: {broken} of {rounds}"
    );
}

#[test]
fn pages_that_lead_in_circles_are_read_once() {
    // Every pointer of the file to every page: interior pages, overflow chains, roots.
    let sample = &samples()[0];
    let page_size = 1024;
    let pages = sample.bytes.len() / page_size;
    for target in [1, 2, 3, 5] {
        let mut bytes = sample.bytes.clone();
        for page in 1..pages {
            let at = page * page_size;
            let pointer = u32::try_from(target).unwrap().to_be_bytes();
            if bytes[at] == 5 {
                bytes[at + 8..at + 12].copy_from_slice(&pointer);
            } else if bytes[at] == 0 {
                bytes[at..at + 4].copy_from_slice(&pointer);
            }
        }
        let inventory = of(sample.path, &bytes);
        assert!(!inventory.coverage.complete, "{target}");
        assert!(
            inventory
                .gaps
                .iter()
                .any(|gap| gap.why.contains("in use twice")),
            "{target}"
        );
    }
    // The same of Berkeley's overflow chains.
    let sample = &samples()[2];
    let mut bytes = sample.bytes.clone();
    for page in (4096..bytes.len()).step_by(4096) {
        if bytes[page + 25] == 7 {
            let own = u32::try_from(page / 4096).unwrap().to_le_bytes();
            bytes[page + 16..page + 20].copy_from_slice(&own);
        }
    }
    assert!(!of(sample.path, &bytes).coverage.complete);
}

#[test]
fn blobs_that_share_their_blocks_are_refused() {
    let sample = &samples()[1];
    let mut bytes = sample.bytes.clone();
    let first = (32..4096)
        .step_by(16)
        .find(|at| bytes[at + 4] != 0)
        .unwrap();
    let slot = bytes[first..first + 16].to_vec();
    for at in (32..4096).step_by(16) {
        bytes[at..at + 16].copy_from_slice(&slot);
    }
    let inventory = of(sample.path, &bytes);
    assert_eq!(inventory.coverage.present, 1);
    assert!(
        inventory
            .gaps
            .iter()
            .any(|gap| gap.why.contains("two slots of package"))
    );
}

#[test]
fn a_byte_of_a_blob_that_changed_is_seen_by_its_checksum() {
    let sample = &samples()[1];
    let mut random = Random(0x5eed_0112);
    for _ in 0..40 {
        let mut bytes = sample.bytes.clone();
        let at = 4096 + random.next(bytes.len() - 4096);
        bytes[at] ^= 0x10;
        let inventory = of(sample.path, &bytes);
        assert!(!inventory.coverage.complete, "{at}");
        assert!(inventory.coverage.present >= sample.present - 1);
    }
}

/// A header of these entries (tag, type, offset, count) over a store.
fn header(entries: &[[u32; 4]], store: &[u8]) -> Vec<u8> {
    let count = u32::try_from(entries.len()).unwrap();
    let length = u32::try_from(store.len()).unwrap();
    let mut out = [count.to_be_bytes(), length.to_be_bytes()].concat();
    for field in entries.iter().flatten() {
        out.extend_from_slice(&field.to_be_bytes());
    }
    out.extend_from_slice(store);
    out
}

#[test]
fn headers_that_lie_are_refused() {
    let store = b"bash\x005.2\x001\x00\0\0\0\0\0\0";
    let good = [[1000, 6, 0, 1], [1001, 6, 5, 1], [1002, 6, 9, 1]];
    let bytes = header(&good, store);
    let parsed = rpm::Header::parse(&bytes).unwrap();
    let package = rpm::PackageHeader::read(&parsed).unwrap();
    assert_eq!(
        (package.name.as_str(), package.evr().as_str()),
        ("bash", "5.2-1")
    );

    for (what, entries) in [
        (
            "a value behind the store",
            [[1000, 6, 99, 1], good[1], good[2]],
        ),
        (
            "an offset of four thousand millions",
            [[1000, 6, u32::MAX, 1], good[1], good[2]],
        ),
        (
            "a count of four thousand millions",
            [[1000, 8, 0, u32::MAX], good[1], good[2]],
        ),
        (
            "numbers behind the store",
            [[1003, 4, 0, 17], good[1], good[2]],
        ),
        ("numbers out of line", [[1003, 4, 1, 1], good[1], good[2]]),
        ("an unknown type", [[1000, 10, 0, 1], good[1], good[2]]),
        ("several single texts", [[1000, 6, 0, 2], good[1], good[2]]),
        (
            "a region without a trailer",
            [[63, 7, 0, 16], good[1], good[2]],
        ),
        ("a region in the middle", [good[0], [63, 7, 0, 16], good[2]]),
    ] {
        let bytes = header(&entries, store);
        assert!(rpm::Header::parse(&bytes).is_err(), "{what}");
    }
    // A text that never ends, a count above the texts, lists that do not fit together.
    let bytes = header(&[[1000, 6, 0, 1]], b"endless");
    let parsed = rpm::Header::parse(&bytes).unwrap();
    assert!(parsed.text(1000).is_err());
    let bytes = header(
        &[[1117, 8, 4, 2], [1118, 8, 4, 1], [1116, 4, 0, 1]],
        b"\0\0\0\x07ab\0c\0",
    );
    assert!(rpm::Header::parse(&bytes).unwrap().files().is_err());
    // Bombs: an index of 65,536 entries, of more than there are bytes, none at all.
    for start in [[0_u8, 1, 0, 0, 0, 0, 0, 0], [0xff; 8], [0; 8]] {
        assert!(rpm::Header::parse(&start).is_err(), "{start:?}");
    }
    let mut longer = header(&good, store);
    longer.push(0);
    assert!(rpm::Header::parse(&longer).is_err());
}

#[test]
fn mutated_headers_give_answers_or_errors() {
    let mut random = Random(0x5eed_0113);
    let store = b"bash\x005.2\x001\x00C\0de\0Shell\0Schale\0\0\0\x01\0\0\0\0/\0/bin/\0sh\0bash\0\x88\x01\x04\0\0\0";
    let entries = [
        [100, 8, 11, 2],
        [268, 7, 60, 6],
        [1000, 6, 0, 1],
        [1001, 6, 5, 1],
        [1002, 6, 9, 1],
        [1004, 9, 16, 2],
        [1116, 4, 28, 2],
        [1117, 8, 45, 2],
        [1118, 8, 36, 2],
    ];
    let sound = header(&entries, store);
    let mut read = 0;
    for _ in 0..30_000 {
        let mut bytes = sound.clone();
        for _ in 0..=random.next(3) {
            let at = random.next(bytes.len());
            bytes[at] = u8::try_from(random.next(256)).unwrap();
        }
        if let Ok(header) = rpm::Header::parse(&bytes) {
            read += usize::from(rpm::PackageHeader::read(&header).is_ok());
            let _ = header.files();
            let _ = header.translated(1004, b"de");
            for tag in header.tags().collect::<Vec<_>>() {
                let _ = header.text(tag);
                let _ = header.numbers(tag).map(Iterator::count);
                let _ = header.bytes(tag);
            }
        }
    }
    assert!(read > 1000, "{read}");
}
