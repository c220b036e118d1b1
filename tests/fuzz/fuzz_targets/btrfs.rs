//! Bytes opened as a btrfs filesystem, with the checksums of its superblock and tree nodes made good first: whatever they
//! say, every answer is bounded and nothing panics.
#![no_main]

use std::collections::BTreeSet;
use std::sync::Arc;

use dormouse_block::{Bytes, Source};
use dormouse_filesystem::btrfs::Btrfs;
use dormouse_filesystem::{Filesystem, NodeKind, Tree};
use libfuzzer_sys::fuzz_target;

/// Nodes visited and bytes read of each file.
const MAX_NODES: usize = 500;
const MAX_READ: usize = 64 << 10;
/// Where the superblock and its own identity lie.
const SUPERBLOCK: usize = 64 << 10;
const BLOCK: usize = 4096;

fuzz_target!(|bytes: &[u8]| {
    let mut image = bytes.to_vec();
    let fsid = image.get(SUPERBLOCK + 0x20..SUPERBLOCK + 0x30).map(<[u8]>::to_vec);
    // Nodes of 4096 bytes; larger ones keep the checksums they came with.
    for block in image.chunks_exact_mut(BLOCK) {
        if block.get(0x20..0x30).map(<[u8]>::to_vec) == fsid {
            let sum = crc32c::crc32c(&block[32..]);
            block[..4].copy_from_slice(&sum.to_le_bytes());
        }
    }
    let volume: Arc<dyn Source> = Arc::new(Bytes::new(image));
    let Ok(tree) = Btrfs.open(volume) else {
        return;
    };
    let _ = tree.info();
    walk(&*tree);
    for one in tree.subvolumes().unwrap_or_default().into_iter().take(8) {
        if let Ok(tree) = tree.subvolume(one.id) {
            walk(&*tree);
        }
    }
});

fn walk(tree: &dyn Tree) {
    let mut seen = BTreeSet::new();
    let mut todo = vec![tree.root()];
    let mut buf = vec![0; MAX_READ];
    while let Some(node) = todo.pop() {
        if seen.len() >= MAX_NODES || !seen.insert(node) {
            continue;
        }
        let Ok(metadata) = tree.metadata(node) else {
            continue;
        };
        let _ = tree.xattrs(node);
        match metadata.kind {
            NodeKind::Directory => {
                let _ = tree.lookup(node, b"no such name");
                for entry in tree.read_dir(node).unwrap_or_default() {
                    let _ = tree.lookup(node, &entry.name);
                    todo.push(entry.node);
                }
            }
            NodeKind::Symlink => {
                let _ = tree.read_link(node);
            }
            NodeKind::File => {
                let _ = tree.read_at(node, 0, &mut buf);
                let _ = tree.read_at(node, metadata.size.saturating_sub(9), &mut buf);
            }
            _ => {}
        }
    }
}
