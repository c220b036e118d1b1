//! Real maintainer scripts against the guest's own shell and programs, by hand: `DORMOUSE_SCRIPTS_ROOT` is an unpacked guest,
//! `DORMOUSE_SCRIPTS_DEBS` a folder of new packages, `DORMOUSE_SCRIPTS_CHROOT` says that this is root and may mount an
//! overlay and execute the guest's scripts in a chroot. Every script that is interpreted must leave the same tree.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may fail by panicking, prepares files of its own and asks programs of the host"
)]

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use common::packages::{Step, calls};
use common::world_of;
use dormouse_filesystem::{Follow, NodeKind};
use dormouse_overlay::{Draft, DraftNode};
use dormouse_scripts::{Limits, Outcome, run};

fn program(name: &str, arguments: &[&std::ffi::OsStr]) -> std::process::Output {
    std::process::Command::new(name)
        .args(arguments)
        .output()
        .unwrap()
}

/// A writable view of a folder, in memory.
struct Copy {
    base: tempfile::TempDir,
}

impl Copy {
    fn new(root: &Path) -> Self {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        std::fs::create_dir(at("memory")).unwrap();
        std::fs::create_dir(at("merged")).unwrap();
        let done = program(
            "mount",
            &[
                "-t".as_ref(),
                "tmpfs".as_ref(),
                "none".as_ref(),
                at("memory").as_ref(),
            ],
        );
        assert!(done.status.success(), "{done:?}");
        std::fs::create_dir(at("memory/upper")).unwrap();
        std::fs::create_dir(at("memory/work")).unwrap();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            root.display(),
            at("memory/upper").display(),
            at("memory/work").display()
        );
        let merged = at("merged");
        let done = program(
            "mount",
            &[
                "-t".as_ref(),
                "overlay".as_ref(),
                "none".as_ref(),
                "-o".as_ref(),
                options.as_ref(),
                merged.as_ref(),
            ],
        );
        assert!(done.status.success(), "{done:?}");
        let null = at("merged/dev/null");
        if !null.exists() {
            let done = program(
                "mknod",
                &[
                    "-m".as_ref(),
                    "666".as_ref(),
                    null.as_ref(),
                    "c".as_ref(),
                    "1".as_ref(),
                    "3".as_ref(),
                ],
            );
            assert!(done.status.success(), "{done:?}");
        }
        let proc = at("merged/proc");
        let done = program(
            "mount",
            &[
                "-t".as_ref(),
                "proc".as_ref(),
                "proc".as_ref(),
                proc.as_ref(),
            ],
        );
        assert!(done.status.success(), "{done:?}");
        Self { base }
    }

    fn merged(&self) -> PathBuf {
        self.base.path().join("merged")
    }

    /// Every path that differs from the folder, as a guest's path.
    fn touched(&self) -> BTreeSet<String> {
        let upper = self.base.path().join("memory/upper");
        let mut out = BTreeSet::new();
        let mut todo = vec![upper.clone()];
        while let Some(folder) = todo.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let entry = entry.unwrap();
                let path = entry.path();
                out.insert(format!("/{}", path.strip_prefix(&upper).unwrap().display()));
                if entry.file_type().unwrap().is_dir() {
                    todo.push(path);
                }
            }
        }
        out
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        for name in ["merged/proc", "merged", "memory"] {
            program("umount", &[self.base.path().join(name).as_ref()]);
        }
    }
}

/// What is at a path of the host, in words.
fn on_host(path: &Path) -> String {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return "nothing".into();
    };
    let kind = metadata.file_type();
    let owner = format!(
        "{:o} {}:{}",
        metadata.permissions().mode() & 0o7777,
        metadata.uid(),
        metadata.gid()
    );
    if kind.is_symlink() {
        format!("link to {}", std::fs::read_link(path).unwrap().display())
    } else if kind.is_dir() {
        format!("directory {owner}")
    } else if kind.is_file() {
        let bytes = std::fs::read(path).unwrap();
        format!("file {owner} {}", String::from_utf8_lossy(&bytes))
    } else if kind.is_char_device() {
        "device".into()
    } else {
        "special".into()
    }
}

fn in_draft(draft: &Draft, path: &str) -> String {
    let path = common::path(path);
    let Some(found) = draft.get(&path, Follow::No).unwrap() else {
        return "nothing".into();
    };
    let attributes = &found.attributes;
    let owner = format!(
        "{:o} {}:{}",
        attributes.mode, attributes.uid, attributes.gid
    );
    match &found.node {
        DraftNode::Symlink(target) => format!("link to {}", String::from_utf8_lossy(target)),
        DraftNode::Directory => format!("directory {owner}"),
        DraftNode::File(content) => {
            let bytes = draft.read(&found.path, content.size()).unwrap().unwrap();
            format!("file {owner} {}", String::from_utf8_lossy(&bytes))
        }
        DraftNode::Special(NodeKind::CharDevice, _) => "device".into(),
        DraftNode::Special(..) => "special".into(),
    }
}

