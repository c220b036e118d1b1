//! Any bytes as the superblocks of two members, with right checksums.
#![no_main]

use std::sync::Arc;

use dormouse_block::{Bytes, Source};
use dormouse_volume::{DiskInput, volumes};
use libfuzzer_sys::fuzz_target;

const MAGIC: [u8; 4] = 0xa92b_4efc_u32.to_le_bytes();

fn sum(bytes: &[u8], at: usize, len: usize) -> [u8; 4] {
    let words = bytes[at..at + len].chunks_exact(4);
    let sum: u64 = words.map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap()))).sum();
    let folded = (sum & 0xffff_ffff) + (sum >> 32);
    u32::try_from(folded & 0xffff_ffff).unwrap().to_le_bytes()
}

fuzz_target!(|data: &[u8]| {
    let half = data.len() / 2;
    let disks: Vec<DiskInput> = [&data[..half], &data[half..]]
        .iter()
        .zip(0_u32..)
        .map(|(data, number)| {
            let mut disk = vec![0_u8; 256 << 10];
            let legacy = data.first().is_some_and(|byte| byte & 1 == 1);
            let (at, len) = if legacy { (192 << 10, 4096) } else { (4096, 256 + 32) };
            let taken = data.len().min(len);
            disk[at..at + taken].copy_from_slice(&data[..taken]);
            disk[at..at + 4].copy_from_slice(&MAGIC);
            if legacy {
                disk[at + 4..at + 8].fill(0);
                disk[at + 152..at + 156].fill(0);
                let sum = sum(&disk, at, len);
                disk[at + 152..at + 156].copy_from_slice(&sum);
            } else {
                disk[at + 4..at + 8].copy_from_slice(&1_u32.to_le_bytes());
                disk[at + 144..at + 152].copy_from_slice(&8_u64.to_le_bytes());
                disk[at + 160..at + 164].copy_from_slice(&number.to_le_bytes());
                disk[at + 220..at + 224].copy_from_slice(&16_u32.to_le_bytes());
                disk[at + 216..at + 220].fill(0);
                let sum = sum(&disk, at, len);
                disk[at + 216..at + 220].copy_from_slice(&sum);
            }
            DiskInput::new(format!("disk{number}"), Arc::new(Bytes::new(disk)))
        })
        .collect();
    let map = volumes(&disks);
    for volume in &map.volumes {
        let len = volume.source.len();
        for at in [0, len / 2, len.saturating_sub(512)] {
            let mut buf = vec![0; usize::try_from((len - at).min(4096)).unwrap()];
            let _ = volume.source.read_exact_at(at, &mut buf);
        }
    }
});
