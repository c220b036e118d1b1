//! Recipes of filesystems: mke2fs with many option sets, filled from a folder and by debugfs.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::oracle::{must, run};

/// Option sets of mke2fs, each with a size in MiB.
pub const OPTION_SETS: &[(&str, &str, u32)] = &[
    ("ext4", "-t ext4", 64),
    ("ext4-4k", "-t ext4 -b 4096 -I 256", 96),
    ("ext4-2k", "-t ext4 -b 2048 -I 512", 64),
    ("ext4-1k-128", "-t ext4 -b 1024 -I 128", 64),
    ("ext3", "-t ext3 -b 1024", 64),
    ("ext3-4k", "-t ext3 -b 4096", 64),
    ("ext2", "-t ext2 -b 1024 -I 128", 64),
    ("ext2-4k", "-t ext2 -b 4096 -O ^dir_index", 64),
    ("inline", "-t ext4 -b 4096 -I 256 -O inline_data", 64),
    ("inline-1k", "-t ext4 -b 1024 -I 512 -O inline_data", 64),
    ("no-csum", "-t ext4 -O ^metadata_csum", 64),
    ("gdt-csum", "-t ext4 -O ^metadata_csum,uninit_bg", 64),
    ("no-64bit", "-t ext4 -O ^64bit", 64),
    (
        "gdt-csum-32",
        "-t ext4 -O ^metadata_csum,uninit_bg,^64bit",
        64,
    ),
    ("bigalloc", "-t ext4 -b 4096 -O bigalloc -C 65536", 128),
    ("meta-bg", "-t ext4 -b 1024 -O meta_bg,^resize_inode", 64),
    ("ea-inode", "-t ext4 -O ea_inode", 64),
    ("csum-seed", "-t ext4 -O metadata_csum_seed", 64),
    ("orphan-file", "-t ext4 -O orphan_file", 64),
    ("sparse-super2", "-t ext4 -O sparse_super2", 64),
    ("quota", "-t ext4 -O quota,project -I 256", 64),
    ("flat", "-t ext4 -O ^flex_bg,^extents,^64bit,^huge_file", 64),
    ("legacy-hash", "-t ext4 hash_alg=legacy", 64),
    ("tea-hash", "-t ext4 hash_alg=tea", 64),
    ("no-journal", "-t ext4 -O ^has_journal", 64),
    ("no-filetype", "-t ext2 -O ^filetype", 64),
    ("large-dir", "-t ext4 -b 1024 -O large_dir", 64),
    ("64k", "-t ext4 -b 65536 -F", 256),
];

/// A folder with one of everything that needs no root.
pub fn populate(root: &Path) {
    let sizes = [
        0, 1, 59, 60, 61, 100, 160, 1023, 1024, 1025, 4096, 100_000, 3_000_000,
    ];
    for size in sizes {
        let bytes: Vec<u8> = (0..size)
            .map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        fs::write(root.join(format!("file-{size}")), bytes).unwrap();
    }
    let mut sparse = File::create(root.join("sparse")).unwrap();
    for at in [0_u64, 70_000, 300_000, 1_200_000, 4_500_000] {
        sparse.seek(SeekFrom::Start(at)).unwrap();
        sparse.write_all(&[7; 5000]).unwrap();
    }
    sparse.set_len(6_000_000).unwrap();
    for len in [1, 58, 59, 60, 61, 255, 1000] {
        symlink("t".repeat(len), root.join(format!("link-{len}"))).unwrap();
    }
    fs::create_dir_all(root.join("deep/er/and/deeper")).unwrap();
    fs::write(root.join("deep/er/and/deeper/end"), b"end\n").unwrap();
    fs::hard_link(root.join("file-100"), root.join("deep/hard")).unwrap();
    fs::create_dir(root.join("small")).unwrap();
    for n in 0..3 {
        fs::write(root.join(format!("small/{n}")), n.to_string()).unwrap();
    }
    fs::create_dir(root.join("many")).unwrap();
    for n in 0..2500 {
        let name = format!("many/name-{n}-{}", "é".repeat(n % 40));
        fs::write(
            root.join(name),
            if n % 500 == 0 { b"x".as_slice() } else { b"" },
        )
        .unwrap();
    }
    fs::create_dir(root.join("holes")).unwrap();
    for name in ["old", "future"] {
        fs::write(root.join(name), name).unwrap();
    }
    must("mkfifo", &[root.join("pipe").to_str().unwrap()]);
    let old = root.join("old");
    must(
        "touch",
        &["-d", "1955-11-05 06:15:00 UTC", old.to_str().unwrap()],
    );
}

