//! Packages of languages in a guest, and their version orders.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic and make files"
)]

mod orders;
mod programs;
mod trees;
