//! Any bytes as a maintainer script: never a panic, never a change left by a script that is deferred, and always an end.
#![no_main]

use std::sync::{Arc, LazyLock};

use dormouse_block::Error;
use dormouse_filesystem::{Guest, MemoryTree, Time};
use dormouse_overlay::Draft;
use dormouse_scripts::{Call, Limits, Outcome, ScriptName, World, run};
use libfuzzer_sys::fuzz_target;

/// Programs of the guest; none is executed.
const PROGRAMS: &[&str] = &[
    "awk", "basename", "cat", "chmod", "chown", "cp", "cut", "deb-systemd-helper", "dpkg", "dpkg-divert", "dpkg-query",
    "dpkg-statoverride", "expr", "find", "getopt", "grep", "head", "install", "ln", "ls", "md5sum", "mkdir", "mktemp",
    "mv", "readlink", "realpath", "rm", "rmdir", "sed", "seq", "sh", "sort", "stat", "tail", "tee", "touch", "tr",
    "uniq", "update-alternatives", "wc", "which", "xargs",
];

static GUEST: LazyLock<Arc<Guest>> = LazyLock::new(|| {
    let mut tree = MemoryTree::new();
    for program in PROGRAMS {
        tree.file(&format!("/usr/bin/{program}"), b"\x7fELF")
            .with(|metadata| metadata.mode = 0o755);
    }
    tree.file("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        .file("/etc/group", b"root:x:0:\n")
        .file("/etc/app/a.conf", b"key = value\n")
        .directory("/tmp")
        .directory("/dev")
        .directory("/proc");
    Arc::new(Guest::of(tree))
});

fuzz_target!(|data: &[u8]| {
    let script = [b"#!/bin/sh\n", data].concat();
    let mut draft = Draft::new(
        GUEST.clone(),
        Arc::new(|_, _, _| Err(Error::corrupt("no payloads here"))),
    );
    let call = Call {
        script: &script,
        name: ScriptName::Postinst,
        arguments: vec!["configure".into(), "1.0-1".into()],
        package: "example",
        architecture: "all",
        environment: Vec::new(),
        dpkg_version: "1.21.22",
        now: Time::default(),
    };
    let limits = Limits {
        script: 1 << 16,
        steps: 50_000,
        depth: 100,
        object: 1 << 20,
        bytes: 4 << 20,
    };
    if let Outcome::Deferred(_) = run(&call, &mut draft, &World::default(), &limits) {
        assert!(draft.differences().expect("a tree in memory is sound").is_empty());
    }
});
