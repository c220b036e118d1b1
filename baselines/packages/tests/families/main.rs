//! rpm's, apk's and pacman's databases and version orders, against the lists that those tools made and the tools
//! themselves.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic, write files and run its oracles"
)]

mod hostile;
mod roots;
mod rpm;
mod versions;

use std::path::{Path, PathBuf};
use std::process::Command;

use dormouse_block::Locator;
use dormouse_filesystem::{Guest, MemoryTree};
use dormouse_packages::{Inventory, take};

pub(crate) fn fixture(path: &str) -> PathBuf {
    let folder = std::env::var_os("DORMOUSE_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    );
    folder.join(path)
}

pub(crate) fn read(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn text(path: impl AsRef<Path>) -> String {
    String::from_utf8(read(path)).unwrap()
}

/// What a program prints; a program that is missing or fails fails the test.
pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("this test needs {command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    output.stdout
}

/// A fixture wrapped as `.zst`.
pub(crate) fn unwrapped(path: &str) -> Vec<u8> {
    run(Command::new("zstd").arg("-dqc").arg(fixture(path)))
}

pub(crate) fn inventory(tree: MemoryTree) -> Inventory {
    take(&Guest::of(tree), &Locator::machine("web-01"))
}

/// A small generator of pseudo-random numbers (xorshift), so that a failure is the same failure again.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % below.max(1)
    }
}
