//! Registry hives: the `regf` format, with the transaction logs that a hive was left with.
//!
//! A hive is a tree of keys with values, kept in cells of its bins. Windows writes what changed to a log first, so a hive
//! of a machine that was not shut down (or was paused, or copied while it ran) is only whole together with its logs:
//! [`Hive::open`] applies them in memory, as Windows would on the next start, and [`Hive::condition`] says what came
//! of it. Nothing is ever written.
//!
//! Source: Maxim Suhanov's "Windows registry file format specification". Security descriptors, class names and deleted
//! cells are not read.
//!
//! Limits: bins of 2 GiB, logs of 256 MiB with 128 MiB of dirty pages, 1,048,576 subkeys or values for a key, 16 MiB for a
//! value, and in all a fixed multiple of the hive's own size read.

mod base_block;
mod hive;
mod key;
mod log;
mod marvin32;
mod pages;
mod value;

pub use hive::{Condition, Hive};
pub use key::{Key, Subkeys};
pub use value::Value;
