//! A whole filesystem, open for reading.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Error, Result, Source, le_u16, le_u32, le_u64, read_vec_at};

use super::inode::{self, Body, Inode};
use super::superblock::Superblock;
use crate::fat::{index, wide};
use crate::pieces::Pieces;
use crate::{DirEntry, FilesystemInfo, Metadata, NodeId, NodeKind, Time, Tree};

/// Bytes of a metadata block.
const METADATA: usize = 8192;
/// Bit of a metadata block's size: it is not packed.
const STORED: u16 = 0x8000;
/// Bit of a data block's size: it is not packed.
const STORED_DATA: u32 = 1 << 24;
/// Metadata blocks that are kept.
const MAX_METADATA: usize = 256;
/// Bytes of data blocks and fragments that are kept.
const MAX_DATA: u32 = 8 << 20;
/// Names of one directory at most, and of a run of them.
const MAX_NAMES: usize = 1 << 20;
const MAX_RUN: u32 = 256;
/// Bytes of one attribute, and of all of an inode (Linux: `XATTR_SIZE_MAX`, with room).
const MAX_XATTR: usize = 64 << 10;
const MAX_XATTRS: usize = 1 << 20;
const MAX_COUNT: u32 = 4096;
/// Bit of an attribute's type: its value is elsewhere.
const ELSEWHERE: u16 = 0x100;
/// Directories whose owner is remembered.
const MAX_CLAIMS: usize = 1 << 22;

/// A squashfs filesystem, open for reading.
///
/// A node is the reference of its inode: the block's place in the table, and in the lower 16 bits the place in the block.
pub struct SquashfsTree {
    source: Arc<dyn Source>,
    sb: Superblock,
    /// Unpacked metadata blocks by place, each with how many bytes it took there in front.
    metadata: Pieces,
    /// Unpacked data blocks and fragments by place.
    data: Pieces,
    file: Mutex<Option<(NodeId, Arc<OpenFile>)>>,
    /// Which directory a directory stands in: one that stood in two would let paths go on for ever.
    claims: Mutex<HashMap<NodeId, NodeId>>,
}

/// A file, with where each of its blocks begins.
struct OpenFile {
    size: u64,
    sizes: Arc<[u32]>,
    places: Vec<u64>,
    fragment: Option<(u32, u32)>,
}

/// A place in metadata, from which bytes are taken.
struct Cursor<'a> {
    tree: &'a SquashfsTree,
    block: u64,
    offset: usize,
}

impl Cursor<'_> {
    fn take(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(len.min(METADATA));
        while out.len() < len {
            let block = self.tree.metadata_block(self.block)?;
            let taken = u64::from(le_u32(&block, 0)?);
            let bytes = block.get(4..).unwrap_or_default();
            let rest = bytes.get(self.offset..).unwrap_or_default();
            let step = rest.len().min(len.saturating_sub(out.len()));
            out.extend_from_slice(rest.get(..step).unwrap_or_default());
            self.offset = self.offset.saturating_add(step);
            if out.len() < len {
                // Only whole blocks are followed by others.
                if bytes.len() != METADATA || self.offset < bytes.len() {
                    return Err(Error::corrupt("metadata ends too soon"));
                }
                self.block = self.block.saturating_add(taken);
                self.offset = 0;
            }
        }
        Ok(out)
    }
}

impl SquashfsTree {
    /// Opens the filesystem on `source`.
    ///
    /// # Errors
    /// `Corrupt` when its superblock or root is broken, `Unsupported` for other versions and packings.
    pub fn open(source: Arc<dyn Source>) -> Result<Self> {
        let sb = Superblock::read(source.as_ref())?;
        let kept = MAX_DATA.checked_div(sb.block).unwrap_or(8);
        let this = Self {
            source,
            sb,
            metadata: Pieces::new(MAX_METADATA),
            data: Pieces::new(index(kept)),
            file: Mutex::default(),
            claims: Mutex::default(),
        };
        let root = this.inode(this.root())?;
        if root.kind != NodeKind::Directory {
            return Err(Error::corrupt("the root is no directory"));
        }
        Ok(this)
    }

