//! The image writer against QEMU's own tools.
#![allow(missing_docs, reason = "tests")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "../../disk/tests/oracle/mod.rs"]
mod oracle;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{ErrorKind, Source};
use dormouse_disk::ACTIVE;
use dormouse_overlay::{
    ColdDisk, Device, DeviceWindow, Evidence, Existing, Output, Overlay, OverlayOptions, Packing,
};
use oracle::{Random, image, output, run, scatter, seed_raw};

fn cold(path: &Path, point: &str) -> ColdDisk {
    ColdDisk::prove(&*image(path), point, &Evidence::default())
        .unwrap_or_else(|error| panic!("{}", error.with_causes()))
}

/// What a disk reads as, by QEMU: the model that writes are mirrored to.
fn model_of(path: &Path, to: &Path) -> Vec<u8> {
    run(
        "qemu-img",
        &[
            "convert",
            "-O",
            "raw",
            path.to_str().unwrap(),
            to.to_str().unwrap(),
        ],
    );
    std::fs::read(to).unwrap()
}

/// Nothing to say: no corruption, no leak.
fn check(path: &Path) {
    let out = output("qemu-img", &["check", path.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(
        text.contains("No errors were found on the image."),
        "{text}"
    );
}

fn assert_image_is(path: &Path, model: &[u8], scratch: &Path) {
    check(path);
    std::fs::write(scratch, model).unwrap();
    run(
        "qemu-img",
        &[
            "compare",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            path.to_str().unwrap(),
            scratch.to_str().unwrap(),
        ],
    );
    let ours = image(path);
    let source = ours.open_point(ACTIVE).unwrap();
    let mut bytes = vec![1; usize::try_from(source.len()).unwrap()];
    source.read_exact_at(0, &mut bytes).unwrap();
    assert!(bytes == model, "our reader differs");
}

/// Writes of every kind in random places, mirrored to `model`; reads in between see them.
fn random_writes(device: &dyn Device, model: &mut [u8], count: u64, seed: u64) {
    let mut random = Random(seed);
    let len = u64::try_from(model.len()).unwrap();
    for _ in 0..count {
        let kind = random.below(6);
        let (from, size) = match kind {
            // Whole clusters, several at once, and pieces of a few KiB as a filesystem writes them.
            0 => (
                random.below(len / 65536) * 65536,
                (random.below(12) + 1) * 65536,
            ),
            1 | 2 => (random.below(len / 4096) * 4096, 4096),
            _ => (random.below(len), random.below(200_000) + 1),
        };
        let size = size.min(len - from);
        let at = usize::try_from(from).unwrap();
        let end = at + usize::try_from(size).unwrap();
        let value = if random.below(4) == 0 {
            0
        } else {
            random.next().to_le_bytes()[0]
        };
        let bytes: Vec<u8> = if kind == 3 {
            (at..end).map(|_| random.next().to_le_bytes()[0]).collect()
        } else {
            vec![value; end - at]
        };
        device.write_at(from, &bytes).unwrap();
        model[at..end].copy_from_slice(&bytes);
        let from = random.below(len);
        let size = random.below((len - from).min(500_000)) + 1;
        let mut read = vec![9; usize::try_from(size).unwrap()];
        device.read_exact_at(from, &mut read).unwrap();
        let at = usize::try_from(from).unwrap();
        assert!(read == model[at..at + read.len()], "reads see the writes");
    }
    let mut at = 0;
    while let Some(range) = device.next_data(at).unwrap() {
        assert!(range.start >= at && range.end > range.start && range.end <= len);
        let gap = usize::try_from(at).unwrap()..usize::try_from(range.start).unwrap();
        assert!(model[gap].iter().all(|byte| *byte == 0), "data in a hole");
        at = range.end;
    }
    let gap = usize::try_from(at).unwrap()..model.len();
    assert!(
        model[gap].iter().all(|byte| *byte == 0),
        "data in the last hole"
    );
}

struct Library {
    dir: tempfile::TempDir,
}

impl Library {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    /// A raw base, a qcow2 over it with holes and zeroes, and a compressed one.
    fn bases(&self) -> Vec<PathBuf> {
        seed_raw(&self.at("base.raw"), 24 << 20, 21);
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                "qcow2",
                "-b",
                "base.raw",
                "-F",
                "raw",
                &self.name("chain.qcow2"),
                "30M",
            ],
        );
        scatter(&self.at("chain.qcow2"), 30 << 20, 40, 22);
        run(
            "qemu-img",
            &[
                "convert",
                "-c",
                "-O",
                "qcow2",
                "-o",
                "compression_type=zstd",
                &self.name("base.raw"),
                &self.name("packed.qcow2"),
            ],
        );
        // A length within a cluster, and one within a sector.
        seed_raw(&self.at("odd.raw"), (3 << 20) + 512 * 3, 23);
        seed_raw(&self.at("ragged.raw"), (2 << 20) + 700, 24);
        [
            "base.raw",
            "chain.qcow2",
            "packed.qcow2",
            "odd.raw",
            "ragged.raw",
        ]
        .map(|name| self.at(name))
        .to_vec()
    }
}

