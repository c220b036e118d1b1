//! QEMU's tools as oracles, and disks with known scatterings of data. A missing tool fails the test.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test file uses its part of this module"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests run oracles and write files"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use dormouse_block::{HostFile, Result, Source};
use dormouse_disk::{FormatName, Image, LibraryGate, OpenOptions};

/// A small deterministic generator (xorshift64*), so that every run sees the same disks.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

pub fn output(program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("the oracle {program} is required: {error}"))
}

pub fn run(program: &str, args: &[&str]) -> String {
    let out = output(program, args);
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {err}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

pub fn open(path: &Path, format: Option<FormatName>) -> Result<Box<dyn Image>> {
    let gate = LibraryGate::new([path.parent().unwrap()]).unwrap();
    let mut options = OpenOptions::new(Arc::new(gate));
    options.format = format;
    dormouse_disk::open(path, &options)
}

pub fn image(path: &Path) -> Box<dyn Image> {
    open(path, None).unwrap_or_else(|error| panic!("{}", error.with_causes()))
}

/// Reads all of `source` in pieces of odd sizes and places, and compares it with the raw file.
pub fn assert_same(source: &dyn Source, raw: &Path, what: &str) {
    assert_same_in(source, raw, what, 200, 300_000);
}

/// The same with so many pieces, of less than so many bytes.
pub fn assert_same_in(source: &dyn Source, raw: &Path, what: &str, pieces: u32, most: u64) {
    let expected = std::fs::read(raw).unwrap();
    // qemu-img rounds a disk up to whole sectors; the rest is zeroes.
    let len = usize::try_from(source.len()).unwrap();
    assert!(expected.len() >= len, "{what}: {} < {len}", expected.len());
    let mut read = vec![0xaa; len];
    source
        .read_exact_at(0, &mut read)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    if let Some(at) = read.iter().zip(&expected).position(|(a, b)| a != b) {
        panic!("{what}: differs at byte {at}");
    }
    let mut random = Random(7);
    for _ in 0..pieces {
        let from = random.below(source.len());
        let part = random.below((source.len() - from).min(most)) + 1;
        let mut buf = vec![0x55; usize::try_from(part).unwrap()];
        source.read_exact_at(from, &mut buf).unwrap();
        let start = usize::try_from(from).unwrap();
        assert_eq!(
            buf,
            expected[start..start + buf.len()],
            "{what}: {from}+{part}"
        );
    }
    // Outside of what next_data names there are only zeroes, and it always goes on.
    let mut at = 0;
    while let Some(range) = source.next_data(at).unwrap() {
        assert!(
            range.start >= at && range.end > range.start && range.end <= source.len(),
            "{what}"
        );
        let gap = usize::try_from(at).unwrap()..usize::try_from(range.start).unwrap();
        assert!(
            expected[gap].iter().all(|byte| *byte == 0),
            "{what}: data in a hole"
        );
        at = range.end;
    }
    let gap = usize::try_from(at).unwrap()..len;
    assert!(
        expected[gap].iter().all(|byte| *byte == 0),
        "{what}: data in the last hole"
    );
}

/// Compares `source` with the raw file, wherever either of them may hold data: disks of a hundred GiB are mostly holes.
pub fn assert_sparse(source: &dyn Source, raw: &Path, what: &str) {
    let raw = HostFile::open(raw).unwrap();
    // QEMU rounds a disk up to whole sectors, and takes some VHDs for smaller than they say.
    let len = source.len().min(raw.len());
    assert!(source.len().abs_diff(raw.len()) < 1 << 20, "{what}: {len}");
    let (mut ours, mut theirs) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for map in [source, &raw as &dyn Source] {
        let mut at = 0;
        while let Some(range) = map.next_data(at).unwrap() {
            assert!(range.start >= at && range.end > range.start, "{what}");
            let mut from = range.start;
            let end = range.end.min(len);
            while from < end {
                let part = usize::try_from((end - from).min(1 << 20)).unwrap();
                source
                    .read_exact_at(from, &mut ours[..part])
                    .unwrap_or_else(|error| panic!("{what}: {}", error.with_causes()));
                raw.read_exact_at(from, &mut theirs[..part]).unwrap();
                if let Some(at) = ours[..part]
                    .iter()
                    .zip(&theirs[..part])
                    .position(|(a, b)| a != b)
                {
                    panic!(
                        "{what}: differs at byte {}",
                        from + u64::try_from(at).unwrap()
                    );
                }
                from += u64::try_from(part).unwrap();
            }
            at = range.end;
            if at >= len {
                break;
            }
        }
    }
}

/// A raw disk of `len` bytes with text-like, random, constant and empty stretches.
pub fn seed_raw(path: &Path, len: u64, seed: u64) {
    let mut random = Random(seed);
    let file = std::fs::File::create(path).unwrap();
    file.set_len(len).unwrap();
    let mut at = 0;
    while at < len {
        let size = (random.below(400_000) + 1).min(len - at);
        let kind = random.below(4);
        let bytes: Vec<u8> = (0..size)
            .map(|n| match kind {
                0 => random.next().to_le_bytes()[0],
                1 => b"the quick brown fox "[usize::try_from(n % 20).unwrap()],
                _ => 0x5a,
            })
            .collect();
        if kind != 3 {
            file.write_all_at(&bytes, at).unwrap();
        }
        at += size;
    }
}

/// Writes, zeroes and discards through qemu-io in many places of `disk`.
pub fn scatter(disk: &Path, len: u64, count: u64, seed: u64) {
    let mut random = Random(seed);
    let mut child = Command::new("qemu-io")
        .args(["-d", "unmap", disk.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the oracle qemu-io is required");
    let mut input = child.stdin.take().unwrap();
    for _ in 0..count {
        let from = random.below(len / 512) * 512;
        let size = ((random.below(600) + 1) * 512).min(len - from);
        let pattern = random.below(255) + 1;
        match random.below(8) {
            0 => writeln!(input, "write -z {from} {size}"),
            1 => writeln!(input, "write -z -u {from} {size}"),
            2 => writeln!(input, "discard {from} {size}"),
            _ => writeln!(input, "write -P {pattern} {from} {size}"),
        }
        .unwrap();
    }
    drop(input);
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
}

/// A program that holds a file open until it is dropped.
pub struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// qemu-io with `disk` open, as a running machine would have it.
pub fn hold_open(disk: &Path, read_only: bool) -> Holder {
    let mut command = Command::new("qemu-io");
    if read_only {
        command.arg("-r");
    }
    let mut child = command
        .arg(disk)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the oracle qemu-io is required");
    writeln!(child.stdin.as_mut().unwrap(), "length").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    Holder(child)
}

/// Saves a stopped machine without an operating system into `disk` as the snapshot `name`.
pub fn savevm(disk: &Path, name: &str) {
    let mut child = Command::new("qemu-system-x86_64")
        .args([
            "-machine",
            "pc,accel=tcg",
            "-m",
            "64",
            "-S",
            "-display",
            "none",
        ])
        .args(["-nodefaults", "-monitor", "stdio", "-drive"])
        .arg(format!("file={},format=qcow2,if=virtio", disk.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the oracle qemu-system-x86_64 is required");
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "savevm {name}\nquit").unwrap();
    drop(input);
    let out = child.wait_with_output().unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// The folder of independent fixtures.
pub fn fixtures() -> PathBuf {
    let folder = std::env::var_os("DORMOUSE_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    );
    assert!(
        folder.is_dir(),
        "the fixtures are required: set DORMOUSE_FIXTURES ({} is no folder)",
        folder.display()
    );
    folder
}
