//! Memory is bounded by named limits, whatever an image asks for. Alone in its process, since the process is measured.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests write files")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod oracle;

use dormouse_block::{ErrorKind, Source};
use dormouse_disk::ACTIVE;
use oracle::{image, open, run, seed_raw};

/// The most memory that this process has had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        << 10
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

#[test]
fn a_tiny_file_that_asks_for_much_gets_little_and_large_clusters_are_read_in_8_mib() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = folder.path().join("tiny.qcow2");
    for (bits, l1) in [(33_u32, 1_u32), (21, u32::MAX), (21, 4 << 20), (9, 4 << 20)] {
        let mut header = b"QFI\xfb\0\0\0\x03".to_vec();
        header.resize(116, 0);
        put(&mut header, 20, &bits.to_be_bytes());
        put(&mut header, 24, &(1_u64 << 33).to_be_bytes());
        put(&mut header, 36, &l1.to_be_bytes());
        put(&mut header, 96, &4_u32.to_be_bytes());
        put(&mut header, 100, &104_u32.to_be_bytes());
        std::fs::write(&tiny, header).unwrap();
        let before = peak_memory();
        let error = open(&tiny, None).err().unwrap();
        assert!(
            matches!(error.kind(), ErrorKind::Limit | ErrorKind::Corrupt),
            "{error}"
        );
        assert!(peak_memory() - before < 4 << 20, "it took memory to say no");
    }
    let name = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    seed_raw(&folder.path().join("seed.raw"), 64 << 20, 3);
    for kind in ["zlib", "zstd"] {
        let options = format!("cluster_size=2M,compression_type={kind}");
        run(
            "qemu-img",
            &[
                "convert",
                "-c",
                "-O",
                "qcow2",
                "-o",
                &options,
                &name("seed.raw"),
                &name("large.qcow2"),
            ],
        );
        let before = peak_memory();
        let opened = image(&folder.path().join("large.qcow2"));
        let source = opened.open_point(ACTIVE).unwrap();
        let mut buf = [0; 4096];
        for at in (0..source.len() - 4096).step_by(700_001) {
            source.read_exact_at(at, &mut buf).unwrap();
        }
        let took = peak_memory() - before;
        assert!(took < 8 << 20, "{kind}: {took} bytes");
    }
}
