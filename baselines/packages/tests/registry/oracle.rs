//! What libhivex makes of a hive, and where the hives are.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use dormouse_block::{Bytes, Digest, Error, Result, Source};
use dormouse_packages::windows::regf::{Hive, Key};

pub(crate) fn registry() -> PathBuf {
    let folder = std::env::var_os("DORMOUSE_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    );
    let folder = folder.join("registry");
    assert!(
        folder.is_dir(),
        "the fixtures are missing: set DORMOUSE_FIXTURES to their folder"
    );
    folder
}

/// Runs one of the system's own programs; without it the test fails.
pub(crate) fn run(program: &str, arguments: &[&str]) -> std::process::Output {
    Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| {
            panic!("{program} is needed (tests/guests/prerequisites.sh test): {error}")
        })
}

/// Folders of fixtures.
pub(crate) const ALL: &[&str] = &["libguestfs", "nt-hive", "plaso", "regipy", "yarp"];

/// The fixtures of these folders, unpacked into `to`: their names below it.
pub(crate) fn unpack(to: &Path, folders: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    for folder in folders {
        let mut files: Vec<_> = std::fs::read_dir(registry().join(folder))
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        files.sort();
        std::fs::create_dir(to.join(folder)).unwrap();
        for file in files {
            let name = file.file_name().unwrap().to_str().unwrap();
            let stem = to.join(folder).join(file.file_stem().unwrap());
            let from = file.to_str().unwrap();
            if name.ends_with(".tar.zst") {
                let into = to.join(folder);
                let done = run(
                    "tar",
                    &["-I", "zstd", "-xf", from, "-C", into.to_str().unwrap()],
                );
                assert!(done.status.success(), "{name}");
            } else if name.ends_with(".zst") {
                let done = run("zstd", &["-dqo", stem.to_str().unwrap(), from]);
                assert!(done.status.success(), "{name}");
            } else if name.ends_with(".xz") {
                let done = run("xz", &["-dkc", from]);
                assert!(done.status.success(), "{name}");
                std::fs::write(&stem, done.stdout).unwrap();
            } else if !name.ends_with(".txt") {
                std::fs::copy(&file, to.join(folder).join(name)).unwrap();
            }
        }
    }
    collect(to, to, &mut names);
    names.sort();
    names
}

fn collect(root: &Path, folder: &Path, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, names);
        } else {
            let name = path.strip_prefix(root).unwrap();
            names.push(name.to_str().unwrap().to_owned());
        }
    }
}

pub(crate) fn source(path: &Path) -> Arc<dyn Source> {
    Arc::new(Bytes::new(std::fs::read(path).unwrap()))
}

/// What libhivex says of the keys below `top`; nothing where it refuses the hive or a part of it.
pub(crate) fn hivex(path: &Path, top: &str) -> Option<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/registry/dump.py");
    // The system's own interpreter is the one that the system's own bindings are for.
    let done = run(
        "/usr/bin/python3",
        &[script.to_str().unwrap(), path.to_str().unwrap(), top],
    );
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        !said.contains("ModuleNotFoundError"),
        "python3-hivex is needed: {said}"
    );
    done.status
        .success()
        .then(|| String::from_utf8(done.stdout).unwrap())
}

fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

/// The same of our own.
pub(crate) fn dump(hive: &Hive, top: &str) -> Result<String> {
    let mut out = String::new();
    let top = hive.key(top)?.expect("the key to begin at");
    walk(&top, "", 0, &mut out)?;
    Ok(out)
}

fn walk(key: &Key<'_>, path: &str, depth: usize, out: &mut String) -> Result<()> {
    if depth > 512 {
        return Err(Error::limit("keys deeper than Windows allows"));
    }
    writeln!(out, "K {}", hex(path)).unwrap();
    for value in key.values()? {
        let data = value.data()?;
        let digest = Digest::of(&data).to_string();
        let digest = digest.trim_start_matches("sha256:");
        writeln!(out, "V {} {} {digest}", hex(value.name()), value.kind()).unwrap();
    }
    for child in key.subkeys()? {
        let child = child?;
        walk(&child, &format!("{path}\\{}", child.name()), depth + 1, out)?;
    }
    Ok(())
}
