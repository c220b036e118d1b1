//! Any bytes as the header of an rpm.
#![no_main]

use dormouse_packages::rpm::{Header, PackageHeader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(header) = Header::parse(data) else {
        return;
    };
    let _ = PackageHeader::read(&header);
    let _ = header.files();
    let tags: Vec<u32> = header.tags().collect();
    for tag in tags.into_iter().take(64) {
        let _ = header.text(tag);
        let _ = header.translated(tag, b"de");
        let _ = header.numbers(tag).map(Iterator::count);
        let _ = header.bytes(tag);
    }
});
