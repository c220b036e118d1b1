//! What single features ask for: deep maps, large files, deep indexes, projects, quota, clusters.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

use dormouse_block::{ErrorKind, Result, Source};
use dormouse_filesystem::NodeKind;
use dormouse_overlay::ext::{Ext4Editor, Options};
use dormouse_overlay::{Device, Editor};

use crate::device::FileDevice;
use crate::hostile::Memory;
use crate::model::{Model, NOW, Node, Random, attributes, digest, make, open, path};
use crate::oracle::{self, check_with_kernel, must, run};

fn clean(image: &Path, name: &str) {
    let output = run("e2fsck", &["-fn", image.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{name}: {text}");
    for line in text.lines() {
        let quiet = line.starts_with("Pass ") || line.contains(" files (");
        assert!(quiet, "{name}: e2fsck says: {text}");
    }
}

fn model(image: &Path) -> Model {
    let mut model = Model::of(&oracle::walk(&*oracle::open(image)).unwrap());
    for node in &mut model.nodes {
        node.timed = node.kind != NodeKind::Directory;
    }
    model
}

fn file(bytes: &[u8]) -> Node {
    Node {
        kind: NodeKind::File,
        attributes: attributes(0o644),
        timed: true,
        size: bytes.len() as u64,
        digest: Some(digest(bytes)),
        target: None,
        device: None,
    }
}

fn stat(image: &Path, path: &str) -> String {
    must(
        "debugfs",
        &["-R", &format!("stat {path}"), image.to_str().unwrap()],
    )
}

/// Direct, single, double and triple indirect blocks, each begun and filled.
#[test]
fn block_maps_reach_through_three_levels() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options) in [
        ("ext2", "-t ext2 -b 1024"),
        ("ext3", "-t ext3 -b 1024 -I 256"),
        ("ext4-without-extents", "-t ext4 -b 1024 -O ^extents,^64bit"),
    ] {
        let image = make(folder.path(), name, options, 200, None);
        let mut model = model(&image);
        let mut editor = open(&image);
        let mut random = Random(17);
        for (nth, blocks) in [11, 12, 13, 268, 269, 65_804, 66_200].iter().enumerate() {
            let len = blocks * 1024 - nth * 100;
            let bytes = random.bytes(len);
            let at = format!("/f{blocks}");
            editor
                .put_file(&path(&at), &attributes(0o644), len as u64, &mut &bytes[..])
                .unwrap();
            model.add(&at, file(&bytes));
        }
        editor.finish().unwrap();
        let manifest = model.check(&image, name);
        let text = stat(&image, "/f66200");
        assert!(text.contains("(TIND)"), "{name}: {text}");
        assert!(!stat(&image, "/f65804").contains("(TIND)"), "{name}");
        check_with_kernel(&image, &manifest);
        let mut editor = open(&image);
        for at in model.children("/") {
            if at.starts_with("/f") {
                editor.remove(&path(&at)).unwrap();
                model.names.remove(&at);
            }
        }
        editor.finish().unwrap();
        model.check(&image, name);
    }
}

/// Leaves zeroes where nothing was written yet.
struct SparseDevice(Arc<dyn Device>);

impl Source for SparseDevice {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.0.read_exact_at(offset, buf)
    }
}

impl Device for SparseDevice {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        if bytes.len() >= 65_536 && bytes.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        self.0.write_at(offset, bytes)
    }
}

#[test]
fn files_over_two_gigabytes_set_the_feature() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options) in [
        ("ext2", "-t ext2 -b 4096 -O ^large_file,^resize_inode"),
        (
            "ext4",
            "-t ext4 -O ^large_file,^resize_inode,^metadata_csum",
        ),
        (
            "ext4-summed",
            "-t ext4 -O ^large_file,^resize_inode,metadata_csum",
        ),
        ("bigalloc", "-t ext4 -O bigalloc,^large_file,^resize_inode"),
    ] {
        let image = make(folder.path(), name, options, 3000, None);
        let header = || must("dumpe2fs", &["-h", image.to_str().unwrap()]);
        assert!(!header().contains("large_file"), "{name}");
        let device = Arc::new(SparseDevice(FileDevice::open(&image)));
        let mut editor = Box::new(Ext4Editor::open(device, Options { now: NOW }).unwrap());
        let size = (1_u64 << 31) + 12_345;
        editor
            .put_file(
                &path("/large"),
                &attributes(0o644),
                size,
                &mut std::io::repeat(0).take(size),
            )
            .unwrap();
        editor.finish().unwrap();
        clean(&image, name);
        assert!(header().contains("large_file"), "{name}");
        assert!(
            stat(&image, "/large").contains(&format!("Size: {size}")),
            "{name}"
        );
        fs::remove_file(&image).unwrap();
    }
}

