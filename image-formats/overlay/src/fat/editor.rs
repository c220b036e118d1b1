//! The editor of FAT: operations by path.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use dormouse_block::{Error, GuestPath, Result};
use dormouse_filesystem::NodeKind;
use dormouse_filesystem::fat::boot::Kind;
use dormouse_filesystem::fat::entry::{ARCHIVE, DIRECTORY, Entry, READ_ONLY, kept};

use super::clusters::{Clusters, Runs};
use super::folder::{Folder, ROOT};
use crate::{Attributes, Device, Editor, Room, Staged};

/// Folders kept in memory; above this those that changed are written and all are forgotten.
const MAX_FOLDERS: usize = 4096;

/// Bytes that were written and that no name has yet.
struct Content {
    size: u64,
    runs: Runs,
}

impl Content {
    fn first(&self) -> u32 {
        self.runs.first().map_or(0, |(first, _)| *first)
    }
}

/// Changes one FAT volume.
pub struct FatEditor {
    clusters: Clusters,
    folders: HashMap<u32, Folder>,
    staged: HashMap<u64, Content>,
    next_staged: u64,
}

fn missing(path: &GuestPath) -> Error {
    Error::denied(format!("there is no {path}"))
}

fn text(name: &[u8]) -> Result<&str> {
    std::str::from_utf8(name).map_err(|_| Error::denied("FAT holds only names in UTF-8"))
}

impl FatEditor {
    /// Opens the volume on `device`.
    ///
    /// # Errors
    /// `Denied` for a volume that fsck.fat must see first; `Limit` for one of too many clusters; `Corrupt` for a broken
    /// one.
    pub fn open(device: Arc<dyn Device>) -> Result<Self> {
        Ok(Self {
            clusters: Clusters::open(device)?,
            folders: HashMap::new(),
            staged: HashMap::new(),
            next_staged: 0,
        })
    }

    fn folder(&mut self, first: u32) -> Result<&mut Folder> {
        // The root of FAT32 has a number as well.
        let first = if first == self.clusters.boot.root_cluster {
            ROOT
        } else {
            first
        };
        if !self.folders.contains_key(&first) {
            if self.folders.len() >= MAX_FOLDERS {
                self.flush_folders()?;
                self.folders.clear();
            }
            let folder = Folder::load(&self.clusters, first)?;
            self.folders.insert(first, folder);
        }
        self.folders
            .get_mut(&first)
            .ok_or_else(|| Error::corrupt("a folder was lost"))
    }

    fn flush_folders(&mut self) -> Result<()> {
        let mut order: Vec<u32> = self.folders.keys().copied().collect();
        order.sort_unstable();
        for first in order {
            if let Some(folder) = self.folders.get_mut(&first) {
                folder.flush(&self.clusters)?;
            }
        }
        Ok(())
    }

    fn look_up(&mut self, folder: u32, name: &str) -> Result<Option<Entry>> {
        Ok(self
            .folder(folder)?
            .find(name)
            .map(|found| found.entry.clone()))
    }

