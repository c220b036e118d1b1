//! Changes that a log announces and never does, in a record made by hand: the kernel finishes them when it recovers.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use dormouse_block::ErrorKind;

use crate::images::{make, mount, noise};
use crate::kernel::{check_with_kernel, must, open, source, walk};
use crate::log::{copy, recovered};

/// An intent to map (1) or unmap (2) a block of a file.
fn mapping(id: u64, inode: u64, block: u64, logical: u64, what: u32) -> Vec<u8> {
    let mut out = vec![0x44, 0x12, 1, 0, 1, 0, 0, 0];
    for number in [id, inode, block, logical] {
        out.extend(number.to_le_bytes());
    }
    out.extend(1_u32.to_le_bytes());
    out.extend(what.to_le_bytes());
    out
}

/// That the intent `id` of a kind was done.
fn done(kind: u8, id: u64) -> Vec<u8> {
    let mut out = vec![kind, 0x12, 1, 0, 0, 0, 0, 0];
    out.extend(id.to_le_bytes());
    out
}

fn operation(out: &mut Vec<u8>, flags: u8, bytes: &[u8]) {
    out.extend(0x1234_u32.to_be_bytes());
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend([0x69, flags, 0, 0]);
    out.extend(bytes);
}

/// Adds a record with one transaction of `items` to the log of an unmounted filesystem, which was written in one cycle.
fn append(image: &Path, items: &[Vec<u8>]) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(image)
        .unwrap();
    let mut sb = [0; 512];
    file.read_exact_at(&mut sb, 0).unwrap();
    let block = u64::from(u32::from_be_bytes(sb[4..8].try_into().unwrap()));
    let place = u64::from_be_bytes(sb[48..56].try_into().unwrap());
    let group_blocks = u64::from(u32::from_be_bytes(sb[84..88].try_into().unwrap()));
    let group_log = sb[124];
    let group = place >> group_log;
    let start = (group * group_blocks + (place & ((1 << group_log) - 1))) * block;
    let mut head = 0_u64;
    loop {
        let mut words = [0; 8];
        file.read_exact_at(&mut words, start + head * 512).unwrap();
        // Ahead of the head the kernel leaves headers of the cycle before.
        if matches!(
            words,
            [0, 0, 0, 0, ..] | [0xFE, 0xED, 0xBA, 0xBE, 0, 0, 0, 0]
        ) {
            break;
        }
        head += 1;
    }
    let mut data = Vec::new();
    operation(&mut data, 1, b"");
    let mut header = Vec::new();
    for word in [0x5452_414E, 40, 0x1234, items.len() as u32] {
        header.extend(u32::to_le_bytes(word));
    }
    operation(&mut data, 0, &header);
    for item in items {
        operation(&mut data, 0, item);
    }
    operation(&mut data, 2, b"");
    let count = items.len() as u32 + 3;
    data.resize(data.len().next_multiple_of(512), 0);
    let mut record = vec![0; 512];
    let mut put = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &0xFEED_BABE_u32.to_be_bytes());
    put(4, &1_u32.to_be_bytes());
    put(8, &2_u32.to_be_bytes());
    put(12, &(data.len() as u32).to_be_bytes());
    put(16, &(1 << 32 | head).to_be_bytes());
    put(24, &(1 << 32 | head).to_be_bytes());
    put(40, &count.to_be_bytes());
    put(300, &1_u32.to_be_bytes());
    put(304, &sb[32..48]);
    put(320, &32768_u32.to_be_bytes());
    for (nth, block) in data.chunks_mut(512).enumerate() {
        put(44 + nth * 4, &block[..4]);
        block[..4].copy_from_slice(&1_u32.to_be_bytes());
    }
    let sum = crc32c::crc32c_append(crc32c::crc32c(&record[..328]), &data);
    record[32..36].copy_from_slice(&sum.to_le_bytes());
    record.extend(data);
    file.write_all_at(&record, start + head * 512).unwrap();
}

#[test]
fn unfinished_changes_of_extents_read_as_the_kernel_finishes_them() {
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), "unfinished", "", 64);
    let mounted = mount(&image, "loop,noatime");
    let root = mounted.path();
    let bytes = noise(3 * 4096, 8);
    fs::write(root.join("from"), &bytes).unwrap();
    let to = fs::File::create(root.join("to")).unwrap();
    to.set_len(3 * 4096).unwrap();
    to.write_all_at(b"first", 0).unwrap();
    to.write_all_at(b"last", 2 * 4096).unwrap();
    drop(to);
    drop(mounted);
    let node = |name: &[u8]| {
        let tree = open(&image);
        tree.lookup(tree.root(), name).unwrap().unwrap().node.0
    };
    let (from, to) = (node(b"from"), node(b"to"));
    // "data offset 0 startblock 24 (0/24) count 3 flag 0"
    let text = must(
        "xfs_db",
        &[
            "-r",
            "-c",
            &format!("inode {from}"),
            "-c",
            "bmap -d",
            image.to_str().unwrap(),
        ],
    );
    let block: u64 = text.split_whitespace().nth(4).unwrap().parse().unwrap();
    let moved = [
        mapping(0xF00D, from, block + 1, 1, 2),
        mapping(0xBEEF, to, block + 1, 1, 1),
    ];

    let pending = copy(&image, "pending");
    append(&pending, &moved);
    let tree = open(&pending);
    assert!(tree.info().journal_replayed);
    let manifest = walk(&*tree).unwrap();
    let mut buf = vec![0; 3 * 4096];
    tree.read_at(dormouse_filesystem::NodeId(to), 0, &mut buf)
        .unwrap();
    assert_eq!(buf[4096..8192], bytes[4096..8192], "it moved");
    tree.read_at(dormouse_filesystem::NodeId(from), 0, &mut buf)
        .unwrap();
    assert_eq!(buf[4096..8192], [0; 4096], "and left a hole");
    assert!(
        check_with_kernel(&recovered(&pending), &manifest),
        "no mount"
    );

    // What was done is done.
    let finished = copy(&image, "finished");
    let list = [moved[0].clone(), done(0x45, 0xF00D)];
    append(&finished, &list);
    let manifest = walk(&*open(&finished)).unwrap();
    assert_eq!(manifest, walk(&*open(&image)).unwrap());

    // Of attributes, nothing is finished here.
    let attributes = copy(&image, "attributes");
    let mut intent = done(0x46, 7);
    intent.resize(40, 0);
    append(&attributes, &[intent.clone()]);
    let error = dormouse_filesystem::open(&source(&attributes))
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("extended attributes"), "{error}");
    let unknown = copy(&image, "unknown");
    intent[0] = 0x99;
    append(&unknown, &[intent]);
    let error = dormouse_filesystem::open(&source(&unknown))
        .map(|_| ())
        .unwrap_err();
    assert!(error.to_string().contains("0x1299"), "{error}");
}
