//! Changes of a draft, by path.

use dormouse_block::{Error, GuestPath, Locator, Result};
use dormouse_filesystem::{Follow, NodeKind};

use super::{Content, Draft, DraftNode, Entry, Node, Undo};
use crate::Attributes;

impl Draft {
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
        let attributes = self.kept(&path, node.kind(), attributes);
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
    pub(super) fn own(&mut self, path: &GuestPath) -> Result<usize> {
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
        let kind = self.nodes.get(index).map(|node| node.node.kind());
        let attributes = self.kept(&path, kind.unwrap_or(NodeKind::File), attributes);
        self.change(index, |node| node.attributes = attributes);
        Ok(())
    }

    /// The attributes that the filesystem at `path` (free of symbolic links) makes of these: FAT keeps only a time.
    pub(super) fn kept(
        &self,
        path: &GuestPath,
        kind: NodeKind,
        mut attributes: Attributes,
    ) -> Attributes {
        let mounts = self.base.mounts();
        let mount = match mounts.len() {
            1 => mounts.first(),
            _ => mounts.get(self.base.mount_of(path).0),
        };
        if let Some(tree) = mount.map(|mount| &mount.tree)
            && let Some(mode) = tree.kept_mode(kind)
        {
            attributes = Attributes {
                mode,
                uid: 0,
                gid: 0,
                mtime: tree.kept_time(attributes.mtime),
                xattrs: std::collections::BTreeMap::new(),
            };
        }
        attributes
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

    pub(super) fn change(&mut self, index: usize, change: impl FnOnce(&mut Node)) {
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
}
