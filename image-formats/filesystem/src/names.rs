//! Names of directories that are asked for again and again, each directory read once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::Result;
use foldhash::fast::RandomState;

use crate::{DirEntry, NodeId, Tree};

/// Look-ups in one directory after which all its names are read at once.
const OFTEN: u32 = 3;
/// Names kept, all directories together; when there are more, all are forgotten. A name takes some 100 bytes.
const MAX_NAMES: usize = 200_000;
/// Bytes of the largest directory that is read at once; some 100,000 names.
const MAX_DIRECTORY: u64 = 4 << 20;

/// A directory: a mount and the node in its tree.
type Place = (usize, NodeId);
type Entries = Arc<HashMap<Vec<u8>, DirEntry, RandomState>>;

#[derive(Default)]
struct Known {
    asked: HashMap<Place, u32, RandomState>,
    read: HashMap<Place, Entries, RandomState>,
    names: usize,
}

/// What is known of directories so far. Trees do not change, so nothing in it is ever wrong.
#[derive(Default)]
pub(crate) struct Names(Mutex<Known>);

impl Names {
    /// The entry `name` of the directory `node` of `tree`, which is mount number `mount`.
    ///
    /// # Errors
    /// As [`Tree::lookup`] and [`Tree::read_dir`].
    pub(crate) fn lookup(
        &self,
        mount: usize,
        tree: &dyn Tree,
        node: NodeId,
        name: &[u8],
    ) -> Result<Option<DirEntry>> {
        let place = (mount, node);
        {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(entries) = known.read.get(&place) {
                let found = entries.get(name).cloned();
                drop(known);
                return either(found, tree, node, name);
            }
            let asked = known.asked.entry(place).or_default();
            *asked = asked.saturating_add(1);
            if *asked < OFTEN {
                drop(known);
                return tree.lookup(node, name);
            }
        }
        if tree.metadata(node)?.size > MAX_DIRECTORY {
            return tree.lookup(node, name);
        }
        // A directory with a broken part may still have this name in a sound one.
        let Ok(listed) = tree.read_dir(node) else {
            return tree.lookup(node, name);
        };
        let mut entries = HashMap::with_capacity_and_hasher(listed.len(), RandomState::default());
        for entry in listed {
            // Of a name that stands twice, the first counts.
            entries.entry(entry.name.clone()).or_insert(entry);
        }
        let found = entries.get(name).cloned();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.names.saturating_add(entries.len()) > MAX_NAMES {
            *known = Known::default();
        }
        if entries.len() <= MAX_NAMES {
            known.names = known.names.saturating_add(entries.len());
            known.read.insert(place, Arc::new(entries));
        }
        drop(known);
        either(found, tree, node, name)
    }
}

/// What was found among the names as they are listed, else what the tree itself makes of a name that differs in case.
fn either(
    found: Option<DirEntry>,
    tree: &dyn Tree,
    node: NodeId,
    name: &[u8],
) -> Result<Option<DirEntry>> {
    if found.is_none() && tree.ignores_case() {
        return tree.lookup(node, name);
    }
    Ok(found)
}
