//! Images made to mislead: each ends in an error of the right kind, with little memory and no harm.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests write files")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::semicolon_if_nothing_returned,
    reason = "tests"
)]

mod oracle;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dormouse_block::{ErrorKind, Meter, Source};
use dormouse_disk::{ACTIVE, DenyAll, FormatName, LibraryGate, MAX_CHAIN, OpenOptions};
use oracle::{image, open, run, seed_raw};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    fn create(&self, name: &str, args: &[&str]) -> PathBuf {
        let path = self.name(name);
        let mut all = vec!["create", "-q", "-f", "qcow2"];
        all.extend(args);
        all.extend([path.as_str(), "4M"]);
        run("qemu-img", &all);
        self.at(name)
    }

    /// A small image whose bytes are then changed.
    fn changed(&self, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
        let path = self.create("changed.qcow2", &[]);
        run(
            "qemu-io",
            &["-c", "write -P 5 0 128k", path.to_str().unwrap()],
        );
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn refused(path: &Path, kind: ErrorKind, word: &str) {
    let error = open(path, None)
        .and_then(|image| image.open_point(ACTIVE))
        .err()
        .unwrap_or_else(|| panic!("{word}: must fail"));
    assert_eq!(error.kind(), kind, "{}", error.with_causes());
    assert!(error.to_string().contains(word), "{error} lacks {word:?}");
    let file = path.file_name().unwrap().to_str().unwrap();
    assert!(
        error.to_string().contains(file),
        "{error} does not name the file"
    );
}

#[test]
fn impossible_headers_are_refused_by_name() {
    let folder = Folder::new();
    let be32 = u32::to_be_bytes;
    let be64 = u64::to_be_bytes;
    let case = |kind: ErrorKind, word: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let path = folder.changed(|bytes| change(bytes));
        refused(&path, kind, word);
    };
    use ErrorKind::{Corrupt, Limit, Unsupported};
    case(Limit, "2^33 bytes", &|b| put(b, 20, &be32(33)));
    case(Limit, "2^22 bytes", &|b| put(b, 20, &be32(22)));
    case(Corrupt, "2^8 bytes", &|b| put(b, 20, &be32(8)));
    case(Corrupt, "too small", &|b| put(b, 24, &be64(1 << 40)));
    case(Limit, "larger than any host's files", &|b| {
        put(b, 24, &be64(u64::MAX))
    });
    case(Unsupported, "AES", &|b| put(b, 32, &be32(1)));
    case(Corrupt, "LUKS", &|b| put(b, 32, &be32(2)));
    case(Limit, "L1 table", &|b| put(b, 36, &be32(u32::MAX)));
    case(Corrupt, "does not begin at a cluster", &|b| {
        put(b, 40, &be64(0x30001))
    });
    case(Corrupt, "beyond the end of the file", &|b| {
        put(b, 40, &be64(1 << 50))
    });
    case(Corrupt, "marked corrupt", &|b| put(b, 72, &be64(2)));
    case(Unsupported, "external data file", &|b| put(b, 72, &be64(4)));
    case(Corrupt, "too small for subclusters", &|b| {
        put(b, 72, &be64(16));
        put(b, 20, &be32(13));
    });
    case(Corrupt, "too small", &|b| {
        put(b, 72, &be64(16));
        put(b, 20, &be32(14));
        put(b, 24, &be64(1 << 30));
    });
    case(Unsupported, "feature 40", &|b| put(b, 72, &be64(1 << 40)));
    case(Corrupt, "wider than 64", &|b| put(b, 96, &be32(7)));
    case(Corrupt, "impossible", &|b| put(b, 100, &be32(8)));
    case(Corrupt, "impossible", &|b| put(b, 100, &be32(u32::MAX)));
    case(Corrupt, "contradict", &|b| b[104] = 1);
    case(Unsupported, "unknown way 9", &|b| b[104] = 9);
    case(Corrupt, "header extension", &|b| {
        put(b, 112, &[1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff])
    });
    case(Limit, "snapshots", &|b| put(b, 60, &be32(65537)));
    case(Corrupt, "snapshot table", &|b| {
        put(b, 60, &be32(65536));
        put(b, 64, &be64(0));
    });
    case(Corrupt, "backing file name", &|b| {
        put(b, 8, &be64(65530));
        put(b, 16, &be32(100));
    });
    case(Corrupt, "1024 bytes is impossible", &|b| {
        put(b, 8, &be64(512));
        put(b, 16, &be32(1024));
    });
    case(Corrupt, "ends within", &|b| b.truncate(60));
}

