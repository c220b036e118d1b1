//! A guest: the trees of one machine, put together, with paths resolved inside it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Error, GuestPath, Locator, Result};
use foldhash::fast::RandomState;

use crate::names::Names;
use crate::{DirEntry, Metadata, NodeId, NodeKind, Tree, Watched};

/// Symbolic links followed on one path before it is called a loop, as Linux does.
const MAX_LINKS: usize = 40;
/// Directories remembered; then they are forgotten and found again.
const MAX_KNOWN: usize = 16_384;
/// Bytes read in one step when a file is taken whole.
const STEP: usize = 256 << 10;
/// Bytes that are taken of memory for a file before any of it was read.
const WHOLE: usize = 4 << 20;

/// Whether a symbolic link as the last component is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// As `stat` does.
    Links,
    /// As `lstat` does.
    No,
}

/// One tree and the directory of the guest that it covers.
#[derive(Clone)]
pub struct Mount {
    /// Where it is mounted; the first mount of a guest is at `/`.
    pub at: GuestPath,
    /// The volume's name, such as `disk0/gpt2`.
    pub volume: String,
    /// Which of the volume's subvolumes, where one was asked for.
    pub subvolume: Option<GuestPath>,
    /// Its files.
    pub tree: Arc<dyn Tree>,
}

/// Where a path led.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The path without any symbolic link in it.
    pub path: GuestPath,
    /// Which of the guest's mounts it lies in.
    pub mount: usize,
    /// The path within that mount's own tree.
    pub inner: GuestPath,
    /// The node.
    pub node: NodeId,
}

/// A machine's files as it would see them: its root and whatever is mounted below.
///
/// Absolute and relative symbolic links resolve inside the guest; `..` never climbs above its root.
#[derive(Clone)]
pub struct Guest {
    mounts: Vec<Mount>,
    /// Directories that were reached without any symbolic link: most paths asked for are siblings of earlier ones.
    directories: Arc<Mutex<HashMap<GuestPath, Resolved, RandomState>>>,
    names: Arc<Names>,
}

impl Guest {
    /// A guest of one tree.
    pub fn of(tree: impl Tree + 'static) -> Self {
        Self::on_root(Mount {
            at: GuestPath::root(),
            volume: String::new(),
            subvolume: None,
            tree: Arc::new(tree),
        })
    }

    /// A guest whose root is this mount, whatever its `at` says.
    #[must_use]
    pub fn on_root(mut root: Mount) -> Self {
        root.at = GuestPath::root();
        Self {
            mounts: vec![root],
            directories: Arc::default(),
            names: Arc::default(),
        }
    }

    /// Adds a tree at a directory; later mounts cover earlier ones.
    pub fn mount(&mut self, mount: Mount) {
        self.directories = Arc::default();
        self.names = Arc::default();
        self.mounts.push(mount);
    }

    /// The same guest, with the answers of its trees noted; and where, in the order of its mounts.
    #[must_use]
    pub fn watched(&self) -> (Self, Vec<Arc<Watched>>) {
        let watched = self.mounts.iter().map(|mount| mount.tree.clone());
        let watched: Vec<_> = watched.map(Watched::new).map(Arc::new).collect();
        let mounts = self.mounts.iter().zip(&watched);
        let guest = Self {
            mounts: mounts
                .map(|(mount, tree)| Mount {
                    tree: tree.clone(),
                    ..mount.clone()
                })
                .collect(),
            directories: Arc::default(),
            names: Arc::default(),
        };
        (guest, watched)
    }

    /// The mounts, the root first.
    #[must_use]
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    fn mount_at(&self, path: &GuestPath) -> Option<usize> {
        self.mounts.iter().rposition(|mount| mount.at == *path)
    }

    /// The mount in which `path`, free of symbolic links, lies, and its path within that mount's own tree.
    #[must_use]
    pub fn mount_of(&self, path: &GuestPath) -> (usize, GuestPath) {
        let root = GuestPath::root();
        let mut found = (0, &root);
        for (index, mount) in self.mounts.iter().enumerate() {
            // Later mounts cover earlier ones at the same place.
            if path.starts_with(&mount.at) && mount.at.as_bytes().len() >= found.1.as_bytes().len()
            {
                found = (index, &mount.at);
            }
        }
        let inner = path.below(found.1).unwrap_or_else(GuestPath::root);
        (found.0, inner)
    }