/// Paths that may differ, and why.
fn may_differ(path: &str) -> bool {
    // Locks, logs and caches that a program leaves beside what it is asked for.
    [
        "/var/log/",
        "/run/lock",
        "/etc/.pwd.lock",
        "/run/adduser",
        "/var/cache/ldconfig",
        // apache2ctl makes it when it is only asked for its version; it is empty at every start of a machine.
        "/run/apache2",
    ]
    .iter()
    .any(|part| path.starts_with(part))
}

/// Forbids every service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

fn in_chroot(copy: &Copy, step: &Step, file: &str) -> (i32, String) {
    let policy = copy.merged().join(POLICY.trim_start_matches('/'));
    std::fs::write(&policy, "#!/bin/sh\nexit 101\n").unwrap();
    std::fs::set_permissions(&policy, std::fs::Permissions::from_mode(0o755)).unwrap();
    let host = copy.merged().join(file.trim_start_matches('/'));
    std::fs::create_dir_all(host.parent().unwrap()).unwrap();
    std::fs::write(&host, &step.script).unwrap();
    std::fs::set_permissions(&host, std::fs::Permissions::from_mode(0o755)).unwrap();
    let done = std::process::Command::new("chroot")
        .arg(copy.merged())
        .arg(file)
        .args(&step.arguments)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/root")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("DPKG_MAINTSCRIPT_NAME", step.name.as_str())
        .env("DPKG_MAINTSCRIPT_PACKAGE", &step.package)
        .env("DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT", "1")
        .env("DPKG_MAINTSCRIPT_ARCH", &step.architecture)
        .env("DPKG_MAINTSCRIPT_DEBUG", "0")
        .env("DPKG_RUNNING_VERSION", "1.21.22")
        .env("DPKG_ADMINDIR", "/var/lib/dpkg")
        .env("DPKG_ROOT", "")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    (done.status.code().unwrap_or(-1), said)
}

#[test]
fn interpreted_scripts_leave_what_the_guest_would() {
    let (Some(root), Some(debs), Some(_)) = (
        std::env::var_os("DORMOUSE_SCRIPTS_ROOT"),
        std::env::var_os("DORMOUSE_SCRIPTS_DEBS"),
        std::env::var_os("DORMOUSE_SCRIPTS_CHROOT"),
    ) else {
        return;
    };
    let root = PathBuf::from(root);
    let status = std::fs::read_to_string(root.join("var/lib/dpkg/status")).unwrap();
    let world = world_of(&status);
    let guest = common::guest_of(&root).guest();
    let mut differences = Vec::new();
    let mut compared = 0;
    for step in calls(&root, &world, Path::new(&debs)) {
        let mut draft = common::draft_over(&guest);
        let mut call = common::call_of(&step);
        // The guest's own programs ask the clock, for the day an account was made.
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        call.now.seconds = i64::try_from(now.as_secs()).unwrap();
        let outcome = run(&call, &mut draft, &world, &Limits::default());
        let Outcome::Done(done) = outcome else {
            continue;
        };
        compared += 1;
        let same = world
            .packages
            .get(&step.package)
            .and_then(|all| all.first());
        let infix = match same {
            Some(package) if package.multi_arch_same => format!(":{}", step.architecture),
            _ => String::new(),
        };
        let file = if step.phase == "preinst" {
            "/var/lib/dpkg/tmp.ci/preinst".to_owned()
        } else {
            format!("/var/lib/dpkg/info/{}{infix}.{}", step.package, step.phase)
        };
        let copy = Copy::new(&root);
        let (status, said) = in_chroot(&copy, &step, &file);
        if status != 0 {
            differences.push(format!(
                "{} {}: the guest's own ends with {status}: {said}",
                step.package, step.phase
            ));
            continue;
        }
        let mut paths = copy.touched();
        paths.extend(draft.differences().unwrap().keys().map(ToString::to_string));
        for path in paths {
            if path == file
                || path == POLICY
                || path == "/dev/null"
                || path.starts_with("/var/lib/dpkg/tmp.ci")
                || may_differ(&path)
            {
                continue;
            }
            // dpkg itself keeps activated triggers; they are compared below.
            if path.starts_with("/var/lib/dpkg/triggers") || path == "/var/lib/dpkg/status" {
                continue;
            }
            let theirs = on_host(&copy.merged().join(path.trim_start_matches('/')));
            let ours = in_draft(&draft, &path);
            if theirs != ours {
                // From the first line that differs on.
                let same = theirs
                    .lines()
                    .zip(ours.lines())
                    .take_while(|(one, two)| one == two)
                    .count();
                let cut = |text: &str| {
                    let lines: Vec<_> = text.lines().skip(same).take(3).collect();
                    lines.join("\n").chars().take(300).collect::<String>()
                };
                differences.push(format!(
                    "{} {}: {path}\n    guest: {}\n    ours:  {}",
                    step.package,
                    step.phase,
                    cut(&theirs),
                    cut(&ours)
                ));
            }
        }
        println!(
            "{} {}: {:?} {:?}",
            step.package, step.phase, done.commands, done.service_actions
        );
    }
    println!("{compared} scripts compared");
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
}
