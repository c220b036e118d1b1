//! Registry hives that others collected, and those made by hand.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may panic, write files and run its oracles"
)]

mod guests;
mod hives;
mod hostile;
mod oracle;
