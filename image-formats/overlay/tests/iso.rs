//! New ISO 9660 images, held against xorriso, isoinfo and our own reader.
#![allow(
    clippy::disallowed_methods,
    reason = "tests write files of their own and run the oracles"
)]
#![allow(clippy::panic, clippy::indexing_slicing, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use dormouse_block::{ErrorKind, GuestPath, HostFile, Result, Source};
use dormouse_filesystem::{Follow, Guest, Time, open};
use dormouse_overlay::{IsoFile, write_iso};

const MADE: Time = Time {
    seconds: 1_793_000_000,
    nanoseconds: 0,
};

type Files = BTreeMap<String, Vec<u8>>;

fn write(files: &Files, out: &mut Vec<u8>) -> Result<u64> {
    let list: Vec<IsoFile> = files
        .iter()
        .map(|(path, bytes)| IsoFile {
            path: path.clone(),
            len: bytes.len() as u64,
        })
        .collect();
    write_iso("DORMOUSE", MADE, &list, out, &mut |path| {
        Ok(Box::new(Cursor::new(files[path].clone())) as Box<dyn Read>)
    })
}

/// Files of every size about a sector's, in folders of many, with long and odd names.
fn corpus() -> Files {
    let mut files = Files::new();
    let mut put = |path: String, len: usize| {
        let bytes = (0..len)
            .map(|i| u8::try_from((i * 31 + path.len()) % 256).unwrap())
            .collect();
        files.insert(path, bytes);
    };
    for len in [0, 1, 2047, 2048, 2049, 70_000] {
        put(
            format!("packages/libfoo{len}_1.2+deb12u{len}_amd64.deb"),
            len,
        );
    }
    for n in 0..300 {
        put(format!("plans/machine-{n}/active.json"), n);
    }
    put("packages/".to_owned() + &"n".repeat(169), 5);
    put("a/b/c/d/e/f/g/deep".into(), 10);
    put("Übung mit Umlaut".into(), 3);
    put("UPPER.TXT".into(), 4);
    put("upper.txt".into(), 5);
    files
}

fn image(files: &Files, folder: &Path) -> std::path::PathBuf {
    let mut bytes = Vec::new();
    let said = write(files, &mut bytes).unwrap();
    assert_eq!(said, bytes.len() as u64);
    let path = folder.join("image.iso");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap_or_else(|error| panic!("cannot run {program}, which this test needs: {error}"));
    assert!(
        output.status.success(),
        "{program}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn collect(top: &Path, folder: &Path, found: &mut Files) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(top, &path, found);
        } else {
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

#[test]
fn xorriso_finds_every_file_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let files = corpus();
    let image = image(&files, folder.path());
    let tree = folder.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    run(
        "xorriso",
        &[
            "-abort_on",
            "SORRY",
            "-osirrox",
            "on",
            "-indev",
            image.to_str().unwrap(),
            "-extract",
            "/",
            tree.to_str().unwrap(),
        ],
    );
    run("chmod", &["-R", "u+rwX", tree.to_str().unwrap()]);
    let mut found = Files::new();
    collect(&tree, &tree, &mut found);
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        files.keys().collect::<Vec<_>>()
    );
    assert!(found == files, "some file has other bytes");
    let about = run("isoinfo", &["-d", "-i", image.to_str().unwrap()]);
    assert!(
        about.contains("Volume id: DORMOUSE") && about.contains("Rock Ridge"),
        "{about}"
    );
    let sectors = std::fs::metadata(&image).unwrap().len() / 2048;
    assert!(
        about.contains(&format!("Volume size is: {sectors}\n")),
        "{about}"
    );
}

#[test]
fn our_own_reader_finds_every_file_and_mode() {
    let folder = tempfile::tempdir().unwrap();
    let files = corpus();
    let image = image(&files, folder.path());
    let source: Arc<dyn Source> = Arc::new(HostFile::open(&image).unwrap());
    let tree = open(&source).unwrap().expect("a filesystem");
    let guest = Guest::of(tree);
    for (path, bytes) in &files {
        let path = GuestPath::new(format!("/{path}")).unwrap();
        assert_eq!(
            guest.read(&path, 1 << 20).unwrap().as_ref(),
            Some(bytes),
            "{path}"
        );
        let metadata = guest.metadata(&path, Follow::No).unwrap().unwrap();
        assert_eq!(metadata.mode & 0o7777, 0o444, "{path}");
    }
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let (mut one, mut two) = (Vec::new(), Vec::new());
    write(&corpus(), &mut one).unwrap();
    write(&corpus(), &mut two).unwrap();
    assert!(one == two);
}

#[test]
fn what_the_format_cannot_hold_is_refused() {
    let refused = |path: &str| {
        let files = Files::from([(path.to_owned(), Vec::new())]);
        write(&files, &mut Vec::new()).unwrap_err().kind()
    };
    assert_eq!(refused("1/2/3/4/5/6/7/8/x"), ErrorKind::Limit);
    assert_eq!(refused(&"x".repeat(170)), ErrorKind::Limit);
    for path in ["", "/x", "a//x", "../x", "a/./x", "a\0"] {
        assert_eq!(refused(path), ErrorKind::Corrupt, "{path:?}");
    }
    let files = Files::from([("a".to_owned(), Vec::new()), ("a/b".to_owned(), Vec::new())]);
    assert!(write(&files, &mut Vec::new()).is_err());
    // Longer and shorter than it was said to be, and larger than a number of the format.
    for (said, is) in [(5, 4), (4, 5), (1 << 32, 0)] {
        let list = [IsoFile {
            path: "a".into(),
            len: said,
        }];
        let mut open = |_: &str| Ok(Box::new(Cursor::new(vec![0_u8; is])) as Box<dyn Read>);
        assert!(write_iso("D", MADE, &list, &mut Vec::new(), &mut open).is_err());
    }
}
