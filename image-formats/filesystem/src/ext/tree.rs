//! A whole filesystem, open for reading.

use std::collections::BTreeMap;
use std::sync::Arc;

use dormouse_block::{Error, Result, Source, le_u32, read_vec_at, slice_at};

use super::directory;
use super::features::{HAS_JOURNAL, RECOVER};
use super::group::{Group, INODE_UNINIT};
use super::inode::{self, Inode, MAP_OFFSET};
use super::journal::{self, Replay, Run};
use super::superblock::{OFFSET, SIZE, Superblock};
use super::volume::Volume;
use super::xattr::{self, Value};
use super::{index, overflow, wide};
use crate::{DirEntry, FilesystemInfo, Metadata, NodeId, NodeKind, Tree};

/// Entries of one directory that are read.
const MAX_ENTRIES: usize = 1 << 20;
/// Bytes of one directory that are read: room for 2^20 of the longest names in blocks half full.
const MAX_DIRECTORY: u64 = 1 << 30;
/// Longest target of a symbolic link (Linux: `PATH_MAX`).
const MAX_TARGET: u64 = 4096;
/// Runs of blocks in which a journal may lie.
const MAX_JOURNAL_RUNS: usize = 1 << 16;
/// Bytes of all extended attributes of one inode that are read.
const MAX_ATTRIBUTES: usize = 1 << 20;

/// An ext2, ext3 or ext4 filesystem, open for reading as it is after its journal.
pub struct ExtTree {
    pub(super) volume: Volume,
    pub(super) sb: Superblock,
    replayed: bool,
}

impl ExtTree {
    /// Opens the filesystem on `source`, replaying its journal in memory when there is work in it.
    ///
    /// # Errors
    /// `Corrupt`, `Unsupported` or `Limit`, by name.
    pub fn open(source: Arc<dyn Source>) -> Result<Self> {
        let bytes = read_vec_at(source.as_ref(), OFFSET, SIZE)?;
        let sb = Superblock::parse(&bytes)?;
        if sb.bytes() > source.len() {
            return Err(Error::corrupt(format!(
                "a filesystem of {} bytes on a volume of {}",
                sb.bytes(),
                source.len()
            )));
        }
        let log = sb.block_log;
        let mut this = Self {
            volume: Volume::new(source.clone(), log, Replay::default()),
            sb,
            replayed: false,
        };
        if this.sb.features.incompat(RECOVER) {
            let replay = this.read_journal(&source)?;
            this.replayed = !replay.blocks.is_empty();
            this.volume = Volume::new(source, log, replay);
            let mut bytes = vec![0; SIZE];
            let within = index(OFFSET & u64::from(this.sb.block_size().saturating_sub(1)));
            this.volume.read(OFFSET >> log, within, &mut bytes)?;
            let sb = Superblock::parse(&bytes)?;
            if sb.block_log != log || sb.bytes() > this.volume.source().len() {
                return Err(Error::corrupt(
                    "the journal changes the filesystem's geometry",
                ));
            }
            this.sb = sb;
        }
        this.inode(inode::ROOT).and_then(|root| {
            (root.kind() == Some(NodeKind::Directory))
                .then_some(())
                .ok_or_else(|| Error::corrupt("the root is no directory"))
        })?;
        Ok(this)
    }

    /// The superblock, as it is after the journal.
    #[must_use]
    pub fn superblock(&self) -> &Superblock {
        &self.sb
    }

    /// The blocks, as they are after the journal.
    #[must_use]
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    fn read_journal(&self, source: &Arc<dyn Source>) -> Result<Replay> {
        if !self.sb.features.compat(HAS_JOURNAL) {
            return Err(Error::corrupt("work in a journal that does not exist"));
        }
        if self.sb.journal_inode == 0 {
            return Err(Error::unsupported(
                "an unreplayed journal on another device",
            ));
        }
        let inode = self.inode(self.sb.journal_inode)?;
        if inode.kind() != Some(NodeKind::File) || inode.links == 0 {
            return Err(Error::corrupt("the journal is no file"));
        }
        let blocks = inode.blocks(&self.sb)?;
        let mut runs: Vec<Run> = Vec::new();
        let mut at = 0;
        while at < blocks {
            let run = self.map(&inode, at)?;
            let len = run.len.min(blocks.saturating_sub(at));
            let Some(physical) = run.physical else {
                return Err(Error::corrupt("the journal has a hole"));
            };
            match runs.last_mut() {
                Some(last) if last.physical.saturating_add(u64::from(last.len)) == physical => {
                    last.len = last.len.saturating_add(len);
                }
                _ => runs.push(Run {
                    logical: at,
                    len,
                    physical,
                }),
            }
            if runs.len() > MAX_JOURNAL_RUNS {
                return Err(Error::limit("a journal in more than 65536 pieces"));
            }
            at = at.saturating_add(len);
        }
        journal::replay(source, &self.sb, &runs)
            .map_err(|error| error.located(&dormouse_block::Locator::default()))
    }

