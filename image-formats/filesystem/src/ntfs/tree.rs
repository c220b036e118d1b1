//! A whole filesystem, open for reading.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use dormouse_block::{Error, Result, Source, array_at, le_u16, le_u32, le_u64};

use super::attribute;
use super::boot::Boot;
use super::directory::Directory;
use super::index::Entry;
use super::left;
use super::name::{self, FileName, Upcase};
use super::node::{Node, Stream};
use super::record::Reference;
use super::reparse::{self, Reparse};
use super::table::Table;
use super::time;
use super::wof::{self, Packing};
use crate::fat::{index, wide};
use crate::wtf8::{shown, written};
use crate::{DirEntry, FilesystemInfo, Left, Metadata, NodeId, NodeKind, Time, Tree};

/// Records below this one are the filesystem's own.
const FIRST_USER: u64 = 16;
const LOG: Reference = Reference(2);
const VOLUME: Reference = Reference(3);
const ROOT: Reference = Reference(5);
const BITMAP: Reference = Reference(6);
const UPCASE: Reference = Reference(10);
/// The mode of everything that may be written.
const MODE: u16 = 0o755;
/// Bytes of a small attribute: standard information, volume information, names.
const SMALL: u64 = 64 << 10;
/// Bytes of one alternate stream as an extended attribute (Linux: `XATTR_SIZE_MAX`).
const MAX_XATTR: u64 = 64 << 10;
/// Alternate streams of one file at most.
const MAX_STREAMS: usize = 1024;
/// Bytes of a link's target that ntfs-3g wrote.
const MAX_INTERIX: u64 = 8 + 2 * 4096;
/// Bytes of the map of free clusters that are read to count them: 128 Mi clusters.
const MAX_COUNTED: u64 = 16 << 20;

/// An NTFS filesystem, open for reading.
///
/// A node is a file reference: the number of its record, and above that its sequence number.
pub struct NtfsTree {
    table: Table,
    boot: Boot,
    root: NodeId,
    label: Option<String>,
    version: (u8, u8),
    left: Left,
    upcase: OnceLock<Upcase>,
    free: OnceLock<u64>,
    /// The file that was read last.
    file: Mutex<Option<(NodeId, Arc<File>)>>,
}

/// A file's bytes.
struct File {
    content: Content,
    /// What was unpacked last of it, by number.
    unpacked: Mutex<Option<(u64, Arc<[u8]>)>>,
}

enum Content {
    Plain(Stream),
    Packed(Packing, Stream, u64),
}

/// `$STANDARD_INFORMATION`.
#[derive(Default)]
struct Standard {
    modified: Time,
    changed: Time,
    accessed: Time,
    attributes: u32,
}

/// What a node is.
enum What {
    Directory,
    File(Content),
    Link(Vec<u8>),
    Special(NodeKind, Option<(u32, u32)>),
    /// A file whose bytes are not read, why, and its size.
    Unread(String, u64),
}

impl NtfsTree {
    /// Opens the filesystem on `source`.
    ///
    /// # Errors
    /// `Corrupt` when its boot sector, file table, volume information or root directory is broken.
    pub fn open(source: Arc<dyn Source>) -> Result<Self> {
        let boot = Boot::read(source.as_ref())?;
        let table = Table::open(source, &boot)?;
        let root = Node::read(&table, &boot, ROOT)?;
        let volume = Node::read(&table, &boot, VOLUME)?;
        let label = volume.small(&table, &boot, attribute::VOLUME_NAME, SMALL)?;
        let information = volume
            .small(&table, &boot, attribute::VOLUME_INFORMATION, SMALL)?
            .ok_or_else(|| Error::corrupt("a volume without information about itself"))?;
        let [major, minor] = array_at(&information, 8)?;
        let log = Node::read(&table, &boot, LOG)?;
        let log = log.stream(&table, &boot, attribute::DATA, b"")?;
        let mut head = vec![0; left::LOG_HEAD];
        match log {
            Some(log) if log.size() >= wide(head.len()) => {
                log.read(&table, &boot, 0, &mut head, &mut None)?;
            }
            _ => head.clear(),
        }
        let mut this = Self {
            table,
            boot,
            root: NodeId(root.record.reference.0),
            label: label
                .map(|label| String::from_utf16_lossy(&name::units(&label)))
                .filter(|label| !label.is_empty()),
            version: (major, minor),
            left: left::unclean(&information, &head)?.map_or(Left::Clean, Left::Unclean),
            upcase: OnceLock::new(),
            free: OnceLock::new(),
            file: Mutex::default(),
        };
        if let Some(hibernated) = this.hibernated(&root)? {
            this.left = hibernated;
        }
        Ok(this)
    }

