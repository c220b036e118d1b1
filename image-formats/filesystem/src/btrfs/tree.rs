//! A subvolume, and those that hang below it, as a tree of files.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Error, Result, Source};

use super::directory::{self, Entry};
use super::inode::Inode;
use super::key::{self, Key};
use super::subvolume::Subvolume;
use super::superblock::uuid_text;
use super::volume::Volume;
use super::{index, wide};
use crate::{DirEntry, FilesystemInfo, Metadata, NodeId, NodeKind, Tree};

/// Entries of one directory that are read.
const MAX_ENTRIES: usize = 1 << 20;
/// Bytes of all extended attributes of one inode that are read.
const MAX_ATTRIBUTES: usize = 1 << 20;
/// Longest target of a symbolic link (Linux: `PATH_MAX`).
const MAX_TARGET: u64 = 4096;
/// Bits of a node's number that are the inode's; those above say in which subvolume.
const INODE_BITS: u32 = 48;
const INODE_MASK: u64 = (1 << INODE_BITS) - 1;
/// Subvolumes that are met in one tree.
const MAX_PLACES: usize = 1 << 16;
/// Inode of a directory where a subvolume hung once (kernel: `BTRFS_EMPTY_SUBVOL_DIR_OBJECTID`).
const ABSENT: u64 = 2;

/// Where nodes of a tree live.
#[derive(Clone)]
enum Place {
    /// In this subvolume.
    In(u64, Subvolume),
    /// In an empty directory that shows where a subvolume hung when a snapshot was taken of what holds it.
    Absent(Metadata),
}

#[derive(Default)]
struct Places {
    list: Vec<Place>,
    by_id: HashMap<u64, usize>,
}

/// A subvolume of a btrfs filesystem, open for reading; subvolumes that hang in it are directories of it.
pub struct BtrfsTree {
    volume: Arc<Volume>,
    places: Mutex<Places>,
}

impl BtrfsTree {
    /// Opens the default subvolume of the filesystem on `source`; its other devices are found among `others`.
    ///
    /// # Errors
    /// `Corrupt`, `Unsupported` or `Limit`, by name; a device that is missing and needed is `Unsupported`.
    pub fn open(source: Arc<dyn Source>, others: &[Arc<dyn Source>]) -> Result<Self> {
        let volume = Arc::new(Volume::open(source, others)?);
        let id = volume.default_subvolume()?;
        Self::of(volume, id)
    }

    fn of(volume: Arc<Volume>, id: u64) -> Result<Self> {
        let this = Self {
            volume,
            places: Mutex::default(),
        };
        let root = this.node_in(id, key::FIRST_FREE)?;
        if this.metadata(root)?.kind != NodeKind::Directory {
            return Err(Error::corrupt("the root is no directory"));
        }
        Ok(this)
    }

    fn places(&self) -> std::sync::MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, place: Place) -> Result<usize> {
        let mut places = self.places();
        if places.list.len() >= MAX_PLACES {
            return Err(Error::limit("more than 65536 subvolumes met in one tree"));
        }
        let nth = places.list.len();
        if let Place::In(id, _) = &place {
            if let Some(known) = places.by_id.get(id) {
                return Ok(*known);
            }
            places.by_id.insert(*id, nth);
        }
        places.list.push(place);
        Ok(nth)
    }

    /// The node of `inode` in subvolume `id`.
    fn node_in(&self, id: u64, inode: u64) -> Result<NodeId> {
        let known = self.places().by_id.get(&id).copied();
        let nth = match known {
            Some(nth) => nth,
            None => self.add(Place::In(id, self.volume.subvolume(id)?))?,
        };
        node_id(nth, inode)
    }

    fn place(&self, node: NodeId) -> Result<(Place, u64)> {
        let place = self.places().list.get(index(node.0 >> INODE_BITS)).cloned();
        let place = place.ok_or_else(|| Error::corrupt("no such node"))?;
        Ok((place, node.0 & INODE_MASK))
    }

    fn inode(&self, subvolume: &Subvolume, number: u64) -> Result<Inode> {
        let key = Key::new(number, key::INODE_ITEM, 0);
        let item = subvolume.get(&self.volume.trees, key)?.ok_or_else(|| {
            Error::corrupt(format!(
                "there is no inode {number} in subvolume {}",
                subvolume.root.id
            ))
        })?;
        Inode::parse(number, item.bytes()?)
    }

    /// The inode of `node`, if it is of this kind.
    fn of_kind(&self, node: NodeId, wanted: NodeKind, what: &str) -> Result<(Subvolume, Inode)> {
        let wrong = |number| Error::corrupt(format!("inode {number} is no {what}"));
        let (place, number) = self.place(node)?;
        let Place::In(_, subvolume) = place else {
            return Err(wrong(number));
        };
        let inode = self.inode(&subvolume, number)?;
        if inode.kind()? != wanted {
            return Err(wrong(number));
        }
        Ok((subvolume, inode))
    }

    fn entry(&self, subvolume: &Subvolume, parent: &Inode, entry: &Entry<'_>) -> Result<DirEntry> {
        entry.check_name()?;
        let id = subvolume.root.id;
        let node = match entry.location.kind {
            key::INODE_ITEM => self.node_in(id, entry.location.objectid)?,
            key::ROOT_ITEM => {
                let child = entry.location.objectid;
                if self.volume.hangs(id, parent.number, entry.name, child)? {
                    self.node_in(child, key::FIRST_FREE)?
                } else {
                    node_id(self.add(Place::Absent(absent(parent)))?, ABSENT)?
                }
            }
            other => {
                return Err(Error::corrupt(format!(
                    "a directory entry leads to an item of kind {other}"
                )));
            }
        };
        Ok(DirEntry {
            name: entry.name.to_vec(),
            node,
            kind: entry.node_kind(),
        })
    }
}