    /// The metadata block at byte `at`, behind how many bytes it took there.
    fn metadata_block(&self, at: u64) -> Result<Arc<[u8]>> {
        self.metadata.get(at, || {
            let head = le_u16(&self.bytes(at, 2)?, 0)?;
            let len = usize::from(head & !STORED);
            if len == 0 || len > METADATA {
                return Err(Error::corrupt("bad size of a metadata block").at_offset(at));
            }
            let packed = self.bytes(at.saturating_add(2), len)?;
            let taken = u32::from(head & !STORED).saturating_add(2);
            let bytes = if head & STORED != 0 {
                packed
            } else {
                self.sb.packing.unpack(&packed, METADATA)?
            };
            Ok([&taken.to_le_bytes()[..], &bytes].concat())
        })
    }

    /// Bytes of the volume, which must lie within what the filesystem uses.
    fn bytes(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        let end = at.checked_add(wide(len));
        if end.is_none_or(|end| end > self.sb.bytes) {
            return Err(Error::corrupt("a block lies outside the filesystem").at_offset(at));
        }
        read_vec_at(self.source.as_ref(), at, len)
    }

    /// The cursor at a reference into the table that begins at `table`.
    fn cursor(&self, table: u64, reference: u64) -> Cursor<'_> {
        Cursor {
            tree: self,
            block: table.saturating_add(reference >> 16),
            offset: index(reference & 0xFFFF),
        }
    }

    fn inode(&self, node: NodeId) -> Result<Inode> {
        let mut cursor = self.cursor(self.sb.inode_table, node.0);
        inode::read(&mut |len| cursor.take(len), self.sb.block)
            .map_err(|error| Error::new(error.kind(), format!("inode {:#x}: {error}", node.0)))
    }

    /// Entry `nth` of the table of `size`-byte entries whose list of blocks begins at `list`.
    fn table(&self, list: u64, nth: u64, size: usize) -> Result<Vec<u8>> {
        const BLOCK: u64 = METADATA as u64;
        let at = nth.saturating_mul(wide(size));
        let block = at / BLOCK;
        let place = list.saturating_add(block.saturating_mul(8));
        let block = le_u64(&self.bytes(place, 8)?, 0)?;
        let mut cursor = Cursor {
            tree: self,
            block,
            offset: index(at % BLOCK),
        };
        cursor.take(size)
    }

    fn owner(&self, nth: u16) -> Result<u32> {
        if nth >= self.sb.ids {
            return Err(Error::corrupt("an owner that is not in the table"));
        }
        le_u32(&self.table(self.sb.id_table, u64::from(nth), 4)?, 0)
    }

    /// The data block of packed size `size` at byte `at`, unpacked.
    fn block(&self, at: u64, size: u32) -> Result<Arc<[u8]>> {
        let len = size & !STORED_DATA;
        if len > self.sb.block {
            return Err(
                Error::corrupt("a block that is larger packed than it should be").at_offset(at),
            );
        }
        self.data.get(at, || {
            let packed = self.bytes(at, index(len))?;
            if size & STORED_DATA != 0 {
                return Ok(packed);
            }
            self.sb.packing.unpack(&packed, index(self.sb.block))
        })
    }

    fn open_file(&self, node: NodeId) -> Result<Arc<OpenFile>> {
        let lock = || self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, file)) = lock().as_ref()
            && *known == node
        {
            return Ok(file.clone());
        }
        let inode = self.inode(node)?;
        let Body::File {
            start,
            sizes,
            fragment,
        } = inode.body
        else {
            return Err(Error::corrupt("not a regular file"));
        };
        let mut places = Vec::with_capacity(sizes.len());
        let mut at = start;
        for size in sizes.iter() {
            places.push(at);
            at = at.saturating_add(u64::from(size & !STORED_DATA));
        }
        let file = Arc::new(OpenFile {
            size: inode.size,
            sizes,
            places,
            fragment,
        });
        *lock() = Some((node, file.clone()));
        Ok(file)
    }

    /// Copies a part of block `nth` of `file` to `out`.
    fn copy(&self, file: &OpenFile, nth: usize, within: usize, out: &mut [u8]) -> Result<()> {
        let short = || Error::corrupt("a block is shorter than the file says");
        let whole = |bytes: &[u8], from: usize, out: &mut [u8]| -> Result<()> {
            let end = from.saturating_add(out.len());
            out.copy_from_slice(bytes.get(from..end).ok_or_else(short)?);
            Ok(())
        };
        if let (Some(size), Some(at)) = (file.sizes.get(nth), file.places.get(nth)) {
            if size & !STORED_DATA == 0 {
                out.fill(0);
                return Ok(());
            }
            return whole(&self.block(*at, *size)?, within, out);
        }
        let (fragment, offset) = file.fragment.ok_or_else(short)?;
        let list = self.sb.fragment_table.ok_or_else(short)?;
        if fragment >= self.sb.fragments {
            return Err(Error::corrupt("a fragment that is not in the table"));
        }
        let entry = self.table(list, u64::from(fragment), 16)?;
        let bytes = self.block(le_u64(&entry, 0)?, le_u32(&entry, 8)?)?;
        whole(&bytes, index(offset).saturating_add(within), out)
    }

    /// Calls `each` with the names of the directory `node` until it says no.
    fn names(&self, node: NodeId, each: &mut dyn FnMut(DirEntry) -> bool) -> Result<()> {
        let inode = self.inode(node)?;
        let Body::Directory { block, offset } = inode.body else {
            return Err(Error::corrupt("not a directory"));
        };
        let mut cursor = Cursor {
            tree: self,
            block: self.sb.directory_table.saturating_add(u64::from(block)),
            offset: usize::from(offset),
        };
        // An empty directory has the size 3: `.` and `..` count, and are not there.
        let mut left = inode.size.saturating_sub(3);
        let mut names = 0_usize;
        let bad = || Error::corrupt("a directory's names do not fit its size");
        while left > 0 {
            let head = cursor.take(12)?;
            left = left.checked_sub(12).ok_or_else(bad)?;
            let count = le_u32(&head, 0)?.saturating_add(1);
            let start = u64::from(le_u32(&head, 4)?);
            if count > MAX_RUN {
                return Err(Error::corrupt("a run of more than 256 names"));
            }
            for _ in 0..count {
                let entry = cursor.take(8)?;
                let len = usize::from(le_u16(&entry, 6)?).saturating_add(1);
                let name = cursor.take(len)?;
                left = left
                    .checked_sub(wide(len).saturating_add(8))
                    .ok_or_else(bad)?;
                names = names.saturating_add(1);
                if names > MAX_NAMES {
                    return Err(Error::limit("a directory of more than 2^20 names"));
                }
                if name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
                    return Err(Error::corrupt("a name that no path can contain"));
                }
                let found = DirEntry {
                    name,
                    node: NodeId(start << 16 | u64::from(le_u16(&entry, 0)?)),
                    kind: Some(inode::kind(le_u16(&entry, 4)?)?),
                };
                self.claim(node, &found)?;
                if !each(found) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Looks that a directory stands in one other alone.
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

    fn attributes(&self, nth: u32) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut out = BTreeMap::new();
        if nth == inode::NONE {
            return Ok(out);
        }
        let table = self
            .sb
            .xattr_table
            .ok_or_else(|| Error::corrupt("attributes without a table of them"))?;
        let head = self.bytes(table, 16)?;
        let (values, count) = (le_u64(&head, 0)?, le_u32(&head, 8)?);
        if nth >= count {
            return Err(Error::corrupt("attributes that are not in the table"));
        }
        let entry = self.table(table.saturating_add(16), u64::from(nth), 16)?;
        let mut cursor = self.cursor(values, le_u64(&entry, 0)?);
        let mut total = 0_usize;
        let count = le_u32(&entry, 8)?;
        if count > MAX_COUNT {
            return Err(Error::limit("more than 4096 attributes of one file"));
        }
        for _ in 0..count {
            let head = cursor.take(4)?;
            let kind = le_u16(&head, 0)?;
            let space: &[u8] = match kind & 0xFF {
                0 => b"user.",
                1 => b"trusted.",
                2 => b"security.",
                _ => return Err(Error::corrupt("an attribute of an unknown namespace")),
            };
            let name = cursor.take(usize::from(le_u16(&head, 2)?))?;
            let mut len = index(le_u32(&cursor.take(4)?, 0)?);
            let bounded = |len: usize| {
                if len > MAX_XATTR {
                    return Err(Error::limit("an attribute of more than 64 KiB"));
                }
                Ok(len)
            };
            let value = if kind & ELSEWHERE != 0 {
                let place = le_u64(&cursor.take(8)?, 0)?;
                let mut elsewhere = self.cursor(values, place);
                len = index(le_u32(&elsewhere.take(4)?, 0)?);
                elsewhere.take(bounded(len)?)?
            } else {
                cursor.take(bounded(len)?)?
            };
            total = total.saturating_add(value.len()).saturating_add(name.len());
            if total > MAX_XATTRS {
                return Err(Error::limit("attributes of more than 1 MiB"));
            }
            out.insert([space, &name].concat(), value);
        }
        Ok(out)
    }
}

