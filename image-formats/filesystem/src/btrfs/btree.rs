//! Searching trees: every node is checked on its way in, and a few of them are kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Error, Result, Source};

use super::chunk::Chunk;
use super::index;
use super::key::{self, Key, is_subvolume};
use super::node::{self, Node};
use super::pool::Pool;
use super::superblock::{Superblock, TreeRoot};

/// Bytes of tree nodes that are kept, in each of two generations of the cache.
const MAX_KEPT: usize = 4 << 20;

/// What a node must be, as whoever leads to it says.
#[derive(Clone, Copy)]
struct Expected {
    logical: u64,
    level: u8,
    generation: u64,
    /// The tree that it belongs to.
    owner: u64,
    /// Its first key, for all nodes but roots.
    first: Option<Key>,
}

/// The nodes used of late: those used since the last turn, and those used in the turn before.
#[derive(Default)]
struct Kept {
    young: HashMap<u64, Arc<Node>>,
    old: HashMap<u64, Arc<Node>>,
}

impl Kept {
    fn get(&mut self, logical: u64, room: usize) -> Option<Arc<Node>> {
        if let Some(node) = self.young.get(&logical) {
            return Some(node.clone());
        }
        let node = self.old.remove(&logical)?;
        self.put(logical, node.clone(), room);
        Some(node)
    }

    fn put(&mut self, logical: u64, node: Arc<Node>, room: usize) {
        if self.young.len() >= room {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(logical, node);
    }
}

/// An item of a leaf.
#[derive(Clone)]
pub(super) enum Item {
    /// As it is on disk.
    Stored(Arc<Node>, usize),
    /// As the log changed it.
    Changed(Arc<[u8]>),
}

impl Item {
    pub(super) fn bytes(&self) -> Result<&[u8]> {
        match self {
            Self::Stored(node, nth) => node.item(*nth),
            Self::Changed(bytes) => Ok(bytes),
        }
    }
}

/// A filesystem's trees.
pub(super) struct Trees {
    pub(super) sb: Superblock,
    pub(super) pool: Pool,
    kept: Mutex<Kept>,
}

impl Trees {
    /// Reads the superblock and the chunk tree of the filesystem on `source`, which may go on on `others`.
    pub(super) fn open(source: Arc<dyn Source>, others: &[Arc<dyn Source>]) -> Result<Self> {
        let (mut pool, sb) = Pool::new(source, others)?;
        let mut at = 0;
        while at < sb.sys_chunks.len() {
            let key = Key::parse(&sb.sys_chunks, at)?;
            if key.kind != key::CHUNK_ITEM {
                return Err(Error::corrupt("a system chunk that is none"));
            }
            let rest = sb.sys_chunks.get(at.saturating_add(key::SIZE)..);
            let (chunk, taken) = Chunk::parse(rest.unwrap_or_default())?;
            pool.chunks.insert(key.offset, chunk)?;
            at = at.saturating_add(key::SIZE).saturating_add(taken);
        }
        let mut this = Self {
            sb,
            pool,
            kept: Mutex::default(),
        };
        let root = TreeRoot {
            id: key::CHUNK_TREE,
            logical: this.sb.chunk_root,
            level: this.sb.chunk_root_level,
            generation: this.sb.chunk_root_generation,
        };
        // The chunk tree lies in system chunks, so that it is read whole before any of its chunks is used.
        let mut chunks = Vec::new();
        let first = Key::new(key::FIRST_CHUNK_TREE, key::CHUNK_ITEM, 0);
        this.each(&root, first, |key, bytes| {
            if !key.alike(first) {
                return Ok(false);
            }
            chunks.push((key.offset, Chunk::parse(bytes)?.0));
            Ok(true)
        })?;
        for (start, chunk) in chunks {
            this.pool.chunks.insert(start, chunk)?;
        }
        Ok(this)
    }

    /// The root tree's own root.
    pub(super) fn root_tree(&self) -> TreeRoot {
        TreeRoot {
            id: key::ROOT_TREE,
            logical: self.sb.root,
            level: self.sb.root_level,
            generation: self.sb.generation,
        }
    }

    fn room(&self) -> usize {
        MAX_KEPT
            .checked_div(index(self.sb.node))
            .unwrap_or(1)
            .max(1)
    }

