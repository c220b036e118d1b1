//! The guest as it will be, described over the guest as it is.
//!
//! A [`Draft`] answers what a path would be after the changes made so far, takes further changes by path, can go
//! back to a [`Savepoint`], and ends as a list of differences. It holds no bytes of payloads and of the base: their
//! [`Content`] says where they are.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::Read;
use std::sync::Arc;

use dormouse_block::{Digest, Error, GuestPath, Locator, Result};
use dormouse_filesystem::{Follow, Guest, NodeKind};

use crate::Attributes;

/// Symbolic links followed on one path before it is called a loop.
const MAX_LINKS: usize = 40;
/// Nodes that one rename of a directory of the base may carry along.
const MAX_CARRIED: usize = 100_000;
/// Changes one draft may hold.
const MAX_CHANGES: usize = 4_000_000;

/// Answers of the base that are remembered; then they are forgotten and read again.
const MAX_ASKED: usize = 65_536;

/// Where a file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// Here.
    Bytes(Arc<[u8]>),
    /// In a verified payload.
    Payload {
        /// The package file's digest.
        payload: Digest,
        /// Where they begin in its unpacked data archive.
        offset: u64,
        /// How many they are.
        size: u64,
    },
    /// In the base: the file that is at this path there, free of symbolic links.
    Base {
        /// That path.
        path: GuestPath,
        /// How many they are.
        size: u64,
    },
}

impl Content {
    /// Content held in memory.
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::Bytes(bytes.into())
    }

    /// The number of bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::Payload { size, .. } | Self::Base { size, .. } => *size,
        }
    }
}

/// A node of the draft.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DraftNode {
    /// A regular file.
    File(Content),
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A device, pipe or socket.
    Special(NodeKind, Option<(u32, u32)>),
}

impl DraftNode {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> NodeKind {
        match self {
            Self::File(_) => NodeKind::File,
            Self::Directory => NodeKind::Directory,
            Self::Symlink(_) => NodeKind::Symlink,
            Self::Special(kind, _) => *kind,
        }
    }
}

/// Opens the bytes of a payload: the package file's digest, where they begin in its data archive, how many.
pub type PayloadReader = Arc<dyn Fn(Digest, u64, u64) -> Result<Box<dyn Read>> + Send + Sync>;

/// A state of a draft that it can go back to; later savepoints are void once an earlier one was returned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Savepoint(usize);

/// What a path is in the draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drafted {
    /// The path free of symbolic links.
    pub path: GuestPath,
    /// What is there.
    pub node: DraftNode,
    /// Its attributes, extended ones included.
    pub attributes: Attributes,
    /// The node's identity: equal for hard links within the draft, or within the base.
    pub identity: Identity,
}

/// Tells hard links from copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// A node of the base: which mount, which node.
    Base(usize, u64),
    /// A node made or changed in the draft.
    Draft(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Absent,
    Node(usize),
}

#[derive(Debug, Clone)]
struct Node {
    node: DraftNode,
    attributes: Attributes,
    /// The base's node that this is, with other attributes or another name.
    origin: Option<GuestPath>,
    /// A directory whose base entries are hidden.
    opaque: bool,
}

/// One difference between the base and the draft, at a path free of symbolic links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// What the base has there is gone.
    Removed,
    /// The base's node is still there with these attributes.
    Attributes(Attributes),
    /// A node that the base does not have there.
    Put {
        /// The node.
        node: DraftNode,
        /// Its attributes.
        attributes: Attributes,
        /// The earlier path in this list that is the same node under another name.
        link_to: Option<GuestPath>,
    },
}

/// The guest as it will be.
#[derive(Clone)]
pub struct Draft {
    base: Arc<Guest>,
    payloads: PayloadReader,
    entries: HashMap<GuestPath, Entry>,
    children: HashMap<GuestPath, BTreeSet<Vec<u8>>>,
    nodes: Vec<Node>,
    undo: Vec<Undo>,
    /// What the base has at paths that were asked for: it never changes, and folders are asked for again and again.
    asked: RefCell<HashMap<GuestPath, Option<Drafted>>>,
}

#[derive(Debug, Clone)]
enum Undo {
    Entry(GuestPath, Option<Entry>),
    Node(usize, Box<Node>),
}