impl Tree for SquashfsTree {
    fn info(&self) -> FilesystemInfo {
        FilesystemInfo {
            kind: "squashfs".to_owned(),
            label: None,
            uuid: None,
            size: self.sb.bytes,
            free: 0,
            features: vec![self.sb.packing.as_str().to_owned()],
            journal_replayed: false,
        }
    }

    fn root(&self) -> NodeId {
        NodeId(self.sb.root)
    }

    fn metadata(&self, node: NodeId) -> Result<Metadata> {
        let inode = self.inode(node)?;
        let time = Time {
            seconds: i64::from(inode.mtime),
            nanoseconds: 0,
        };
        let device = match inode.body {
            // As the kernel packs them (`new_encode_dev`).
            Body::Device(number) => {
                Some((number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xF_FF00))
            }
            _ => None,
        };
        Ok(Metadata {
            node,
            kind: inode.kind,
            mode: inode.mode,
            uid: self.owner(inode.owner.0)?,
            gid: self.owner(inode.owner.1)?,
            links: inode.links,
            size: inode.size,
            atime: time,
            mtime: time,
            ctime: time,
            device,
        })
    }

    fn read_dir(&self, node: NodeId) -> Result<Vec<DirEntry>> {
        let mut out = Vec::new();
        self.names(node, &mut |entry| {
            out.push(entry);
            true
        })?;
        Ok(out)
    }

