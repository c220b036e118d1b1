//! Guests for tests, and scripts run in them.

#![allow(dead_code, reason = "each test uses a part")]

pub(crate) mod packages;
pub(crate) mod tar;

use std::sync::Arc;

use dormouse_block::{Error, GuestPath};
use dormouse_filesystem::{Guest, MemoryTree, Time};
use dormouse_overlay::Draft;
use dormouse_scripts::{Call, Limits, Outcome, ScriptName, World, run};

/// Fails with a clear message when a program of the host that is an oracle is missing.
pub(crate) fn required(programs: &[&str]) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    for program in programs {
        let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
        assert!(
            found,
            "this test needs the program \"{program}\" on the host"
        );
    }
}

/// Builds guests.
pub(crate) struct Guests {
    pub(crate) tree: MemoryTree,
}

/// Programs that a guest has; their bytes do not matter, for none is executed.
const PROGRAMS: &[&str] = &[
    "basename",
    "bash",
    "cat",
    "chgrp",
    "chmod",
    "chown",
    "cmp",
    "cp",
    "cut",
    "dash",
    "diff",
    "dirname",
    "dpkg",
    "dpkg-divert",
    "dpkg-query",
    "dpkg-statoverride",
    "dpkg-trigger",
    "egrep",
    "env",
    "expr",
    "false",
    "fgrep",
    "find",
    "getent",
    "grep",
    "head",
    "id",
    "install",
    "ln",
    "ls",
    "md5sum",
    "mkdir",
    "mktemp",
    "mv",
    "readlink",
    "realpath",
    "rm",
    "rmdir",
    "run-parts",
    "sed",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "tac",
    "tail",
    "tee",
    "touch",
    "tr",
    "true",
    "uname",
    "uniq",
    "update-alternatives",
    "wc",
    "which",
    "xargs",
    "deb-systemd-helper",
    "awk",
    "dpkg-maintscript-helper",
    "getopt",
    "mawk",
    "echo",
    "printf",
    "test",
    "[",
    "env",
];

impl Guests {
    /// A merged-/usr guest with the usual programs.
    pub(crate) fn plain() -> Self {
        let mut tree = MemoryTree::new();
        tree.symlink("/bin", "usr/bin").symlink("/sbin", "usr/sbin");
        for program in PROGRAMS {
            tree.file(&format!("/usr/bin/{program}"), b"\x7fELF")
                .with(|metadata| metadata.mode = 0o755);
        }
        tree.directory("/dev")
            .directory("/proc")
            .directory("/sys")
            .directory("/tmp")
            .directory("/root")
            .directory("/work");
        tree.file(
            "/etc/passwd",
            b"root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n",
        );
        tree.file("/etc/group", b"root:x:0:\ndaemon:x:1:\nstaff:x:50:\n");
        Self { tree }
    }

    pub(crate) fn guest(&self) -> Arc<Guest> {
        Arc::new(Guest::of(self.tree.clone()))
    }

    pub(crate) fn draft(&self) -> Draft {
        draft_over(&self.guest())
    }
}

/// A draft over a guest without payloads.
pub(crate) fn draft_over(guest: &Arc<Guest>) -> Draft {
    Draft::new(
        guest.clone(),
        Arc::new(|_, _, _| Err(Error::corrupt("no payloads here"))),
    )
}

/// The call that a step makes.
pub(crate) fn call_of(step: &packages::Step) -> Call<'_> {
    let mut call = call(&step.script);
    call.name = step.name;
    call.package = &step.package;
    call.architecture = &step.architecture;
    call.arguments = step.arguments.clone();
    call
}

pub(crate) fn path(text: &str) -> GuestPath {
    GuestPath::new(text).unwrap()
}

/// A call of `script` as an upgrade's preinst.
pub(crate) fn call(script: &[u8]) -> Call<'_> {
    Call {
        script,
        name: ScriptName::Preinst,
        arguments: vec!["upgrade".into(), "1.0-1".into(), "1.0-2".into()],
        package: "example",
        architecture: "amd64",
        environment: Vec::new(),
        dpkg_version: "1.21.22",
        now: Time {
            seconds: 1_700_000_000,
            nanoseconds: 0,
        },
    }
}

pub(crate) fn world() -> World {
    World {
        architecture: "amd64".into(),
        ..World::default()
    }
}

