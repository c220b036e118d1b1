//! apk's package database and its version order.

mod version;

pub use version::{compare, is_version};
