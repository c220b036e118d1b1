//! A tree built in memory, for examples and tests of whatever reads files.

use std::collections::BTreeMap;

use dormouse_block::{Error, GuestPath, Result};

use crate::{DirEntry, FilesystemInfo, Metadata, NodeId, NodeKind, Time, Tree};

/// A tree in memory. Parents are made as needed; modes are 0755 for directories, 0644 for files, 0777 for links.
#[derive(Debug, Clone)]
pub struct MemoryTree {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone)]
struct Node {
    metadata: Metadata,
    bytes: Vec<u8>,
    children: BTreeMap<Vec<u8>, NodeId>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Default for MemoryTree {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryTree {
    /// An empty root directory.
    #[must_use]
    pub fn new() -> Self {
        let mut tree = Self { nodes: Vec::new() };
        tree.add(NodeKind::Directory, 0o755, b"");
        tree
    }

    fn add(&mut self, kind: NodeKind, mode: u16, bytes: &[u8]) -> NodeId {
        let node = NodeId(u64::try_from(self.nodes.len()).unwrap_or(u64::MAX));
        self.nodes.push(Node {
            metadata: Metadata {
                node,
                kind,
                mode,
                uid: 0,
                gid: 0,
                links: 1,
                size: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
                atime: Time::default(),
                mtime: Time::default(),
                ctime: Time::default(),
                device: None,
            },
            bytes: bytes.to_vec(),
            children: BTreeMap::new(),
            xattrs: BTreeMap::new(),
        });
        node
    }

    fn node(&self, node: NodeId) -> Result<&Node> {
        usize::try_from(node.0)
            .ok()
            .and_then(|index| self.nodes.get(index))
            .ok_or_else(|| Error::corrupt("no such node"))
    }

    fn node_mut(&mut self, node: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(usize::try_from(node.0).ok()?)
    }

    fn put(&mut self, path: &str, kind: NodeKind, mode: u16, bytes: &[u8]) -> &mut Self {
        let Ok(path) = GuestPath::new(path) else {
            return self;
        };
        let mut here = NodeId(0);
        let last = path.components().count().saturating_sub(1);
        for (depth, name) in path.components().enumerate() {
            let known = self
                .node(here)
                .ok()
                .and_then(|node| node.children.get(name).copied());
            here = match known {
                Some(child) if depth < last => child,
                _ => {
                    let child = if depth < last {
                        self.add(NodeKind::Directory, 0o755, b"")
                    } else {
                        self.add(kind, mode, bytes)
                    };
                    if let Some(parent) = self.node_mut(here) {
                        parent.children.insert(name.to_vec(), child);
                    }
                    child
                }
            };
        }
        self
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, bytes: &[u8]) -> &mut Self {
        self.put(path, NodeKind::File, 0o644, bytes)
    }

    /// Adds an empty directory.
    pub fn directory(&mut self, path: &str) -> &mut Self {
        self.put(path, NodeKind::Directory, 0o755, b"")
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.put(path, NodeKind::Symlink, 0o777, target.as_bytes())
    }

    /// Adds a device, pipe or socket.
    pub fn special(&mut self, path: &str, kind: NodeKind) -> &mut Self {
        self.put(path, kind, 0o600, b"")
    }

    /// Changes what is kept about the node last added.
    pub fn with(&mut self, change: impl FnOnce(&mut Metadata)) -> &mut Self {
        if let Some(node) = self.nodes.last_mut() {
            change(&mut node.metadata);
        }
        self
    }

    /// Gives the node last added an extended attribute.
    pub fn xattr(&mut self, name: &str, value: &[u8]) -> &mut Self {
        if let Some(node) = self.nodes.last_mut() {
            node.xattrs.insert(name.as_bytes().to_vec(), value.to_vec());
        }
        self
    }
}

impl Tree for MemoryTree {
    fn info(&self) -> FilesystemInfo {
        FilesystemInfo {
            kind: "memory".into(),
            label: None,
            uuid: None,
            size: 0,
            free: 0,
            features: Vec::new(),
            journal_replayed: false,
        }
    }

    fn root(&self) -> NodeId {
        NodeId(0)
    }

    fn metadata(&self, node: NodeId) -> Result<Metadata> {
        Ok(self.node(node)?.metadata.clone())
    }

    fn read_dir(&self, node: NodeId) -> Result<Vec<DirEntry>> {
        let node = self.node(node)?;
        if node.metadata.kind != NodeKind::Directory {
            return Err(Error::corrupt("not a directory"));
        }
        node.children
            .iter()
            .map(|(name, &child)| {
                Ok(DirEntry {
                    name: name.clone(),
                    node: child,
                    kind: Some(self.node(child)?.metadata.kind),
                })
            })
            .collect()
    }

    fn read_link(&self, node: NodeId) -> Result<Vec<u8>> {
        let node = self.node(node)?;
        if node.metadata.kind != NodeKind::Symlink {
            return Err(Error::corrupt("not a symbolic link"));
        }
        Ok(node.bytes.clone())
    }

    fn read_at(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let node = self.node(node)?;
        if node.metadata.kind != NodeKind::File {
            return Err(Error::corrupt("not a regular file"));
        }
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| node.bytes.get(offset..))
            .unwrap_or_default();
        let n = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }

    fn xattrs(&self, node: NodeId) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        Ok(self.node(node)?.xattrs.clone())
    }
}
