//! Changing ext4 (and ext2 and ext3) on an overlay.
//!
//! The overlay is the transaction, so nothing is journaled: file data goes straight to newly allocated blocks in
//! large pieces, metadata stays in memory and is written with its checksums by [`Editor::finish`](crate::Editor::finish). A journal that was
//! left with work is replayed first, as e2fsck does. Directories are changed in place while there is room, and
//! written anew (hashed, where the filesystem hashes directories) when there is none. The result is what e2fsck calls
//! clean.
//!
//! Blocks are given out in whole clusters where the filesystem has `bigalloc`, files are mapped by indirect blocks where it
//! has no extents, what is made in a directory takes its project and the flags that are inherited, and the hidden files of
//! `quota` are written anew with what every owner has.
//!
//! Refused by name before anything is written: `shared_blocks`, `read-only`, `snapshot`, `replica` and whatever is unknown;
//! filesystems marked as having errors. Refused when it is met: changing names in directories that are encrypted or ignore
//! case.

#![warn(clippy::arithmetic_side_effects)]

mod attributes;
mod bitmap;
mod blocks;
mod core;
mod descriptors;
mod editor;
mod inodes;
mod mapping;
mod names;
mod nodes;
mod quota;
mod quota_file;
mod rebuild;
mod record;
mod recover;
mod space;
mod store;
mod zones;

pub use editor::{Ext4Editor, Options};
