//! ISO 9660 against xorriso and genisoimage.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use dormouse_block::ErrorKind;
use dormouse_filesystem::NodeKind;
use dormouse_filesystem::iso9660::Iso9660;

use crate::walk::{Manifest, compare, open, walk, walk_host};
use crate::{hostile, must, must_as_root};

fn populate(root: &Path) {
    fs::create_dir_all(root.join("1/2/3/4/5/6/7/8/9/10")).unwrap();
    fs::write(root.join("1/2/3/4/5/6/7/8/9/10/deep"), "moved").unwrap();
    fs::create_dir(root.join("many")).unwrap();
    for n in 0..300 {
        fs::write(
            root.join(format!("many/a rather long name {n}.txt")),
            format!("{n}").repeat(n),
        )
        .unwrap();
    }
    fs::write(root.join("Ünïcödé"), "wide").unwrap();
    fs::write(root.join("x".repeat(200)), "long").unwrap();
    fs::write(root.join("empty"), "").unwrap();
    symlink("../a/./b", root.join("link")).unwrap();
    must_as_root(
        "mknod",
        &[root.join("char").to_str().unwrap(), "c", "5", "77"],
    );
    must("mkfifo", &[root.join("fifo").to_str().unwrap()]);
    must_as_root(
        "chown",
        &["1000:70000", root.join("empty").to_str().unwrap()],
    );
}

fn by_xorriso(image: &Path, options: &[&str]) -> Manifest {
    let to = tempfile::tempdir().unwrap();
    let shown = to.path().to_str().unwrap();
    let mut args = vec!["-no_rc", "-report_about", "FAILURE"];
    args.extend(options);
    args.extend([
        "-osirrox",
        "on",
        "-indev",
        image.to_str().unwrap(),
        "-extract",
        "/",
        shown,
    ]);
    must_as_root("xorriso", &args);
    must_as_root("chmod", &["-R", "u+rwx", shown]);
    walk_host(to.path())
}

fn made(folder: &Path, content: &Path, name: &str, program: &[&str]) -> PathBuf {
    let image = folder.join(name);
    let (tool, options) = program.split_first().unwrap();
    let mut args = options.to_vec();
    args.extend([
        "-quiet",
        "-V",
        "LABEL",
        "-o",
        image.to_str().unwrap(),
        content.to_str().unwrap(),
    ]);
    if *tool == "xorriso" {
        args.splice(0..0, ["-as", "mkisofs"]);
    }
    must_as_root(tool, &args);
    image
}

#[test]
fn rock_ridge_and_joliet_read_as_xorriso_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    fs::create_dir(&content).unwrap();
    populate(&content);
    for (name, program) in [
        ("rock", &["genisoimage", "-R"][..]),
        ("rock-joliet", &["genisoimage", "-R", "-J", "-joliet-long"]),
        ("xorriso", &["xorriso", "-R", "-J"]),
    ] {
        if name == "xorriso" {
            // genisoimage loses the end of targets that take more than one entry.
            let target = format!("/{}/{}", "y".repeat(240), "z".repeat(250));
            symlink(target, content.join("long link")).unwrap();
        }
        let image = made(folder.path(), &content, name, program);
        let theirs = by_xorriso(&image, &[]);
        let tree = open(&image);
        let mut ours =
            walk(&*tree).unwrap_or_else(|error| panic!("{name}: {}", error.with_causes()));
        assert!(ours.len() > 300);
        // xorriso may not make a device here; it is held against the content.
        let source = walk_host(&content);
        let found = ours.remove(&b"/char"[..]).unwrap();
        let wanted = &source[&b"/char"[..]];
        assert_eq!(
            (found.kind, found.device),
            (wanted.kind, wanted.device),
            "{name}"
        );
        compare(name, &ours, &theirs, &|found| {
            // They were widened for reading; folders got new times when they were filled.
            found.mode |= 0o700;
            found.links = 1;
            if found.kind == NodeKind::Directory {
                found.mtime = (0, 0);
            }
            if found.kind == NodeKind::Symlink {
                found.mode = 0;
                found.mtime = (0, 0);
            }
        });
        let info = tree.info();
        assert_eq!(
            (info.kind.as_str(), info.label.as_deref()),
            ("iso9660", Some("LABEL"))
        );
        let told = must(
            "blkid",
            &["-p", "-s", "UUID", "-o", "value", image.to_str().unwrap()],
        );
        assert_eq!(info.uuid.as_deref(), Some(told.trim()));
        let find = |name: &str| tree.lookup(tree.root(), name.as_bytes()).unwrap();
        assert!(find("EMPTY").is_none());
        assert!(find("rr_moved").is_none() || name != "xorriso");
    }
    // Without Rock Ridge: Joliet's names, else plain ones in lower case.
    let plain = folder.path().join("plain");
    fs::create_dir_all(plain.join("Sub Folder")).unwrap();
    fs::write(plain.join("Sub Folder/Größe.text"), "joliet").unwrap();
    let image = made(folder.path(), &plain, "joliet", &["genisoimage", "-J"]);
    let tree = open(&image);
    assert_eq!(tree.info().features, ["joliet"]);
    let names: Vec<String> = walk(&*tree)
        .unwrap()
        .into_keys()
        .map(|name| String::from_utf8(name).unwrap())
        .collect();
    assert_eq!(names, ["/Sub Folder", "/Sub Folder/Größe.text"]);
    let folder_node = tree
        .lookup(tree.root(), b"sub folder")
        .unwrap()
        .unwrap()
        .node;
    assert!(
        tree.lookup(folder_node, "Größe.text".as_bytes())
            .unwrap()
            .is_some()
    );
    let old = folder.path().join("old");
    fs::create_dir_all(old.join("SUB")).unwrap();
    fs::write(old.join("SUB/FILE.TXT"), "plain").unwrap();
    fs::write(old.join("NODOT"), "plain").unwrap();
    let image = made(folder.path(), &old, "plain.iso", &["genisoimage"]);
    let names: Vec<String> = walk(&*open(&image))
        .unwrap()
        .into_keys()
        .map(|name| String::from_utf8(name).unwrap())
        .collect();
    assert_eq!(names, ["/nodot", "/sub", "/sub/file.txt"]);
}

