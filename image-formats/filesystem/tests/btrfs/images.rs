//! Recipes of filesystems: mkfs.btrfs with many option sets, filled and aged through the kernel's mount.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, lchown, symlink};
use std::path::{Path, PathBuf};

use crate::oracle::must;

/// Options of mkfs.btrfs and of the mount that fills it.
pub struct OptionSet {
    pub name: &'static str,
    pub mkfs: &'static str,
    pub mount: &'static str,
    pub mib: u64,
}

pub const fn set(
    name: &'static str,
    mkfs: &'static str,
    mount: &'static str,
    mib: u64,
) -> OptionSet {
    OptionSet {
        name,
        mkfs,
        mount,
        mib,
    }
}

pub const OPTION_SETS: &[OptionSet] = &[
    set("default", "-L dormouse", "rw", 128),
    set(
        "xxhash-lzo",
        "--csum xxhash -n 4096 -m single",
        "rw,compress-force=lzo",
        128,
    ),
    set(
        "sha256-zlib",
        "--csum sha256 -O ^no-holes -R quota",
        "rw,compress-force=zlib",
        128,
    ),
    set(
        "blake2-mixed",
        "--csum blake2 -M -n 4096",
        "rw,compress-force=zstd:3",
        128,
    ),
    set(
        "64k-zstd",
        "-n 65536 -m single",
        "rw,compress-force=zstd:15,max_inline=0",
        256,
    ),
    set(
        "32k-nodatasum",
        "-n 32768 -d dup -O ^extref,^skinny-metadata",
        "rw,nodatasum",
        256,
    ),
    set(
        "old",
        "-O ^no-holes,^extref -R ^free-space-tree -n 4096",
        "rw,compress=zlib,max_inline=4000",
        128,
    ),
];

/// Makes an empty filesystem.
pub fn make(folder: &Path, set: &OptionSet) -> PathBuf {
    let image = folder.join(format!("{}.img", set.name));
    File::create(&image)
        .unwrap()
        .set_len(set.mib << 20)
        .unwrap();
    let mut args: Vec<&str> = set.mkfs.split_whitespace().collect();
    args.extend(["-q", image.to_str().unwrap()]);
    must("mkfs.btrfs", &args);
    image
}

/// Bytes that compress to about half.
pub fn bytes(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    (0..len)
        .map(|n| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            if (n / 700) % 2 == 0 {
                (n % 61) as u8 + b'0'
            } else {
                (state >> 24) as u8
            }
        })
        .collect()
}

