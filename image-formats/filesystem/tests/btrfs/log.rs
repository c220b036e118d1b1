//! Changes that were synced and not committed: replayed in memory as the kernel replays them on a scratch copy.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::images::{OPTION_SETS, bytes, make};
use crate::oracle::{Mounted, compare, must, open, seen_by_kernel, seen_by_us};

fn sync(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

/// What is committed before each change.
fn prepare(root: &Path) {
    for name in [
        "kept", "grown", "cut", "moved", "linked", "removed", "replaced", "marked", "cloned",
    ] {
        fs::write(root.join(name), bytes(50_000, name.len() as u32)).unwrap();
    }
    for name in ["from", "to", "empty", "full/of/folders"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    for n in 0..60 {
        fs::write(root.join(format!("from/{n}")), n.to_string()).unwrap();
    }
    fs::write(root.join("small"), "inline").unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    for n in 0..4 {
        rustix::fs::lsetxattr(root.join("marked"), format!("user.{n}"), b"before", flags).unwrap();
    }
    for n in 0..100 {
        fs::hard_link(
            root.join("linked"),
            root.join(format!("to/{n}-{}", "l".repeat(100))),
        )
        .unwrap();
    }
    must(
        "btrfs",
        &["subvolume", "create", root.join("sub").to_str().unwrap()],
    );
    fs::write(root.join("sub/file"), "in a subvolume").unwrap();
    rustix::fs::sync();
}

type Change = (&'static str, usize, fn(&Path));

/// Changes, each with the option set of its filesystem.
const CHANGES: &[Change] = &[
    ("a new file", 0, |root| {
        fs::write(root.join("new"), bytes(300_000, 1)).unwrap();
        sync(&root.join("new"));
    }),
    ("a small file grows out of its inode", 0, |root| {
        let mut file = File::options()
            .append(true)
            .open(root.join("small"))
            .unwrap();
        file.write_all(&bytes(9000, 2)).unwrap();
        file.sync_all().unwrap();
    }),
    ("written over, cut and punched", 1, |root| {
        let file = File::options()
            .write(true)
            .open(root.join("grown"))
            .unwrap();
        file.write_all_at(&bytes(20_000, 3), 10_000).unwrap();
        file.write_all_at(&bytes(20_000, 4), 100_000).unwrap();
        file.sync_all().unwrap();
        let cut = File::options().write(true).open(root.join("cut")).unwrap();
        cut.set_len(12_345).unwrap();
        cut.sync_all().unwrap();
        let kept = File::options().write(true).open(root.join("kept")).unwrap();
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&kept, flags, 8192, 16_384).unwrap();
        kept.sync_all().unwrap();
    }),
    ("holes that are written down", 2, |root| {
        let file = File::options()
            .write(true)
            .open(root.join("grown"))
            .unwrap();
        file.write_all_at(&bytes(20_000, 4), 200_000).unwrap();
        file.set_len(400_000).unwrap();
        file.sync_all().unwrap();
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, flags, 8192, 16_384).unwrap();
        file.sync_all().unwrap();
    }),
    ("room beyond the end", 0, |root| {
        let file = File::options()
            .write(true)
            .open(root.join("grown"))
            .unwrap();
        let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, flags, 65_536, 100_000).unwrap();
        file.write_all_at(b"end", 70_000).unwrap();
        file.sync_all().unwrap();
    }),
    ("renamed and replaced", 0, |root| {
        fs::rename(root.join("moved"), root.join("to/moved away")).unwrap();
        sync(&root.join("to/moved away"));
        fs::write(root.join("draft"), "a new version").unwrap();
        sync(&root.join("draft"));
        fs::rename(root.join("draft"), root.join("replaced")).unwrap();
        sync(&root.join("replaced"));
    }),
    ("links made and taken away", 0, |root| {
        fs::hard_link(root.join("linked"), root.join("another")).unwrap();
        fs::remove_file(root.join(format!("to/7-{}", "l".repeat(100)))).unwrap();
        fs::remove_file(root.join(format!("to/93-{}", "l".repeat(100)))).unwrap();
        sync(&root.join("linked"));
    }),
    ("names of a folder", 0, |root| {
        for n in (0..60).step_by(2) {
            fs::remove_file(root.join(format!("from/{n}"))).unwrap();
        }
        for n in 60..90 {
            fs::write(root.join(format!("from/{n}")), n.to_string()).unwrap();
        }
        symlink("target", root.join("from/link")).unwrap();
        sync(&root.join("from"));
    }),
    ("new folders", 0, |root| {
        fs::create_dir_all(root.join("fresh/one/two")).unwrap();
        fs::write(root.join("fresh/one/file"), bytes(5000, 6)).unwrap();
        sync(&root.join("fresh/one/file"));
        sync(&root.join("fresh"));
    }),
    ("attributes", 0, |root| {
        let marked = root.join("marked");
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lremovexattr(&marked, "user.1").unwrap();
        rustix::fs::lsetxattr(&marked, "user.2", b"after", flags).unwrap();
        rustix::fs::lsetxattr(&marked, "user.new", &bytes(500, 7), flags).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&marked, mode).unwrap();
        sync(&marked);
    }),
    ("clones", 1, |root| {
        let at = |name: &str| root.join(name).to_str().unwrap().to_owned();
        must("cp", &["--reflink=always", &at("cloned"), &at("clone")]);
        let clone = File::options()
            .write(true)
            .open(root.join("clone"))
            .unwrap();
        clone.write_all_at(&bytes(5000, 8), 20_000).unwrap();
        clone.sync_all().unwrap();
    }),
    ("removed and made again", 0, |root| {
        fs::remove_file(root.join("removed")).unwrap();
        fs::write(root.join("removed"), "another one").unwrap();
        sync(&root.join("removed"));
        fs::remove_file(root.join("cut")).unwrap();
        fs::rename(root.join("grown"), root.join("cut")).unwrap();
        sync(&root.join("cut"));
    }),
    ("two subvolumes", 0, |root| {
        fs::write(root.join("sub/file"), "changed").unwrap();
        sync(&root.join("sub/file"));
        fs::write(root.join("sub/second"), bytes(70_000, 9)).unwrap();
        sync(&root.join("sub/second"));
        fs::write(root.join("new"), "new").unwrap();
        sync(&root.join("new"));
    }),
    ("unlinked while open", 0, |root| {
        let file = File::options()
            .write(true)
            .open(root.join("removed"))
            .unwrap();
        fs::remove_file(root.join("removed")).unwrap();
        file.write_all_at(b"gone", 0).unwrap();
        file.sync_all().unwrap();
        fs::write(root.join("new"), "new").unwrap();
        sync(&root.join("new"));
        drop(file);
    }),
    ("swapped names", 0, |root| {
        let (one, two) = (root.join("kept"), root.join("moved"));
        fs::rename(&one, root.join("third")).unwrap();
        fs::rename(&two, &one).unwrap();
        fs::rename(root.join("third"), &two).unwrap();
        sync(&one);
    }),
];

