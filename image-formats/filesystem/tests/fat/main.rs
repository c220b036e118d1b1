//! Reading FAT against mtools, the kernel, and images that others broke.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "tests make images with other programs and fail by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dormouse_block::{Bytes, ErrorKind, Result, Source};
use dormouse_filesystem::fat::Fat;
use dormouse_filesystem::{Filesystem, NodeKind, Tree};

/// Nodes of one broken image that are read before it counts as endless.
const MAX_NODES: usize = 200_000;

fn fixtures() -> PathBuf {
    let folder = std::env::var_os("DORMOUSE_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    );
    assert!(
        folder.is_dir(),
        "the fixtures are missing: set DORMOUSE_FIXTURES to their folder"
    );
    folder.join("fs-fat")
}

fn unpack(path: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    zstd::stream::copy_decode(&fs::read(path).unwrap()[..], &mut out).unwrap();
    out
}

fn must(program: &str, args: &[&str]) -> String {
    let path = format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    );
    let output = Command::new(program)
        .args(args)
        .env("PATH", path)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("MTOOLS_SKIP_CHECK", "1")
        .output()
        .unwrap_or_else(|error| panic!("the oracle {program} cannot be run: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Every path with the bytes of a file, or nothing for a folder.
type Content = BTreeMap<String, Option<Vec<u8>>>;

/// Reads everything; how many nodes there are.
fn read_all(tree: &dyn Tree) -> Result<Content> {
    let mut out = Content::new();
    let mut todo = vec![(String::new(), tree.root())];
    while let Some((path, node)) = todo.pop() {
        tree.metadata(node)?;
        for entry in tree.read_dir(node)? {
            assert!(out.len() < MAX_NODES, "an endless tree");
            tree.lookup(node, &entry.name)?;
            let name = String::from_utf8(entry.name).unwrap();
            let full = format!("{path}/{name}");
            let metadata = tree.metadata(entry.node)?;
            assert_eq!(Some(metadata.kind), entry.kind);
            if metadata.kind == NodeKind::Directory {
                out.insert(full.clone(), None);
                todo.push((full, entry.node));
                continue;
            }
            let mut bytes = Vec::new();
            let mut buf = vec![0; 70_001];
            while (bytes.len() as u64) < metadata.size {
                let n = tree.read_at(entry.node, bytes.len() as u64, &mut buf)?;
                assert!(n > 0, "reading stands still");
                bytes.extend_from_slice(&buf[..n]);
                assert!(
                    bytes.len() < 64 << 20,
                    "{full} is too large for these images"
                );
            }
            out.insert(full, Some(bytes));
        }
    }
    Ok(out)
}

fn of_mtools(image: &Path) -> Content {
    let scratch = tempfile::tempdir().unwrap();
    let (from, to) = (image.to_str().unwrap(), scratch.path().to_str().unwrap());
    must("mcopy", &["-s", "-n", "-i", from, "::/", to]);
    let mut out = Content::new();
    let mut todo = vec![(String::new(), scratch.path().to_owned())];
    while let Some((path, host)) = todo.pop() {
        for entry in fs::read_dir(host).unwrap() {
            let entry = entry.unwrap();
            let full = format!("{path}/{}", entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                out.insert(full.clone(), None);
                todo.push((full, entry.path()));
            } else {
                out.insert(full, Some(fs::read(entry.path()).unwrap()));
            }
        }
    }
    out
}

#[test]
fn sound_images_of_others_are_read_as_mtools_reads_them() {
    let scratch = tempfile::tempdir().unwrap();
    for name in ["fat12", "fat16"] {
        let bytes = unpack(&fixtures().join(format!("dissect.fat/{name}.bin.zst")));
        let image = scratch.path().join(name);
        fs::write(&image, &bytes).unwrap();
        let volume: Arc<dyn Source> = Arc::new(Bytes::new(bytes));
        assert!(Fat.probe(volume.as_ref()).unwrap(), "{name}");
        let tree = dormouse_filesystem::open(&volume).unwrap().unwrap();
        assert_eq!(tree.info().features, [name]);
        let found = read_all(&*tree).unwrap();
        let wanted = of_mtools(&image);
        assert!(!wanted.is_empty(), "{name} is empty");
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            wanted.keys().collect::<Vec<_>>(),
            "{name}"
        );
        assert!(found == wanted, "{name}: other bytes");
    }
}

/// Each opens and reads through, or fails with the kind that names whose fault it is; none panics or hangs.
#[test]
fn broken_images_are_read_or_refused_by_kind() {
    let mut names: Vec<PathBuf> = fs::read_dir(fixtures().join("syzkaller"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    assert!(names.len() >= 60, "only {} images", names.len());
    let (mut read, mut refused) = (0, 0);
    for path in names {
        let bytes = unpack(&path);
        let shown = path.display();
        let started = Instant::now();
        let volume: Arc<dyn Source> = Arc::new(Bytes::new(bytes));
        match Fat.open(volume).and_then(|tree| read_all(&*tree)) {
            Ok(_) => read += 1,
            Err(error) => {
                assert!(
                    matches!(
                        error.kind(),
                        ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::Limit
                    ),
                    "{shown}: {error}"
                );
                refused += 1;
            }
        }
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{shown} is slow"
        );
    }
    println!("{read} read, {refused} refused");
    assert!(read > 0);
}

fn made(folder: &Path, name: &str, options: &str, mib: u64) -> PathBuf {
    let image = folder.join(name);
    fs::File::create(&image)
        .unwrap()
        .set_len(mib << 20)
        .unwrap();
    let mut args: Vec<&str> = options.split_whitespace().collect();
    args.push(image.to_str().unwrap());
    must("mkfs.fat", &args);
    image
}

#[test]
fn label_serial_free_space_and_times_are_those_of_mkfs_and_mtools() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options, mib) in [
        ("fat12", "-F 12 -n LABEL -i 1234ABCD", 4),
        ("fat16", "-F 16 -n LABEL -i 1234ABCD", 32),
        ("fat32", "-F 32 -n LABEL -i 1234ABCD", 64),
    ] {
        let image = made(folder.path(), name, options, mib);
        let text = folder.path().join("text");
        fs::write(&text, vec![b't'; 100_000]).unwrap();
        must(
            "touch",
            &["-d", "2024-02-29 23:59:58", text.to_str().unwrap()],
        );
        let shown = image.to_str().unwrap();
        must(
            "mcopy",
            &[
                "-m",
                "-i",
                shown,
                text.to_str().unwrap(),
                "::/Mixed Case.txt",
            ],
        );
        must("mmd", &["-i", shown, "::/EFI"]);
        let volume: Arc<dyn Source> = Arc::new(Bytes::new(fs::read(&image).unwrap()));
        let tree = dormouse_filesystem::open(&volume).unwrap().unwrap();
        let info = tree.info();
        assert_eq!(info.kind, "vfat");
        assert_eq!(info.label.as_deref(), Some("LABEL"));
        assert_eq!(info.uuid.as_deref(), Some("1234-abcd"));
        assert_eq!(info.features, [name]);
        let listing = must("mdir", &["-i", shown, "::/"]);
        let free: u64 = listing
            .lines()
            .rev()
            .find_map(|line| line.trim().strip_suffix(" bytes free"))
            .unwrap_or_else(|| panic!("{listing}"))
            .split_whitespace()
            .collect::<String>()
            .parse()
            .unwrap();
        assert_eq!(info.free, free, "{name}");
        let found = tree
            .lookup(tree.root(), b"MIXED case.TXT")
            .unwrap()
            .unwrap();
        assert_eq!(found.name, b"Mixed Case.txt");
        let metadata = tree.metadata(found.node).unwrap();
        assert_eq!(metadata.mtime.seconds, 1_709_251_198);
        assert_eq!((metadata.mode, metadata.size), (0o755, 100_000));
        assert!(tree.lookup(tree.root(), b"efi").unwrap().is_some());
        assert!(tree.lookup(tree.root(), b"none").unwrap().is_none());
    }
}

/// Folders that hold themselves or each other would make paths without end.
#[test]
fn folders_that_share_clusters_are_corrupt_and_do_not_loop() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "loop", "-F 16 -s 1", 8);
    let shown = image.to_str().unwrap();
    must("mmd", &["-i", shown, "::/A", "::/A/B"]);
    let whole = fs::read(&image).unwrap();
    let entries: Vec<usize> = (0..whole.len() / 32)
        .map(|nth| nth * 32)
        .filter(|at| matches!(&whole[*at..*at + 11], b"A          " | b"B          "))
        .collect();
    let [a, b] = entries[..] else {
        panic!("{entries:?}");
    };
    let mut bytes = whole.clone();
    // B begins where A begins.
    bytes.copy_within(a + 26..a + 28, b + 26);
    let volume: Arc<dyn Source> = Arc::new(Bytes::new(bytes));
    let error = read_all(&*Fat.open(volume).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    // A's own second cluster is B.
    let mut bytes = whole;
    let table = usize::from(u16::from_le_bytes([bytes[14], bytes[15]])) * 512;
    let first = usize::from(u16::from_le_bytes([bytes[a + 26], bytes[a + 27]]));
    bytes.copy_within(b + 26..b + 28, table + first * 2);
    let volume: Arc<dyn Source> = Arc::new(Bytes::new(bytes));
    let error = read_all(&*Fat.open(volume).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

/// Bytes changed at random: an answer or an error, in bounded time. DORMOUSE_FUZZ_SECONDS lengthens the run.
#[test]
fn random_damage_is_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let images: Vec<Vec<u8>> = [
        ("a", "-F 12", 2),
        ("b", "-F 16 -s 1", 8),
        ("c", "-F 32 -s 1", 34),
    ]
    .iter()
    .map(|(name, options, mib)| {
        let image = made(folder.path(), name, options, *mib);
        let shown = image.to_str().unwrap();
        let text = folder.path().join("text");
        fs::write(&text, vec![b't'; 9000]).unwrap();
        must("mmd", &["-i", shown, "::/EFI", "::/EFI/debian"]);
        for to in ["::/EFI/debian/shim.efi", "::/EFI/a longer name", "::/TOP"] {
            must("mcopy", &["-i", shown, text.to_str().unwrap(), to]);
        }
        fs::read(image).unwrap()
    })
    .collect();
    let seconds = std::env::var("DORMOUSE_FUZZ_SECONDS").map_or(4, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut state = 0x1234_5678_9ABC_DEF1_u64;
    let mut next = move |most: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        usize::try_from(state.wrapping_mul(0x2545_F491_4F6C_DD1D) % most as u64).unwrap()
    };
    let mut rounds = 0_u64;
    while Instant::now() < until {
        let image = &images[next(3)];
        let used: Vec<usize> = (0..2000.min(image.len() / 64))
            .filter(|n| image[n * 64..n * 64 + 64] != [0; 64])
            .collect();
        let mut bytes = image.clone();
        for _ in 0..1 + next(5) {
            let at = match next(4) {
                0 => next(90),
                _ => used[next(used.len())] * 64 + next(64),
            };
            bytes[at] = [0, 0xFF, u8::try_from(next(256)).unwrap()][next(3)];
        }
        let started = Instant::now();
        let volume: Arc<dyn Source> = Arc::new(Bytes::new(bytes));
        if Fat.probe(volume.as_ref()).unwrap()
            && let Err(error) = Fat.open(volume).and_then(|tree| read_all(&*tree))
        {
            assert_ne!(error.kind(), ErrorKind::Io, "{error}");
        }
        assert!(started.elapsed() < Duration::from_secs(20), "slow");
        rounds += 1;
    }
    println!("{rounds} rounds");
}