#[test]
fn random_writes_over_every_kind_of_base_are_what_qemu_reads() {
    let library = Library::new();
    for (round, base) in library.bases().into_iter().enumerate() {
        let before = std::fs::read(&base).unwrap();
        for (turn, output) in [
            Output::Overlay,
            Output::Standalone {
                packing: Packing::Plain,
            },
            Output::Standalone {
                packing: Packing::Zstd,
            },
        ]
        .into_iter()
        .enumerate()
        {
            let mut model = model_of(&base, &library.at("model.raw"));
            model.resize(model.len().next_multiple_of(512), 0);
            let options = OverlayOptions {
                output,
                existing: Existing::Replace,
            };
            let target = library.at("out.qcow2");
            let overlay = Overlay::create(cold(&base, ACTIVE), &target, &options).unwrap();
            assert_eq!(overlay.len(), u64::try_from(model.len()).unwrap());
            let seed = u64::try_from(round * 10 + turn + 1).unwrap();
            random_writes(&overlay, &mut model, 120, seed);
            let published = overlay.commit().unwrap();
            assert_eq!(published.bytes, std::fs::metadata(&target).unwrap().len());
            assert_image_is(&target, &model, &library.at("scratch.raw"));
            let chain = image(&target).files().len();
            assert_eq!(chain > 1, output == Output::Overlay);
        }
        assert!(
            before == std::fs::read(&base).unwrap(),
            "the base is as it was"
        );
    }
}

#[test]
fn an_overlay_without_writes_is_the_base_and_small() {
    let library = Library::new();
    for base in library.bases() {
        let target = library.at("out.qcow2");
        let options = OverlayOptions {
            existing: Existing::Replace,
            ..OverlayOptions::default()
        };
        let published = Overlay::create(cold(&base, ACTIVE), &target, &options)
            .unwrap()
            .commit()
            .unwrap();
        assert_eq!(published.bytes, 4 * 16384);
        let mut model = model_of(&base, &library.at("model.raw"));
        model.resize(model.len().next_multiple_of(512), 0);
        assert_image_is(&target, &model, &library.at("scratch.raw"));
    }
}

#[test]
fn writing_zeroes_takes_no_space() {
    let library = Library::new();
    seed_raw(&library.at("base.raw"), 8 << 20, 31);
    let target = library.at("out.qcow2");
    let overlay = Overlay::create(
        cold(&library.at("base.raw"), ACTIVE),
        &target,
        &OverlayOptions::default(),
    )
    .unwrap();
    overlay.write_at(0, &vec![0; 8 << 20]).unwrap();
    assert_eq!(overlay.bytes_written(), 0);
    // A piece written into a cluster that was zeroed is not filled up from the base.
    overlay.write_at(70_000, b"after").unwrap();
    let mut model = vec![0; 8 << 20];
    model[70_000..70_005].copy_from_slice(b"after");
    overlay.commit().unwrap();
    assert_image_is(&target, &model, &library.at("scratch.raw"));
}

