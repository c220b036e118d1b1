//! A directory being changed: all its names in memory, its blocks changed in place while there is room in them.

use foldhash::{HashMap, HashMapExt as _};

use dormouse_block::{Error, Result, le_u32, slice_at};
use dormouse_filesystem::ext::directory::{self, HEADER, NODE_ENTRIES, ROOT_ENTRIES};
use dormouse_filesystem::ext::features::{DIR_INDEX, FILETYPE};
use dormouse_filesystem::ext::hash::NameHash;
use dormouse_filesystem::ext::inode::{self, Inode};
use dormouse_filesystem::ext::superblock::Superblock;
use dormouse_filesystem::ext::xattr::{self, Value};

use super::core::Core;
use super::store::{index, len64, put, put16, put32};
use crate::Device;

/// Names of one directory that are edited.
const MAX_NAMES: usize = 1 << 22;

/// Bytes of one directory that is written: more is not read.
const MAX_DIRECTORY: u64 = 1 << 30;

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) inode: u32,
    /// The kind as entries store it; 0 where the filesystem does not say.
    pub(super) kind: u8,
    /// The logical block that holds it.
    block: u32,
}

/// How the directory stands on disk.
enum Shape {
    /// Names in any block; the largest gap of each.
    Linear(Vec<usize>),
    /// Names by hash: for each block of names the lowest hash in it.
    Hashed(NameHash, Vec<(u32, u32)>),
    /// What is on disk is out of date: all of it is written anew at the end.
    Unwritten,
}

pub(super) struct Directory {
    pub(super) number: u32,
    pub(super) parent: u32,
    pub(super) names: HashMap<Box<[u8]>, Name>,
    blocks: Vec<u64>,
    shape: Shape,
    seed: u32,
    hashed: bool,
    /// Bytes that all names take at least.
    pub(super) bytes: usize,
    /// Clusters that were promised for writing it anew.
    promised: u64,
    /// Its names changed and its times were not set since by the caller.
    pub(super) touched: bool,
    /// It must be written anew.
    stale: bool,
}

impl Directory {
    /// A directory that has no blocks yet.
    pub(super) fn fresh(sb: &Superblock, number: u32, parent: u32, generation: u32) -> Self {
        Self {
            number,
            parent,
            names: HashMap::new(),
            blocks: Vec::new(),
            shape: Shape::Unwritten,
            seed: inode::seed(sb, number, generation),
            hashed: false,
            bytes: 0,
            promised: 0,
            touched: false,
            stale: false,
        }
    }

    /// Reads directory `number`.
    pub(super) fn load<D: Device>(core: &mut Core<D>, number: u32) -> Result<Self> {
        let (record, inode) = core.record(number)?;
        if !record.is_directory()? {
            return Err(Error::denied("a parent is no directory"));
        }
        for (flag, what) in [
            (inode::ENCRYPTED, "encrypted"),
            (inode::CASEFOLD, "case-folded"),
        ] {
            if inode.has(flag) {
                return Err(Error::unsupported(format!(
                    "names in {what} directories (inode {number}) are not edited"
                )));
            }
        }
        let mut this = Self::fresh(&core.sb, number, 0, inode.generation);
        this.hashed = inode.is_hashed(&core.sb);
        if inode.has(inode::INLINE) {
            this.load_inline(core, &inode)?;
            return Ok(this);
        }
        let mapping = core.read_mapping(&record)?;
        let size = u64::from(core.sb.block_size());
        let count = inode.size >> core.sb.block_log;
        if mapping.data_blocks() != count
            || inode.size & size.saturating_sub(1) != 0
            || count == 0
            || count > core.sb.blocks_count
        {
            return Err(Error::corrupt(format!(
                "directory {number} has holes or a bad size"
            )));
        }
        let mut room = Vec::with_capacity(index(count));
        for extent in &mapping.extents {
            if extent.logical != u32::try_from(this.blocks.len()).unwrap_or(u32::MAX)
                || !extent.written
            {
                return Err(Error::corrupt(format!("directory {number} has holes")));
            }
            for nth in 0..extent.len {
                let block = extent.physical.saturating_add(u64::from(nth));
                let logical = extent.logical.saturating_add(nth);
                let bytes = core.store.read(block)?;
                directory::verify(&core.sb, this.seed, this.hashed, logical, bytes)?;
                room.push(this.load_block(&core.sb, logical, bytes)?);
                this.blocks.push(block);
            }
        }
        if this.parent == 0 {
            return Err(Error::corrupt(format!("directory {number} has no parent")));
        }
        this.shape = if this.hashed {
            this.load_index(core)?
        } else {
            Shape::Linear(room)
        };
        Ok(this)
    }

