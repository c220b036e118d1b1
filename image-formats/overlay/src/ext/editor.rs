//! The editor of ext4: operations by path.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;

use dormouse_block::{Error, GuestPath, Result, le_u32, slice_at};
use dormouse_filesystem::ext::directory;
use dormouse_filesystem::ext::features::{
    BIGALLOC, DIR_NLINK, EA_INODE, EXTRA_ISIZE, Features, GDT_CSUM, HUGE_FILE, LARGE_FILE,
    METADATA_CSUM, MMP, ORPHAN_PRESENT, PROJECT, QUOTA, SPARSE_SUPER, VERITY,
};
use dormouse_filesystem::ext::inode;
use dormouse_filesystem::ext::superblock::{OFFSET, STATE_ERROR, STATE_VALID, Superblock};
use dormouse_filesystem::{NodeKind, Time};

use super::core::Core;
use super::descriptors::seal_superblock;
use super::mapping::Mapping;
use super::names::Directory;
use super::quota::Quota;
use super::recover;
use super::space::{Run, Space};
use super::store::{Store, index, put, put32};
use crate::{Attributes, Device, Editor, Room, Staged};

/// Names of one inode (kernel: `EXT4_LINK_MAX`).
pub(super) const MAX_LINKS: u16 = 65000;
/// Longest target of a symbolic link (Linux: `PATH_MAX`, less its NUL).
const MAX_TARGET: usize = 4095;
/// Read-only compatible features that are kept up when writing.
const KEPT: u32 = SPARSE_SUPER
    | LARGE_FILE
    | HUGE_FILE
    | GDT_CSUM
    | DIR_NLINK
    | EXTRA_ISIZE
    | METADATA_CSUM
    | ORPHAN_PRESENT
    | BIGALLOC
    | QUOTA
    | PROJECT
    // Bytes of a file are never changed in place, so a file with a Merkle tree stays what its tree says.
    | VERITY;
/// Incompatible features that are read but not kept up.
const NOT_KEPT: u32 = EA_INODE;

/// How to edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The time of changes that the caller gives no time for: directories that get or lose names, removed inodes.
    pub now: Time,
}

/// Bytes that were written and that no inode has yet.
pub(super) struct Content {
    pub(super) size: u64,
    pub(super) runs: Vec<Run>,
}

/// Changes one ext4 filesystem. Directories whose names change get the time `now`, unless the caller set their
/// attributes through this editor.
pub struct Ext4Editor {
    pub(super) core: Core<Arc<dyn Device>>,
    pub(super) superblock: Vec<u8>,
    pub(super) directories: HashMap<u32, Directory>,
    pub(super) times_given: HashSet<u32>,
    pub(super) operations: u64,
    staged: HashMap<u64, Content>,
    next_staged: u64,
}

fn missing(path: &GuestPath) -> Error {
    Error::denied(format!("there is no {path}"))
}

impl Ext4Editor {
    /// Opens the filesystem on `device`; its journal and orphans are dealt with at once.
    ///
    /// # Errors
    /// `Unsupported` for features that are not kept up, by name and before anything is written; `Denied` for a
    /// filesystem that e2fsck must see first; `Corrupt` for a broken one.
    pub fn open(device: Arc<dyn Device>, options: Options) -> Result<Self> {
        let bytes = dormouse_block::read_vec_at(&*device, OFFSET, 1024)?;
        let sb = Superblock::parse(&bytes)?;
        check_editable(&sb)?;
        if sb.bytes() > device.len() {
            return Err(Error::corrupt("a filesystem larger than its volume"));
        }
        if sb.features.incompat(MMP) {
            check_not_in_use(&*device, &sb, &bytes)?;
        }
        let mut bytes = recover::replay(&device)?;
        let sb = Superblock::parse(&bytes)?;
        check_editable(&sb)?;
        let mut store = Store::new(device, sb.block_log);
        let space = Space::read(&sb, &mut store)?;
        let mut core = Core {
            quota: Quota::of(&sb),
            sb,
            store,
            space,
            now: options.now,
        };
        core.guard_journal()?;
        core.read_quota()?;
        if core.sb.last_orphan != 0 {
            core.clear_orphan_list(core.sb.last_orphan)?;
            put32(&mut bytes, 0xE8, 0)?;
        }
        if core.sb.features.ro_compat(ORPHAN_PRESENT) {
            core.clear_orphan_file(core.sb.orphan_file_inode)?;
            let kept = le_u32(&bytes, 0x64)? & !ORPHAN_PRESENT;
            put32(&mut bytes, 0x64, u64::from(kept))?;
        }
        Ok(Self {
            core,
            superblock: bytes,
            directories: HashMap::new(),
            times_given: HashSet::new(),
            operations: 0,
            staged: HashMap::new(),
            next_staged: 0,
        })
    }
}

