//! Unpacks package files over a root folder twice, with dpkg and with a session, and compares the two.
//!
//! `fidelity ROOT WORK DEB...`: ROOT is read only; WORK receives the copies. Packages that a session defers or refuses are named
//! and left out of both. Needs root, for dpkg runs maintainer scripts in a chroot.
#![allow(clippy::disallowed_methods, reason = "an instrument, not a library")]
#![allow(
    missing_docs,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout
)]
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

#[path = "../tests/dpkg/host.rs"]
mod host;
#[path = "../tests/dpkg/root.rs"]
mod root;

use dormouse_remedy::dpkg::Unpacking;

fn main() {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(base), Some(work)) = (arguments.next(), arguments.next()) else {
        panic!("usage: fidelity ROOT WORK DEB...");
    };
    let debs: Vec<PathBuf> = arguments.collect();
    let all: Vec<&Path> = debs.iter().map(PathBuf::as_path).collect();
    let (theirs, ours) = (work.join("theirs"), work.join("ours"));
    for copy in [&theirs, &ours] {
        let _ = std::fs::remove_dir_all(copy);
        root::run(Command::new("cp").arg("-a").arg(&base).arg(copy));
    }
    let (outcomes, elapsed) = root::unpack_timed(&base, &ours, &all);
    println!("session: {elapsed:?}");
    let mut done = Vec::new();
    for (deb, outcome) in all.iter().zip(&outcomes) {
        let name = deb.file_name().unwrap_or_default().to_string_lossy();
        match outcome {
            Unpacking::Done { scripts, .. } => {
                println!("done      {name} ({} scripts)", scripts.len());
                done.push(*deb);
            }
            Unpacking::Deferred { scripts } => println!("deferred  {name}: {:?}", scripts.last()),
            Unpacking::Refused { why } => println!("refused   {name}: {why}"),
        }
    }
    // dpkg runs inside, where names of users are the guest's own.
    let inside = theirs.join("package-files");
    std::fs::create_dir(&inside).unwrap();
    let mut names = Vec::new();
    for deb in &done {
        let name = deb.file_name().unwrap();
        std::fs::copy(deb, inside.join(name)).unwrap();
        names.push(Path::new("/package-files").join(name));
    }
    let start = Instant::now();
    root::run(
        Command::new("chroot")
            .arg(&theirs)
            .args([
                "dpkg",
                "--force-unsafe-io",
                "--no-triggers",
                "--auto-deconfigure",
                "--unpack",
            ])
            .args(&names),
    );
    std::fs::remove_dir_all(&inside).unwrap();
    println!("dpkg: {:?}", start.elapsed());
    host::assert_same(&theirs, &ours);
    println!("{} packages unpacked alike", done.len());
}
