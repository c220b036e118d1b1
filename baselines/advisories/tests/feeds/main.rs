//! Feeds of every kind, against what Python reads in the same files.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic, write files and run its oracles"
)]

mod answers;
mod hostile;
mod samples;
mod signatures;

use std::path::{Path, PathBuf};
use std::process::Command;

use dormouse_advisories::{Advisories, Target};
use dormouse_packages::{Family, OsRelease, Package, Purl};

pub(crate) fn fixture(path: &str) -> PathBuf {
    let folder = std::env::var_os("DORMOUSE_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    );
    folder.join("advisories").join(path)
}

pub(crate) fn read(path: &Path) -> Advisories {
    Advisories::read(&[path.to_owned()])
        .unwrap_or_else(|error| panic!("{}: {}", path.display(), error.with_causes()))
}

/// Reads a text as a feed whose file has this name.
pub(crate) fn read_text(name: &str, text: &str) -> dormouse_block::Result<Advisories> {
    Advisories::parse(name, text.as_bytes())
}

/// The lines that a Python script prints of a file, sorted, each once.
pub(crate) fn python(script: &str, path: &Path) -> Vec<String> {
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(path)
        .output()
        .expect("this test needs python3");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    sorted(text.lines().map(str::to_owned))
}

pub(crate) fn sorted(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<_> = lines.collect();
    lines.sort();
    lines.dedup();
    lines
}

pub(crate) fn system(id: &str, version: &str) -> Target {
    Target::of_system(&OsRelease {
        id: id.into(),
        version_id: (!version.is_empty()).then(|| version.to_owned()),
        ..OsRelease::default()
    })
}

/// An installed package, its own source.
pub(crate) fn package(family: Family, name: &str, version: &str, architecture: &str) -> Package {
    let purl = Purl {
        family,
        namespace: "",
        name,
        version,
        qualifiers: &[],
    };
    Package::new(family, name, version, architecture, &purl)
}

/// What the feeds say of a package: each concern with its mended version, `!` before one that is answered.
pub(crate) fn concerns(advisories: &Advisories, target: &Target, package: &Package) -> Vec<String> {
    let judgement = advisories.judge(target, package);
    judgement
        .concerns
        .iter()
        .map(|one| {
            let mark = if one.answer.is_some() { "!" } else { "" };
            format!("{mark}{} {}", one.id, one.fixed.unwrap_or("-"))
        })
        .collect()
}