    fn load_block(&mut self, sb: &Superblock, logical: u32, bytes: &[u8]) -> Result<usize> {
        if directory::index_start(self.hashed, logical, bytes)? == Some(NODE_ENTRIES) {
            return Ok(0);
        }
        // The root of an index has the names `.` and `..` up to its end, and no checksum of names.
        let root = self.hashed && logical == 0;
        let end = if root {
            bytes.len()
        } else {
            directory::usable(sb)
        };
        let mut room = 0_usize;
        directory::entries(sb, slice_at(bytes, 0, end)?, |entry| {
            room = room.max(gap(&entry));
            if entry.inode != 0 {
                match entry.name {
                    b"." => {}
                    b".." => self.parent = entry.inode,
                    _ => self.add_loaded(entry, logical)?,
                }
            }
            Ok(true)
        })?;
        Ok(if root { 0 } else { room })
    }

    fn add_loaded(&mut self, entry: directory::Entry<'_>, block: u32) -> Result<()> {
        let name = Name {
            inode: entry.inode,
            kind: entry.kind,
            block,
        };
        self.bytes = self
            .bytes
            .saturating_add(directory::entry_size(entry.name.len()));
        if self.names.insert(entry.name.into(), name).is_some() {
            return Err(Error::corrupt(format!(
                "directory {} has a name twice",
                self.number
            )));
        }
        if self.names.len() > MAX_NAMES {
            return Err(Error::limit("a directory of more than 2^22 names"));
        }
        Ok(())
    }

    fn load_inline<D: Device>(&mut self, core: &mut Core<D>, inode: &Inode) -> Result<()> {
        let map = inode.map()?;
        self.parent = le_u32(&map, 0)?;
        let mut parts = vec![slice_at(&map, 4, 56)?.to_vec()];
        for stored in xattr::in_inode(inode.attribute_area())? {
            if let (true, Value::Here(value)) = (stored.is_inline_data(), stored.value) {
                parts.push(value.to_vec());
            }
        }
        for part in parts {
            directory::entries(&core.sb, &part, |entry| {
                if entry.inode != 0 {
                    self.add_loaded(entry, 0)?;
                }
                Ok(true)
            })?;
        }
        // Whatever changes in it, it gets a block of its own.
        self.shape = Shape::Unwritten;
        Ok(())
    }

    /// Reads the index: the lowest hash of each block of names.
    fn load_index<D: Device>(&self, core: &mut Core<D>) -> Result<Shape> {
        let block = |logical: u32| {
            self.blocks
                .get(index(logical))
                .copied()
                .ok_or_else(|| Error::corrupt("a directory index leads outside the directory"))
        };
        let root = core.store.read(block(0)?)?;
        let info = directory::root_info(&core.sb, root)?;
        let Some((info, hash)) =
            info.and_then(|info| Some((info, NameHash::of(&core.sb, info.hash_version)?)))
        else {
            return Ok(Shape::Unwritten);
        };
        let mut level = directory::index_entries(root, ROOT_ENTRIES)?;
        for _ in 0..info.levels {
            let mut below = Vec::new();
            for entry in &level {
                let bytes = core.store.read(block(entry.block)?)?;
                let mut list = directory::index_entries(bytes, NODE_ENTRIES)?;
                if let Some(first) = list.first_mut() {
                    first.hash = entry.hash;
                }
                below.append(&mut list);
                if below.len() > self.blocks.len() {
                    return Err(Error::corrupt(
                        "a directory index is larger than the directory",
                    ));
                }
            }
            level = below;
        }
        Ok(Shape::Hashed(
            hash,
            level
                .iter()
                .map(|entry| (entry.hash, entry.block))
                .collect(),
        ))
    }

