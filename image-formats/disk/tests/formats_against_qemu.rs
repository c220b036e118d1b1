//! VMDK, VHD, VHDX, VDI, qcow and the rarer shapes of qcow2, byte for byte against what QEMU's own tools read.
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

use dormouse_block::ErrorKind;
use dormouse_disk::{ACTIVE, FormatName, Role};
use oracle::{assert_same, image, open, output, run, scatter, seed_raw};

/// Megabytes that end within a grain and a block.
const SIZE: u64 = 9 * 1024 * 1024 + 512 * 77;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    fn seed(&self) -> String {
        if !self.at("seed.raw").exists() {
            seed_raw(&self.at("seed.raw"), SIZE, 5);
        }
        self.name("seed.raw")
    }

    fn convert(&self, format: &str, options: &str, to: &str) -> PathBuf {
        let mut args = vec!["convert", "-f", "raw", "-O", format];
        if !options.is_empty() {
            args.extend(["-o", options]);
        }
        let (seed, to_name) = (self.seed(), self.name(to));
        args.extend([seed.as_str(), &to_name]);
        run("qemu-img", &args);
        self.at(to)
    }

    /// What QEMU reads of `disk`.
    fn as_qemu_reads(&self, disk: &Path, format: &str) -> PathBuf {
        let raw = self.at("as-qemu-reads.raw");
        run(
            "qemu-img",
            &[
                "convert",
                "-f",
                format,
                "-O",
                "raw",
                disk.to_str().unwrap(),
                raw.to_str().unwrap(),
            ],
        );
        raw
    }

    fn assert_read(&self, disk: &Path, qemu: &str, what: &str) {
        let opened = image(disk);
        let raw = self.as_qemu_reads(disk, qemu);
        let source = opened.open_point(ACTIVE).unwrap();
        assert_eq!(source.len(), opened.virtual_size());
        assert_eq!(source.len(), raw.metadata().unwrap().len(), "{what}");
        assert_same(&*source, &raw, what);
        assert_eq!(opened.chain().changed().unwrap(), None);
    }
}

/// Every disk both as converted and after writes, zeroes and discards all over it.
fn every_shape(extension: &str, qemu: &str, options: &[&str]) {
    let folder = Folder::new();
    for (round, options) in options.iter().enumerate() {
        let disk = folder.convert(qemu, options, &format!("{round}.{extension}"));
        folder.assert_read(&disk, qemu, options);
        if !options.contains("streamOptimized") {
            scatter(&disk, SIZE, 30, 70 + u64::try_from(round).unwrap());
            folder.assert_read(&disk, qemu, &format!("{options}, scattered"));
        }
        assert_eq!(image(&disk).format().as_str(), extension);
    }
}

#[test]
fn vmdk_of_every_subformat_reads_as_qemu_reads_it() {
    every_shape(
        "vmdk",
        "vmdk",
        &[
            "",
            "subformat=monolithicSparse,compat6=on",
            "subformat=monolithicSparse,zeroed_grain=on",
            "subformat=monolithicFlat",
            "subformat=twoGbMaxExtentSparse",
            "subformat=twoGbMaxExtentFlat",
            "subformat=streamOptimized",
            "subformat=streamOptimized,compat6=on",
        ],
    );
}

#[test]
fn vhd_of_every_subformat_reads_as_qemu_reads_it() {
    every_shape(
        "vhd",
        "vpc",
        &[
            "subformat=dynamic,force_size=on",
            "subformat=fixed,force_size=on",
            // Rounded up to a geometry.
            "subformat=dynamic",
            "subformat=fixed",
        ],
    );
}

#[test]
fn vhdx_of_every_block_size_reads_as_qemu_reads_it() {
    every_shape(
        "vhdx",
        "vhdx",
        &[
            "subformat=dynamic,block_size=1M",
            "subformat=dynamic,block_size=8M,block_state_zero=off",
            "subformat=dynamic,block_size=256M",
            "subformat=fixed,block_size=1M",
            "log_size=2M",
        ],
    );
}

#[test]
fn vdi_of_both_kinds_reads_as_qemu_reads_it() {
    every_shape("vdi", "vdi", &["", "static=on"]);
}

