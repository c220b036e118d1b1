//! What an injection could reach, from the bytes that were written: far less than all files of a guest.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use dormouse_block::{GuestPath, Result};
use dormouse_filesystem::{Follow, Guest, Metadata, Named, NodeId, NodeKind, touched};
use foldhash::HashMap;

use super::{Written, join, same, side_by_side};
use crate::injection::{Injection, PathChange};

/// A node of one of the guest's mounts.
type Place = (usize, NodeId);

/// The nodes that bytes were written of, all of them those of planned paths and of the directories around them.
pub(super) struct Reach<'a> {
    after: &'a Guest,
    planned: HashSet<&'a GuestPath, foldhash::fast::RandomState>,
    /// Planned paths, which may be directories, and the directories that they lie in.
    directories: BTreeSet<GuestPath>,
    /// Nodes of which something was written.
    touched: BTreeSet<Place>,
    /// Where all of these paths lead to, before and after.
    was: Places,
    is: Places,
}

/// The node that each path leads to, if any.
type Places = HashMap<GuestPath, Place>;

/// The planned paths that lead to a node.
#[derive(Default, Clone, Copy)]
struct Names {
    count: u32,
    /// One of them is to keep its bytes.
    keeps_bytes: bool,
}

/// How the planned paths and the directories around them stand in one guest.
#[derive(Default)]
struct Standing {
    planned: BTreeMap<Place, Names>,
    /// Nodes of the directories.
    directories: BTreeSet<Place>,
    places: Places,
}

impl Standing {
    /// `None` when a path leads through a link, and so has two names here.
    fn of(
        guest: &Guest,
        injection: &Injection,
        around: &BTreeSet<GuestPath>,
    ) -> Result<Option<Self>> {
        let mut this = Self::default();
        for (path, change) in &injection.paths {
            if let Some(at) = guest.resolve(path, Follow::No)? {
                if at.path != *path {
                    return Ok(None);
                }
                let place = (at.mount, at.node);
                this.places.insert(at.path, place);
                let names = this.planned.entry(place).or_default();
                names.count = names.count.saturating_add(1);
                names.keeps_bytes |= matches!(change, PathChange::Attributes { .. });
            }
        }
        for path in around {
            if let Some(at) = guest.resolve(path, Follow::No)? {
                if at.path != *path {
                    return Ok(None);
                }
                let place = (at.mount, at.node);
                this.places.insert(at.path, place);
                this.directories.insert(place);
            }
        }
        Ok(Some(this))
    }

    /// Whether every name of a node is one of these.
    fn explains(&self, place: Place, named: Named) -> bool {
        let planned = self.planned.get(&place);
        if named.kind == NodeKind::Directory {
            planned.is_some() || self.directories.contains(&place)
        } else {
            planned.is_some_and(|names| names.count == named.links)
        }
    }

    /// The nodes of one mount whose bytes are replaced or removed as planned, which is looked at path by path.
    fn replaced(&self, mount: usize) -> impl Iterator<Item = NodeId> {
        self.planned
            .range((mount, NodeId(0))..=(mount, NodeId(u64::MAX)))
            .filter(|(place, names)| !names.keeps_bytes && !self.directories.contains(place))
            .map(|((_, node), _)| *node)
    }
}

impl<'a> Reach<'a> {
    /// `None` where the mounts' tables do not tell, or tell of a node that nobody planned to change.
    pub(super) fn of(
        base: &Guest,
        after: &'a Guest,
        injection: &'a Injection,
        written: &Written,
    ) -> Result<Option<Self>> {
        let same_mounts = base.mounts().len() == after.mounts().len()
            && after.mounts().len() == written.len()
            && base
                .mounts()
                .iter()
                .zip(after.mounts())
                .all(|(one, other)| {
                    (&one.at, &one.volume, &one.subvolume)
                        == (&other.at, &other.volume, &other.subvolume)
                });
        if !same_mounts {
            return Ok(None);
        }
        let paths = injection.paths.keys();
        let around: BTreeSet<GuestPath> = paths.clone().filter_map(GuestPath::parent).collect();
        let (Some(was), Some(is)) = (
            Standing::of(base, injection, &around)?,
            Standing::of(after, injection, &around)?,
        ) else {
            return Ok(None);
        };
        let mut this = Self {
            after,
            planned: paths.clone().collect(),
            directories: around,
            touched: BTreeSet::new(),
            was: Places::default(),
            is: Places::default(),
        };
        this.directories.extend(paths.cloned());
        let mounts = base.mounts().iter().zip(after.mounts()).zip(written);
        for (nth, ((old, new), written)) in mounts.enumerate() {
            let (old, new) = (old.tree.as_ref(), new.tree.as_ref());
            let Some(found) = touched(old, new, written, &mut was.replaced(nth))? else {
                return Ok(None);
            };
            for one in found {
                let place = (nth, one.node);
                let explained = one.before.is_none_or(|named| was.explains(place, named))
                    && one.after.is_none_or(|named| is.explains(place, named));
                if !explained {
                    return Ok(None);
                }
                this.touched.insert(place);
            }
        }
        (this.was, this.is) = (was.places, is.places);
        Ok(Some(this))
    }

    /// Compares what the touched directories hold: how many names that nobody planned were compared, or `None` when one of
    /// them is not what it was.
    pub(super) fn others(&self, base: &Guest) -> Result<Option<usize>> {
        let mut compared = 0_usize;
        for directory in &self.directories {
            let before = self.directory(base, self.was.get(directory))?;
            let after = self.directory(self.after, self.is.get(directory))?;
            if let (Some(before), Some(after)) = (&before, &after)
                && !self.planned.contains(directory)
                && !same(&before.metadata, &after.metadata)
            {
                return Ok(None);
            }
            let names = |listing: Option<Listing>| listing.map(|it| it.names).unwrap_or_default();
            let (before, after) = (names(before), names(after));
            for (name, old, new) in side_by_side(&before, &after) {
                if self.planned.contains(&join(directory, name)?) {
                    continue;
                }
                if old != new {
                    return Ok(None);
                }
                compared = compared.saturating_add(1);
            }
        }
        Ok(Some(compared))
    }

    /// What stands at a place, where that is a directory of which something was written.
    fn directory(&self, guest: &Guest, at: Option<&Place>) -> Result<Option<Listing>> {
        let Some((nth, node)) = at.filter(|at| self.touched.contains(at)) else {
            return Ok(None);
        };
        let Some(mount) = guest.mounts().get(*nth) else {
            return Ok(None);
        };
        let metadata = mount.tree.metadata(*node)?;
        if metadata.kind != NodeKind::Directory {
            return Ok(None);
        }
        let entries = mount.tree.read_dir(*node)?.into_iter();
        let mut names: Vec<_> = entries.map(|entry| (entry.name, entry.node)).collect();
        names.sort_unstable();
        Ok(Some(Listing { metadata, names }))
    }
}

/// A directory, and which node each of its names leads to.
struct Listing {
    metadata: Metadata,
    names: Vec<(Vec<u8>, NodeId)>,
}
