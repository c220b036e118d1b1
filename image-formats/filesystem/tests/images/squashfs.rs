//! squashfs against the kernel's mount, and against unsquashfs where no kernel reads the packing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{Bytes, ErrorKind, Source};
use dormouse_filesystem::squashfs::Squashfs;
use rustix::fs::XattrFlags;

use crate::walk::{Manifest, compare, open, walk, walk_host};
use crate::{Mounted, hostile, must, must_as_root};

/// A tree with everything that the packer keeps.
pub fn populate(root: &Path) {
    fs::create_dir_all(root.join("many")).unwrap();
    for n in 0..700 {
        fs::write(
            root.join(format!("many/name {n}")),
            format!("{n}").repeat(n % 50),
        )
        .unwrap();
    }
    let text: Vec<u8> = (0..40_000_u32)
        .flat_map(|n| format!("line {n}\n").into_bytes())
        .collect();
    let mut noise = 1_u64;
    let noise: Vec<u8> = (0..300_000)
        .map(|_| {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (noise >> 33) as u8
        })
        .collect();
    fs::write(root.join("text"), &text).unwrap();
    fs::write(root.join("noise"), &noise).unwrap();
    fs::write(
        root.join("holes"),
        [&text[..9000], &vec![0; 500_000], &noise[..70_000]].concat(),
    )
    .unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::hard_link(root.join("text"), root.join("many/linked")).unwrap();
    symlink("many/linked", root.join("link")).unwrap();
    symlink("x".repeat(3000), root.join("long link")).unwrap();
    fs::create_dir(root.join("Ünïcödé")).unwrap();
    fs::create_dir(root.join("Ünïcödé/empty")).unwrap();
    fs::set_permissions(root.join("noise"), fs::Permissions::from_mode(0o4755)).unwrap();
    rustix::fs::setxattr(
        root.join("text"),
        "user.short",
        b"value",
        XattrFlags::empty(),
    )
    .unwrap();
    rustix::fs::setxattr(
        root.join("text"),
        "user.long",
        &text[..2000],
        XattrFlags::empty(),
    )
    .unwrap();
    rustix::fs::setxattr(
        root.join("noise"),
        "user.long",
        &text[..2000],
        XattrFlags::empty(),
    )
    .unwrap();
    for (name, kind) in [("char", "c"), ("block", "b")] {
        must_as_root(
            "mknod",
            &[root.join(name).to_str().unwrap(), kind, "300", "70001"],
        );
    }
    must("mkfifo", &[root.join("fifo").to_str().unwrap()]);
    must_as_root(
        "chown",
        &["1000:70000", root.join("empty").to_str().unwrap()],
    );
}

pub fn check_attributes(tree: &dyn dormouse_filesystem::Tree) {
    let text = tree.lookup(tree.root(), b"text").unwrap().unwrap().node;
    let attributes = tree.xattrs(text).unwrap();
    assert_eq!(attributes[&b"user.short"[..]], b"value");
    assert_eq!(attributes[&b"user.long"[..]].len(), 2000);
    let noise = tree.lookup(tree.root(), b"noise").unwrap().unwrap().node;
    assert!(attributes[&b"user.long"[..]] == tree.xattrs(noise).unwrap()[&b"user.long"[..]]);
    let none = tree.lookup(tree.root(), b"holes").unwrap().unwrap().node;
    assert!(tree.xattrs(none).unwrap().is_empty());
}

fn made(folder: &Path, content: &Path, name: &str, options: &str) -> PathBuf {
    let image = folder.join(name);
    let mut args = vec![
        content.to_str().unwrap(),
        image.to_str().unwrap(),
        "-noappend",
        "-quiet",
        "-no-progress",
        "-processors",
        "1",
    ];
    args.extend(options.split_whitespace());
    must_as_root("mksquashfs", &args);
    image
}