#[test]
fn qcow_of_version_1_reads_as_qemu_reads_it() {
    every_shape("qcow", "qcow", &[""]);
    let folder = Folder::new();
    let seed = folder.seed();
    let packed = folder.name("packed.qcow");
    // QEMU's writer of this format says that it failed after it has written everything.
    let text: Vec<u8> = b"the quick brown fox "
        .iter()
        .copied()
        .cycle()
        .take(9 << 20)
        .collect();
    std::fs::write(&seed, text).unwrap();
    output(
        "qemu-img",
        &["convert", "-c", "-f", "raw", "-O", "qcow", &seed, &packed],
    );
    folder.assert_read(&folder.at("packed.qcow"), "qcow", "compressed");
    scatter(&folder.at("packed.qcow"), 9 << 20, 9, 4);
    folder.assert_read(&folder.at("packed.qcow"), "qcow", "compressed, scattered");
    // A layer over a raw disk.
    let top = folder.name("top.qcow");
    let size = SIZE.to_string();
    run(
        "qemu-img",
        &[
            "create", "-q", "-f", "qcow", "-b", "seed.raw", "-F", "raw", &top, &size,
        ],
    );
    scatter(&folder.at("top.qcow"), SIZE, 20, 3);
    folder.assert_read(&folder.at("top.qcow"), "qcow", "layer");
    assert_eq!(image(&folder.at("top.qcow")).files().len(), 2);
}

#[test]
fn qed_and_parallels_read_as_qemu_reads_them() {
    every_shape(
        "qed",
        "qed",
        &[
            "",
            "cluster_size=16k,table_size=4",
            "cluster_size=1M,table_size=16",
        ],
    );
    every_shape("parallels", "parallels", &["", "cluster_size=64k"]);
    let folder = Folder::new();
    folder.seed();
    let (top, size) = (folder.name("top.qed"), SIZE.to_string());
    run(
        "qemu-img",
        &[
            "create", "-q", "-f", "qed", "-b", "seed.raw", "-F", "raw", &top, &size,
        ],
    );
    scatter(&folder.at("top.qed"), SIZE, 20, 3);
    folder.assert_read(&folder.at("top.qed"), "qed", "layer");
    assert_eq!(image(&folder.at("top.qed")).files().len(), 2);
}

#[test]
fn subclusters_read_as_qemu_reads_them() {
    let folder = Folder::new();
    for cluster in ["16k", "64k", "2M"] {
        for compression in ["zlib", "zstd"] {
            let options =
                format!("extended_l2=on,cluster_size={cluster},compression_type={compression}");
            let disk = folder.convert("qcow2", &options, "disk.qcow2");
            scatter(&disk, SIZE, 60, 17);
            folder.assert_read(&disk, "qcow2", &options);
            let packed = folder.name("packed.qcow2");
            let seed = folder.seed();
            run(
                "qemu-img",
                &[
                    "convert", "-c", "-O", "qcow2", "-o", &options, &seed, &packed,
                ],
            );
            scatter(&folder.at("packed.qcow2"), SIZE, 20, 18);
            folder.assert_read(&folder.at("packed.qcow2"), "qcow2", &options);
            // A layer of subclusters over another image: holes of single subclusters show it.
            let (top, size) = (folder.name("top.qcow2"), SIZE.to_string());
            run(
                "qemu-img",
                &[
                    "create",
                    "-q",
                    "-f",
                    "qcow2",
                    "-o",
                    &options,
                    "-b",
                    "disk.qcow2",
                    "-F",
                    "qcow2",
                    &top,
                    &size,
                ],
            );
            scatter(&folder.at("top.qcow2"), SIZE, 40, 19);
            folder.assert_read(&folder.at("top.qcow2"), "qcow2", &options);
        }
    }
}

#[test]
fn an_external_data_file_is_read_through_the_gate() {
    let folder = Folder::new();
    for raw in ["off", "on"] {
        let data = folder.name("disk.data");
        let options = format!("data_file={data},data_file_raw={raw}");
        let (disk, size) = (folder.name("disk.qcow2"), SIZE.to_string());
        run(
            "qemu-img",
            &["create", "-q", "-f", "qcow2", "-o", &options, &disk, &size],
        );
        scatter(&folder.at("disk.qcow2"), SIZE, 40, 23);
        folder.assert_read(&folder.at("disk.qcow2"), "qcow2", &options);
        let opened = image(Path::new(&disk));
        let roles: Vec<_> = opened.files().iter().map(|file| file.role).collect();
        assert_eq!(roles, [Role::Image, Role::DataFile]);
    }
    let denied = dormouse_disk::OpenOptions::new(std::sync::Arc::new(dormouse_disk::DenyAll));
    let error = dormouse_disk::open(&folder.at("disk.qcow2"), &denied)
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}