/// Names of 250 bytes in blocks of 1 KiB, three to a leaf: the index grows to two and, with `large_dir`, three levels.
#[test]
fn indexes_grow_as_deep_as_the_filesystem_allows() {
    let folder = tempfile::tempdir().unwrap();
    let name_of = |n: usize| format!("/big/{n:06}-{}", "x".repeat(243));
    for (name, options, count, depth) in [
        ("one", "-t ext4 -b 1024", 300, 0),
        ("two", "-t ext4 -b 1024 hash_alg=tea", 3000, 1),
        ("three", "-t ext4 -b 1024 -O large_dir", 42_000, 2),
    ] {
        let image = make(folder.path(), name, options, 120, None);
        let mut editor = open(&image);
        editor
            .make_directory(&path("/big"), &attributes(0o755))
            .unwrap();
        editor
            .put_file(&path("/one"), &attributes(0o644), 1, &mut &b"1"[..])
            .unwrap();
        for n in 0..count {
            editor.link(&path("/one"), &path(&name_of(n))).unwrap();
        }
        editor.finish().unwrap();
        clean(&image, name);
        let text = must("debugfs", &["-R", "htree /big", image.to_str().unwrap()]);
        let wanted = format!("Indirect levels: {depth}");
        assert!(
            text.contains(&wanted),
            "{name}: {}",
            &text[..400.min(text.len())]
        );
        // In place, with splits among them.
        let mut editor = open(&image);
        for n in count..count + 400 {
            editor.link(&path("/one"), &path(&name_of(n))).unwrap();
        }
        for n in 0..100 {
            editor.remove(&path(&name_of(n * 3))).unwrap();
        }
        editor.finish().unwrap();
        clean(&image, name);
        let manifest = oracle::walk(&*oracle::open(&image)).unwrap();
        assert_eq!(manifest.len(), count + 300 + 4, "{name}");
        println!(
            "{name}: equal to the kernel's mount: {}",
            check_with_kernel(&image, &manifest)
        );
    }
}

#[test]
fn a_directory_beyond_its_index_is_a_limit_and_stays_sound() {
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), "full", "-t ext4 -b 1024", 120, None);
    let mut editor = open(&image);
    editor
        .make_directory(&path("/big"), &attributes(0o755))
        .unwrap();
    editor
        .put_file(&path("/one"), &attributes(0o644), 1, &mut &b"1"[..])
        .unwrap();
    let mut count = 0;
    let error = loop {
        let name = format!("/big/{count:06}-{}", "x".repeat(243));
        match editor.link(&path("/one"), &path(&name)) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
        assert!(count < 60_000, "never full");
    };
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    assert!(count > 20_000, "full after {count}");
    editor.finish().unwrap();
    clean(&image, "full");
    let manifest = oracle::walk(&*oracle::open(&image)).unwrap();
    assert_eq!(manifest.len(), count + 4);
}

#[test]
fn what_is_made_takes_the_project_and_flags_of_its_directory() {
    let folder = tempfile::tempdir().unwrap();
    let image = make(
        folder.path(),
        "project",
        "-t ext4 -O quota,project -I 256",
        64,
        None,
    );
    let mut editor = open(&image);
    for name in ["/p", "/other"] {
        editor
            .make_directory(&path(name), &attributes(0o755))
            .unwrap();
    }
    editor
        .put_file(&path("/other/f"), &attributes(0o644), 1, &mut &b"1"[..])
        .unwrap();
    editor.finish().unwrap();
    let shown = image.to_str().unwrap();
    must(
        "debugfs",
        &["-w", "-R", "set_inode_field /p projid 77", shown],
    );
    // Extents, projects handed down, no access times.
    must(
        "debugfs",
        &["-w", "-R", "set_inode_field /p flags 0x20080080", shown],
    );
    run("e2fsck", &["-fy", shown]);
    let mut editor = open(&image);
    editor
        .make_directory(&path("/p/d"), &attributes(0o755))
        .unwrap();
    let bytes = vec![1; 50_000];
    for name in ["/p/d/f", "/p/g"] {
        editor
            .put_file(&path(name), &attributes(0o644), 50_000, &mut &bytes[..])
            .unwrap();
    }
    editor
        .put_symlink(&path("/p/l"), &attributes(0o777), &[b'l'; 100])
        .unwrap();
    for error in [
        editor.link(&path("/other/f"), &path("/p/h")),
        editor.rename(&path("/other/f"), &path("/p/h")),
    ] {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Denied);
    }
    editor.rename(&path("/p/g"), &path("/p/d/g")).unwrap();
    editor.rename(&path("/p/d/f"), &path("/other/g")).unwrap();
    editor.finish().unwrap();
    clean(&image, "project");
    for (at, flags) in [
        ("/p/d", "0x20080080"),
        ("/p/d/g", "0x80080"),
        ("/p/l", "0x80080"),
        ("/other/g", "0x80080"),
    ] {
        let text = stat(&image, at);
        assert!(text.contains("Project:    77"), "{at}: {text}");
        assert!(text.contains(&format!("Flags: {flags}")), "{at}: {text}");
    }
    let quota = must("debugfs", &["-R", "get_quota project 77", shown]);
    // Two directories, two files of 52 KiB on disk (blocks of 1 KiB or 4), and a link.
    let line = quota.lines().find(|line| line.trim().starts_with("77 "));
    let fields: Vec<&str> = line
        .unwrap_or_else(|| panic!("{quota}"))
        .split_whitespace()
        .collect();
    assert_eq!(fields[4], "5", "{quota}");
}

