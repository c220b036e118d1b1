//! Independent readers of ext: debugfs without root, and the kernel's own mount where the host allows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use dormouse_block::{HostFile, Source};
use dormouse_filesystem::{Metadata, NodeId, NodeKind, Tree};
use sha2::{Digest, Sha256};

/// Entries of one tree that a walk visits before it is called endless.
const MAX_WALK: usize = 200_000;

/// One name of a tree and all that is known of what it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub metadata: Metadata,
    pub digest: Option<String>,
    pub target: Option<Vec<u8>>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

pub type Manifest = BTreeMap<Vec<u8>, Entry>;

pub fn run(program: &str, args: &[&str]) -> Output {
    let path = format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    );
    let output = Command::new(program)
        .args(args)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .env("MKE2FS_SKIP_PROGRESS", "1")
        .env("MKE2FS_SKIP_CHECK_MSG", "1")
        .output();
    output.unwrap_or_else(|error| panic!("the oracle {program} cannot be run: {error}"))
}

pub fn must(program: &str, args: &[&str]) -> String {
    let output = run(program, args);
    assert!(
        output.status.success(),
        "{program} {args:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn source(path: &Path) -> Arc<dyn Source> {
    Arc::new(HostFile::open(path).unwrap())
}

pub fn open(path: &Path) -> Arc<dyn Tree> {
    dormouse_filesystem::open(&source(path))
        .unwrap_or_else(|error| panic!("{}: {}", path.display(), error.with_causes()))
        .expect("a known filesystem")
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest_file(tree: &dyn Tree, node: NodeId, size: u64) -> dormouse_block::Result<String> {
    let mut hasher = Sha256::new();
    let mut buf = vec![0; 300_001];
    let mut offset = 0;
    while offset < size {
        let n = tree.read_at(node, offset, &mut buf)?;
        assert!(n > 0, "reading stands still");
        hasher.update(&buf[..n]);
        offset += n as u64;
    }
    Ok(hex(&hasher.finalize()))
}

/// Everything in `tree`, each name also looked up on its own.
pub fn walk(tree: &dyn Tree) -> dormouse_block::Result<Manifest> {
    let mut out = Manifest::new();
    let mut todo = vec![(b"/".to_vec(), tree.root())];
    let mut seen = BTreeSet::new();
    while let Some((path, node)) = todo.pop() {
        assert!(out.len() < MAX_WALK, "an endless tree");
        let metadata = tree.metadata(node)?;
        let mut entry = Entry {
            digest: None,
            target: None,
            xattrs: tree.xattrs(node)?,
            metadata,
        };
        match entry.metadata.kind {
            NodeKind::File => entry.digest = Some(digest_file(tree, node, entry.metadata.size)?),
            NodeKind::Symlink => entry.target = Some(tree.read_link(node)?),
            NodeKind::Directory => {
                assert!(seen.insert(node), "a directory with two names");
                assert_eq!(tree.lookup(node, b"no such name")?, None);
                for child in tree.read_dir(node)? {
                    assert_eq!(tree.lookup(node, &child.name)?.as_ref(), Some(&child));
                    let mut full = path.clone();
                    if full != b"/" {
                        full.push(b'/');
                    }
                    full.extend_from_slice(&child.name);
                    todo.push((full, child.node));
                }
            }
            _ => {}
        }
        out.insert(path, entry);
    }
    Ok(out)
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let at = text.find(name)?;
    text[at + name.len()..].split_whitespace().next()
}

fn stamp(text: &str, name: &str) -> (i64, u32) {
    let value = field(text, name).unwrap_or_else(|| panic!("no {name} in {text}"));
    let (low, extra) = value.split_once(':').unwrap_or((value, "0"));
    let low = u32::from_str_radix(low.trim_start_matches("0x"), 16).unwrap();
    let extra = u32::from_str_radix(extra, 16).unwrap();
    (
        i64::from(low.cast_signed()) + (i64::from(extra & 3) << 32),
        extra >> 2,
    )
}

/// Holds `manifest` against what debugfs says of every directory, inode, file and attribute of `image`.
pub fn check_with_debugfs(image: &Path, manifest: &Manifest) {
    let scratch = tempfile::tempdir().unwrap();
    let nodes: BTreeMap<u64, (&Vec<u8>, &Entry)> = manifest
        .iter()
        .map(|(path, entry)| (entry.metadata.node.0, (path, entry)))
        .collect();
    let mut script = String::new();
    let dump = |node: u64| scratch.path().join(format!("data-{node}"));
    for (node, (_, entry)) in &nodes {
        script += &format!("stat <{node}>\n");
        if entry.metadata.kind == NodeKind::Directory {
            script += &format!("ls -p <{node}>\n");
        }
        let dumped = matches!(entry.metadata.kind, NodeKind::File | NodeKind::Symlink);
        if dumped && entry.metadata.size > 0 {
            script += &format!("dump <{node}> {}\n", dump(*node).display());
        }
        for (nth, name) in entry.xattrs.keys().enumerate() {
            let to = scratch.path().join(format!("attr-{node}-{nth}"));
            script += &format!(
                "ea_get -f {} <{node}> {}\n",
                to.display(),
                String::from_utf8_lossy(name)
            );
        }
    }
    let commands = scratch.path().join("commands");
    fs::write(&commands, script).unwrap();
    let text = must(
        "debugfs",
        &["-f", commands.to_str().unwrap(), image.to_str().unwrap()],
    );
    let mut names = 0;
    for part in text.split("debugfs: ").filter(|part| !part.is_empty()) {
        let (command, answer) = part.split_once('\n').unwrap();
        let Some(node) = command
            .split(['<', '>'])
            .nth(1)
            .and_then(|node| node.parse::<u64>().ok())
        else {
            continue;
        };
        let (path, entry) = nodes[&node];
        let path = String::from_utf8_lossy(path);
        if command.starts_with("stat") {
            check_stat(&path, entry, answer);
        } else if command.starts_with("ls") {
            names += check_listing(&path, manifest, answer);
        }
    }
    assert_eq!(names + 1, manifest.len(), "debugfs lists other names");
    for (node, (path, entry)) in &nodes {
        let path = String::from_utf8_lossy(path);
        if let (Some(digest), true) = (&entry.digest, entry.metadata.size > 0) {
            // debugfs 1.47 dumps all the room of inline data, beyond the file's end.
            let end = entry.metadata.size;
            assert_eq!(*digest, digest_of(&dump(*node), end), "bytes of {path}");
        }
        if let (Some(target), Ok(bytes)) = (&entry.target, fs::read(dump(*node))) {
            // debugfs dumps nothing of a short link; its target is in the answer to `stat`.
            assert!(
                bytes.is_empty() || bytes == *target || target.len() < 60,
                "target of {path}"
            );
        }
        for (nth, (name, value)) in entry.xattrs.iter().enumerate() {
            let file = scratch.path().join(format!("attr-{node}-{nth}"));
            let mut found = fs::read(file).unwrap();
            if name.starts_with(b"system.posix_acl") {
                // libext2fs gives unnamed entries the identity 0, the kernel gives them -1.
                for entry in found[4..]
                    .chunks_mut(8)
                    .filter(|entry| !matches!(entry[0], 2 | 8))
                {
                    entry[4..].fill(0xFF);
                }
            }
            assert_eq!(found, *value, "{} of {path}", String::from_utf8_lossy(name));
        }
    }
}

fn check_stat(path: &str, entry: &Entry, answer: &str) {
    let metadata = &entry.metadata;
    let kind = match metadata.kind {
        NodeKind::File => "regular",
        NodeKind::Directory => "directory",
        NodeKind::Symlink => "symlink",
        NodeKind::CharDevice => "character",
        NodeKind::BlockDevice => "block",
        NodeKind::Fifo => "FIFO",
        NodeKind::Socket => "socket",
    };
    let number = |name| field(answer, name).unwrap().parse::<u64>().unwrap();
    assert_eq!(field(answer, "Type: "), Some(kind), "type of {path}");
    let mode = u16::from_str_radix(field(answer, "Mode: ").unwrap(), 8).unwrap();
    assert_eq!(metadata.mode, mode, "mode of {path}");
    // debugfs prints owners as signed numbers.
    let owner = |name| field(answer, name).unwrap().parse::<i64>().unwrap() as u32;
    assert_eq!(metadata.uid, owner("User: "), "owner of {path}");
    assert_eq!(metadata.gid, owner("Group: "), "group of {path}");
    assert_eq!(metadata.size, number("Size: "), "size of {path}");
    assert_eq!(
        u64::from(metadata.links),
        number("Links: "),
        "links of {path}"
    );
    for (name, time) in [
        ("ctime: ", metadata.ctime),
        ("atime: ", metadata.atime),
        ("mtime: ", metadata.mtime),
    ] {
        assert_eq!(
            (time.seconds, time.nanoseconds),
            stamp(answer, name),
            "{name} of {path}"
        );
    }
    if let Some((major, minor)) = metadata.device {
        let line = answer
            .split("Device major/minor number: ")
            .nth(1)
            .expect("a device");
        let (one, two) = line
            .split_whitespace()
            .next()
            .unwrap()
            .split_once(':')
            .unwrap();
        assert_eq!(
            (major, minor),
            (one.parse().unwrap(), two.parse().unwrap()),
            "device {path}"
        );
    }
    if let Some(fast) = answer.split("Fast link dest: \"").nth(1) {
        let target =
            String::from_utf8_lossy(entry.target.as_deref().unwrap_or_default()).into_owned();
        assert_eq!(
            Some(target.as_str()),
            fast.split("\"\n").next(),
            "target of {path}"
        );
    }
    let listed = answer
        .split("Extended attributes:\n")
        .nth(1)
        .map_or(0, |list| {
            list.lines()
                .take_while(|line| line.starts_with("  "))
                .filter(|line| !line.starts_with("  system.data"))
                .count()
        });
    assert_eq!(entry.xattrs.len(), listed, "attributes of {path}: {answer}");
}

fn check_listing(path: &str, manifest: &Manifest, answer: &str) -> usize {
    let mut count = 0;
    for line in answer.lines().filter(|line| line.starts_with('/')) {
        let mut parts = line.split('/').skip(1);
        let (Some(node), Some(_), Some(_), Some(_), Some(name)) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            panic!("{line}");
        };
        if node == "0" || name == "." || name == ".." {
            continue;
        }
        let full = format!("{}/{name}", path.trim_end_matches('/'));
        let entry = manifest
            .get(full.as_bytes())
            .unwrap_or_else(|| panic!("{full} was not read"));
        assert_eq!(entry.metadata.node.0.to_string(), node, "inode of {full}");
        count += 1;
    }
    count
}

fn digest_of(path: &Path, end: u64) -> String {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut file = file.take(end);
    let mut hasher = Sha256::new();
    let mut buf = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buf).unwrap();
        if n == 0 {
            return hex(&hasher.finalize());
        }
        hasher.update(&buf[..n]);
    }
}

