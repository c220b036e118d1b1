//! Filesystems read in userspace, and the guest composed of them.
//!
//! A [`Filesystem`] recognises and opens a volume as a [`Tree`]; a [`Guest`] is the trees of one machine put
//! together as its `/etc/fstab` says, with paths resolved inside the guest. Nothing here knows packages, and
//! nothing here writes.
//!
//! ```
//! use dormouse_block::GuestPath;
//! use dormouse_filesystem::{Guest, MemoryTree};
//!
//! let mut tree = MemoryTree::new();
//! tree.file("/etc/hostname", b"web-01\n").symlink("/etc/name", "hostname");
//! let guest = Guest::of(tree);
//! let path = GuestPath::new("/etc/name").expect("a plain path");
//! assert_eq!(guest.read(&path, 1024).expect("readable").as_deref(), Some(&b"web-01\n"[..]));
//! ```

mod assemble;
pub mod btrfs;
pub mod erofs;
pub mod exfat;
pub mod ext;
pub mod fat;
mod guest;
pub mod iso9660;
mod lz4;
mod memory;
mod names;
pub mod ntfs;
mod pieces;
mod recent;
mod roots;
pub mod squashfs;
mod tree;
mod watched;
mod wtf8;
pub mod xfs;

pub use assemble::{FstabEntry, OpenVolume, Snapshot, Systems, assemble, parse_fstab};
pub use guest::{Follow, Guest, Mount, Resolved};
pub use memory::MemoryTree;
pub use tree::{
    DirEntry, FILESYSTEMS, Filesystem, FilesystemInfo, Found, Left, Metadata, Named, NodeId,
    NodeKind, Subvolume, Time, Touched, Tree, open, open_all, touched,
};
pub use watched::Watched;
