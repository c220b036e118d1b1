//! A packed image opened as XFS: whatever it says, every answer is bounded and nothing panics.
#![no_main]

use std::sync::Arc;

use dormouse_block::Source;
use dormouse_filesystem::Filesystem;
use dormouse_filesystem::xfs::Xfs;
use dormouse_fuzz::{Image, walk};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let volume: Arc<dyn Source> = Arc::new(Image::unpack(bytes));
    let _ = Xfs.probe(volume.as_ref());
    if let Ok(tree) = Xfs.open(volume) {
        walk(&*tree);
    }
});
