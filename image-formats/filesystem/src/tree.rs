//! The seam between a filesystem's layout on disk and everyone who reads files.

use std::collections::BTreeMap;
use std::sync::Arc;

use dormouse_block::{Result, Source};
use serde::{Deserialize, Serialize};

/// A file, directory or other object of one filesystem; for most of them the inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// Seconds and nanoseconds since 1970-01-01 UTC.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time {
    /// Seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What a filesystem keeps about a node beside its bytes and extended attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The node itself; equal for hard links.
    pub node: NodeId,
    /// What it is.
    pub kind: NodeKind,
    /// Permission, set-id and sticky bits (`0o7777`).
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names that lead to it.
    pub links: u32,
    /// Bytes of a file, or of a symbolic link's target.
    pub size: u64,
    /// Last read.
    pub atime: Time,
    /// Last change of its bytes.
    pub mtime: Time,
    /// Last change of the node.
    pub ctime: Time,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
}

/// A name in a directory; `.` and `..` are not listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name's bytes: not empty, without `/` and NUL.
    pub name: Vec<u8>,
    /// What it leads to.
    pub node: NodeId,
    /// What the directory says that is, where it says so.
    pub kind: Option<NodeKind>,
}

/// What a filesystem says of itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FilesystemInfo {
    /// Such as `ext4`.
    pub kind: String,
    /// The label, if it has one.
    pub label: Option<String>,
    /// The UUID in lower-case hexadecimal with dashes, if it has one.
    pub uuid: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Bytes free.
    pub free: u64,
    /// Names of the features it uses.
    pub features: Vec<String>,
    /// Whether it was left with work in its journal, which was replayed in memory for reading.
    pub journal_replayed: bool,
}

/// How the system that wrote a filesystem last left it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Left {
    /// Unmounted, or with work in a journal that was replayed in memory ([`FilesystemInfo::journal_replayed`]).
    #[default]
    Clean,
    /// In use, and nothing was replayed: what is read may be stale. Why that is known.
    Unclean(String),
    /// In use by a system that sleeps with its memory on this filesystem: nothing may be changed. Why that is known.
    Hibernated(String),
}

/// One filesystem, open for reading. Every answer is bounded and checked; bytes are the guest's and untrusted.
pub trait Tree: Send + Sync {
    /// What the filesystem says of itself.
    fn info(&self) -> FilesystemInfo;

    /// The root directory.
    fn root(&self) -> NodeId;

    /// What is kept about `node`.
    ///
    /// # Errors
    /// `Corrupt` when there is no such node or it is broken.
    fn metadata(&self, node: NodeId) -> Result<Metadata>;

    /// The entries of directory `node` in the order they are stored, without `.` and `..`.
    ///
    /// # Errors
    /// `Corrupt` for what is no directory or a broken one, `Limit` for one that is too large.
    fn read_dir(&self, node: NodeId) -> Result<Vec<DirEntry>>;

    /// The entry `name` of directory `node`.
    ///
    /// # Errors
    /// As [`Tree::read_dir`].
    fn lookup(&self, node: NodeId, name: &[u8]) -> Result<Option<DirEntry>> {
        Ok(self
            .read_dir(node)?
            .into_iter()
            .find(|entry| entry.name == name))
    }

    /// The target of symbolic link `node`.
    ///
    /// # Errors
    /// `Corrupt` for what is no symbolic link or a broken one.
    fn read_link(&self, node: NodeId) -> Result<Vec<u8>>;

    /// Reads file `node` from `offset` on: as many bytes as `buf` holds, fewer only at the file's end.
    ///
    /// # Errors
    /// `Corrupt` for what is no file or a broken one.
    fn read_at(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize>;

    /// The extended attributes of `node` by their full names, such as `security.selinux`.
    ///
    /// # Errors
    /// `Corrupt` when they are broken.
    fn xattrs(&self, node: NodeId) -> Result<BTreeMap<Vec<u8>, Vec<u8>>>;

    /// The mode that every node of this kind has, owned by root, where the filesystem keeps no modes, owners and extended
    /// attributes of its own (FAT); `None` where it does.
    fn kept_mode(&self, kind: NodeKind) -> Option<u16> {
        let _ = kind;
        None
    }

    /// What the filesystem makes of a time, as finely and as far as it keeps times.
    fn kept_time(&self, time: Time) -> Time {
        time
    }

    /// Whether [`Tree::lookup`] finds names that differ in case, or short forms of them.
    fn ignores_case(&self) -> bool {
        false
    }

    /// How it was left, where that is not only a matter of its journal.
    fn left(&self) -> Left {
        Left::Clean
    }
}

impl<T: Tree + ?Sized> Tree for Arc<T> {
    fn info(&self) -> FilesystemInfo {
        (**self).info()
    }

    fn root(&self) -> NodeId {
        (**self).root()
    }

    fn metadata(&self, node: NodeId) -> Result<Metadata> {
        (**self).metadata(node)
    }

    fn read_dir(&self, node: NodeId) -> Result<Vec<DirEntry>> {
        (**self).read_dir(node)
    }

    fn lookup(&self, node: NodeId, name: &[u8]) -> Result<Option<DirEntry>> {
        (**self).lookup(node, name)
    }

    fn read_link(&self, node: NodeId) -> Result<Vec<u8>> {
        (**self).read_link(node)
    }

    fn read_at(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        (**self).read_at(node, offset, buf)
    }

    fn xattrs(&self, node: NodeId) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        (**self).xattrs(node)
    }

    fn kept_mode(&self, kind: NodeKind) -> Option<u16> {
        (**self).kept_mode(kind)
    }

    fn kept_time(&self, time: Time) -> Time {
        (**self).kept_time(time)
    }

    fn ignores_case(&self) -> bool {
        (**self).ignores_case()
    }

    fn left(&self) -> Left {
        (**self).left()
    }
}

/// A kind of filesystem that can be opened.
pub trait Filesystem: Sync {
    /// Its name, such as `ext4`.
    fn name(&self) -> &'static str;

    /// Whether `volume` carries its signature.
    ///
    /// # Errors
    /// Only when the volume cannot be read.
    fn probe(&self, volume: &dyn Source) -> Result<bool>;

    /// Opens `volume`.
    ///
    /// # Errors
    /// `Corrupt`, `Unsupported` or `Limit`, by name.
    fn open(&self, volume: Arc<dyn Source>) -> Result<Arc<dyn Tree>>;
}

/// The filesystems that can be opened, in the order they are tried.
pub const FILESYSTEMS: &[&dyn Filesystem] = &[
    &crate::ext::Ext4,
    &crate::ntfs::Ntfs,
    &crate::exfat::Exfat,
    &crate::squashfs::Squashfs,
    &crate::iso9660::Iso9660,
    &crate::erofs::Erofs,
    &crate::fat::Fat,
];

/// Opens whatever filesystem `volume` carries; `None` when no signature is known.
///
/// # Errors
/// As [`Filesystem::open`].
pub fn open(volume: &Arc<dyn Source>) -> Result<Option<Arc<dyn Tree>>> {
    for filesystem in FILESYSTEMS {
        if filesystem.probe(volume.as_ref())? {
            return filesystem.open(volume.clone()).map(Some);
        }
    }
    Ok(None)
}
