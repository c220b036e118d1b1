//! A whole filesystem, open for reading.

use std::collections::BTreeMap;
use std::sync::Arc;

use dormouse_block::{Error, Result, Source, read_vec_at, slice_at};

use super::fork::{Format, Which};
use super::inode::Inode;
use super::log::{self, Pending};
use super::superblock::{MAX_SECTOR, Superblock};
use super::volume::{Changes, Volume};
use super::{index, stamp, wide};
use crate::{DirEntry, FilesystemInfo, Metadata, NodeId, NodeKind, Tree};

/// Entries of one directory that are read.
const MAX_ENTRIES: usize = 1 << 20;
/// Longest target of a symbolic link (`XFS_SYMLINK_MAXLEN`).
const MAX_TARGET: u64 = 1024;

/// An XFS, open for reading as it is after its log.
pub struct XfsTree {
    pub(super) sb: Superblock,
    pub(super) volume: Volume,
    /// What the log began to do to files and never finished.
    pub(super) pending: Pending,
    free: u64,
    replayed: bool,
}

fn superblock(source: &dyn Source, changes: &Changes) -> Result<Superblock> {
    let len = source.len().min(u64::from(MAX_SECTOR));
    let mut bytes = read_vec_at(source, 0, index(len))?;
    changes.read(source, 0, &mut bytes)?;
    let sb = Superblock::parse(&bytes, !changes.touch(0, 512))?;
    if sb.bytes()? > source.len() {
        return Err(Error::corrupt(format!(
            "a filesystem of {} bytes on a volume of {}",
            sb.bytes()?,
            source.len()
        )));
    }
    Ok(sb)
}

impl XfsTree {
    /// Opens the filesystem on `source`, replaying its log in memory when there is work in it.
    ///
    /// # Errors
    /// `Corrupt`, `Unsupported` or `Limit`, by name.
    pub fn open(source: Arc<dyn Source>) -> Result<Self> {
        let before = superblock(source.as_ref(), &Changes::default())?;
        let replay = log::replay(source.as_ref(), &before)?;
        let sb = superblock(source.as_ref(), &replay.changes)?;
        let layout = |sb: &Superblock| {
            (
                sb.block_log,
                sb.inode_log,
                sb.group_blocks,
                sb.log_start,
                sb.directory_log,
                sb.features.number(),
            )
        };
        if layout(&before) != layout(&sb) {
            return Err(Error::corrupt("the log changes the filesystem's geometry"));
        }
        let mut this = Self {
            free: sb.free,
            sb,
            volume: Volume::new(source, replay.changes),
            pending: replay.pending,
            replayed: replay.dirty,
        };
        if this.replayed {
            this.free = this.free_by_groups()?;
        }
        if this.node(this.root())?.1 != NodeKind::Directory {
            return Err(Error::corrupt("the root is no directory"));
        }
        Ok(this)
    }

    /// Inode `number`, in use or not.
    fn inode(&self, number: u64) -> Result<Inode> {
        let place = self.sb.inode_place(number)?;
        self.check_in_use(number, &place)?;
        let block = self.sb.extent(place.block, 1)?;
        let wanted = super::volume::Place {
            offset: block,
            // Inodes are held against their own checksums, not the block's.
            owner: u64::MAX,
            len: self.sb.block_size(),
        };
        let bytes = self
            .volume
            .metadata(wanted, |buf| self.volume.read(block, buf))?;
        let raw = slice_at(&bytes, place.byte, 1 << self.sb.inode_log)?;
        let offset = block.saturating_add(wide(place.byte));
        Inode::parse(&self.sb, number, raw)
            .and_then(|inode| {
                let what = format!("inode {number}");
                self.check_stamp_at(&stamp::INODE, raw, offset, number, &what)?;
                Ok(inode)
            })
            .map_err(|error| error.at_offset(offset))
    }