    /// What `hiberfil.sys` in the root directory says.
    fn hibernated(&self, root: &Node) -> Result<Option<Left>> {
        let listed = Directory::open(root, &self.table, &self.boot)?.list()?;
        for entry in listed {
            let is = entry.name.as_ref().is_some_and(|name| {
                name.attributes & name::DIRECTORY == 0
                    && shown(&name.units).eq_ignore_ascii_case(b"hiberfil.sys")
            });
            if is {
                let mut head = [0; 8];
                let read = self.read_at(NodeId(entry.file.0), 0, &mut head)?;
                return Ok(left::hibernated(head.get(..read).unwrap_or_default()));
            }
        }
        Ok(None)
    }

    fn node(&self, node: NodeId) -> Result<Node> {
        Node::read(&self.table, &self.boot, Reference(node.0))
    }

    fn stream(&self, node: &Node, kind: u32, name: &[u8]) -> Result<Option<Stream>> {
        node.stream(&self.table, &self.boot, kind, name)
    }

    fn small(&self, node: &Node, kind: u32, most: u64) -> Result<Option<Vec<u8>>> {
        node.small(&self.table, &self.boot, kind, most)
    }

    fn standard(&self, node: &Node) -> Result<Standard> {
        let Some(bytes) = self.small(node, attribute::STANDARD, SMALL)? else {
            return Ok(Standard::default());
        };
        Ok(Standard {
            modified: time(le_u64(&bytes, 8)?),
            changed: time(le_u64(&bytes, 16)?),
            accessed: time(le_u64(&bytes, 24)?),
            attributes: le_u32(&bytes, 32)?,
        })
    }

    fn what(&self, node: &Node, standard: &Standard) -> Result<What> {
        let reparse = if standard.attributes & name::REPARSES == 0 {
            None
        } else {
            self.small(node, attribute::REPARSE, reparse::MAX)?
        };
        let reparse = reparse.map(|bytes| Reparse::parse(&bytes)).transpose()?;
        match reparse {
            Some(Reparse::Link(target)) => return Ok(What::Link(target)),
            Some(Reparse::Special(kind)) => {
                let device = match kind {
                    NodeKind::CharDevice | NodeKind::BlockDevice => {
                        let attributes = self.attributes(node)?;
                        let numbers = attributes
                            .get(&b"$LXDEV"[..])
                            .ok_or_else(|| Error::corrupt("a device without numbers"))?;
                        Some((le_u32(numbers, 0)?, le_u32(numbers, 4)?))
                    }
                    _ => None,
                };
                return Ok(What::Special(kind, device));
            }
            _ => {}
        }
        if node.record.directory {
            return Ok(What::Directory);
        }
        let data = self
            .stream(node, attribute::DATA, b"")?
            .unwrap_or_else(|| Stream::Resident(Arc::default()));
        match reparse {
            Some(Reparse::Packed(packing)) => {
                let name: Vec<u8> = wof::STREAM
                    .encode_utf16()
                    .flat_map(u16::to_le_bytes)
                    .collect();
                let packed = self
                    .stream(node, attribute::DATA, &name)?
                    .ok_or_else(|| Error::corrupt("a packed file without its packed stream"))?;
                return Ok(What::File(Content::Packed(packing, packed, data.size())));
            }
            Some(Reparse::Unread(why)) => return Ok(What::Unread(why, data.size())),
            _ => {}
        }
        if standard.attributes & name::SYSTEM != 0
            && let Some(special) = self.interix(&data)?
        {
            return Ok(special);
        }
        Ok(What::File(Content::Plain(data)))
    }