/// A file of more than 4 GiB takes several extents; nearly all of it is a hole of the host's file.
#[test]
fn a_file_of_several_extents_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    fs::create_dir(&content).unwrap();
    for n in 0..40 {
        fs::write(content.join(format!("before {n}")), "x").unwrap();
    }
    let image = folder.path().join("multi");
    fs::write(
        content.join("big"),
        (0..20_000_u32)
            .flat_map(u32::to_le_bytes)
            .collect::<Vec<u8>>(),
    )
    .unwrap();
    made(folder.path(), &content, "multi", &["genisoimage", "-R"]);
    // The record of the file is cut in two: its first 40 KiB stay, the rest is said by a second record.
    let mut bytes = fs::read(&image).unwrap();
    let at = bytes
        .windows(5)
        .position(|part| part == b"\x06BIG.;" || part == b"BIG.;")
        .unwrap()
        - 33;
    let len = usize::from(bytes[at]);
    let mut second = bytes[at..at + len].to_vec();
    let extent = u32::from_le_bytes(second[2..6].try_into().unwrap());
    second[2..6].copy_from_slice(&(extent + 20).to_le_bytes());
    second[10..14].copy_from_slice(&(80_000_u32 - 40_960).to_le_bytes());
    bytes[at + 10..at + 14].copy_from_slice(&40_960_u32.to_le_bytes());
    bytes[at + 25] |= 0x80;
    let sector_end = (at / 2048 + 1) * 2048;
    let rest = bytes[at + len..sector_end - len].to_vec();
    bytes[at + len..at + 2 * len].copy_from_slice(&second);
    bytes[at + 2 * len..sector_end].copy_from_slice(&rest);
    fs::write(&image, bytes).unwrap();
    let tree = open(&image);
    let node = tree.lookup(tree.root(), b"big").unwrap().unwrap().node;
    assert_eq!(tree.metadata(node).unwrap().size, 80_000);
    let mut read = vec![0; 80_001];
    assert_eq!(tree.read_at(node, 0, &mut read).unwrap(), 80_000);
    assert!(read[..80_000] == fs::read(content.join("big")).unwrap());
}

#[test]
fn packed_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    fs::create_dir(&content).unwrap();
    fs::write(content.join("file"), "text ".repeat(20_000)).unwrap();
    let image = folder.path().join("zisofs");
    must(
        "xorriso",
        &[
            "-no_rc",
            "-report_about",
            "FAILURE",
            "-outdev",
            image.to_str().unwrap(),
            "-map",
            content.to_str().unwrap(),
            "/",
            "-set_filter_r",
            "--zisofs",
            "/",
            "--",
        ],
    );
    let tree = open(&image);
    let node = tree.lookup(tree.root(), b"file").unwrap().unwrap().node;
    let error = tree.read_at(node, 0, &mut [0; 9]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("zisofs"), "{error}");
}

#[test]
fn mutated_images_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    fs::create_dir_all(content.join("1/2/3/4/5/6/7/8/9/10")).unwrap();
    for n in 0..40 {
        fs::write(
            content.join(format!("1/a rather long name {n}")),
            format!("{n}").repeat(n),
        )
        .unwrap();
    }
    let target = format!("{}/{}", "y".repeat(200), "z".repeat(20));
    symlink(target, content.join("link")).unwrap();
    let images: Vec<Vec<u8>> = [
        ("rock", &["genisoimage", "-R"][..]),
        ("joliet", &["genisoimage", "-J"]),
        ("xorriso", &["xorriso", "-R"]),
    ]
    .iter()
    .map(|(name, program)| fs::read(made(folder.path(), &content, name, program)).unwrap())
    .collect();
    hostile::mutate(
        &Iso9660,
        &images,
        &[(32768, 256), (32768 + 2048 * 7, 16384)],
    );
}
