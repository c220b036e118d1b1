//! Journals with work in them: what we read without replaying on disk equals what e2fsck and the kernel recover.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::images::{make, populate_small};
use crate::oracle::{KernelMount, check_with_debugfs, must, open, run, walk};

/// A copy of `image` whose journal e2fsck has replayed.
pub fn recovered(image: &Path) -> PathBuf {
    let copy = image.with_extension("recovered");
    must(
        "cp",
        &[
            "--sparse=always",
            image.to_str().unwrap(),
            copy.to_str().unwrap(),
        ],
    );
    let output = run(
        "e2fsck",
        &["-y", "-E", "journal_only", copy.to_str().unwrap()],
    );
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    copy
}

/// debugfs writes transactions of its own into the journal and leaves them there: no root is needed.
#[test]
fn transactions_that_debugfs_wrote_are_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    fs::create_dir(&content).unwrap();
    populate_small(&content);
    for (name, options, version) in [
        ("none", "-t ext4 -b 1024 -O ^metadata_csum,^64bit", ""),
        ("wide", "-t ext4 -b 4096 -O ^metadata_csum,64bit", ""),
        ("two", "-t ext4 -b 1024 -O metadata_csum", "-v 2"),
        ("three", "-t ext4 -b 4096 -O metadata_csum,64bit", "-v 3"),
        ("narrow", "-t ext4 -b 2048 -O metadata_csum,^64bit", "-v 3"),
    ] {
        let image = make(folder.path(), name, options, 64, &content);
        let before = walk(&*open(&image)).unwrap();
        // Blocks of /moved are what the journal says they are, one of them escaped; those of /revoked are not.
        let size = usize::from(options.contains("4096")) * 3072
            + usize::from(options.contains("2048")) * 1024
            + 1024;
        let mut bytes = vec![b'j'; size * 3];
        bytes[size..size + 4].copy_from_slice(&0xC03B_3998_u32.to_be_bytes());
        let data = folder.path().join("data");
        fs::write(&data, &bytes).unwrap();
        let other = folder.path().join("other");
        fs::write(&other, vec![b'r'; size]).unwrap();
        let blocks = |path: &str| -> Vec<String> {
            let text = must(
                "debugfs",
                &["-R", &format!("blocks {path}"), image.to_str().unwrap()],
            );
            text.split_whitespace().map(str::to_owned).collect()
        };
        let (moved, revoked) = (blocks("/moved"), blocks("/revoked"));
        let commands = folder.path().join("commands");
        fs::write(
            &commands,
            format!(
                "journal_open {} {version}\njournal_write -b {} {}\njournal_close\n\
                 journal_open\njournal_write -b {} {}\njournal_close\n\
                 journal_open\njournal_write -r {}\njournal_close\n",
                if version.is_empty() { "" } else { "-c" },
                moved[..3].join(","),
                data.display(),
                revoked[0],
                other.display(),
                revoked[0],
            ),
        )
        .unwrap();
        must(
            "debugfs",
            &[
                "-w",
                "-f",
                commands.to_str().unwrap(),
                image.to_str().unwrap(),
            ],
        );
        let tree = open(&image);
        assert!(tree.info().journal_replayed, "{name}: nothing was replayed");
        let manifest = walk(&*tree).unwrap();
        assert_ne!(
            before[&b"/moved"[..]].digest,
            manifest[&b"/moved"[..]].digest,
            "{name}"
        );
        assert_eq!(
            before[&b"/revoked"[..]].digest,
            manifest[&b"/revoked"[..]].digest,
            "{name}"
        );
        check_with_debugfs(&recovered(&image), &manifest);
    }
}