/// Makes the image `name` in `folder` and fills it from `content`; `hashed` lets e2fsck index its directories.
pub fn make(folder: &Path, name: &str, options: &str, mib: u32, content: &Path) -> PathBuf {
    let image = folder.join(format!("{name}.img"));
    let file = File::create(&image).unwrap();
    file.set_len(u64::from(mib) << 20).unwrap();
    let (hash, mut args): (Vec<&str>, Vec<&str>) = options
        .split_whitespace()
        .partition(|option| option.starts_with("hash_alg="));
    args.extend([
        "-q",
        "-F",
        "-N",
        "6000",
        "-d",
        content.to_str().unwrap(),
        image.to_str().unwrap(),
    ]);
    must("mke2fs", &args);
    for option in hash {
        must("tune2fs", &["-E", option, image.to_str().unwrap()]);
    }
    decorate(&image);
    // Indexes the directories that mke2fs left linear; it answers 1 for "changed".
    let output = run("e2fsck", &["-fyD", image.to_str().unwrap()]);
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{name}: {output:?}"
    );
    let output = run("e2fsck", &["-fn", image.to_str().unwrap()]);
    assert!(output.status.success(), "{name}: {output:?}");
    image
}

/// Devices, owners, times and attributes, as only debugfs can make them without root.
fn decorate(image: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let big = folder.path().join("big");
    fs::write(&big, vec![b'B'; 600]).unwrap();
    let commands = folder.path().join("commands");
    let script = format!(
        "mknod char c 5 1\nmknod disk b 259 200\n\
         ea_set file-100 user.short value\nea_set file-100 security.selinux system_u:object_r:etc_t:s0\n\
         ea_set -f {big} file-4096 user.long\nea_set file-4096 trusted.other x\n\
         ea_set file-1 user.empty \"\"\n\
         set_inode_field file-61 uid 1000000\nset_inode_field file-61 gid 70000\n\
         set_inode_field file-61 mode 0104755\n\
         set_inode_field future mtime_extra 0x00000ec9\n",
        big = big.display()
    );
    fs::write(&commands, script).unwrap();
    must(
        "debugfs",
        &[
            "-w",
            "-f",
            commands.to_str().unwrap(),
            image.to_str().unwrap(),
        ],
    );
}

/// A few files of every kind, and a directory that will be hashed.
pub fn populate_small(root: &Path) {
    for (name, size) in [
        ("empty", 0),
        ("tiny", 40),
        ("moved", 20_000),
        ("revoked", 9000),
        ("large", 300_000),
    ] {
        fs::write(root.join(name), vec![b'm'; size]).unwrap();
    }
    symlink("tiny", root.join("link")).unwrap();
    symlink("t".repeat(300), root.join("long")).unwrap();
    for n in [1, 100, 4096] {
        fs::write(root.join(format!("file-{n}")), vec![b'f'; n]).unwrap();
    }
    for name in ["file-61", "future"] {
        fs::write(root.join(name), name).unwrap();
    }
    fs::create_dir(root.join("many")).unwrap();
    for n in 0..300 {
        fs::write(root.join(format!("many/name-{n}")), b"").unwrap();
    }
}
