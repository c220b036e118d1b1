//! Changing ext4 (and ext2 and ext3) on an overlay.
//!
//! The overlay is the transaction, so nothing is journaled: file data goes straight to newly allocated blocks in
//! large pieces, metadata stays in memory and is written with its checksums by [`Editor::finish`](crate::Editor::finish). A journal that was
//! left with work is replayed first, as e2fsck does. Directories are changed in place while there is room, and
//! written anew (hashed, where the filesystem hashes directories) when there is none. The result is what e2fsck calls
//! clean.
//!
//! Refused by name before anything is written: `bigalloc`, `quota`, `project`, `encrypt`, `casefold`, `ea_inode`,
//! `verity`, `shared_blocks`, `read-only` and whatever is unknown; filesystems marked as having errors.

#![warn(clippy::arithmetic_side_effects)]

mod attributes;
mod bitmap;
mod core;
mod descriptors;
mod editor;
mod mapping;
mod names;
mod nodes;
mod rebuild;
mod record;
mod recover;
mod space;
mod store;

pub use editor::{Ext4Editor, Options};
