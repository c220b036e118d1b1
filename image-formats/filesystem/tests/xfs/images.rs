//! Recipes of filesystems: mkfs.xfs with many option sets, filled and aged through the kernel.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, XattrFlags, lsetxattr};

use crate::kernel::{KernelMount, must};

/// Option sets of mkfs.xfs, each with a size in MiB.
pub const OPTION_SETS: &[(&str, &str, u32)] = &[
    ("default", "", 64),
    ("1k", "-b size=1024 -i size=512", 64),
    ("dir-64k", "-n size=65536 -d agcount=2", 64),
    ("1k-dir-8k", "-b size=1024 -n size=8192", 64),
    ("inode-2k", "-i size=2048,sparse=0 -m bigtime=0", 64),
    (
        "all",
        "-i nrext64=1 -m rmapbt=1,reflink=1,finobt=1,inobtcount=1,bigtime=1 -l su=32k",
        64,
    ),
    (
        "few",
        "-m finobt=0,reflink=0,bigtime=0,inobtcount=0 -i sparse=0 -d agcount=1",
        64,
    ),
    ("sector-4k", "-s size=4096", 64),
];

/// Makes an empty filesystem.
pub fn make(folder: &Path, name: &str, options: &str, mib: u32) -> PathBuf {
    let image = folder.join(format!("{name}.img"));
    let file = File::create(&image).unwrap();
    file.set_len(u64::from(mib) << 20).unwrap();
    let mut args = vec!["-q", "-f", "--unsupported"];
    args.extend(options.split_whitespace());
    args.push(image.to_str().unwrap());
    must("mkfs.xfs", &args);
    image
}

/// Mounts `image`: the kernel is the oracle, and one that is missing fails the test.
pub fn mount(image: &Path, options: &str) -> KernelMount {
    KernelMount::new(image, options)
        .expect("the oracle is missing: this test needs root and a kernel that mounts XFS")
}

