//! The seam between a filesystem's layout on disk and everyone who reads files.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use dormouse_block::{Error, GuestPath, Result, Source};
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

/// A subvolume of a filesystem: a tree of files of its own, which may be a snapshot of another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Subvolume {
    /// Its number within the filesystem.
    pub id: u64,
    /// Where it hangs, from the filesystem's top level.
    pub path: GuestPath,
    /// Its UUID in lower-case hexadecimal with dashes, if it has one.
    pub uuid: Option<String>,
    /// The UUID of the subvolume that it is a snapshot of.
    pub parent_uuid: Option<String>,
    /// Whether it was made read-only, as most snapshots are.
    pub read_only: bool,
    /// The transaction that changed it last.
    pub generation: u64,
    /// Whether it is the one that is mounted when no other is asked for.
    pub default: bool,
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
pub trait Tree: Any + Send + Sync {
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

    /// The filesystem's subvolumes by number, its top level among them; none where there is no such thing.
    ///
    /// # Errors
    /// `Corrupt` or `Limit` when they cannot be listed.
    fn subvolumes(&self) -> Result<Vec<Subvolume>> {
        Ok(Vec::new())
    }

    /// The tree of subvolume `id`, with what hangs below it.
    ///
    /// # Errors
    /// `Corrupt` when there is no such subvolume or it is broken.
    fn subvolume(&self, id: u64) -> Result<Arc<dyn Tree>> {
        Err(Error::corrupt(format!("there is no subvolume {id}")))
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

    fn subvolumes(&self) -> Result<Vec<Subvolume>> {
        (**self).subvolumes()
    }

    fn subvolume(&self, id: u64) -> Result<Arc<dyn Tree>> {
        (**self).subvolume(id)
    }

    fn ignores_case(&self) -> bool {
        (**self).ignores_case()
    }

    fn left(&self) -> Left {
        (**self).left()
    }
}

/// A node that something was written of since an earlier state of its filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// The node.
    pub node: NodeId,
    /// What it was; `None` where it was not in use.
    pub before: Option<Named>,
    /// What it is; `None` where it is not in use.
    pub after: Option<Named>,
}

/// A node that names lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// What it is.
    pub kind: NodeKind,
    /// Names that lead to it.
    pub links: u32,
}

/// The nodes of `after` whose records are others than in `before`, an earlier state of the same filesystem, when nothing
/// was written since but the bytes at `written`. The bytes of nodes are the same as well, but for those of touched
/// directories and of what `known` lists of `before`, which the caller looks at. `None` where that cannot be told: then
/// only a walk through all files does.
///
/// # Errors
/// Bytes that cannot be read.
pub fn touched(
    before: &dyn Tree,
    after: &dyn Tree,
    written: &[Range<u64>],
    known: &mut dyn Iterator<Item = NodeId>,
) -> Result<Option<Vec<Touched>>> {
    if written.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let ext = |tree| <dyn Any>::downcast_ref::<crate::ext::ExtTree>(tree);
    match (ext(before), ext(after)) {
        (Some(before), Some(after)) => crate::ext::touched(before, after, written, known),
        _ => Ok(None),
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

    /// What names the filesystem on `volume` on all volumes that it stands on; `None` when it stands on this one alone.
    ///
    /// # Errors
    /// As [`Filesystem::open`].
    fn spans(&self, volume: &dyn Source) -> Result<Option<[u8; 16]>> {
        let _ = volume;
        Ok(None)
    }

    /// Opens `volume`, with whatever else of its filesystem lies on `others`.
    ///
    /// # Errors
    /// As [`Filesystem::open`].
    fn open_over(
        &self,
        volume: Arc<dyn Source>,
        others: &[Arc<dyn Source>],
    ) -> Result<Arc<dyn Tree>> {
        let _ = others;
        self.open(volume)
    }
}

/// The filesystems that can be opened, in the order they are tried.
pub const FILESYSTEMS: &[&dyn Filesystem] = &[
    &crate::ext::Ext4,
    &crate::xfs::Xfs,
    &crate::btrfs::Btrfs,
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
    match recognise(volume.as_ref())? {
        Some(filesystem) => filesystem.open(volume.clone()).map(Some),
        None => Ok(None),
    }
}

fn recognise(volume: &dyn Source) -> Result<Option<&'static dyn Filesystem>> {
    for filesystem in FILESYSTEMS {
        if filesystem.probe(volume)? {
            return Ok(Some(*filesystem));
        }
    }
    Ok(None)
}

/// What one of several volumes carries.
pub enum Found {
    /// A filesystem.
    Tree(Arc<dyn Tree>),
    /// A part of the filesystem that was opened at the volume of this index.
    PartOf(usize),
    /// Nothing whose signature is known.
    Unknown,
}

/// Opens the filesystems of all volumes of a machine, of which one may stand on several.
///
/// There is an answer for every volume, in their order; errors are those of [`Filesystem::open`].
pub fn open_all(volumes: &[Arc<dyn Source>]) -> Vec<Result<Found>> {
    let mut out: Vec<Result<Found>> = Vec::with_capacity(volumes.len());
    let mut spanning: Vec<(&str, [u8; 16], usize)> = Vec::new();
    for (nth, volume) in volumes.iter().enumerate() {
        let found = recognise(volume.as_ref()).and_then(|filesystem| {
            let Some(filesystem) = filesystem else {
                return Ok(Found::Unknown);
            };
            let name = filesystem.name();
            if let Some(id) = filesystem.spans(volume.as_ref())? {
                let first = spanning
                    .iter()
                    .find(|(kind, known, _)| *kind == name && *known == id);
                if let Some((_, _, first)) = first {
                    return Ok(Found::PartOf(*first));
                }
                spanning.push((name, id, nth));
            }
            let others: Vec<_> = volumes
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != nth)
                .map(|(_, other)| other.clone())
                .collect();
            filesystem
                .open_over(volume.clone(), &others)
                .map(Found::Tree)
        });
        out.push(found);
    }
    out
}