#[test]
fn synced_changes_are_replayed_as_the_kernel_replays_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut committed = Vec::new();
    for (what, set, change) in CHANGES {
        let set = &OPTION_SETS[*set];
        let image = make(folder.path(), set);
        let mounted = Mounted::on(&image, &format!("{},commit=300", set.mount));
        prepare(mounted.path());
        change(mounted.path());
        let (ours, scratch) = (folder.path().join("ours"), folder.path().join("scratch"));
        for copy in [&ours, &scratch] {
            must(
                "cp",
                &[
                    "--sparse=always",
                    image.to_str().unwrap(),
                    copy.to_str().unwrap(),
                ],
            );
        }
        drop(mounted);
        fs::remove_file(&image).unwrap();
        let tree = open(&ours);
        if !tree.info().journal_replayed {
            // The kernel prefers a whole commit where a log would be hard to replay.
            committed.push(*what);
        }
        let seen =
            seen_by_us(&*tree).unwrap_or_else(|error| panic!("{what}: {}", error.with_causes()));
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let since = i64::try_from(since.as_secs()).unwrap();
        let mounted = Mounted::on(&scratch, "rw");
        compare(what, &seen, &seen_by_kernel(mounted.path()), Some(since));
    }
    println!("committed as a whole: {committed:?}");
    assert!(committed.len() <= 2, "{committed:?}");
}
