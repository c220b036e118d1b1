//! Positioned, read-only bytes and the address of everything found in them.
//!
//! This is the lowest layer: it knows host files, windows into them, how much was read, where
//! something is ([`Locator`], [`GuestPath`]) and how reading can fail ([`Error`], [`Gap`]). It knows
//! no image format, no filesystem and no package.
//!
//! Nothing here can write: a [`Source`] has a length and a positioned exact read, and a host file is
//! opened read-only.
//!
//! ```
//! use dormouse_block::{Bytes, Source, window};
//! use std::sync::Arc;
//!
//! let disk: Arc<dyn Source> = Arc::new(Bytes::new(vec![0, 1, 2, 3]));
//! let tail = window(disk, 2, 2).expect("2 + 2 is within 4 bytes");
//! let mut buf = [0; 2];
//! tail.read_exact_at(0, &mut buf).expect("both bytes are there");
//! assert_eq!(buf, [2, 3]);
//! ```

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make files"))]

mod bytes;
mod digest;
mod error;
mod file;
mod locator;
mod lzo;
mod meter;
mod path;
mod source;

pub use bytes::{array_at, be_u16, be_u32, be_u64, le_u16, le_u32, le_u64, slice_at};
pub use digest::{Digest, DigestReader};
pub use error::{Error, ErrorKind, Gap, Result};
pub use file::{HostFile, Identity};
pub use locator::{Locator, escape_terminal};
pub use lzo::decompress as lzo_decompress;
pub use meter::{Meter, Metered};
pub use path::{GuestPath, GuestPathError};
pub use source::{Bytes, Source, Window, digest_of, read_vec_at, window};
