//! The editor of FAT against fsck.fat, mtools, the kernel, and a model.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    dead_code,
    reason = "tests make images with other programs and fail by panicking"
)]

#[path = "../ext/device.rs"]
mod device;
mod draft;
mod hostile;
mod volumes;
mod workload;