    fn node(&self, expected: Expected) -> Result<Arc<Node>> {
        let Expected { logical, .. } = expected;
        let known = self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(logical, self.room());
        if let Some(node) = known {
            fits(expected, &node)?;
            return Ok(node);
        }
        let mut bytes = vec![0; index(self.sb.node)];
        let mut node = None;
        // A stale copy has a sound checksum too, so that all is checked before the next copy is given up.
        self.pool.read(logical, &mut bytes, |bytes| {
            node::check(&self.sb, |uuid| self.pool.knows(uuid), logical, bytes)?;
            let found = Node::parse(logical, bytes.to_vec())?;
            fits(expected, &found)?;
            node = Some(Arc::new(found));
            Ok(())
        })?;
        let node = node.ok_or_else(super::overflow)?;
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .put(logical, node.clone(), self.room());
        Ok(node)
    }

    /// The leaf of `root` in whose range `key` lies, and the first key after that range.
    fn leaf(&self, root: &TreeRoot, key: Key) -> Result<(Arc<Node>, Option<Key>)> {
        let mut expected = Expected {
            logical: root.logical,
            level: root.level,
            generation: root.generation,
            owner: root.id,
            first: None,
        };
        let mut end = None;
        loop {
            let node = self.node(expected)?;
            if node.level == 0 {
                return Ok((node, end));
            }
            let below = match node.below(key)? {
                n if n < node.count && node.key(n)? == key => n,
                n => n.saturating_sub(1),
            };
            let next = below.saturating_add(1);
            if next < node.count {
                end = Some(node.key(next)?);
            }
            let child = node.child(below)?;
            expected = Expected {
                logical: child.logical,
                // Each step goes one level down, so that there are at most eight.
                level: node.level.saturating_sub(1),
                generation: child.generation,
                owner: root.id,
                first: Some(child.first),
            };
        }
    }

    /// The first item of `root` at or after `from`.
    pub(super) fn next(&self, root: &TreeRoot, from: Key) -> Result<Option<(Key, Item)>> {
        let mut from = from;
        loop {
            let (leaf, end) = self.leaf(root, from)?;
            let nth = leaf.below(from)?;
            if nth < leaf.count {
                return Ok(Some((leaf.key(nth)?, Item::Stored(leaf, nth))));
            }
            match end {
                Some(end) if end > from => from = end,
                _ => return Ok(None),
            }
        }
    }

    /// The last item of `root` at or before `until`.
    pub(super) fn prev(&self, root: &TreeRoot, until: Key) -> Result<Option<(Key, Item)>> {
        let (leaf, _) = self.leaf(root, until)?;
        let mut nth = leaf.below(until)?;
        if nth >= leaf.count || leaf.key(nth)? != until {
            match nth.checked_sub(1) {
                Some(before) => nth = before,
                // Every leaf begins with the key that leads to it, so that only the first one gets here.
                None => return Ok(None),
            }
        }
        Ok(Some((leaf.key(nth)?, Item::Stored(leaf, nth))))
    }

    /// The item of `root` at `key`.
    pub(super) fn get(&self, root: &TreeRoot, key: Key) -> Result<Option<Item>> {
        Ok(self
            .next(root, key)?
            .and_then(|(found, item)| (found == key).then_some(item)))
    }

    /// Hands the items of `root` from `from` on to `take`, until that returns false.
    pub(super) fn each(
        &self,
        root: &TreeRoot,
        from: Key,
        mut take: impl FnMut(Key, &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let mut from = from;
        loop {
            let (leaf, end) = self.leaf(root, from)?;
            for nth in leaf.below(from)?..leaf.count {
                if !take(leaf.key(nth)?, leaf.item(nth)?)? {
                    return Ok(());
                }
            }
            match end {
                Some(end) if end > from => from = end,
                _ => return Ok(()),
            }
        }
    }
}

fn fits(expected: Expected, node: &Node) -> Result<()> {
    let bad = |what: &str| {
        Error::corrupt(format!(
            "bad {what} of the tree node at {}",
            expected.logical
        ))
    };
    if node.level != expected.level {
        return Err(bad("level"));
    }
    if node.generation != expected.generation {
        return Err(bad("generation"));
    }
    // Subvolumes share nodes with their snapshots.
    let owned = if is_subvolume(expected.owner) {
        is_subvolume(node.owner)
    } else {
        node.owner == expected.owner
    };
    if !owned {
        return Err(bad("owner"));
    }
    match expected.first {
        Some(first) if node.count == 0 || node.key(0)? != first => Err(bad("first key")),
        _ => Ok(()),
    }
}
