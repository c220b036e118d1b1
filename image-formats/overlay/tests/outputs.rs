//! Whole images in other formats, against QEMU's own tools and against our own readers.
#![allow(missing_docs, reason = "tests")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "../../disk/tests/oracle/mod.rs"]
mod oracle;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dormouse_block::Digest;
use dormouse_disk::{ACTIVE, FormatName};
use dormouse_overlay::{
    ColdDisk, Container, Device, Evidence, Output, Overlay, OverlayOptions, Pack, Packing, serially,
};
use oracle::{assert_same, image, open, output, run, scatter, seed_raw};

/// 2026-01-01 in seconds.
const MADE: u64 = 1_767_225_600;

fn write(base: &Path, to: &Path, output: Output, spread: &dyn Fn(&mut [Pack])) -> u64 {
    let cold = ColdDisk::prove(&*image(base), ACTIVE, &Evidence::default())
        .unwrap_or_else(|error| panic!("{}", error.with_causes()));
    let options = OverlayOptions {
        output,
        ..OverlayOptions::default()
    };
    let overlay = Overlay::create(cold, to, &options).unwrap();
    overlay.write_at(700_000, &[0x77; 100_000]).unwrap();
    overlay.write_at(5 << 20, &[0; 200_000]).unwrap();
    overlay
        .commit_with(spread, |partial, bring_to_disk| {
            assert!(partial.exists());
            bring_to_disk()
        })
        .unwrap_or_else(|error| panic!("{}", error.with_causes()))
        .bytes
}

const ALL: [(&str, &str, Output); 8] = [
    ("raw", "raw", image_of(Container::Raw)),
    ("vmdk", "vmdk", image_of(Container::Vmdk)),
    ("dynamic.vhd", "vpc", image_of(Container::VhdDynamic)),
    ("fixed.vhd", "vpc", image_of(Container::VhdFixed)),
    ("vhdx", "vhdx", image_of(Container::Vhdx)),
    ("plain.qcow2", "qcow2", whole(Packing::Plain)),
    ("deflate.qcow2", "qcow2", whole(Packing::Deflate)),
    ("zstd.qcow2", "qcow2", whole(Packing::Zstd)),
];

const fn image_of(container: Container) -> Output {
    Output::Image {
        container,
        made: MADE,
    }
}

const fn whole(packing: Packing) -> Output {
    Output::Standalone { packing }
}

fn name(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A disk that ends within a grain and a block, a third of it holes.
fn base(folder: &Path) -> PathBuf {
    let path = folder.join("base.qcow2");
    let size = (11 << 20) + 512 * 33;
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            name(&path),
            &size.to_string(),
        ],
    );
    scatter(&path, size, 40, 5);
    let seed = folder.join("seed.raw");
    seed_raw(&seed, 3 << 20, 8);
    run(
        "qemu-io",
        &["-c", &format!("write -s {} 0 3M", name(&seed)), name(&path)],
    );
    path
}

#[test]
fn every_output_reads_as_qemu_reads_it_and_is_clean() {
    let folder = tempfile::tempdir().unwrap();
    let base = base(folder.path());
    // What it must read as: the base with the same writes.
    let model = folder.path().join("model.raw");
    run(
        "qemu-img",
        &["convert", "-O", "raw", name(&base), name(&model)],
    );
    let mut bytes = std::fs::read(&model).unwrap();
    bytes[700_000..800_000].fill(0x77);
    bytes[5 << 20..(5 << 20) + 200_000].fill(0);
    std::fs::write(&model, &bytes).unwrap();
    for (extension, qemu, kind) in ALL {
        let to = folder.path().join(format!("out.{extension}"));
        let length = write(&base, &to, kind, &serially);
        assert_eq!(length, to.metadata().unwrap().len(), "{extension}");
        // QEMU reads the same, and finds nothing wrong.
        run(
            "qemu-img",
            &["compare", "-f", "raw", "-F", qemu, name(&model), name(&to)],
        );
        if matches!(qemu, "qcow2" | "vhdx" | "vmdk") {
            let out = output("qemu-img", &["check", "-f", qemu, name(&to)]);
            let text = String::from_utf8_lossy(&out.stdout);
            assert!(out.status.success(), "{extension}: {text}");
            assert!(text.contains("No errors"), "{extension}: {text}");
        }
        // So do we.
        let opened = image(&to);
        assert_same(&*opened.open_point(ACTIVE).unwrap(), &model, extension);
        assert!(!opened.state().dirty && !opened.state().suspended);
        // Nothing else is left in the folder.
        let left = std::fs::read_dir(folder.path())
            .unwrap()
            .filter(|entry| name(&entry.as_ref().unwrap().path()).ends_with(".partial"))
            .count();
        assert_eq!(left, 0);
    }
}

