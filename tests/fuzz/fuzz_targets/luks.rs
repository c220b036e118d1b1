//! Any bytes as a LUKS1 header, and any text as the JSON of a LUKS2 header with a right checksum. No key is given, so that
//! each run costs the same: what keys derive is bounded by the library's own limits.
#![no_main]

use std::sync::Arc;

use dormouse_block::Bytes;
use dormouse_volume::{DiskInput, volumes};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

fuzz_target!(|data: &[u8]| {
    let mut disk = vec![0_u8; 256 << 10];
    let taken = data.len().min(8192);
    if data.first().is_some_and(|byte| byte & 1 == 1) {
        disk[..taken].copy_from_slice(&data[..taken]);
        disk[..8].copy_from_slice(b"LUKS\xba\xbe\0\x01");
    } else {
        disk[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
        disk[8..16].copy_from_slice(&0x4000_u64.to_be_bytes());
        disk[72..78].copy_from_slice(b"sha256");
        disk[4096..4096 + taken].copy_from_slice(&data[..taken]);
        let sum = Sha256::digest(&disk[..0x4000]);
        disk[448..480].copy_from_slice(&sum);
    }
    let map = volumes(&[DiskInput::new("disk0", Arc::new(Bytes::new(disk)))]);
    assert!(!map.gaps.is_empty());
});