    /// What a system file that begins like those of Interix is.
    fn interix(&self, data: &Stream) -> Result<Option<What>> {
        if !(10..=MAX_INTERIX).contains(&data.size()) || data.check_plain().is_err() {
            return Ok(None);
        }
        let mut magic = [0; 8];
        data.read(&self.table, &self.boot, 0, &mut magic, &mut None)?;
        let kind = match &magic {
            b"IntxLNK\x01" => {
                let bytes = data.whole(&self.table, &self.boot, MAX_INTERIX)?;
                let units = name::units(bytes.get(8..).unwrap_or_default());
                return Ok(Some(What::Link(shown(&units))));
            }
            b"IntxCHR\0" => NodeKind::CharDevice,
            b"IntxBLK\0" => NodeKind::BlockDevice,
            _ => return Ok(None),
        };
        let bytes = data.whole(&self.table, &self.boot, MAX_INTERIX)?;
        let number = |at: usize| -> Result<u32> {
            u32::try_from(le_u64(&bytes, at)?).map_err(|_| super::overflow())
        };
        Ok(Some(What::Special(kind, Some((number(8)?, number(16)?)))))
    }

    /// The extended attributes of OS/2 and WSL (`$EA`), by their own names.
    fn attributes(&self, node: &Node) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut out = BTreeMap::new();
        let bytes = self
            .small(node, attribute::EA, MAX_XATTR)?
            .unwrap_or_default();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let next = index(le_u32(rest, 0)?);
            let [name_len] = array_at(rest, 5)?;
            let name_len = usize::from(name_len);
            let value_len = usize::from(le_u16(rest, 6)?);
            let name = dormouse_block::slice_at(rest, 8, name_len)?;
            let value = dormouse_block::slice_at(rest, name_len.saturating_add(9), value_len)?;
            out.insert(name.to_vec(), value.to_vec());
            if next == 0 {
                break;
            }
            rest = rest
                .get(next..)
                .filter(|_| next >= 9)
                .ok_or_else(|| Error::corrupt("broken extended attributes"))?;
        }
        Ok(out)
    }

    fn file(&self, id: NodeId) -> Result<Arc<File>> {
        let lock = || self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, file)) = lock().as_ref()
            && *known == id
        {
            return Ok(file.clone());
        }
        let node = self.node(id)?;
        let standard = self.standard(&node)?;
        let content = match self.what(&node, &standard)? {
            What::File(content) => content,
            What::Unread(why, _) => return Err(Error::unsupported(why)),
            _ => return Err(Error::corrupt("not a regular file")),
        };
        let file = Arc::new(File {
            content,
            unpacked: Mutex::default(),
        });
        *lock() = Some((id, file.clone()));
        Ok(file)
    }

    fn upcase(&self) -> Result<&Upcase> {
        if let Some(upcase) = self.upcase.get() {
            return Ok(upcase);
        }
        let node = Node::read(&self.table, &self.boot, UPCASE)?;
        let bytes = self
            .small(&node, attribute::DATA, name::UPCASE)?
            .filter(|bytes| wide(bytes.len()) == name::UPCASE)
            .ok_or_else(|| Error::corrupt("a table of upper case of another size"))?;
        Ok(self.upcase.get_or_init(|| Upcase::new(&bytes)))
    }

    /// Clusters that are free; 0 when that is not known.
    fn count_free(&self) -> Result<u64> {
        let node = Node::read(&self.table, &self.boot, BITMAP)?;
        let bits = self
            .small(&node, attribute::DATA, MAX_COUNTED)?
            .unwrap_or_default();
        let used: u64 = bits.iter().map(|byte| u64::from(byte.count_ones())).sum();
        // Bits beyond the last cluster are set.
        let beyond = wide(bits.len())
            .saturating_mul(8)
            .saturating_sub(self.boot.clusters);
        Ok(self
            .boot
            .clusters
            .saturating_sub(used.saturating_sub(beyond)))
    }

    fn listed(&self, directory: Reference, entry: Entry) -> Result<Option<DirEntry>> {
        let Some(mut name) = entry.name else {
            return Ok(None);
        };
        if entry.file.number() < FIRST_USER {
            return Ok(None);
        }
        if name.parent.number() != directory.number() {
            return Err(Error::corrupt(
                "a name stands in another directory than its own",
            ));
        }
        if name.namespace == name::DOS {
            // The long name beside it is the one that users see.
            let node = Node::read(&self.table, &self.boot, entry.file)?;
            for other in node.resident(&self.table, attribute::FILE_NAME)? {
                let other = FileName::parse(&other)?;
                if other.namespace != name::DOS && other.parent == name.parent {
                    name = other;
                    break;
                }
            }
        }
        let kind = if name.attributes & (name::REPARSES | name::SYSTEM) != 0 {
            None
        } else if name.attributes & name::DIRECTORY != 0 {
            Some(NodeKind::Directory)
        } else {
            Some(NodeKind::File)
        };
        Ok(Some(DirEntry {
            name: name.shown()?,
            node: NodeId(entry.file.0),
            kind,
        }))
    }
}

