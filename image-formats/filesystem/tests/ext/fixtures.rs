//! Images that others collected: broken ones with e2fsck's own account, and sound ones.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use dormouse_block::{Bytes, ErrorKind, Source};
use dormouse_filesystem::{Filesystem, ext::Ext4};
use std::sync::Arc;

use crate::oracle::{check_with_debugfs, open, walk};

pub fn fixtures() -> PathBuf {
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

pub fn unpack(path: &Path) -> Vec<u8> {
    let packed = fs::read(path).unwrap();
    let mut out = Vec::new();
    if path.extension().is_some_and(|extension| extension == "gz") {
        flate2::read::MultiGzDecoder::new(&packed[..])
            .read_to_end(&mut out)
            .unwrap();
    } else {
        zstd::stream::copy_decode(&packed[..], &mut out).unwrap();
    }
    out
}

/// Each opens and reads through, or fails with the kind that names whose fault it is; none panics or hangs.
#[test]
fn broken_images_of_e2fsprogs_are_read_or_refused_by_kind() {
    let mut read = Vec::new();
    let mut refused = Vec::new();
    for folder in fs::read_dir(fixtures().join("fs-ext4/e2fsprogs")).unwrap() {
        let folder = folder.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let packed = folder.join("image.gz");
        if !packed.exists() {
            // Two folders hold only e2fsck's account of an image that it makes itself.
            continue;
        }
        let volume: Arc<dyn Source> = Arc::new(Bytes::new(unpack(&packed)));
        let result = Ext4
            .open(volume)
            .and_then(|tree| crate::hostile::read_all(&*tree));
        match result {
            Ok(names) => read.push((name, names)),
            Err(error) => {
                assert!(
                    matches!(
                        error.kind(),
                        ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::Limit
                    ),
                    "{name}: {error}"
                );
                refused.push((name, error.with_causes()));
            }
        }
    }
    read.sort();
    refused.sort();
    println!("read: {read:#?}\nrefused: {refused:#?}");
    let wanted = |list: &[(String, String)], name: &str, why: &str| {
        assert!(
            list.iter()
                .any(|(found, error)| found == name && error.contains(why)),
            "{name} should be refused for {why}"
        );
    };
    wanted(
        &refused,
        "j_corrupt_sb_csum",
        "checksum of the journal's superblock",
    );
    wanted(&refused, "j_corrupt_commit_csum", "transaction");
    wanted(&refused, "j_corrupt_descr_csum", "transaction");
    wanted(
        &refused,
        "j_corrupt_journal_block",
        "checksum of a block in transaction",
    );
    wanted(&refused, "f_bad_inode_csum", "checksum of inode");
    wanted(&refused, "f_bad_gdt_csum", "checksum of group descriptor");
    wanted(
        &refused,
        "f_extent_leaf_bad_csum",
        "checksum of an extent block",
    );
    wanted(&refused, "f_ea_bad_csum", "extended attributes");
    wanted(
        &refused,
        "f_htree_leaf_csum",
        "checksum of a directory block",
    );
    wanted(&refused, "f_extents", "bad magic number of an extent node");
    assert!(read.iter().any(|(name, _)| name == "f_h_normal"));
    assert!(read.len() + refused.len() > 100);
}

#[test]
fn sound_images_of_ext4_view_read_as_debugfs_reads_them() {
    let scratch = tempfile::tempdir().unwrap();
    for name in [
        "test_disk1",
        "test_disk_4k_block_journal",
        "test_disk_ext2",
        "test_disk_ext3",
    ] {
        let image = scratch.path().join(name);
        let packed = fixtures().join(format!("fs-ext4/ext4-view/{name}.bin.zst"));
        fs::write(&image, unpack(&packed)).unwrap();
        let tree = open(&image);
        let info = tree.info();
        println!("{name}: {info:?}");
        let manifest = match walk(&*tree) {
            Ok(manifest) => manifest,
            Err(error) => {
                // This one has an encrypted folder, which is refused by name.
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error}");
                assert!(error.to_string().contains("encrypted"), "{name}: {error}");
                continue;
            }
        };
        if info.journal_replayed {
            let copy = crate::journal::recovered(&image);
            check_with_debugfs(&copy, &manifest);
        } else {
            check_with_debugfs(&image, &manifest);
        }
    }
}
