//! Version 4, which new kernels read no more: mkfs.xfs fills it from a description, xfs_db adds attributes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use dormouse_filesystem::NodeKind;

use crate::images::noise;
use crate::kernel::{must, open, walk};

/// Folders by name: names in each, and the longest.
const FOLDERS: &[(&str, usize, usize)] = &[
    ("few", 3, 10),
    ("block", 40, 30),
    ("leaf", 300, 40),
    ("node", 2500, 150),
];
const SIZES: &[usize] = &[0, 1, 511, 4096, 4097, 100_000, 1_500_000];

fn name(nth: usize, longest: usize) -> String {
    format!("{nth}-{}", "n".repeat(nth * 7 % longest))
}

/// A description for `mkfs.xfs -p`, whose files are in `content`.
fn description(content: &Path) -> String {
    let mut out = "boot\n0 0\nd--755 0 0\n".to_owned();
    let empty = content.join("empty");
    fs::write(&empty, b"").unwrap();
    for size in SIZES {
        let path = content.join(size.to_string());
        fs::write(&path, noise(*size, 4)).unwrap();
        writeln!(out, "file-{size} -u-640 70000 12 {}", path.display()).unwrap();
    }
    for (folder, count, longest) in FOLDERS {
        writeln!(out, "{folder} d--750 5 6").unwrap();
        for nth in 0..*count {
            writeln!(
                out,
                "{} ---644 0 0 {}",
                name(nth, *longest),
                empty.display()
            )
            .unwrap();
        }
        out.push_str("$\n");
    }
    for len in [1, 100, 600, 1023] {
        writeln!(out, "link-{len} l--777 0 0 {}", "t".repeat(len)).unwrap();
    }
    out.push_str("char c--600 0 0 511 261000\nblock-device b--660 0 6 8 1\npipe p--644 1 2\n$\n");
    out
}

fn make(folder: &Path, options: &str) -> PathBuf {
    let image = folder.join("old.img");
    fs::File::create(&image).unwrap().set_len(48 << 20).unwrap();
    let content = folder.join("content");
    fs::create_dir_all(&content).unwrap();
    let list = folder.join("description");
    fs::write(&list, description(&content)).unwrap();
    let mut args = vec!["-q", "-f", "--unsupported", "-p", list.to_str().unwrap()];
    args.extend(options.split_whitespace());
    args.push(image.to_str().unwrap());
    must("mkfs.xfs", &args);
    image
}

/// Attributes of version 4: xfs_db fills values with the letter v.
fn decorate(image: &Path, node: u64) -> BTreeMap<Vec<u8>, usize> {
    let mut args = vec!["-x".to_owned(), "-c".to_owned(), format!("inode {node}")];
    let mut expected = BTreeMap::new();
    for (nth, (flag, prefix)) in [("-u", "user."), ("-r", "trusted."), ("-s", "security.")]
        .iter()
        .cycle()
        .take(200)
        .enumerate()
    {
        let size = if nth == 100 { 30_000 } else { nth * 3 + 1 };
        args.extend([
            "-c".to_owned(),
            format!("attr_set {flag} -v {size} name-{nth}"),
        ]);
        expected.insert(format!("{prefix}name-{nth}").into_bytes(), size);
    }
    args.push(image.to_str().unwrap().to_owned());
    must(
        "xfs_db",
        &args.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    expected
}

/// A small image for mutations.
pub fn small(folder: &Path) -> PathBuf {
    let image = make(folder, "-m crc=0");
    let tree = open(&image);
    let node = tree.lookup(tree.root(), b"file-511").unwrap().unwrap().node;
    decorate(&image, node.0);
    image
}

#[test]
fn version_4_reads_as_it_was_described() {
    let folder = tempfile::tempdir().unwrap();
    for options in [
        "-m crc=0",
        "-m crc=0 -n ftype=0 -i size=256",
        "-m crc=0 -b size=512 -d agcount=2",
        "-m crc=0 -n size=65536 -l version=1",
        "-m crc=0 -n version=ci -b size=1024",
        "-m crc=0 -i size=2048 -l lazy-count=0",
    ] {
        let image = make(folder.path(), options);
        let node = {
            let tree = open(&image);
            tree.lookup(tree.root(), b"file-511").unwrap().unwrap().node
        };
        let expected = decorate(&image, node.0);
        must("xfs_repair", &["-n", "-f", image.to_str().unwrap()]);
        let tree = open(&image);
        let info = tree.info();
        println!("{options}: {:?}", info.features);
        assert_eq!(info.features[0], "v4", "{options}");
        let manifest =
            walk(&*tree).unwrap_or_else(|error| panic!("{options}: {}", error.with_causes()));
        let entry = |path: &str| &manifest[format!("/{path}").as_bytes()];
        let mut names = 1 + SIZES.len() + FOLDERS.len() + 7;
        for (folder, count, longest) in FOLDERS {
            names += count;
            for nth in 0..*count {
                let metadata = &entry(&format!("{folder}/{}", name(nth, *longest))).metadata;
                assert_eq!((metadata.mode, metadata.size), (0o644, 0), "{options}");
            }
            let metadata = &entry(folder).metadata;
            assert_eq!((metadata.mode, metadata.uid, metadata.gid), (0o750, 5, 6));
        }
        assert_eq!(manifest.len(), names, "{options}");
        for size in SIZES {
            let file = entry(&format!("file-{size}"));
            assert_eq!(file.metadata.mode, 0o4640);
            assert_eq!((file.metadata.uid, file.metadata.gid), (70000, 12));
            let path = folder.path().join(format!("content/{size}"));
            assert_eq!(
                file.digest,
                Some(crate::kernel::digest_of(&path, u64::MAX)),
                "{options}: {size}"
            );
        }
        for len in [1, 100, 600, 1023] {
            let target = entry(&format!("link-{len}")).target.as_deref();
            assert_eq!(target, Some("t".repeat(len).as_bytes()), "{options}");
        }
        assert_eq!(entry("char").metadata.device, Some((511, 261_000)));
        assert_eq!(entry("block-device").metadata.device, Some((8, 1)));
        assert_eq!(entry("pipe").metadata.kind, NodeKind::Fifo);
        let found: BTreeMap<Vec<u8>, usize> = entry("file-511")
            .xattrs
            .iter()
            .map(|(name, value)| {
                assert!(value.iter().all(|byte| *byte == b'v'), "{options}");
                (name.clone(), value.len())
            })
            .collect();
        for (name, size) in &expected {
            let shown = String::from_utf8_lossy(name);
            assert_eq!(found.get(name), Some(size), "{options}: {shown}");
        }
        assert_eq!(found.len(), expected.len(), "{options}");
        if options.contains("version=ci") {
            let root = tree.root();
            let exact = tree.lookup(root, b"file-511").unwrap();
            assert_eq!(tree.lookup(root, b"FILE-511").unwrap(), exact);
        }
        fs::remove_file(image).unwrap();
    }
}