    fn tree(&self, mount: usize) -> Result<&Mount> {
        self.mounts
            .get(mount)
            .ok_or_else(|| Error::corrupt("no such mount"))
    }

    /// Where `path` leads, or `None` when nothing is there. A path through what is no directory leads nowhere.
    ///
    /// # Errors
    /// A broken filesystem, or a loop of symbolic links (`Limit`).
    pub fn resolve(&self, path: &GuestPath, follow: Follow) -> Result<Option<Resolved>> {
        self.walk(path, follow)
            .map_err(|error| error.located(&Locator::default().path(path.clone())))
    }

    /// The directory at `path`, if it was reached before without any symbolic link.
    fn known_directory(&self, path: &GuestPath) -> Option<Resolved> {
        let known = self
            .directories
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.get(path).cloned()
    }

    fn remember_directory(&self, at: &Resolved) {
        let mut known = self
            .directories
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(at.path.clone(), at.clone());
    }

    fn walk(&self, path: &GuestPath, follow: Follow) -> Result<Option<Resolved>> {
        if let (Some(parent), Some(name)) = (path.parent(), path.name())
            && let Some(known) = self.known_directory(&parent)
        {
            // Without a link as the last component nothing above it matters; with one, all of it does.
            let mount = self.tree(known.mount)?;
            let tree = mount.tree.as_ref();
            let Some(entry) = self.names.lookup(known.mount, tree, known.node, name)? else {
                return Ok(None);
            };
            let kind = match entry.kind {
                Some(kind) => kind,
                None => mount.tree.metadata(entry.node)?.kind,
            };
            if kind != NodeKind::Symlink || follow == Follow::No {
                return self.step(&known, name, entry.node).map(Some);
            }
        }
        let root = self.enter_root()?;
        // Each with its kind, as far as the entry that led there says it.
        let mut stack = vec![(root, None)];
        let mut todo: VecDeque<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
        let mut links = 0_usize;
        while let Some(name) = todo.pop_front() {
            if name == b".." {
                if stack.len() > 1 {
                    stack.pop();
                }
                continue;
            }
            let Some((here, known)) = stack.last() else {
                return Ok(None);
            };
            let mount = self.tree(here.mount)?;
            let kind = match known {
                Some(kind) => *kind,
                None => mount.tree.metadata(here.node)?.kind,
            };
            if kind != NodeKind::Directory {
                return Ok(None);
            }
            let tree = mount.tree.as_ref();
            let Some(entry) = self.names.lookup(here.mount, tree, here.node, &name)? else {
                return Ok(None);
            };
            let kind = match entry.kind {
                Some(kind) => kind,
                None => mount.tree.metadata(entry.node)?.kind,
            };
            if kind == NodeKind::Symlink && (follow == Follow::Links || !todo.is_empty()) {
                links = links.saturating_add(1);
                if links > MAX_LINKS {
                    return Err(Error::limit("more than 40 symbolic links on one path"));
                }
                let target = mount.tree.read_link(entry.node)?;
                if target.starts_with(b"/") {
                    stack.truncate(1);
                }
                for part in target.rsplit(|&byte| byte == b'/') {
                    if !part.is_empty() && part != b"." {
                        todo.push_front(part.to_vec());
                    }
                }
                continue;
            }
            let next = self.step(here, &name, entry.node)?;
            // What is mounted there is another node.
            let same = (next.mount, next.node) == (here.mount, entry.node);
            stack.push((next, same.then_some(kind)));
        }
        let found = stack.pop().map(|(found, _)| found);
        if let (Some(found), Some((above, _))) = (&found, stack.last())
            && found.path == *path
        {
            self.remember_directory(above);
        }
        Ok(found)
    }

    /// What the entry `name` of directory `here` leads to: `node`, or the root of what is mounted there.
    fn step(&self, here: &Resolved, name: &[u8], node: NodeId) -> Result<Resolved> {
        let bad = |error| Error::corrupt("bad name in a directory").because(error);
        let path = here.path.join(name).map_err(bad)?;
        Ok(match self.mount_at(&path) {
            Some(mount) => Resolved {
                path,
                mount,
                inner: GuestPath::root(),
                node: self.tree(mount)?.tree.root(),
            },
            None => Resolved {
                path,
                mount: here.mount,
                inner: here.inner.join(name).map_err(bad)?,
                node,
            },
        })
    }

