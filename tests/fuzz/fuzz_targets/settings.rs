//! Configuration files and account databases of a guest, asked for keys, owners and the time zone, and what edits would change.
#![no_main]

use std::collections::BTreeSet;

use dormouse_filesystem::{Guest, MemoryTree};
use dormouse_packages::edit::{Edit, LineEdit, LineState, SettingEdit};
use dormouse_packages::{Glob, Observed, Probe, SettingProbe, observe, time_zone};
use libfuzzer_sys::fuzz_target;

/// Bytes of a file: each is read and edited several times over, and more of them say nothing new.
const MAX_FILE: usize = 2048;

fuzz_target!(|bytes: &[u8]| {
    let bytes = &bytes[..bytes.len().min(MAX_FILE)];
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
        digest: false,
    };
    let path = || dormouse_block::GuestPath::new("/etc/x").expect("a path");
    let set = |separator: &str, section: Option<&str>| Probe::Edits {
        edits: vec![Edit::Set(SettingEdit {
            path: path(),
            section: section.map(str::to_owned),
            key: "key".into(),
            value: "value".into(),
            separator: separator.into(),
            comments: "#;".into(),
            ignore_case: true,
            ends_at: Some("match".into()),
            create: false,
        })],
    };
    let line = |state: LineState| Probe::Edits {
        edits: vec![Edit::Line(LineEdit {
            path: path(),
            line: (state == LineState::Present).then(|| "key = value".to_owned()),
            matching: Some(Glob::new("*k?y*")),
            state,
            after: Some(Glob::new("[*")),
            create: false,
        })],
    };
    let probes = BTreeSet::from([
        setting("=", None),
        setting(" ", Some("s")),
        file,
        set("=", None),
        set(" ", Some("s")),
        line(LineState::Present),
        line(LineState::Absent),
    ]);
    let answers = observe(&guest, &probes);
    assert_eq!(answers.len(), probes.len());
    for observation in answers {
        if let Observed::Refused { why } = observation.answer {
            assert!(!why.contains("undo one another"), "{why}");
        }
    }
    let _ = time_zone(&guest);
});
