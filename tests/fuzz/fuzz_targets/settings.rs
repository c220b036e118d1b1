//! Configuration files and account databases of a guest, asked for keys, owners and the time zone.
#![no_main]

use std::collections::BTreeSet;

use dormouse_filesystem::{Guest, MemoryTree};
use dormouse_packages::{Probe, SettingProbe, observe, time_zone};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut tree = MemoryTree::new();
    for path in ["/etc/x", "/etc/passwd", "/etc/group", "/etc/timezone"] {
        tree.file(path, bytes);
    }
    let guest = Guest::of(tree);
    let setting = |separator: &str, section: Option<&str>| {
        Probe::Setting(SettingProbe {
            paths: vec!["/etc/*".into()],
            section: section.map(str::to_owned),
            key: "key".into(),
            separator: separator.into(),
            comments: "#;".into(),
            ignore_case: true,
            ends_at: Some("match".into()),
        })
    };
    let file = Probe::File {
        path: dormouse_block::GuestPath::new("/etc/x").expect("a path"),
        digest: true,
    };
    let probes = BTreeSet::from([setting("=", None), setting(" ", Some("s")), file]);
    let answers = observe(&guest, &probes);
    assert_eq!(answers.len(), probes.len());
    let _ = time_zone(&guest);
});