    fn enter_root(&self) -> Result<Resolved> {
        Ok(Resolved {
            path: GuestPath::root(),
            mount: 0,
            inner: GuestPath::root(),
            node: self.tree(0)?.tree.root(),
        })
    }

    fn located(&self, at: &Resolved) -> Locator {
        let volume = self.mounts.get(at.mount).map(|mount| mount.volume.clone());
        Locator {
            volume: volume.filter(|name| !name.is_empty()),
            path: Some(at.path.clone()),
            ..Locator::default()
        }
    }

    fn with<T>(
        &self,
        path: &GuestPath,
        follow: Follow,
        ask: impl FnOnce(&dyn Tree, NodeId) -> Result<T>,
    ) -> Result<Option<T>> {
        let Some(at) = self.resolve(path, follow)? else {
            return Ok(None);
        };
        ask(self.tree(at.mount)?.tree.as_ref(), at.node)
            .map(Some)
            .map_err(|error| error.located(&self.located(&at)))
    }

    /// What is kept about the node at `path`, or `None` when nothing is there.
    ///
    /// # Errors
    /// As [`Guest::resolve`].
    pub fn metadata(&self, path: &GuestPath, follow: Follow) -> Result<Option<Metadata>> {
        self.with(path, follow, Tree::metadata)
    }

    /// The entries of the directory at `path`, or `None` when there is no directory.
    ///
    /// # Errors
    /// As [`Guest::resolve`].
    pub fn read_dir(&self, path: &GuestPath) -> Result<Option<Vec<DirEntry>>> {
        let entries = self.with(path, Follow::Links, |tree, node| {
            if tree.metadata(node)?.kind != NodeKind::Directory {
                return Ok(None);
            }
            tree.read_dir(node).map(Some)
        })?;
        Ok(entries.flatten())
    }

    /// The target of the symbolic link at `path`, or `None` when there is none.
    ///
    /// # Errors
    /// As [`Guest::resolve`].
    pub fn read_link(&self, path: &GuestPath) -> Result<Option<Vec<u8>>> {
        let target = self.with(path, Follow::No, |tree, node| {
            if tree.metadata(node)?.kind != NodeKind::Symlink {
                return Ok(None);
            }
            tree.read_link(node).map(Some)
        })?;
        Ok(target.flatten())
    }

    /// The extended attributes of the node at `path`, or `None` when nothing is there.
    ///
    /// # Errors
    /// As [`Guest::resolve`].
    pub fn xattrs(
        &self,
        path: &GuestPath,
        follow: Follow,
    ) -> Result<Option<BTreeMap<Vec<u8>, Vec<u8>>>> {
        self.with(path, follow, Tree::xattrs)
    }

    /// The bytes of the file at `path`, or `None` when there is no regular file.
    ///
    /// # Errors
    /// `Limit` for a file of more than `limit` bytes; otherwise as [`Guest::resolve`].
    pub fn read(&self, path: &GuestPath, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(at) = self.resolve(path, Follow::Links)? else {
            return Ok(None);
        };
        let here = |error: Error| error.located(&self.located(&at));
        let tree = self.tree(at.mount)?.tree.as_ref();
        let metadata = tree.metadata(at.node).map_err(here)?;
        if metadata.kind != NodeKind::File {
            return Ok(None);
        }
        let size = metadata.size;
        if size > limit {
            return Err(Error::limit(format!(
                "the file has {size} bytes; at most {limit} are read"
            ))
            .located(&Locator::default().path(path.clone())));
        }
        read_whole(tree, at.node, size).map(Some).map_err(here)
    }

