//! Names in the log: what directories lost and got, and the references of inodes that go with them.

use dormouse_block::{Error, Result};

use super::{Gone, Replay, SIZE_AT, range_end, unfit};
use crate::NodeKind;
use crate::btrfs::directory::{self, Entry, Reference, entry_bytes};
use crate::btrfs::key::{self, Key};
use crate::btrfs::overflow;

/// What a directory entry leads to and says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    location: Key,
    kind: u8,
}

impl Named {
    fn of(entry: &Entry<'_>) -> Self {
        Self {
            location: entry.location,
            kind: entry.kind,
        }
    }
}

impl Replay<'_> {
    /// The entry `name` among those of the item at `at`.
    fn named(&self, at: Key, name: &[u8]) -> Result<Option<Named>> {
        let Some(bytes) = self.get(at)? else {
            return Ok(None);
        };
        let entries = directory::entries(&bytes)?;
        Ok(entries
            .iter()
            .find(|entry| entry.name == name)
            .map(Named::of))
    }

    fn remove_entry(&mut self, at: Key, name: &[u8]) -> Result<bool> {
        let Some(bytes) = self.get(at)? else {
            return Ok(false);
        };
        let mut left = Vec::with_capacity(bytes.len());
        for entry in directory::entries(&bytes)? {
            if entry.name != name {
                left.extend_from_slice(entry.bytes);
            }
        }
        let found = left.len() < bytes.len();
        if found {
            self.put_or_delete(at, left)?;
        }
        Ok(found)
    }

    fn references(&self, at: Key) -> Result<Vec<Reference>> {
        match self.get(at)? {
            Some(bytes) => directory::references(at, &bytes),
            None => Ok(Vec::new()),
        }
    }

    /// Whether the log's item at `at` has this name of this directory.
    fn log_refers(&self, at: Key, parent: u64, name: &[u8]) -> Result<bool> {
        let Some(bytes) = self.log.get(&at) else {
            return Ok(false);
        };
        let list = directory::references(at, bytes)?;
        Ok(list
            .iter()
            .any(|one| one.parent == parent && one.name == name))
    }

    fn resize(&mut self, directory: u64, name: &[u8], grows: bool) -> Result<()> {
        let inode = self.inode(directory)?;
        let inode = inode.ok_or_else(|| unfit("a directory is missing"))?;
        // Every name counts twice, once for each of its items.
        let change = u64::try_from(name.len())
            .map_err(|_| overflow())?
            .saturating_mul(2);
        let size = if grows {
            inode.size.saturating_add(change)
        } else {
            inode.size.saturating_sub(change)
        };
        self.change_inode(directory, SIZE_AT, &size.to_le_bytes())
    }

    /// Takes a name out of its directory, and the reference to it out of its inode.
    fn unlink(&mut self, directory: u64, inode: u64, name: &[u8]) -> Result<()> {
        let missing = || unfit("a name that it takes away is not there");
        if !self.remove_entry(
            Key::new(directory, key::DIR_ITEM, key::name_hash(name)),
            name,
        )? {
            return Err(missing());
        }
        let places = [
            Key::new(inode, key::INODE_REF, directory),
            Key::new(inode, key::INODE_EXTREF, key::extref_hash(directory, name)),
        ];
        for at in places {
            let all = self.references(at)?;
            let ours = |one: &Reference| one.parent == directory && one.name == name;
            let Some(found) = all.iter().find(|one| ours(one)) else {
                continue;
            };
            let left: Vec<u8> = all
                .iter()
                .filter(|one| !ours(one))
                .flat_map(|one| one.bytes.iter().copied())
                .collect();
            self.put_or_delete(at, left)?;
            self.remove_entry(Key::new(directory, key::DIR_INDEX, found.index), name)?;
            return self.resize(directory, name, false);
        }
        Err(missing())
    }

    /// Takes away the entry `name`, whatever inode it leads to.
    fn drop_entry(&mut self, directory: u64, found: &Named, name: &[u8]) -> Result<()> {
        if found.location.kind != key::INODE_ITEM {
            return Err(Error::unsupported(
                "a log that takes away or replaces a subvolume",
            ));
        }
        self.fixup.insert(found.location.objectid);
        self.unlink(directory, found.location.objectid, name)
    }

    /// Puts a name into its directory; false when the name or its place is taken.
    fn link(&mut self, directory: u64, inode: u64, name: &[u8], index: u64) -> Result<bool> {
        let kind = match self.inode(inode)?.ok_or_else(overflow)?.kind()? {
            NodeKind::File => 1,
            NodeKind::Directory => 2,
            NodeKind::CharDevice => 3,
            NodeKind::BlockDevice => 4,
            NodeKind::Fifo => 5,
            NodeKind::Socket => 6,
            NodeKind::Symlink => 7,
        };
        let by_name = Key::new(directory, key::DIR_ITEM, key::name_hash(name));
        let by_index = Key::new(directory, key::DIR_INDEX, index);
        if self.named(by_name, name)?.is_some() || self.get(by_index)?.is_some() {
            return Ok(false);
        }
        let location = Key::new(inode, key::INODE_ITEM, 0);
        let transaction = self.trees.sb.generation.saturating_add(1);
        let entry = entry_bytes(location, transaction, kind, name);
        let mut together = self.get(by_name)?.unwrap_or_default();
        together.extend_from_slice(&entry);
        self.put(by_name, together)?;
        self.put(by_index, entry)?;
        self.resize(directory, name, true)?;
        Ok(true)
    }

    /// Names of a directory that are gone.
    pub(super) fn drop_names(&mut self, directory: u64, gone: Gone) -> Result<()> {
        let ranges: Vec<(u64, u64)> = match gone {
            Gone::All => vec![(0, u64::MAX)],
            Gone::AsLogged => {
                let first = Key::new(directory, key::DIR_LOG_INDEX, 0);
                let logged = self
                    .log
                    .range(first..)
                    .take_while(|(key, _)| key.alike(first));
                logged
                    .map(|(key, bytes)| Ok((key.offset, range_end(bytes)?)))
                    .collect::<Result<_>>()?
            }
        };
        if self.inode(directory)?.is_none() {
            return Ok(());
        }
        for (start, end) in ranges {
            for (at, bytes) in self.all(Key::new(directory, key::DIR_INDEX, start))? {
                if at.offset > end {
                    break;
                }
                for entry in directory::entries(&bytes)? {
                    let kept = gone == Gone::AsLogged
                        && match self.log.get(&at) {
                            Some(logged) => directory::entries(logged)?
                                .iter()
                                .any(|logged| logged.name == entry.name),
                            None => false,
                        };
                    if !kept {
                        self.drop_entry(directory, &Named::of(&entry), entry.name)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Names that a directory got.
    pub(super) fn replay_names(&mut self, at: Key, bytes: &[u8]) -> Result<()> {
        for entry in directory::entries(bytes)? {
            entry.check_name()?;
            if self.replay_name(at, &entry)? && entry.kind != 2 {
                self.fixup.insert(entry.location.objectid);
            }
        }
        Ok(())
    }

    /// Whether the name was put in.
    fn replay_name(&mut self, at: Key, entry: &Entry<'_>) -> Result<bool> {
        let directory = at.objectid;
        let name = entry.name;
        let wanted = Named::of(entry);
        if self.inode(directory)?.is_none() {
            return Err(unfit("a directory is missing"));
        }
        let is_inode = wanted.location.kind == key::INODE_ITEM;
        let target = wanted.location.objectid;
        let exists = is_inode && self.inode(target)?.is_some();
        let by_name = Key::new(directory, key::DIR_ITEM, key::name_hash(name));
        let mut stands = true;
        for place in [by_name, at] {
            let found = self.named(place, name)?;
            stands &= found.as_ref() == Some(&wanted);
            match found {
                // What is there stays when the inode of the new name was not logged.
                Some(found) if found != wanted && exists => {
                    self.drop_entry(directory, &found, name)?;
                }
                _ => {}
            }
        }
        if stands {
            return Ok(false);
        }
        if !is_inode {
            return Err(Error::unsupported("a log that puts in a subvolume"));
        }
        // With a reference in the log the name comes with that.
        let old = Key::new(target, key::INODE_REF, directory);
        let new = Key::new(target, key::INODE_EXTREF, key::extref_hash(directory, name));
        if self.log_refers(old, directory, name)? || self.log_refers(new, directory, name)? {
            return Ok(false);
        }
        if !exists || !self.link(directory, target, name, at.offset)? {
            return Ok(false);
        }
        let mut together = self.get(old)?.unwrap_or_default();
        together.extend_from_slice(&at.offset.to_le_bytes());
        let len = u16::try_from(name.len()).map_err(|_| overflow())?;
        together.extend_from_slice(&len.to_le_bytes());
        together.extend_from_slice(name);
        self.put(old, together)?;
        Ok(true)
    }

    /// References of an inode, and the names that go with them.
    pub(super) fn replay_references(&mut self, at: Key, bytes: &[u8]) -> Result<()> {
        let inode = at.objectid;
        let logged = directory::references(at, bytes)?;
        // The directory need not be logged; the count of links says what is left of it.
        let first = logged.first().map(|one| one.parent);
        if match first {
            Some(parent) => self.inode(parent)?.is_none(),
            None => true,
        } {
            return Ok(());
        }
        if self.inode(inode)?.is_none() {
            return Err(unfit("an inode is missing"));
        }
        for one in &logged {
            if self.inode(one.parent)?.is_none() {
                continue;
            }
            let location = Key::new(inode, key::INODE_ITEM, 0);
            let by_index = Key::new(one.parent, key::DIR_INDEX, one.index);
            let by_name = Key::new(one.parent, key::DIR_ITEM, key::name_hash(&one.name));
            let leads =
                |found: Option<Named>| found.is_some_and(|found| found.location == location);
            if leads(self.named(by_index, &one.name)?) && leads(self.named(by_name, &one.name)?) {
                continue;
            }
            if self.drop_conflicts(inode, one)? {
                return Ok(());
            }
            if !self.link(one.parent, inode, &one.name, one.index)? {
                return Err(unfit("a name that it puts in is taken"));
            }
        }
        // Names that the subvolume's own item has and the log's has no more.
        loop {
            let stale = self.references(at)?.into_iter().find(|one| {
                !logged
                    .iter()
                    .any(|logged| logged.parent == one.parent && logged.name == one.name)
            });
            match stale {
                Some(one) => self.unlink(one.parent, inode, &one.name)?,
                None => break,
            }
        }
        self.put(at, bytes.to_vec())
    }

    /// Makes room for a name; true when it is the root directory's own reference, which stays as it is.
    fn drop_conflicts(&mut self, inode: u64, one: &Reference) -> Result<bool> {
        let parent = one.parent;
        let old = Key::new(inode, key::INODE_REF, parent);
        if inode == parent && !self.references(old)?.is_empty() {
            return Ok(true);
        }
        let new = Key::new(
            inode,
            key::INODE_EXTREF,
            key::extref_hash(parent, &one.name),
        );
        for at in [old, new] {
            loop {
                let mut stale = None;
                for victim in self.references(at)? {
                    let logged = match at.kind {
                        key::INODE_REF => at,
                        _ => Key::new(inode, at.kind, key::extref_hash(parent, &victim.name)),
                    };
                    if victim.parent == parent && !self.log_refers(logged, parent, &victim.name)? {
                        stale = Some(victim);
                        break;
                    }
                }
                match stale {
                    Some(victim) => self.unlink(parent, inode, &victim.name)?,
                    None => break,
                }
            }
        }
        let places = [
            Key::new(parent, key::DIR_INDEX, one.index),
            Key::new(parent, key::DIR_ITEM, key::name_hash(&one.name)),
        ];
        for at in places {
            if let Some(found) = self.named(at, &one.name)? {
                self.drop_entry(parent, &found, &one.name)?;
            }
        }
        Ok(false)
    }
}
