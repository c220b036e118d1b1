//! Log trees: what was synced and not yet committed, replayed in memory.
//!
//! Every subvolume with synced changes has a log tree of whole items; the kernel's `fs/btrfs/tree-log.c` says what
//! they mean for the subvolume's tree, and in which order: inodes (with what they lost), then names of directories,
//! then references, attributes and extents, and last the counts of links.

mod extents;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dormouse_block::{Error, Result, le_u64};

use super::btree::Trees;
use super::directory;
use super::inode::Inode;
use super::key::{self, Key, is_subvolume};
use super::subvolume::{Changes, RootItem, Subvolume};
use super::superblock::TreeRoot;
use crate::NodeKind;

/// Items of all log trees of a filesystem, and bytes of them; the kernel commits long before.
const MAX_ITEMS: usize = 1 << 19;
const MAX_BYTES: usize = 64 << 20;
/// Items of one subvolume that a log may change.
const MAX_CHANGES: usize = 1 << 20;
/// Items of one inode that a log may touch at once.
const MAX_TOUCHED: usize = 1 << 20;
/// Offsets of an inode item's size and links.
const SIZE_AT: usize = 16;
const LINKS_AT: usize = 40;

/// What the logs change.
#[derive(Default)]
pub(super) struct Replayed {
    /// In each subvolume.
    pub(super) trees_of: BTreeMap<u64, Changes>,
    /// In the tree of checksums.
    pub(super) sums: Changes,
}

type Log = BTreeMap<Key, Vec<u8>>;

/// Replays the logs of a filesystem; nothing is changed where there are none.
pub(super) fn replay(trees: &Trees) -> Result<Replayed> {
    let mut out = Replayed::default();
    let sb = &trees.sb;
    if sb.log_root == 0 {
        return Ok(out);
    }
    // Log trees belong to the transaction that was not committed.
    let root = TreeRoot {
        id: key::TREE_LOG,
        logical: sb.log_root,
        level: sb.log_root_level,
        generation: sb.generation.checked_add(1).ok_or_else(super::overflow)?,
    };
    let mut roots = Vec::new();
    let first = Key::new(key::TREE_LOG, key::ROOT_ITEM, 0);
    trees.each(&root, first, |key, bytes| {
        if key.alike(first) {
            roots.push((key.offset, RootItem::parse(key::TREE_LOG, bytes)?.root));
        }
        if roots.len() > MAX_ITEMS {
            return Err(Error::limit("more than 524288 log trees"));
        }
        Ok(key.alike(first))
    })?;
    let (mut items, mut taken) = (0_usize, 0_usize);
    for (id, root) in roots {
        let mut log = Log::new();
        trees.each(&root, Key::MIN, |key, bytes| {
            items = items.saturating_add(1);
            taken = taken.saturating_add(bytes.len());
            if items > MAX_ITEMS || taken > MAX_BYTES {
                return Err(Error::limit(
                    "log trees of more than 524288 items or 64 MiB",
                ));
            }
            log.insert(key, bytes.to_vec());
            Ok(true)
        })?;
        if !is_subvolume(id) {
            return Err(Error::corrupt(format!("a log of tree {id}")));
        }
        // The subvolume may have been deleted since.
        let Some(item) = trees.root_item(id)? else {
            continue;
        };
        let sums = Key::new(key::EXTENT_CSUM, key::EXTENT_CSUM_ITEM, 0);
        for (key, bytes) in log.range(sums..) {
            if key.alike(sums) {
                out.sums.insert(*key, Some(bytes.as_slice().into()));
            }
        }
        let mut replay = Replay {
            trees,
            log: Arc::new(log),
            tree: Subvolume {
                root: item.root,
                changes: Arc::default(),
            },
            fixup: BTreeSet::new(),
        };
        replay.run()?;
        let changes = Arc::unwrap_or_clone(replay.tree.changes);
        out.trees_of.insert(id, changes);
    }
    Ok(out)
}

/// The replay of one subvolume's log.
struct Replay<'a> {
    trees: &'a Trees,
    log: Arc<Log>,
    tree: Subvolume,
    /// Inodes whose links are to be counted again.
    fixup: BTreeSet<u64>,
}

/// What is said of a log that does not fit the tree that it belongs to.
fn unfit(what: &str) -> Error {
    Error::corrupt(format!("a log that does not fit its subvolume: {what}"))
}

