//! An independent reader of ext that needs no root: debugfs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dormouse_filesystem::NodeKind;

use crate::kernel::digest_of;
pub use crate::kernel::{
    Entry, KernelMount, Manifest, check_with_kernel, must, open, run, source, walk,
};

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let at = text.find(name)?;
    text[at + name.len()..].split_whitespace().next()
}

fn stamp(text: &str, name: &str) -> (i64, u32) {
    let value = field(text, name).unwrap_or_else(|| panic!("no {name} in {text}"));
    let (low, extra) = value.split_once(':').unwrap_or((value, "0"));
    let low = u32::from_str_radix(low.trim_start_matches("0x"), 16).unwrap();
    let extra = u32::from_str_radix(extra, 16).unwrap();
    (
        i64::from(low.cast_signed()) + (i64::from(extra & 3) << 32),
        extra >> 2,
    )
}

/// Holds `manifest` against what debugfs says of every directory, inode, file and attribute of `image`.
pub fn check_with_debugfs(image: &Path, manifest: &Manifest) {
    let scratch = tempfile::tempdir().unwrap();
    let nodes: BTreeMap<u64, (&Vec<u8>, &Entry)> = manifest
        .iter()
        .map(|(path, entry)| (entry.metadata.node.0, (path, entry)))
        .collect();
    let mut script = String::new();
    let dump = |node: u64| scratch.path().join(format!("data-{node}"));
    for (node, (_, entry)) in &nodes {
        script += &format!("stat <{node}>\n");
        if entry.metadata.kind == NodeKind::Directory {
            script += &format!("ls -p <{node}>\n");
        }
        let dumped = matches!(entry.metadata.kind, NodeKind::File | NodeKind::Symlink);
        if dumped && entry.metadata.size > 0 {
            script += &format!("dump <{node}> {}\n", dump(*node).display());
        }
        for (nth, name) in entry.xattrs.keys().enumerate() {
            let to = scratch.path().join(format!("attr-{node}-{nth}"));
            script += &format!(
                "ea_get -f {} <{node}> {}\n",
                to.display(),
                String::from_utf8_lossy(name)
            );
        }
    }
    let commands = scratch.path().join("commands");
    fs::write(&commands, script).unwrap();
    let text = must(
        "debugfs",
        &["-f", commands.to_str().unwrap(), image.to_str().unwrap()],
    );
    let mut names = 0;
    for part in text.split("debugfs: ").filter(|part| !part.is_empty()) {
        let (command, answer) = part.split_once('\n').unwrap();
        let Some(node) = command
            .split(['<', '>'])
            .nth(1)
            .and_then(|node| node.parse::<u64>().ok())
        else {
            continue;
        };
        let (path, entry) = nodes[&node];
        let path = String::from_utf8_lossy(path);
        if command.starts_with("stat") {
            check_stat(&path, entry, answer);
        } else if command.starts_with("ls") {
            names += check_listing(&path, manifest, answer);
        }
    }
    assert_eq!(names + 1, manifest.len(), "debugfs lists other names");
    for (node, (path, entry)) in &nodes {
        let path = String::from_utf8_lossy(path);
        if let (Some(digest), true) = (&entry.digest, entry.metadata.size > 0) {
            // debugfs 1.47 dumps all the room of inline data, beyond the file's end.
            let end = entry.metadata.size;
            assert_eq!(*digest, digest_of(&dump(*node), end), "bytes of {path}");
        }
        if let (Some(target), Ok(bytes)) = (&entry.target, fs::read(dump(*node))) {
            // debugfs dumps nothing of a short link; its target is in the answer to `stat`.
            assert!(
                bytes.is_empty() || bytes == *target || target.len() < 60,
                "target of {path}"
            );
        }
        for (nth, (name, value)) in entry.xattrs.iter().enumerate() {
            let file = scratch.path().join(format!("attr-{node}-{nth}"));
            let mut found = fs::read(file).unwrap();
            if name.starts_with(b"system.posix_acl") {
                // libext2fs gives unnamed entries the identity 0, the kernel gives them -1.
                for entry in found[4..]
                    .chunks_mut(8)
                    .filter(|entry| !matches!(entry[0], 2 | 8))
                {
                    entry[4..].fill(0xFF);
                }
            }
            assert_eq!(found, *value, "{} of {path}", String::from_utf8_lossy(name));
        }
    }
}

