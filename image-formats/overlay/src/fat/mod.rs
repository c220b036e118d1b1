//! Changing FAT12, FAT16 and FAT32 on an overlay, as an EFI system partition needs it.
//!
//! The table is in memory and is written to all its copies, with the count of free clusters, by
//! [`Editor::finish`](crate::Editor::finish); so are the folders that changed. Bytes of files go straight to newly taken
//! clusters. Names keep their case and are found whatever their case; short names are made as Windows makes them.
//!
//! FAT keeps no owners, modes and extended attributes: those given are let go of, and a draft over a FAT volume says so
//! beforehand (`Tree::kept_mode`). Symbolic links, hard links, devices, pipes and sockets are refused.
//!
//! Refused by name before anything is written: a volume that was not left clean, whose copies of the table differ, or of
//! more than 2^22 clusters.

#![warn(clippy::arithmetic_side_effects)]

mod clusters;
mod editor;
mod folder;

pub use editor::FatEditor;