    /// Blocks that the directory takes at most when it is written anew.
    fn wanted_blocks(&self, sb: &Superblock) -> u64 {
        // Leaves are filled to four fifths; the longest entry takes 264 bytes.
        let filled = (directory::usable(sb).saturating_mul(4) / 5)
            .saturating_sub(264)
            .max(264);
        let leaves = len64(self.bytes).div_ceil(len64(filled)).saturating_add(1);
        let per_node = len64(directory::index_limit(sb, NODE_ENTRIES)).max(2) / 2;
        let nodes = leaves.div_ceil(per_node.max(1));
        leaves.saturating_add(nodes).saturating_add(2)
    }

    /// Promises enough clusters for writing the directory anew, which it must be from now on.
    pub(super) fn promise<D: Device>(&mut self, core: &mut Core<D>) -> Result<()> {
        let sb = &core.sb;
        let blocks = self.wanted_blocks(sb);
        let clusters = |blocks: u64| blocks.div_ceil(sb.cluster_blocks());
        // A map of the blocks would take a cluster of its own.
        let map = u64::from(sb.cluster_log > 0);
        let wanted = clusters(blocks)
            .saturating_add(map)
            .saturating_sub(clusters(len64(self.blocks.len())));
        let more = wanted.saturating_sub(self.promised);
        if blocks > MAX_DIRECTORY >> sb.block_log || self.is_beyond_index(sb) {
            return Err(Error::limit("a directory too large for its index"));
        }
        core.space.promise(more, "a directory")?;
        self.promised = self.promised.saturating_add(more);
        self.stale = true;
        Ok(())
    }

    /// Whether the names may not fit the levels of the index.
    fn is_beyond_index(&self, sb: &Superblock) -> bool {
        if !sb.features.compat(DIR_INDEX) {
            return false;
        }
        let fill = directory::usable(sb).saturating_mul(4) / 5;
        // Whole entries only, the longest of which take 264 bytes.
        let leaves = self.bytes.div_ceil(fill.saturating_sub(263).max(264));
        let root = directory::index_limit(sb, ROOT_ENTRIES);
        let node = directory::index_limit(sb, NODE_ENTRIES).saturating_mul(4) / 5;
        let room = (0..sb.index_levels()).fold(root, |room, _| room.saturating_mul(node));
        leaves > room
    }

    /// Takes the promise back.
    pub(super) fn release<D: Device>(&mut self, core: &mut Core<D>) {
        core.space.release(self.promised);
        self.promised = 0;
    }

    fn is_unwritten(&self) -> bool {
        matches!(self.shape, Shape::Unwritten)
    }

    /// Whether it must be written anew.
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Adds a name that is not there.
    pub(super) fn add<D: Device>(
        &mut self,
        core: &mut Core<D>,
        name: &[u8],
        inode: u32,
        kind: u8,
    ) -> Result<()> {
        if self.names.len() >= MAX_NAMES {
            return Err(Error::limit("a directory of more than 2^22 names"));
        }
        let size = directory::entry_size(name.len());
        self.bytes = self.bytes.saturating_add(size);
        let kind = if core.sb.features.incompat(FILETYPE) {
            kind
        } else {
            0
        };
        let place = match &self.shape {
            Shape::Linear(room) => room.iter().position(|room| *room >= size),
            Shape::Hashed(hash, leaves) => {
                let hash = hash.hash(name).major;
                let nth = leaves
                    .partition_point(|(lowest, _)| *lowest <= hash)
                    .saturating_sub(1);
                leaves.get(nth).map(|(_, block)| index(*block))
            }
            Shape::Unwritten => None,
        };
        let mut block = 0;
        let mut placed = false;
        if let Some(place) = place {
            block = u32::try_from(place).unwrap_or(u32::MAX);
            placed = self.edit(core, block, |sb, bytes| {
                insert(sb, bytes, name, inode, kind)
            })?;
        }
        if !placed && let Err(error) = self.rewrite(core) {
            self.bytes = self.bytes.saturating_sub(size);
            return Err(error);
        }
        self.names.insert(name.into(), Name { inode, kind, block });
        self.touched = true;
        Ok(())
    }

