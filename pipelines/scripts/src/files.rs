//! The guest's files as a script sees them: paths relative to its working folder, its umask, and errors as the
//! kernel would give them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dormouse_block::{Error, ErrorKind, GuestPath};
use dormouse_filesystem::{Follow, NodeKind, Time};
use dormouse_overlay::{Attributes, Content, Draft, DraftNode, Drafted, Identity};

use crate::budget::Budget;
use crate::call::Reason;
use crate::stop::{Run, Stop};

/// Symbolic links followed on one path before it is called a loop, as the kernel does.
const MAX_LINKS: u32 = 40;

/// Errors of system calls that commands report or act upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errno {
    NoEntry,
    NotDirectory,
    IsDirectory,
    Exists,
    NotEmpty,
    Loop,
    Invalid,
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoEntry => "No such file or directory",
            Self::NotDirectory => "Not a directory",
            Self::IsDirectory => "Is a directory",
            Self::Exists => "File exists",
            Self::NotEmpty => "Directory not empty",
            Self::Loop => "Too many levels of symbolic links",
            Self::Invalid => "Invalid argument",
        })
    }
}

/// The outer result stops the script, the inner one is for the command to deal with.
pub(crate) type Call<T> = Run<Result<T, Errno>>;

/// Passes the inner error on to the caller.
macro_rules! attempt {
    ($call:expr) => {
        match $call? {
            Ok(value) => value,
            Err(errno) => return Ok(Err(errno)),
        }
    };
}
pub(crate) use attempt;

pub(crate) struct Files<'a> {
    pub(crate) draft: &'a mut Draft,
    pub(crate) now: Time,
    pub(crate) cwd: GuestPath,
    pub(crate) umask: u16,
    pub(crate) budget: Budget,
    /// The user in whose name commands look at files; root unless `su` says otherwise.
    pub(crate) user: Option<User>,
}

/// A user whom a command is run as.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) uid: u32,
    /// The user's own group first.
    pub(crate) groups: Vec<u32>,
}

enum Walked {
    Found(Box<Drafted>),
    /// The parent is there.
    Missing(GuestPath),
    Failed(Errno),
}

/// Directories whose content only a running system has.
const RUNNING: &[&[u8]] = &[b"/proc", b"/sys", b"/dev"];

fn broken(error: &Error) -> Stop {
    let reason = if error.kind() == ErrorKind::Limit {
        Reason::Limit
    } else {
        Reason::Guest
    };
    Stop::defer(reason, error.with_causes())
}

fn below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.starts_with(b"/"))
}