pub fn noise(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32)
        .map(|n| (n.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

pub fn attribute(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty())
        .unwrap_or_else(|error| panic!("{name} of {}: {error}", path.display()));
}

/// A file in which every second block is a hole.
fn fragmented(path: &Path, pieces: u64) {
    let file = File::create(path).unwrap();
    // Within the file's end nothing is allocated ahead, which would fill the holes.
    file.set_len(pieces * 8192).unwrap();
    for nth in 0..pieces {
        file.write_all_at(&noise(3000, nth as u32), nth * 8192)
            .unwrap();
        if nth % 64 == 0 {
            // Blocks are allocated when they are written, one piece after the other.
            file.sync_data().unwrap();
        }
    }
}

fn files(root: &Path) {
    for size in [
        0, 1, 100, 1023, 1024, 1025, 4095, 4096, 4097, 100_000, 2_000_000,
    ] {
        fs::write(root.join(format!("file-{size}")), noise(size, 1)).unwrap();
    }
    let mut sparse = File::create(root.join("sparse")).unwrap();
    for at in [0_u64, 70_000, 300_000, 1_200_000, 14_500_000] {
        sparse.seek(SeekFrom::Start(at)).unwrap();
        sparse.write_all(&[7; 5000]).unwrap();
    }
    sparse.set_len(16_000_001).unwrap();
    let unwritten = File::create(root.join("unwritten")).unwrap();
    rustix::fs::fallocate(&unwritten, FallocateFlags::empty(), 0, 300_000).unwrap();
    unwritten.write_all_at(&[9; 10_000], 100_000).unwrap();
    // Extents: more than an inode has room for, and more than a block has.
    fragmented(&root.join("fragments-40"), 40);
    fragmented(&root.join("fragments-700"), 700);
    let clone = std::process::Command::new("cp")
        .args(["--reflink=always", "file-2000000", "clone"])
        .current_dir(root)
        .output()
        .unwrap();
    if clone.status.success() {
        let file = OpenOptions::new()
            .write(true)
            .open(root.join("clone"))
            .unwrap();
        for at in [5000, 500_000, 1_999_000] {
            file.write_all_at(b"no longer shared", at).unwrap();
        }
    }
    fs::hard_link(root.join("file-100"), root.join("hard")).unwrap();
}

fn special(root: &Path) {
    for len in [1, 100, 300, 470, 1000, 1023] {
        symlink("t".repeat(len), root.join(format!("link-{len}"))).unwrap();
    }
    let at = |name: &str| root.join(name).to_str().unwrap().to_owned();
    must("mknod", &[&at("char-device"), "c", "511", "261000"]);
    must("mknod", &[&at("block-device"), "b", "8", "1"]);
    must("mkfifo", &[&at("pipe")]);
    drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
    fs::set_permissions(root.join("file-1"), fs::Permissions::from_mode(0o6751)).unwrap();
    chown(root.join("file-100"), Some(4_000_000_000), Some(70_000)).unwrap();
    lchown(root.join("link-1"), Some(33), Some(44)).unwrap();
    must("touch", &["-d", "1955-11-05 06:15:00.5 UTC", &at("file-1")]);
    must(
        "touch",
        &["-d", "2037-11-05 06:15:00.25 UTC", &at("file-0")],
    );
    // Beyond what all but big times can keep: the kernel then keeps the last that it can.
    must("touch", &["-d", "2400-01-01 UTC", &at("file-1024")]);
}

fn attributes(root: &Path) {
    let file = root.join("file-1");
    attribute(&file, "user.small", b"value");
    attribute(&file, "security.selinux", b"system_u:object_r:etc_t:s0\0");
    attribute(&file, "trusted.overlay.opaque", b"y");
    attribute(&file, "user.empty", b"");
    for (name, count, size) in [
        ("attrs-20", 20, 60),
        ("attrs-400", 400, 150),
        ("attrs-big", 3, 20_000),
    ] {
        let path = root.join(name);
        fs::write(&path, name).unwrap();
        for nth in 0..count {
            let value = noise(size + nth, nth as u32);
            attribute(&path, &format!("user.attribute-number-{nth}"), &value);
        }
        for nth in (0..count).step_by(7) {
            let name = format!("user.attribute-number-{nth}");
            rustix::fs::lremovexattr(&path, name.as_str()).unwrap();
        }
    }
    attribute(&root.join("attrs-big"), "user.most", &noise(65536, 3));
    attribute(&root.join("link-300"), "trusted.of-a-link", b"link");
    // user::rw-, user:1000:r--, group::r--, mask::r--, other::r--
    let list = [
        &2_u32.to_le_bytes()[..],
        &[1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 232, 3, 0, 0],
        &[
            4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 4, 0, 255, 255, 255, 255,
        ],
        &[32, 0, 4, 0, 255, 255, 255, 255],
    ]
    .concat();
    attribute(&file, "system.posix_acl_access", &list);
    attribute(&root.join("small"), "system.posix_acl_default", &list);
}

fn folders(root: &Path) {
    fs::create_dir_all(root.join("deep/er/and/deeper")).unwrap();
    fs::write(root.join("deep/er/and/deeper/end"), b"end\n").unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    // In the inode, in one block, with one leaf, with nodes; names of all lengths.
    for (folder, count, long) in [
        ("small", 3, 0),
        ("block", 30, 5),
        ("leaf", 200, 20),
        ("node", 900, 210),
    ] {
        let folder = root.join(folder);
        fs::create_dir(&folder).unwrap();
        for nth in 0..count {
            let name = format!("name-{nth}-{}", "n".repeat(nth * 7 % (long + 1)));
            File::create(folder.join(name)).unwrap();
            if nth % 100 == 0 {
                // Between the blocks of a directory lie those of files.
                fs::write(root.join(format!("between-{count}-{nth}")), noise(9000, 5)).unwrap();
            }
        }
    }
    let aged = root.join("aged");
    fs::create_dir(&aged).unwrap();
    for nth in 0..400 {
        File::create(aged.join(format!("{nth:0100}"))).unwrap();
    }
    for nth in (0..400).filter(|nth| nth % 5 != 0 && (nth / 50) % 2 == 0) {
        fs::remove_file(aged.join(format!("{nth:0100}"))).unwrap();
    }
    for nth in 0..40 {
        fs::rename(
            aged.join(format!("{:0100}", nth * 5)),
            aged.join(format!("renamed-{nth}")),
        )
        .unwrap();
    }
    fs::create_dir(root.join("gone")).unwrap();
    for nth in 0..70 {
        fs::write(root.join(format!("gone/{nth}")), noise(5000, nth)).unwrap();
    }
    fs::remove_dir_all(root.join("gone")).unwrap();
}

/// Everything that a filesystem can hold, some of it used for a while.
pub fn populate(root: &Path) {
    files(root);
    special(root);
    folders(root);
    attributes(root);
}
