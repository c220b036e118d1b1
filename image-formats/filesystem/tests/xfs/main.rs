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

use images::{OPTION_SETS, make, mount, populate};
use kernel::{check_with_kernel, open, walk};

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