impl Draft {
    /// The base unchanged; `payloads` opens the bytes of payloads for whoever reads files in the draft.
    #[must_use]
    pub fn new(base: Arc<Guest>, payloads: PayloadReader) -> Self {
        Self {
            base,
            payloads,
            entries: HashMap::new(),
            children: HashMap::new(),
            nodes: Vec::new(),
            undo: Vec::new(),
            asked: RefCell::new(HashMap::new()),
        }
    }

    /// The guest as it is.
    #[must_use]
    pub fn base(&self) -> &Guest {
        &self.base
    }

    /// The state as of now, to go back to.
    #[must_use]
    pub fn savepoint(&self) -> Savepoint {
        Savepoint(self.undo.len())
    }

    /// Undoes every change made since `to`.
    pub fn go_back(&mut self, to: Savepoint) {
        while self.undo.len() > to.0 {
            match self.undo.pop() {
                Some(Undo::Entry(path, before)) => {
                    self.index(&path, before);
                }
                Some(Undo::Node(index, before)) => {
                    if let Some(node) = self.nodes.get_mut(index) {
                        *node = *before;
                    }
                }
                None => return,
            }
        }
    }

    fn index(&mut self, path: &GuestPath, entry: Option<Entry>) -> Option<Entry> {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return match entry {
                Some(entry) => self.entries.insert(path.clone(), entry),
                None => self.entries.remove(path),
            };
        };
        if let Some(entry) = entry {
            self.children
                .entry(parent)
                .or_default()
                .insert(name.to_vec());
            self.entries.insert(path.clone(), entry)
        } else {
            if let Some(names) = self.children.get_mut(&parent) {
                names.remove(name);
            }
            self.entries.remove(path)
        }
    }

    fn set(&mut self, path: &GuestPath, entry: Entry) -> Result<()> {
        if self.undo.len() >= MAX_CHANGES {
            return Err(Error::limit("more than 4,000,000 changes in one draft"));
        }
        let before = self.index(path, Some(entry));
        self.undo.push(Undo::Entry(path.clone(), before));
        Ok(())
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len().saturating_sub(1)
    }

    /// Whether the base shows through at `path` (free of symbolic links), which has no entry of its own.
    fn base_shows(&self, path: &GuestPath) -> bool {
        let mut here = path.parent();
        while let Some(at) = here {
            match self.entries.get(&at) {
                Some(Entry::Absent) => return false,
                Some(Entry::Node(index)) => {
                    let Some(node) = self.nodes.get(*index) else {
                        return false;
                    };
                    if node.opaque || node.node != DraftNode::Directory {
                        return false;
                    }
                }
                None => {}
            }
            here = at.parent();
        }
        true
    }

    /// What is at `path`, whose parents are free of symbolic links; the last component is not followed.
    fn at(&self, path: &GuestPath) -> Result<Option<Drafted>> {
        match self.entries.get(path) {
            Some(Entry::Absent) => return Ok(None),
            Some(Entry::Node(index)) => {
                return Ok(self.nodes.get(*index).map(|node| Drafted {
                    path: path.clone(),
                    node: node.node.clone(),
                    attributes: node.attributes.clone(),
                    identity: Identity::Draft(*index),
                }));
            }
            None => {}
        }
        if !self.base_shows(path) {
            return Ok(None);
        }
        self.in_base(path)
    }

    fn in_base(&self, path: &GuestPath) -> Result<Option<Drafted>> {
        if let Some(known) = self.asked.borrow().get(path) {
            return Ok(known.clone());
        }
        let found = self.read_base(path)?;
        let mut asked = self.asked.borrow_mut();
        if asked.len() >= MAX_ASKED {
            asked.clear();
        }
        asked.insert(path.clone(), found.clone());
        Ok(found)
    }

    fn read_base(&self, path: &GuestPath) -> Result<Option<Drafted>> {
        let Some(resolved) = self.base.resolve(path, Follow::No)? else {
            return Ok(None);
        };
        if resolved.path != *path {
            return Ok(None);
        }
        let Some(mount) = self.base.mounts().get(resolved.mount) else {
            return Ok(None);
        };
        let located = |error: Error| error.located(&Locator::default().path(path.clone()));
        let tree = mount.tree.as_ref();
        let metadata = tree.metadata(resolved.node).map_err(located)?;
        let node = match metadata.kind {
            NodeKind::File => DraftNode::File(Content::Base {
                path: path.clone(),
                size: metadata.size,
            }),
            NodeKind::Directory => DraftNode::Directory,
            NodeKind::Symlink => {
                DraftNode::Symlink(tree.read_link(resolved.node).map_err(located)?)
            }
            kind => DraftNode::Special(kind, metadata.device),
        };
        Ok(Some(Drafted {
            path: path.clone(),
            node,
            attributes: Attributes {
                mode: metadata.mode,
                uid: metadata.uid,
                gid: metadata.gid,
                mtime: metadata.mtime,
                xattrs: tree.xattrs(resolved.node).map_err(located)?,
            },
            identity: Identity::Base(resolved.mount, metadata.node.0),
        }))
    }

    /// What `path` leads to in the draft, or `None`.
    ///
    /// # Errors
    /// A broken base, or a loop of symbolic links (`Limit`).
    pub fn get(&self, path: &GuestPath, follow: Follow) -> Result<Option<Drafted>> {
        match self.walk(path, follow)? {
            Walk::Found(drafted) => Ok(Some(*drafted)),
            Walk::Missing(_) | Walk::Nowhere => Ok(None),
        }
    }

    /// The path, free of symbolic links, at which a new node named `path` would stand: its parent must be a
    /// directory. The last component is followed only as `follow` says.
    ///
    /// # Errors
    /// `Corrupt` when the parent is missing or no directory.
    pub fn place(&self, path: &GuestPath, follow: Follow) -> Result<GuestPath> {
        match self.walk(path, follow)? {
            Walk::Found(drafted) => Ok(drafted.path),
            Walk::Missing(path) => Ok(path),
            Walk::Nowhere => {
                Err(Error::corrupt("no such directory")
                    .located(&Locator::default().path(path.clone())))
            }
        }
    }

    fn walk(&self, path: &GuestPath, follow: Follow) -> Result<Walk> {
        let mut here = GuestPath::root();
        let mut todo: VecDeque<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
        let mut links = 0_usize;
        let Some(mut found) = self.at(&here)? else {
            return Ok(Walk::Nowhere);
        };
        while let Some(name) = todo.pop_front() {
            if found.node != DraftNode::Directory {
                return Ok(Walk::Nowhere);
            }
            if name == b".." {
                here = here.parent().unwrap_or_else(GuestPath::root);
                match self.at(&here)? {
                    Some(up) => found = up,
                    None => return Ok(Walk::Nowhere),
                }
                continue;
            }
            let next = here
                .join(&name)
                .map_err(|error| Error::corrupt("bad name in a path").because(error))?;
            let Some(at) = self.at(&next)? else {
                return Ok(if todo.is_empty() {
                    Walk::Missing(next)
                } else {
                    Walk::Nowhere
                });
            };
            if let DraftNode::Symlink(target) = &at.node
                && (follow == Follow::Links || !todo.is_empty())
            {
                links = links.saturating_add(1);
                if links > MAX_LINKS {
                    return Err(Error::limit("more than 40 symbolic links on one path")
                        .located(&Locator::default().path(path.clone())));
                }
                if target.starts_with(b"/") {
                    here = GuestPath::root();
                    match self.at(&here)? {
                        Some(root) => found = root,
                        None => return Ok(Walk::Nowhere),
                    }
                }
                for part in target.rsplit(|&byte| byte == b'/') {
                    if !part.is_empty() && part != b"." {
                        todo.push_front(part.to_vec());
                    }
                }
                continue;
            }
            here = next;
            found = at;
        }
        Ok(Walk::Found(Box::new(found)))
    }

    /// The names in the directory at `path`, in byte order; `None` when there is no directory.
    ///
    /// # Errors
    /// As [`Draft::get`].
    pub fn read_dir(&self, path: &GuestPath) -> Result<Option<BTreeSet<Vec<u8>>>> {
        let Some(found) = self.get(path, Follow::Links)? else {
            return Ok(None);
        };
        if found.node != DraftNode::Directory {
            return Ok(None);
        }
        let shows = match self.entries.get(&found.path) {
            Some(Entry::Absent) => false,
            Some(Entry::Node(index)) => {
                self.nodes.get(*index).is_some_and(|node| !node.opaque)
                    && self.base_shows(&found.path)
            }
            None => self.base_shows(&found.path),
        };
        let mut names = BTreeSet::new();
        if shows {
            for entry in self.base.read_dir(&found.path)?.unwrap_or_default() {
                names.insert(entry.name);
            }
        }
        for name in self.children.get(&found.path).into_iter().flatten() {
            let child = found
                .path
                .join(name)
                .map_err(|error| Error::corrupt("bad name in a directory").because(error))?;
            match self.entries.get(&child) {
                Some(Entry::Absent) => {
                    names.remove(name);
                }
                Some(Entry::Node(_)) => {
                    names.insert(name.clone());
                }
                None => {}
            }
        }
        Ok(Some(names))
    }

    /// Opens the bytes that `content` names.
    ///
    /// # Errors
    /// A broken base or payload.
    pub fn open(&self, content: &Content) -> Result<Box<dyn Read + '_>> {
        match content {
            Content::Bytes(bytes) => Ok(Box::new(std::io::Cursor::new(bytes.clone()))),
            Content::Payload {
                payload,
                offset,
                size,
            } => (self.payloads)(*payload, *offset, *size),
            Content::Base { path, size } => {
                Ok(Box::new(BaseReader::open(&self.base, path, *size)?))
            }
        }
    }

    /// Up to `length` bytes of `content` from `offset` on, fewer at its end, without reading what stands before.
    ///
    /// # Errors
    /// A broken base or payload.
    pub fn read_part(&self, content: &Content, offset: u64, length: usize) -> Result<Vec<u8>> {
        let left = content.size().saturating_sub(offset);
        let length = u64::try_from(length).unwrap_or(u64::MAX).min(left);
        let reader: Box<dyn Read + '_> = match content {
            Content::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = bytes.get(start..).unwrap_or_default();
                Box::new(std::io::Cursor::new(rest))
            }
            Content::Payload {
                payload,
                offset: start,
                ..
            } => (self.payloads)(*payload, start.saturating_add(offset), length)?,
            Content::Base { path, size } => {
                let mut reader = BaseReader::open(&self.base, path, *size)?;
                reader.offset = offset;
                Box::new(reader)
            }
        };
        let mut out = Vec::new();
        reader
            .take(length)
            .read_to_end(&mut out)
            .map_err(|error| Error::io("cannot read a file's content", error))?;
        Ok(out)
    }

    /// The bytes of the regular file at `path`, symbolic links followed; `None` when there is none.
    ///
    /// # Errors
    /// `Limit` for more than `limit` bytes; otherwise as [`Draft::open`].
    pub fn read(&self, path: &GuestPath, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(Drafted {
            node: DraftNode::File(content),
            ..
        }) = self.get(path, Follow::Links)?
        else {
            return Ok(None);
        };
        let located = |error: Error| error.located(&Locator::default().path(path.clone()));
        if content.size() > limit {
            return Err(located(Error::limit(format!(
                "the file has {} bytes; at most {limit} are read",
                content.size()
            ))));
        }
        let mut out = Vec::new();
        self.open(&content)
            .map_err(located)?
            .take(limit)
            .read_to_end(&mut out)
            .map_err(|error| located(Error::io("cannot read a file's content", error)))?;
        Ok(Some(out))
    }

    /// Puts a new node at `path`; its parent must be a directory and the last component is not followed. A directory
    /// put where one stands takes its attributes and keeps its entries; otherwise a directory is never replaced.
    ///
    /// # Errors
    /// `Corrupt` when there is no such parent, `Denied` when a directory stands in the way.
    pub fn put(&mut self, path: &GuestPath, node: DraftNode, attributes: Attributes) -> Result<()> {
        let path = self.place(path, Follow::No)?;
        let located = |error: Error| error.located(&Locator::default().path(path.clone()));
        let standing = self.at(&path)?;
        if let Some(standing) = &standing
            && standing.node == DraftNode::Directory
        {
            if node == DraftNode::Directory {
                return self.set_attributes(&path, attributes);
            }
            return Err(located(Error::denied("a directory stands in the way")));
        }
        let opaque = node == DraftNode::Directory;
        let index = self.add(Node {
            node,
            attributes,
            origin: None,
            opaque,
        });
        self.set(&path, Entry::Node(index))
    }

    /// Makes the directory at `path` and every missing parent, each with `attributes`.
    ///
    /// # Errors
    /// As [`Draft::put`].
    pub fn make_directories(&mut self, path: &GuestPath, attributes: &Attributes) -> Result<()> {
        let mut here = GuestPath::root();
        for name in path.components() {
            here = here
                .join(name)
                .map_err(|error| Error::corrupt("bad name in a path").because(error))?;
            match self.get(&here, Follow::Links)? {
                Some(at) if at.node == DraftNode::Directory => {}
                Some(_) => {
                    return Err(Error::denied("what should be a directory is none")
                        .located(&Locator::default().path(here)));
                }
                None => self.put(&here, DraftNode::Directory, attributes.clone())?,
            }
        }
        Ok(())
    }

    /// Gives the node at `existing` (not followed; no directory) the further name `path`.
    ///
    /// # Errors
    /// `Corrupt` when there is nothing at `existing`, `Denied` for a directory.
    pub fn link(&mut self, existing: &GuestPath, path: &GuestPath) -> Result<()> {
        let at = self.place(existing, Follow::No)?;
        let index = self.own(&at)?;
        let path = self.place(path, Follow::No)?;
        let directory = |node: &DraftNode| *node == DraftNode::Directory;
        if self
            .nodes
            .get(index)
            .is_some_and(|node| directory(&node.node))
            || self
                .at(&path)?
                .is_some_and(|standing| directory(&standing.node))
        {
            return Err(Error::denied("a directory cannot be linked or replaced")
                .located(&Locator::default().path(path)));
        }
        self.set(&path, Entry::Node(index))
    }

    /// The draft's own node at `path` (free of symbolic links), taken over from the base where need be.
    fn own(&mut self, path: &GuestPath) -> Result<usize> {
        if let Some(Entry::Node(index)) = self.entries.get(path) {
            return Ok(*index);
        }
        let missing =
            || Error::corrupt("no such file").located(&Locator::default().path(path.clone()));
        let at = self.at(path)?.ok_or_else(missing)?;
        let index = self.add(Node {
            node: at.node,
            attributes: at.attributes,
            origin: Some(path.clone()),
            opaque: false,
        });
        self.set(path, Entry::Node(index))?;
        Ok(index)
    }

    /// Sets the attributes of the node at `path`, which is not followed.
    ///
    /// # Errors
    /// `Corrupt` when nothing is there.
    pub fn set_attributes(&mut self, path: &GuestPath, attributes: Attributes) -> Result<()> {
        let path = self.place(path, Follow::No)?;
        let index = self.own(&path)?;
        self.change(index, |node| node.attributes = attributes);
        Ok(())
    }

    /// Changes the bytes of the regular file at `path` (not followed) and keeps all its names.
    ///
    /// # Errors
    /// `Corrupt` when no regular file is there.
    pub fn set_content(&mut self, path: &GuestPath, content: Content) -> Result<()> {
        let path = self.place(path, Follow::No)?;
        let index = self.own(&path)?;
        let is_file = self
            .nodes
            .get(index)
            .is_some_and(|node| node.node.kind() == NodeKind::File);
        if !is_file {
            return Err(
                Error::corrupt("not a regular file").located(&Locator::default().path(path))
            );
        }
        self.change(index, |node| node.node = DraftNode::File(content));
        Ok(())
    }

    fn change(&mut self, index: usize, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(index) {
            self.undo.push(Undo::Node(index, Box::new(node.clone())));
            change(node);
        }
    }

    /// Removes the name `path`, which is not followed; a directory must be empty.
    ///
    /// # Errors
    /// `Corrupt` when nothing is there, `Denied` for a directory with entries and for the root.
    pub fn remove(&mut self, path: &GuestPath) -> Result<()> {
        let path = self.place(path, Follow::No)?;
        let located = |error: Error| error.located(&Locator::default().path(path.clone()));
        let Some(at) = self.at(&path)? else {
            return Err(located(Error::corrupt("no such file")));
        };
        if path.is_root() {
            return Err(located(Error::denied("the root cannot be removed")));
        }
        if at.node == DraftNode::Directory
            && self.read_dir(&path)?.is_some_and(|names| !names.is_empty())
        {
            return Err(located(Error::denied("the directory is not empty")));
        }
        self.set(&path, Entry::Absent)
    }

    /// Moves the name `from` to `to`, neither followed, as rename(2) does.
    ///
    /// # Errors
    /// `Corrupt` when nothing is at `from`; `Denied` when a directory with entries, or of another kind, stands at `to`,
    /// or `to` lies below `from`; `Limit` when a directory carries too much along.
    pub fn rename(&mut self, from: &GuestPath, to: &GuestPath) -> Result<()> {
        let from = self.place(from, Follow::No)?;
        let to = self.place(to, Follow::No)?;
        if from == to {
            return Ok(());
        }
        let located =
            |error: Error, path: &GuestPath| error.located(&Locator::default().path(path.clone()));
        if to.starts_with(&from) || from.is_root() {
            return Err(located(
                Error::denied("a directory cannot be moved below itself"),
                &to,
            ));
        }
        let moved = self
            .at(&from)?
            .ok_or_else(|| located(Error::corrupt("no such file"), &from))?;
        let moved_is_directory = moved.node == DraftNode::Directory;
        if let Some(standing) = self.at(&to)? {
            let standing_is_directory = standing.node == DraftNode::Directory;
            if standing_is_directory != moved_is_directory {
                return Err(located(
                    Error::denied("a directory and another node cannot replace each other"),
                    &to,
                ));
            }
            if standing_is_directory {
                self.remove(&to)?;
            }
        }
        if moved_is_directory {
            return self.carry(&from, &to);
        }
        let index = self.own(&from)?;
        self.set(&to, Entry::Node(index))?;
        self.set(&from, Entry::Absent)
    }

    /// Re-enters the directory `from` and all below it at `to`, and leaves nothing at `from`.
    fn carry(&mut self, from: &GuestPath, to: &GuestPath) -> Result<()> {
        let bad = |error| Error::corrupt("bad name in a directory").because(error);
        let mut carried = vec![(from.clone(), to.clone())];
        let mut next = 0;
        while let Some((from, to)) = carried.get(next).cloned() {
            next = next.saturating_add(1);
            for name in self.children_of(&from)? {
                carried.push((from.join(&name).map_err(bad)?, to.join(&name).map_err(bad)?));
            }
            if carried.len() > MAX_CARRIED {
                return Err(
                    Error::limit("more than 100,000 files in a directory that is moved")
                        .located(&Locator::default().path(from)),
                );
            }
        }
        for (from, to) in &carried {
            let Some(at) = self.at(from)? else { continue };
            let index = if at.node == DraftNode::Directory {
                self.add(Node {
                    node: DraftNode::Directory,
                    attributes: at.attributes,
                    origin: None,
                    opaque: true,
                })
            } else {
                self.own(from)?
            };
            self.set(to, Entry::Node(index))?;
        }
        for (from, _) in carried.iter().rev() {
            self.set(from, Entry::Absent)?;
        }
        Ok(())
    }

    /// The names in the directory at `path`, which is not followed; none when it is no directory.
    fn children_of(&self, path: &GuestPath) -> Result<BTreeSet<Vec<u8>>> {
        Ok(match self.at(path)? {
            Some(at) if at.node == DraftNode::Directory => self.read_dir(path)?.unwrap_or_default(),
            _ => BTreeSet::new(),
        })
    }

    /// Every difference from the base by path, parents before what they hold. What vanishes with a removed directory is
    /// listed too, after it.
    ///
    /// # Errors
    /// A broken base.
    pub fn differences(&self) -> Result<BTreeMap<GuestPath, Difference>> {
        let mut out = BTreeMap::new();
        let mut first_names: HashMap<usize, GuestPath> = HashMap::new();
        let mut paths: Vec<_> = self.entries.keys().collect();
        paths.sort();
        for path in paths {
            let base = self.in_base(path)?;
            match self.entries.get(path) {
                None => {}
                Some(Entry::Absent) => {
                    if let Some(base) = base {
                        out.insert(path.clone(), Difference::Removed);
                        if base.node == DraftNode::Directory {
                            self.removed_below(path, &mut out)?;
                        }
                    }
                }
                Some(Entry::Node(index)) => {
                    let Some(node) = self.nodes.get(*index) else {
                        continue;
                    };
                    if let Some(base) = &base
                        && node.origin.as_ref() == Some(path)
                        && node.node == base.node
                    {
                        if node.attributes != base.attributes {
                            out.insert(
                                path.clone(),
                                Difference::Attributes(node.attributes.clone()),
                            );
                        }
                        first_names.entry(*index).or_insert_with(|| path.clone());
                        continue;
                    }
                    if base.is_some_and(|base| base.node == DraftNode::Directory)
                        && (node.opaque || node.node != DraftNode::Directory)
                    {
                        self.removed_below(path, &mut out)?;
                    }
                    let link_to = first_names.get(index).cloned();
                    first_names.entry(*index).or_insert_with(|| path.clone());
                    out.insert(
                        path.clone(),
                        Difference::Put {
                            node: node.node.clone(),
                            attributes: node.attributes.clone(),
                            link_to,
                        },
                    );
                }
            }
        }
        Ok(out)
    }

    fn removed_below(
        &self,
        path: &GuestPath,
        out: &mut BTreeMap<GuestPath, Difference>,
    ) -> Result<()> {
        let mut todo = vec![path.clone()];
        while let Some(directory) = todo.pop() {
            for entry in self.base.read_dir(&directory)?.unwrap_or_default() {
                let child = directory
                    .join(&entry.name)
                    .map_err(|error| Error::corrupt("bad name in a directory").because(error))?;
                if out.len() >= MAX_CHANGES {
                    return Err(Error::limit("more than 4,000,000 changes in one draft"));
                }
                if self
                    .in_base(&child)?
                    .is_some_and(|node| node.node == DraftNode::Directory)
                {
                    todo.push(child.clone());
                }
                if !self.entries.contains_key(&child) {
                    out.insert(child, Difference::Removed);
                }
            }
        }
        Ok(())
    }
}

