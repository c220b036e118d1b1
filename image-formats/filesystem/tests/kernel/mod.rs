//! Whole trees as we read them, held against the kernel's own mount where the host allows it.

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

pub fn digest_of(path: &Path, end: u64) -> String {
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
        // A copy of a filesystem that is still mounted somewhere has its UUID, which XFS would mind.
        let mut magic = [0; 4];
        File::open(image).unwrap().read_exact(&mut magic).unwrap();
        let more = if magic == *b"XFSB" { ",nouuid" } else { "" };
        let options = &format!("{options}{more}");
        let output = run(
            "mount",
            &[
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
        let output = run("umount", &[self.at.path().to_str().unwrap()]);
        if !std::thread::panicking() {
            assert!(output.status.success(), "umount: {output:?}");
        }
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
            time(ours.atime),
            (found.atime(), found.atime_nsec()),
            "atime of {shown}"
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
