//! Subvolumes: trees of files, each with its own inode numbers, and what a log changed in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use dormouse_block::{Error, Result, array_at, le_u64};

use super::btree::{Item, Trees};
use super::key::{self, Key};
use super::superblock::TreeRoot;

/// Bytes of a root item before its UUIDs, which the oldest ones lack.
const OLD_SIZE: usize = 239;
/// The root item's flag of a read-only subvolume.
const READ_ONLY: u64 = 1;

/// Items that stand in for those on disk, by key; `None` where one was deleted.
pub(super) type Changes = BTreeMap<Key, Option<Arc<[u8]>>>;

/// What a root item says of a tree.
#[derive(Debug, Clone)]
pub(super) struct RootItem {
    pub(super) root: TreeRoot,
    pub(super) generation: u64,
    pub(super) root_dir: u64,
    pub(super) read_only: bool,
    /// Names that lead to it; 0 when it is being deleted.
    pub(super) refs: u32,
    pub(super) uuid: [u8; 16],
    pub(super) parent_uuid: [u8; 16],
}

impl RootItem {
    /// The root item of tree `id`.
    pub(super) fn parse(id: u64, bytes: &[u8]) -> Result<Self> {
        let generation = le_u64(bytes, 160)?;
        let [level] = array_at(bytes, 238)?;
        // An old kernel that does not know the later fields leaves the second generation behind.
        let whole = bytes.len() > OLD_SIZE && le_u64(bytes, OLD_SIZE)? == generation;
        Ok(Self {
            root: TreeRoot {
                id,
                logical: le_u64(bytes, 176)?,
                level,
                generation,
            },
            generation,
            root_dir: le_u64(bytes, 168)?,
            read_only: le_u64(bytes, 208)? & READ_ONLY != 0,
            refs: dormouse_block::le_u32(bytes, 216)?,
            uuid: if whole {
                array_at(bytes, 247)?
            } else {
                [0; 16]
            },
            parent_uuid: if whole {
                array_at(bytes, 263)?
            } else {
                [0; 16]
            },
        })
    }
}

/// A tree as it is after the log.
#[derive(Debug, Clone)]
pub(super) struct Subvolume {
    pub(super) root: TreeRoot,
    pub(super) changes: Arc<Changes>,
}

impl Subvolume {
    /// The first item at or after `from`.
    pub(super) fn next(&self, trees: &Trees, from: Key) -> Result<Option<(Key, Item)>> {
        let mut from = from;
        loop {
            let stored = trees.next(&self.root, from)?;
            let changed = self.changes.range(from..).next();
            match (stored, changed) {
                (stored, Some((key, item)))
                    if stored.as_ref().is_none_or(|(stored, _)| key <= stored) =>
                {
                    if let Some(item) = item {
                        return Ok(Some((*key, Item::Changed(item.clone()))));
                    }
                    match key.successor() {
                        Some(next) => from = next,
                        None => return Ok(None),
                    }
                }
                (stored, _) => return Ok(stored),
            }
        }
    }

    /// The last item at or before `until`.
    pub(super) fn prev(&self, trees: &Trees, until: Key) -> Result<Option<(Key, Item)>> {
        let mut until = until;
        loop {
            let stored = trees.prev(&self.root, until)?;
            let changed = self.changes.range(..=until).next_back();
            match (stored, changed) {
                (stored, Some((key, item)))
                    if stored.as_ref().is_none_or(|(stored, _)| key >= stored) =>
                {
                    if let Some(item) = item {
                        return Ok(Some((*key, Item::Changed(item.clone()))));
                    }
                    match key.predecessor() {
                        Some(before) => until = before,
                        None => return Ok(None),
                    }
                }
                (stored, _) => return Ok(stored),
            }
        }
    }

    /// The item at `key`.
    pub(super) fn get(&self, trees: &Trees, key: Key) -> Result<Option<Item>> {
        match self.changes.get(&key) {
            Some(item) => Ok(item.clone().map(Item::Changed)),
            None => trees.get(&self.root, key),
        }
    }

    /// Hands the items of the object and kind of `from`, from there on, to `take`, until that returns false.
    pub(super) fn each(
        &self,
        trees: &Trees,
        from: Key,
        mut take: impl FnMut(Key, &[u8]) -> Result<bool>,
    ) -> Result<()> {
        if self.changes.is_empty() {
            return trees.each(&self.root, from, |key, bytes| {
                Ok(key.alike(from) && take(key, bytes)?)
            });
        }
        let mut next = Some(from);
        while let Some(from) = next
            && let Some((key, item)) = self.next(trees, from)?
            && key.alike(from)
            && take(key, item.bytes()?)?
        {
            next = key.successor();
        }
        Ok(())
    }

    /// Every item of the object and kind of `from`, from there on; `limit` bounds their number.
    pub(super) fn all(
        &self,
        trees: &Trees,
        from: Key,
        limit: usize,
    ) -> Result<Vec<(Key, Vec<u8>)>> {
        let mut out = Vec::new();
        self.each(trees, from, |key, bytes| {
            if out.len() >= limit {
                return Err(Error::limit(format!(
                    "object {} has more than {limit} items of kind {}",
                    from.objectid, from.kind
                )));
            }
            out.push((key, bytes.to_vec()));
            Ok(true)
        })?;
        Ok(out)
    }
}

impl Trees {
    /// The root item of tree `id`: the last of those kept of it.
    pub(super) fn root_item(&self, id: u64) -> Result<Option<RootItem>> {
        let last = Key::new(id, key::ROOT_ITEM, u64::MAX);
        match self.prev(&self.root_tree(), last)? {
            Some((key, item)) if key.alike(last) => RootItem::parse(id, item.bytes()?).map(Some),
            _ => Ok(None),
        }
    }
}