    fn lookup(&self, node: NodeId, name: &[u8]) -> Result<Option<DirEntry>> {
        let mut found = None;
        self.names(node, &mut |entry| {
            if entry.name == name {
                found = Some(entry);
            }
            found.is_none()
        })?;
        Ok(found)
    }

    fn read_link(&self, node: NodeId) -> Result<Vec<u8>> {
        match self.inode(node)?.body {
            Body::Link(target) => Ok(target),
            _ => Err(Error::corrupt("not a symbolic link")),
        }
    }

    fn read_at(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let file = self.open_file(node)?;
        let len = wide(buf.len()).min(file.size.saturating_sub(offset));
        let mut rest = buf.get_mut(..index(len)).unwrap_or_default();
        let block = u64::from(self.sb.block);
        let mut at = offset;
        while !rest.is_empty() {
            let nth = at.checked_div(block).unwrap_or(0);
            let within = index(at.checked_rem(block).unwrap_or(0));
            let step = index(block).saturating_sub(within).min(rest.len());
            let (part, after) = rest
                .split_at_mut_checked(step)
                .ok_or_else(|| Error::corrupt("bad size of a block"))?;
            self.copy(&file, index(nth), within, part)?;
            at = at.saturating_add(wide(step));
            rest = after;
        }
        Ok(index(len))
    }

    fn xattrs(&self, node: NodeId) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        self.attributes(self.inode(node)?.xattr)
    }
}