impl Editor for Ext4Editor {
    fn free_bytes(&self) -> u64 {
        self.core
            .space
            .free_blocks()
            .saturating_sub(self.core.sb.reserved_blocks)
            .saturating_mul(u64::from(self.core.sb.block_size()))
    }

    fn free_nodes(&self) -> u64 {
        self.core.space.free_inodes()
    }

    fn room(&self) -> Room {
        let sb = &self.core.sb;
        let block = u64::from(sb.block_size());
        let unit = block.saturating_mul(sb.cluster_blocks());
        let fields = inode::OLD_SIZE.saturating_add(36);
        Room {
            unit,
            staged_bytes: self
                .staged
                .values()
                .flat_map(|content| &content.runs)
                .map(|run| u64::from(run.len).saturating_mul(block))
                .fold(0, u64::saturating_add),
            reserved_bytes: sb
                .reserved_blocks
                .min(self.core.space.free_blocks())
                .saturating_mul(block),
            beside: u64::from(sb.inode_size).saturating_sub(super::store::len64(fields)),
        }
    }

    fn make_directory(&mut self, path: &GuestPath, attributes: &Attributes) -> Result<()> {
        self.tidy()?;
        if let Some(number) = self.node_at(path)? {
            let (record, _) = self.core.record(number)?;
            if !record.is_directory()? {
                return Err(Error::denied(format!("{path} is no directory")));
            }
            return self.set_attributes(path, attributes);
        }
        let (parent, name) = self.parent_of(path)?;
        self.check_directory_links(parent)?;
        let mut record = self.new_node(parent, 0x4, attributes)?;
        record.set_links(2)?;
        self.core
            .write_mapping(&mut record, &mut Mapping::default())?;
        let number = record.number;
        let mut directory = Directory::fresh(&self.core.sb, number, parent, record.generation()?);
        if let Err(error) = directory.promise(&mut self.core) {
            self.core.release_record(&mut record)?;
            return Err(error);
        }
        if let Err(error) = self.publish(record, parent, name, NodeKind::Directory) {
            directory.release(&mut self.core);
            return Err(error);
        }
        self.directories.insert(number, directory);
        self.times_given.insert(number);
        self.change_directory_links(parent, true)
    }

