//! The editor of ext4: operations by path.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;

use dormouse_block::{Error, GuestPath, Result, le_u32, slice_at};
use dormouse_filesystem::ext::directory;
use dormouse_filesystem::ext::features::{
    CASEFOLD, DIR_NLINK, EA_INODE, ENCRYPT, EXTRA_ISIZE, Features, GDT_CSUM, HUGE_FILE, LARGE_FILE,
    METADATA_CSUM, MMP, ORPHAN_PRESENT, SPARSE_SUPER,
};
use dormouse_filesystem::ext::inode;
use dormouse_filesystem::ext::superblock::{OFFSET, STATE_ERROR, STATE_VALID, Superblock};
use dormouse_filesystem::{NodeKind, Time};

use super::core::Core;
use super::mapping::Mapping;
use super::names::{Directory, Name};
use super::record::Record;
use super::recover;
use super::space::{Run, Space, seal_superblock};
use super::store::{Store, index, put, put32};
use crate::{Attributes, Device, Editor, Staged};

/// Names of all directories that are kept in memory; above this those that are known are written and forgotten.
const MAX_LOADED: usize = 1 << 21;
/// Names of one inode (kernel: `EXT4_LINK_MAX`).
const MAX_LINKS: u16 = 65000;
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
    | ORPHAN_PRESENT;
/// Incompatible features that are read but not kept up.
const NOT_KEPT: u32 = EA_INODE | ENCRYPT | CASEFOLD;

/// How to edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The time of changes that the caller gives no time for: directories that get or lose names, removed inodes.
    pub now: Time,
}

/// Bytes that were written and that no inode has yet.
struct Content {
    size: u64,
    runs: Vec<Run>,
}

