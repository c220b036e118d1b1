//! A whole filesystem, open for reading.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Error, Result, Source, array_at, le_u16, le_u32, le_u64, read_vec_at};

use super::inode::{Inode, Layout, SLOT};
use super::packed::{self, Extent};
use super::superblock::Superblock;
use crate::fat::{index, wide};
use crate::pieces::Pieces;
use crate::{DirEntry, FilesystemInfo, Metadata, NodeId, NodeKind, Time, Tree};

/// Bytes of metadata that are read at once, and pieces of it that are kept.
const STEP: u64 = 16 << 10;
const MAX_PIECES: usize = 256;
/// Bytes of a directory at most, of a link, and of attributes.
const MAX_DIRECTORY: u64 = 64 << 20;
const MAX_LINK: u64 = 64 << 10;
/// Unpacked extents of a file that are kept.
const MAX_UNPACKED: usize = 16;
/// A chunk that is a hole.
const HOLE: u32 = u32::MAX;
/// Directories whose owner is remembered.
const MAX_CLAIMS: usize = 1 << 22;

/// An EROFS filesystem, open for reading.
///
/// A node is the number of its inode.
pub struct ErofsTree {
    source: Arc<dyn Source>,
    sb: Superblock,
    pieces: Pieces,
    file: Mutex<Option<(NodeId, Arc<File>)>>,
    /// Which directory a directory stands in: one that stood in two would let paths go on for ever.
    claims: Mutex<HashMap<NodeId, NodeId>>,
}

/// A file's bytes.
struct File {
    inode: Inode,
    extents: Vec<Extent>,
    unpacked: Pieces,
}

impl ErofsTree {
    /// Opens the filesystem on `source`.
    ///
    /// # Errors
    /// `Corrupt` when its superblock or root is broken, `Unsupported` for features that are not read.
    pub fn open(source: Arc<dyn Source>) -> Result<Self> {
        let sb = Superblock::read(source.as_ref())?;
        let this = Self {
            source,
            sb,
            pieces: Pieces::new(MAX_PIECES),
            file: Mutex::default(),
            claims: Mutex::default(),
        };
        if this.inode(this.root())?.kind != NodeKind::Directory {
            return Err(Error::corrupt("the root is no directory"));
        }
        Ok(this)
    }

    /// Bytes of metadata, from pieces that are kept.
    fn metadata_bytes(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        let end = at.checked_add(wide(len));
        if end.is_none_or(|end| end > self.source.len()) {
            return Err(Error::corrupt("metadata lies outside the volume").at_offset(at));
        }
        let mut out = Vec::with_capacity(len);
        while out.len() < len {
            let at = at.saturating_add(wide(out.len()));
            let nth = at / STEP;
            let piece = self.pieces.get(nth, || {
                let start = nth.saturating_mul(STEP);
                let size = self.source.len().saturating_sub(start).min(STEP);
                read_vec_at(self.source.as_ref(), start, index(size))
            })?;
            let from = piece.get(index(at % STEP)..).unwrap_or_default();
            let step = from.len().min(len.saturating_sub(out.len()));
            if step == 0 {
                return Err(Error::corrupt("metadata lies outside the volume").at_offset(at));
            }
            out.extend_from_slice(from.get(..step).unwrap_or_default());
        }
        Ok(out)
    }

    fn inode(&self, node: NodeId) -> Result<Inode> {
        let at = node
            .0
            .checked_mul(SLOT)
            .and_then(|at| at.checked_add(self.sb.inodes))
            .ok_or_else(|| Error::corrupt("no such node"))?;
        let room = self.source.len().saturating_sub(at).min(64);
        let bytes = self.metadata_bytes(at, index(room))?;
        Inode::parse(&bytes, at, &self.sb)
            .map_err(|error| Error::new(error.kind(), format!("inode {}: {error}", node.0)))
    }

