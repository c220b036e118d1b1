//! What a path of a draft leads to.

use std::collections::{BTreeSet, VecDeque};

use dormouse_block::{Error, GuestPath, Locator, Result};
use dormouse_filesystem::{Follow, NodeKind};

use super::{Content, Draft, DraftNode, Drafted, Entry, Identity};
use crate::Attributes;

/// Symbolic links followed on one path before it is called a loop.
const MAX_LINKS: usize = 40;
/// Answers of the base that are remembered; then they are forgotten and read again.
const MAX_ASKED: usize = 65_536;

enum Walk {
    Found(Box<Drafted>),
    Missing(GuestPath),
    Nowhere,
}

fn join(directory: &GuestPath, name: &[u8]) -> Result<GuestPath> {
    directory
        .join(name)
        .map_err(|error| Error::corrupt("bad name in a path").because(error))
}

impl Draft {
    /// Whether the base shows through below the directory `path`.
    fn shows_below(&self, path: &GuestPath) -> bool {
        let mut here = Some(path.clone());
        while let Some(at) = here {
            match self.entries.get(&at) {
                Some(Entry::Absent) => return false,
                Some(Entry::Node(index)) if !self.lets_through(*index) => return false,
                Some(Entry::Node(_)) | None => {}
            }
            here = at.parent();
        }
        true
    }

    /// Whether what the base has below the node shows.
    fn lets_through(&self, index: usize) -> bool {
        self.nodes
            .get(index)
            .is_some_and(|node| !node.opaque && node.node == DraftNode::Directory)
    }

    /// What is at `path`, whose parents are free of symbolic links; the last component is not followed.
    ///
    /// # Errors
    /// A broken base.
    pub fn at(&self, path: &GuestPath) -> Result<Option<Drafted>> {
        let shows = || match (path.parent(), self.parents.borrow()) {
            (None, _) => true,
            (Some(parent), parents) => match parents.get(&parent) {
                Some((at, shows)) if *at == parent => *shows,
                _ => self.shows_below(&parent),
            },
        };
        Ok(self.below(path, shows)?.0)
    }

    /// Where the directory `asked` is, free of symbolic links, if that was learnt and holds.
    #[must_use]
    pub fn known(&self, asked: &GuestPath) -> Option<GuestPath> {
        self.parents.borrow().get(asked).map(|(at, _)| at.clone())
    }

    /// Learns that `asked` leads to the directory `at`, free of symbolic links, for as long as nothing changes that.
    pub fn learn(&self, asked: GuestPath, at: &GuestPath) {
        let shows = self.shows_below(at);
        let mut parents = self.parents.borrow_mut();
        if parents.len() >= MAX_ASKED {
            parents.clear();
        }
        parents.insert(at.clone(), (at.clone(), shows));
        parents.insert(asked, (at.clone(), shows));
    }

    /// As [`Draft::at`], where `parent_shows` says whether the base shows through below the parent; and whether it does
    /// below what is there.
    fn below(
        &self,
        path: &GuestPath,
        parent_shows: impl FnOnce() -> bool,
    ) -> Result<(Option<Drafted>, bool)> {
        match self.entries.get(path) {
            Some(Entry::Absent) => return Ok((None, false)),
            Some(Entry::Node(index)) => {
                let drafted = self.nodes.get(*index).map(|node| Drafted {
                    path: path.clone(),
                    node: node.node.clone(),
                    attributes: node.attributes.clone(),
                    identity: Identity::Draft(*index),
                });
                return Ok((drafted, self.lets_through(*index) && parent_shows()));
            }
            None => {}
        }
        if parent_shows() {
            Ok((self.in_base(path)?, true))
        } else {
            Ok((None, false))
        }
    }

    pub(super) fn in_base(&self, path: &GuestPath) -> Result<Option<Drafted>> {
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

    /// As [`Draft::walk`], in a directory that was walked to before; `None` where it was not, or a link is to be followed.
    fn walk_known(&self, path: &GuestPath, follow: Follow) -> Result<Option<Walk>> {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return Ok(None);
        };
        let known = self.parents.borrow();
        let Some((here, shows)) = known.get(&parent) else {
            return Ok(None);
        };
        let next = join(here, name)?;
        Ok(match self.below(&next, || *shows)?.0 {
            None => Some(Walk::Missing(next)),
            Some(at) if follow == Follow::Links && matches!(at.node, DraftNode::Symlink(_)) => None,
            Some(at) => Some(Walk::Found(Box::new(at))),
        })
    }

    fn walk(&self, path: &GuestPath, follow: Follow) -> Result<Walk> {
        if let Some(known) = self.walk_known(path, follow)? {
            return Ok(known);
        }
        let mut last = false;
        let mut here = GuestPath::root();
        let mut todo: VecDeque<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
        let mut links = 0_usize;
        let (Some(mut found), mut shows) = self.below(&here, || true)? else {
            return Ok(Walk::Nowhere);
        };
        while let Some(name) = todo.pop_front() {
            if found.node != DraftNode::Directory {
                return Ok(Walk::Nowhere);
            }
            // What links lead to is walked before the path's own last name.
            if todo.is_empty() && !last {
                last = true;
                if let Some(parent) = path.parent() {
                    self.learn(parent, &here);
                }
            }
            if name == b".." {
                here = here.parent().unwrap_or_else(GuestPath::root);
                match self.at(&here)? {
                    Some(up) => found = up,
                    None => return Ok(Walk::Nowhere),
                }
                shows = self.shows_below(&here);
                continue;
            }
            let next = join(&here, &name)?;
            let (Some(at), at_shows) = self.below(&next, || shows)? else {
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
                    match self.below(&here, || true)? {
                        (Some(root), root_shows) => (found, shows) = (root, root_shows),
                        (None, _) => return Ok(Walk::Nowhere),
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
            (found, shows) = (at, at_shows);
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
        let mut names = BTreeSet::new();
        if self.shows_below(&found.path) {
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
}
