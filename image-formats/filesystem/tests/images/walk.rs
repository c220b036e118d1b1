//! Whole trees: ours, and those that the host shows.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use dormouse_block::{HostFile, Result, Source};
use dormouse_filesystem::{NodeKind, Tree};
use sha2::{Digest, Sha256};

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub kind: NodeKind,
    pub mode: u16,
    pub owner: (u32, u32),
    pub links: u32,
    pub size: u64,
    pub mtime: (i64, u32),
    pub device: Option<(u32, u32)>,
    /// SHA-256 of a file, the target of a link.
    pub content: Vec<u8>,
}

pub type Manifest = BTreeMap<Vec<u8>, Found>;

pub fn open(image: &Path) -> Arc<dyn Tree> {
    let source: Arc<dyn Source> = Arc::new(HostFile::open(image).unwrap());
    dormouse_filesystem::open(&source).unwrap().unwrap()
}

/// Reads everything below the root, each file in pieces of an odd size, each name also by a look-up.
pub fn walk(tree: &dyn Tree) -> Result<Manifest> {
    let mut out = Manifest::new();
    let mut todo = vec![(Vec::new(), tree.root())];
    while let Some((path, node)) = todo.pop() {
        for entry in tree.read_dir(node)? {
            let full = [&path[..], b"/", &entry.name].concat();
            let by_name = tree.lookup(node, &entry.name)?;
            assert_eq!(
                by_name.as_ref(),
                Some(&entry),
                "{} is listed and not found",
                String::from_utf8_lossy(&full)
            );
            let metadata = tree.metadata(entry.node)?;
            if let Some(kind) = entry.kind {
                assert_eq!(metadata.kind, kind, "{}", String::from_utf8_lossy(&full));
            }
            let content = match metadata.kind {
                NodeKind::File => digest(tree, entry.node, metadata.size)?,
                NodeKind::Symlink => tree.read_link(entry.node)?,
                _ => Vec::new(),
            };
            if metadata.kind == NodeKind::Directory {
                todo.push((full.clone(), entry.node));
            }
            let found = Found {
                kind: metadata.kind,
                mode: metadata.mode,
                owner: (metadata.uid, metadata.gid),
                links: metadata.links,
                size: metadata.size,
                mtime: (metadata.mtime.seconds, metadata.mtime.nanoseconds),
                device: metadata.device,
                content,
            };
            assert!(out.insert(full, found).is_none(), "a name stands twice");
        }
    }
    Ok(out)
}

fn digest(tree: &dyn Tree, node: dormouse_filesystem::NodeId, size: u64) -> Result<Vec<u8>> {
    let mut hasher = Sha256::new();
    let mut buf = vec![0; 70_001];
    let mut at = 0;
    while at < size {
        let n = tree.read_at(node, at, &mut buf)?;
        assert!(n > 0, "reading stands still");
        hasher.update(&buf[..n]);
        at += n as u64;
    }
    assert_eq!(tree.read_at(node, size, &mut buf)?, 0);
    Ok(hasher.finalize().to_vec())
}

/// The same of a folder of the host.
pub fn walk_host(root: &Path) -> Manifest {
    let mut out = Manifest::new();
    let mut todo = vec![(Vec::new(), root.to_owned())];
    while let Some((path, folder)) = todo.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let full = [&path[..], b"/", entry.file_name().as_bytes()].concat();
            let metadata = fs::symlink_metadata(entry.path()).unwrap();
            let kind = metadata.file_type();
            let mut content = Vec::new();
            let kind = if kind.is_dir() {
                todo.push((full.clone(), entry.path()));
                NodeKind::Directory
            } else if kind.is_symlink() {
                content = fs::read_link(entry.path())
                    .unwrap()
                    .into_os_string()
                    .into_vec();
                NodeKind::Symlink
            } else if kind.is_char_device() {
                NodeKind::CharDevice
            } else if kind.is_block_device() {
                NodeKind::BlockDevice
            } else if kind.is_fifo() {
                NodeKind::Fifo
            } else if kind.is_socket() {
                NodeKind::Socket
            } else {
                let mut hasher = Sha256::new();
                let mut file = fs::File::open(entry.path()).unwrap();
                let mut buf = vec![0; 1 << 20];
                loop {
                    let n = file.read(&mut buf).unwrap();
                    if n == 0 {
                        break;
                    }
                    hasher.update(&buf[..n]);
                }
                content = hasher.finalize().to_vec();
                NodeKind::File
            };
            let device = matches!(kind, NodeKind::CharDevice | NodeKind::BlockDevice).then(|| {
                let number = metadata.rdev();
                (rustix::fs::major(number), rustix::fs::minor(number))
            });
            let found = Found {
                kind,
                mode: (metadata.mode() & 0o7777) as u16,
                owner: (metadata.uid(), metadata.gid()),
                links: metadata.nlink() as u32,
                size: metadata.size(),
                mtime: (metadata.mtime(), metadata.mtime_nsec() as u32),
                device,
                content,
            };
            out.insert(full, found);
        }
    }
    out
}

/// Compares name by name, after `fit` has put on both sides what the oracle has another opinion of.
pub fn compare(what: &str, ours: &Manifest, theirs: &Manifest, fit: &dyn Fn(&mut Found)) {
    let names = |manifest: &Manifest| -> Vec<String> {
        manifest
            .keys()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    };
    assert_eq!(names(ours), names(theirs), "{what}: other names");
    for (name, mine) in ours {
        let (mut mine, mut their) = (mine.clone(), theirs[name].clone());
        for side in [&mut mine, &mut their] {
            if side.kind == NodeKind::Directory {
                side.size = 0;
                side.links = 0;
            }
            fit(side);
        }
        assert_eq!(mine, their, "{what}: {}", String::from_utf8_lossy(name));
    }
}
