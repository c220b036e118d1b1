//! `ldconfig` against the host's own program, on copies of the host's libraries; by hand against the guest's own, over the
//! unpacked guests named by `DORMOUSE_SCRIPTS_ROOTS` (parted by colons), for root.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may fail by panicking, prepares files of its own and asks programs of the host"
)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{call, draft_over, guest_of, required, world};
use dormouse_filesystem::Follow;
use dormouse_overlay::{Draft, DraftNode};
use dormouse_scripts::{Limits, Outcome, Reason, run};

const SCRIPT: &[u8] = b"#!/bin/sh\nset -e\nldconfig\n";

fn ours(root: &Path) -> Draft {
    let mut draft = draft_over(&guest_of(root).guest());
    match run(&call(SCRIPT), &mut draft, &world(), &Limits::default()) {
        Outcome::Done(done) => assert!(done.commands.contains("ldconfig"), "{done:?}"),
        Outcome::Deferred(deferral) => panic!("{deferral}"),
    }
    draft
}

/// The symbolic links in a folder and where they lead.
fn links(folder: &Path) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        if let Ok(target) = std::fs::read_link(entry.path()) {
            out.insert(
                entry.file_name().into_string().unwrap(),
                target.to_str().unwrap().to_owned(),
            );
        }
    }
    out
}

fn compare(root: &Path, draft: &Draft, folders: &[&str]) {
    let theirs = std::fs::read(root.join("etc/ld.so.cache")).unwrap();
    let ours = draft
        .read(&common::path("/etc/ld.so.cache"), 1 << 26)
        .unwrap()
        .unwrap();
    if theirs != ours {
        let at = theirs
            .iter()
            .zip(&ours)
            .take_while(|(one, two)| one == two)
            .count();
        let listed = |bytes: &[u8]| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let done = std::process::Command::new("ldconfig")
                .args(["-p", "-C"])
                .arg(file.path())
                .output()
                .unwrap();
            String::from_utf8_lossy(&done.stdout).into_owned()
        };
        let (listed_theirs, listed_ours) = (listed(&theirs), listed(&ours));
        for (one, two) in listed_theirs.lines().zip(listed_ours.lines()).skip(1) {
            if one != two {
                println!("  theirs {one}\n  ours   {two}");
                break;
            }
        }
        panic!(
            "{}: the caches have {} and {} bytes and differ from byte {at} on:\n{:?}\n{:?}",
            root.display(),
            theirs.len(),
            ours.len(),
            String::from_utf8_lossy(&theirs[at..(at + 200).min(theirs.len())]),
            String::from_utf8_lossy(&ours[at..(at + 200).min(ours.len())]),
        );
    }
    for folder in folders {
        let theirs = links(&root.join(folder));
        let at = common::path(&format!("/{folder}"));
        let Some(names) = draft.read_dir(&at).unwrap() else {
            assert!(theirs.is_empty());
            continue;
        };
        let mut ours = BTreeMap::new();
        for name in names {
            let found = draft
                .get(&at.join(&name).unwrap(), Follow::No)
                .unwrap()
                .unwrap();
            if let DraftNode::Symlink(target) = found.node {
                ours.insert(
                    String::from_utf8(name).unwrap(),
                    String::from_utf8(target).unwrap(),
                );
            }
        }
        assert_eq!(theirs, ours, "links in {folder}");
    }
}

