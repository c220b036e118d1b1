//! apk's package database and its version order.

mod database;
mod version;

pub use database::{Database, Record};
pub use version::{compare, is_version};

pub(crate) use database::Apk;
