//! Disk image formats: containers, backing chains, restore points, saved memory.
//!
//! [`open`] recognises an image (or takes the caller's word for its format), resolves its backing chain through
//! the caller's [`Gate`], and gives an [`Image`]: its host files, its restore points, and a byte source for each.
//! Formats stand in the static table [`FORMATS`]; those that are known by their magic but not read are refused by
//! name, never taken for a raw disk.
//!
//! A format whose image is a map of blocks only says where each stretch of the disk is; reading, layers and compressed
//! units are the same for all. Layers resolve alike too: names through the gate, and the parent must have the
//! identifier that the layer was made on, where the format keeps one.
//!
//! Images that are encrypted (LUKS in qcow2, legacy AES in qcow and qcow2) open without a key as far as their chain and their
//! points go; opening a point takes one of [`OpenOptions::keys`].
//!
//! What a product writes beside its disks to say which of them make up a machine, what its snapshots are and what was saved
//! of it running is read by [`describe`]: by content, in place, and no further than the gate allows.
//!
//! What a hypervisor saved of a running machine is recognised by its first bytes ([`recognise_state`]), and the guest's
//! memory in it is handed over piece by piece ([`SavedMemory`]).
//!
//! Limits: chains of at most [`MAX_CHAIN`] files, disks in at most [`MAX_PARTS`] extents; an L1 table of at most 32 MiB
//! and a snapshot table of at most 16 MiB per qcow2 file; a VHDX log of at most 16 MiB; beside an open point's L1 table,
//! at most 4 MiB of cached tables for each file of the chain; 4 MiB of decoded units for all images that share a [`UnitCache`], unless
//! it was given other room.
//!
//! ```no_run
//! use dormouse_disk::{LibraryGate, OpenOptions, open};
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! # fn main() -> dormouse_block::Result<()> {
//! let gate = LibraryGate::new(["/srv/library"])?;
//! let image = open(Path::new("/srv/library/web.qcow2"), &OpenOptions::new(Arc::new(gate)))?;
//! for point in image.points() {
//!     println!("{}: {} bytes of saved memory", point.id, point.memory.unwrap_or(0));
//! }
//! let disk = image.open_point("active")?;
//! # Ok(()) }
//! ```
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::arithmetic_side_effects,
        reason = "tests make files"
    )
)]

mod decoder;
mod description;
mod encryption;
mod format;
mod gate;
mod image;
mod lock;
mod mapped;
mod open;
mod pages;
mod parallels;
mod parents;
mod plain;
mod qcow;
mod qcow2;
mod qed;
mod raw;
mod recognised;
mod saved_state;
mod sectors;
mod units;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;

pub use description::{
    Algorithm, DescribedDisk, DescribedSnapshot, DescriptionKind, DiskPlace, MachineDescription,
    ManifestEntry, SavedState, describe, describe_source, description_kind, locate,
};
pub use dormouse_encryption::Keys;
pub use format::{FORMATS, Format, FormatName, Probe};
pub use gate::{DenyAll, Gate, LibraryGate, Reference, Role};
pub use image::{
    ACTIVE, Bitmap, Chain, ChainFile, Image, PointInfo, PointKind, State, Timestamp, find_point,
};
pub use lock::{Owner, ReadLock};
pub use open::{
    MAX_CHAIN, MAX_NEIGHBOURS, MAX_PARTS, Member, OpenFile, OpenOptions, Opener, extents_named,
    open, open_member,
};
pub use saved_state::{
    MAX_BLOCKS, MAX_RAM, MAX_RATIO, MAX_ROUNDS, Piece, RamBlock, RamRead, STATE_FORMATS,
    SavedMemory, StateEvidence, StateFormat, StateMeaning, recognise_state,
};
pub use units::UnitCache;