    /// From now on what is on disk is out of date.
    fn rewrite<D: Device>(&mut self, core: &mut Core<D>) -> Result<()> {
        self.promise(core)?;
        self.shape = Shape::Unwritten;
        Ok(())
    }

    /// Lets a name that is there lead elsewhere.
    pub(super) fn replace<D: Device>(
        &mut self,
        core: &mut Core<D>,
        name: &[u8],
        inode: u32,
        kind: u8,
    ) -> Result<()> {
        let kind = if core.sb.features.incompat(FILETYPE) {
            kind
        } else {
            0
        };
        let Some(found) = self.names.get_mut(name) else {
            return Err(Error::corrupt("a name vanished"));
        };
        found.inode = inode;
        found.kind = kind;
        let block = found.block;
        self.touched = true;
        if self.is_unwritten() {
            return self.promise(core);
        }
        let done = self.edit(core, block, |sb, bytes| {
            let Some((_, entry)) = find(sb, bytes, name)? else {
                return Ok(false);
            };
            put32(bytes, entry.0, u64::from(inode))?;
            if sb.features.incompat(FILETYPE) {
                put(bytes, entry.0.saturating_add(7), &[kind])?;
            }
            Ok(true)
        })?;
        if done {
            Ok(())
        } else {
            Err(Error::corrupt("a name vanished from its block"))
        }
    }

    /// Removes a name that is there.
    pub(super) fn remove<D: Device>(&mut self, core: &mut Core<D>, name: &[u8]) -> Result<()> {
        let Some(found) = self.names.remove(name) else {
            return Err(Error::corrupt("a name vanished"));
        };
        self.bytes = self.bytes.saturating_sub(directory::entry_size(name.len()));
        self.touched = true;
        if self.is_unwritten() {
            return self.promise(core);
        }
        let done = self.edit(core, found.block, |sb, bytes| {
            let Some((before, entry)) = find(sb, bytes, name)? else {
                return Ok(false);
            };
            match before {
                Some(before) => {
                    let length = entry.0.saturating_add(entry.1).saturating_sub(before);
                    let stored = directory::stored_length(length, sb.block_len());
                    put16(bytes, before.saturating_add(4), u64::from(stored))?;
                    put(bytes, entry.0, &[0; HEADER])?;
                }
                None => put32(bytes, entry.0, 0)?,
            }
            Ok(true)
        })?;
        if done {
            Ok(())
        } else {
            Err(Error::corrupt("a name vanished from its block"))
        }
    }

    /// Lets `..` lead elsewhere.
    pub(super) fn set_parent<D: Device>(&mut self, core: &mut Core<D>, parent: u32) -> Result<()> {
        self.parent = parent;
        if self.is_unwritten() {
            self.touched = true;
            return self.promise(core);
        }
        // `..` follows `.`, whose entry has 12 bytes, in every first block.
        self.edit(core, 0, |_, bytes| {
            if slice_at(bytes, 12 + HEADER, 2)? != b".." {
                return Err(Error::corrupt("a directory does not begin with . and .."));
            }
            put32(bytes, 12, u64::from(parent))?;
            Ok(true)
        })?;
        Ok(())
    }

