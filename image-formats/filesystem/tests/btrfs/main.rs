//! The reader of btrfs against the kernel's own mount, `btrfs restore`, and the broken images of btrfs-progs.

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

mod devices;
mod fixtures;
mod hostile;
mod images;
mod log;
mod oracle;
mod systems;

use images::{OPTION_SETS, age, make, populate};
use oracle::{Mounted, compare, open, seen_by_kernel, seen_by_us};

#[test]
fn every_option_set_reads_as_the_kernel_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    for set in OPTION_SETS {
        let image = make(folder.path(), set);
        let mounted = Mounted::on(&image, set.mount);
        populate(mounted.path());
        age(mounted.path());
        drop(mounted);
        let tree = open(&image);
        println!("{}: {:?}", set.name, tree.info());
        let ours = seen_by_us(&*tree)
            .unwrap_or_else(|error| panic!("{}: {}", set.name, error.with_causes()));
        assert!(ours.len() > 300, "{}: {}", set.name, ours.len());
        let mounted = Mounted::on(&image, "ro");
        compare(set.name, &ours, &seen_by_kernel(mounted.path()), None);
        drop(mounted);
        restore(&image, &ours);
        std::fs::remove_file(image).unwrap();
    }
}

/// `btrfs restore` reads without any mount: the bytes of every file of the top level.
fn restore(image: &std::path::Path, ours: &oracle::Seen) {
    let to = tempfile::tempdir().unwrap();
    let (image, folder) = (image.to_str().unwrap(), to.path().to_str().unwrap());
    oracle::must("btrfs", &["restore", "-S", "-i", image, folder]);
    let mut files = 0;
    for (path, fact) in ours {
        let path = std::path::Path::new(std::str::from_utf8(path).unwrap());
        let restored = to.path().join(path.strip_prefix("/").unwrap());
        // Subvolumes are left out by it, and so is what is empty.
        if let (Some(digest), Ok(bytes)) = (&fact.digest, std::fs::read(&restored)) {
            assert_eq!(
                *digest,
                oracle::digest(&bytes),
                "{} restored",
                path.display()
            );
            files += 1;
        }
    }
    assert!(files > 30, "{files} files restored");
}

/// Each subvolume by its number, as the kernel mounts it by `subvolid`; the default one as it mounts the filesystem.
#[test]
fn subvolumes_snapshots_and_the_default_read_as_the_kernel_mounts_them() {
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), &OPTION_SETS[0]);
    let mounted = Mounted::on(&image, "rw");
    let at = |path: &str| mounted.path().join(path).to_str().unwrap().to_owned();
    for path in ["@", "@home", "@/nested"] {
        oracle::must("btrfs", &["subvolume", "create", &at(path)]);
    }
    std::fs::write(at("@/file"), "one").unwrap();
    std::fs::write(at("@/nested/file"), "nested").unwrap();
    std::fs::create_dir_all(at("snapshots/a/b")).unwrap();
    oracle::must(
        "btrfs",
        &[
            "subvolume",
            "snapshot",
            "-r",
            &at("@"),
            &at("snapshots/a/b/first"),
        ],
    );
    std::fs::write(at("@/file"), "two").unwrap();
    oracle::must("btrfs", &["subvolume", "snapshot", &at("@"), &at("second")]);
    oracle::must("btrfs", &["subvolume", "snapshot", &at("@"), &at("gone")]);
    oracle::must("btrfs", &["subvolume", "delete", &at("gone")]);
    std::fs::rename(at("snapshots/a"), at("snapshots/moved")).unwrap();
    oracle::must("btrfs", &["subvolume", "set-default", &at("@")]);
    rustix::fs::sync();
    let listed = oracle::must("btrfs", &["subvolume", "list", "-a", "-u", "-q", &at("")]);
    drop(mounted);

    let tree = open(&image);
    let subvolumes = tree.subvolumes().unwrap();
    println!("{listed}\n{subvolumes:#?}");
    let mut ours = String::new();
    for one in subvolumes.iter().filter(|one| one.id != 5) {
        let line = listed
            .lines()
            .find(|line| line.starts_with(&format!("ID {} ", one.id)))
            .unwrap_or_else(|| panic!("{one:?}"));
        ours += &format!("{}\n", one.id);
        let path = line
            .split(" path ")
            .nth(1)
            .unwrap()
            .trim_start_matches("<FS_TREE>/");
        assert_eq!(one.path.to_string(), format!("/{path}"));
        let field = |name: &str| {
            line.split(name)
                .nth(1)
                .unwrap()
                .split_whitespace()
                .next()
                .unwrap()
        };
        assert_eq!(one.uuid.as_deref(), Some(field(" uuid ")));
        assert_eq!(
            one.parent_uuid.as_deref().unwrap_or("-"),
            field("parent_uuid ")
        );
        assert_eq!(one.generation.to_string(), field("gen "));
        assert_eq!(one.default, one.path.to_string() == "/@");
        assert_eq!(one.read_only, path.ends_with("first"));
    }
    assert_eq!(ours.lines().count(), 5, "the deleted one is not listed");
    for one in &subvolumes {
        let by_id = tree.subvolume(one.id).unwrap();
        let mounted = Mounted::on(&image, &format!("ro,subvolid={}", one.id));
        let name = one.path.to_string();
        compare(
            &name,
            &seen_by_us(&*by_id).unwrap(),
            &seen_by_kernel(mounted.path()),
            None,
        );
    }
    let mounted = Mounted::on(&image, "ro");
    compare(
        "default",
        &seen_by_us(&*tree).unwrap(),
        &seen_by_kernel(mounted.path()),
        None,
    );
    assert!(tree.subvolume(999).is_err());
}
