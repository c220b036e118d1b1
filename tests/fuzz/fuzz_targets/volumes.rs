//! A packed image as a disk: partition tables in both sector sizes, logical partitions, and signatures of volumes.
#![no_main]

use std::sync::Arc;

use dormouse_block::Source as _;
use dormouse_fuzz::Image;
use dormouse_volume::{DiskInput, volumes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let disk = Arc::new(Image::unpack(data));
    let len = disk.len();
    for sector_size in [None, Some(512), Some(4096)] {
        let mut input = DiskInput::new("disk0", disk.clone());
        input.sector_size = sector_size;
        let map = volumes(&[input]);
        for volume in &map.volumes {
            assert!(volume.info.start.checked_add(volume.info.size).is_some_and(|end| end <= len));
            assert_eq!(volume.source.len(), volume.info.size);
        }
    }
});
