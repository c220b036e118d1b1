//! What a tree holds, as this reader sees it and as the kernel shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use dormouse_block::{HostFile, Source};
use dormouse_filesystem::{Filesystem, NodeId, NodeKind, Tree, btrfs::Btrfs};
use sha2::{Digest, Sha256};

/// Entries of one tree that a walk visits before it is called endless.
const MAX_WALK: usize = 50_000;

/// All that is known of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub inode: u64,
    pub kind: NodeKind,
    pub mode: u32,
    pub owner: (u32, u32),
    pub links: u64,
    pub size: u64,
    pub mtime: (i64, i64),
    pub ctime: (i64, i64),
    pub device: u64,
    pub digest: Option<String>,
    pub target: Option<Vec<u8>>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

pub type Seen = BTreeMap<Vec<u8>, Fact>;

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
    Btrfs
        .open(source(path))
        .unwrap_or_else(|error| panic!("{}: {}", path.display(), error.with_causes()))
}

pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn digest_file(tree: &dyn Tree, node: NodeId, size: u64) -> dormouse_block::Result<String> {
    let mut bytes = Vec::new();
    let mut buf = vec![0; 300_001];
    while (bytes.len() as u64) < size {
        let n = tree.read_at(node, bytes.len() as u64, &mut buf)?;
        assert!(n > 0, "reading stands still");
        bytes.extend_from_slice(&buf[..n]);
    }
    Ok(digest(&bytes))
}

/// Everything in `tree`, each name also looked up on its own.
pub fn seen_by_us(tree: &dyn Tree) -> dormouse_block::Result<Seen> {
    let mut out = Seen::new();
    let mut todo = vec![(b"/".to_vec(), tree.root())];
    let mut directories = BTreeSet::new();
    while let Some((path, node)) = todo.pop() {
        assert!(out.len() < MAX_WALK, "an endless tree");
        let metadata = tree.metadata(node)?;
        assert_eq!(metadata.node, node);
        let (major, minor) = metadata.device.unwrap_or_default();
        let time = |time: dormouse_filesystem::Time| (time.seconds, i64::from(time.nanoseconds));
        let mut fact = Fact {
            inode: node.0 & ((1 << 48) - 1),
            kind: metadata.kind,
            mode: u32::from(metadata.mode),
            owner: (metadata.uid, metadata.gid),
            links: u64::from(metadata.links),
            size: metadata.size,
            mtime: time(metadata.mtime),
            ctime: time(metadata.ctime),
            device: rustix::fs::makedev(major, minor),
            digest: None,
            target: None,
            xattrs: tree.xattrs(node)?,
        };
        match metadata.kind {
            NodeKind::File => fact.digest = Some(digest_file(tree, node, metadata.size)?),
            NodeKind::Symlink => fact.target = Some(tree.read_link(node)?),
            NodeKind::Directory => {
                assert!(directories.insert(node), "a directory with two names");
                assert_eq!(tree.lookup(node, b"no such name")?, None);
                for child in tree.read_dir(node)? {
                    let found = tree.lookup(node, &child.name)?;
                    let found = found.unwrap_or_else(|| panic!("{child:?} is not found"));
                    assert_eq!((&found.name, found.kind), (&child.name, child.kind));
                    assert_eq!(Some(tree.metadata(child.node)?.kind), child.kind);
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
        out.insert(path, fact);
    }
    Ok(out)
}

/// Everything below `root`, which the kernel has mounted.
pub fn seen_by_kernel(root: &Path) -> Seen {
    let mut out = Seen::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(inner) = todo.pop() {
        let host = root.join(&inner);
        let found = fs::symlink_metadata(&host).unwrap();
        let mut key = b"/".to_vec();
        key.extend_from_slice(inner.as_os_str().as_bytes());
        let kind = match found.file_type() {
            kind if kind.is_file() => NodeKind::File,
            kind if kind.is_dir() => NodeKind::Directory,
            kind if kind.is_symlink() => NodeKind::Symlink,
            kind if kind.is_char_device() => NodeKind::CharDevice,
            kind if kind.is_block_device() => NodeKind::BlockDevice,
            kind if kind.is_fifo() => NodeKind::Fifo,
            _ => NodeKind::Socket,
        };
        let is_device = matches!(kind, NodeKind::CharDevice | NodeKind::BlockDevice);
        let mut list = vec![0; 65536];
        let n = rustix::fs::llistxattr(&host, &mut list[..]).unwrap();
        let xattrs = list[..n]
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| {
                let mut value = vec![0; 65536];
                let n = rustix::fs::lgetxattr(&host, name, &mut value[..]).unwrap();
                (name.to_vec(), value[..n].to_vec())
            })
            .collect();
        let link = || {
            fs::read_link(&host)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec()
        };
        out.insert(
            key,
            Fact {
                inode: found.ino(),
                kind,
                mode: found.mode() & 0o7777,
                owner: (found.uid(), found.gid()),
                links: found.nlink(),
                size: found.size(),
                mtime: (found.mtime(), found.mtime_nsec()),
                ctime: (found.ctime(), found.ctime_nsec()),
                device: if is_device { found.rdev() } else { 0 },
                digest: (kind == NodeKind::File).then(|| {
                    let bytes = fs::read(&host);
                    digest(&bytes.unwrap_or_else(|error| panic!("{}: {error}", host.display())))
                }),
                target: (kind == NodeKind::Symlink).then(link),
                xattrs,
            },
        );
        if kind == NodeKind::Directory {
            for child in fs::read_dir(&host).unwrap() {
                todo.push(inner.join(child.unwrap().file_name()));
            }
        }
    }
    out
}

/// Holds what this reader sees against what the kernel shows.
///
/// The kernel stamps what it changes while it replays a log with the time of the mount: times since `replayed` are not held
/// against ours.
pub fn compare(what: &str, ours: &Seen, kernel: &Seen, replayed: Option<i64>) {
    let names = |seen: &Seen| -> BTreeSet<String> {
        seen.keys()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    };
    let (have, want) = (names(ours), names(kernel));
    let missing: Vec<_> = want.difference(&have).collect();
    let more: Vec<_> = have.difference(&want).collect();
    assert!(
        missing.is_empty() && more.is_empty(),
        "{what}: missing {missing:?}, more {more:?}"
    );
    for (path, fact) in ours {
        let mut wanted = kernel[path].clone();
        let absent = wanted.inode == 2;
        let stamped = |time: (i64, i64)| absent || replayed.is_some_and(|since| time.0 >= since);
        if stamped(wanted.mtime) {
            wanted.mtime = fact.mtime;
        }
        if stamped(wanted.ctime) {
            wanted.ctime = fact.ctime;
        }
        assert_eq!(*fact, wanted, "{what}: {}", String::from_utf8_lossy(path));
    }
}

/// An image mounted by the kernel until it is dropped.
pub struct Mounted(tempfile::TempDir);

impl Mounted {
    pub fn on(image: &Path, options: &str) -> Self {
        Self::device(image, &format!("loop,{options}"))
    }

    pub fn device(device: &Path, options: &str) -> Self {
        let at = tempfile::tempdir().unwrap();
        let (device, path) = (device.to_str().unwrap(), at.path().to_str().unwrap());
        must("mount", &["-t", "btrfs", "-o", options, device, path]);
        Self(at)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Programs that other tests are just starting hold our open files for a moment.
        for _ in 0..300 {
            if run("umount", &[self.0.path().to_str().unwrap()])
                .status
                .success()
            {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("{} stays busy", self.0.path().display());
    }
}
