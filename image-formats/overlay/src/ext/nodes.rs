//! Names and inodes behind the operations: looking up, entering, publishing, unlinking.

use std::io::Read;
use std::sync::Arc;

use dormouse_block::{Error, GuestPath, Result, le_u32};
use dormouse_filesystem::NodeKind;
use dormouse_filesystem::ext::directory;
use dormouse_filesystem::ext::features::{DIR_NLINK, LARGE_FILE};
use dormouse_filesystem::ext::inode;

use super::core::Core;
use super::editor::{Content, Ext4Editor, MAX_LINKS};
use super::mapping::Mapping;
use super::names::{Directory, Name};
use super::record::Record;
use super::store::put32;
use crate::{Attributes, Device, Editor};

/// Names of all directories that are kept in memory; above this those that are known are written and forgotten.
const MAX_LOADED: usize = 1 << 21;

impl Ext4Editor {
    /// Runs `change` on directory `number`, which is read when it is not in memory.
    pub(super) fn with<T>(
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

    pub(super) fn look_up(&mut self, number: u32, name: &[u8]) -> Result<Option<Name>> {
        self.with(number, |_, directory| {
            Ok(directory.names.get(name).copied())
        })
    }

    pub(super) fn is_directory(&mut self, name: Name) -> Result<bool> {
        match directory::kind(name.kind) {
            Some(kind) => Ok(kind == NodeKind::Directory),
            None => self.core.record(name.inode)?.0.is_directory(),
        }
    }

    /// The directory that holds `path`, and its last name; the root has none.
    pub(super) fn parent_of<'p>(&mut self, path: &'p GuestPath) -> Result<(u32, &'p [u8])> {
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
    pub(super) fn node_at(&mut self, path: &GuestPath) -> Result<Option<u32>> {
        if path.is_root() {
            return Ok(Some(inode::ROOT));
        }
        let (parent, name) = self.parent_of(path)?;
        Ok(self.look_up(parent, name)?.map(|name| name.inode))
    }

    /// Where a new non-directory goes: its parent and name. What is there already must not be a directory.
    pub(super) fn place<'p>(&mut self, path: &'p GuestPath) -> Result<(u32, &'p [u8])> {
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
    pub(super) fn enter(
        &mut self,
        parent: u32,
        name: &[u8],
        inode: u32,
        kind: NodeKind,
    ) -> Result<()> {
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
    pub(super) fn drop_link(&mut self, number: u32) -> Result<()> {
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
    pub(super) fn change_directory_links(&mut self, number: u32, gained: bool) -> Result<()> {
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

    pub(super) fn check_directory_links(&mut self, number: u32) -> Result<()> {
        let (record, _) = self.core.record(number)?;
        if record.links()?.saturating_add(1) >= MAX_LINKS
            && !self.core.sb.features.ro_compat(DIR_NLINK)
        {
            return Err(Error::limit("a directory with too many subdirectories"));
        }
        Ok(())
    }

    /// Nothing is moved or linked into a directory that hands its project down to others (kernel: `EXDEV`).
    pub(super) fn check_project(
        &mut self,
        parent: u32,
        record: &Record,
        path: &GuestPath,
    ) -> Result<()> {
        let above = self.core.raw_record(parent)?;
        if above.has(inode::PROJECT_INHERIT)? && above.project()? != record.project()? {
            return Err(Error::denied(format!(
                "{path} would lie in a directory of another project"
            )));
        }
        Ok(())
    }

    /// A new inode of `kind` with one name and these attributes; nothing leads to it yet.
    pub(super) fn new_node(
        &mut self,
        parent: u32,
        kind: u16,
        attributes: &Attributes,
    ) -> Result<Record> {
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

    pub(super) fn fill_node(&mut self, record: &mut Record, attributes: &Attributes) -> Result<()> {
        record.set_links(1)?;
        record.set_atime(attributes.mtime)?;
        record.set_crtime(attributes.mtime)?;
        self.core.write_attributes(record, attributes)
    }

    /// Puts a finished inode under its name; when that fails nothing is left of it but blocks of data.
    pub(super) fn publish(
        &mut self,
        mut record: Record,
        parent: u32,
        name: &[u8],
        kind: NodeKind,
    ) -> Result<()> {
        self.core.put_record(&mut record)?;
        if let Err(error) = self.enter(parent, name, record.number, kind) {
            if self.leads_elsewhere(parent, name, record.number)? {
                self.core.release_but_content(&mut record)?;
            }
            return Err(error);
        }
        Ok(())
    }

    fn leads_elsewhere(&mut self, parent: u32, name: &[u8], number: u32) -> Result<bool> {
        Ok(self
            .look_up(parent, name)?
            .is_none_or(|found| found.inode != number))
    }

    /// Gives a new inode its blocks.
    pub(super) fn set_content(&mut self, record: &mut Record, content: &Content) -> Result<()> {
        let sb = &self.core.sb;
        let wanted = content.size.div_ceil(u64::from(sb.block_size()));
        let mut mapping = Mapping::of_runs(&content.runs, wanted);
        self.core.write_mapping(record, &mut mapping)?;
        let sb = &self.core.sb;
        let attributes = u64::from(record.attribute_block()? != 0) << sb.cluster_log;
        let blocks = mapping.all_blocks(sb).saturating_add(attributes);
        record.set_blocks(&self.core.sb, blocks)?;
        record.set_size(content.size)?;
        if content.size > i32::MAX.cast_unsigned().into() {
            let features = le_u32(&self.superblock, 0x64)? | LARGE_FILE;
            put32(&mut self.superblock, 0x64, u64::from(features))?;
        }
        Ok(())
    }

    /// Makes an inode of these bytes under its name. When that fails the blocks stay the caller's.
    pub(super) fn put_content(
        &mut self,
        mut record: Record,
        parent: u32,
        name: &[u8],
        kind: NodeKind,
        content: &Content,
    ) -> Result<()> {
        if let Err(error) = self.set_content(&mut record, content) {
            self.core.release_but_content(&mut record)?;
            return Err(error);
        }
        self.publish(record, parent, name, kind)
    }

    /// Makes an inode of these bytes under its name; whether they are used now, and what went wrong.
    pub(super) fn try_content(
        &mut self,
        record: Record,
        parent: u32,
        name: &[u8],
        kind: NodeKind,
        content: &Content,
    ) -> (bool, Result<()>) {
        let number = record.number;
        let done = self.put_content(record, parent, name, kind, content);
        let used = done.is_ok() || matches!(self.leads_elsewhere(parent, name, number), Ok(false));
        (used, done)
    }

    /// As [`Ext4Editor::try_content`]; bytes that are not used are freed.
    pub(super) fn put_or_free(
        &mut self,
        record: Result<Record>,
        parent: u32,
        name: &[u8],
        kind: NodeKind,
        content: &Content,
    ) -> Result<()> {
        let (used, done) = match record {
            Ok(record) => self.try_content(record, parent, name, kind, content),
            Err(error) => (false, Err(error)),
        };
        if !used {
            self.free_content(content)?;
        }
        done
    }

    pub(super) fn check_room(&self, size: u64) -> Result<()> {
        if size > self.free_bytes() {
            return Err(Error::limit(format!(
                "no space left: {size} bytes are wanted and {} are free",
                self.free_bytes()
            )));
        }
        Ok(())
    }

    pub(super) fn read_content(
        &mut self,
        near: u32,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<Content> {
        self.check_room(size)?;
        let runs = self.core.write_content(near, size, content)?;
        Ok(Content { size, runs })
    }

    pub(super) fn free_content(&mut self, content: &Content) -> Result<()> {
        for run in &content.runs {
            self.core.give_blocks(run.start, u64::from(run.len))?;
        }
        Ok(())
    }

    /// Between two operations: what is in memory is bounded.
    pub(super) fn tidy(&mut self) -> Result<()> {
        self.operations = self.operations.wrapping_add(1);
        if !self.operations.is_multiple_of(128) {
            return Ok(());
        }
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

    pub(super) fn write_directories(&mut self) -> Result<()> {
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

    pub(super) fn remove_directory(&mut self, number: u32, parent: u32) -> Result<()> {
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

    pub(super) fn is_empty(&mut self, number: u32) -> Result<bool> {
        self.with(number, |_, directory| Ok(directory.names.is_empty()))
    }
}

impl<D: Device> Core<D> {
    pub(super) fn write_attributes(
        &mut self,
        record: &mut Record,
        attributes: &Attributes,
    ) -> Result<()> {
        let kind = record.mode()? & 0xF000;
        record.set_mode(kind | attributes.mode & 0o7777)?;
        record.set_owner(attributes.uid, attributes.gid)?;
        record.set_mtime(attributes.mtime)?;
        record.set_ctime(attributes.mtime)?;
        self.set_xattrs(record, &attributes.xattrs)
    }
}
