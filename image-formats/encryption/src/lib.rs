//! Encrypted bytes and their keys, wherever they stand: in a volume of a disk, or in the disk's own image.
//!
//! [`Luks`] reads the headers of LUKS1 and LUKS2 and unlocks them with [`Keys`]; a [`SectorCipher`] decrypts what they
//! describe, or what legacy qcow encryption made, as dm-crypt names and numbers it. Which sector has which number is known
//! to whoever knows the container: see [`Sectors`].
//!
//! Limits: key derivations of 4 GiB of memory, and of the work that a [`Budget`] allows: 128 GiB for one, 512 GiB for all;
//! 64 keys of 8 MiB.
//!
//! ```
//! use dormouse_encryption::SectorCipher;
//!
//! let cipher = SectorCipher::new("aes-xts-plain64", &[7; 64])?;
//! let mut sector = [0; 512];
//! cipher.decrypt(0, 512, &mut sector);
//! # Ok::<(), dormouse_block::Error>(())
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

mod cipher;
mod decrypted;
mod hash;
mod kdf;
mod keys;
mod luks;

pub use cipher::SectorCipher;
pub use decrypted::Sectors;
pub use kdf::Budget;
pub use keys::Keys;
pub use luks::{Luks, LuksKey};