enum Walk {
    Found(Box<Drafted>),
    Missing(GuestPath),
    Nowhere,
}

/// Reads a file of the base in order.
struct BaseReader<'a> {
    tree: &'a dyn dormouse_filesystem::Tree,
    node: dormouse_filesystem::NodeId,
    offset: u64,
    size: u64,
}

impl<'a> BaseReader<'a> {
    fn open(guest: &'a Guest, path: &GuestPath, size: u64) -> Result<Self> {
        let missing =
            || Error::corrupt("no such file").located(&Locator::default().path(path.clone()));
        let at = guest.resolve(path, Follow::No)?.ok_or_else(missing)?;
        let mount = guest.mounts().get(at.mount).ok_or_else(missing)?;
        Ok(Self {
            tree: mount.tree.as_ref(),
            node: at.node,
            offset: 0,
            size,
        })
    }
}

impl Read for BaseReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let wanted = buf.len().min(left);
        let Some(part) = buf.get_mut(..wanted).filter(|part| !part.is_empty()) else {
            return Ok(0);
        };
        let n = self
            .tree
            .read_at(self.node, self.offset, part)
            .map_err(std::io::Error::other)?;
        self.offset = self
            .offset
            .saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use dormouse_filesystem::{MemoryTree, Time};

    use super::*;

    fn path(text: &str) -> GuestPath {
        GuestPath::new(text).unwrap()
    }

    fn plain(mode: u16) -> Attributes {
        Attributes {
            mode,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: BTreeMap::new(),
        }
    }

    fn draft() -> Draft {
        let mut tree = MemoryTree::new();
        tree.file("/usr/bin/sh", b"dash")
            .symlink("/bin", "usr/bin")
            .file("/etc/app/a.conf", b"a")
            .file("/etc/app/sub/b.conf", b"b");
        let no_payload: PayloadReader = Arc::new(|_, _, _| Err(Error::corrupt("no payload here")));
        Draft::new(Arc::new(Guest::of(tree)), no_payload)
    }

    fn put(draft: &mut Draft, at: &str, bytes: &[u8]) {
        draft
            .put(
                &path(at),
                DraftNode::File(Content::bytes(bytes)),
                plain(0o644),
            )
            .unwrap();
    }

    fn names(draft: &Draft, at: &str) -> Vec<String> {
        let names = draft.read_dir(&path(at)).unwrap().unwrap();
        names
            .iter()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    }

    #[test]
    fn changes_are_seen_through_links_and_listed_by_true_path() {
        let mut draft = draft();
        put(&mut draft, "/bin/sh", b"new");
        assert_eq!(
            draft.read(&path("/usr/bin/sh"), 9).unwrap().unwrap(),
            b"new"
        );
        let differences = draft.differences().unwrap();
        assert_eq!(
            differences.keys().collect::<Vec<_>>(),
            [&path("/usr/bin/sh")]
        );
    }

    #[test]
    fn going_back_undoes_everything_since() {
        let mut draft = draft();
        put(&mut draft, "/etc/app/new.conf", b"1");
        let before = draft.savepoint();
        put(&mut draft, "/etc/app/new.conf", b"2");
        draft.remove(&path("/etc/app/a.conf")).unwrap();
        draft
            .rename(&path("/etc/app"), &path("/etc/moved"))
            .unwrap();
        draft.go_back(before);
        assert_eq!(names(&draft, "/etc/app"), ["a.conf", "new.conf", "sub"]);
        assert_eq!(
            draft.read(&path("/etc/app/new.conf"), 9).unwrap().unwrap(),
            b"1"
        );
        assert!(
            draft
                .get(&path("/etc/moved"), Follow::No)
                .unwrap()
                .is_none()
        );
        assert_eq!(draft.differences().unwrap().len(), 1);
    }

    #[test]
    fn a_moved_directory_takes_all_along() {
        let mut draft = draft();
        put(&mut draft, "/etc/app/sub/c.conf", b"c");
        draft
            .rename(&path("/etc/app"), &path("/etc/moved"))
            .unwrap();
        assert_eq!(names(&draft, "/etc"), ["moved"]);
        assert_eq!(names(&draft, "/etc/moved/sub"), ["b.conf", "c.conf"]);
        assert_eq!(
            draft.read(&path("/etc/moved/a.conf"), 9).unwrap().unwrap(),
            b"a"
        );
        let differences = draft.differences().unwrap();
        assert_eq!(
            differences.get(&path("/etc/app/sub/b.conf")),
            Some(&Difference::Removed)
        );
        assert!(!differences.contains_key(&path("/etc/app/sub/c.conf")));
        assert!(matches!(
            differences.get(&path("/etc/moved/sub/b.conf")),
            Some(Difference::Put { node: DraftNode::File(Content::Base { path: from, .. }), .. })
                if *from == path("/etc/app/sub/b.conf")
        ));
    }

    #[test]
    fn a_directory_replaced_by_a_link_hides_what_it_held() {
        let mut draft = draft();
        let error = draft
            .put(
                &path("/etc/app"),
                DraftNode::Symlink(b"other".to_vec()),
                plain(0o777),
            )
            .unwrap_err();
        assert_eq!(error.kind(), dormouse_block::ErrorKind::Denied);
        draft.remove(&path("/etc/app/sub/b.conf")).unwrap();
        draft.remove(&path("/etc/app/sub")).unwrap();
        draft.remove(&path("/etc/app/a.conf")).unwrap();
        draft.remove(&path("/etc/app")).unwrap();
        draft
            .put(
                &path("/etc/app"),
                DraftNode::Symlink(b"other".to_vec()),
                plain(0o777),
            )
            .unwrap();
        assert!(
            draft
                .get(&path("/etc/app/a.conf"), Follow::Links)
                .unwrap()
                .is_none()
        );
        assert_eq!(draft.differences().unwrap().len(), 4);
    }

    #[test]
    fn hard_links_and_attributes_stay_with_their_node() {
        let mut draft = draft();
        draft
            .link(&path("/etc/app/a.conf"), &path("/etc/app/z.conf"))
            .unwrap();
        draft
            .set_attributes(&path("/etc/app/z.conf"), plain(0o600))
            .unwrap();
        let a = draft
            .get(&path("/etc/app/a.conf"), Follow::No)
            .unwrap()
            .unwrap();
        assert_eq!(a.attributes.mode, 0o600);
        let differences = draft.differences().unwrap();
        assert!(matches!(
            differences.get(&path("/etc/app/a.conf")),
            Some(Difference::Attributes(_))
        ));
        assert!(matches!(
            differences.get(&path("/etc/app/z.conf")),
            Some(Difference::Put { link_to: Some(to), .. }) if *to == path("/etc/app/a.conf")
        ));
    }
}
