//! The new version's files, entry by entry, as dpkg puts them.
//!
//! Directories and special files take their places at once; files, links and hard links when all entries have been
//! seen, as dpkg renames them.

use std::collections::BTreeMap;

use dormouse_block::{Error, GuestPath, Locator, Result};
use dormouse_filesystem::{Follow, NodeKind, Time};
use dormouse_overlay::{Attributes, Content, DraftNode, Drafted};
use dormouse_packages::dpkg::{Relation, State, Version};

use super::files::{list_name, path_of};
use super::{Name, NameState, Replacing, Session, Stop, Work};
use crate::deb::{EntryKind, PayloadEntry};

/// Entries of one directory tree that may go when something else takes its place.
const MAX_REMOVED: usize = 100_000;

/// A file that takes its place when all entries have been seen.
struct Placement {
    name: Name,
    at: GuestPath,
    what: Placed,
    attributes: Attributes,
}

enum Placed {
    Node(DraftNode),
    Link(GuestPath),
}

impl Session<'_> {
    /// Puts all entries of the new version's archive.
    pub(super) fn extract(&mut self, work: &mut Work<'_>) -> Result<(), Stop> {
        let deb = work.deb;
        let mut placements = Vec::new();
        for entry in &deb.entries {
            let located =
                |error: Error| error.located(&Locator::default().path(entry.path.clone()));
            match self.entry(work, entry, &mut placements) {
                Err(Stop::Failed(error)) => return Err(Stop::Failed(located(error))),
                other => other?,
            }
        }
        for placement in placements {
            match placement.what {
                Placed::Node(node) => self.draft.put(&placement.at, node, placement.attributes)?,
                Placed::Link(to) => self.draft.link(&to, &placement.at)?,
            }
            work.state(placement.name).takes_over = true;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        work: &mut Work<'_>,
        entry: &PayloadEntry,
        placements: &mut Vec<Placement>,
    ) -> Result<(), Stop> {
        let bytes = list_name(&entry.path);
        let name = self.files.name(&bytes)?;
        let own = self.package(work.package).name.clone();
        let state = work.state(name);
        if state.remove_on_upgrade {
            return Err(Stop::Refused(format!(
                "it ships {}, a conffile that it wants removed",
                entry.path
            )));
        }
        state.in_archive = true;
        if let EntryKind::File { md5, .. } = &entry.kind {
            state.md5 = *md5;
        }
        let new_conffile = state.new_conffile;
        work.new_files.push(name);
        if let Some(from) = self.diversions.diverted_from(&bytes) {
            return Err(Stop::Refused(format!(
                "{} is where {} is diverted to",
                entry.path,
                String::from_utf8_lossy(from)
            )));
        }
        let attributes = self.attributes_of(entry, &bytes);
        let used = self.diversions.place(&bytes, &own).to_vec();
        self.activate_path(&used, work.package);
        // dpkg means to follow a conffile that is a link, and puts the new version beside the link all the same.
        let at = path_of(&used)?;
        let standing = self.draft.get(&at, Follow::No)?;
        let existing_directory = self.is_existing_directory(entry, &at, standing.as_ref())?;
        let mut shared = false;
        if !existing_directory {
            match self.conflict(work, entry, name, standing.as_ref())? {
                Conflict::None => {}
                Conflict::Shared => shared = true,
                Conflict::Keep => {
                    work.new_files.pop();
                    let state = work.state(name);
                    state.in_archive = false;
                    state.obsolete = new_conffile;
                    return Ok(());
                }
            }
        }
        let foldable = matches!(entry.kind, EntryKind::Directory | EntryKind::Symlink(_));
        if self.filters.leaves_out(&bytes, foldable) {
            let state = work.state(name);
            state.in_archive = false;
            state.filtered = true;
            return Ok(());
        }
        if existing_directory {
            return Ok(());
        }
        if shared {
            return self.check_shared(entry, &at, standing.as_ref(), new_conffile);
        }
        self.place(
            work,
            entry,
            Place {
                name,
                at,
                new_conffile,
                attributes,
            },
            standing.as_ref(),
            placements,
        )
    }

    fn place(
        &mut self,
        work: &mut Work<'_>,
        entry: &PayloadEntry,
        place: Place,
        standing: Option<&Drafted>,
        placements: &mut Vec<Placement>,
    ) -> Result<(), Stop> {
        let Place {
            name,
            at,
            new_conffile,
            attributes,
        } = place;
        let over_directory = standing.is_some_and(|standing| standing.node == DraftNode::Directory);
        let node = match &entry.kind {
            EntryKind::File { offset, size, .. } => {
                Placed::Node(DraftNode::File(Content::Payload {
                    payload: work.deb.payload,
                    offset: *offset,
                    size: *size,
                }))
            }
            EntryKind::Symlink(target) => Placed::Node(DraftNode::Symlink(target.clone())),
            EntryKind::HardLink(to) => Placed::Link(self.link_source(work, to)?),
            EntryKind::Directory => Placed::Node(DraftNode::Directory),
            EntryKind::CharDevice(major, minor) => Placed::Node(DraftNode::Special(
                NodeKind::CharDevice,
                Some((*major, *minor)),
            )),
            EntryKind::BlockDevice(major, minor) => Placed::Node(DraftNode::Special(
                NodeKind::BlockDevice,
                Some((*major, *minor)),
            )),
            EntryKind::Fifo => Placed::Node(DraftNode::Special(NodeKind::Fifo, None)),
        };
        if new_conffile {
            let beside = path_of(&[at.as_bytes(), b".dpkg-new"].concat())?;
            self.clear(&beside)?;
            match node {
                Placed::Node(node) => self.draft.put(&beside, node, attributes)?,
                Placed::Link(to) => self.draft.link(&to, &beside)?,
            }
            work.state(name).takes_over = true;
            return Ok(());
        }
        let deferred = matches!(
            entry.kind,
            EntryKind::File { .. } | EntryKind::HardLink(_) | EntryKind::Symlink(_)
        );
        if over_directory || (entry.kind == EntryKind::Directory && standing.is_some()) {
            self.clear(&at)?;
        }
        if deferred {
            placements.push(Placement {
                name,
                at,
                what: node,
                attributes,
            });
            return Ok(());
        }
        if let Placed::Node(node) = node {
            self.draft.put(&at, node, attributes)?;
        }
        work.state(name).takes_over = true;
        Ok(())
    }

    /// The place from which a hard link is made.
    fn link_source(&mut self, work: &mut Work<'_>, to: &GuestPath) -> Result<GuestPath> {
        let bytes = list_name(to);
        let name = self.files.name(&bytes)?;
        let own = &self.package(work.package).name;
        let used = self.diversions.place(&bytes, own);
        if work.is(name, |state| state.new_conffile) {
            return path_of(&[used, b".dpkg-new"].concat());
        }
        path_of(used)
    }

    /// Removes whatever is at `path`, a directory with all it holds.
    fn clear(&mut self, path: &GuestPath) -> Result<()> {
        let Some(found) = self.draft.get(path, Follow::No)? else {
            return Ok(());
        };
        if found.node != DraftNode::Directory {
            return self.draft.remove(&found.path);
        }
        let mut order = vec![found.path];
        let mut next = 0_usize;
        while let Some(directory) = order.get(next).cloned() {
            next = next.saturating_add(1);
            let Some(at) = self.draft.get(&directory, Follow::No)? else {
                continue;
            };
            if at.node != DraftNode::Directory {
                continue;
            }
            for name in self.draft.read_dir(&directory)?.unwrap_or_default() {
                let child = directory
                    .join(&name)
                    .map_err(|error| Error::corrupt("a bad name in a directory").because(error))?;
                order.push(child);
            }
            if order.len() > MAX_REMOVED {
                return Err(Error::limit(
                    "more than 100,000 files stand where a package puts a file",
                )
                .located(&Locator::default().path(directory)));
            }
        }
        for path in order.iter().rev() {
            self.draft.remove(path)?;
        }
        Ok(())
    }

    fn attributes_of(&self, entry: &PayloadEntry, name: &[u8]) -> Attributes {
        let by_name = |accounts: &super::Accounts, name: &str, number| {
            Some(name)
                .filter(|name| !name.is_empty())
                .and_then(|name| accounts.number(name))
                .unwrap_or(number)
        };
        let mut attributes = Attributes {
            mode: entry.mode,
            uid: by_name(&self.users, &entry.owner, entry.uid),
            gid: by_name(&self.groups, &entry.group, entry.gid),
            mtime: Time {
                seconds: entry.mtime,
                nanoseconds: 0,
            },
            xattrs: BTreeMap::new(),
        };
        if let Some(wanted) = self.overrides.get(name) {
            attributes.mode = wanted.mode;
            attributes.uid = wanted.uid;
            attributes.gid = wanted.gid;
        }
        if matches!(entry.kind, EntryKind::Symlink(_)) {
            attributes.mode = 0o777;
        }
        attributes
    }

    /// Whether the entry is a directory, or a link to one, that is there already: then nothing is done.
    fn is_existing_directory(
        &self,
        entry: &PayloadEntry,
        at: &GuestPath,
        standing: Option<&Drafted>,
    ) -> Result<bool> {
        let Some(standing) = standing else {
            return Ok(false);
        };
        let leads_to_directory = |path: &GuestPath| -> Result<Option<GuestPath>> {
            Ok(self
                .draft
                .get(path, Follow::Links)?
                .filter(|found| found.node == DraftNode::Directory)
                .map(|found| found.path))
        };
        match (&entry.kind, &standing.node) {
            (EntryKind::Directory | EntryKind::Symlink(_), DraftNode::Directory) => Ok(true),
            (EntryKind::Directory, DraftNode::Symlink(_)) => Ok(leads_to_directory(at)?.is_some()),
            (EntryKind::Symlink(target), DraftNode::Symlink(_)) => {
                let Some(old) = leads_to_directory(at)? else {
                    return Ok(false);
                };
                Ok(self.directory_of_link(&standing.path, target)? == Some(old))
            }
            _ => Ok(false),
        }
    }

    /// The directory that a link at `at` to `target` would lead to. `..` follows the directories that are there.
    fn directory_of_link(&self, at: &GuestPath, target: &[u8]) -> Result<Option<GuestPath>> {
        let mut here = if target.starts_with(b"/") {
            GuestPath::root()
        } else {
            at.parent().unwrap_or_else(GuestPath::root)
        };
        for part in target.split(|&byte| byte == b'/') {
            let next = match part {
                b"" | b"." => continue,
                b".." => here.parent().unwrap_or_else(GuestPath::root),
                name => match here.join(name) {
                    Ok(next) => next,
                    Err(_) => return Ok(None),
                },
            };
            match self.draft.get(&next, Follow::Links)? {
                Some(found) if found.node == DraftNode::Directory => here = found.path,
                _ => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    /// What other packages that have the name say of it.
    fn conflict(
        &mut self,
        work: &mut Work<'_>,
        entry: &PayloadEntry,
        name: Name,
        standing: Option<&Drafted>,
    ) -> Result<Conflict, Stop> {
        let mut answer = Conflict::None;
        let owners = self.files.owners(name).to_vec();
        for owner in owners {
            if owner == work.package {
                continue;
            }
            let other = self.package(owner);
            let own = self.package(work.package);
            if other.name == own.name && other.same && work.deb.control.multi_arch_same() {
                if standing.is_some() && work.in_sync {
                    answer = Conflict::Shared;
                }
                continue;
            }
            let bytes = self.files.text(name);
            if let Some(by) = self.diversions.diverted_by(bytes)
                && by.is_some_and(|by| by == other.name || by == own.name)
            {
                continue;
            }
            if standing.is_none() && entry.kind == EntryKind::Directory {
                continue;
            }
            if other.status.state == State::ConfigFiles {
                continue;
            }
            let takes_obsolete = work.is(name, |state| state.new_conffile)
                && standing.is_some_and(|standing| matches!(standing.node, DraftNode::File(_)))
                && other
                    .conffiles
                    .iter()
                    .any(|known| known.obsolete && known.path == bytes);
            if takes_obsolete {
                continue;
            }
            match self.replacing(work, owner) {
                Replacing::Replaces => {}
                Replacing::Replaced => answer = Conflict::Keep,
                Replacing::No => {
                    return Err(Stop::Refused(format!(
                        "{} is also in package {} {}",
                        entry.path, other.name, other.version
                    )));
                }
            }
        }
        Ok(answer)
    }

    fn replacing(&self, work: &mut Work<'_>, other: usize) -> Replacing {
        if let Some(known) = work.replaces.get(&other) {
            return *known;
        }
        let theirs = self.package(other);
        let control = &work.deb.control;
        let ours = control
            .get("Replaces")
            .and_then(|text| Relation::parse_all(text).ok())
            .unwrap_or_default();
        let answer = if replaces(&ours, &theirs.name, &theirs.version) {
            Replacing::Replaces
        } else if replaces(
            &theirs.relations(dormouse_packages::dpkg::RelationField::Replaces),
            control.package(),
            control.version(),
        ) {
            Replacing::Replaced
        } else {
            Replacing::No
        };
        work.replaces.insert(other, answer);
        answer
    }

    /// A file that all architectures of a package share must be the same in all.
    fn check_shared(
        &self,
        entry: &PayloadEntry,
        at: &GuestPath,
        standing: Option<&Drafted>,
        new_conffile: bool,
    ) -> Result<(), Stop> {
        let beside = path_of(&[at.as_bytes(), b".dpkg-new"].concat())?;
        let pending = if new_conffile {
            self.draft.get(&beside, Follow::No)?
        } else {
            None
        };
        let same = match (
            &entry.kind,
            pending.as_ref().or(standing).map(|found| &found.node),
        ) {
            (EntryKind::Directory, _) => true,
            (EntryKind::Symlink(target), Some(DraftNode::Symlink(known))) => target == known,
            (EntryKind::File { size, sha256, .. }, Some(DraftNode::File(content))) => {
                content.size() == *size
                    && self.digest::<sha2::Sha256>(content)? == sha256.as_bytes()
            }
            // The name it is linked to is compared itself.
            (EntryKind::HardLink(_), Some(DraftNode::File(_)))
            | (EntryKind::Fifo, Some(DraftNode::Special(NodeKind::Fifo, _))) => true,
            (
                EntryKind::CharDevice(major, minor),
                Some(DraftNode::Special(NodeKind::CharDevice, Some(known))),
            )
            | (
                EntryKind::BlockDevice(major, minor),
                Some(DraftNode::Special(NodeKind::BlockDevice, Some(known))),
            ) => (*major, *minor) == *known,
            _ => false,
        };
        if same {
            return Ok(());
        }
        Err(Stop::Refused(format!(
            "{} differs from the one of another architecture of the package",
            entry.path
        )))
    }
}

/// Where and how one entry is put.
struct Place {
    name: Name,
    at: GuestPath,
    new_conffile: bool,
    attributes: Attributes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conflict {
    /// Nobody minds.
    None,
    /// Another architecture of the package has it, of the same version.
    Shared,
    /// The other package's file stays.
    Keep,
}

/// Whether `relations` replace files of `name` at `version`.
fn replaces(relations: &[Relation], name: &str, version: &str) -> bool {
    relations
        .iter()
        .flat_map(Relation::alternatives)
        .any(|alternative| {
            alternative.name == name
                && alternative.constraint.as_ref().is_none_or(|constraint| {
                    Version::parse(version).is_ok_and(|version| constraint.admits(&version))
                })
        })
}

impl NameState {
    /// Whether the removal of old files passes it over.
    pub(super) fn stays(&self) -> bool {
        self.new_conffile || self.remove_on_upgrade || self.in_archive
    }
}