impl Tree for NtfsTree {
    fn info(&self) -> FilesystemInfo {
        let free = *self.free.get_or_init(|| self.count_free().unwrap_or(0));
        FilesystemInfo {
            kind: "ntfs".to_owned(),
            label: self.label.clone(),
            uuid: Some(format!("{:016x}", self.boot.serial)),
            size: self.boot.bytes,
            free: free.saturating_mul(self.boot.cluster),
            features: vec![format!("version-{}.{}", self.version.0, self.version.1)],
            journal_replayed: false,
        }
    }

    fn root(&self) -> NodeId {
        self.root
    }

    fn metadata(&self, id: NodeId) -> Result<Metadata> {
        let node = self.node(id)?;
        let standard = self.standard(&node)?;
        let mut names = 0_u32;
        for bytes in node.resident(&self.table, attribute::FILE_NAME)? {
            if FileName::parse(&bytes)?.namespace != name::DOS {
                names = names.saturating_add(1);
            }
        }
        let mut out = Metadata {
            node: NodeId(node.record.reference.0),
            kind: NodeKind::File,
            mode: MODE,
            uid: 0,
            gid: 0,
            links: names.max(1),
            size: 0,
            atime: standard.accessed,
            mtime: standard.modified,
            ctime: standard.changed,
            device: None,
        };
        match self.what(&node, &standard)? {
            What::Directory => {
                out.kind = NodeKind::Directory;
                let blocks = self.stream(&node, attribute::INDEX_ALLOCATION, super::index::NAME)?;
                out.size = blocks.map_or(0, |blocks| blocks.size());
            }
            What::File(Content::Plain(stream)) => out.size = stream.size(),
            What::File(Content::Packed(_, _, size)) | What::Unread(_, size) => out.size = size,
            What::Link(target) => {
                out.kind = NodeKind::Symlink;
                out.size = wide(target.len());
            }
            What::Special(kind, device) => {
                out.kind = kind;
                out.device = device;
            }
        }
        if out.kind == NodeKind::File && standard.attributes & name::READ_ONLY != 0 {
            out.mode = MODE & !0o222;
        }
        Ok(out)
    }

    fn read_dir(&self, id: NodeId) -> Result<Vec<DirEntry>> {
        let node = self.node(id)?;
        let directory = Directory::open(&node, &self.table, &self.boot)?;
        let mut out = Vec::new();
        for entry in directory.list()? {
            if entry
                .name
                .as_ref()
                .is_some_and(|name| name.namespace == name::DOS)
            {
                continue;
            }
            out.extend(self.listed(node.record.reference, entry)?);
        }
        Ok(out)
    }

