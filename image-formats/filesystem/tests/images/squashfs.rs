//! squashfs against the kernel's mount, which reads every packing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{ErrorKind, HostFile, Source};
use dormouse_filesystem::squashfs::Squashfs;
use rustix::fs::XattrFlags;

use crate::walk::{compare, open, walk, walk_host};
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
    for (name, options) in [
        ("gzip", "-comp gzip"),
        ("zstd", "-comp zstd -Xcompression-level 3"),
        ("lz4", "-comp lz4 -b 4096"),
        ("stored", "-noI -noD -noF -noX"),
        ("whole", "-no-fragments -no-duplicates -no-exports"),
        ("tails", "-always-use-fragments -no-sparse"),
    ] {
        let image = made(folder.path(), &content, name, options);
        let mounted = Mounted::by("mount", &image, &["-t", "squashfs", "-o", "ro,loop"]);
        let theirs = walk_host(mounted.path());
        drop(mounted);
        let tree = open(&image);
        let ours = walk(&*tree).unwrap_or_else(|error| panic!("{name}: {}", error.with_causes()));
        assert!(ours.len() > 700);
        compare(name, &ours, &theirs, &|_| {});
        check_attributes(&*tree);
        assert_eq!(tree.info().kind, "squashfs");
    }
    // Packings that are not read are refused by name.
    for name in ["lzo", "xz"] {
        let image = made(folder.path(), &content, name, &format!("-comp {name}"));
        let source: Arc<dyn Source> = Arc::new(HostFile::open(&image).unwrap());
        let error = dormouse_filesystem::open(&source).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().to_lowercase().contains(name), "{error}");
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
    ]
    .iter()
    .map(|(name, options)| fs::read(made(folder.path(), &content, name, options)).unwrap())
    .collect();
    hostile::mutate(&Squashfs, &images, &[(0, 96)]);
}
