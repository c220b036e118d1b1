//! Images that others collected, each with what it must come to.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::kernel::{check_with_kernel, must, open, run, walk};
use crate::log::recovered;

fn fixtures() -> PathBuf {
    let folder = std::env::var_os("DORMOUSE_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    );
    assert!(
        folder.is_dir(),
        "the fixtures are missing: set DORMOUSE_FIXTURES to their folder"
    );
    folder
}

/// Unpacks a fixture to `to`.
pub fn unpack(name: &str, to: &Path) {
    let path = fixtures().join(name);
    let packed = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut out = Vec::new();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => {
            flate2::read::MultiGzDecoder::new(&packed[..])
                .read_to_end(&mut out)
                .unwrap();
        }
        Some("zst") => zstd::stream::copy_decode(&packed[..], &mut out).unwrap(),
        _ => {
            let output = run("xz", &["-dc", path.to_str().unwrap()]);
            assert!(output.status.success(), "xz: {output:?}");
            out = output.stdout;
        }
    }
    fs::write(to, out).unwrap();
}

/// Every image, its version, how many names it holds, and one of them.
const IMAGES: &[(&str, &str, usize, &str)] = &[
    (
        "fs-xfs/dissect.xfs/xfs.bin.gz",
        "v5",
        5,
        "/test_dir/test_file",
    ),
    (
        "fs-xfs/dissect.xfs/xfs_symlink_test.bin.gz",
        "v5",
        14,
        "/other/path/source",
    ),
    ("fs-misc/cryptsetup/img_fs_xfs.img.xz", "v4", 3, "/luks.img"),
    (
        "fs-misc/cryptsetup/img_fs_xfs5.img.xz",
        "v5",
        3,
        "/luks_header.img",
    ),
    ("fs-misc/cryptsetup/xfs_512_block_size.img.xz", "v5", 1, "/"),
];

#[test]
fn collected_images_read_as_the_kernel_reads_them() {
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("image");
    for (name, version, names, one) in IMAGES {
        unpack(name, &image);
        let tree = open(&image);
        let info = tree.info();
        println!("{name}: {info:?}");
        assert_eq!(info.features[0], *version, "{name}");
        assert!(!info.journal_replayed, "{name}");
        let manifest =
            walk(&*tree).unwrap_or_else(|error| panic!("{name}: {}", error.with_causes()));
        assert_eq!(manifest.len(), *names, "{name}");
        assert!(manifest.contains_key(one.as_bytes()), "{name}");
        // Kernels since 6.18 or so read version 4 no more.
        if *version == "v5" {
            assert!(check_with_kernel(&image, &manifest), "{name}: no mount");
        }
    }
}

/// A partition within a VHDX, made by another library's authors.
#[test]
fn a_partition_of_a_vhdx_reads_as_the_kernel_reads_it() {
    let scratch = tempfile::tempdir().unwrap();
    let (disk, raw) = (scratch.path().join("disk.vhdx"), scratch.path().join("raw"));
    unpack("disk-formats/DiscUtils/xfs5.vhdx.gz", &disk);
    let [from, to] = [&disk, &raw].map(|path| path.to_str().unwrap().to_owned());
    must("qemu-img", &["convert", "-O", "raw", &from, &to]);
    // The first partition of its master boot record.
    let record = {
        use std::io::Read;
        let mut bytes = [0; 512];
        fs::File::open(&raw)
            .unwrap()
            .read_exact(&mut bytes)
            .unwrap();
        bytes
    };
    let start = u64::from(u32::from_le_bytes(record[454..458].try_into().unwrap()));
    let image = scratch.path().join("image");
    let (input, output) = (format!("if={to}"), format!("of={}", image.display()));
    let skip = format!("skip={}", start * 512);
    must(
        "dd",
        &[
            &input,
            &output,
            "bs=1M",
            &skip,
            "iflag=skip_bytes",
            "conv=sparse",
        ],
    );
    let tree = open(&image);
    let info = tree.info();
    println!("{info:?}");
    let manifest = walk(&*tree).unwrap();
    assert!(manifest.len() > 1);
    println!(
        "{:?}",
        manifest
            .keys()
            .map(|name| String::from_utf8_lossy(name))
            .collect::<Vec<_>>()
    );
    let shown = if info.journal_replayed {
        recovered(&image)
    } else {
        image
    };
    assert!(check_with_kernel(&shown, &manifest), "no mount");
}
