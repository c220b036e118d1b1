//! NTFS, exFAT, squashfs, ISO 9660 and EROFS against the programs that made them and the kernel, and broken ones.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::disallowed_methods,
    clippy::print_stdout,
    unreachable_pub,
    reason = "tests make images with other programs and fail by panicking"
)]

mod erofs;
mod exfat;
mod fixtures;
mod hostile;
mod iso9660;
mod ntfs;
mod squashfs;
mod walk;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of images that others made.
pub fn fixtures() -> PathBuf {
    let folder = std::env::var_os("DORMOUSE_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    );
    assert!(
        folder.is_dir(),
        "the fixtures are missing: set DORMOUSE_FIXTURES to their folder"
    );
    folder
}

/// Runs a program that makes or reads images.
pub fn must(program: &str, args: &[&str]) -> String {
    run(Command::new(program).args(args))
}

/// As [`must`], as root: mounting needs it.
pub fn must_as_root(program: &str, args: &[&str]) -> String {
    if rustix::process::geteuid().is_root() {
        return must(program, args);
    }
    run(Command::new("sudo").args(["-n", program]).args(args))
}

fn run(command: &mut Command) -> String {
    let path = format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    );
    let output = command
        .env("PATH", path)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .output()
        .unwrap_or_else(|error| panic!("the oracle {command:?} cannot be run: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A mounted image.
pub struct Mounted {
    at: tempfile::TempDir,
}

impl Mounted {
    /// Mounts by a program that is called with the image and the folder.
    pub fn by(program: &str, image: &Path, options: &[&str]) -> Self {
        let at = tempfile::tempdir().unwrap();
        let mut args = options.to_vec();
        args.extend([image.to_str().unwrap(), at.path().to_str().unwrap()]);
        must_as_root(program, &args);
        Self { at }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.at.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        must_as_root("umount", &[self.at.path().to_str().unwrap()]);
    }
}

/// A file of zeroes.
pub fn empty(folder: &Path, name: &str, bytes: u64) -> PathBuf {
    let image = folder.join(name);
    std::fs::File::create(&image)
        .unwrap()
        .set_len(bytes)
        .unwrap();
    image
}
