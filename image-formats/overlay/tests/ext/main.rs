//! The editor of ext4 against e2fsck, debugfs, the kernel, and a model.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    unreachable_pub,
    dead_code,
    reason = "tests make images with other programs and fail by panicking"
)]

mod cases;
mod device;
mod features;
mod hostile;
#[path = "../../../filesystem/tests/kernel/mod.rs"]
mod kernel;
mod model;
#[path = "../../../filesystem/tests/ext/oracle.rs"]
mod oracle;
mod room;
mod touched;
mod workload;
