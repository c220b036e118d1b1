//! Judging by baselines, and the published schemas of what is judged.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic and read its fixtures"
)]

mod baselines;
mod schemas;
mod verdicts;
mod world;