    /// The descriptor of `group`.
    ///
    /// # Errors
    /// `Corrupt` for a broken one.
    pub fn group(&self, group: u32) -> Result<Group> {
        let (block, within) = self.sb.descriptor_place(group)?;
        let bytes = self.volume.block(block)?;
        Group::parse(
            &self.sb,
            group,
            slice_at(&bytes, within, usize::from(self.sb.descriptor_size))?,
        )
        .map_err(|error| error.at_offset(self.offset(block)))
    }

    fn offset(&self, block: u64) -> u64 {
        block.saturating_mul(u64::from(self.sb.block_size()))
    }

    /// Inode `number`, used or not.
    ///
    /// # Errors
    /// `Corrupt` for a broken one, or one that was never initialised.
    pub fn inode(&self, number: u32) -> Result<Inode> {
        let (group, nth) = self.sb.inode_place(number)?;
        let descriptor = self.group(group)?;
        if descriptor.flags & INODE_UNINIT != 0 && self.sb.features.group_checksums() {
            return Err(Error::corrupt(format!(
                "inode {number} lies in a table that was never initialised"
            )));
        }
        let size = u64::from(self.sb.inode_size);
        let at = u64::from(nth).checked_mul(size).ok_or_else(overflow)?;
        let block = descriptor
            .inode_table
            .saturating_add(at >> self.sb.block_log);
        let within = index(at & u64::from(self.sb.block_size().saturating_sub(1)));
        let bytes = self.volume.block(block)?;
        Inode::parse(
            &self.sb,
            number,
            slice_at(&bytes, within, usize::from(self.sb.inode_size))?,
        )
        .map_err(|error| error.at_offset(self.offset(block).saturating_add(wide(within))))
    }

