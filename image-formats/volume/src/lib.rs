//! Partition tables and volume managers: the volumes of a machine's disks.
//!
//! [`volumes`] takes all disks of a machine at once, since volume groups span disks, and gives a [`VolumeMap`]: every
//! volume with a byte source, what each seems to hold ([`identify()`]), a gap for whatever is broken, and notes on what
//! is odd without hiding anything. Volume systems stand in the static table [`SYSTEMS`]: MD arrays, partition tables, LUKS
//! (with [`Keys`]) and LVM2.
//!
//! Limits: 4096 volumes of one machine, 1 MiB of GPT entries, 1024 logical partitions, 8 layers of volume systems; 16 MiB
//! of a volume group's metadata; key derivations as `dormouse_encryption` allows.
//!
//! ```
//! use dormouse_block::Bytes;
//! use dormouse_volume::{DiskInput, volumes};
//! use std::sync::Arc;
//!
//! let disk = DiskInput::new("disk0", Arc::new(Bytes::new(vec![0; 1 << 20])));
//! let map = volumes(&[disk]);
//! // No partition table: the disk itself is the one volume.
//! assert_eq!(map.volumes[0].info.name, "disk0");
//! assert!(map.gaps.is_empty());
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

mod chunked;
mod foreign;
mod gpt;
mod identify;
mod joined;
mod kinds;
mod luks;
mod lvm;
mod map;
mod mbr;
mod md;
mod partition;
mod placement;
mod signatures;
mod system;

pub use dormouse_encryption::Keys;
pub use identify::{Identified, hibernation_signature, identify};
pub use map::{DiskInput, Note, Volume, VolumeInfo, VolumeMap, volumes, volumes_with_keys};
pub use partition::PartitionInfo;
pub use placement::{DiskRange, Placement};
pub use system::{Found, SYSTEMS, VolumeSystem};
