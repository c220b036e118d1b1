//! What a catch-up takes: bytes and time.

use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// Milliseconds that dpkg takes for a package whatever is in it: its scripts, its triggers, its database written anew.
/// Ours, from dpkg in a chroot on servers of three Debian releases (`make fidelity` records its times).
const PER_PACKAGE: u64 = 400;
/// Bytes that dpkg unpacks in a millisecond, syncing as it does; likewise.
const UNPACKED: u64 = 20_000;
/// Milliseconds that a new kernel's initial file system takes; likewise.
const PER_KERNEL: u64 = 25_000;
/// Seconds allowed for a restart, up to a login prompt. Ours: what a server with a firmware of no long tests takes.
const RESTART: u64 = 60;
/// Bytes copied in a millisecond, for whole images. Ours: a slow disk.
const COPIED: u64 = 100_000;
/// An offline injection takes one part in so many of the time that dpkg takes (`make bench` prints the ratio).
const OFFLINE: u64 = 4;

/// What is to be expected of it. Seconds are estimates, for planning a window: those that dpkg took on one slow disk for
/// the same packages, and a minute for a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cost {
    /// Bytes of the package files.
    pub payload_bytes: u64,
    /// Bytes that the packages say their files have.
    pub expected_bytes: u64,
    /// Seconds from the script's start until nothing is left to do.
    pub seconds: u64,
    /// Seconds of those that the restart at its end takes.
    pub restart_seconds: u64,
}

impl Cost {
    /// What `plan` takes when dpkg installs it, with or without a restart at its end.
    pub(super) fn of(plan: &Plan, reboots: bool) -> Self {
        let restart_seconds = if reboots { RESTART } else { 0 };
        Self {
            payload_bytes: plan.payload_bytes,
            expected_bytes: plan.expected_bytes,
            seconds: seconds(installing(plan)).saturating_add(restart_seconds),
            restart_seconds,
        }
    }
}

/// Milliseconds that dpkg takes.
fn installing(plan: &Plan) -> u64 {
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let kernels = plan
        .packages
        .iter()
        .filter(|package| {
            let release = package.name.strip_prefix("linux-image-");
            release.is_some_and(|release| release.starts_with(|c: char| c.is_ascii_digit()))
        })
        .count();
    count(plan.packages.len())
        .saturating_mul(PER_PACKAGE)
        .saturating_add(plan.expected_bytes.div_ceil(UNPACKED))
        .saturating_add(count(kernels).saturating_mul(PER_KERNEL))
}

/// Seconds that injecting `plan` offline takes.
pub(super) fn offline(plan: &Plan) -> u64 {
    seconds(installing(plan).div_ceil(OFFLINE))
}

/// Seconds that copying `bytes` takes.
pub(super) fn copying(bytes: u64) -> u64 {
    seconds(bytes.div_ceil(COPIED))
}

fn seconds(milliseconds: u64) -> u64 {
    milliseconds.div_ceil(1000)
}