#[test]
fn a_large_disk_takes_several_blocks_of_reference_counts() {
    let library = Library::new();
    let base = library.at("large.qcow2");
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", base.to_str().unwrap(), "40G"],
    );
    let target = library.at("out.qcow2");
    let overlay =
        Overlay::create(cold(&base, ACTIVE), &target, &OverlayOptions::default()).unwrap();
    // Each place needs an L2 table of its own; together they take more than one block counts (2 GiB) only when they
    // are many, so the sums are held against QEMU's in the unit test of the layout.
    for place in 0..80_u64 {
        overlay.write_at(place << 29, &[1; 100]).unwrap();
    }
    overlay.commit().unwrap();
    check(&target);
    for place in 0..80_u64 {
        let mut byte = [0];
        let source = image(&target).open_point(ACTIVE).unwrap();
        source.read_exact_at((place << 29) + 99, &mut byte).unwrap();
        assert_eq!(byte, [1]);
    }
}

#[test]
fn an_internal_snapshot_becomes_a_standalone_image_only() {
    let library = Library::new();
    seed_raw(&library.at("base.raw"), 12 << 20, 41);
    let disk = library.at("disk.qcow2");
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            "base.raw",
            "-F",
            "raw",
            disk.to_str().unwrap(),
        ],
    );
    scatter(&disk, 12 << 20, 20, 42);
    run(
        "qemu-img",
        &["snapshot", "-c", "then", disk.to_str().unwrap()],
    );
    scatter(&disk, 12 << 20, 20, 43);
    let copy = library.name("copy.qcow2");
    std::fs::copy(&disk, &copy).unwrap();
    run("qemu-img", &["snapshot", "-a", "then", &copy]);
    for packing in [Packing::Plain, Packing::Zstd] {
        let mut model = model_of(Path::new(&copy), &library.at("model.raw"));
        let target = library.at("out.qcow2");
        let refused = Overlay::create(cold(&disk, "then"), &target, &OverlayOptions::default());
        assert_eq!(refused.err().unwrap().kind(), ErrorKind::Unsupported);
        let options = OverlayOptions {
            output: Output::Standalone { packing },
            existing: Existing::Replace,
        };
        let overlay = Overlay::create(cold(&disk, "then"), &target, &options).unwrap();
        random_writes(&overlay, &mut model, 30, 44);
        overlay.commit().unwrap();
        assert_image_is(&target, &model, &library.at("scratch.raw"));
    }
}

#[test]
fn the_base_is_named_beside_the_target_and_in_full_from_elsewhere() {
    let library = Library::new();
    for folder in ["vm", "vm/bases", "out"] {
        std::fs::create_dir(library.at(folder)).unwrap();
    }
    let base = library.at("vm/bases/a:b.raw");
    seed_raw(&base, 1 << 20, 51);
    let named = |target: &str| {
        let cold = cold(&base, ACTIVE);
        Overlay::create(cold, &library.at(target), &OverlayOptions::default())
            .unwrap()
            .commit()
            .unwrap();
        let info = run(
            "qemu-img",
            &["info", "--output=json", &library.name(target)],
        );
        let line = info
            .lines()
            .find(|line| line.contains("\"backing-filename\""))
            .unwrap()
            .to_owned();
        assert!(
            info.contains("\"backing-filename-format\": \"raw\""),
            "{info}"
        );
        line.split('"').nth(3).unwrap().to_owned()
    };
    assert_eq!(named("vm/out.qcow2"), "bases/a:b.raw");
    assert_eq!(named("vm/bases/out.qcow2"), "./a:b.raw");
    assert_eq!(
        named("out/out.qcow2"),
        base.canonicalize().unwrap().to_str().unwrap()
    );
    // Moved together, they still belong together.
    std::fs::rename(library.at("vm"), library.at("moved")).unwrap();
    check(&library.at("moved/out.qcow2"));
    run(
        "qemu-img",
        &[
            "compare",
            "-q",
            &library.name("moved/out.qcow2"),
            &library.name("moved/bases/a:b.raw"),
        ],
    );
}