    /// Hands the bytes of the file at `path` to `take`, part by part; `None` when there is no regular file.
    ///
    /// # Errors
    /// As [`Guest::resolve`], and whatever `take` returns.
    pub fn read_in_parts(
        &self,
        path: &GuestPath,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Option<u64>> {
        let read = self.with(path, Follow::Links, |tree, node| {
            let metadata = tree.metadata(node)?;
            if metadata.kind != NodeKind::File {
                return Ok(None);
            }
            let mut buf = vec![
                0;
                STEP.min(usize::try_from(metadata.size).unwrap_or(STEP))
                    .max(1)
            ];
            let mut offset = 0_u64;
            while offset < metadata.size {
                let n = tree.read_at(node, offset, &mut buf)?;
                let Some(part) = buf.get(..n).filter(|part| !part.is_empty()) else {
                    return Err(Error::corrupt("the file ends before its size"));
                };
                take(part)?;
                offset = offset.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
            }
            Ok(Some(offset))
        })?;
        Ok(read.flatten())
    }
}

/// All `size` bytes of the file `node`. Memory is taken as they come, so that it is not taken for a size alone.
fn read_whole(tree: &dyn Tree, node: NodeId, size: u64) -> Result<Vec<u8>> {
    let size = usize::try_from(size).map_err(|_| Error::limit("a file larger than memory"))?;
    let mut out = vec![0; size.min(WHOLE)];
    let mut done = 0_usize;
    while done < size {
        if done == out.len() {
            out.resize(size.min(done.saturating_add(WHOLE)), 0);
        }
        let offset = u64::try_from(done).unwrap_or(u64::MAX);
        let rest = out.get_mut(done..).unwrap_or_default();
        let n = tree.read_at(node, offset, rest)?;
        if n == 0 {
            return Err(Error::corrupt("the file ends before its size"));
        }
        done = done.saturating_add(n);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryTree;

    fn path(text: &str) -> GuestPath {
        GuestPath::new(text).unwrap()
    }

    #[test]
    fn links_resolve_inside_the_guest() {
        let mut tree = MemoryTree::new();
        tree.file("/usr/bin/sh", b"dash")
            .symlink("/bin", "usr/bin")
            .symlink("/escape", "../../../../usr/bin/sh")
            .symlink("/absolute", "/bin/sh");
        let guest = Guest::of(tree);
        for name in ["/bin/sh", "/escape", "/absolute"] {
            assert_eq!(
                guest.read(&path(name), 10).unwrap().unwrap(),
                b"dash",
                "{name}"
            );
        }
        let at = guest
            .resolve(&path("/bin/sh"), Follow::Links)
            .unwrap()
            .unwrap();
        assert_eq!(at.path, path("/usr/bin/sh"));
        assert_eq!(guest.read_link(&path("/bin")).unwrap().unwrap(), b"usr/bin");
    }

    #[test]
    fn a_loop_of_links_is_a_limit_and_not_a_hang() {
        let mut tree = MemoryTree::new();
        tree.symlink("/a", "b").symlink("/b", "a");
        let error = Guest::of(tree)
            .metadata(&path("/a"), Follow::Links)
            .unwrap_err();
        assert_eq!(error.kind(), dormouse_block::ErrorKind::Limit);
    }

    #[test]
    fn mounts_cover_directories() {
        let mut root = MemoryTree::new();
        root.file("/var/hidden", b"x").symlink("/v", "var/lib");
        let mut var = MemoryTree::new();
        var.file("/lib/seen", b"y");
        let mut guest = Guest::of(root);
        guest.mount(Mount {
            at: path("/var"),
            volume: "disk0/gpt3".into(),
            subvolume: None,
            tree: Arc::new(var),
        });
        assert_eq!(guest.read(&path("/var/hidden"), 9).unwrap(), None);
        assert_eq!(guest.read(&path("/v/seen"), 9).unwrap().unwrap(), b"y");
        let at = guest
            .resolve(&path("/v/seen"), Follow::Links)
            .unwrap()
            .unwrap();
        assert_eq!((at.mount, at.inner), (1, path("/lib/seen")));
    }

    #[test]
    fn a_file_is_read_whole_however_large_it_is() {
        for size in [0, 1, WHOLE - 1, WHOLE, WHOLE + 1, 2 * WHOLE + 5] {
            let bytes: Vec<u8> = (0..=250).cycle().take(size).collect();
            let mut tree = MemoryTree::new();
            tree.file("/a", &bytes).symlink("/b", "a");
            let guest = Guest::of(tree);
            let limit = u64::try_from(size).unwrap();
            assert!(
                guest.read(&path("/b"), limit).unwrap().unwrap() == bytes,
                "{size}"
            );
        }
        let mut tree = MemoryTree::new();
        tree.file("/dir/a", b"x");
        assert_eq!(Guest::of(tree).read(&path("/dir"), 9).unwrap(), None);
    }

    #[test]
    fn a_file_above_the_limit_is_refused_before_it_is_read() {
        let mut tree = MemoryTree::new();
        tree.file("/big", &[0; 100]);
        let error = Guest::of(tree).read(&path("/big"), 99).unwrap_err();
        assert_eq!(error.kind(), dormouse_block::ErrorKind::Limit);
        assert_eq!(error.locator().path, Some(path("/big")));
    }
}
