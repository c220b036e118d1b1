//! The reader of XFS against the kernel's mount, xfs_db, and broken images.

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
#[path = "../kernel/mod.rs"]
mod kernel;
mod log;
mod old;
mod unfinished;

use images::{OPTION_SETS, make, mount, populate};
use kernel::{check_with_kernel, open, walk};

/// A file of more than 4 GiB, nearly all of it a hole.
#[test]
fn offsets_beyond_32_bits_are_read() {
    use std::os::unix::fs::FileExt;
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), "huge", "", 64);
    let mounted = mount(&image, "loop,noatime");
    let size: u64 = (5 << 40) + 1234;
    let file = std::fs::File::create(mounted.path().join("huge")).unwrap();
    file.set_len(size).unwrap();
    file.write_all_at(&[b'e'; 2000], size - 2000).unwrap();
    drop(file);
    drop(mounted);
    let tree = open(&image);
    let node = tree.lookup(tree.root(), b"huge").unwrap().unwrap().node;
    assert_eq!(tree.metadata(node).unwrap().size, size);
    let mut buf = vec![1; 10_000];
    assert_eq!(tree.read_at(node, size - 5000, &mut buf).unwrap(), 5000);
    assert_eq!(buf[..3000], [0; 3000]);
    assert_eq!(buf[3000..5000], [b'e'; 2000]);
    assert_eq!(tree.read_at(node, size, &mut buf).unwrap(), 0);
    assert_eq!(tree.read_at(node, 3 << 40, &mut buf).unwrap(), 10_000);
    assert_eq!(buf, [0; 10_000]);
}

#[test]
fn every_option_set_reads_as_the_kernel_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options, mib) in OPTION_SETS {
        let image = make(folder.path(), name, options, *mib);
        let mounted = mount(&image, "loop,noatime");
        populate(mounted.path());
        drop(mounted);
        let tree = open(&image);
        let info = tree.info();
        assert!(!info.journal_replayed, "{name}: it was unmounted");
        println!("{name}: {info:?}");
        let manifest =
            walk(&*tree).unwrap_or_else(|error| panic!("{name}: {}", error.with_causes()));
        assert!(manifest.len() > 1000, "{name}: {}", manifest.len());
        assert!(check_with_kernel(&image, &manifest), "{name}: no mount");
        std::fs::remove_file(image).unwrap();
    }
}