#[test]
fn what_is_not_committed_was_never_there() {
    let library = Library::new();
    seed_raw(&library.at("base.raw"), 1 << 20, 61);
    let base = library.at("base.raw");
    let target = library.at("out.qcow2");
    let partial = Overlay::partial_path(&target);
    let create = |options: &OverlayOptions| Overlay::create(cold(&base, ACTIVE), &target, options);
    let plain = OverlayOptions::default();
    let overlay = create(&plain).unwrap();
    overlay.write_at(5, b"x").unwrap();
    assert!(partial.exists() && !target.exists());
    // Another one for the same target is refused meanwhile.
    assert_eq!(create(&plain).err().unwrap().kind(), ErrorKind::Denied);
    assert!(partial.exists());
    drop(overlay);
    assert!(!partial.exists() && !target.exists());
    // A verification that fails publishes nothing.
    let overlay = create(&plain).unwrap();
    let error = overlay
        .commit_verified(|path| {
            check(path);
            Err(dormouse_block::Error::corrupt("not good enough"))
        })
        .unwrap_err();
    assert!(error.to_string().contains("not good enough"));
    assert!(!partial.exists() && !target.exists());
    // Nothing is replaced unless told, not even what appears meanwhile.
    let overlay = create(&plain).unwrap();
    std::fs::write(&target, b"somebody's").unwrap();
    assert_eq!(overlay.commit().unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(std::fs::read(&target).unwrap(), b"somebody's");
    assert_eq!(create(&plain).err().unwrap().kind(), ErrorKind::Denied);
    assert!(!partial.exists());
    let replace = OverlayOptions {
        existing: Existing::Replace,
        ..plain
    };
    create(&replace).unwrap().commit().unwrap();
    check(&target);
    assert!(!partial.exists());
}

#[test]
fn writes_outside_the_disk_are_refused() {
    let library = Library::new();
    seed_raw(&library.at("base.raw"), 1 << 20, 71);
    let overlay = Overlay::create(
        cold(&library.at("base.raw"), ACTIVE),
        &library.at("out.qcow2"),
        &OverlayOptions::default(),
    )
    .unwrap();
    let overlay = Arc::new(overlay);
    assert!(overlay.write_at((1 << 20) - 1, b"ab").is_err());
    assert!(overlay.write_at(u64::MAX, b"ab").is_err());
    let part = DeviceWindow::new(overlay.clone(), 4096, 8192).unwrap();
    assert!(part.write_at(8191, b"ab").is_err());
    part.write_at(8190, b"ab").unwrap();
    let mut read = [0; 2];
    overlay.read_exact_at(4096 + 8190, &mut read).unwrap();
    assert_eq!(&read, b"ab");
    assert!(DeviceWindow::new(overlay.clone(), 1 << 20, 1).is_err());
    drop(part);
    Arc::into_inner(overlay).unwrap().commit().unwrap();
}

#[test]
fn a_private_base_makes_a_private_layer() {
    use std::os::unix::fs::PermissionsExt;

    let library = Library::new();
    let base = library.at("base.raw");
    seed_raw(&base, 1 << 20, 81);
    for (mode, expected) in [(0o600, 0o600), (0o640, 0o640), (0o444, 0o644)] {
        std::fs::set_permissions(&base, std::fs::Permissions::from_mode(mode)).unwrap();
        let target = library.at(&format!("{mode}.qcow2"));
        Overlay::create(cold(&base, ACTIVE), &target, &OverlayOptions::default())
            .unwrap()
            .commit()
            .unwrap();
        let found = std::fs::metadata(&target).unwrap().permissions().mode() & 0o777;
        // The process's own mask may take away more.
        assert_eq!(found & !expected, 0, "{mode:o} became {found:o}");
        assert_eq!(found & 0o600, 0o600);
    }
}
