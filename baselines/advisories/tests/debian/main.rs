//! Debian repositories, against GnuPG, apt and dpkg-deb.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic, write files and run its oracles"
)]

mod apt;
mod archive;
mod feeds;
mod layouts;
mod mutation;
mod repository;
mod signatures;