#[test]
fn a_feature_is_refused_by_the_name_that_the_image_gives_it() {
    let folder = Folder::new();
    let path = folder.changed(|bytes| {
        put(bytes, 72, &(1_u64 << 41).to_be_bytes());
        let mut table = 0x6803_f857_u32.to_be_bytes().to_vec();
        table.extend(48_u32.to_be_bytes());
        table.extend([0, 41]);
        table.extend(b"time travel \x1b[31m");
        table.resize(8 + 48, 0);
        table.extend([0; 8]);
        put(bytes, 112, &table);
    });
    refused(&path, ErrorKind::Unsupported, "time travel \\u{1b}[31m");
}

#[test]
fn a_compatible_unknown_a_dirty_mark_and_bitmaps_are_no_hindrance() {
    let folder = Folder::new();
    let path = folder.changed(|bytes| {
        put(bytes, 72, &1_u64.to_be_bytes());
        put(bytes, 80, &(1_u64 << 50).to_be_bytes());
        put(bytes, 88, &(1_u64 << 33).to_be_bytes());
    });
    assert!(image(&path).state().dirty);
    let path = folder.create("bitmap.qcow2", &[]);
    run(
        "qemu-img",
        &["bitmap", "--add", path.to_str().unwrap(), "changes"],
    );
    assert!(!image(&path).state().dirty);
}

#[test]
fn broken_tables_fail_where_they_are_read() {
    let folder = Folder::new();
    let read = |change: &dyn Fn(&mut Vec<u8>)| {
        let opened = image(&folder.changed(|bytes| change(bytes)));
        let source = opened.open_point(ACTIVE).unwrap();
        let mut buf = vec![0; 128 << 10];
        source.read_exact_at(0, &mut buf).map(|()| buf)
    };
    assert_eq!(read(&|_| {}).unwrap(), vec![5; 128 << 10]);
    let l1_at =
        |b: &[u8]| usize::try_from(u64::from_be_bytes(b[40..48].try_into().unwrap())).unwrap();
    let l2_at = |b: &[u8]| {
        let entry = u64::from_be_bytes(b[l1_at(b)..l1_at(b) + 8].try_into().unwrap());
        usize::try_from(entry & 0x00ff_ffff_ffff_fe00).unwrap()
    };
    type Change<'a> = &'a dyn Fn(&mut Vec<u8>);
    let cases: [(&str, Change<'_>); 6] = [
        ("L2 table", &|b| {
            let at = l1_at(b);
            put(b, at, &(1_u64 << 50).to_be_bytes());
        }),
        ("cluster grid", &|b| {
            let at = l1_at(b);
            put(b, at, &0x200_u64.to_be_bytes());
        }),
        ("beyond the end of the file", &|b| {
            let at = l2_at(b);
            put(b, at, &(1_u64 << 50).to_be_bytes());
        }),
        ("cluster grid", &|b| {
            let at = l2_at(b);
            put(b, at, &0x5_0200_u64.to_be_bytes());
        }),
        ("compressed cluster", &|b| {
            let at = l2_at(b);
            put(b, at, &(1_u64 << 62 | 0x5_0000).to_be_bytes());
        }),
        ("compressed cluster lies beyond", &|b| {
            let at = l2_at(b);
            put(b, at, &(1_u64 << 62 | 1 << 50).to_be_bytes());
        }),
    ];
    for (word, change) in cases {
        let error = read(change).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(word), "{error} lacks {word:?}");
        assert!(
            error.to_string().contains("changed.qcow2"),
            "{error} names no file"
        );
    }
}

