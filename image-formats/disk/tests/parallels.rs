//! Parallels disks of several files: each layer as QEMU's parallels driver reads it, put together by its map of what is there.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests write files")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod oracle;

use std::path::{Path, PathBuf};

use dormouse_block::ErrorKind::{self, Corrupt, Denied, Limit};
use dormouse_disk::{ACTIVE, FormatName, PointKind, Role, extents_named};
use oracle::{Random, assert_same, image, open, run, seed_raw};

const SIZE: u64 = 3 << 20;
const TOP: &str = "5fbaabe3-6958-40ff-92a7-860e329aab41";
const NONE: &str = "00000000-0000-0000-0000-000000000000";

/// A UUID of this number.
fn id(number: u32) -> String {
    format!("ABCDEF00-0000-0000-0000-{number:012}")
}

fn shot(id: &str, parent: &str) -> String {
    format!("<Shot><GUID>{{{id}}}</GUID><ParentGUID>{{{parent}}}</ParentGUID></Shot>")
}

fn file(id: &str, kind: &str, name: &str) -> String {
    format!("<Image><GUID>{{{id}}}</GUID><Type>{kind}</Type><File>{name}</File></Image>")
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.at("")).unwrap();
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join("web.hdd").join(name)
    }

    /// A raw disk that is no part of the other.
    fn raw(&self, name: &str, len: u64, seed: u64) -> PathBuf {
        let path = self.0.path().join(name);
        seed_raw(&path, len, seed);
        path
    }

    /// A whole disk in a file.
    fn root(&self, name: &str, from: &Path) {
        let to = self.at(name);
        let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
        let options = "cluster_size=64k";
        run(
            "qemu-img",
            &[
                "convert",
                "-f",
                "raw",
                "-O",
                "parallels",
                "-o",
                options,
                from,
                to,
            ],
        );
    }

    /// A file with some clusters.
    fn overlay(&self, name: &str, seed: u64) {
        let (to, size) = (self.at(name), SIZE.to_string());
        let to = to.to_str().unwrap();
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                "parallels",
                "-o",
                "cluster_size=64k",
                to,
                &size,
            ],
        );
        let mut random = Random(seed);
        let mut args = vec!["-f".to_owned(), "parallels".to_owned()];
        for _ in 0..7 {
            let at = random.below(SIZE / 4096) * 4096;
            let len = (random.below(40) + 1) * 4096;
            let len = len.min(SIZE - at);
            args.push("-c".to_owned());
            args.push(format!("write -P {} {at} {len}", random.below(255) + 1));
        }
        args.push(to.to_owned());
        run(
            "qemu-io",
            &args.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    }

    /// What a file makes of the bytes below it: QEMU's reading of it, where QEMU says that it has any.
    fn over(&self, below: &mut [u8], name: &str) {
        let path = self.at(name);
        let raw = self.0.path().join("over.raw");
        let args = ["convert", "-f", "parallels", "-O", "raw"];
        let (path, raw_name) = (path.to_str().unwrap(), raw.to_str().unwrap());
        run("qemu-img", &[&args[..], &[path, raw_name]].concat());
        let bytes = std::fs::read(&raw).unwrap();
        let map = run(
            "qemu-img",
            &["map", "--output=json", "-f", "parallels", path],
        );
        let map: serde_json::Value = serde_json::from_str(&map).unwrap();
        for stretch in map.as_array().unwrap() {
            if stretch["present"].as_bool().unwrap() {
                let start = usize::try_from(stretch["start"].as_u64().unwrap()).unwrap();
                let end = start + usize::try_from(stretch["length"].as_u64().unwrap()).unwrap();
                below[start..end].copy_from_slice(&bytes[start..end]);
            }
        }
    }

    fn describe(&self, storages: &str, snapshots: &str) -> PathBuf {
        let path = self.at("DiskDescriptor.xml");
        let sectors = SIZE / 512;
        let text = format!(
            "<?xml version='1.0' encoding='UTF-8'?>\n<Parallels_disk_image Version=\"1.0\">\n<Disk_Parameters>\
             <Disk_size>{sectors}</Disk_size><Cylinders>384</Cylinders><Heads>16</Heads><Sectors>1</Sectors>\
             <Padding>0</Padding><Encryption><Engine>{{{NONE}}}</Engine><Data></Data></Encryption>\
             </Disk_Parameters>\n<StorageData>{storages}</StorageData>\n<Snapshots>{snapshots}</Snapshots>\n\
             </Parallels_disk_image>"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn expect(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join("expected.raw");
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn storage(start: u64, end: u64, images: &[String]) -> String {
    format!(
        "<Storage><Start>{}</Start><End>{}</End><Blocksize>128</Blocksize>{}</Storage>",
        start / 512,
        end / 512,
        images.concat()
    )
}

#[test]
fn every_snapshot_is_what_its_layers_make() {
    let folder = Folder::new();
    let seed = folder.raw("seed.raw", SIZE, 5);
    let plain = folder.raw("plain.raw", SIZE, 6);
    for kind in ["Compressed", "Plain"] {
        // The root, a layer, two layers on that one of which one is the top's, and the top.
        let mut root = std::fs::read(if kind == "Plain" { &plain } else { &seed }).unwrap();
        if kind == "Plain" {
            std::fs::copy(&plain, folder.at("root.hds")).unwrap();
        } else {
            folder.root("root.hds", &seed);
            folder.over(&mut root, "root.hds");
            assert_eq!(root, std::fs::read(&seed).unwrap());
        }
        for (number, name) in (11..).zip(["a.hds", "b.hds", "c.hds", "top.hds"]) {
            folder.overlay(name, number);
        }
        let images = [
            file(&id(1), kind, "root.hds"),
            // Names of another machine's folders lead to the last part, beside the description.
            file(&id(2), "Compressed", "/Users/me/web.pvm/web.hdd/a.hds"),
            file(&id(3), "Compressed", "b.hds"),
            file(&id(4), "Compressed", "c.hds"),
            file(TOP, "Compressed", "top.hds"),
        ];
        let tree = [
            shot(&id(1), NONE),
            shot(&id(2), &id(1)),
            shot(&id(3), &id(2)),
            shot(&id(4), &id(2)),
            shot(TOP, &id(4)),
        ];
        let path = folder.describe(&storage(0, SIZE, &images), &tree.concat());
        let opened = image(&path);
        assert_eq!(opened.format(), FormatName::PARALLELS);
        assert_eq!(opened.virtual_size(), SIZE);
        for (shot, names) in [
            (ACTIVE.to_owned(), &["a.hds", "c.hds", "top.hds"][..]),
            (id(1).to_lowercase(), &[]),
            (id(2).to_lowercase(), &["a.hds"]),
            (id(3).to_lowercase(), &["a.hds", "b.hds"]),
            (id(4).to_lowercase(), &["a.hds", "c.hds"]),
        ] {
            let mut bytes = root.clone();
            for name in names {
                folder.over(&mut bytes, name);
            }
            let source = opened.open_point(&shot).unwrap();
            assert_same(&*source, &folder.expect(&bytes), &format!("{kind} {shot}"));
        }
        let points: Vec<_> = opened
            .points()
            .iter()
            .map(|point| (point.kind, point.disk_size))
            .collect();
        assert_eq!(points[0], (PointKind::Active, SIZE));
        assert_eq!(&points[1..], &[(PointKind::Layer, SIZE); 4]);
        // The active state's files first, from the top down.
        let names: Vec<_> = opened
            .files()
            .iter()
            .map(|file| {
                (
                    file.path.file_name().unwrap().to_str().unwrap().to_owned(),
                    file.role,
                )
            })
            .collect();
        let expected = [
            ("DiskDescriptor.xml", Role::Image),
            ("top.hds", Role::Extent),
            ("c.hds", Role::Extent),
            ("a.hds", Role::Extent),
            ("root.hds", Role::Extent),
            ("b.hds", Role::Extent),
        ];
        assert_eq!(names, expected.map(|(name, role)| (name.to_owned(), role)));
        let named = extents_named(&path);
        assert!(
            names[1..]
                .iter()
                .all(|(name, _)| named.contains(&folder.at(name)))
        );
        // Another top makes another active state.
        let tree = format!("<TopGUID>{{{}}}</TopGUID>{}", id(3), tree[..4].concat());
        let path = folder.describe(&storage(0, SIZE, &images), &tree);
        let mut bytes = root;
        folder.over(&mut bytes, "a.hds");
        folder.over(&mut bytes, "b.hds");
        let source = image(&path).open_point(ACTIVE).unwrap();
        assert_same(&*source, &folder.expect(&bytes), kind);
    }
}

#[test]
fn parts_of_a_disk_follow_one_another() {
    let folder = Folder::new();
    let (first, second) = (1 << 20, SIZE - (1 << 20));
    let a = folder.raw("a.raw", first, 7);
    let b = folder.raw("b.raw", second, 8);
    folder.root("a.hds", &a);
    folder.root("b.hds", &b);
    let parts = [
        storage(first, SIZE, &[file(&id(1), "Compressed", "b.hds")]),
        storage(0, first, &[file(&id(1), "Compressed", "a.hds")]),
    ];
    let path = folder.describe(&parts.concat(), "");
    let bytes = [std::fs::read(a).unwrap(), std::fs::read(b).unwrap()].concat();
    let source = image(&path).open_point(ACTIVE).unwrap();
    assert_same(&*source, &folder.expect(&bytes), "parts");
}

#[test]
fn what_does_not_fit_is_refused_and_hides_nothing_else() {
    let folder = Folder::new();
    let seed = folder.raw("seed.raw", SIZE, 5);
    folder.root("root.hds", &seed);
    folder.overlay("top.hds", 3);
    let outside = folder.raw("outside.hds", SIZE, 9);
    let small = folder.raw("small.raw", SIZE / 2, 9);
    folder.root("small.hds", &small);
    std::fs::copy(&small, folder.at("small-plain.hds")).unwrap();
    let root = file(&id(1), "Compressed", "root.hds");
    let tree = [shot(&id(1), NONE), shot(TOP, &id(1))].concat();
    let refused = |kind: ErrorKind, word: &str, images: &[String], tree: &str| {
        let path = folder.describe(&storage(0, SIZE, images), tree);
        let error = open(&path, None).err().expect(word);
        assert_eq!(error.kind(), kind, "{}", error.with_causes());
        assert!(error.with_causes().contains(word), "{error} lacks {word:?}");
    };
    let top = |kind: &str, name: &str| [root.clone(), file(TOP, kind, name)];
    refused(
        Corrupt,
        "cannot be found",
        &top("Compressed", "gone.hds"),
        &tree,
    );
    refused(
        Denied,
        "outside",
        &top("Compressed", "../outside.hds"),
        &tree,
    );
    let absolute = outside.to_str().unwrap();
    refused(Denied, "outside", &top("Compressed", absolute), &tree);
    refused(Denied, "protocol", &top("Compressed", "nbd:host:1"), &tree);
    refused(
        Corrupt,
        "plain image cannot stand",
        &top("Plain", "top.hds"),
        &tree,
    );
    refused(
        Corrupt,
        "of a part that has",
        &top("Compressed", "small.hds"),
        &tree,
    );
    refused(
        Corrupt,
        "not a Parallels header",
        &top("Compressed", "small-plain.hds"),
        &tree,
    );
    let plain = [file(&id(1), "Plain", "small-plain.hds")];
    refused(Corrupt, "of a part that has", &plain, "");
    refused(Corrupt, "has no image", std::slice::from_ref(&root), &tree);
    refused(
        Corrupt,
        "does not name its extent",
        &top("Compressed", ""),
        &tree,
    );
    let many: String = (1..600).map(|number| shot(&id(number), NONE)).collect();
    refused(Limit, "snapshots", &top("Compressed", "top.hds"), &many);
    // A snapshot beside the active state that is not there keeps nobody from the rest.
    let images = [
        root.clone(),
        file(&id(2), "Compressed", "gone.hds"),
        file(TOP, "Compressed", "top.hds"),
    ];
    let branch = [tree.clone(), shot(&id(2), &id(1)), shot(&id(3), &id(1))].concat();
    let path = folder.describe(&storage(0, SIZE, &images), &branch);
    let opened = image(&path);
    let mut bytes = std::fs::read(&seed).unwrap();
    folder.over(&mut bytes, "top.hds");
    assert_same(
        &*opened.open_point(ACTIVE).unwrap(),
        &folder.expect(&bytes),
        "active",
    );
    assert_same(
        &*opened.open_point(&id(1).to_lowercase()).unwrap(),
        &seed,
        "root",
    );
    for (lost, word) in [(2, "cannot be found"), (3, "has no image")] {
        let error = opened.open_point(&id(lost).to_lowercase()).err().unwrap();
        assert_eq!(error.kind(), Corrupt);
        assert!(error.to_string().contains(word), "{error}");
    }
    // The top says that somebody has it open.
    assert!(!opened.state().dirty);
    let mut bytes = std::fs::read(folder.at("top.hds")).unwrap();
    bytes[44..48].copy_from_slice(&0x746f_6e59_u32.to_le_bytes());
    std::fs::write(folder.at("top.hds"), bytes).unwrap();
    assert!(image(&path).state().dirty);
}

#[test]
fn mutated_descriptions_never_panic() {
    let folder = Folder::new();
    let seed = folder.raw("seed.raw", SIZE, 5);
    folder.root("root.hds", &seed);
    folder.overlay("top.hds", 3);
    let images = [
        file(&id(1), "Compressed", "root.hds"),
        file(TOP, "Compressed", "top.hds"),
    ];
    let tree = [shot(&id(1), NONE), shot(TOP, &id(1))].concat();
    let path = folder.describe(&storage(0, SIZE, &images), &tree);
    let sound = std::fs::read(&path).unwrap();
    let runs: u32 = std::env::var("DORMOUSE_FUZZ_RUNS").map_or(400, |runs| runs.parse().unwrap());
    let mut random = Random(0x0070_1771);
    let mut opened = 0;
    for _ in 0..runs {
        let mut bytes = sound.clone();
        for _ in 0..random.below(3) {
            let at = usize::try_from(random.below(u64::try_from(bytes.len()).unwrap())).unwrap();
            bytes[at] = b"0123456789abcdef<>/{}-x "[usize::try_from(random.below(24)).unwrap()];
        }
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(image) = open(&path, Some(FormatName::PARALLELS)) {
            for point in image.points() {
                if let Ok(source) = image.open_point(&point.id) {
                    let len = usize::try_from(source.len().min(70_000)).unwrap();
                    let _ = source.read_exact_at(0, &mut vec![0; len]);
                    opened += 1;
                }
            }
        }
    }
    assert!(opened > runs / 40, "{opened} of {runs}");
}