    /// Changes one block in place and seals it when `change` says that it did.
    fn edit<D: Device>(
        &mut self,
        core: &mut Core<D>,
        logical: u32,
        change: impl FnOnce(&Superblock, &mut [u8]) -> Result<bool>,
    ) -> Result<bool> {
        let block = self
            .blocks
            .get(index(logical))
            .ok_or_else(|| Error::corrupt("a directory block vanished"))?;
        let bytes = core.store.modify(*block)?;
        if !change(&core.sb, bytes)? {
            return Ok(false);
        }
        seal(&core.sb, self.seed, self.hashed, logical, bytes)?;
        if let Shape::Linear(room) = &mut self.shape {
            let mut widest = 0;
            directory::entries(
                &core.sb,
                slice_at(bytes, 0, directory::usable(&core.sb))?,
                |entry| {
                    widest = widest.max(gap(&entry));
                    Ok(true)
                },
            )?;
            if let Some(room) = room.get_mut(index(logical)) {
                *room = widest;
            }
        }
        Ok(true)
    }
}

/// Bytes of an entry that its name does not need.
fn gap(entry: &directory::Entry<'_>) -> usize {
    let used = if entry.inode == 0 {
        0
    } else {
        directory::entry_size(entry.name.len())
    };
    entry.length.saturating_sub(used)
}

/// Where the entry before `name` begins, and where `name` begins and how long it is.
type Found = (Option<usize>, (usize, usize));

fn find(sb: &Superblock, bytes: &[u8], name: &[u8]) -> Result<Option<Found>> {
    let mut found = None;
    let mut before = None;
    directory::entries(sb, slice_at(bytes, 0, directory::usable(sb))?, |entry| {
        if entry.inode != 0 && entry.name == name {
            found = Some((before, (entry.offset, entry.length)));
            return Ok(false);
        }
        before = Some(entry.offset);
        Ok(true)
    })?;
    Ok(found)
}

/// Puts an entry into the first gap that holds it.
fn insert(sb: &Superblock, bytes: &mut [u8], name: &[u8], inode: u32, kind: u8) -> Result<bool> {
    let size = directory::entry_size(name.len());
    let mut place = None;
    directory::entries(sb, slice_at(bytes, 0, directory::usable(sb))?, |entry| {
        if gap(&entry) >= size {
            let used = entry.length.saturating_sub(gap(&entry));
            place = Some((entry.offset, used, entry.length));
        }
        Ok(place.is_none())
    })?;
    let Some((offset, used, length)) = place else {
        return Ok(false);
    };
    if used > 0 {
        let stored = directory::stored_length(used, sb.block_len());
        put16(bytes, offset.saturating_add(4), u64::from(stored))?;
    }
    let at = offset.saturating_add(used);
    write_entry(
        sb,
        bytes,
        at,
        length.saturating_sub(used),
        name,
        inode,
        kind,
    )?;
    Ok(true)
}

/// Writes one entry of `length` bytes.
pub(super) fn write_entry(
    sb: &Superblock,
    bytes: &mut [u8],
    at: usize,
    length: usize,
    name: &[u8],
    inode: u32,
    kind: u8,
) -> Result<()> {
    let name_len =
        u8::try_from(name.len()).map_err(|_| Error::denied("a name of more than 255 bytes"))?;
    put32(bytes, at, u64::from(inode))?;
    put16(
        bytes,
        at.saturating_add(4),
        u64::from(directory::stored_length(length, sb.block_len())),
    )?;
    put(bytes, at.saturating_add(6), &[name_len, kind])?;
    put(bytes, at.saturating_add(HEADER), name)
}

/// Computes the checksum of a directory block.
pub(super) fn seal(
    sb: &Superblock,
    seed: u32,
    hashed: bool,
    logical: u32,
    bytes: &mut [u8],
) -> Result<()> {
    if !sb.metadata_checksums() {
        return Ok(());
    }
    match directory::index_start(hashed, logical, bytes)? {
        Some(start) => {
            let (sum, at) = directory::index_checksum(seed, bytes, start)?;
            put32(bytes, at, u64::from(sum))
        }
        None => {
            let tail = directory::tail(sb, seed, bytes)?;
            put(bytes, directory::usable(sb), &tail)
        }
    }
}

impl Directory {
    /// The parts that writing it anew needs.
    pub(super) fn for_writing(&mut self, blocks: Vec<u64>, hashed: bool) -> u32 {
        self.blocks = blocks;
        self.hashed = hashed;
        self.stale = false;
        self.seed
    }
}