/// A small guest of the host's libraries, their links left out or broken.
fn sample(root: &Path) {
    for folder in [
        "usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3",
        "usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v2",
        "usr/sbin",
        "usr/bin",
        "etc/ld.so.conf.d",
        "opt/own",
        "work",
        "tmp",
        "dev",
    ] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    for (link, target) in [("lib", "usr/lib"), ("sbin", "usr/sbin"), ("bin", "usr/bin")] {
        std::os::unix::fs::symlink(target, root.join(link)).unwrap();
    }
    std::fs::copy("/sbin/ldconfig", root.join("usr/sbin/ldconfig")).unwrap();
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let mut taken = Vec::new();
    for entry in std::fs::read_dir("/usr/lib/x86_64-linux-gnu").unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_file() && name.contains(".so") && metadata.len() < 4 << 20 {
            std::fs::copy(entry.path(), libraries.join(&name)).unwrap();
            taken.push(name);
        }
    }
    assert!(taken.len() > 50, "the host has too few libraries");
    taken.retain(|name| name.starts_with("lib") && name.contains(".so."));
    taken.sort();
    // Links that are right, dangling, of the wrong library, for development, and of a name that is no soname.
    for (index, name) in taken.iter().enumerate() {
        let stem = &name[..name.find(".so").unwrap()];
        match index % 7 {
            0 => {
                let at = libraries.join(format!("{stem}.so"));
                let _ = std::os::unix::fs::symlink(name, at);
            }
            1 => {
                let at = libraries.join(format!("{stem}.so.77"));
                let _ = std::os::unix::fs::symlink("gone.so.1", at);
            }
            2 => {
                let at = libraries.join(format!("{stem}other.so.5"));
                let _ = std::os::unix::fs::symlink(name, at);
            }
            3 => {
                std::fs::copy(libraries.join(name), root.join("opt/own").join(name)).unwrap();
            }
            4 => {
                for level in ["x86-64-v2", "x86-64-v3"] {
                    let at = libraries.join("glibc-hwcaps").join(level).join(name);
                    std::fs::copy(libraries.join(name), at).unwrap();
                }
            }
            5 => {
                let at = libraries.join(format!("{name}.9"));
                std::fs::copy(libraries.join(name), at).unwrap();
            }
            _ => {}
        }
    }
    for (name, text) in [
        ("libscript.so.1", &b"/* GNU ld script */\n"[..]),
        ("libempty.so.1", b""),
        ("libshort.so.1", b"\x7fELF\x02\x01\x01"),
        ("libx.so.1-gdb.py", b"import gdb\n"),
    ] {
        std::fs::write(libraries.join(name), text).unwrap();
    }
    std::fs::write(
        root.join("etc/ld.so.conf"),
        "# settings\ninclude /etc/ld.so.conf.d/*.conf\ninclude ld.so.conf.d/none*.conf\n",
    )
    .unwrap();
    std::fs::write(
        root.join("etc/ld.so.conf.d/b.conf"),
        "/usr/lib/x86_64-linux-gnu # its own\n/lib/x86_64-linux-gnu\n",
    )
    .unwrap();
    std::fs::write(
        root.join("etc/ld.so.conf.d/a.conf"),
        "\n  /opt/own/  \n/opt/none\n",
    )
    .unwrap();
}

#[test]
fn cache_and_links_are_the_hosts() {
    required(&["ldconfig"]);
    let root = tempfile::tempdir().unwrap();
    sample(root.path());
    let draft = ours(root.path());
    let done = std::process::Command::new("ldconfig")
        .arg("-i")
        .arg("-r")
        .arg(root.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    compare(
        root.path(),
        &draft,
        &["usr/lib/x86_64-linux-gnu", "opt/own", "usr/lib"],
    );
}

#[test]
fn broken_libraries_are_passed_over_or_refused() {
    required(&["ldconfig"]);
    let library = std::fs::read("/usr/lib/x86_64-linux-gnu/libz.so.1")
        .or_else(|_| std::fs::read("/lib/x86_64-linux-gnu/libc.so.6"))
        .unwrap();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 33).unwrap()
    };
    let program = std::fs::read("/sbin/ldconfig").unwrap();
    for round in 0..400 {
        let mut broken = library.clone();
        match round % 3 {
            // Header and program headers, anywhere, or cut off.
            0 => {
                for _ in 0..3 {
                    let at = next() % 1024;
                    broken[at] = u8::try_from(next() & 255).unwrap();
                }
            }
            1 => {
                for _ in 0..50 {
                    let at = next() % broken.len();
                    broken[at] = u8::try_from(next() & 255).unwrap();
                }
            }
            _ => broken.truncate(next() % 4096),
        }
        let mut guests = common::Guests::plain();
        guests
            .tree
            .file("/usr/sbin/ldconfig", &program)
            .with(|metadata| metadata.mode = 0o755);
        guests
            .tree
            .file("/usr/lib/x86_64-linux-gnu/libbroken.so.1", &broken);
        let mut draft = guests.draft();
        let outcome = run(&call(SCRIPT), &mut draft, &world(), &Limits::default());
        if let Outcome::Deferred(deferral) = outcome {
            assert_eq!(deferral.reason, Reason::Usage, "{deferral}");
        }
    }
}

#[test]
fn caches_of_given_guests_are_their_own_programs() {
    let Some(roots) = std::env::var_os("DORMOUSE_SCRIPTS_ROOTS") else {
        return;
    };
    for root in std::env::split_paths(&roots) {
        let draft = ours(&root);
        let done = std::process::Command::new("chroot")
            .arg(&root)
            .args(["/sbin/ldconfig", "-i"])
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        compare(&root, &draft, &["usr/lib/x86_64-linux-gnu", "usr/lib"]);
        println!("{}: the same", root.display());
    }
}
