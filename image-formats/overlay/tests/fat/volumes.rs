//! Volumes made by mkfs.fat, and what other programs see in them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use dormouse_block::HostFile;
use dormouse_filesystem::{NodeKind, Tree};

/// Every path with the bytes of a file, or nothing for a folder.
pub type Content = BTreeMap<String, Option<Vec<u8>>>;

pub fn run(program: &str, args: &[&str]) -> Output {
    let path = format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    );
    let output = Command::new(program)
        .args(args)
        .env("PATH", path)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("MTOOLS_SKIP_CHECK", "1")
        .output();
    output.unwrap_or_else(|error| panic!("the oracle {program} cannot be run: {error}"))
}

pub fn must(program: &str, args: &[&str]) -> String {
    let output = run(program, args);
    assert!(
        output.status.success(),
        "{program} {args:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn make(folder: &Path, name: &str, options: &str, mib: u64) -> PathBuf {
    let image = folder.join(format!("{name}.img"));
    File::create(&image).unwrap().set_len(mib << 20).unwrap();
    let mut args: Vec<&str> = options.split_whitespace().collect();
    args.push(image.to_str().unwrap());
    must("mkfs.fat", &args);
    image
}

/// fsck.fat finds nothing.
pub fn check(image: &Path, name: &str) {
    let output = run("fsck.fat", &["-n", image.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{name}: {text}");
    for line in text.lines() {
        let quiet = line.starts_with("fsck.fat 4") || line.contains(" clusters");
        assert!(quiet, "{name}: fsck.fat says: {text}");
    }
    assert!(output.stderr.is_empty(), "{name}: {output:?}");
}

pub fn tree(image: &Path) -> Arc<dyn Tree> {
    let source: Arc<dyn dormouse_block::Source> = Arc::new(HostFile::open(image).unwrap());
    dormouse_filesystem::open(&source)
        .unwrap_or_else(|error| panic!("{}: {}", image.display(), error.with_causes()))
        .expect("a known filesystem")
}

/// What our reader sees.
pub fn ours(image: &Path) -> Content {
    let tree = tree(image);
    let mut out = Content::new();
    let mut todo = vec![(String::new(), tree.root())];
    while let Some((path, node)) = todo.pop() {
        for entry in tree.read_dir(node).unwrap() {
            assert_eq!(
                tree.lookup(node, &entry.name).unwrap().as_ref(),
                Some(&entry)
            );
            let full = format!("{path}/{}", String::from_utf8(entry.name).unwrap());
            let metadata = tree.metadata(entry.node).unwrap();
            if metadata.kind == NodeKind::Directory {
                out.insert(full.clone(), None);
                todo.push((full, entry.node));
                continue;
            }
            let mut bytes = vec![0; usize::try_from(metadata.size).unwrap()];
            let n = tree.read_at(entry.node, 0, &mut bytes).unwrap();
            assert_eq!(n, bytes.len());
            out.insert(full, Some(bytes));
        }
    }
    out
}

pub fn of_host(root: &Path) -> Content {
    let mut out = Content::new();
    let mut todo = vec![(String::new(), root.to_owned())];
    while let Some((path, host)) = todo.pop() {
        for entry in fs::read_dir(host).unwrap() {
            let entry = entry.unwrap();
            let full = format!("{path}/{}", entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                out.insert(full.clone(), None);
                todo.push((full, entry.path()));
            } else {
                out.insert(full, Some(fs::read(entry.path()).unwrap()));
            }
        }
    }
    out
}

/// What mtools copies out of it.
pub fn of_mtools(image: &Path) -> Content {
    let scratch = tempfile::tempdir().unwrap();
    must(
        "mcopy",
        &[
            "-s",
            "-n",
            "-i",
            image.to_str().unwrap(),
            "::/",
            scratch.path().to_str().unwrap(),
        ],
    );
    of_host(scratch.path())
}

/// What the running kernel sees, where this host lets us mount.
pub fn of_kernel(image: &Path) -> Option<Content> {
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
        return None;
    }
    let at = tempfile::tempdir().unwrap();
    let (from, to) = (image.to_str().unwrap(), at.path().to_str().unwrap());
    let options = "loop,ro,iocharset=utf8,codepage=437";
    if !run("mount", &["-t", "vfat", "-o", options, from, to])
        .status
        .success()
    {
        return None;
    }
    let content = of_host(at.path());
    must("umount", &[to]);
    Some(content)
}