    fn put_file(
        &mut self,
        path: &GuestPath,
        attributes: &Attributes,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<()> {
        let (parent, name) = self.place(path)?;
        let content = self.read_content(parent, size, content)?;
        let record = self.new_node(parent, 0x8, attributes);
        self.put_or_free(record, parent, name, NodeKind::File, &content)
    }

    fn stage(&mut self, size: u64, content: &mut dyn Read) -> Result<Staged> {
        self.tidy()?;
        let content = self.read_content(inode::ROOT, size, content)?;
        let number = self.next_staged;
        self.next_staged = number.saturating_add(1);
        self.staged.insert(number, content);
        Ok(Staged(number))
    }

    fn read_staged(&self, staged: Staged, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let content = self
            .staged
            .get(&staged.0)
            .ok_or_else(|| Error::corrupt("nothing is staged under this number"))?;
        let len = index(content.size.saturating_sub(offset)).min(buf.len());
        let mut done = 0;
        // Where the run begins in the file.
        let mut start = 0_u64;
        for run in &content.runs {
            let bytes = u64::from(run.len) << self.core.sb.block_log;
            let at = offset.saturating_add(super::store::len64(done));
            let end = start.saturating_add(bytes);
            if at >= start && at < end && done < len {
                let step = index(end.saturating_sub(at)).min(len.saturating_sub(done));
                let from =
                    (run.start << self.core.sb.block_log).saturating_add(at.saturating_sub(start));
                let part = buf
                    .get_mut(done..done.saturating_add(step))
                    .unwrap_or_default();
                self.core.store.read_data(from, part)?;
                done = done.saturating_add(step);
            }
            start = end;
        }
        Ok(done)
    }

    fn put_staged(
        &mut self,
        path: &GuestPath,
        attributes: &Attributes,
        staged: Staged,
    ) -> Result<()> {
        let (parent, name) = self.place(path)?;
        let content = self
            .staged
            .remove(&staged.0)
            .ok_or_else(|| Error::corrupt("nothing is staged under this number"))?;
        let record = self.new_node(parent, 0x8, attributes);
        let (used, done) = match record {
            Ok(record) => self.try_content(record, parent, name, NodeKind::File, &content),
            Err(error) => (false, Err(error)),
        };
        if !used {
            self.staged.insert(staged.0, content);
        }
        done
    }

    fn put_symlink(
        &mut self,
        path: &GuestPath,
        attributes: &Attributes,
        target: &[u8],
    ) -> Result<()> {
        let (parent, name) = self.place(path)?;
        if target.is_empty() || target.contains(&0) {
            return Err(Error::denied(
                "a symbolic link to nothing, or with a NUL in its target",
            ));
        }
        if target.len() > MAX_TARGET.min(self.core.sb.block_len().saturating_sub(1)) {
            return Err(Error::limit("the target of a symbolic link is too long"));
        }
        let mut record = self.new_node(parent, 0xA, attributes)?;
        if target.len() < inode::MAP_SIZE {
            record.set_map(target)?;
            record.set_size(super::store::len64(target.len()))?;
            return self.publish(record, parent, name, NodeKind::Symlink);
        }
        let size = super::store::len64(target.len());
        match self.core.write_content(record.number, size, &mut &*target) {
            Ok(runs) => {
                let content = Content { size, runs };
                self.put_or_free(Ok(record), parent, name, NodeKind::Symlink, &content)
            }
            Err(error) => {
                self.core.release_record(&mut record)?;
                Err(error)
            }
        }
    }

    fn put_special(
        &mut self,
        path: &GuestPath,
        attributes: &Attributes,
        kind: NodeKind,
        device: Option<(u32, u32)>,
    ) -> Result<()> {
        let (parent, name) = self.place(path)?;
        let (bits, device) = match (kind, device) {
            (NodeKind::CharDevice, Some(device)) => (0x2, Some(device)),
            (NodeKind::BlockDevice, Some(device)) => (0x6, Some(device)),
            (NodeKind::Fifo, None) => (0x1, None),
            (NodeKind::Socket, None) => (0xC, None),
            _ => {
                return Err(Error::denied(format!(
                    "{path} is no device, pipe or socket"
                )));
            }
        };
        let mut record = self.new_node(parent, bits, attributes)?;
        if let Some((major, minor)) = device {
            let mut map = [0; 8];
            if major < 256 && minor < 256 {
                put32(&mut map, 0, u64::from(major << 8 | minor))?;
            } else if major < 1 << 12 && minor < 1 << 20 {
                put32(
                    &mut map,
                    4,
                    u64::from(minor & 0xFF | major << 8 | (minor & !0xFF) << 12),
                )?;
            } else {
                self.core.release_record(&mut record)?;
                return Err(Error::unsupported("a device number of more than 32 bits"));
            }
            record.set_map(&map)?;
        }
        self.publish(record, parent, name, kind)
    }

    fn link(&mut self, existing: &GuestPath, path: &GuestPath) -> Result<()> {
        let number = self.node_at(existing)?.ok_or_else(|| missing(existing))?;
        let (mut record, inode) = self.core.record(number)?;
        let kind = inode.kind().ok_or_else(|| missing(existing))?;
        if kind == NodeKind::Directory {
            return Err(Error::denied(format!("{existing} is a directory")));
        }
        let (parent, name) = self.place(path)?;
        if self
            .look_up(parent, name)?
            .is_some_and(|found| found.inode == number)
        {
            return Ok(());
        }
        let links = record.links()?;
        if links >= MAX_LINKS {
            return Err(Error::limit(format!("{existing} has too many names")));
        }
        self.check_project(parent, &record, path)?;
        record.set_links(links.saturating_add(1))?;
        record.set_ctime(self.core.now)?;
        self.core.put_record(&mut record)?;
        let entered = self.enter(parent, name, number, kind);
        if entered.is_err() {
            record.set_links(links)?;
            self.core.put_record(&mut record)?;
        }
        entered
    }

    fn rename(&mut self, from: &GuestPath, to: &GuestPath) -> Result<()> {
        self.tidy()?;
        let (old_parent, old_name) = self.parent_of(from)?;
        let found = self
            .look_up(old_parent, old_name)?
            .ok_or_else(|| missing(from))?;
        let (parent, name) = self.parent_of(to)?;
        let directory = self.is_directory(found)?;
        let inside = to.components().count() > from.components().count()
            && from
                .components()
                .zip(to.components())
                .all(|(one, two)| one == two);
        if directory && inside {
            return Err(Error::denied(format!("{to} lies inside {from}")));
        }
        let target = self.look_up(parent, name)?;
        if target.is_some_and(|target| target.inode == found.inode) {
            return Ok(());
        }
        let mut over_directory = false;
        if let Some(target) = target {
            over_directory = self.is_directory(target)?;
            if over_directory != directory {
                return Err(Error::denied(format!(
                    "{to} is of another kind than {from}"
                )));
            }
            if over_directory && !self.is_empty(target.inode)? {
                return Err(Error::denied(format!("{to} is not empty")));
            }
        }
        if directory && parent != old_parent && !over_directory {
            self.check_directory_links(parent)?;
        }
        let (mut record, inode) = self.core.record(found.inode)?;
        self.check_project(parent, &record, to)?;
        let kind = inode.kind().map_or(found.kind, directory::stored_kind);
        match target {
            Some(target) => {
                self.with(parent, |core, dir| {
                    dir.replace(core, name, found.inode, kind)
                })?;
                if over_directory {
                    self.remove_directory(target.inode, parent)?;
                } else {
                    self.drop_link(target.inode)?;
                }
            }
            None => self.with(parent, |core, dir| dir.add(core, name, found.inode, kind))?,
        }
        self.with(old_parent, |core, dir| dir.remove(core, old_name))?;
        record.set_ctime(self.core.now)?;
        self.core.put_record(&mut record)?;
        if directory && parent != old_parent {
            self.with(found.inode, |core, dir| dir.set_parent(core, parent))?;
            self.change_directory_links(old_parent, false)?;
            self.change_directory_links(parent, true)?;
        }
        Ok(())
    }

    fn remove(&mut self, path: &GuestPath) -> Result<()> {
        self.tidy()?;
        let (parent, name) = self.parent_of(path)?;
        let found = self.look_up(parent, name)?.ok_or_else(|| missing(path))?;
        let directory = self.is_directory(found)?;
        if directory && !self.is_empty(found.inode)? {
            return Err(Error::denied(format!("{path} is not empty")));
        }
        self.with(parent, |core, dir| dir.remove(core, name))?;
        if directory {
            self.remove_directory(found.inode, parent)
        } else {
            self.drop_link(found.inode)
        }
    }

    fn set_attributes(&mut self, path: &GuestPath, attributes: &Attributes) -> Result<()> {
        self.tidy()?;
        let number = self.node_at(path)?.ok_or_else(|| missing(path))?;
        let (mut record, _) = self.core.record(number)?;
        self.core.write_attributes(&mut record, attributes)?;
        self.core.put_record(&mut record)?;
        if record.is_directory()? {
            self.times_given.insert(number);
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let left: Vec<Content> = std::mem::take(&mut self.staged).into_values().collect();
        for content in &left {
            self.free_content(content)?;
        }
        self.write_directories()?;
        let core = &mut self.core;
        core.write_quota()?;
        core.space.flush(&core.sb, &mut core.store)?;
        seal_superblock(&core.sb, &core.space, &mut self.superblock)?;
        let within = index(OFFSET & u64::from(core.sb.block_size().saturating_sub(1)));
        put(
            core.store.modify(OFFSET >> core.sb.block_log)?,
            within,
            &self.superblock,
        )?;
        core.store.flush()
    }
}

/// Refuses what is not kept up.
fn check_editable(sb: &Superblock) -> Result<()> {
    let refused = Features {
        compat: 0,
        incompat: sb.features.incompat & NOT_KEPT,
        ro_compat: sb.features.ro_compat & !KEPT,
    };
    let names = refused.names();
    if !names.is_empty() {
        return Err(Error::unsupported(format!(
            "an ext filesystem with {} is not edited",
            names.join(", ")
        )));
    }
    if sb.features.ro_compat(BIGALLOC) && sb.first_data_block != 0 {
        return Err(Error::corrupt("clusters that do not begin at block 0"));
    }
    if sb.state & STATE_ERROR != 0 || sb.state & STATE_VALID == 0 {
        return Err(Error::denied(
            "the filesystem was not left clean or is marked as having errors; e2fsck must check it first",
        ));
    }
    Ok(())
}

/// Multiple mount protection: some host may have it mounted.
fn check_not_in_use(device: &dyn Device, sb: &Superblock, bytes: &[u8]) -> Result<()> {
    const CLEAN: u32 = 0xFF4D_4D50;
    let block = dormouse_block::le_u64(bytes, 0x168)?;
    sb.check_blocks(block, 1)?;
    let mmp = dormouse_block::read_vec_at(device, block << sb.block_log, 16)?;
    if le_u32(slice_at(&mmp, 4, 4)?, 0)? != CLEAN {
        return Err(Error::denied(
            "the filesystem is marked as mounted by some host",
        ));
    }
    Ok(())
}
