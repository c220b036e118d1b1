//! Judging by baselines, and the published schemas of what is judged.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic and read its fixtures"
)]

mod advisories;
mod apt;
#[allow(
    dead_code,
    reason = "the archive of the tests of repositories, of which this needs a part"
)]
#[path = "../../../advisories/tests/debian/archive.rs"]
mod archive;
mod baselines;
mod checks;
mod deadlines;
mod fixes;
mod pins;
mod schemas;
mod stages;
mod verdicts;
mod windows;
mod world;