#[test]
fn the_same_disk_gives_the_same_bytes_whoever_compresses() {
    let folder = tempfile::tempdir().unwrap();
    let base = base(folder.path());
    let threads = |units: &mut [Pack]| {
        std::thread::scope(|scope| {
            for part in units.chunks_mut(7) {
                scope.spawn(|| serially(part));
            }
        });
    };
    for (extension, _, kind) in ALL {
        let one = folder.path().join(format!("one.{extension}"));
        let two = folder.path().join(format!("two.{extension}"));
        write(&base, &one, kind, &serially);
        write(&base, &two, kind, &threads);
        let digest = |path: &Path| Digest::of(std::fs::read(path).unwrap());
        assert!(digest(&one) == digest(&two), "{extension}");
    }
}

#[test]
fn zeroes_take_no_room_and_other_disks_have_other_ids() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.qcow2");
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", name(&empty), "20G"],
    );
    for (extension, qemu, kind) in ALL {
        let to = folder.path().join(format!("out.{extension}"));
        write(&empty, &to, kind, &serially);
        let room = to.metadata().unwrap().blocks() * 512;
        assert!(room < 3 << 20, "{extension} takes {room} bytes");
        let format = FormatName::parse(qemu).unwrap();
        assert_eq!(open(&to, Some(format)).unwrap().virtual_size(), 20 << 30);
    }
    let other = folder.path().join("other.qcow2");
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", name(&other), "21G"],
    );
    for (extension, _, kind) in ALL
        .into_iter()
        .filter(|(_, qemu, _)| matches!(*qemu, "vpc" | "vhdx" | "vmdk"))
    {
        let to = folder.path().join(format!("other.{extension}"));
        write(&other, &to, kind, &serially);
        let first = image(&folder.path().join(format!("out.{extension}")));
        let second = image(&to);
        assert!(first.identifier().is_some());
        assert_ne!(first.identifier(), second.identifier(), "{extension}");
    }
}

#[test]
fn a_disk_that_a_format_cannot_hold_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large.qcow2");
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", name(&large), "3T"],
    );
    for container in [Container::VhdDynamic, Container::VhdFixed, Container::Vmdk] {
        let cold = ColdDisk::prove(&*image(&large), ACTIVE, &Evidence::default()).unwrap();
        let to = folder.path().join("out");
        let options = OverlayOptions {
            output: image_of(container),
            ..OverlayOptions::default()
        };
        let error = Overlay::create(cold, &to, &options)
            .unwrap()
            .commit()
            .unwrap_err();
        assert_eq!(error.kind(), dormouse_block::ErrorKind::Limit, "{error}");
        assert!(!to.exists() && !Overlay::partial_path(&to).exists());
    }
}

#[test]
fn an_overlay_on_any_base_reads_as_qemu_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let seed = folder.path().join("seed.raw");
    let size = 6 << 20;
    seed_raw(&seed, size, 8);
    for (base, qemu, options) in [
        ("base.raw", "raw", "size=6M"),
        ("base.qcow2", "qcow2", "size=6M"),
        ("base.qcow", "qcow", "size=6M"),
        ("sparse.vmdk", "vmdk", "subformat=monolithicSparse"),
        ("stream.vmdk", "vmdk", "subformat=streamOptimized"),
        ("flat.vmdk", "vmdk", "subformat=monolithicFlat"),
        ("split.vmdk", "vmdk", "subformat=twoGbMaxExtentSparse"),
        ("dynamic.vhd", "vpc", "subformat=dynamic,force_size=on"),
        ("geometry.vhd", "vpc", "subformat=dynamic"),
        ("fixed.vhd", "vpc", "subformat=fixed,force_size=on"),
        ("base.vhdx", "vhdx", "subformat=dynamic"),
        ("base.vdi", "vdi", "static=off"),
    ] {
        let path = folder.path().join(base);
        run(
            "qemu-img",
            &[
                "convert",
                "-f",
                "raw",
                "-O",
                qemu,
                "-o",
                options,
                name(&seed),
                name(&path),
            ],
        );
        let model = folder.path().join("model.raw");
        run(
            "qemu-img",
            &[
                "convert",
                "-f",
                qemu,
                "-O",
                "raw",
                name(&path),
                name(&model),
            ],
        );
        let mut bytes = std::fs::read(&model).unwrap();
        bytes[700_000..800_000].fill(0x77);
        bytes[5 << 20..(5 << 20) + 200_000].fill(0);
        std::fs::write(&model, &bytes).unwrap();
        let to = folder.path().join(format!("{base}.overlay.qcow2"));
        write(&path, &to, Output::Overlay, &serially);
        // QEMU opens the base by the format that the overlay names.
        run(
            "qemu-img",
            &[
                "compare",
                "-f",
                "raw",
                "-F",
                "qcow2",
                name(&model),
                name(&to),
            ],
        );
        run("qemu-img", &["check", name(&to)]);
        assert_same(&*image(&to).open_point(ACTIVE).unwrap(), &model, base);
    }
}
