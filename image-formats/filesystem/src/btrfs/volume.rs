//! A whole filesystem: its trees, its subvolumes and where they hang, its data.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Error, GuestPath, Result, Source};

use super::btree::Trees;
use super::data::Data;
use super::directory;
use super::key::{self, Key, is_subvolume};
use super::log;
use super::subvolume::{Changes, RootItem, Subvolume};
use super::superblock::uuid_text;

/// Subvolumes of one filesystem that are listed.
const MAX_SUBVOLUMES: usize = 1 << 16;
/// Directories and subvolumes on the way to one subvolume.
const MAX_DEPTH: usize = 2048;
/// The name that the default subvolume has in the root tree.
const DEFAULT: &[u8] = b"default";

/// A filesystem, open for reading.
pub(super) struct Volume {
    pub(super) trees: Trees,
    pub(super) data: Data,
    /// What the log changed, by subvolume.
    logs: BTreeMap<u64, Arc<Changes>>,
    known: Mutex<HashMap<u64, Subvolume>>,
}

impl Volume {
    pub(super) fn open(source: Arc<dyn Source>, others: &[Arc<dyn Source>]) -> Result<Self> {
        let trees = Trees::open(source, others)?;
        let log::Replayed { mut trees_of, sums } = log::replay(&trees)?;
        let sums = trees.root_item(key::CSUM_TREE)?.map(|item| Subvolume {
            root: item.root,
            changes: Arc::new(sums),
        });
        trees_of.retain(|_, changes| !changes.is_empty());
        Ok(Self {
            data: Data::new(sums),
            trees,
            logs: trees_of
                .into_iter()
                .map(|(id, changes)| (id, Arc::new(changes)))
                .collect(),
            known: Mutex::default(),
        })
    }

    /// Whether there was a log to replay.
    pub(super) fn replayed(&self) -> bool {
        !self.logs.is_empty()
    }

