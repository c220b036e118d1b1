//! Whether changes fit a filesystem, asked before the first byte is written.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use dormouse_block::{Error, GuestPath, Locator, Result};
use dormouse_filesystem::{Follow, Guest, NodeKind};

use crate::{Attributes, Content, Difference, DraftNode, Editor};

/// What one more node costs beside its bytes: its share of a directory and of tables. An estimate on the safe side.
const NODE_OVERHEAD: u64 = 1024;
/// Longest target of a symbolic link that needs no bytes of its own.
const SHORT_TARGET: usize = 59;

/// How a filesystem gives out what is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes are given out in multiples of this: a block or cluster.
    pub unit: u64,
    /// Bytes that are staged, whose room is taken already.
    pub staged_bytes: u64,
    /// Bytes that are free and kept for the superuser; [`Editor::free_bytes`] leaves them out.
    pub reserved_bytes: u64,
    /// Bytes of extended attributes that a node holds without further room.
    pub beside: u64,
}

/// What is needed of one filesystem, and what is there.
struct Need {
    room: Room,
    free_bytes: u64,
    free_nodes: u64,
    bytes: u64,
    nodes: u64,
}

impl Need {
    fn of(editor: &dyn Editor) -> Self {
        let room = editor.room();
        Self {
            room,
            free_bytes: editor.free_bytes().saturating_add(room.staged_bytes),
            free_nodes: editor.free_nodes(),
            bytes: 0,
            nodes: 0,
        }
    }

    fn rounded(&self, bytes: u64) -> u64 {
        bytes
            .div_ceil(self.room.unit.max(1))
            .saturating_mul(self.room.unit)
    }

    /// What a new node takes.
    fn cost(&self, node: &DraftNode, attributes: &Attributes) -> u64 {
        let own = match node {
            DraftNode::File(content) => self.rounded(content.size()),
            DraftNode::Directory => self.room.unit,
            DraftNode::Symlink(target) if target.len() > SHORT_TARGET => self.room.unit,
            _ => 0,
        };
        let attributes = attributes
            .xattrs
            .iter()
            .map(|(name, value)| name.len().saturating_add(value.len()).saturating_add(16))
            .fold(0, usize::saturating_add);
        let attributes = u64::try_from(attributes).unwrap_or(u64::MAX);
        let beside = if attributes > self.room.beside {
            self.room.unit
        } else {
            0
        };
        own.saturating_add(beside).saturating_add(NODE_OVERHEAD)
    }

    fn fits(&self) -> bool {
        self.bytes <= self.free_bytes && self.nodes <= self.free_nodes
    }

    fn refusal(&self, at: &GuestPath) -> Error {
        Error::limit(format!(
            "the changes need {} bytes and {} inodes; the filesystem at {at} has {} and {} left, and {} bytes reserved for root that are not used",
            self.bytes,
            self.nodes,
            self.free_bytes.saturating_sub(self.room.staged_bytes),
            self.free_nodes,
            self.room.reserved_bytes,
        ))
    }
}

/// A new node among the differences.
fn put(difference: &Difference) -> Option<(&DraftNode, &Attributes)> {
    match difference {
        Difference::Put {
            node,
            attributes,
            link_to: None,
        } => Some((node, attributes)),
        _ => None,
    }
}

/// Refuses changes that do not fit. What goes first, and what is replaced by something earlier, makes room.
///
/// # Errors
/// `Limit` with the numbers; `Unsupported` for a new node on a mount without an editor.
pub(crate) fn check(
    guest: &Guest,
    differences: &BTreeMap<GuestPath, Difference>,
    editors: &[Option<&mut dyn Editor>],
) -> Result<()> {
    let mut needs: BTreeMap<usize, Need> = BTreeMap::new();
    for (path, difference) in differences {
        let Some((node, attributes)) = put(difference) else {
            continue;
        };
        let mount = guest.mount_of(path).0;
        let need = match needs.entry(mount) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let Some(Some(editor)) = editors.get(mount) else {
                    let at = Locator::default().path(path.clone());
                    return Err(Error::unsupported(
                        "the filesystem that holds it cannot be edited",
                    )
                    .located(&at));
                };
                entry.insert(Need::of(&**editor))
            }
        };
        let cost = need.cost(node, attributes);
        need.bytes = need.bytes.saturating_add(cost);
        need.nodes = need.nodes.saturating_add(1);
    }
    let short: Vec<usize> = needs
        .iter()
        .filter(|(_, need)| !need.fits())
        .map(|(mount, _)| *mount)
        .collect();
    for mount in short {
        let Some(need) = needs.get(&mount) else {
            continue;
        };
        let at = guest.mounts().get(mount).map(|mount| mount.at.clone());
        in_order(
            guest,
            differences,
            mount,
            need,
            &at.unwrap_or_else(GuestPath::root),
        )?;
    }
    Ok(())
}

/// As the changes are carried out: removals first, then one after the other.
fn in_order(
    guest: &Guest,
    differences: &BTreeMap<GuestPath, Difference>,
    mount: usize,
    need: &Need,
    at: &GuestPath,
) -> Result<()> {
    let (mut bytes, mut nodes) = (need.free_bytes, need.free_nodes);
    // What a node of the base gives back once its last name is gone.
    let gives = |path: &GuestPath| -> Result<Option<u64>> {
        let found = guest.metadata(path, Follow::No)?;
        Ok(found
            .filter(|found| found.links == 1 && found.kind != NodeKind::Directory)
            .map(|found| match found.kind {
                NodeKind::File => need.rounded(found.size),
                _ => 0,
            }))
    };
    let here = || {
        differences
            .iter()
            .filter(|(path, _)| guest.mount_of(path).0 == mount)
    };
    for (path, difference) in here() {
        if *difference == Difference::Removed
            && let Some(given) = gives(path)?
        {
            bytes = bytes.saturating_add(given);
            nodes = nodes.saturating_add(1);
        }
    }
    for (path, difference) in here() {
        let Some((node, attributes)) = put(difference) else {
            continue;
        };
        let cost = need.cost(node, attributes);
        let (Some(left), Some(left_nodes)) = (bytes.checked_sub(cost), nodes.checked_sub(1)) else {
            return Err(need.refusal(at));
        };
        (bytes, nodes) = (left, left_nodes);
        // Bytes of the base are written again; the old ones go when the new node has their name.
        let replaced =
            !matches!(node, DraftNode::File(Content::Base { path: from, .. }) if from == path);
        if replaced && let Some(given) = gives(path)? {
            bytes = bytes.saturating_add(given);
            nodes = nodes.saturating_add(1);
        }
    }
    Ok(())
}
