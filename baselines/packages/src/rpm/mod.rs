//! rpm's package databases and its version order.
//!
//! A database holds one header for each package, whatever its backend: SQLite, ndb, or Berkeley DB's hashes and B-trees of
//! either byte order. [`read`] finds the databases of a guest and hands out their headers.

mod berkeley;
mod database;
mod header;
mod key_id;
mod ndb;
mod package;
mod version;

pub use database::{Backend, DatabaseFile, Found, read};
pub use header::{File, Header};
pub use package::PackageHeader;
pub use version::{compare, compare_part};

pub(crate) use database::Rpm;

/// Largest header read, in bytes. rpm itself takes 256 MiB; the largest known has 8 MiB.
const MAX_HEADER: usize = 64 << 20;
