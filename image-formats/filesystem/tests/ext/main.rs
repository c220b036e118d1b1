//! The reader of ext2, ext3 and ext4 against debugfs, the kernel's mount, and hundreds of broken images.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::print_stdout,
    unreachable_pub,
    reason = "tests make images with other programs and fail by panicking"
)]

mod fixtures;
mod hostile;
mod images;
mod journal;
#[path = "../kernel/mod.rs"]
mod kernel;
mod oracle;

use images::{OPTION_SETS, make, populate};
use oracle::{check_with_debugfs, check_with_kernel, open, walk};

#[test]
fn every_option_set_reads_as_debugfs_and_the_kernel_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    std::fs::create_dir(&content).unwrap();
    populate(&content);
    let mut mounted = Vec::new();
    for (name, options, mib) in OPTION_SETS {
        let image = make(folder.path(), name, options, *mib, &content);
        let tree = open(&image);
        let manifest =
            walk(&*tree).unwrap_or_else(|error| panic!("{name}: {}", error.with_causes()));
        assert!(manifest.len() > 2500, "{name}: {}", manifest.len());
        println!("{name}: {:?}", tree.info());
        check_with_debugfs(&image, &manifest);
        if check_with_kernel(&image, &manifest) {
            mounted.push(*name);
        }
        std::fs::remove_file(image).unwrap();
    }
    println!("also equal to the kernel's mount: {mounted:?}");
}

/// A file of more than 4 GiB, nearly all of it a hole: its last block is where debugfs says it is.
#[test]
fn offsets_beyond_32_bits_are_read() {
    use std::io::{Seek, SeekFrom, Write};
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    std::fs::create_dir(&content).unwrap();
    images::populate_small(&content);
    let size: u64 = (5 << 30) + 1234;
    for (name, options) in [
        ("wide", "-t ext4 -b 4096"),
        ("wide-ext3", "-t ext3 -b 4096"),
    ] {
        let mut file = std::fs::File::create(content.join("huge")).unwrap();
        file.set_len(size).unwrap();
        file.seek(SeekFrom::Start(size - 2000)).unwrap();
        file.write_all(&[b'e'; 2000]).unwrap();
        let image = make(folder.path(), name, options, 64, &content);
        let tree = open(&image);
        let entry = tree.lookup(tree.root(), b"huge").unwrap().unwrap();
        assert_eq!(tree.metadata(entry.node).unwrap().size, size);
        let mut buf = vec![1; 10_000];
        assert_eq!(
            tree.read_at(entry.node, size - 5000, &mut buf).unwrap(),
            5000
        );
        assert_eq!(buf[..3000], [0; 3000]);
        assert_eq!(buf[3000..5000], [b'e'; 2000]);
        assert_eq!(tree.read_at(entry.node, size, &mut buf).unwrap(), 0);
        assert_eq!(tree.read_at(entry.node, 3 << 30, &mut buf).unwrap(), 10_000);
        assert_eq!(buf, [0; 10_000]);
        let last = size / 4096;
        let text = oracle::must(
            "debugfs",
            &["-R", &format!("bmap /huge {last}"), image.to_str().unwrap()],
        );
        let block: usize = text.trim().parse().unwrap();
        let raw = std::fs::read(&image).unwrap();
        assert_eq!(raw[block * 4096..][..1234], [b'e'; 1234]);
    }
}