/// A mount of the kernel's, gone when dropped.
pub struct KernelMount {
    at: tempfile::TempDir,
}

impl KernelMount {
    /// Mounts `image`; `None` when this host does not let us (no root, no loop devices).
    pub fn new(image: &Path, options: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
            return None;
        }
        let at = tempfile::tempdir().unwrap();
        let output = run(
            "mount",
            &[
                "-t",
                "ext4",
                "-o",
                options,
                image.to_str().unwrap(),
                at.path().to_str().unwrap(),
            ],
        );
        if output.status.success() {
            return Some(Self { at });
        }
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        println!("no kernel mount of {}: {why}", image.display());
        None
    }

    pub fn path(&self) -> &Path {
        self.at.path()
    }
}

impl Drop for KernelMount {
    fn drop(&mut self) {
        run("umount", &[self.at.path().to_str().unwrap()]);
    }
}

/// Holds `manifest` against the kernel's own read-only mount of a copy of `image`, where this host can mount.
pub fn check_with_kernel(image: &Path, manifest: &Manifest) -> bool {
    let scratch = tempfile::tempdir().unwrap();
    let copy = scratch.path().join("copy");
    must(
        "cp",
        &[
            "--sparse=always",
            image.to_str().unwrap(),
            copy.to_str().unwrap(),
        ],
    );
    let Some(mount) = KernelMount::new(&copy, "loop,ro,noatime") else {
        return false;
    };
    let mut count = 0;
    let mut todo = vec![PathBuf::new()];
    while let Some(inner) = todo.pop() {
        let host = mount.path().join(&inner);
        let found = fs::symlink_metadata(&host).unwrap();
        let mut key = b"/".to_vec();
        key.extend_from_slice(inner.as_os_str().as_bytes());
        let shown = inner.display();
        let entry = manifest
            .get(&key)
            .unwrap_or_else(|| panic!("{shown} was not read"));
        let ours = &entry.metadata;
        count += 1;
        assert_eq!(ours.node.0, found.ino(), "inode of {shown}");
        assert_eq!(
            u32::from(ours.mode),
            found.mode() & 0o7777,
            "mode of {shown}"
        );
        assert_eq!(
            (ours.uid, ours.gid),
            (found.uid(), found.gid()),
            "owner of {shown}"
        );
        assert_eq!(u64::from(ours.links), found.nlink(), "links of {shown}");
        assert_eq!(ours.size, found.size(), "size of {shown}");
        let time = |time: dormouse_filesystem::Time| (time.seconds, i64::from(time.nanoseconds));
        assert_eq!(
            time(ours.mtime),
            (found.mtime(), found.mtime_nsec()),
            "mtime of {shown}"
        );
        assert_eq!(
            time(ours.ctime),
            (found.ctime(), found.ctime_nsec()),
            "ctime of {shown}"
        );
        let kind = found.file_type();
        let wanted = match ours.kind {
            NodeKind::File => kind.is_file(),
            NodeKind::Directory => kind.is_dir(),
            NodeKind::Symlink => kind.is_symlink(),
            NodeKind::CharDevice => kind.is_char_device(),
            NodeKind::BlockDevice => kind.is_block_device(),
            NodeKind::Fifo => kind.is_fifo(),
            NodeKind::Socket => kind.is_socket(),
        };
        assert!(wanted, "type of {shown}");
        if let Some((major, minor)) = ours.device {
            assert_eq!(
                found.rdev(),
                rustix::fs::makedev(major, minor),
                "device {shown}"
            );
        }
        if kind.is_file() {
            assert_eq!(
                entry.digest.as_deref(),
                Some(digest_of(&host, u64::MAX).as_str()),
                "bytes of {shown}"
            );
        }
        if kind.is_symlink() {
            let target = fs::read_link(&host).unwrap();
            assert_eq!(
                entry.target.as_deref(),
                Some(target.as_os_str().as_bytes()),
                "{shown}"
            );
        }
        let mut list = vec![0; 65536];
        let n = rustix::fs::llistxattr(&host, &mut list[..]).unwrap();
        let names: BTreeSet<Vec<u8>> = list[..n]
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(<[u8]>::to_vec)
            .collect();
        assert_eq!(
            names,
            entry.xattrs.keys().cloned().collect(),
            "attributes of {shown}"
        );
        for name in names {
            let mut value = vec![0; 65536];
            let n = rustix::fs::lgetxattr(&host, name.as_slice(), &mut value[..]).unwrap();
            assert_eq!(value[..n], entry.xattrs[&name][..], "attribute of {shown}");
        }
        if kind.is_dir() {
            for child in fs::read_dir(&host).unwrap() {
                todo.push(inner.join(child.unwrap().file_name()));
            }
        }
    }
    assert_eq!(count, manifest.len(), "the kernel sees other names");
    true
}