#[test]
fn a_table_that_maps_itself_for_ever_ends_a_search_soon() {
    // One L2 table without data, named by every entry of a large L1 table: a disk of 2 EiB.
    let folder = Folder::new();
    let mut bytes = b"QFI\xfb\0\0\0\x03".to_vec();
    bytes.resize(36 << 20, 0);
    put(&mut bytes, 20, &21_u32.to_be_bytes());
    put(&mut bytes, 24, &(1_u64 << 60).to_be_bytes());
    put(&mut bytes, 36, &(1_u32 << 22).to_be_bytes());
    put(&mut bytes, 40, &(4_u64 << 20).to_be_bytes());
    put(&mut bytes, 96, &4_u32.to_be_bytes());
    put(&mut bytes, 100, &104_u32.to_be_bytes());
    for entry in bytes[4 << 20..].as_chunks_mut::<8>().0 {
        *entry = (2_u64 << 20).to_be_bytes();
    }
    std::fs::write(folder.at("maze.qcow2"), bytes).unwrap();
    let opened = image(&folder.at("maze.qcow2"));
    let source = opened.open_point(ACTIVE).unwrap();
    let found = source.next_data(0).unwrap().unwrap();
    assert_eq!(found.end, 1 << 60);
}

#[test]
fn backing_files_go_through_the_gate() {
    let folder = Folder::new();
    std::fs::create_dir(folder.at("library")).unwrap();
    let secret = folder.at("secret.raw");
    seed_raw(&secret, 4 << 20, 1);
    let inside = folder.at("library/top.qcow2");
    for named in [secret.to_str().unwrap(), "../secret.raw", "/etc/passwd"] {
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-u",
                "-f",
                "qcow2",
                "-b",
                named,
                "-F",
                "raw",
                inside.to_str().unwrap(),
                "4M",
            ],
        );
        refused(&inside, ErrorKind::Denied, "outside the allowed folders");
    }
    std::os::unix::fs::symlink(&secret, folder.at("library/link.raw")).unwrap();
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-u",
            "-f",
            "qcow2",
            "-b",
            "link.raw",
            "-F",
            "raw",
            inside.to_str().unwrap(),
            "4M",
        ],
    );
    refused(&inside, ErrorKind::Denied, "outside the allowed folders");
    // Allowed by name of its folder, or by name of the file itself.
    for root in [folder.0.path(), secret.as_path()] {
        let options = OpenOptions::new(Arc::new(LibraryGate::new([root]).unwrap()));
        let opened = dormouse_disk::open(&inside, &options).unwrap();
        assert_eq!(opened.files()[1].named.as_deref(), Some("link.raw"));
    }
    let options = OpenOptions::new(Arc::new(DenyAll));
    assert_eq!(
        dormouse_disk::open(&inside, &options).err().unwrap().kind(),
        ErrorKind::Denied
    );
    // Other protocols and descriptions of options never reach a gate.
    for named in [
        "json:{\"driver\":\"raw\",\"file.filename\":\"/etc/passwd\"}",
        "nbd://localhost/x",
        "http://example.org/x",
    ] {
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-u",
                "-f",
                "qcow2",
                "-b",
                named,
                "-F",
                "raw",
                inside.to_str().unwrap(),
                "4M",
            ],
        );
        refused(&inside, ErrorKind::Denied, "protocol");
    }
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-u",
            "-f",
            "qcow2",
            "-b",
            "gone.raw",
            "-F",
            "raw",
            inside.to_str().unwrap(),
            "4M",
        ],
    );
    refused(&inside, ErrorKind::Corrupt, "gone.raw");
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-u",
            "-f",
            "qcow2",
            "-b",
            "gone.raw",
            "-F",
            "qed",
            inside.to_str().unwrap(),
            "4M",
        ],
    );
    refused(&inside, ErrorKind::Corrupt, "gone.raw");
}

#[test]
fn loops_and_endless_chains_are_refused() {
    let folder = Folder::new();
    let create = |name: &str, on: &str| folder.create(name, &["-u", "-b", on, "-F", "qcow2"]);
    let itself = create("itself.qcow2", "itself.qcow2");
    refused(&itself, ErrorKind::Corrupt, "leads back to itself");
    let first = create("first.qcow2", "second.qcow2");
    create("second.qcow2", "first.qcow2");
    refused(&first, ErrorKind::Corrupt, "leads back to itself");
    // A loop through another name of the same file.
    let named = create("named.qcow2", "alias.qcow2");
    std::fs::hard_link(&named, folder.at("alias.qcow2")).unwrap();
    let error = open(&named, None).err().unwrap();
    assert!(
        error.to_string().contains("leads back to itself"),
        "{error}"
    );
    folder.create("0.qcow2", &[]);
    for level in 1..MAX_CHAIN {
        create(&format!("{level}.qcow2"), &format!("{}.qcow2", level - 1));
    }
    let longest = folder.at(&format!("{}.qcow2", MAX_CHAIN - 1));
    assert_eq!(image(&longest).files().len(), MAX_CHAIN);
    let longer = create("longer.qcow2", &format!("{}.qcow2", MAX_CHAIN - 1));
    let error = open(&longer, None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Limit);
}