#[test]
fn every_packing_reads_as_the_kernel_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    fs::create_dir(&content).unwrap();
    populate(&content);
    // Machine code, which xz packs better behind a filter for it.
    fs::copy("/bin/bash", content.join("code")).unwrap();
    let mut sizes = Vec::new();
    for (name, options) in [
        ("gzip", "-comp gzip"),
        ("zstd", "-comp zstd -Xcompression-level 3"),
        ("lz4", "-comp lz4 -b 4096"),
        ("lzo", "-comp lzo"),
        ("lzo1x_1", "-comp lzo -Xalgorithm lzo1x_1 -b 1M"),
        ("lzma", "-comp lzma"),
        ("xz", "-comp xz"),
        ("bcj", "-comp xz -Xbcj x86,arm,armthumb,powerpc,sparc,ia64"),
        ("small", "-comp xz -b 64K -Xdict-size 8K"),
        ("stored", "-noI -noD -noF -noX"),
        ("whole", "-no-fragments -no-duplicates -no-exports"),
        ("tails", "-always-use-fragments -no-sparse"),
    ] {
        let image = made(folder.path(), &content, name, options);
        sizes.push((name, fs::metadata(&image).unwrap().len()));
        let theirs = if name == "lzma" {
            unpacked(folder.path(), &image)
        } else {
            let mounted = Mounted::by("mount", &image, &["-t", "squashfs", "-o", "ro,loop"]);
            walk_host(mounted.path())
        };
        let tree = open(&image);
        let ours = walk(&*tree).unwrap_or_else(|error| panic!("{name}: {}", error.with_causes()));
        assert!(ours.len() > 700);
        compare(name, &ours, &theirs, &|_| {});
        check_attributes(&*tree);
        assert_eq!(tree.info().kind, "squashfs");
    }
    // A filter was used, or there would be nothing to see of it.
    let size = |wanted: &str| sizes.iter().find(|(name, _)| *name == wanted).unwrap().1;
    assert!(size("bcj") < size("xz"), "{sizes:?}");
}

/// What unsquashfs makes of a packing that no kernel reads.
fn unpacked(folder: &Path, image: &Path) -> Manifest {
    let to = folder.join("unpacked");
    must_as_root(
        "unsquashfs",
        &[
            "-quiet",
            "-no-progress",
            "-d",
            to.to_str().unwrap(),
            image.to_str().unwrap(),
        ],
    );
    walk_host(&to)
}

#[test]
fn blocks_that_ask_for_much_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    fs::create_dir(&content).unwrap();
    fs::write(content.join("zeroes"), vec![7; 1 << 20]).unwrap();
    // Each block of lzma says how large its dictionary is, and how much it unpacks to.
    for (at, value) in [(1, 1_u32 << 30), (5, 1 << 30)] {
        let image = made(folder.path(), &content, "lzma", "-comp lzma -noI -noX");
        let mut bytes = fs::read(&image).unwrap();
        let start = bytes.windows(2).position(|part| part == [0x5d, 0]).unwrap();
        bytes[start + at..start + at + 4].copy_from_slice(&value.to_le_bytes());
        let source: Arc<dyn Source> = Arc::new(Bytes::new(bytes));
        let tree = dormouse_filesystem::open(&source).unwrap().unwrap();
        let node = tree.lookup(tree.root(), b"zeroes").unwrap().unwrap().node;
        let error = tree.read_at(node, 0, &mut [0; 100]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("lzma"), "{error}");
    }
}

#[test]
fn mutated_images_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    fs::create_dir_all(content.join("a/b")).unwrap();
    for n in 0..30 {
        fs::write(
            content.join(format!("a/{n}")),
            format!("{n}\n").repeat(n * 90),
        )
        .unwrap();
    }
    symlink("a", content.join("link")).unwrap();
    rustix::fs::setxattr(
        content.join("a/3"),
        "user.short",
        b"value",
        XattrFlags::empty(),
    )
    .unwrap();
    let images: Vec<Vec<u8>> = [
        ("plain", "-noI -noX -b 4096"),
        ("gzip", "-b 4096"),
        ("lz4", "-comp lz4 -noI"),
        ("zstd", "-comp zstd"),
        ("xz", "-comp xz -b 4096"),
        ("lzma", "-comp lzma -b 4096"),
        ("lzo", "-comp lzo -b 4096"),
    ]
    .iter()
    .map(|(name, options)| fs::read(made(folder.path(), &content, name, options)).unwrap())
    .collect();
    hostile::mutate(&Squashfs, &images, &[(0, 96)]);
}