fn check_stat(path: &str, entry: &Entry, answer: &str) {
    let metadata = &entry.metadata;
    let kind = match metadata.kind {
        NodeKind::File => "regular",
        NodeKind::Directory => "directory",
        NodeKind::Symlink => "symlink",
        NodeKind::CharDevice => "character",
        NodeKind::BlockDevice => "block",
        NodeKind::Fifo => "FIFO",
        NodeKind::Socket => "socket",
    };
    let number = |name| field(answer, name).unwrap().parse::<u64>().unwrap();
    assert_eq!(field(answer, "Type: "), Some(kind), "type of {path}");
    let mode = u16::from_str_radix(field(answer, "Mode: ").unwrap(), 8).unwrap();
    assert_eq!(metadata.mode, mode, "mode of {path}");
    // debugfs prints owners as signed numbers.
    let owner = |name| field(answer, name).unwrap().parse::<i64>().unwrap() as u32;
    assert_eq!(metadata.uid, owner("User: "), "owner of {path}");
    assert_eq!(metadata.gid, owner("Group: "), "group of {path}");
    assert_eq!(metadata.size, number("Size: "), "size of {path}");
    assert_eq!(
        u64::from(metadata.links),
        number("Links: "),
        "links of {path}"
    );
    for (name, time) in [
        ("ctime: ", metadata.ctime),
        ("atime: ", metadata.atime),
        ("mtime: ", metadata.mtime),
    ] {
        assert_eq!(
            (time.seconds, time.nanoseconds),
            stamp(answer, name),
            "{name} of {path}"
        );
    }
    if let Some((major, minor)) = metadata.device {
        let line = answer
            .split("Device major/minor number: ")
            .nth(1)
            .expect("a device");
        let (one, two) = line
            .split_whitespace()
            .next()
            .unwrap()
            .split_once(':')
            .unwrap();
        assert_eq!(
            (major, minor),
            (one.parse().unwrap(), two.parse().unwrap()),
            "device {path}"
        );
    }
    if let Some(fast) = answer.split("Fast link dest: \"").nth(1) {
        let target =
            String::from_utf8_lossy(entry.target.as_deref().unwrap_or_default()).into_owned();
        assert_eq!(
            Some(target.as_str()),
            fast.split("\"\n").next(),
            "target of {path}"
        );
    }
    let listed = answer
        .split("Extended attributes:\n")
        .nth(1)
        .map_or(0, |list| {
            list.lines()
                .take_while(|line| line.starts_with("  "))
                .filter(|line| !line.starts_with("  system.data"))
                .count()
        });
    assert_eq!(entry.xattrs.len(), listed, "attributes of {path}: {answer}");
}

fn check_listing(path: &str, manifest: &Manifest, answer: &str) -> usize {
    let mut count = 0;
    for line in answer.lines().filter(|line| line.starts_with('/')) {
        let mut parts = line.split('/').skip(1);
        let (Some(node), Some(_), Some(_), Some(_), Some(name)) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            panic!("{line}");
        };
        if node == "0" || name == "." || name == ".." {
            continue;
        }
        let full = format!("{}/{name}", path.trim_end_matches('/'));
        let entry = manifest
            .get(full.as_bytes())
            .unwrap_or_else(|| panic!("{full} was not read"));
        assert_eq!(entry.metadata.node.0.to_string(), node, "inode of {full}");
        count += 1;
    }
    count
}