/// Changes one ext4 filesystem. Directories whose names change get the time `now`, unless the caller set their
/// attributes through this editor.
pub struct Ext4Editor {
    core: Core<Arc<dyn Device>>,
    superblock: Vec<u8>,
    directories: HashMap<u32, Directory>,
    times_given: HashSet<u32>,
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
            sb,
            store,
            space,
            now: options.now,
        };
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
            staged: HashMap::new(),
            next_staged: 0,
        })
    }

    /// Runs `change` on directory `number`, which is read when it is not in memory.
    fn with<T>(
        &mut self,
        number: u32,
        change: impl FnOnce(&mut Core<Arc<dyn Device>>, &mut Directory) -> Result<T>,
    ) -> Result<T> {
        let mut directory = match self.directories.remove(&number) {
            Some(directory) => directory,
            None => Directory::load(&mut self.core, number)?,
        };
        let result = change(&mut self.core, &mut directory);
        self.directories.insert(number, directory);
        result
    }

    fn look_up(&mut self, number: u32, name: &[u8]) -> Result<Option<Name>> {
        self.with(number, |_, directory| {
            Ok(directory.names.get(name).copied())
        })
    }

    fn is_directory(&mut self, name: Name) -> Result<bool> {
        match directory::kind(name.kind) {
            Some(kind) => Ok(kind == NodeKind::Directory),
            None => self.core.record(name.inode)?.0.is_directory(),
        }
    }

    /// The directory that holds `path`, and its last name; the root has none.
    fn parent_of<'p>(&mut self, path: &'p GuestPath) -> Result<(u32, &'p [u8])> {
        let mut names: Vec<&[u8]> = path.components().collect();
        let last = names
            .pop()
            .ok_or_else(|| Error::denied("the root has no name"))?;
        let mut at = inode::ROOT;
        for name in names {
            let found = self
                .look_up(at, name)?
                .ok_or_else(|| Error::denied(format!("a parent of {path} does not exist")))?;
            if !self.is_directory(found)? {
                return Err(Error::denied(format!("a parent of {path} is no directory")));
            }
            at = found.inode;
        }
        Ok((at, last))
    }

    /// The inode at `path`.
    fn node_at(&mut self, path: &GuestPath) -> Result<Option<u32>> {
        if path.is_root() {
            return Ok(Some(inode::ROOT));
        }
        let (parent, name) = self.parent_of(path)?;
        Ok(self.look_up(parent, name)?.map(|name| name.inode))
    }

    /// Where a new non-directory goes: its parent and name. What is there already must not be a directory.
    fn place<'p>(&mut self, path: &'p GuestPath) -> Result<(u32, &'p [u8])> {
        self.tidy()?;
        let (parent, name) = self.parent_of(path)?;
        if let Some(found) = self.look_up(parent, name)?
            && self.is_directory(found)?
        {
            return Err(Error::denied(format!("{path} is a directory")));
        }
        Ok((parent, name))
    }

    /// Lets `name` of `parent` lead to `inode`; what it led to loses that name.
    fn enter(&mut self, parent: u32, name: &[u8], inode: u32, kind: NodeKind) -> Result<()> {
        let kind = directory::stored_kind(kind);
        match self.look_up(parent, name)? {
            Some(old) => {
                self.with(parent, |core, directory| {
                    directory.replace(core, name, inode, kind)
                })?;
                self.drop_link(old.inode)
            }
            None => self.with(parent, |core, directory| {
                directory.add(core, name, inode, kind)
            }),
        }
    }

    /// An inode that is no directory loses a name.
    fn drop_link(&mut self, number: u32) -> Result<()> {
        let (mut record, _) = self.core.record(number)?;
        match record.links()? {
            0 | 1 => self.core.release_record(&mut record),
            links => {
                record.set_links(links.saturating_sub(1))?;
                record.set_ctime(self.core.now)?;
                self.core.put_record(&mut record)
            }
        }
    }

    /// A directory gains or loses a subdirectory.
    fn change_directory_links(&mut self, number: u32, gained: bool) -> Result<()> {
        let (mut record, _) = self.core.record(number)?;
        let links = record.links()?;
        // 1 means more than can be counted.
        let links = match (links, gained) {
            (1, _) => 1,
            (_, true) if links.saturating_add(1) >= MAX_LINKS => 1,
            (_, true) => links.saturating_add(1),
            (_, false) => links.saturating_sub(1).max(2),
        };
        record.set_links(links)?;
        self.core.put_record(&mut record)
    }

    fn check_directory_links(&mut self, number: u32) -> Result<()> {
        let (record, _) = self.core.record(number)?;
        if record.links()?.saturating_add(1) >= MAX_LINKS
            && !self.core.sb.features.ro_compat(DIR_NLINK)
        {
            return Err(Error::limit("a directory with too many subdirectories"));
        }
        Ok(())
    }

    /// A new inode of `kind` with one name and these attributes; nothing leads to it yet.
    fn new_node(&mut self, parent: u32, kind: u16, attributes: &Attributes) -> Result<Record> {
        let mut record = self.core.new_record(parent, kind << 12)?;
        let filled = self.fill_node(&mut record, attributes);
        match filled {
            Ok(()) => Ok(record),
            Err(error) => {
                record.set_links(0)?;
                self.core.release_record(&mut record)?;
                Err(error)
            }
        }
    }

    fn fill_node(&mut self, record: &mut Record, attributes: &Attributes) -> Result<()> {
        record.set_links(1)?;
        record.set_atime(attributes.mtime)?;
        record.set_crtime(attributes.mtime)?;
        self.core.write_attributes(record, attributes)
    }

    /// Puts a finished inode under its name; when that fails nothing is left of it.
    fn publish(
        &mut self,
        mut record: Record,
        parent: u32,
        name: &[u8],
        kind: NodeKind,
    ) -> Result<()> {
        self.core.put_record(&mut record)?;
        if let Err(error) = self.enter(parent, name, record.number, kind) {
            if self
                .look_up(parent, name)?
                .is_none_or(|found| found.inode != record.number)
            {
                self.core.release_record(&mut record)?;
            }
            return Err(error);
        }
        Ok(())
    }

    /// Gives a new inode its blocks.
    fn set_content(&mut self, record: &mut Record, content: &Content) -> Result<()> {
        let mut mapping = Mapping::of_runs(&content.runs);
        self.core.write_mapping(record, &mut mapping)?;
        let attributes = u64::from(record.attribute_block()? != 0);
        let blocks = mapping.all_blocks().saturating_add(attributes);
        record.set_blocks(&self.core.sb, blocks)?;
        record.set_size(content.size)?;
        if content.size > i32::MAX.cast_unsigned().into() {
            let features = le_u32(&self.superblock, 0x64)? | LARGE_FILE;
            put32(&mut self.superblock, 0x64, u64::from(features))?;
        }
        Ok(())
    }

    fn put_content(
        &mut self,
        parent: u32,
        name: &[u8],
        attributes: &Attributes,
        content: &Content,
    ) -> Result<()> {
        let mut record = self.new_node(parent, 0x8, attributes)?;
        if let Err(error) = self.set_content(&mut record, content) {
            // The blocks stay the caller's.
            record.set_flags(0)?;
            record.set_map(&[])?;
            self.core.release_record(&mut record)?;
            return Err(error);
        }
        self.publish(record, parent, name, NodeKind::File)
    }

    fn check_room(&self, size: u64) -> Result<()> {
        if size > self.free_bytes() {
            return Err(Error::limit(format!(
                "no space left: {size} bytes are wanted and {} are free",
                self.free_bytes()
            )));
        }
        Ok(())
    }

    fn read_content(&mut self, near: u32, size: u64, content: &mut dyn Read) -> Result<Content> {
        self.check_room(size)?;
        let runs = self.core.write_content(near, size, content)?;
        Ok(Content { size, runs })
    }

    fn free_content(&mut self, content: &Content) -> Result<()> {
        for run in &content.runs {
            self.core.give_blocks(run.start, u64::from(run.len))?;
        }
        Ok(())
    }

    /// Between two operations: what is in memory is bounded.
    fn tidy(&mut self) -> Result<()> {
        let loaded: usize = self
            .directories
            .values()
            .map(|directory| directory.names.len())
            .sum();
        if self.directories.len() > MAX_LOADED >> 8 || loaded > MAX_LOADED {
            self.write_directories()?;
            self.directories.clear();
        }
        self.core.store.trim()
    }

    fn write_directories(&mut self) -> Result<()> {
        let mut numbers: Vec<u32> = self.directories.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let given = self.times_given.contains(&number);
            self.with(number, |core, directory| {
                if directory.is_stale() {
                    core.write_directory(directory)?;
                }
                if std::mem::take(&mut directory.touched) && !given {
                    let (mut record, _) = core.record(number)?;
                    record.set_mtime(core.now)?;
                    record.set_ctime(core.now)?;
                    core.put_record(&mut record)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn remove_directory(&mut self, number: u32, parent: u32) -> Result<()> {
        let mut directory = match self.directories.remove(&number) {
            Some(directory) => directory,
            None => Directory::load(&mut self.core, number)?,
        };
        directory.release(&mut self.core);
        self.times_given.remove(&number);
        let (mut record, _) = self.core.record(number)?;
        self.core.release_record(&mut record)?;
        self.change_directory_links(parent, false)
    }

    fn is_empty(&mut self, number: u32) -> Result<bool> {
        self.with(number, |_, directory| Ok(directory.names.is_empty()))
    }
}

impl<D: Device> Core<D> {
    fn write_attributes(&mut self, record: &mut Record, attributes: &Attributes) -> Result<()> {
        let kind = record.mode()? & 0xF000;
        record.set_mode(kind | attributes.mode & 0o7777)?;
        record.set_owner(attributes.uid, attributes.gid)?;
        record.set_mtime(attributes.mtime)?;
        record.set_ctime(attributes.mtime)?;
        self.set_xattrs(record, &attributes.xattrs)
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
        let done = self.put_content(parent, name, attributes, &content);
        if done.is_err() && self.look_up(parent, name).is_ok_and(|name| name.is_none()) {
            self.free_content(&content).ok();
        }
        done
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
        let done = self.put_content(parent, name, attributes, &content);
        if done.is_err() && self.look_up(parent, name).is_ok_and(|name| name.is_none()) {
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
        let done = self
            .core
            .write_content(record.number, size, &mut &*target)
            .and_then(|runs| self.set_content(&mut record, &Content { size, runs }));
        if let Err(error) = done {
            self.core.release_record(&mut record)?;
            return Err(error);
        }
        self.publish(record, parent, name, NodeKind::Symlink)
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