impl Files<'_> {
    /// Refuses what root may do and perhaps not the current user.
    fn as_root(&self) -> Run<()> {
        match self.user {
            None => Ok(()),
            Some(_) => Err(Stop::defer(
                Reason::Usage,
                "reads or changes files as another user",
            )),
        }
    }

    /// Walks `path` as the kernel does.
    fn walk(&mut self, path: &[u8], follow: Follow) -> Run<Walked> {
        self.budget.step(1)?;
        if path.is_empty() {
            return Ok(Walked::Failed(Errno::NoEntry));
        }
        if path.contains(&0) || path.len() > 4095 {
            return Ok(Walked::Failed(Errno::Invalid));
        }
        let must_be_directory = path.ends_with(b"/") || path.ends_with(b"/.");
        let follow = if must_be_directory {
            Follow::Links
        } else {
            follow
        };
        let mut here = if path.starts_with(b"/") {
            GuestPath::root()
        } else {
            self.cwd.clone()
        };
        let mut todo: Vec<Vec<u8>> = Vec::new();
        let mut parent = self.plain_parent(path);
        match parent.as_ref().and_then(|(parent, name)| {
            let known = self.draft.known(parent)?;
            Some((known, name.to_vec()))
        }) {
            Some((known, name)) => {
                here = known;
                todo.push(name);
                parent = None;
            }
            None => push_components(&mut todo, path),
        }
        let mut links = 0_u32;
        let mut found: Option<Drafted> = None;
        while let Some(name) = todo.pop() {
            self.budget.step(1)?;
            if let Some(found) = &found
                && found.node != DraftNode::Directory
            {
                return Ok(Walked::Failed(Errno::NotDirectory));
            }
            // What links lead to is walked before the path's own last name.
            if todo.is_empty()
                && let Some((asked, _)) = parent.take()
                && found.is_some()
            {
                self.draft.learn(asked, &here);
            }
            if name == b".." {
                here = here.parent().unwrap_or_else(GuestPath::root);
                found = None;
                continue;
            }
            let Ok(next) = here.join(&name) else {
                return Ok(Walked::Failed(Errno::NoEntry));
            };
            let Some(at) = self.direct(&next)? else {
                return Ok(if todo.is_empty() {
                    Walked::Missing(next)
                } else {
                    Walked::Failed(Errno::NoEntry)
                });
            };
            if let DraftNode::Symlink(target) = &at.node
                && (follow == Follow::Links || !todo.is_empty())
            {
                links = links.saturating_add(1);
                if links > MAX_LINKS {
                    return Ok(Walked::Failed(Errno::Loop));
                }
                if target.starts_with(b"/") {
                    here = GuestPath::root();
                }
                found = None;
                push_components(&mut todo, target);
                continue;
            }
            here = next;
            found = Some(at);
        }
        let found = match found {
            Some(found) => found,
            None => match self.direct(&here)? {
                Some(at) => at,
                None => return Ok(Walked::Failed(Errno::NoEntry)),
            },
        };
        if must_be_directory && found.node != DraftNode::Directory {
            return Ok(Walked::Failed(Errno::NotDirectory));
        }
        Ok(Walked::Found(Box::new(found)))
    }

    /// The directory of a path and its last name, where neither climbs.
    fn plain_parent<'p>(&self, path: &'p [u8]) -> Option<(GuestPath, &'p [u8])> {
        let (directory, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => path.split_at_checked(slash)?,
            None => (&[][..], path),
        };
        let name = name.strip_prefix(b"/").unwrap_or(name);
        if matches!(name, b"" | b"." | b"..") {
            return None;
        }
        let directory = if path.starts_with(b"/") {
            GuestPath::new(directory)
        } else {
            self.cwd.join_path(directory)
        };
        Some((directory.ok()?, name))
    }

    /// What is at a path whose parents are free of symbolic links.
    fn direct(&self, path: &GuestPath) -> Run<Option<Drafted>> {
        let bytes = path.as_bytes();
        if bytes == b"/dev/null" {
            return Ok(Some(Drafted {
                path: path.clone(),
                node: DraftNode::Special(NodeKind::CharDevice, Some((1, 3))),
                attributes: self.attributes(0o666, 0),
                identity: Identity::Base(usize::MAX, u64::MAX),
            }));
        }
        if RUNNING.iter().any(|directory| below(bytes, directory)) {
            return Err(Stop::defer(
                Reason::Running,
                format!("asks for {path}, which only a running system has"),
            ));
        }
        // Were it there on the disk, the machine would still be asleep.
        if bytes == b"/run/systemd/system" {
            return Ok(None);
        }
        self.draft.at(path).map_err(|error| broken(&error))
    }

    fn attributes(&self, mode: u16, gid: u32) -> Attributes {
        Attributes {
            mode,
            uid: 0,
            gid,
            mtime: self.now,
            xattrs: BTreeMap::new(),
        }
    }

    /// What is at `path`, if anything is and can be reached.
    pub(crate) fn look(&mut self, path: &[u8], follow: Follow) -> Run<Option<Drafted>> {
        Ok(self.find(path, follow)?.ok())
    }

    /// What is at `path`.
    pub(crate) fn find(&mut self, path: &[u8], follow: Follow) -> Call<Drafted> {
        Ok(match self.walk(path, follow)? {
            Walked::Found(found) => Ok(*found),
            Walked::Missing(_) => Err(Errno::NoEntry),
            Walked::Failed(errno) => Err(errno),
        })
    }

    pub(crate) fn is_directory(&mut self, path: &[u8]) -> Run<bool> {
        Ok(self
            .look(path, Follow::Links)?
            .is_some_and(|found| found.node == DraftNode::Directory))
    }

    pub(crate) fn is_file(&mut self, path: &[u8]) -> Run<bool> {
        Ok(self
            .look(path, Follow::Links)?
            .is_some_and(|found| found.node.kind() == NodeKind::File))
    }

    pub(crate) fn exists(&mut self, path: &[u8], follow: Follow) -> Run<bool> {
        Ok(self.look(path, follow)?.is_some())
    }

    /// The names in a directory, in byte order.
    pub(crate) fn list(&mut self, path: &[u8]) -> Call<BTreeSet<Vec<u8>>> {
        self.as_root()?;
        let found = attempt!(self.find(path, Follow::Links));
        if found.node != DraftNode::Directory {
            return Ok(Err(Errno::NotDirectory));
        }
        if RUNNING.contains(&found.path.as_bytes()) {
            return Err(Stop::defer(
                Reason::Running,
                format!("lists {}, which only a running system fills", found.path),
            ));
        }
        let names = self
            .draft
            .read_dir(&found.path)
            .map_err(|error| broken(&error))?
            .unwrap_or_default();
        self.budget
            .step(u64::try_from(names.len()).unwrap_or(u64::MAX))?;
        Ok(Ok(names))
    }

    /// The bytes of a file.
    pub(crate) fn read(&mut self, path: &[u8]) -> Call<Vec<u8>> {
        self.as_root()?;
        let found = attempt!(self.find(path, Follow::Links));
        match &found.node {
            DraftNode::File(content) => {
                self.budget.object(content.size())?;
                self.budget.bytes(content.size())?;
                let limit = content.size();
                self.draft
                    .read(&found.path, limit)
                    .map_err(|error| broken(&error))?
                    .ok_or_else(|| Stop::defer(Reason::Guest, "a file vanished"))
                    .map(Ok)
            }
            DraftNode::Directory => Ok(Err(Errno::IsDirectory)),
            DraftNode::Special(..) if found.path.as_bytes() == b"/dev/null" => Ok(Ok(Vec::new())),
            DraftNode::Special(..) | DraftNode::Symlink(_) => Err(Stop::defer(
                Reason::Running,
                format!("reads {}, which is no regular file", found.path),
            )),
        }
    }

    /// Opens a file for writing, made if need be, and returns its path free of symbolic links; `None` is `/dev/null`.
    pub(crate) fn open_for_writing(
        &mut self,
        path: &[u8],
        truncate: bool,
    ) -> Call<Option<GuestPath>> {
        match self.walk(path, Follow::Links)? {
            Walked::Failed(errno) => Ok(Err(errno)),
            Walked::Missing(place) => {
                if path.ends_with(b"/") {
                    return Ok(Err(Errno::IsDirectory));
                }
                let mode = 0o666 & !self.umask;
                self.put(&place, DraftNode::File(Content::bytes(Vec::new())), mode)?;
                Ok(Ok(Some(place)))
            }
            Walked::Found(found) => match found.node {
                DraftNode::Directory => Ok(Err(Errno::IsDirectory)),
                DraftNode::File(_) => {
                    if truncate {
                        self.set_bytes(&found.path, Vec::new())?;
                    }
                    Ok(Ok(Some(found.path)))
                }
                DraftNode::Special(..) if found.path.as_bytes() == b"/dev/null" => Ok(Ok(None)),
                DraftNode::Special(..) | DraftNode::Symlink(_) => Err(Stop::defer(
                    Reason::Running,
                    format!("writes to {}, which is no regular file", found.path),
                )),
            },
        }
    }

    /// Replaces the bytes of the file at `path`, which is free of symbolic links.
    pub(crate) fn set_bytes(&mut self, path: &GuestPath, bytes: Vec<u8>) -> Run<()> {
        self.as_root()?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.budget.object(size)?;
        self.budget.bytes(size)?;
        self.draft
            .set_content(path, Content::bytes(bytes))
            .map_err(|error| broken(&error))?;
        let now = self.now;
        self.change(path, |attributes| attributes.mtime = now)
    }

    /// Replaces the content of the file at `path`, which is free of symbolic links, by another file's.
    pub(crate) fn set_content(&mut self, path: &GuestPath, content: Content) -> Run<()> {
        self.as_root()?;
        self.draft
            .set_content(path, content)
            .map_err(|error| broken(&error))?;
        let now = self.now;
        self.change(path, |attributes| attributes.mtime = now)
    }

    /// Writes a whole file, made if need be.
    pub(crate) fn write(&mut self, path: &[u8], bytes: Vec<u8>) -> Call<()> {
        if let Some(place) = attempt!(self.open_for_writing(path, false)) {
            self.set_bytes(&place, bytes)?;
        }
        Ok(Ok(()))
    }

    /// Writes a whole file anew beside the old one and renames it, as careful programs do: the old node keeps its bytes
    /// under its other names, links are replaced, and mode and owner are given.
    pub(crate) fn replace(
        &mut self,
        path: &[u8],
        bytes: Vec<u8>,
        mode: u16,
        owner: (u32, u32),
    ) -> Call<()> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.budget.object(size)?;
        self.budget.bytes(size)?;
        let place = attempt!(self.place(path));
        self.put(&place, DraftNode::File(Content::bytes(bytes)), mode)?;
        self.change(&place, |attributes| {
            (attributes.uid, attributes.gid) = owner;
        })?;
        Ok(Ok(()))
    }

    /// Where a new node named `path` stands or would stand; the last component is not followed.
    pub(crate) fn place(&mut self, path: &[u8]) -> Call<GuestPath> {
        let trimmed = trim_slashes(path);
        Ok(match self.walk(trimmed, Follow::No)? {
            Walked::Found(found) => Ok(found.path),
            Walked::Missing(place) => Ok(place),
            Walked::Failed(errno) => Err(errno),
        })
    }

    fn parent_attributes(&mut self, place: &GuestPath) -> Run<(u32, bool)> {
        let parent = place.parent().unwrap_or_else(GuestPath::root);
        let attributes = self.direct(&parent)?.map(|parent| parent.attributes);
        Ok(attributes
            .filter(|attributes| attributes.mode & 0o2000 != 0)
            .map_or((0, false), |attributes| (attributes.gid, true)))
    }

    pub(crate) fn put(&mut self, place: &GuestPath, node: DraftNode, mode: u16) -> Run<()> {
        self.as_root()?;
        if RUNNING
            .iter()
            .any(|directory| below(place.as_bytes(), directory))
        {
            return Err(Stop::defer(
                Reason::Running,
                format!("writes {place}, which only a running system has"),
            ));
        }
        let (gid, inherits) = self.parent_attributes(place)?;
        let mode = if inherits && node == DraftNode::Directory {
            mode | 0o2000
        } else {
            mode
        };
        let attributes = self.attributes(mode, gid);
        self.draft
            .put(place, node, attributes)
            .map_err(|error| broken(&error))
    }

    /// Makes a new node; `mode` is the whole mode, umask not applied.
    fn create(&mut self, path: &[u8], node: DraftNode, mode: u16) -> Call<GuestPath> {
        let path = if node == DraftNode::Directory {
            trim_slashes(path)
        } else {
            path
        };
        match self.walk(path, Follow::No)? {
            Walked::Found(_) => Ok(Err(Errno::Exists)),
            Walked::Failed(errno) => Ok(Err(errno)),
            Walked::Missing(place) => {
                self.put(&place, node, mode)?;
                Ok(Ok(place))
            }
        }
    }

    pub(crate) fn make_directory(&mut self, path: &[u8], mode: u16) -> Call<GuestPath> {
        self.create(path, DraftNode::Directory, mode)
    }

    pub(crate) fn make_symlink(&mut self, target: &[u8], path: &[u8]) -> Call<()> {
        attempt!(self.create(path, DraftNode::Symlink(target.to_vec()), 0o777));
        Ok(Ok(()))
    }

    pub(crate) fn make_link(&mut self, existing: &[u8], path: &[u8]) -> Call<()> {
        self.as_root()?;
        let existing = attempt!(self.find(existing, Follow::No));
        if existing.node == DraftNode::Directory {
            return Ok(Err(Errno::Invalid));
        }
        match self.walk(path, Follow::No)? {
            Walked::Found(_) => Ok(Err(Errno::Exists)),
            Walked::Failed(errno) => Ok(Err(errno)),
            Walked::Missing(place) => {
                self.draft
                    .link(&existing.path, &place)
                    .map_err(|error| broken(&error))?;
                Ok(Ok(()))
            }
        }
    }

    /// rename(2).
    pub(crate) fn rename(&mut self, from: &[u8], to: &[u8]) -> Call<()> {
        self.as_root()?;
        let from = attempt!(self.find(trim_slashes(from), Follow::No));
        let to = match self.walk(trim_slashes(to), Follow::No)? {
            Walked::Failed(errno) => return Ok(Err(errno)),
            Walked::Missing(place) => place,
            Walked::Found(standing) => {
                if standing.identity == from.identity && standing.node != DraftNode::Directory {
                    return Ok(Ok(()));
                }
                let standing_is_directory = standing.node == DraftNode::Directory;
                match (from.node == DraftNode::Directory, standing_is_directory) {
                    (true, false) => return Ok(Err(Errno::NotDirectory)),
                    (false, true) => return Ok(Err(Errno::IsDirectory)),
                    (true, true) if standing.path != from.path => {
                        let names = self
                            .draft
                            .read_dir(&standing.path)
                            .map_err(|error| broken(&error))?;
                        if names.is_some_and(|names| !names.is_empty()) {
                            return Ok(Err(Errno::NotEmpty));
                        }
                    }
                    _ => {}
                }
                standing.path
            }
        };
        if from.path == to {
            return Ok(Ok(()));
        }
        if to.starts_with(&from.path) {
            return Ok(Err(Errno::Invalid));
        }
        self.draft
            .rename(&from.path, &to)
            .map_err(|error| broken(&error))?;
        Ok(Ok(()))
    }

    /// unlink(2).
    pub(crate) fn unlink(&mut self, path: &[u8]) -> Call<()> {
        let found = attempt!(self.find(path, Follow::No));
        if found.node == DraftNode::Directory {
            return Ok(Err(Errno::IsDirectory));
        }
        self.remove(&found.path)
    }

    /// rmdir(2).
    pub(crate) fn remove_directory(&mut self, path: &[u8]) -> Call<()> {
        let found = attempt!(self.find(trim_slashes(path), Follow::No));
        if found.node != DraftNode::Directory {
            return Ok(Err(Errno::NotDirectory));
        }
        let names = self
            .draft
            .read_dir(&found.path)
            .map_err(|error| broken(&error))?;
        if names.is_some_and(|names| !names.is_empty()) {
            return Ok(Err(Errno::NotEmpty));
        }
        self.remove(&found.path)
    }

    fn remove(&mut self, path: &GuestPath) -> Call<()> {
        self.as_root()?;
        self.draft.remove(path).map_err(|error| broken(&error))?;
        Ok(Ok(()))
    }

    /// Changes the attributes of the node at `path`, which is free of symbolic links.
    pub(crate) fn change(
        &mut self,
        path: &GuestPath,
        change: impl FnOnce(&mut Attributes),
    ) -> Run<()> {
        self.as_root()?;
        let found = self
            .direct(path)?
            .ok_or_else(|| Stop::defer(Reason::Guest, format!("{path} vanished")))?;
        let mut attributes = found.attributes.clone();
        change(&mut attributes);
        if attributes == found.attributes {
            return Ok(());
        }
        if path.as_bytes() == b"/dev/null" {
            return Err(Stop::defer(Reason::Running, "changes /dev/null"));
        }
        self.draft
            .set_attributes(path, attributes)
            .map_err(|error| broken(&error))
    }
}

/// Pushes the components of `path` so that the first is popped first.
fn push_components(todo: &mut Vec<Vec<u8>>, path: &[u8]) {
    for part in path.rsplit(|&byte| byte == b'/') {
        if !part.is_empty() && part != b"." {
            todo.push(part.to_vec());
        }
    }
}

pub(crate) fn trim_slashes(path: &[u8]) -> &[u8] {
    let mut trimmed = path;
    while let Some(rest) = trimmed.strip_suffix(b"/")
        && !rest.is_empty()
    {
        trimmed = rest;
    }
    trimmed
}
