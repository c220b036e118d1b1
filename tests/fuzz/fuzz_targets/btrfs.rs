//! A packed image opened as btrfs, with the checksums of its superblock and tree nodes made good first: whatever it says,
//! every answer is bounded and nothing panics.
#![no_main]

use std::sync::Arc;

use dormouse_block::Source;
use dormouse_filesystem::Filesystem;
use dormouse_filesystem::btrfs::Btrfs;
use dormouse_fuzz::{Image, walk};
use libfuzzer_sys::fuzz_target;

/// Where the superblock lies.
const SUPERBLOCK: u64 = 64 << 10;
/// Bytes of it, and sectors of the smallest node.
const BLOCK: usize = 4096;
const SECTORS: u32 = 8;

/// Makes the checksum of the block that begins at this sector good, if it is one of the filesystem `fsid`.
fn mend(image: &mut Image, first: u32, len: usize, fsid: &[u8]) {
    let mut block = vec![0; len];
    if image.read_exact_at(u64::from(first) * 512, &mut block).is_ok() && block[0x20..0x30] == *fsid {
        let sum = crc32c::crc32c(&block[0x20..]);
        block[..4].copy_from_slice(&sum.to_le_bytes());
        image.put(first, &block[..512]);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut image = Image::unpack(bytes);
    let mut superblock = [0; BLOCK];
    if image.read_exact_at(SUPERBLOCK, &mut superblock).is_err() {
        return;
    }
    // Its own identity, and how long nodes are.
    let fsid = &superblock[0x20..0x30];
    let node = u32::from_le_bytes([superblock[148], superblock[149], superblock[150], superblock[151]]);
    let node = usize::try_from(node).unwrap_or(BLOCK).clamp(BLOCK, 64 << 10);
    for first in image.runs(SECTORS) {
        let len = if u64::from(first) * 512 == SUPERBLOCK { BLOCK } else { node };
        mend(&mut image, first, len, fsid);
    }
    let volume: Arc<dyn Source> = Arc::new(image);
    let _ = Btrfs.probe(volume.as_ref());
    let Ok(tree) = Btrfs.open(volume) else {
        return;
    };
    walk(&*tree);
    for one in tree.subvolumes().unwrap_or_default().into_iter().take(8) {
        if let Ok(tree) = tree.subvolume(one.id) {
            walk(&*tree);
        }
    }
});