    fn open_file(&self, node: NodeId) -> Result<Arc<File>> {
        let lock = || self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, file)) = lock().as_ref()
            && *known == node
        {
            return Ok(file.clone());
        }
        let file = Arc::new(self.file_of(self.inode(node)?)?);
        *lock() = Some((node, file.clone()));
        Ok(file)
    }

    fn file_of(&self, inode: Inode) -> Result<File> {
        let extents = match inode.layout {
            Layout::PackedFull | Layout::PackedCompact => {
                packed::extents(&inode, &self.sb, &mut |at, len| {
                    self.metadata_bytes(at, len)
                })?
            }
            _ => Vec::new(),
        };
        Ok(File {
            inode,
            extents,
            unpacked: Pieces::new(MAX_UNPACKED),
        })
    }

    /// The byte at which `block` begins.
    fn place(&self, block: u64) -> Result<u64> {
        if block >= self.sb.blocks {
            return Err(Error::corrupt(format!(
                "block {block} lies outside the filesystem"
            )));
        }
        Ok(block << self.sb.block_log)
    }

    /// Copies bytes from `at` on, as many as lie together; how many.
    fn copy(&self, file: &File, at: u64, out: &mut [u8]) -> Result<usize> {
        let inode = &file.inode;
        let block = self.sb.block();
        let (from, room) = match inode.layout {
            Layout::Plain | Layout::Tail => {
                let tail = if inode.layout == Layout::Tail {
                    inode.size & !block.saturating_sub(1)
                } else {
                    inode.size
                };
                if at >= tail {
                    let within = at.saturating_sub(tail);
                    (
                        inode.end.saturating_add(within),
                        inode.size.saturating_sub(at),
                    )
                } else {
                    let nth = u64::from(inode.place).saturating_add(at >> self.sb.block_log);
                    let room = tail.saturating_sub(at);
                    let from = self
                        .place(nth)?
                        .saturating_add(at & block.saturating_sub(1));
                    (from, room)
                }
            }
            Layout::Chunks => {
                let log = self.sb.block_log.saturating_add(inode.place & 0x1F);
                if log > 40 {
                    return Err(Error::corrupt("bad size of chunks"));
                }
                let chunk = 1_u64 << log;
                let nth = at >> log;
                let within = at & chunk.saturating_sub(1);
                let room = chunk.saturating_sub(within);
                let first = if inode.place & 0x20 != 0 {
                    let entry = inode
                        .end
                        .next_multiple_of(8)
                        .saturating_add(nth.saturating_mul(8));
                    let entry = self.metadata_bytes(entry, 8)?;
                    if le_u16(&entry, 2)? != 0 {
                        return Err(Error::unsupported("a file on another device"));
                    }
                    le_u32(&entry, 4)?
                } else {
                    let entry = inode
                        .end
                        .next_multiple_of(4)
                        .saturating_add(nth.saturating_mul(4));
                    le_u32(&self.metadata_bytes(entry, 4)?, 0)?
                };
                if first == HOLE {
                    let step = out.len().min(index(room));
                    out.get_mut(..step).unwrap_or_default().fill(0);
                    return Ok(step);
                }
                (self.place(u64::from(first))?.saturating_add(within), room)
            }
            Layout::PackedFull | Layout::PackedCompact => return self.copy_packed(file, at, out),
        };
        let step = out.len().min(index(room));
        self.source
            .read_exact_at(from, out.get_mut(..step).unwrap_or_default())?;
        Ok(step)
    }

    fn copy_packed(&self, file: &File, at: u64, out: &mut [u8]) -> Result<usize> {
        let broken = || Error::corrupt("a packed file has no such part");
        let nth = file
            .extents
            .partition_point(|extent| extent.start <= at)
            .checked_sub(1)
            .ok_or_else(broken)?;
        let extent = file.extents.get(nth).ok_or_else(broken)?;
        let unpacked = file.unpacked.get(extent.start, || {
            let from = self.place(u64::from(extent.block))?;
            let len = u64::from(extent.blocks) << self.sb.block_log;
            let room = self.source.len().saturating_sub(from);
            // Clusters are at most a megabyte; the last one of a volume may be cut.
            if len > 1 << 20 {
                return Err(Error::corrupt("a physical cluster of more than 1 MiB"));
            }
            let bytes = read_vec_at(self.source.as_ref(), from, index(len.min(room)))?;
            packed::unpack_extent(extent, &bytes, self.sb.block())
        })?;
        let from = unpacked
            .get(index(at.saturating_sub(extent.start))..)
            .unwrap_or_default();
        let step = out.len().min(from.len());
        let to = out
            .get_mut(..step)
            .filter(|_| step > 0)
            .ok_or_else(broken)?;
        to.copy_from_slice(from.get(..step).ok_or_else(broken)?);
        Ok(step)
    }

    fn read(&self, file: &File, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let len = index(wide(buf.len()).min(file.inode.size.saturating_sub(offset)));
        let mut done = 0_usize;
        while done < len {
            let rest = buf.get_mut(done..len).unwrap_or_default();
            let step = self.copy(file, offset.saturating_add(wide(done)), rest)?;
            if step == 0 {
                return Err(Error::corrupt("a file ends before its size"));
            }
            done = done.saturating_add(step);
        }
        Ok(len)
    }

    /// All bytes of a directory or link, of which there must be at most `most`.
    fn whole(&self, inode: Inode, most: u64) -> Result<Vec<u8>> {
        if inode.size > most || inode.size > self.source.len().saturating_mul(256) {
            return Err(Error::limit(format!(
                "a directory or link of {} bytes where {most} are the most",
                inode.size
            )));
        }
        let mut out = vec![0; index(inode.size)];
        let file = self.file_of(inode)?;
        self.read(&file, 0, &mut out)?;
        Ok(out)
    }

    fn claim(&self, parent: NodeId, entry: &DirEntry) -> Result<()> {
        if entry.kind != Some(NodeKind::Directory) {
            return Ok(());
        }
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.len() >= MAX_CLAIMS {
            return Err(Error::limit("more than 2^22 directories"));
        }
        let owner = *claims.entry(entry.node).or_insert(parent);
        if owner != parent || entry.node == self.root() {
            return Err(Error::corrupt("a directory stands in two others"));
        }
        Ok(())
    }

    /// Reads the attribute at byte `at` into `out`; how many bytes it takes.
    fn attribute(&self, at: u64, out: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Result<u64> {
        let head = self.metadata_bytes(at, 4)?;
        let [name_len, space] = array_at(&head, 0)?;
        let value_len = usize::from(le_u16(&head, 2)?);
        let space: &[u8] = match space {
            1 => b"user.",
            2 => b"system.posix_acl_access",
            3 => b"system.posix_acl_default",
            4 => b"trusted.",
            6 => b"security.",
            _ => return Err(Error::unsupported("an attribute of an unknown namespace")),
        };
        let name_len = usize::from(name_len);
        let body = self.metadata_bytes(at.saturating_add(4), name_len.saturating_add(value_len))?;
        let (name, value) = body
            .split_at_checked(name_len)
            .ok_or_else(|| Error::corrupt("a broken attribute"))?;
        out.insert([space, name].concat(), value.to_vec());
        Ok(wide(body.len()).saturating_add(4).next_multiple_of(4))
    }
}

