//! What the written bytes reach is judged as a walk through all files judges it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::process::Command;
use std::sync::{Arc, Mutex};

use dormouse_block::{Digest, GuestPath, Locator, Result, Source};
use dormouse_filesystem::ext::ExtTree;
use dormouse_filesystem::{Guest, NodeKind, Time};
use dormouse_overlay::ext::{Ext4Editor, Options};
use dormouse_overlay::{Attributes, Device, Editor};
use dormouse_remedy::{Injection, PathChange, Verification, verify_others};

use crate::root::run;

type Edit = fn(&mut Ext4Editor);
type Planned<'a> = &'a [(&'a str, PathChange)];

const CLUSTER: usize = 64 << 10;

/// A disk in memory.
struct Disk(Mutex<Vec<u8>>);

impl Source for Disk {
    fn len(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).unwrap();
        buf.copy_from_slice(&self.0.lock().unwrap()[start..start + buf.len()]);
        Ok(())
    }
}

impl Device for Disk {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.0.lock().unwrap()[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

fn path(text: &str) -> GuestPath {
    GuestPath::new(text).unwrap()
}

fn attributes(mode: u16) -> Attributes {
    Attributes {
        mode,
        uid: 0,
        gid: 0,
        mtime: Time {
            seconds: 1_700_000_000,
            nanoseconds: 0,
        },
        xattrs: BTreeMap::new(),
    }
}

/// That something is put at a path; what, nobody asks who looks at the others.
fn put() -> PathChange {
    PathChange::Put {
        kind: NodeKind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        size: Some(0),
        digest: Some(Digest::of(b"")),
        payload: None,
        same_as: None,
        xattrs: BTreeMap::new(),
    }
}

fn set() -> PathChange {
    PathChange::Attributes {
        mode: 0o700,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: BTreeMap::new(),
    }
}

fn base() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    for (name, bytes) in [
        ("a/one", vec![b'1'; 5000]),
        ("a/two", vec![b'2'; 9000]),
        ("b/deep/file", vec![b'f'; 100]),
        ("b/keep", vec![b'k'; 20_000]),
        ("c/other", vec![b'o'; 70_000]),
    ] {
        let file = root.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
    for nth in 0..200 {
        fs::create_dir_all(root.join(format!("many/{nth}"))).unwrap();
        fs::write(root.join(format!("many/{nth}/file")), nth.to_string()).unwrap();
    }
    fs::hard_link(root.join("a/two"), root.join("a/three")).unwrap();
    std::os::unix::fs::symlink("other", root.join("c/link")).unwrap();
    let image = folder.path().join("image");
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-d"]);
    run(make.arg(&root).arg(&image).arg("64M"));
    fs::read(image).unwrap()
}

fn guest(bytes: &[u8]) -> Guest {
    let source = Arc::new(dormouse_block::Bytes::new(bytes.to_vec()));
    Guest::of(ExtTree::open(source).unwrap())
}

/// The clusters in which two disks differ, as an overlay of one on the other holds them.
fn written(before: &[u8], after: &[u8]) -> Vec<Range<u64>> {
    let pairs = before
        .chunks(CLUSTER)
        .zip(after.chunks(CLUSTER))
        .enumerate();
    pairs
        .filter(|(_, (was, is))| was != is)
        .map(|(nth, (was, _))| {
            let at = (nth * CLUSTER) as u64;
            at..at + was.len() as u64
        })
        .collect()
}

/// What both ways say of a base, edited so, when these changes were planned: by what was written, and by a walk.
fn judged(
    before: &[u8],
    planned: Planned<'_>,
    edit: impl FnOnce(&mut Ext4Editor),
    tamper: impl FnOnce(&mut Vec<u8>),
) -> (Verification, Verification) {
    let disk = Arc::new(Disk(Mutex::new(before.to_vec())));
    let device: Arc<dyn Device> = disk.clone();
    let now = attributes(0).mtime;
    let mut editor = Ext4Editor::open(device, Options { now }).unwrap();
    edit(&mut editor);
    Box::new(editor).finish().unwrap();
    let mut after = disk.0.lock().unwrap().clone();
    tamper(&mut after);
    let injection = Injection {
        schema: Injection::SCHEMA.to_owned(),
        at: Locator::machine("web-01"),
        now: "2026-11-01T00:00:00Z".parse().unwrap(),
        packages: Vec::new(),
        others: Vec::new(),
        triggers: Vec::new(),
        fixes: Vec::new(),
        first_boot: Vec::new(),
        paths: planned
            .iter()
            .map(|(at, change)| (path(at), change.clone()))
            .collect(),
        inventory: BTreeSet::new(),
        bytes: 0,
    };
    let written = vec![written(before, &after)];
    let (base, after) = (guest(before), guest(&after));
    let near = verify_others(&base, &after, &injection, Some(&written)).unwrap();
    let walk = verify_others(&base, &after, &injection, None).unwrap();
    (near, walk)
}

fn nothing(_: &mut Vec<u8>) {}

#[test]
fn what_was_planned_and_nothing_else_is_seen_from_what_was_written() {
    let base = base();
    let cases: &[(Planned<'_>, Edit)] = &[
        (&[("/a/one", put())], |editor| {
            let bytes = [b'x'; 7000];
            editor
                .put_file(&path("/a/one"), &attributes(0o644), 7000, &mut &bytes[..])
                .unwrap();
        }),
        (
            &[
                ("/b/deep", PathChange::Removed),
                ("/b/deep/file", PathChange::Removed),
            ],
            |editor| {
                editor.remove(&path("/b/deep/file")).unwrap();
                editor.remove(&path("/b/deep")).unwrap();
            },
        ),
        (
            &[("/new", put()), ("/new/file", put()), ("/c/link", put())],
            |editor| {
                editor
                    .make_directory(&path("/new"), &attributes(0o755))
                    .unwrap();
                editor
                    .put_file(&path("/new/file"), &attributes(0o644), 3, &mut &b"new"[..])
                    .unwrap();
                editor
                    .put_symlink(&path("/c/link"), &attributes(0o777), b"../a/one")
                    .unwrap();
            },
        ),
        (&[("/b", set()), ("/c/other", set())], |editor| {
            editor
                .set_attributes(&path("/b"), &attributes(0o700))
                .unwrap();
            editor
                .set_attributes(&path("/c/other"), &attributes(0o600))
                .unwrap();
        }),
        (
            &[("/a/two", PathChange::Removed), ("/a/three", put())],
            |editor| {
                editor.remove(&path("/a/two")).unwrap();
                editor
                    .put_file(&path("/a/three"), &attributes(0o644), 3, &mut &b"333"[..])
                    .unwrap();
            },
        ),
    ];
    for (nth, (planned, edit)) in cases.iter().enumerate() {
        let (near, walk) = judged(&base, planned, edit, nothing);
        assert!(near.passed && walk.passed, "{nth}: {near:#?} {walk:#?}");
        assert!(
            walk.others > 400 && near.others < 20,
            "{nth}: {} {}",
            near.others,
            walk.others
        );
    }
}

#[test]
fn what_was_not_planned_is_found_either_way() {
    let base = base();
    let removed = || PathChange::Removed;
    let cases: &[(&str, Planned<'_>, Edit)] = &[
        ("/a/stray", &[("/a/one", put())], |editor| {
            for name in ["/a/one", "/a/stray"] {
                editor
                    .put_file(&path(name), &attributes(0o644), 3, &mut &b"new"[..])
                    .unwrap();
            }
        }),
        ("/b/deep", &[("/b", set())], |editor| {
            for name in ["/b", "/b/deep"] {
                editor
                    .set_attributes(&path(name), &attributes(0o700))
                    .unwrap();
            }
        }),
        ("/b/deep", &[("/b/deep/file", removed())], |editor| {
            editor.remove(&path("/b/deep/file")).unwrap();
            editor.remove(&path("/b/deep")).unwrap();
        }),
        ("/b", &[("/d", put())], |editor| {
            editor.rename(&path("/b"), &path("/d")).unwrap();
        }),
        ("/a", &[("/a/one", put())], |editor| {
            editor
                .put_file(&path("/a/one"), &attributes(0o644), 3, &mut &b"new"[..])
                .unwrap();
            editor
                .set_attributes(&path("/a"), &attributes(0o711))
                .unwrap();
        }),
        ("/new/stray", &[("/new", put())], |editor| {
            editor
                .make_directory(&path("/new"), &attributes(0o755))
                .unwrap();
            editor
                .put_file(&path("/new/stray"), &attributes(0o644), 3, &mut &b"new"[..])
                .unwrap();
        }),
        ("/many/7/file", &[("/a/one", put())], |editor| {
            editor
                .put_file(&path("/a/one"), &attributes(0o644), 3, &mut &b"new"[..])
                .unwrap();
            editor.link(&path("/a/one"), &path("/many/7/file")).unwrap();
        }),
        ("/a/three", &[("/a/two", set())], |editor| {
            editor
                .set_attributes(&path("/a/two"), &attributes(0o600))
                .unwrap();
        }),
    ];
    for (stray, planned, edit) in cases {
        let (near, walk) = judged(&base, planned, edit, nothing);
        assert!(!near.passed, "{stray}");
        assert_eq!(near, walk, "{stray}");
        let named = |one: &dormouse_remedy::Deviation| one.path == Some(path(stray));
        assert!(near.deviations.iter().any(named), "{stray}: {near:#?}");
    }
}

/// A walk compares no bytes; bytes that changed in place are seen from what was written, and the walk is made.
#[test]
fn a_file_that_lost_a_byte_sends_one_through_all_files() {
    let base = base();
    let at = base
        .windows(600)
        .position(|bytes| bytes == [b'k'; 600])
        .unwrap();
    let edit = |editor: &mut Ext4Editor| {
        editor
            .put_file(&path("/a/one"), &attributes(0o644), 3, &mut &b"new"[..])
            .unwrap();
    };
    let planned = [("/a/one", put())];
    let (near, walk) = judged(&base, &planned, edit, |after| after[at] = b'!');
    assert_eq!(near.others, walk.others);
    let (near, walk) = judged(&base, &planned, edit, nothing);
    assert!(near.others < walk.others);
}
