//! Any bytes as a machine's description: the first byte chooses what the file is called, which no kind may depend on.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use dormouse_block::{Bytes, Source, window};
use dormouse_disk::{DenyAll, DiskPlace, describe_source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let names = ["/nowhere/m.vmx", "/nowhere/100.conf", "/nowhere/m", "m.ova"];
    let path = Path::new(names[usize::from(*choice) % names.len()]);
    let source: Arc<dyn Source> = Arc::new(Bytes::new(data.to_vec()));
    if let Ok(Some(machine)) = describe_source(source.clone(), path, &DenyAll) {
        assert!(machine.disks.len() <= 256 && machine.snapshots.len() <= 4096);
        for entry in &machine.manifest {
            if let DiskPlace::Member { offset, size, .. } = entry.place {
                let member = window(source.clone(), offset, size).expect("members lie within their archive");
                let _ = entry.check(&member);
            }
        }
    }
});
