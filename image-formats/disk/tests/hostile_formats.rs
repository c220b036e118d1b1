//! Broken and hostile images of the formats that other hypervisors write: refused by kind, and by name.
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

use dormouse_block::ErrorKind::{self, Corrupt, Denied, Limit, Unsupported};
use dormouse_disk::ACTIVE;
use oracle::{image, open, run, seed_raw};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.at("library")).unwrap();
        seed_raw(&folder.at("seed.raw"), 3 << 20, 6);
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str, text: &str) -> PathBuf {
        let path = self.at("library").join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The seed in another format.
    fn sound(&self, name: &str, format: &str, options: &str) -> Vec<u8> {
        let path = self.at("library").join(name);
        run(
            "qemu-img",
            &[
                "convert",
                "-f",
                "raw",
                "-O",
                format,
                "-o",
                options,
                self.at("seed.raw").to_str().unwrap(),
                path.to_str().unwrap(),
            ],
        );
        std::fs::read(path).unwrap()
    }

    fn refused(&self, path: &Path, kind: ErrorKind, word: &str) {
        let opened = open(path, None).and_then(|image| image.open_point(ACTIVE));
        let Err(error) = opened else {
            panic!("{word}: it opened");
        };
        assert_eq!(error.kind(), kind, "{}", error.with_causes());
        let text = error.to_string();
        assert!(text.contains(word), "{text} lacks {word:?}");
    }

    /// Images with some bytes changed.
    fn cases(&self, name: &str, sound: &[u8], cases: &[Case<'_>]) {
        for (kind, word, at, value) in cases {
            let mut bytes = sound.to_vec();
            bytes[*at..at + value.len()].copy_from_slice(value);
            let path = self.at("library").join(name);
            std::fs::write(&path, bytes).unwrap();
            self.refused(&path, *kind, word);
        }
    }
}

/// The kind, a word, the place and the bytes that make it so.
type Case<'a> = (ErrorKind, &'a str, usize, &'a [u8]);

#[test]
fn impossible_vmdks_are_refused_by_name() {
    let folder = Folder::new();
    let sparse = folder.sound("a.vmdk", "vmdk", "subformat=monolithicSparse");
    folder.cases(
        "a.vmdk",
        &sparse,
        &[
            (Unsupported, "unknown version 9", 4, &9_u32.to_le_bytes()),
            (Limit, "grain directory", 12, &(1_u64 << 52).to_le_bytes()),
            (Limit, "more than any file has", 12, &u64::MAX.to_le_bytes()),
            (
                Limit,
                "larger than the 4096",
                20,
                &(1_u64 << 40).to_le_bytes(),
            ),
            (Corrupt, "grains of 3 sectors", 20, &3_u64.to_le_bytes()),
            (Limit, "a descriptor of", 36, &(1_u64 << 30).to_le_bytes()),
            (Corrupt, "grain table of 0", 44, &0_u32.to_le_bytes()),
            (Corrupt, "grain table of", 44, &u32::MAX.to_le_bytes()),
            (
                Corrupt,
                "beyond the end of the file",
                56,
                &(1_u64 << 40).to_le_bytes(),
            ),
            (Corrupt, "line ends", 73, b"\r\n \n"),
        ],
    );
    // A stream whose grain claims more than a grain can be, and one whose footer is lost.
    let mut stream = folder.sound("b.vmdk", "vmdk", "subformat=streamOptimized");
    let field = |at: usize| {
        usize::try_from(u64::from_le_bytes(stream[at..at + 8].try_into().unwrap())).unwrap()
    };
    let directory = field(56) * 512;
    let word = |at: usize| {
        usize::try_from(u32::from_le_bytes(stream[at..at + 4].try_into().unwrap())).unwrap()
    };
    let table = word(directory) * 512;
    let grain = (0..48)
        .map(|index| word(table + index * 4))
        .find(|at| *at > 1)
        .unwrap()
        * 512;
    let first = usize::try_from(u64::from_le_bytes(
        stream[grain..grain + 8].try_into().unwrap(),
    ))
    .unwrap()
        * 512;
    stream[grain + 8..grain + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    let path = folder.at("library/b.vmdk");
    std::fs::write(&path, &stream).unwrap();
    let opened = image(&path);
    let disk = opened.open_point(ACTIVE).unwrap();
    let error = disk
        .read_exact_at(u64::try_from(first).unwrap(), &mut [0; 512])
        .unwrap_err();
    assert_eq!(error.kind(), Corrupt);
    assert!(
        error.to_string().contains("compressed grain of 4294967295"),
        "{error}"
    );
    folder.cases(
        "b.vmdk",
        &stream,
        &[
            (Corrupt, "footer", 56, &u64::MAX.to_le_bytes()),
            (Unsupported, "unknown way 7", 77, &7_u16.to_le_bytes()),
        ],
    );
}

#[test]
fn descriptors_lead_nowhere_else() {
    let folder = Folder::new();
    let head = "# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=ffffffff\n";
    for (extent, kind, word) in [
        (
            "RW 8 FLAT \"../seed.raw\" 0",
            Denied,
            "outside the allowed folders",
        ),
        (
            "RW 8 FLAT \"/etc/passwd\" 0",
            Denied,
            "outside the allowed folders",
        ),
        ("RW 8 FLAT \"nbd://host/x\" 0", Denied, "protocol"),
        ("RW 8 FLAT \"gone.vmdk\" 0", Corrupt, "cannot be found"),
        ("RW 8 SPARSE \"disk.vmdk\"", Corrupt, "VMDK header"),
        ("RW 8 VMFSRDM \"disk.vmdk\"", Unsupported, "device"),
        (
            "RW 18446744073709551615 ZERO",
            Limit,
            "larger than any host's files",
        ),
        ("", Corrupt, "names no extents"),
    ] {
        let path = folder.text("disk.vmdk", &format!("{head}{extent}\n"));
        folder.refused(&path, kind, word);
    }
    let many = "RW 1 FLAT \"disk.vmdk\" 0\n".repeat(600);
    let path = folder.text("disk.vmdk", &format!("{head}{many}"));
    folder.refused(&path, Limit, "more than 512 files");
    let endless = "RW 1 ZERO\n".repeat(5000);
    let path = folder.text("disk.vmdk", &format!("{head}{endless}"));
    folder.refused(&path, Limit, "more than 4096 extents");
    // A flat extent that ends too early fails where it is read.
    let path = folder.text("disk.vmdk", &format!("{head}RW 800 FLAT \"disk.vmdk\" 0\n"));
    let disk = image(&path).open_point(ACTIVE).unwrap();
    assert!(disk.read_exact_at(0, &mut [0; 16]).is_ok());
    assert_eq!(
        disk.read_exact_at(4096, &mut [0; 16]).unwrap_err().kind(),
        Corrupt
    );
    // Layers that lead back to each other.
    let layer = |parent: &str| {
        format!(
            "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=1\nparentFileNameHint=\"{parent}\"\nRW 8 ZERO\n"
        )
    };
    let a = folder.text("a.vmdk", &layer("b.vmdk"));
    folder.text("b.vmdk", &layer("a.vmdk"));
    folder.refused(&a, Corrupt, "leads back to itself");
}

#[test]
fn impossible_vhds_are_refused_by_name() {
    let folder = Folder::new();
    let mut sound = folder.sound("a.vhd", "vpc", "subformat=dynamic,force_size=on");
    // With the checksum that fits the change.
    let sum = |bytes: &mut [u8], at: usize| {
        bytes[at..at + 4].fill(0);
        let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
        bytes[at..at + 4].copy_from_slice(&(!sum).to_be_bytes());
    };
    for (kind, word, at, value) in [
        (
            Corrupt,
            "beyond the end",
            16,
            &(1_u64 << 50).to_be_bytes()[..],
        ),
        (
            Unsupported,
            "dynamic header of unknown version",
            24,
            &7_u32.to_be_bytes(),
        ),
        (Corrupt, "beyond the end", 28, &u32::MAX.to_be_bytes()),
        (Corrupt, "too small", 28, &1_u32.to_be_bytes()),
        (Limit, "larger than the", 32, &(1_u32 << 31).to_be_bytes()),
        (Corrupt, "blocks of 0 bytes", 32, &0_u32.to_be_bytes()),
        (Corrupt, "blocks of 3000 bytes", 32, &3000_u32.to_be_bytes()),
        (Limit, "locator", 584, &u32::MAX.to_be_bytes()),
    ] {
        let mut bytes = sound.clone();
        if word == "locator" {
            bytes[512 + 576..512 + 580].copy_from_slice(b"W2ku");
        }
        bytes[512 + at..512 + at + value.len()].copy_from_slice(value);
        sum(&mut bytes[512..1536], 36);
        let path = folder.at("library/a.vhd");
        std::fs::write(&path, bytes).unwrap();
        folder.refused(&path, kind, word);
    }
    let end = sound.len() - 512;
    for (kind, word, at, value) in [
        (Unsupported, "unknown version", 12, &9_u32.to_be_bytes()[..]),
        (Unsupported, "unknown type 9", 60, &9_u32.to_be_bytes()),
        (
            Limit,
            "larger than any host's files",
            48,
            &u64::MAX.to_be_bytes(),
        ),
        (Corrupt, "dynamic header", 16, &(1_u64 << 50).to_be_bytes()),
        (Corrupt, "a fixed disk of", 60, &2_u32.to_be_bytes()),
    ] {
        let mut bytes = sound.clone();
        bytes[end + at..end + at + value.len()].copy_from_slice(value);
        if word == "a fixed disk of" {
            bytes[end + 48..end + 56].copy_from_slice(&(1_u64 << 40).to_be_bytes());
        }
        sum(&mut bytes[end..], 64);
        let path = folder.at("library/a.vhd");
        std::fs::write(&path, bytes).unwrap();
        folder.refused(&path, kind, word);
    }
    sound.truncate(100);
    let path = folder.at("library/a.vhd");
    std::fs::write(&path, sound).unwrap();
    folder.refused(&path, Corrupt, "smaller than a VHD footer");
}

#[test]
fn impossible_vhdx_vdi_qed_parallels_and_qcow_are_refused_by_name() {
    let folder = Folder::new();
    let vhdx = folder.sound("a.vhdx", "vhdx", "block_size=1M");
    // Metadata have no checksum; the table's first item is behind 64 KiB.
    let metadata = (1..8)
        .map(|mib| mib << 20)
        .find(|at| vhdx[*at..].starts_with(b"metadata"))
        .unwrap();
    let item = |first: u8| {
        (0..8)
            .map(|entry| metadata + 32 + entry * 32)
            .find(|at| vhdx[*at] == first)
            .map(|at| {
                metadata
                    + usize::try_from(u32::from_le_bytes(
                        vhdx[at + 16..at + 20].try_into().unwrap(),
                    ))
                    .unwrap()
            })
            .unwrap()
    };
    folder.cases(
        "a.vhdx",
        &vhdx,
        &[
            (
                Corrupt,
                "blocks of 7 bytes",
                item(0x37),
                &7_u32.to_le_bytes(),
            ),
            (
                Corrupt,
                "no parent locator",
                item(0x37) + 4,
                &2_u32.to_le_bytes(),
            ),
            (
                Corrupt,
                "sectors of 513",
                item(0x1d),
                &513_u32.to_le_bytes(),
            ),
            (Limit, "64 TiB", item(0x24), &u64::MAX.to_le_bytes()),
            (
                Corrupt,
                "too small",
                item(0x24),
                &(1_u64 << 45).to_le_bytes(),
            ),
            (
                Corrupt,
                "2304 entries",
                metadata + 10,
                &2304_u16.to_le_bytes(),
            ),
            (Unsupported, "unknown metadata", metadata + 32, &[9; 16]),
            (
                Limit,
                "metadata of",
                metadata + 32 + 20,
                &u32::MAX.to_le_bytes(),
            ),
            (
                Corrupt,
                "outside of their region",
                metadata + 32 + 16,
                &u32::MAX.to_le_bytes(),
            ),
            (Corrupt, "metadata table is not there", metadata, b"x"),
        ],
    );
    let vdi = folder.sound("a.vdi", "vdi", "static=off");
    folder.cases(
        "a.vdi",
        &vdi,
        &[
            (
                Unsupported,
                "version 2.0",
                0x44,
                &0x2_0000_u32.to_le_bytes(),
            ),
            (Unsupported, "type 9", 0x4c, &9_u32.to_le_bytes()),
            (Corrupt, "beyond the end", 0x154, &u32::MAX.to_le_bytes()),
            (
                Unsupported,
                "sectors of 4096",
                0x168,
                &4096_u32.to_le_bytes(),
            ),
            (
                Limit,
                "larger than any host's files",
                0x170,
                &u64::MAX.to_le_bytes(),
            ),
            (
                Limit,
                "larger than the",
                0x178,
                &(1_u32 << 31).to_le_bytes(),
            ),
            (Corrupt, "blocks of 3 bytes", 0x178, &3_u32.to_le_bytes()),
            (Corrupt, "too small", 0x180, &1_u32.to_le_bytes()),
            (Corrupt, "parent's ids", 0x4c, &4_u32.to_le_bytes()),
        ],
    );
    let qed = folder.sound("a.qed", "qed", "cluster_size=64k");
    folder.cases(
        "a.qed",
        &qed,
        &[
            (Corrupt, "are impossible", 4, &1_u32.to_le_bytes()),
            (Corrupt, "are impossible", 8, &99_u32.to_le_bytes()),
            (Unsupported, "feature 9", 16, &(1_u64 << 9).to_le_bytes()),
            (
                Limit,
                "larger than any host's files",
                48,
                &u64::MAX.to_le_bytes(),
            ),
            (Corrupt, "too small", 48, &(1_u64 << 60).to_le_bytes()),
        ],
    );
    let parallels = folder.sound("a.hds", "parallels", "cluster_size=64k");
    folder.cases(
        "a.hds",
        &parallels,
        &[
            (Unsupported, "version 3", 16, &3_u32.to_le_bytes()),
            (Corrupt, "clusters of 0 sectors", 28, &0_u32.to_le_bytes()),
            (Corrupt, "too small", 32, &1_u32.to_le_bytes()),
            (Corrupt, "beyond the end", 32, &u32::MAX.to_le_bytes()),
            (
                Limit,
                "larger than any host's files",
                36,
                &u64::MAX.to_le_bytes(),
            ),
        ],
    );
    let qcow = folder.sound("a.qcow", "qcow", "size=3M");
    folder.cases(
        "a.qcow",
        &qcow,
        &[
            (Unsupported, "AES", 36, &1_u32.to_be_bytes()),
            (Corrupt, "are impossible", 32, &[40]),
            (
                Limit,
                "larger than any host's files",
                24,
                &u64::MAX.to_be_bytes(),
            ),
            (Limit, "an L1 table of", 24, &(1_u64 << 60).to_be_bytes()),
            (Corrupt, "beyond the end", 40, &(1_u64 << 50).to_be_bytes()),
            (Corrupt, "backing file name of 0", 8, &48_u64.to_be_bytes()),
        ],
    );
}
