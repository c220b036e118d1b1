//! The seam between changes by path and a filesystem's layout on disk.

use std::collections::BTreeMap;
use std::io::Read;

use dormouse_block::{GuestPath, Result};
use dormouse_filesystem::{NodeKind, Time};
use serde::{Deserialize, Serialize};

use crate::Room;

/// What an editor sets on a node. Change times are set by the editor to `mtime`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Attributes {
    /// Permission, set-id and sticky bits (`0o7777`).
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the bytes.
    pub mtime: Time,
    /// Extended attributes by full name; those not named here are removed.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Bytes that an [`Editor`] has written already and that no name leads to yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Staged(pub(crate) u64);

/// Changes one filesystem on an overlay. Paths are within that filesystem and are taken literally: no symbolic
/// link is followed, and every parent must be a directory.
///
/// Nothing is guaranteed to have reached the overlay before [`Editor::finish`]; an editor that is dropped leaves an
/// overlay to be dropped as well.
pub trait Editor {
    /// Bytes that can still be written to new files.
    fn free_bytes(&self) -> u64;

    /// Nodes that can still be made.
    fn free_nodes(&self) -> u64;

    /// In which units room is given out, and what of it is taken or kept.
    fn room(&self) -> Room;

    /// Makes a directory, or sets the attributes of the one that is there.
    ///
    /// # Errors
    /// `Denied` when something else stands there; `Limit` when the filesystem is full; `Corrupt` when it is broken.
    fn make_directory(&mut self, path: &GuestPath, attributes: &Attributes) -> Result<()>;

    /// Makes a new regular file of exactly `size` bytes read from `content`. Whatever else stood at `path`, save a
    /// directory, loses that name.
    ///
    /// # Errors
    /// As [`Editor::make_directory`]; `Corrupt` too when `content` ends early or goes on.
    fn put_file(
        &mut self,
        path: &GuestPath,
        attributes: &Attributes,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<()>;

    /// Writes `size` bytes read from `content` into the filesystem before their name is known. What is staged and never
    /// put is freed by [`Editor::finish`].
    ///
    /// # Errors
    /// As [`Editor::put_file`].
    fn stage(&mut self, size: u64, content: &mut dyn Read) -> Result<Staged>;

    /// Reads staged bytes again, from `offset` on; fewer than `buf` holds only at their end.
    ///
    /// # Errors
    /// `Corrupt` for what was not staged here or has been put; `Io` when the host cannot read.
    fn read_staged(&self, staged: Staged, offset: u64, buf: &mut [u8]) -> Result<usize>;

    /// Makes a new regular file of staged bytes, as [`Editor::put_file`] does; each may be put once.
    ///
    /// # Errors
    /// As [`Editor::put_file`].
    fn put_staged(
        &mut self,
        path: &GuestPath,
        attributes: &Attributes,
        staged: Staged,
    ) -> Result<()>;

    /// Makes a symbolic link in the place of whatever stood there, save a directory.
    ///
    /// # Errors
    /// As [`Editor::make_directory`].
    fn put_symlink(
        &mut self,
        path: &GuestPath,
        attributes: &Attributes,
        target: &[u8],
    ) -> Result<()>;

    /// Makes a device, pipe or socket in the place of whatever stood there, save a directory.
    ///
    /// # Errors
    /// As [`Editor::make_directory`].
    fn put_special(
        &mut self,
        path: &GuestPath,
        attributes: &Attributes,
        kind: NodeKind,
        device: Option<(u32, u32)>,
    ) -> Result<()>;

    /// Gives the node at `existing` (no directory) the further name `path`, in the place of whatever stood there,
    /// save a directory.
    ///
    /// # Errors
    /// As [`Editor::make_directory`].
    fn link(&mut self, existing: &GuestPath, path: &GuestPath) -> Result<()>;

    /// Moves the name `from` to `to`, as rename(2) does.
    ///
    /// # Errors
    /// As [`Editor::make_directory`].
    fn rename(&mut self, from: &GuestPath, to: &GuestPath) -> Result<()>;

    /// Removes the name `path`: a directory must be empty.
    ///
    /// # Errors
    /// As [`Editor::make_directory`].
    fn remove(&mut self, path: &GuestPath) -> Result<()>;

    /// Sets the attributes of the node at `path` (all its names see them).
    ///
    /// # Errors
    /// As [`Editor::make_directory`].
    fn set_attributes(&mut self, path: &GuestPath, attributes: &Attributes) -> Result<()>;

    /// Writes everything that is still in memory to the overlay.
    ///
    /// # Errors
    /// `Io` when the host cannot write it.
    fn finish(self: Box<Self>) -> Result<()>;
}
