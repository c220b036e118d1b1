//! What stands at a path of a draft.

use dormouse_block::GuestPath;
use dormouse_filesystem::NodeKind;

use super::Content;
use crate::Attributes;

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
pub(super) enum Entry {
    Absent,
    Node(usize),
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) node: DraftNode,
    pub(super) attributes: Attributes,
    /// The base's node that this is, with other attributes or another name.
    pub(super) origin: Option<GuestPath>,
    /// A directory whose base entries are hidden.
    pub(super) opaque: bool,
}