/// The names in one block of a directory.
fn names(block: &[u8], out: &mut Vec<DirEntry>) -> Result<()> {
    const ENTRY: usize = 12;
    let bad = || Error::corrupt("a broken directory block");
    let count = usize::from(le_u16(block, 8)?) / ENTRY;
    if count == 0 {
        return Err(bad());
    }
    for nth in 0..count {
        let at = nth.saturating_mul(ENTRY);
        let node = NodeId(le_u64(block, at)?);
        let start = usize::from(le_u16(block, at.saturating_add(8))?);
        let [kind] = array_at(block, at.saturating_add(10))?;
        let end = if nth.saturating_add(1) < count {
            usize::from(le_u16(block, at.saturating_add(ENTRY).saturating_add(8))?)
        } else {
            block.len()
        };
        let mut name = block
            .get(start..end)
            .filter(|_| start >= count.saturating_mul(ENTRY))
            .ok_or_else(bad)?;
        if nth.saturating_add(1) == count {
            // The last one may be followed by zeroes.
            name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        }
        if name == b"." || name == b".." {
            continue;
        }
        if name.is_empty() || name.contains(&0) || name.contains(&b'/') {
            return Err(Error::corrupt("a name that no path can contain"));
        }
        out.push(DirEntry {
            name: name.to_vec(),
            node,
            kind: match kind {
                1 => Some(NodeKind::File),
                2 => Some(NodeKind::Directory),
                3 => Some(NodeKind::CharDevice),
                4 => Some(NodeKind::BlockDevice),
                5 => Some(NodeKind::Fifo),
                6 => Some(NodeKind::Socket),
                7 => Some(NodeKind::Symlink),
                _ => None,
            },
        });
    }
    Ok(())
}

