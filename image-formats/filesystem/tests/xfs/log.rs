//! Logs with work in them: what we read without replaying on disk equals what the kernel recovers.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use dormouse_filesystem::Tree;

use crate::images::{attribute, make, mount, noise, populate};
use crate::kernel::{Manifest, check_with_kernel, must, open, walk};

pub fn copy(image: &Path, name: &str) -> PathBuf {
    let to = image.with_file_name(name);
    let from = image.to_str().unwrap();
    must("cp", &["--sparse=always", from, to.to_str().unwrap()]);
    to
}

/// How a filesystem comes to have work in its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Everything is in the log, and the machine is copied while it runs.
    Copied,
    /// The filesystem goes down with all that it knew in its log.
    Flushed,
    /// It goes down at once: what was not synced is lost.
    Lost,
}

const CASES: &[(&str, &str, End)] = &[
    ("default", "", End::Copied),
    ("flushed", "", End::Flushed),
    ("lost", "", End::Lost),
    ("1k", "-b size=1024 -n size=8192", End::Flushed),
    (
        "all",
        "-i nrext64=1,size=1024 -m rmapbt=1,reflink=1,bigtime=1 -n size=16384",
        End::Flushed,
    ),
    (
        "few",
        "-m finobt=0,reflink=0,bigtime=0,inobtcount=0 -i sparse=0 -d agcount=1",
        End::Flushed,
    ),
    ("stripes", "-l su=256k -d agcount=2", End::Copied),
    ("sector-4k", "-s size=4096", End::Lost),
];

/// Work of all kinds that changes metadata.
fn work(root: &Path, round: u32) {
    let folder = root.join(format!("round-{round}"));
    fs::create_dir(&folder).unwrap();
    for nth in 0..150 {
        fs::write(
            folder.join(format!("new-{nth}-{}", "x".repeat(nth % 60))),
            noise(nth * 50, 1),
        )
        .unwrap();
    }
    for nth in (0..150).step_by(3) {
        fs::remove_file(folder.join(format!("new-{nth}-{}", "x".repeat(nth % 60)))).unwrap();
    }
    symlink("t".repeat(900), folder.join("link")).unwrap();
    symlink("short", folder.join("short")).unwrap();
    fs::rename(folder.join("new-1-x"), root.join(format!("moved-{round}"))).unwrap();
    fs::hard_link(root.join("file-100"), folder.join("hard")).unwrap();
    let many = folder.join("attributes");
    fs::write(&many, b"many").unwrap();
    for nth in 0..60 {
        attribute(&many, &format!("user.name-{nth}"), &noise(nth * 4, 9));
    }
    attribute(&many, "user.large", &noise(9000, round));
    let file = OpenOptions::new()
        .write(true)
        .open(root.join("fragments-700"))
        .unwrap();
    for nth in 0..30 {
        file.write_all_at(&noise(500, nth), u64::from(round * 40 + nth) * 8192 + 4096)
            .unwrap();
    }
    file.sync_all().unwrap();
    file.set_len(u64::from(600 - round * 50) * 8192).unwrap();
    let synced = File::create(folder.join("synced")).unwrap();
    synced.write_all_at(&noise(200_000, round), 10_000).unwrap();
    synced.sync_all().unwrap();
    for nth in (round * 100)..(round * 100 + 90) {
        let _ = fs::remove_file(root.join(format!(
            "node/name-{nth}-{}",
            "n".repeat(nth as usize * 7 % 211)
        )));
    }
    if round > 0 {
        fs::remove_dir_all(root.join(format!("round-{}", round - 1))).unwrap();
    }
    let clone = root.join("file-2000000");
    let _ = std::process::Command::new("cp")
        .args([
            "--reflink=always",
            clone.to_str().unwrap(),
            folder.join("clone").to_str().unwrap(),
        ])
        .output();
    must("sync", &["-f", root.to_str().unwrap()]);
}

/// Makes a filesystem, works on it, and leaves it with a log to replay.
fn dirty(folder: &Path, name: &str, options: &str, end: End) -> PathBuf {
    let image = make(folder, name, options, 64);
    let mounted = mount(&image, "loop,noatime");
    populate(mounted.path());
    drop(mounted);
    let mounted = mount(&image, "loop,noatime");
    let root = mounted.path();
    for round in 0..4 {
        work(root, round);
    }
    let shut_down = |option: &str| {
        must(
            "xfs_io",
            &[
                "-x",
                "-c",
                &format!("shutdown {option}"),
                root.to_str().unwrap(),
            ],
        );
    };
    if end != End::Copied {
        // Not synced by anyone.
        for nth in 0..50 {
            fs::write(root.join(format!("late-{nth}")), b"late").unwrap();
        }
        fs::remove_file(root.join("moved-2")).unwrap();
        shut_down(if end == End::Flushed { "-f" } else { "" });
    }
    let dirty = copy(&image, &format!("{name}.dirty"));
    drop(mounted);
    fs::remove_file(image).unwrap();
    dirty
}

/// A copy of `image` whose log the kernel has replayed.
pub fn recovered(image: &Path) -> PathBuf {
    let to = copy(image, "recovered");
    drop(mount(&to, "loop,noatime"));
    to
}

fn read(name: &str, image: &Path) -> Manifest {
    let tree = open(image);
    assert!(tree.info().journal_replayed, "{name}: nothing was replayed");
    walk(&*tree).unwrap_or_else(|error| panic!("{name}: {}", error.with_causes()))
}

#[test]
fn dirty_logs_read_as_the_kernel_recovers_them() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options, end) in CASES {
        let image = dirty(folder.path(), name, options, *end);
        let manifest = read(name, &image);
        assert!(manifest.contains_key(&b"/round-3/synced"[..]), "{name}");
        let late = manifest.contains_key(&b"/late-49"[..]);
        assert_eq!(late, *end == End::Flushed, "{name}");
        assert!(
            check_with_kernel(&recovered(&image), &manifest),
            "{name}: no mount"
        );
        println!("{name}: {} names", manifest.len());
        fs::remove_file(image).unwrap();
    }
}