fn node_id(place: usize, inode: u64) -> Result<NodeId> {
    if inode > INODE_MASK {
        return Err(Error::limit(format!(
            "inode {inode}: numbers from 2^48 on are not read"
        )));
    }
    Ok(NodeId((wide(place) << INODE_BITS) | inode))
}

fn absent(parent: &Inode) -> Metadata {
    Metadata {
        node: NodeId(0),
        kind: NodeKind::Directory,
        mode: 0o755,
        uid: parent.uid,
        gid: parent.gid,
        links: 1,
        size: 0,
        atime: parent.atime,
        mtime: parent.mtime,
        ctime: parent.ctime,
        device: None,
    }
}

impl Tree for BtrfsTree {
    fn info(&self) -> FilesystemInfo {
        let sb = &self.volume.trees.sb;
        FilesystemInfo {
            kind: "btrfs".into(),
            label: sb.label.clone(),
            uuid: uuid_text(&sb.fsid),
            size: sb.total_bytes,
            free: sb.total_bytes.saturating_sub(sb.bytes_used),
            features: sb.features(),
            journal_replayed: self.volume.replayed(),
        }
    }

    fn root(&self) -> NodeId {
        // The tree's own subvolume is its first place.
        NodeId(key::FIRST_FREE)
    }

    fn metadata(&self, node: NodeId) -> Result<Metadata> {
        let (place, number) = self.place(node)?;
        let subvolume = match place {
            Place::In(_, subvolume) => subvolume,
            Place::Absent(metadata) => return Ok(Metadata { node, ..metadata }),
        };
        let inode = self.inode(&subvolume, number)?;
        let kind = inode.kind()?;
        let is_device = matches!(kind, NodeKind::CharDevice | NodeKind::BlockDevice);
        Ok(Metadata {
            node,
            kind,
            mode: inode.permissions(),
            uid: inode.uid,
            gid: inode.gid,
            links: inode.links,
            size: inode.size,
            atime: inode.atime,
            mtime: inode.mtime,
            ctime: inode.ctime,
            device: is_device.then(|| inode.device()).flatten(),
        })
    }

    fn read_dir(&self, node: NodeId) -> Result<Vec<DirEntry>> {
        if matches!(self.place(node)?, (Place::Absent(_), _)) {
            return Ok(Vec::new());
        }
        let (subvolume, inode) = self.of_kind(node, NodeKind::Directory, "directory")?;
        let mut out = Vec::new();
        let first = Key::new(inode.number, key::DIR_INDEX, 0);
        subvolume.each(&self.volume.trees, first, |_, bytes| {
            for entry in directory::entries(bytes)? {
                out.push(self.entry(&subvolume, &inode, &entry)?);
            }
            if out.len() > MAX_ENTRIES {
                return Err(Error::limit("a directory of more than 1048576 entries"));
            }
            Ok(true)
        })?;
        Ok(out)
    }

    fn lookup(&self, node: NodeId, name: &[u8]) -> Result<Option<DirEntry>> {
        if matches!(self.place(node)?, (Place::Absent(_), _)) {
            return Ok(None);
        }
        let (subvolume, inode) = self.of_kind(node, NodeKind::Directory, "directory")?;
        let at = Key::new(inode.number, key::DIR_ITEM, key::name_hash(name));
        let Some(item) = subvolume.get(&self.volume.trees, at)? else {
            return Ok(None);
        };
        directory::entries(item.bytes()?)?
            .iter()
            .find(|entry| entry.name == name)
            .map(|entry| self.entry(&subvolume, &inode, entry))
            .transpose()
    }

    fn read_link(&self, node: NodeId) -> Result<Vec<u8>> {
        let (subvolume, inode) = self.of_kind(node, NodeKind::Symlink, "symbolic link")?;
        if inode.size == 0 || inode.size > MAX_TARGET {
            return Err(Error::corrupt(format!(
                "the symbolic link {} has a target of {} bytes",
                inode.number, inode.size
            )));
        }
        let mut target = vec![0; index(inode.size)];
        let volume = &self.volume;
        volume
            .data
            .read(&volume.trees, &subvolume, &inode, 0, &mut target)?;
        Ok(target)
    }

    fn read_at(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let (subvolume, inode) = self.of_kind(node, NodeKind::File, "regular file")?;
        let volume = &self.volume;
        volume
            .data
            .read(&volume.trees, &subvolume, &inode, offset, buf)
    }

    fn xattrs(&self, node: NodeId) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let (Place::In(_, subvolume), number) = self.place(node)? else {
            return Ok(BTreeMap::new());
        };
        let mut out = BTreeMap::new();
        let mut bytes_taken = 0_usize;
        let first = Key::new(number, key::XATTR_ITEM, 0);
        subvolume.each(&self.volume.trees, first, |_, bytes| {
            bytes_taken = bytes_taken.saturating_add(bytes.len());
            if bytes_taken > MAX_ATTRIBUTES {
                return Err(Error::limit("more than 1 MiB of extended attributes"));
            }
            for entry in directory::entries(bytes)? {
                out.insert(entry.name.to_vec(), entry.value.to_vec());
            }
            Ok(true)
        })?;
        Ok(out)
    }

    fn subvolumes(&self) -> Result<Vec<crate::Subvolume>> {
        self.volume.list()
    }

    fn subvolume(&self, id: u64) -> Result<Arc<dyn Tree>> {
        Ok(Arc::new(Self::of(self.volume.clone(), id)?))
    }
}