    /// Subvolume `id`, as it is after the log.
    pub(super) fn subvolume(&self, id: u64) -> Result<Subvolume> {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&id) {
            return Ok(known.clone());
        }
        let item = self
            .root_item(id)?
            .ok_or_else(|| Error::corrupt(format!("there is no subvolume {id}")))?;
        let subvolume = Subvolume {
            root: item.root,
            changes: self.logs.get(&id).cloned().unwrap_or_default(),
        };
        let mut known = lock();
        if known.len() >= MAX_SUBVOLUMES {
            known.clear();
        }
        known.insert(id, subvolume.clone());
        Ok(subvolume)
    }

    fn root_item(&self, id: u64) -> Result<Option<RootItem>> {
        if !is_subvolume(id) {
            return Ok(None);
        }
        let item = self.trees.root_item(id)?;
        if let Some(item) = &item
            && item.root_dir != key::FIRST_FREE
        {
            return Err(Error::corrupt(format!(
                "subvolume {id} has its root at inode {}",
                item.root_dir
            )));
        }
        Ok(item)
    }

    /// The subvolume that is mounted when nobody asks for another one.
    pub(super) fn default_subvolume(&self) -> Result<u64> {
        let at = Key::new(
            self.trees.sb.root_dir,
            key::DIR_ITEM,
            key::name_hash(DEFAULT),
        );
        let Some(item) = self.trees.get(&self.trees.root_tree(), at)? else {
            return Ok(key::FS_TREE);
        };
        let entries = directory::entries(item.bytes()?)?;
        let entry = entries.iter().find(|entry| entry.name == DEFAULT);
        Ok(entry.map_or(key::FS_TREE, |entry| entry.location.objectid))
    }

    /// Whether subvolume `child` hangs in subvolume `parent` at this name of this directory.
    pub(super) fn hangs(
        &self,
        parent: u64,
        directory: u64,
        name: &[u8],
        child: u64,
    ) -> Result<bool> {
        let at = Key::new(parent, key::ROOT_REF, child);
        let Some(item) = self.trees.get(&self.trees.root_tree(), at)? else {
            return Ok(false);
        };
        Ok(
            directory::root_reference(item.bytes()?)? == (directory, name)
                && self.root_item(child)?.is_some(),
        )
    }

    /// Every subvolume that has a place, in the order of their numbers.
    pub(super) fn list(&self) -> Result<Vec<crate::Subvolume>> {
        let default = self.default_subvolume()?;
        let mut items = BTreeMap::new();
        let mut hangs = BTreeMap::new();
        let from = Key::new(key::FS_TREE, key::ROOT_ITEM, 0);
        self.trees
            .each(&self.trees.root_tree(), from, |key, bytes| {
                if key.objectid > key::LAST_FREE {
                    return Ok(false);
                }
                if is_subvolume(key.objectid) {
                    match key.kind {
                        key::ROOT_ITEM => {
                            items.insert(key.objectid, RootItem::parse(key.objectid, bytes)?);
                        }
                        key::ROOT_BACKREF => {
                            let (directory, name) = directory::root_reference(bytes)?;
                            hangs.insert(key.objectid, (key.offset, directory, name.to_vec()));
                        }
                        _ => {}
                    }
                }
                if items.len() > MAX_SUBVOLUMES {
                    return Err(Error::limit("more than 65536 subvolumes"));
                }
                Ok(true)
            })?;
        let mut paths = HashMap::from([(key::FS_TREE, GuestPath::root())]);
        let mut out = Vec::new();
        for (id, item) in &items {
            // One that is being deleted has no place any more.
            let placed = *id == key::FS_TREE || hangs.contains_key(id);
            if !placed || (item.refs == 0 && *id != key::FS_TREE) {
                continue;
            }
            out.push(crate::Subvolume {
                id: *id,
                path: self.path_of(*id, &hangs, &mut paths)?,
                uuid: uuid_text(&item.uuid),
                parent_uuid: uuid_text(&item.parent_uuid),
                read_only: item.read_only,
                generation: item.generation,
                default: *id == default,
            });
        }
        Ok(out)
    }

    fn path_of(
        &self,
        id: u64,
        hangs: &BTreeMap<u64, (u64, u64, Vec<u8>)>,
        paths: &mut HashMap<u64, GuestPath>,
    ) -> Result<GuestPath> {
        let lost = || Error::corrupt(format!("subvolume {id} hangs nowhere"));
        let mut names = Vec::new();
        let mut ids = Vec::new();
        let mut here = id;
        let mut path = loop {
            if let Some(path) = paths.get(&here) {
                break path.clone();
            }
            let (parent, directory, name) = hangs.get(&here).ok_or_else(lost)?;
            let mut way = vec![name.clone()];
            let subvolume = self.subvolume(*parent)?;
            let mut directory = *directory;
            while directory != key::FIRST_FREE {
                let reference = self
                    .first_reference(&subvolume, directory)?
                    .ok_or_else(lost)?;
                way.push(reference.name);
                directory = reference.parent;
                if way.len() > MAX_DEPTH {
                    return Err(lost());
                }
            }
            names.push(way);
            ids.push(here);
            if names.len() > MAX_DEPTH {
                return Err(lost());
            }
            here = *parent;
        };
        for (way, id) in names.into_iter().zip(ids).rev() {
            for name in way.into_iter().rev() {
                path = path.join(&name).map_err(|error| {
                    Error::corrupt(format!("the path of subvolume {id}: {error}"))
                })?;
            }
            paths.insert(id, path.clone());
        }
        Ok(path)
    }

    fn first_reference(
        &self,
        subvolume: &Subvolume,
        inode: u64,
    ) -> Result<Option<directory::Reference>> {
        let first = Key::new(inode, key::INODE_REF, 0);
        let found = subvolume.next(&self.trees, first)?;
        let Some((key, item)) = found.filter(|(key, _)| key.alike(first)) else {
            return Ok(None);
        };
        Ok(directory::references(key, item.bytes()?)?
            .into_iter()
            .next())
    }
}
