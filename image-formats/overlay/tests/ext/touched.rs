//! Which nodes an edit touched, as the tables of the filesystem tell, against a walk through all files before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use dormouse_filesystem::{Metadata, NodeId, NodeKind, Touched, touched};

use crate::oracle::{self, Manifest, must};

/// Bytes that an overlay writes at once.
const CLUSTER: usize = 64 << 10;

/// The clusters in which two images differ.
fn written(before: &Path, after: &Path) -> Vec<Range<u64>> {
    let (before, after) = (File::open(before).unwrap(), File::open(after).unwrap());
    let len = after.metadata().unwrap().len();
    let (mut was, mut is) = (vec![0; CLUSTER], vec![0; CLUSTER]);
    let mut out = Vec::new();
    for at in (0..len).step_by(CLUSTER) {
        let here = (len - at).min(CLUSTER as u64) as usize;
        before.read_exact_at(&mut was[..here], at).unwrap();
        after.read_exact_at(&mut is[..here], at).unwrap();
        if was[..here] != is[..here] {
            out.push(at..at + here as u64);
        }
    }
    out
}

fn nodes(manifest: &Manifest) -> BTreeMap<NodeId, &Metadata> {
    let metadata = manifest.values().map(|entry| &entry.metadata);
    metadata.map(|metadata| (metadata.node, metadata)).collect()
}

/// What of a node a walk sees that an edit changes.
fn seen(metadata: Option<&&Metadata>) -> Option<impl PartialEq + use<>> {
    metadata.map(|it| {
        let owner = (it.kind, it.mode, it.uid, it.gid, it.device);
        (owner, it.links, it.size, it.mtime)
    })
}

/// The nodes of files that are gone or have other bytes.
fn replaced(before: &Manifest, after: &Manifest) -> BTreeSet<NodeId> {
    let mut out = BTreeSet::new();
    for (name, entry) in before {
        let same = after.get(name).is_some_and(|now| {
            (now.metadata.node, &now.digest) == (entry.metadata.node, &entry.digest)
        });
        if entry.metadata.kind != NodeKind::Directory && !same {
            out.insert(entry.metadata.node);
        }
    }
    out
}

fn told(before: &Path, after: &Path, known: &BTreeSet<NodeId>) -> Option<Vec<Touched>> {
    let (old, new) = (oracle::open(before), oracle::open(after));
    let written = written(before, after);
    touched(&*old, &*new, &written, &mut known.iter().copied()).unwrap()
}

/// Holds what the tables of two states of a filesystem tell against a walk through both, and sees that what nobody knows of
/// is found: another byte in a file, another owner of a file.
pub fn check(name: &str, before: &Path, after: &Path) {
    let was = oracle::walk(&*oracle::open(before)).unwrap();
    let is = oracle::walk(&*oracle::open(after)).unwrap();
    let known = replaced(&was, &is);
    let (old, new) = (nodes(&was), nodes(&is));
    let Some(found) = told(before, after, &known) else {
        // Indirect blocks of files that are gone were written anew.
        assert!(
            name.contains("ext2") || name.contains("ext3") || name == "no-filetype",
            "{name}: the tables do not tell"
        );
        return;
    };
    let found: BTreeMap<NodeId, Touched> = found.into_iter().map(|one| (one.node, one)).collect();
    let every: BTreeSet<NodeId> = old.keys().chain(new.keys()).copied().collect();
    for node in every {
        let (was, is) = (old.get(&node), new.get(&node));
        match found.get(&node) {
            Some(one) => {
                let named = |it: &&&Metadata| (it.kind, it.links);
                let told = |it: &dormouse_filesystem::Named| (it.kind, it.links);
                assert_eq!(
                    one.before.as_ref().map(told),
                    was.as_ref().map(named),
                    "{name}"
                );
                assert_eq!(
                    one.after.as_ref().map(told),
                    is.as_ref().map(named),
                    "{name}"
                );
            }
            None => assert!(
                seen(was) == seen(is),
                "{name}: {node:?} changed, {was:?}, {is:?}"
            ),
        }
    }
    // A file that was left alone and has bytes of its own.
    let left = is.iter().find(|(path, entry)| {
        let metadata = &entry.metadata;
        metadata.kind == NodeKind::File
            && metadata.size > 2000
            && !known.contains(&metadata.node)
            && was
                .get(*path)
                .is_some_and(|then| then.metadata.node == metadata.node)
    });
    let Some((_, entry)) = left else {
        panic!("{name}: every file changed");
    };
    let node = entry.metadata.node;
    let tampered = after.with_extension("tampered");
    std::fs::copy(after, &tampered).unwrap();
    let image = tampered.to_str().unwrap();
    // debugfs says in the filesystem itself that it is in use, where that is wanted.
    if name != "mmp" {
        must(
            "debugfs",
            &["-w", "-R", &format!("sif <{}> uid 4242", node.0), image],
        );
        let found = told(before, &tampered, &known)
            .unwrap_or_else(|| panic!("{name}: an owner changes no bytes of files"));
        assert!(
            found.iter().any(|one| one.node == node),
            "{name}: {node:?} has another owner"
        );
    }
    std::fs::copy(after, &tampered).unwrap();
    let block = must("debugfs", &["-R", &format!("bmap <{}> 0", node.0), image]);
    let block: u64 = block.trim().parse().unwrap();
    let size = must("dumpe2fs", &["-h", image]);
    let size = size
        .lines()
        .find_map(|line| line.strip_prefix("Block size:"));
    let at = block * size.unwrap().trim().parse::<u64>().unwrap();
    let file = File::options()
        .read(true)
        .write(true)
        .open(&tampered)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
    assert!(
        told(before, &tampered, &known).is_none(),
        "{name}: a byte of {node:?} changed"
    );
    std::fs::remove_file(&tampered).unwrap();
}
