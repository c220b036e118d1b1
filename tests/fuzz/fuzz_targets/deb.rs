//! Package files of any bytes: never a panic, never more than the limits allow.
#![no_main]

use std::io::Read as _;

use dormouse_remedy::deb::{Limits, unpack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = Limits {
        control: 1 << 20,
        data: 4 << 20,
        ratio: 4,
        slack: 1 << 20,
        entries: 1000,
    };
    let mut read = 0_u64;
    let unpacked = unpack(data, None, &limits, &mut |head, content| {
        let mut bytes = Vec::new();
        content
            .take(head.size)
            .read_to_end(&mut bytes)
            .map_err(|error| dormouse_block::Error::io("read", error))?;
        read += u64::try_from(bytes.len()).expect("a length fits");
        Ok(())
    });
    if let Ok(unpacked) = unpacked {
        assert_eq!(read, unpacked.content_size);
        assert!(unpacked.data_size <= limits.data);
        assert!(unpacked.entries.len() <= limits.entries);
    }
});
