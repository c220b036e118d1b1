//! Bytes opened as an exFAT volume: whatever they say, every answer is bounded and nothing panics.
#![no_main]

use std::collections::BTreeSet;
use std::sync::Arc;

use dormouse_block::{Bytes, Source};
use dormouse_filesystem::exfat::Exfat;
use dormouse_filesystem::{Filesystem, NodeKind};
use libfuzzer_sys::fuzz_target;

/// Nodes visited and bytes read of each file.
const MAX_NODES: usize = 500;
const MAX_READ: usize = 64 << 10;

fuzz_target!(|bytes: &[u8]| {
    let volume: Arc<dyn Source> = Arc::new(Bytes::new(bytes));
    let _ = Exfat.probe(volume.as_ref());
    let Ok(tree) = Exfat.open(volume) else {
        return;
    };
    let _ = tree.info();
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
        if metadata.kind == NodeKind::Directory {
            let _ = tree.lookup(node, b"no such name");
            for entry in tree.read_dir(node).unwrap_or_default() {
                todo.push(entry.node);
            }
        } else {
            let _ = tree.read_link(node);
            let _ = tree.xattrs(node);
            let _ = tree.read_at(node, 0, &mut buf);
            let _ = tree.read_at(node, metadata.size.saturating_sub(9), &mut buf);
        }
    }
});