    /// Names are equal whatever their case, an equal one first; short names lead to files as well.
    fn lookup(&self, id: NodeId, wanted: &[u8]) -> Result<Option<DirEntry>> {
        let Some(wanted) = written(wanted, name::MAX_UNITS) else {
            return Ok(None);
        };
        let node = self.node(id)?;
        let directory = Directory::open(&node, &self.table, &self.boot)?;
        let found = directory.find(self.upcase()?, &wanted)?;
        let equal = |entry: &&Entry| entry.name.as_ref().is_some_and(|name| name.units == wanted);
        let Some(best) = found.iter().find(equal).or_else(|| found.first()) else {
            return Ok(None);
        };
        self.listed(node.record.reference, best.clone())
    }

    fn ignores_case(&self) -> bool {
        true
    }

    fn read_link(&self, id: NodeId) -> Result<Vec<u8>> {
        let node = self.node(id)?;
        let standard = self.standard(&node)?;
        match self.what(&node, &standard)? {
            What::Link(target) => Ok(target),
            _ => Err(Error::corrupt("not a symbolic link")),
        }
    }

    fn read_at(&self, id: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let file = self.file(id)?;
        let (stream, size) = match &file.content {
            Content::Plain(stream) => (stream, stream.size()),
            Content::Packed(_, stream, size) => (stream, *size),
        };
        let len = wide(buf.len()).min(size.saturating_sub(offset));
        let Some(buf) = buf.get_mut(..index(len)).filter(|buf| !buf.is_empty()) else {
            return Ok(0);
        };
        let lock = || file.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        let packs = matches!(file.content, Content::Packed(..)) || stream.unit() > 0;
        let mut held = if packs { lock().clone() } else { None };
        match &file.content {
            Content::Plain(stream) => {
                stream.read(&self.table, &self.boot, offset, buf, &mut held)?;
            }
            Content::Packed(packing, stream, size) => {
                let place = (&self.table, &self.boot);
                packing.read((stream, *size), place, offset, buf, &mut held)?;
            }
        }
        if packs {
            *lock() = held;
        }
        Ok(buf.len())
    }

    fn xattrs(&self, id: NodeId) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        const SPACES: [&[u8]; 4] = [b"user.", b"security.", b"system.", b"trusted."];
        let node = self.node(id)?;
        let mut out = BTreeMap::new();
        for (name, value) in self.attributes(&node)? {
            let named = SPACES.iter().any(|space| name.starts_with(space));
            let name = if named {
                name
            } else {
                [b"user.ea.", &name[..]].concat()
            };
            out.insert(name, value);
        }
        let streams = node.streams(&self.table)?;
        if streams.len() > MAX_STREAMS {
            return Err(Error::limit("a file of more than 1024 alternate streams"));
        }
        let packed = {
            let standard = self.standard(&node)?;
            matches!(
                self.what(&node, &standard)?,
                What::File(Content::Packed(..))
            )
        };
        for name in streams {
            let shown = shown(&name::units(&name));
            if packed && shown == wof::STREAM.as_bytes() {
                continue;
            }
            let Some(stream) = self.stream(&node, attribute::DATA, &name)? else {
                continue;
            };
            let value = stream.whole(&self.table, &self.boot, MAX_XATTR)?;
            out.insert([b"user.stream.", &shown[..]].concat(), value);
        }
        Ok(out)
    }

    fn kept_mode(&self, _: NodeKind) -> Option<u16> {
        Some(MODE)
    }

    fn kept_time(&self, time: Time) -> Time {
        Time {
            nanoseconds: time.nanoseconds.saturating_sub(time.nanoseconds % 100),
            ..time
        }
    }

    fn left(&self) -> Left {
        self.left.clone()
    }
}