    /// The inode of a node that a directory leads to: in use, not one of the filesystem's own.
    fn node(&self, node: NodeId) -> Result<(Inode, NodeKind)> {
        let number = node.0;
        let inode = self.inode(number)?;
        if inode.mode == 0 || inode.links == 0 {
            return Err(Error::corrupt(format!("inode {number} is not in use")));
        }
        if inode.is_metadata() || (number != self.sb.root && self.sb.own.contains(&number)) {
            return Err(Error::corrupt(format!(
                "inode {number} is kept for the filesystem"
            )));
        }
        let kind = inode
            .kind()
            .ok_or_else(|| Error::corrupt(format!("inode {number} has no known type")))?;
        Ok((inode, kind))
    }

    fn of_kind(&self, node: NodeId, wanted: NodeKind, what: &str) -> Result<Inode> {
        let (inode, kind) = self.node(node)?;
        if kind != wanted {
            return Err(Error::corrupt(format!(
                "inode {} is no {what}",
                inode.number
            )));
        }
        Ok(inode)
    }
}

impl Tree for XfsTree {
    fn info(&self) -> FilesystemInfo {
        let label = String::from_utf8_lossy(&self.sb.label).into_owned();
        FilesystemInfo {
            kind: "xfs".to_owned(),
            label: Some(label).filter(|label| !label.is_empty()),
            uuid: self.sb.uuid_text(),
            size: self.sb.bytes().unwrap_or(u64::MAX),
            free: self
                .free
                .min(self.sb.blocks)
                .saturating_mul(wide(self.sb.block_size())),
            features: self.sb.features.names(),
            journal_replayed: self.replayed,
        }
    }

    fn root(&self) -> NodeId {
        NodeId(self.sb.root)
    }

    fn metadata(&self, node: NodeId) -> Result<Metadata> {
        let (inode, kind) = self.node(node)?;
        let device = match kind {
            NodeKind::CharDevice | NodeKind::BlockDevice => Some(inode.device()?),
            _ => None,
        };
        let [atime, mtime, ctime] = inode.times()?;
        Ok(Metadata {
            node,
            kind,
            mode: inode.mode & 0o7777,
            uid: inode.uid,
            gid: inode.gid,
            links: inode.links,
            size: inode.size,
            atime,
            mtime,
            ctime,
            device,
        })
    }

    fn read_dir(&self, node: NodeId) -> Result<Vec<DirEntry>> {
        let inode = self.of_kind(node, NodeKind::Directory, "directory")?;
        let mut out = Vec::new();
        self.for_entries(&inode, &mut |entry| {
            if out.len() >= MAX_ENTRIES {
                return Err(Error::limit("a directory of more than 2^20 entries"));
            }
            out.push(entry);
            Ok(true)
        })?;
        Ok(out)
    }

    fn lookup(&self, node: NodeId, name: &[u8]) -> Result<Option<DirEntry>> {
        let inode = self.of_kind(node, NodeKind::Directory, "directory")?;
        if matches!(name, b"" | b"." | b"..") {
            return Ok(None);
        }
        self.find_entry(&inode, name)
    }

    fn read_link(&self, node: NodeId) -> Result<Vec<u8>> {
        let inode = self.of_kind(node, NodeKind::Symlink, "symbolic link")?;
        let bad = |what: &str| {
            Err(Error::corrupt(format!(
                "{what} in the symbolic link in inode {}",
                inode.number
            )))
        };
        if inode.size == 0 || inode.size > MAX_TARGET {
            return bad("bad length");
        }
        let out = if inode.fork(Which::Data)?.format == Format::Local {
            inode.local()?.to_vec()
        } else {
            self.remote_target(&inode)?
        };
        if out.contains(&0) {
            return bad("a NUL");
        }
        Ok(out)
    }

    fn read_at(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let inode = self.of_kind(node, NodeKind::File, "file")?;
        if inode.real_time() {
            return Err(Error::unsupported(format!(
                "a file on a real-time device (inode {})",
                inode.number
            )));
        }
        let len = index(wide(buf.len()).min(inode.size.saturating_sub(offset)));
        if let Some(buf) = buf.get_mut(..len).filter(|buf| !buf.is_empty()) {
            self.read_fork(&inode, Which::Data, offset, buf)?;
        }
        Ok(len)
    }

    fn xattrs(&self, node: NodeId) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let (inode, _) = self.node(node)?;
        self.attributes(&inode)
    }
}
