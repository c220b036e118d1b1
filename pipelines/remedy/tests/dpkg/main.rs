//! Unpacking held against the real dpkg: the same packages on two copies of one root, and whole trees compared.
#![allow(
    clippy::disallowed_methods,
    reason = "tests write folders of their own and run the oracle"
)]
#![allow(
    missing_docs,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

mod cases;
mod catch_up;
mod configuring;
mod host;
mod injection;
mod pairs;
mod precedent;
mod reach;
mod root;
mod waking;
