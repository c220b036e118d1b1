//! rpm's package databases and its version order.

mod version;

pub use version::{compare, compare_part};