/// One of everything.
pub fn populate(root: &Path) {
    let sizes = [
        0, 1, 100, 2047, 2048, 2049, 3900, 4095, 4096, 4097, 100_000, 131_072, 131_073, 900_000,
    ];
    for (n, size) in sizes.into_iter().enumerate() {
        fs::write(root.join(format!("file-{size}")), bytes(size, n as u32 + 1)).unwrap();
    }
    fs::write(root.join("text"), "the same line again\n".repeat(60_000)).unwrap();
    let mut sparse = File::create(root.join("sparse")).unwrap();
    for at in [0_u64, 70_000, 300_000, 1_200_000] {
        sparse.seek(SeekFrom::Start(at)).unwrap();
        sparse.write_all(&[7; 5000]).unwrap();
    }
    sparse.set_len((5 << 30) + 77).unwrap();
    sparse.write_all_at(&[9; 3], 4 << 30).unwrap();
    sparse.set_len(2_000_001).unwrap();
    let prealloc = File::create(root.join("prealloc")).unwrap();
    rustix::fs::fallocate(&prealloc, rustix::fs::FallocateFlags::empty(), 0, 300_000).unwrap();
    prealloc.write_all_at(&bytes(10_000, 5), 50_000).unwrap();
    for len in [1, 58, 255, 1000, 3000] {
        symlink("t".repeat(len), root.join(format!("link-{len}"))).unwrap();
    }
    fs::create_dir_all(root.join("deep/er/and/deeper")).unwrap();
    fs::write(root.join("deep/er/and/deeper/end"), b"end\n").unwrap();
    for n in 0..30 {
        let name = format!("deep/hard-{n}-{}", "h".repeat(200));
        if let Err(error) = fs::hard_link(root.join("file-100"), root.join(name)) {
            // Without extended references there is room for few.
            assert_eq!(error.kind(), std::io::ErrorKind::TooManyLinks);
        }
    }
    fs::create_dir(root.join("many")).unwrap();
    for n in 0..400 {
        let name = format!("many/name-{n}-{}", "é".repeat(n % 40));
        fs::write(root.join(name), vec![b'x'; n % 300]).unwrap();
    }
    let file = |name: &str| root.join(name);
    let device = rustix::fs::makedev(259, 70_000);
    for (name, kind) in [
        ("block", rustix::fs::FileType::BlockDevice),
        ("char", rustix::fs::FileType::CharacterDevice),
        ("pipe", rustix::fs::FileType::Fifo),
        ("socket", rustix::fs::FileType::Socket),
    ] {
        let mode = rustix::fs::Mode::from_raw_mode(0o640);
        rustix::fs::mknodat(rustix::fs::CWD, file(name), kind, mode, device).unwrap();
    }
    for (name, key, value) in [
        ("file-100", "user.short", b"value".to_vec()),
        (
            "file-100",
            "security.selinux",
            b"system_u:object_r:etc_t:s0\0".to_vec(),
        ),
        ("file-100", "user.empty", Vec::new()),
        ("deep", "user.long", bytes(3000, 9)),
        ("link-58", "trusted.other", b"x".to_vec()),
    ] {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(file(name), key, &value, flags).unwrap();
    }
    // An access control list with a named user, as the kernel keeps it.
    let list: Vec<u8> = [
        &2_u32.to_le_bytes()[..],
        &[1, 0, 6, 0, 255, 255, 255, 255],
        &[2, 0, 4, 0, 232, 3, 0, 0],
        &[4, 0, 4, 0, 255, 255, 255, 255],
        &[16, 0, 4, 0, 255, 255, 255, 255],
        &[32, 0, 0, 0, 255, 255, 255, 255],
    ]
    .concat();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::lsetxattr(file("file-2048"), "system.posix_acl_access", &list, flags).unwrap();
    lchown(file("file-4097"), Some(1_000_000), Some(70_000)).unwrap();
    lchown(file("link-255"), Some(7), Some(8)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
    fs::set_permissions(file("file-4097"), mode).unwrap();
    let old = file("file-1");
    must(
        "touch",
        &["-d", "1955-11-05 06:15:00.25 UTC", old.to_str().unwrap()],
    );
    must(
        "touch",
        &[
            "-d",
            "2500-01-01 00:00:00 UTC",
            file("file-0").to_str().unwrap(),
        ],
    );
}

/// Reflinks, overwritten middles, truncations, deletions, subvolumes and snapshots.
pub fn age(root: &Path) {
    let at = |path: &str| root.join(path).to_str().unwrap().to_owned();
    must(
        "cp",
        &["--reflink=always", &at("file-900000"), &at("clone")],
    );
    rustix::fs::sync();
    let clone = File::options().write(true).open(at("clone")).unwrap();
    for (n, offset) in [5000_u64, 130_000, 260_001, 400_000, 777_777]
        .into_iter()
        .enumerate()
    {
        clone
            .write_all_at(&bytes(9000, n as u32 + 70), offset)
            .unwrap();
        clone.sync_all().unwrap();
    }
    clone.set_len(850_123).unwrap();
    must(
        "cp",
        &["--reflink=always", &at("clone"), &at("clone of clone")],
    );
    let mut fragments = File::create(at("fragments")).unwrap();
    for n in 0..40 {
        fragments.write_all(&bytes(6000, n + 100)).unwrap();
        if n % 4 == 0 {
            fragments.sync_all().unwrap();
        }
    }
    let hole = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&fragments, hole, 20_480, 40_960).unwrap();
    for n in (0..400).step_by(3) {
        let name = format!("many/name-{n}-{}", "é".repeat(n % 40));
        fs::remove_file(root.join(name)).unwrap();
    }
    must("btrfs", &["subvolume", "create", &at("sub")]);
    fs::write(at("sub/inside"), "inside").unwrap();
    must("btrfs", &["subvolume", "create", &at("sub/below")]);
    fs::write(at("sub/below/bottom"), bytes(70_000, 3)).unwrap();
    must(
        "btrfs",
        &[
            "subvolume",
            "snapshot",
            "-r",
            &at("sub"),
            &at("deep/snapshot"),
        ],
    );
    fs::write(at("sub/inside"), "changed since").unwrap();
    fs::rename(at("text"), at("sub/text")).unwrap_or_else(|_| {
        must("mv", &[&at("text"), &at("sub/text")]);
    });
}