#[test]
fn bitmaps_are_listed() {
    let folder = Folder::new();
    let disk = folder.convert("qcow2", "", "disk.qcow2");
    let name = disk.to_str().unwrap();
    run("qemu-img", &["bitmap", "--add", "-g", "32k", name, "daily"]);
    run(
        "qemu-img",
        &["bitmap", "--add", "--disable", name, "weekly"],
    );
    let opened = image(&disk);
    let seen: Vec<_> = opened
        .bitmaps()
        .iter()
        .map(|bitmap| {
            (
                bitmap.name.as_str(),
                bitmap.granularity,
                bitmap.consistent,
                bitmap.recording,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [("daily", 32768, true, true), ("weekly", 65536, true, false)]
    );
}

#[test]
fn vmdk_layers_know_their_parent_by_its_content_id() {
    let folder = Folder::new();
    let create = |options: &str, on: &str, to: &str| {
        let to = folder.name(to);
        run(
            "qemu-img",
            &[
                "create", "-q", "-f", "vmdk", "-o", options, "-b", on, "-F", "vmdk", &to,
            ],
        );
    };
    folder.convert("vmdk", "subformat=twoGbMaxExtentFlat", "base.vmdk");
    create("subformat=monolithicSparse", "base.vmdk", "a.vmdk");
    scatter(&folder.at("a.vmdk"), SIZE, 25, 31);
    create(
        "subformat=monolithicSparse,zeroed_grain=on",
        "a.vmdk",
        "b.vmdk",
    );
    scatter(&folder.at("b.vmdk"), SIZE, 25, 32);
    create("subformat=twoGbMaxExtentSparse", "b.vmdk", "c.vmdk");
    scatter(&folder.at("c.vmdk"), SIZE, 25, 33);
    for name in ["a.vmdk", "b.vmdk", "c.vmdk"] {
        folder.assert_read(&folder.at(name), "vmdk", name);
    }
    let opened = image(&folder.at("c.vmdk"));
    let files: Vec<_> = opened
        .files()
        .iter()
        .map(|file| {
            let name = file.path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, file.role, file.format.as_str())
        })
        .collect();
    let expected = [
        ("c.vmdk", Role::Image, "vmdk"),
        ("c-s001.vmdk", Role::Extent, "vmdk"),
        ("b.vmdk", Role::Backing, "vmdk"),
        ("a.vmdk", Role::Backing, "vmdk"),
        ("base.vmdk", Role::Backing, "vmdk"),
        ("base-f001.vmdk", Role::Extent, "raw"),
    ];
    assert_eq!(
        files,
        expected.map(|(name, role, format)| (name.to_owned(), role, format))
    );
    // A write to the parent gives it a new content id, and the layers above are void.
    run(
        "qemu-io",
        &["-c", "write -P 1 0 4k", &folder.name("b.vmdk")],
    );
    let error = open(&folder.at("c.vmdk"), None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("content id"), "{error}");
    // An extent by itself is half a disk.
    let error = open(&folder.at("c-s001.vmdk"), None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("descriptor"), "{error}");
}

#[test]
fn a_vmdk_that_is_locked_beside_itself_has_an_owner() {
    let folder = Folder::new();
    let disk = folder.convert("vmdk", "", "disk.vmdk");
    assert_eq!(image(&disk).chain().owner().unwrap(), None);
    std::fs::create_dir(folder.at("disk.vmdk.lck")).unwrap();
    assert_eq!(image(&disk).chain().owner().unwrap(), None);
    std::fs::write(folder.at("disk.vmdk.lck/M12345.lck"), "web-01").unwrap();
    let owner = image(&disk).chain().owner().unwrap().unwrap();
    assert!(owner.to_string().contains(".lck"), "{owner}");
    assert!(image(&disk).chain().lock().is_err());
}

#[test]
fn formats_that_were_forced_are_those() {
    let folder = Folder::new();
    let disk = folder.convert("vpc", "subformat=fixed,force_size=on", "disk.img");
    // By its name and its beginning it is a raw disk with a footer behind it.
    assert_eq!(image(&disk).format(), FormatName::RAW);
    let opened = open(&disk, Some(FormatName::VHD)).unwrap();
    assert_eq!(opened.virtual_size(), SIZE);
    for format in [
        FormatName::VMDK,
        FormatName::VHDX,
        FormatName::VDI,
        FormatName::QCOW,
        FormatName::QCOW2,
    ] {
        let error = open(&disk, Some(format)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{format}: {error}");
    }
}
