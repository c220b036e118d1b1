//! Names moved, and whole directories with them.

use std::collections::BTreeSet;

use dormouse_block::{Error, GuestPath, Locator, Result};
use dormouse_filesystem::Follow;

use super::{Draft, DraftNode, Entry, Node};

/// Nodes that one rename of a directory of the base may carry along.
const MAX_CARRIED: usize = 100_000;

impl Draft {
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
        self.keep_as_at(index, &to);
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
            self.keep_as_at(index, to);
            self.set(to, Entry::Node(index))?;
        }
        for (from, _) in carried.iter().rev() {
            self.set(from, Entry::Absent)?;
        }
        Ok(())
    }

    /// Gives a node that moves to `path` the attributes that it can have there.
    fn keep_as_at(&mut self, index: usize, path: &GuestPath) {
        let Some(node) = self.nodes.get(index) else {
            return;
        };
        let kept = self.kept(path, node.node.kind(), node.attributes.clone());
        if kept != node.attributes {
            self.change(index, |node| node.attributes = kept);
        }
    }

    /// The names in the directory at `path`, which is not followed; none when it is no directory.
    fn children_of(&self, path: &GuestPath) -> Result<BTreeSet<Vec<u8>>> {
        Ok(match self.at(path)? {
            Some(at) if at.node == DraftNode::Directory => self.read_dir(path)?.unwrap_or_default(),
            _ => BTreeSet::new(),
        })
    }
}