/// Runs `snippet` as `sh` would in a folder of its own: its exit status and standard output, or why it was deferred.
pub(crate) fn run_snippet(guests: &Guests, snippet: &str) -> Result<(i32, Vec<u8>), String> {
    let mut guests = Guests {
        tree: guests.tree.clone(),
    };
    guests.tree.file("/snippet", snippet.as_bytes());
    let mut draft = guests.draft();
    let script =
        b"#!/bin/sh\ncd /work\nsh /snippet > /stdout 2> /stderr < /dev/null\necho $? > /status\n";
    match run(&call(script), &mut draft, &world(), &Limits::default()) {
        Outcome::Done(_) => {
            let out = draft.read(&path("/stdout"), 1 << 24).unwrap().unwrap();
            let status = draft.read(&path("/status"), 99).unwrap().unwrap();
            let status = String::from_utf8(status).unwrap().trim().parse().unwrap();
            Ok((status, out))
        }
        Outcome::Deferred(deferral) => Err(format!("{:?}: {deferral}", deferral.reason)),
    }
}

/// The package database of a status file.
pub(crate) fn world_of(status: &str) -> World {
    let mut world = world();
    for paragraph in status.split("\n\n") {
        let mut fields: std::collections::BTreeMap<String, String> =
            std::collections::BTreeMap::new();
        let mut last = String::new();
        for line in paragraph.lines() {
            if line.starts_with([' ', '\t']) {
                if let Some(value) = fields.get_mut(&last) {
                    value.push('\n');
                    value.push_str(line);
                }
            } else if let Some((name, value)) = line.split_once(':') {
                last = name.to_owned();
                fields.insert(last.clone(), value.trim().to_owned());
            }
        }
        let Some(name) = fields.remove("Package") else {
            continue;
        };
        let status = fields.remove("Status").unwrap_or_default();
        let mut words = status.split(' ').map(str::to_owned);
        let conffiles = fields.remove("Conffiles").unwrap_or_default();
        let package = dormouse_scripts::PackageView {
            architecture: fields.remove("Architecture").unwrap_or_default(),
            multi_arch_same: fields
                .get("Multi-Arch")
                .is_some_and(|value| value == "same"),
            want: words.next().unwrap_or_default(),
            error: words.next().unwrap_or_default(),
            state: words.next().unwrap_or_default(),
            version: fields.remove("Version"),
            config_version: fields.remove("Config-Version"),
            conffiles: conffiles
                .lines()
                .filter_map(|line| {
                    let mut words = line.trim().split(' ');
                    Some(dormouse_scripts::ConffileView {
                        path: words
                            .next()
                            .filter(|path| path.starts_with('/'))?
                            .to_owned(),
                        md5: words.next()?.to_owned(),
                        obsolete: line.ends_with(" obsolete"),
                        remove_on_upgrade: line.ends_with(" remove-on-upgrade"),
                    })
                })
                .collect(),
            fields,
        };
        world.packages.entry(name).or_default().push(package);
    }
    world
}

/// Bytes of a file up to which a host folder's files are taken into a test's guest; longer ones are cut to 64.
const MAX_TAKEN: u64 = 4 << 20;

/// A guest made of a folder of the host.
pub(crate) fn guest_of(root: &std::path::Path) -> Guests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::MetadataExt as _;
    let mut tree = MemoryTree::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(folder) = todo.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let metadata = entry.metadata().unwrap();
            let host = entry.path();
            let Some(inside) = host.strip_prefix(root).unwrap().to_str() else {
                continue;
            };
            let inside = format!("/{inside}");
            let kind = metadata.file_type();
            if kind.is_dir() {
                tree.directory(&inside);
                todo.push(host.clone());
            } else if kind.is_symlink() {
                let target = std::fs::read_link(&host).unwrap();
                tree.symlink(&inside, target.to_str().unwrap());
            } else if kind.is_file() {
                let mut bytes = Vec::new();
                use std::io::Read as _;
                // Libraries are read by their ends too.
                let limit = if inside.contains(".so") {
                    u64::MAX
                } else if metadata.len() > MAX_TAKEN {
                    64
                } else {
                    MAX_TAKEN
                };
                std::fs::File::open(&host)
                    .unwrap()
                    .take(limit)
                    .read_to_end(&mut bytes)
                    .unwrap();
                tree.file(&inside, &bytes);
            } else {
                continue;
            }
            let _ = host.as_os_str().as_bytes();
            tree.with(|node| {
                node.mode = u16::try_from(metadata.mode() & 0o7777).unwrap();
                node.uid = metadata.uid();
                node.gid = metadata.gid();
                node.mtime = Time {
                    seconds: metadata.mtime(),
                    nanoseconds: 0,
                };
            });
        }
    }
    Guests { tree }
}