    /// The inode of a node that a directory leads to: in use, not one of those kept for the filesystem itself.
    fn node(&self, node: NodeId) -> Result<(Inode, NodeKind)> {
        let number = u32::try_from(node.0).map_err(|_| overflow())?;
        if number != inode::ROOT && number < self.sb.first_inode {
            return Err(Error::corrupt(format!(
                "inode {number} is kept for the filesystem"
            )));
        }
        let inode = self.inode(number)?;
        if inode.links == 0 {
            return Err(Error::corrupt(format!("inode {number} is not in use")));
        }
        if inode.has(inode::EA_INODE) {
            return Err(Error::corrupt(format!(
                "inode {number} holds an extended attribute"
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
        if inode.has(inode::ENCRYPTED) {
            return Err(Error::unsupported(format!(
                "an encrypted {what} (inode {})",
                inode.number
            )));
        }
        Ok(inode)
    }

    /// All bytes of inline data: those in the block map, then those in an attribute.
    ///
    /// # Errors
    /// `Corrupt` when there are fewer than the size says.
    fn inline_data(&self, inode: &Inode) -> Result<Vec<u8>> {
        let mut out = inode.map()?.to_vec();
        for stored in xattr::in_inode(inode.attribute_area())? {
            if let (true, Value::Here(value)) = (stored.is_inline_data(), stored.value) {
                out.extend_from_slice(value);
            }
        }
        let size = index(inode.size);
        if out.len() < size {
            return Err(Error::corrupt(format!(
                "the inline data of inode {} ends early",
                inode.number
            )));
        }
        out.truncate(size);
        Ok(out)
    }

    fn read_inode(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let len = wide(buf.len()).min(inode.size.saturating_sub(offset));
        let Some(buf) = buf.get_mut(..index(len)).filter(|buf| !buf.is_empty()) else {
            return Ok(0);
        };
        if inode.has(inode::INLINE) {
            let data = self.inline_data(inode)?;
            buf.copy_from_slice(slice_at(&data, index(offset), buf.len())?);
            return Ok(buf.len());
        }
        let size = self.sb.block_len();
        let mut done = 0_usize;
        while done < buf.len() {
            let at = offset.saturating_add(wide(done));
            let logical = u32::try_from(at >> self.sb.block_log).map_err(|_| overflow())?;
            let within = index(at & u64::from(self.sb.block_size().saturating_sub(1)));
            let wanted = within
                .saturating_add(buf.len().saturating_sub(done))
                .div_ceil(size);
            let run = self.map_run(inode, logical, u32::try_from(wanted).unwrap_or(u32::MAX))?;
            let bytes = index(run.len).saturating_mul(size).saturating_sub(within);
            let end = done.saturating_add(bytes).min(buf.len());
            let part = buf
                .get_mut(done..end)
                .filter(|part| !part.is_empty())
                .ok_or_else(overflow)?;
            match run.physical {
                Some(physical) => self.volume.read(physical, within, part)?,
                None => part.fill(0),
            }
            done = end;
        }
        Ok(buf.len())
    }

    /// Hands every entry of a directory to `take`, until that returns false.
    fn for_entries(
        &self,
        inode: &Inode,
        take: &mut dyn FnMut(directory::Entry<'_>) -> Result<bool>,
    ) -> Result<()> {
        let mut going = true;
        let mut take = |entry: directory::Entry<'_>| {
            if entry.inode != 0 && entry.name != b"." && entry.name != b".." {
                going = take(entry)?;
            }
            Ok(going)
        };
        if inode.has(inode::INLINE) {
            // The parent's number, entries in the rest of the map, entries in the attribute.
            let data = self.inline_data(inode)?;
            let (map, rest) = data.split_at_checked(60).unwrap_or((&data, &[]));
            directory::entries(&self.sb, map.get(4..).unwrap_or_default(), &mut take)?;
            return directory::entries(&self.sb, rest, &mut take);
        }
        let blocks = inode.blocks(&self.sb)?;
        if u64::from(blocks) > self.sb.blocks_count
            || inode.size & u64::from(self.sb.block_size().saturating_sub(1)) != 0
        {
            return Err(Error::corrupt("bad size of a directory"));
        }
        if inode.size > MAX_DIRECTORY {
            return Err(Error::limit("a directory of more than 1 GiB"));
        }
        let seed = inode.seed(&self.sb);
        let mut logical = 0;
        while logical < blocks {
            let run = self.map(inode, logical)?;
            let len = run.len.min(blocks.saturating_sub(logical)).max(1);
            if let Some(physical) = run.physical {
                for nth in 0..len {
                    let block = physical.saturating_add(u64::from(nth));
                    let bytes = self.volume.block(block)?;
                    self.check_directory_block(inode, seed, logical.saturating_add(nth), &bytes)
                        .and_then(|()| directory::entries(&self.sb, &bytes, &mut take))
                        .map_err(|error| error.at_offset(self.offset(block)))?;
                }
            }
            logical = logical.saturating_add(len);
        }
        Ok(())
    }

    pub(super) fn check_directory_block(
        &self,
        inode: &Inode,
        seed: u32,
        logical: u32,
        bytes: &[u8],
    ) -> Result<()> {
        directory::verify(&self.sb, seed, inode.is_hashed(&self.sb), logical, bytes)
    }

    fn value(&self, inode: u32, size: u32) -> Result<Vec<u8>> {
        let holder = self.inode(inode)?;
        if !holder.has(inode::EA_INODE) || holder.size != u64::from(size) || size > xattr::MAX_VALUE
        {
            return Err(Error::corrupt(format!(
                "inode {inode} does not hold the extended attribute that it should"
            )));
        }
        let mut out = vec![0; index(size)];
        let n = self.read_inode(&holder, 0, &mut out)?;
        out.truncate(n);
        Ok(out)
    }

    fn add_xattrs(
        &self,
        list: &[xattr::Stored<'_>],
        out: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<()> {
        let mut total = 0_usize;
        for stored in list {
            let Some(name) = stored.full_name() else {
                continue;
            };
            let value = match stored.value {
                Value::Here(value) => value.to_vec(),
                Value::Inode(inode, size) => self.value(inode, size)?,
            };
            total = total.saturating_add(value.len());
            if total > MAX_ATTRIBUTES {
                return Err(Error::limit("more than 1 MiB of extended attributes"));
            }
            // The inode's own attributes come first, and win.
            let value = xattr::value_for_users(stored.prefix, &value)?;
            out.entry(name).or_insert(value);
        }
        Ok(())
    }
}

impl Tree for ExtTree {
    fn info(&self) -> FilesystemInfo {
        let label = String::from_utf8_lossy(&self.sb.label).into_owned();
        FilesystemInfo {
            kind: self.sb.kind().to_owned(),
            label: Some(label).filter(|label| !label.is_empty()),
            uuid: self.sb.uuid_text(),
            size: self.sb.bytes(),
            free: self
                .sb
                .free_blocks
                .min(self.sb.blocks_count)
                .saturating_mul(u64::from(self.sb.block_size())),
            features: self.sb.features.names(),
            journal_replayed: self.replayed,
        }
    }

    fn root(&self) -> NodeId {
        NodeId(u64::from(inode::ROOT))
    }

    fn metadata(&self, node: NodeId) -> Result<Metadata> {
        let (inode, kind) = self.node(node)?;
        let device = match kind {
            NodeKind::CharDevice | NodeKind::BlockDevice => Some(inode.device()?),
            _ => None,
        };
        Ok(Metadata {
            node,
            kind,
            mode: inode.mode & 0o7777,
            uid: inode.uid,
            gid: inode.gid,
            links: u32::from(inode.links),
            size: inode.size,
            atime: inode.atime,
            mtime: inode.mtime,
            ctime: inode.ctime,
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
            out.push(listed(&entry));
            Ok(true)
        })?;
        Ok(out)
    }

    fn lookup(&self, node: NodeId, name: &[u8]) -> Result<Option<DirEntry>> {
        let inode = self.of_kind(node, NodeKind::Directory, "directory")?;
        if matches!(name, b"" | b"." | b"..") {
            return Ok(None);
        }
        if let Some(found) = self.lookup_hashed(&inode, name)? {
            return Ok(found);
        }
        let mut found = None;
        self.for_entries(&inode, &mut |entry| {
            if entry.name == name {
                found = Some(listed(&entry));
            }
            Ok(found.is_none())
        })?;
        Ok(found)
    }

    fn read_link(&self, node: NodeId) -> Result<Vec<u8>> {
        let inode = self.of_kind(node, NodeKind::Symlink, "symbolic link")?;
        if inode.size == 0 || inode.size > MAX_TARGET {
            return Err(Error::corrupt(format!(
                "bad length of the symbolic link in inode {}",
                inode.number
            )));
        }
        let mut out = vec![0; index(inode.size)];
        if self.link_is_short(&inode) {
            let map = slice_at(&inode.raw, MAP_OFFSET, out.len())?;
            out.copy_from_slice(map);
        } else {
            self.read_inode(&inode, 0, &mut out)?;
        }
        if out.contains(&0) {
            return Err(Error::corrupt(format!(
                "a NUL in the symbolic link in inode {}",
                inode.number
            )));
        }
        Ok(out)
    }

    fn read_at(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let inode = self.of_kind(node, NodeKind::File, "file")?;
        self.read_inode(&inode, offset, buf)
    }

    fn xattrs(&self, node: NodeId) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let (inode, _) = self.node(node)?;
        let mut out = BTreeMap::new();
        self.add_xattrs(&xattr::in_inode(inode.attribute_area())?, &mut out)?;
        if inode.attribute_block != 0 {
            let block = inode.attribute_block;
            self.sb.check_blocks(block, 1)?;
            let bytes = self.volume.block(block)?;
            let list = xattr::in_block(&self.sb, block, &bytes)
                .map_err(|error| error.at_offset(self.offset(block)))?;
            self.add_xattrs(&list, &mut out)?;
        }
        Ok(out)
    }
}

impl ExtTree {
    /// Whether a link's target is in the inode in place of a block map.
    fn link_is_short(&self, inode: &Inode) -> bool {
        inode.size < 60 && !inode.has(inode::INLINE) && !inode.has(inode::EXTENTS) && {
            let own = if inode.attribute_block == 0 {
                0
            } else {
                u64::from(self.sb.block_size() >> 9) << self.sb.cluster_log
            };
            inode.sectors <= own
                || self.sb.features.incompat(super::features::EA_INODE)
                || le_u32(&inode.raw, 0x1C).is_ok_and(|low| low == 0)
        }
    }
}

pub(super) fn listed(entry: &directory::Entry<'_>) -> DirEntry {
    DirEntry {
        name: entry.name.to_vec(),
        node: NodeId(u64::from(entry.inode)),
        kind: directory::kind(entry.kind),
    }
}