impl Tree for ErofsTree {
    fn info(&self) -> FilesystemInfo {
        let hex: String = self
            .sb
            .uuid
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let groups = [0..8, 8..12, 12..16, 16..20, 20..32];
        let groups: Vec<&str> = groups
            .into_iter()
            .filter_map(|group| hex.get(group))
            .collect();
        FilesystemInfo {
            kind: "erofs".to_owned(),
            label: Some(self.sb.label.clone()).filter(|label| !label.is_empty()),
            uuid: Some(groups.join("-")),
            size: self.sb.blocks << self.sb.block_log,
            free: 0,
            features: Vec::new(),
            journal_replayed: false,
        }
    }

    fn root(&self) -> NodeId {
        NodeId(self.sb.root)
    }

    fn metadata(&self, node: NodeId) -> Result<Metadata> {
        let inode = self.inode(node)?;
        let time = Time {
            seconds: inode.mtime.0,
            nanoseconds: inode.mtime.1,
        };
        let device = match inode.kind {
            // As the kernel packs them (`new_encode_dev`).
            NodeKind::CharDevice | NodeKind::BlockDevice => Some((
                inode.place >> 8 & 0xFFF,
                inode.place & 0xFF | inode.place >> 12 & 0xF_FF00,
            )),
            _ => None,
        };
        Ok(Metadata {
            node,
            kind: inode.kind,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            links: inode.links,
            size: inode.size,
            atime: time,
            mtime: time,
            ctime: time,
            device,
        })
    }

    fn read_dir(&self, node: NodeId) -> Result<Vec<DirEntry>> {
        let inode = self.inode(node)?;
        if inode.kind != NodeKind::Directory {
            return Err(Error::corrupt("not a directory"));
        }
        let bytes = self.whole(inode, MAX_DIRECTORY)?;
        let mut out = Vec::new();
        for block in bytes.chunks(index(self.sb.block())) {
            names(block, &mut out)?;
        }
        for entry in &out {
            self.claim(node, entry)?;
        }
        Ok(out)
    }

    fn read_link(&self, node: NodeId) -> Result<Vec<u8>> {
        let inode = self.inode(node)?;
        if inode.kind != NodeKind::Symlink || inode.size == 0 {
            return Err(Error::corrupt("not a symbolic link"));
        }
        self.whole(inode, MAX_LINK)
    }

    fn read_at(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let file = self.open_file(node)?;
        if file.inode.kind != NodeKind::File {
            return Err(Error::corrupt("not a regular file"));
        }
        self.read(&file, offset, buf)
    }

    fn xattrs(&self, node: NodeId) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let inode = self.inode(node)?;
        let mut out = BTreeMap::new();
        if inode.end == inode.xattrs_at {
            return Ok(out);
        }
        let head = self.metadata_bytes(inode.xattrs_at, 12)?;
        let [shared] = array_at(&head, 4)?;
        let mut at = inode.xattrs_at.saturating_add(12);
        for _ in 0..shared {
            let number = u64::from(le_u32(&self.metadata_bytes(at, 4)?, 0)?);
            self.attribute(
                self.sb.xattrs.saturating_add(number.saturating_mul(4)),
                &mut out,
            )?;
            at = at.saturating_add(4);
        }
        while at.saturating_add(4) <= inode.end {
            let taken = self.attribute(at, &mut out)?;
            at = at.saturating_add(taken);
        }
        Ok(out)
    }
}