    /// The folder that holds `path`, and its last name.
    fn parent_of<'p>(&mut self, path: &'p GuestPath) -> Result<(u32, &'p str)> {
        let mut names: Vec<&[u8]> = path.components().collect();
        let last = names
            .pop()
            .ok_or_else(|| Error::denied("the root has no name"))?;
        let mut at = ROOT;
        for name in names {
            let found = self
                .look_up(at, text(name)?)?
                .ok_or_else(|| Error::denied(format!("a parent of {path} does not exist")))?;
            if !found.is_directory() {
                return Err(Error::denied(format!("a parent of {path} is no directory")));
            }
            at = Self::start_of(&found)?;
        }
        Ok((at, text(last)?))
    }

    /// The first cluster of a folder.
    fn start_of(entry: &Entry) -> Result<u32> {
        match entry.cluster {
            0 => Err(Error::corrupt("a folder without clusters")),
            first => Ok(first),
        }
    }

    fn entry(&self, attributes: &Attributes, bits: u8, cluster: u32, size: u32) -> Entry {
        let read_only = if attributes.mode & 0o222 == 0 {
            READ_ONLY
        } else {
            0
        };
        Entry {
            short: [b' '; 11],
            attributes: bits | read_only,
            lower: (false, false),
            cluster,
            size,
            mtime: kept(attributes.mtime),
            atime: kept(attributes.mtime),
        }
    }

    /// Writes bytes into clusters of their own.
    fn write(&mut self, size: u64, content: &mut dyn Read) -> Result<Content> {
        if u32::try_from(size).is_err() {
            return Err(Error::limit("a file of more than 4 GiB cannot be on FAT"));
        }
        let wanted = size.div_ceil(u64::from(self.clusters.boot.cluster));
        let runs = self
            .clusters
            .take(u32::try_from(wanted).unwrap_or(u32::MAX))?;
        let content_of = Content { size, runs };
        match self.clusters.write(&content_of.runs, size, content) {
            Ok(()) => Ok(content_of),
            Err(error) => {
                self.clusters.give(content_of.first())?;
                Err(error)
            }
        }
    }

    /// Puts bytes that are written under a name.
    fn enter(
        &mut self,
        path: &GuestPath,
        attributes: &Attributes,
        content: &Content,
    ) -> Result<()> {
        check_attributes(attributes)?;
        let (parent, name) = self.parent_of(path)?;
        let size = u32::try_from(content.size)
            .map_err(|_| Error::limit("a file of more than 4 GiB cannot be on FAT"))?;
        let fresh = self.entry(attributes, ARCHIVE, content.first(), size);
        match self.look_up(parent, name)? {
            Some(old) if old.is_directory() => Err(Error::denied(format!("{path} is a directory"))),
            Some(old) => {
                self.clusters.give(old.cluster)?;
                self.folder(parent)?.change(name, |entry| {
                    *entry = Entry {
                        short: entry.short,
                        lower: entry.lower,
                        ..fresh
                    };
                })
            }
            None => self.add(parent, name, fresh),
        }
    }

    /// By which number the folder that begins at `first` is known.
    fn key(&self, first: u32) -> u32 {
        if first == self.clusters.boot.root_cluster {
            ROOT
        } else {
            first
        }
    }

    /// As [`FatEditor::folder`], with the clusters beside it.
    fn add(&mut self, parent: u32, name: &str, entry: Entry) -> Result<()> {
        self.folder(parent)?;
        let key = self.key(parent);
        let folder = self.folders.get_mut(&key);
        let folder = folder.ok_or_else(|| Error::corrupt("a folder was lost"))?;
        folder.add(&mut self.clusters, name, entry)
    }

    fn refuse(path: &GuestPath, what: &str) -> Error {
        Error::unsupported(format!("FAT cannot hold {what}: {path}"))
    }
}

fn check_attributes(attributes: &Attributes) -> Result<()> {
    if attributes.xattrs.is_empty() {
        return Ok(());
    }
    Err(Error::unsupported("FAT cannot hold extended attributes"))
}

impl Editor for FatEditor {
    fn free_bytes(&self) -> u64 {
        u64::from(self.clusters.free()).saturating_mul(u64::from(self.clusters.boot.cluster))
    }

    fn free_nodes(&self) -> u64 {
        // Every entry of a folder that would take all that is free.
        self.free_bytes() / 32
    }

    fn room(&self) -> Room {
        Room {
            unit: u64::from(self.clusters.boot.cluster),
            staged_bytes: self
                .staged
                .values()
                .map(|content| {
                    content
                        .size
                        .next_multiple_of(u64::from(self.clusters.boot.cluster))
                })
                .fold(0, u64::saturating_add),
            reserved_bytes: 0,
            beside: u64::MAX,
        }
    }

    fn make_directory(&mut self, path: &GuestPath, attributes: &Attributes) -> Result<()> {
        check_attributes(attributes)?;
        if path.is_root() {
            return Ok(());
        }
        let (parent, name) = self.parent_of(path)?;
        match self.look_up(parent, name)? {
            Some(old) if old.is_directory() => return self.set_attributes(path, attributes),
            Some(_) => return Err(Error::denied(format!("{path} is no directory"))),
            None => {}
        }
        let mut entry = self.entry(attributes, DIRECTORY, 0, 0);
        // `..` of a folder in the root says 0, with FAT32 as well.
        let above = self.key(parent);
        let (own, folder) = Folder::fresh(&mut self.clusters, above, &entry)?;
        entry.cluster = own;
        if let Err(error) = self.add(parent, name, entry) {
            self.clusters.give(own)?;
            return Err(error);
        }
        self.folders.insert(own, folder);
        Ok(())
    }

