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