/// The kernel's own transactions: an image copied while it is mounted. Needs root, and is told when it was not run.
#[test]
fn transactions_of_the_running_kernel_are_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    fs::create_dir(&content).unwrap();
    populate_small(&content);
    for (name, options, mount_options) in [
        ("ordered", "-t ext4 -b 4096", "loop,noatime,commit=1"),
        ("journaled", "-t ext4 -b 1024", "loop,noatime,data=journal"),
        (
            "v1",
            "-t ext4 -O ^metadata_csum",
            "loop,noatime,journal_checksum",
        ),
        (
            "async",
            "-t ext4 -O ^metadata_csum,^64bit",
            "loop,noatime,journal_async_commit",
        ),
        ("ext3", "-t ext3", "loop,noatime"),
    ] {
        let image = make(folder.path(), name, options, 64, &content);
        let Some(mount) = KernelMount::new(&image, mount_options) else {
            println!("{name}: not run, this host does not let us mount");
            continue;
        };
        let root = mount.path();
        for round in 0..4 {
            for n in 0..120 {
                fs::write(root.join(format!("new-{round}-{n}")), vec![b'n'; n * 100]).unwrap();
            }
            for n in (0..120).step_by(3) {
                fs::remove_file(root.join(format!("new-{round}-{n}"))).unwrap();
            }
            let folder = root.join(format!("folder-{round}"));
            fs::create_dir(&folder).unwrap();
            symlink("x".repeat(200), folder.join("link")).unwrap();
            fs::rename(root.join(format!("new-{round}-1")), folder.join("moved")).unwrap();
            if round > 0 {
                fs::remove_dir_all(root.join(format!("folder-{}", round - 1))).unwrap();
            }
            // Commits the transaction without writing it to its place.
            must("sync", &["-f", root.to_str().unwrap()]);
        }
        let copy = folder.path().join("dirty");
        must(
            "cp",
            &[
                "--sparse=always",
                image.to_str().unwrap(),
                copy.to_str().unwrap(),
            ],
        );
        drop(mount);
        let tree = open(&copy);
        println!("{name}: {:?}", tree.info());
        let manifest =
            walk(&*tree).unwrap_or_else(|error| panic!("{name}: {}", error.with_causes()));
        assert!(
            tree.info()
                .features
                .iter()
                .any(|feature| feature == "needs_recovery")
        );
        assert!(manifest.contains_key(&b"/folder-3/moved"[..]), "{name}");
        check_with_debugfs(&recovered(&copy), &manifest);
    }
}

/// What is only in the area of fast commits is not read yet, and must not be passed over in silence.
#[test]
fn fast_commits_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    fs::create_dir(&content).unwrap();
    populate_small(&content);
    let image = make(
        folder.path(),
        "fast",
        "-t ext4 -b 4096 -O fast_commit -J size=8,fast_commit_size=1",
        64,
        &content,
    );
    walk(&*open(&image)).unwrap();
    let Some(mount) = KernelMount::new(&image, "loop,noatime,commit=300") else {
        println!("not run, this host does not let us mount");
        return;
    };
    fs::write(mount.path().join("first"), b"first").unwrap();
    must("sync", &["-f", mount.path().to_str().unwrap()]);
    for n in 0..5 {
        let file = fs::File::create(mount.path().join(format!("fast-{n}"))).unwrap();
        file.sync_all().unwrap();
    }
    let copy = folder.path().join("dirty");
    must(
        "cp",
        &[
            "--sparse=always",
            image.to_str().unwrap(),
            copy.to_str().unwrap(),
        ],
    );
    drop(mount);
    match dormouse_filesystem::open(&crate::kernel::source(&copy)) {
        Err(error) => {
            assert_eq!(
                error.kind(),
                dormouse_block::ErrorKind::Unsupported,
                "{error}"
            );
            assert!(error.to_string().contains("fast commits"), "{error}");
            println!("refused: {error}");
        }
        Ok(tree) => {
            // This kernel committed in full after all.
            let manifest = walk(&*tree.unwrap()).unwrap();
            check_with_debugfs(&recovered(&copy), &manifest);
            println!("the kernel made no fast commit");
        }
    }
}

/// A guest that was running when its disk was copied (made by libvirt and QEMU), if it can be converted.
#[test]
fn a_running_guest_is_read_as_e2fsck_recovers_it() {
    let folder = tempfile::tempdir().unwrap();
    let packed = crate::fixtures::fixtures().join("saved-state/libvirt/disk-at-save-raw.qcow2.zst");
    let disk = folder.path().join("disk.qcow2");
    fs::write(&disk, crate::fixtures::unpack(&packed)).unwrap();
    let raw = folder.path().join("disk.raw");
    must(
        "qemu-img",
        &[
            "convert",
            "-O",
            "raw",
            disk.to_str().unwrap(),
            raw.to_str().unwrap(),
        ],
    );
    // Cut out the partitions of its GPT; one of them is the root.
    let bytes = fs::read(&raw).unwrap();
    let mut seen = 0;
    for entry in bytes[1024..1024 + 4 * 128].chunks(128) {
        let field =
            |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().unwrap()) as usize * 512;
        let (start, end) = (field(32), field(40) + 512);
        if start == 0 {
            continue;
        }
        let volume = folder.path().join(format!("volume-{start}"));
        fs::write(&volume, &bytes[start..end]).unwrap();
        let Ok(Some(tree)) = dormouse_filesystem::open(&crate::kernel::source(&volume)) else {
            continue;
        };
        let info = tree.info();
        println!("{info:?}");
        let manifest = walk(&*tree).unwrap();
        if info
            .features
            .iter()
            .any(|feature| feature == "needs_recovery")
        {
            seen += 1;
            check_with_debugfs(&recovered(&volume), &manifest);
        }
    }
    assert!(seen > 0, "no filesystem of the guest was in use");
}