/// A tree of quota that loops, leads outside or lies: an error, and never a panic.
#[test]
fn broken_quota_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let image = make(
        folder.path(),
        "quota",
        "-t ext4 -b 1024 -O quota,^metadata_csum",
        8,
        None,
    );
    let shown = image.to_str().unwrap();
    let blocks = must("debugfs", &["-R", "blocks <3>", shown]);
    let blocks: Vec<usize> = blocks
        .split_whitespace()
        .map(|n| n.parse().unwrap())
        .collect();
    let whole = fs::read(&image).unwrap();
    let mut refused = 0;
    let mut random = Random(3);
    for (nth, block) in blocks.iter().enumerate() {
        for _ in 0..60 {
            let mut bytes = whole.clone();
            let at = block * 1024 + random.below(if nth == 0 { 32 } else { 8 });
            bytes[at] = [1, 2, 3, 0xFF, 0x80][random.below(5)];
            let device = Arc::new(Memory(Mutex::new(bytes)));
            match Ext4Editor::open(device, Options { now: NOW }) {
                Err(error) => {
                    assert_ne!(error.kind(), ErrorKind::Io, "{error}");
                    refused += 1;
                }
                Ok(editor) => {
                    let mut editor = Box::new(editor);
                    let done = editor.put_file(&path("/f"), &attributes(0o644), 1, &mut &b"1"[..]);
                    done.unwrap();
                    // Usage that would be less than nothing is found at the end.
                    let _ = editor.finish();
                }
            }
        }
    }
    assert!(refused > 60, "only {refused} were refused");
}

/// Indirect blocks and extents that lead to the filesystem's own tables, outside, or to themselves.
#[test]
fn maps_that_lead_to_tables_or_outside_are_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    fs::create_dir(&content).unwrap();
    fs::write(content.join("f"), vec![b'f'; 400_000]).unwrap();
    let image = make(
        folder.path(),
        "maps",
        "-t ext2 -b 1024 -N 64",
        8,
        Some(&content),
    );
    let shown = image.to_str().unwrap();
    let text = stat(&image, "/f");
    let indirect: usize = text
        .split("(IND):")
        .nth(1)
        .and_then(|rest| rest.split([',', '\n']).next())
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let whole = fs::read(&image).unwrap();
    let table = must("dumpe2fs", &[shown]);
    let table: u32 = table
        .split("Inode table at ")
        .nth(1)
        .and_then(|rest| rest.split('-').next())
        .unwrap()
        .parse()
        .unwrap();
    for (what, value) in [
        ("the inode table", table),
        ("the superblock", 1),
        ("outside", 9_000_000),
        ("itself", indirect as u32),
    ] {
        let mut bytes = whole.clone();
        bytes[indirect * 1024 + 80..indirect * 1024 + 84].copy_from_slice(&value.to_le_bytes());
        let device = Arc::new(Memory(Mutex::new(bytes)));
        let mut editor = Box::new(Ext4Editor::open(device, Options { now: NOW }).unwrap());
        let error = editor.remove(&path("/f")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
    }
}

/// Files of every length around a cluster: none shares one, none loses one.
#[test]
fn clusters_are_taken_and_given_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options) in [
        ("4k", "-t ext4 -O bigalloc -b 4096 -C 65536"),
        ("1k", "-t ext4 -O bigalloc -b 1024 -C 16384"),
        (
            "1k-32",
            "-t ext4 -O bigalloc,^64bit,^metadata_csum -b 1024 -C 8192",
        ),
    ] {
        let image = make(folder.path(), name, options, 64, None);
        let mut model = model(&image);
        let free = open(&image).free_bytes();
        let mut editor = open(&image);
        let mut random = Random(23);
        for n in 0..150 {
            let len = [0, 1, 4095, 4096, 65_535, 65_536, 65_537][random.below(7)] + n;
            let bytes = random.bytes(len);
            let at = format!("/f{n}");
            let mut with = attributes(0o644);
            if n % 3 == 0 {
                with.xattrs.insert(b"user.long".to_vec(), vec![b'v'; 600]);
            }
            editor
                .put_file(&path(&at), &with, len as u64, &mut &bytes[..])
                .unwrap();
            model.add(
                &at,
                Node {
                    attributes: with,
                    ..file(&bytes)
                },
            );
        }
        editor.finish().unwrap();
        let manifest = model.check(&image, name);
        check_with_kernel(&image, &manifest);
        let mut editor = open(&image);
        for n in 0..150 {
            editor.remove(&path(&format!("/f{n}"))).unwrap();
            model.names.remove(&format!("/f{n}"));
        }
        editor.finish().unwrap();
        model.check(&image, name);
        let unit = open(&image).room().unit;
        // The root directory keeps what it grew to.
        assert!(free - open(&image).free_bytes() <= unit, "{name}");
    }
}