impl Replay<'_> {
    fn run(&mut self) -> Result<()> {
        let log = self.log.clone();
        // Inodes that were unlinked while open are no more.
        let mut gone = BTreeSet::new();
        for (key, bytes) in log.iter().filter(|(key, _)| key.kind == key::INODE_ITEM) {
            if Inode::parse(key.objectid, bytes)?.links == 0 {
                gone.insert(key.objectid);
            }
        }
        let here = || log.iter().filter(|(key, _)| !gone.contains(&key.objectid));
        for (key, bytes) in here().filter(|(key, _)| key.kind == key::INODE_ITEM) {
            self.replay_inode(*key, bytes)?;
        }
        for (key, bytes) in here().filter(|(key, _)| key.kind == key::DIR_INDEX) {
            self.replay_names(*key, bytes)?;
        }
        for (key, bytes) in here() {
            match key.kind {
                key::XATTR_ITEM => self.put(*key, bytes.clone())?,
                key::INODE_REF | key::INODE_EXTREF => self.replay_references(*key, bytes)?,
                key::EXTENT_DATA => self.replay_extent(*key, bytes)?,
                _ => {}
            }
        }
        self.count_links()
    }

    fn get(&self, key: Key) -> Result<Option<Vec<u8>>> {
        let item = self.tree.get(self.trees, key)?;
        item.map(|item| Ok(item.bytes()?.to_vec())).transpose()
    }

    fn all(&self, from: Key) -> Result<Vec<(Key, Vec<u8>)>> {
        self.tree.all(self.trees, from, MAX_TOUCHED)
    }

    fn change(&mut self, key: Key, item: Option<Vec<u8>>) -> Result<()> {
        let changes = Arc::make_mut(&mut self.tree.changes);
        changes.insert(key, item.map(Into::into));
        if changes.len() > MAX_CHANGES {
            return Err(Error::limit("a log that changes more than 1048576 items"));
        }
        Ok(())
    }

    fn put(&mut self, key: Key, bytes: Vec<u8>) -> Result<()> {
        self.change(key, Some(bytes))
    }

    /// Puts `bytes` at `key`, or nothing where there are none.
    fn put_or_delete(&mut self, key: Key, bytes: Vec<u8>) -> Result<()> {
        self.change(key, (!bytes.is_empty()).then_some(bytes))
    }

    fn inode(&self, number: u64) -> Result<Option<Inode>> {
        self.get(Key::new(number, key::INODE_ITEM, 0))?
            .map(|bytes| Inode::parse(number, &bytes))
            .transpose()
    }

    fn change_inode(&mut self, number: u64, at: usize, value: &[u8]) -> Result<()> {
        let key = Key::new(number, key::INODE_ITEM, 0);
        let mut bytes = self.get(key)?.ok_or_else(|| unfit("an inode is missing"))?;
        store(&mut bytes, at, value)?;
        self.put(key, bytes)
    }

    /// An inode, after it lost the attributes and names that the log no longer has.
    fn replay_inode(&mut self, key: Key, bytes: &[u8]) -> Result<()> {
        let number = key.objectid;
        let logged = Inode::parse(number, bytes)?;
        let kind = logged.kind()?;
        self.drop_attributes(number)?;
        if kind == NodeKind::Directory {
            self.drop_names(number, Gone::AsLogged)?;
        }
        let known = self.inode(number)?;
        let mut bytes = bytes.to_vec();
        match known {
            // The log only says that it exists; a file that was synced before keeps its size.
            Some(known) if logged.generation == 0 => {
                let files = kind == NodeKind::File && known.kind()? == NodeKind::File;
                if files && logged.size != 0 {
                    self.change_inode(number, SIZE_AT, &logged.size.to_le_bytes())?;
                }
            }
            known => {
                // A directory's size follows from the names that are put in and taken out.
                if kind == NodeKind::Directory {
                    let size = known.map_or(Ok(0), |known| {
                        Ok::<_, Error>(match known.kind()? {
                            NodeKind::Directory => known.size,
                            _ => 0,
                        })
                    })?;
                    store(&mut bytes, SIZE_AT, &size.to_le_bytes())?;
                }
                self.put(key, bytes)?;
            }
        }
        if kind == NodeKind::File {
            let size = self.inode(number)?.map_or(0, |inode| inode.size);
            let end = size.checked_next_multiple_of(u64::from(self.trees.sb.sector));
            self.drop_extents(number, end.unwrap_or(u64::MAX), u64::MAX)?;
        }
        self.fixup.insert(number);
        Ok(())
    }

    /// Attributes that the log has no more.
    fn drop_attributes(&mut self, number: u64) -> Result<()> {
        for (key, bytes) in self.all(Key::new(number, key::XATTR_ITEM, 0))? {
            let logged = self.log.get(&key);
            let logged = logged.map_or(Ok(Vec::new()), |bytes| directory::entries(bytes))?;
            let mut left = Vec::new();
            for entry in directory::entries(&bytes)? {
                if logged.iter().any(|logged| logged.name == entry.name) {
                    left.extend_from_slice(entry.bytes);
                }
            }
            if left != bytes {
                self.put_or_delete(key, left)?;
            }
        }
        Ok(())
    }

    /// Counts the names of every inode that may have lost or got some; a directory without any loses its entries too.
    fn count_links(&mut self) -> Result<()> {
        let mut done = BTreeSet::new();
        while let Some(number) = self.fixup.pop_last() {
            let inode = self.inode(number)?;
            let inode = inode.ok_or_else(|| unfit("a name leads to no inode"))?;
            let mut names = 0_usize;
            for kind in [key::INODE_REF, key::INODE_EXTREF] {
                for (key, bytes) in self.all(Key::new(number, kind, 0))? {
                    names = names.saturating_add(directory::references(key, &bytes)?.len());
                }
            }
            let links = u32::try_from(names).map_err(|_| super::overflow())?;
            if links != inode.links {
                self.change_inode(number, LINKS_AT, &links.to_le_bytes())?;
            }
            if links == 0 && inode.kind()? == NodeKind::Directory && done.insert(number) {
                self.drop_names(number, Gone::All)?;
            }
        }
        Ok(())
    }
}

/// Which names of a directory are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    /// Those within the ranges that the log covers and that it does not have.
    AsLogged,
    /// All.
    All,
}

/// The last index of the range that a directory's log item covers.
fn range_end(bytes: &[u8]) -> Result<u64> {
    le_u64(bytes, 0)
}

fn store(bytes: &mut [u8], at: usize, value: &[u8]) -> Result<()> {
    bytes
        .get_mut(at..at.saturating_add(value.len()))
        .ok_or_else(super::overflow)?
        .copy_from_slice(value);
    Ok(())
}