    fn put_file(
        &mut self,
        path: &GuestPath,
        attributes: &Attributes,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<()> {
        let content = self.write(size, content)?;
        let done = self.enter(path, attributes, &content);
        if done.is_err() {
            self.clusters.give(content.first())?;
        }
        done
    }

    fn stage(&mut self, size: u64, content: &mut dyn Read) -> Result<Staged> {
        let content = self.write(size, content)?;
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
        self.clusters.read(&content.runs, content.size, offset, buf)
    }

    fn put_staged(
        &mut self,
        path: &GuestPath,
        attributes: &Attributes,
        staged: Staged,
    ) -> Result<()> {
        let content = self
            .staged
            .remove(&staged.0)
            .ok_or_else(|| Error::corrupt("nothing is staged under this number"))?;
        let done = self.enter(path, attributes, &content);
        if done.is_err() {
            self.staged.insert(staged.0, content);
        }
        done
    }

    fn put_symlink(&mut self, path: &GuestPath, _: &Attributes, _: &[u8]) -> Result<()> {
        Err(Self::refuse(path, "symbolic links"))
    }

    fn put_special(
        &mut self,
        path: &GuestPath,
        _: &Attributes,
        _: NodeKind,
        _: Option<(u32, u32)>,
    ) -> Result<()> {
        Err(Self::refuse(path, "devices, pipes and sockets"))
    }

    fn link(&mut self, _: &GuestPath, path: &GuestPath) -> Result<()> {
        Err(Self::refuse(path, "hard links"))
    }

    fn rename(&mut self, from: &GuestPath, to: &GuestPath) -> Result<()> {
        let (old_parent, old_name) = self.parent_of(from)?;
        let moved = self
            .look_up(old_parent, old_name)?
            .ok_or_else(|| missing(from))?;
        let (parent, name) = self.parent_of(to)?;
        let directory = moved.is_directory();
        if directory {
            // Up from where it goes: not through itself.
            let mut inside = to.parent();
            while let Some(at) = inside.filter(|at| !at.is_root()) {
                let (above, last) = self.parent_of(&at)?;
                let entry = self.look_up(above, last)?;
                if entry.is_some_and(|entry| entry.cluster == moved.cluster) {
                    return Err(Error::denied(format!("{to} lies inside {from}")));
                }
                inside = at.parent();
            }
        }
        if let Some(standing) = self.look_up(parent, name)? {
            let same = parent == old_parent
                && self.folder(parent)?.find(name).map(|found| found.slot)
                    == self.folder(parent)?.find(old_name).map(|found| found.slot);
            if !same {
                if standing.is_directory() != directory {
                    return Err(Error::denied(format!(
                        "{to} is of another kind than {from}"
                    )));
                }
                self.remove(to)?;
            }
        }
        let found = self.folder(old_parent)?.remove(old_name)?;
        if let Err(error) = self.add(parent, name, found.entry.clone()) {
            // Back to where it was: its entries are free again.
            self.add(old_parent, &found.name, found.entry)?;
            return Err(error);
        }
        if directory && parent != old_parent {
            let above = self.key(parent);
            let high = self.clusters.boot.kind == Kind::Fat32;
            self.folder(Self::start_of(&moved)?)?
                .set_parent(above, high)?;
        }
        Ok(())
    }

    fn remove(&mut self, path: &GuestPath) -> Result<()> {
        let (parent, name) = self.parent_of(path)?;
        let entry = self.look_up(parent, name)?.ok_or_else(|| missing(path))?;
        if entry.is_directory() {
            let first = Self::start_of(&entry)?;
            if first == parent || !self.folder(first)?.is_empty() {
                return Err(Error::denied(format!("{path} is not empty")));
            }
            self.folders.remove(&first);
        }
        self.folder(parent)?.remove(name)?;
        self.clusters.give(entry.cluster)
    }

    fn set_attributes(&mut self, path: &GuestPath, attributes: &Attributes) -> Result<()> {
        check_attributes(attributes)?;
        if path.is_root() {
            return Ok(());
        }
        let (parent, name) = self.parent_of(path)?;
        if self.look_up(parent, name)?.is_none() {
            return Err(missing(path));
        }
        let time = kept(attributes.mtime);
        let read_only = attributes.mode & 0o222 == 0;
        self.folder(parent)?.change(name, |entry| {
            entry.mtime = time;
            if !entry.is_directory() {
                entry.attributes = entry.attributes & !READ_ONLY | u8::from(read_only);
            }
        })
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        for content in std::mem::take(&mut self.staged).into_values() {
            self.clusters.give(content.first())?;
        }
        self.flush_folders()?;
        self.clusters.flush()
    }
}