#[test]
fn a_guest_s_header_in_a_raw_disk_is_never_followed() {
    let folder = Folder::new();
    std::fs::write(folder.at("host-secret"), b"root:x:0:0").unwrap();
    let disk = folder.create("guest.qcow2", &["-u", "-b", "host-secret", "-F", "raw"]);
    for name in ["disk.raw", "disk.img", "DISK.RAW"] {
        std::fs::rename(&disk, folder.at(name)).unwrap();
        refused(&folder.at(name), ErrorKind::Denied, "named as a raw disk");
        // Told that it is raw, its bytes are its bytes.
        let opened = open(&folder.at(name), Some(FormatName::RAW)).unwrap();
        assert_eq!(opened.files().len(), 1);
        let mut magic = [0; 4];
        opened
            .open_point(ACTIVE)
            .unwrap()
            .read_exact_at(0, &mut magic)
            .unwrap();
        assert_eq!(&magic, b"QFI\xfb");
        // Told that it is qcow2, it is that, and its references meet the gate.
        assert_eq!(
            open(&folder.at(name), Some(FormatName::QCOW2))
                .unwrap()
                .files()
                .len(),
            2
        );
        std::fs::rename(folder.at(name), &disk).unwrap();
    }
    // A backing file that is recorded as raw stays raw, whatever its first bytes say.
    let top = folder.create("top.qcow2", &["-u", "-b", "guest.qcow2", "-F", "raw"]);
    let opened = image(&top);
    assert_eq!(opened.files().len(), 2);
    assert_eq!(opened.files()[1].format, FormatName::RAW);
}

#[test]
fn snapshots_with_repeated_or_hostile_names_stay_apart() {
    let folder = Folder::new();
    let disk = folder.create("disk.qcow2", &[]);
    for name in ["a", "b", "c"] {
        run(
            "qemu-img",
            &["snapshot", "-c", name, disk.to_str().unwrap()],
        );
    }
    let mut bytes = std::fs::read(&disk).unwrap();
    let table = usize::try_from(u64::from_be_bytes(bytes[64..72].try_into().unwrap())).unwrap();
    // Entries of 40 bytes, 24 of extra data, then the id and the name of one byte each, padded to 8.
    for (position, id) in [b'1', b'1', 0x1b].into_iter().enumerate() {
        let at = table + position * 72 + 64;
        assert_eq!(bytes[at + 1], b"abc"[position]);
        bytes[at] = id;
        bytes[at + 1] = b'x';
    }
    std::fs::write(&disk, bytes).unwrap();
    let opened = image(&disk);
    let ids: Vec<_> = opened
        .points()
        .iter()
        .map(|point| point.id.as_str())
        .collect();
    assert_eq!(ids, ["active", "1", "1#1", "\\u{1b}"]);
    assert!(
        opened
            .point("x")
            .unwrap_err()
            .to_string()
            .contains("several")
    );
    for id in ids {
        assert!(opened.open_point(id).is_ok());
    }
}

#[test]
fn a_budget_ends_reading_and_cancelling_is_heard() {
    let folder = Folder::new();
    seed_raw(&folder.at("base.raw"), 4 << 20, 9);
    let gate = || Arc::new(LibraryGate::new([folder.0.path()]).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let meter = Meter::new(1 << 20, stop.clone());
    let options = OpenOptions::new(gate()).meter(meter.clone());
    let opened = dormouse_disk::open(&folder.at("base.raw"), &options).unwrap();
    let source = opened.open_point(ACTIVE).unwrap();
    let mut buf = vec![0; 512 << 10];
    source.read_exact_at(0, &mut buf).unwrap();
    let error = source
        .read_exact_at(1 << 20, &mut vec![0; 1 << 20])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(
        source.read_exact_at(0, &mut buf).unwrap_err().kind(),
        ErrorKind::Cancelled
    );
}
