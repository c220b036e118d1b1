//! Any text as a volume group's metadata, with right checksums around it, on a disk that holds any other bytes.
#![no_main]

use std::sync::Arc;

use dormouse_block::{Bytes, Source};
use dormouse_volume::{DiskInput, volumes};
use libfuzzer_sys::fuzz_target;

/// lvm2's checksum, bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0xf597_a6cf, |sum: u32, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 }
        })
    })
}

fn put(disk: &mut [u8], at: usize, bytes: &[u8]) {
    disk[at..at + bytes.len()].copy_from_slice(bytes);
}

fuzz_target!(|data: &[u8]| {
    // What follows a NUL is what the physical volume's extents hold.
    let text = &data[..data.iter().position(|byte| *byte == 0).unwrap_or(data.len()).min(60_000)];
    let rest = data.get(text.len() + 1..).unwrap_or_default();
    let mut disk = vec![0; 1 << 20];
    let len = u64::try_from(text.len()).unwrap();
    put(&mut disk, 512, b"LABELONE");
    put(&mut disk, 520, &1_u64.to_le_bytes());
    put(&mut disk, 532, &32_u32.to_le_bytes());
    put(&mut disk, 536, b"LVM2 001");
    put(&mut disk, 544, &[b'a'; 32]);
    put(&mut disk, 576, &(1_u64 << 20).to_le_bytes());
    put(&mut disk, 584, &(128_u64 << 10).to_le_bytes());
    put(&mut disk, 616, &4096_u64.to_le_bytes());
    put(&mut disk, 624, &65536_u64.to_le_bytes());
    let sum = checksum(&disk[532..1024]);
    put(&mut disk, 528, &sum.to_le_bytes());
    put(&mut disk, 4100, b" LVM2 x[5A%r0N*>");
    put(&mut disk, 4116, &1_u32.to_le_bytes());
    put(&mut disk, 4120, &4096_u64.to_le_bytes());
    put(&mut disk, 4128, &65536_u64.to_le_bytes());
    put(&mut disk, 4136, &512_u64.to_le_bytes());
    put(&mut disk, 4144, &len.to_le_bytes());
    put(&mut disk, 4152, &checksum(text).to_le_bytes());
    let sum = checksum(&disk[4100..4608]);
    put(&mut disk, 4096, &sum.to_le_bytes());
    put(&mut disk, 4608, text);
    let room = rest.len().min(disk.len() - (128 << 10));
    put(&mut disk, 128 << 10, &rest[..room]);
    let map = volumes(&[DiskInput::new("disk0", Arc::new(Bytes::new(disk)))]);
    for volume in &map.volumes {
        let len = volume.source.len();
        assert_eq!(len, volume.info.size);
        for at in [0, len / 2, len.saturating_sub(512)] {
            let mut buf = vec![0; usize::try_from((len - at).min(4096)).unwrap()];
            let _ = volume.source.read_exact_at(at, &mut buf);
        }
        let _ = volume.source.next_data(0);
    }
});
