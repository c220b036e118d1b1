//! The guest as it will be, described over the guest as it is.
//!
//! A [`Draft`] answers what a path would be after the changes made so far, takes further changes by path, can go
//! back to a [`Savepoint`], and ends as a list of differences. It holds no bytes of payloads and of the base: their
//! [`Content`] says where they are.

mod change;
mod content;
mod difference;
mod lookup;
mod node;
mod rename;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use dormouse_block::{Error, GuestPath, Result};
use dormouse_filesystem::Guest;

use foldhash::fast::RandomState;
use node::{Entry, Node};

pub use content::{Content, PayloadReader};
pub use difference::Difference;
pub use node::{DraftNode, Drafted, Identity};

/// Changes one draft may hold.
const MAX_CHANGES: usize = 4_000_000;

/// A state of a draft that it can go back to; later savepoints are void once an earlier one was returned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Savepoint(usize);

/// The guest as it will be.
#[derive(Clone)]
pub struct Draft {
    base: Arc<Guest>,
    payloads: PayloadReader,
    entries: HashMap<GuestPath, Entry, RandomState>,
    children: HashMap<GuestPath, BTreeSet<Vec<u8>>, RandomState>,
    nodes: Vec<Node>,
    undo: Vec<Undo>,
    /// What the base has at paths that were asked for: it never changes, and folders are asked for again and again.
    asked: RefCell<HashMap<GuestPath, Option<Drafted>, RandomState>>,
    /// Where directories are that were asked for, free of symbolic links, and whether the base shows through below them. It
    /// holds until something that they may lie in or be reached by goes or changes.
    parents: RefCell<HashMap<GuestPath, (GuestPath, bool), RandomState>>,
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
            entries: HashMap::default(),
            children: HashMap::default(),
            nodes: Vec::new(),
            undo: Vec::new(),
            asked: RefCell::default(),
            parents: RefCell::default(),
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

    /// Whether what is known to stand at `path` is nothing that a path leads through.
    fn leads_nowhere(&self, path: &GuestPath) -> bool {
        let ends = |node: &DraftNode| !matches!(node, DraftNode::Directory | DraftNode::Symlink(_));
        match self.entries.get(path) {
            Some(Entry::Absent) => true,
            Some(Entry::Node(index)) => self.nodes.get(*index).is_some_and(|node| ends(&node.node)),
            None => match self.asked.borrow().get(path) {
                Some(found) => found.as_ref().is_none_or(|found| ends(&found.node)),
                None => false,
            },
        }
    }

    fn index(&mut self, path: &GuestPath, entry: Option<Entry>) -> Option<Entry> {
        if !self.leads_nowhere(path) {
            self.parents.borrow_mut().clear();
        }
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
}
