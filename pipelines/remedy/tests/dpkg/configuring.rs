//! Configuring and triggers, held against dpkg: files, database and the log line by line.

use std::path::{Path, PathBuf};

use dormouse_remedy::dpkg::{Configuring, Settled, Unpacking};

use crate::host::assert_same;
use crate::root::{Bench, Recipe, dpkg, in_session, run};

fn all_done(settled: &Settled) {
    for one in &settled.packages {
        assert_eq!(one.outcome, Configuring::Done, "{}", one.package);
    }
    for one in &settled.triggers {
        assert_eq!(one.outcome, Configuring::Done, "{}", one.package);
    }
}

fn left(settled: &Settled, name: &str) -> String {
    let found = settled.packages.iter().find(|one| one.package == name);
    match &found
        .unwrap_or_else(|| panic!("{name} had no turn"))
        .outcome
    {
        Configuring::Left { why, .. } => why.clone(),
        Configuring::Done => panic!("{name} is configured"),
    }
}

/// Writes down how it was called. dpkg runs it for real with `DPKG_ROOT`, which is empty in a guest.
const NOTES: &str =
    "#!/bin/sh\nset -e\necho \"$DPKG_MAINTSCRIPT_PACKAGE $*\" >>\"$DPKG_ROOT/var/notes\"\n";

fn package(bench: &Bench, name: &str, version: &str, fields: &str) -> PathBuf {
    let file = format!("usr/share/{name}");
    bench.build(&Recipe {
        name,
        version,
        fields,
        files: &[(&file, version)],
        control: &[("postinst", NOTES)],
    })
}

#[test]
fn dependencies_are_configured_first() {
    let bench = Bench::new();
    let old = ["app", "lib", "data", "free"].map(|name| package(&bench, name, "1", ""));
    bench.install(&old.each_ref().map(PathBuf::as_path));
    let new = [
        package(&bench, "app", "2", "Depends: lib (>= 2), virtual\n"),
        package(&bench, "free", "1:0-2", ""),
        package(
            &bench,
            "lib",
            "2",
            "Pre-Depends: free\nDepends: data (= 2)\n",
        ),
        package(&bench, "data", "2", "Provides: virtual\n"),
        package(&bench, "fresh", "2", "Depends: app | nothing\n"),
    ];
    all_done(&bench.compare_configured(&new.each_ref().map(PathBuf::as_path)));
}

#[test]
fn circles_are_broken_where_no_script_is() {
    let bench = Bench::new();
    bench.install(&[&package(&bench, "other", "1", "")]);
    let plain = bench.build(&Recipe {
        name: "plain",
        version: "2",
        fields: "Depends: scripted (= 2)\n",
        files: &[("usr/share/plain", "2")],
        control: &[],
    });
    let scripted = package(&bench, "scripted", "2", "Depends: plain (= 2)\n");
    all_done(&bench.compare_configured(&[&scripted, &plain]));
    all_done(&bench.compare_configured(&[&plain, &scripted]));
}

#[test]
fn conffiles_are_settled_as_dpkg_settles_them() {
    let bench = Bench::new();
    let names = [
        "same", "changed", "edited", "both", "deleted", "gone", "moved",
    ];
    let conffiles: String = names
        .iter()
        .map(|name| format!("/etc/conf/{name}\n"))
        .collect();
    let paths = names.map(|name| format!("etc/conf/{name}"));
    let build = |version: &str, text: &dyn Fn(&str) -> String, more: &[&str]| {
        let mut files: Vec<(String, String)> = paths
            .iter()
            .map(|path| (path.clone(), text(path)))
            .collect();
        let mut list = conffiles.clone();
        for name in more {
            files.push((format!("etc/conf/{name}"), "new".to_owned()));
            list.push_str(&format!("/etc/conf/{name}\n"));
        }
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        bench.build(&Recipe {
            name: "conf",
            version,
            fields: "",
            files: &files,
            control: &[("conffiles", &list), ("postinst", NOTES)],
        })
    };
    let old = build("1", &|_| "1".to_owned(), &[]);
    let stays = ["etc/conf/same", "etc/conf/edited", "etc/conf/gone"];
    let new = build(
        "2",
        &|path| if stays.contains(&path) { "1" } else { "2" }.to_owned(),
        &["fresh", "there", "there-same"],
    );
    bench.install(&[&old]);
    bench.write("etc/conf/edited", "mine");
    bench.write("etc/conf/both", "mine");
    bench.write("etc/conf/both.dpkg-old", "older");
    bench.write("etc/conf/there", "mine");
    bench.write("etc/conf/there-same", "new");
    for name in ["deleted", "gone"] {
        std::fs::remove_file(bench.root().join("etc/conf").join(name)).unwrap();
    }
    let target = bench.root().join("etc/elsewhere");
    std::fs::rename(bench.root().join("etc/conf/moved"), &target).unwrap();
    std::os::unix::fs::symlink("../elsewhere", bench.root().join("etc/conf/moved")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(bench.root().join("etc/conf/changed"), mode).unwrap();
    let settled = bench.compare_configured(&[&new]);
    all_done(&settled);
    let kept: Vec<String> = settled.packages[0]
        .kept
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        kept,
        ["/etc/conf/both", "/etc/conf/deleted", "/etc/conf/there"]
    );
}

#[test]
fn triggers_are_processed_after_packages() {
    let bench = Bench::new();
    let watcher = bench.build(&Recipe {
        name: "watcher",
        version: "1",
        fields: "",
        files: &[("usr/bin/watcher", "1")],
        control: &[
            (
                "triggers",
                "interest-noawait /usr/share/watched\ninterest /usr/share/strict\ninterest explicit\n",
            ),
            ("postinst", NOTES),
        ],
    });
    let old = package(&bench, "acts", "1", "");
    let acts = bench.build(&Recipe {
        name: "acts",
        version: "2",
        fields: "",
        files: &[("usr/share/watched/a", "2"), ("usr/share/strict/b", "2")],
        control: &[
            ("postinst", NOTES),
            ("triggers", "activate-noawait explicit\n"),
        ],
    });
    let needs = package(&bench, "needs", "2", "Depends: acts (>= 2)\n");
    bench.install(&[&watcher, &old]);
    // What acts is waited for by what needs it, so its triggers come before the rest.
    let settled = bench.compare_configured(&[&acts, &needs]);
    all_done(&settled);
    assert_eq!(settled.triggers.len(), 1);
}

#[test]
fn what_cannot_be_configured_stays_and_holds_back_what_needs_it() {
    let bench = Bench::new();
    let old = ["hard", "needs", "free"].map(|name| package(&bench, name, "1", ""));
    let watcher = bench.build(&Recipe {
        name: "watcher",
        version: "1",
        fields: "",
        files: &[("usr/bin/watcher", "1")],
        control: &[
            ("triggers", "interest-noawait /usr/share\n"),
            (
                "postinst",
                "#!/bin/sh\n[ \"$1\" = configure ] || no-such-command\n",
            ),
        ],
    });
    bench.install(&[&old[0], &old[1], &old[2]]);
    bench.install(&[&watcher]);
    let hard = bench.build(&Recipe {
        name: "hard",
        version: "2",
        fields: "",
        files: &[("usr/share/hard", "2"), ("etc/hard.conf", "2")],
        control: &[
            ("conffiles", "/etc/hard.conf\n"),
            (
                "postinst",
                "#!/bin/sh\n: >/var/half-done\nno-such-command\n",
            ),
        ],
    });
    let new = [
        hard,
        package(&bench, "needs", "2", "Depends: hard (>= 2)\n"),
        package(&bench, "free", "2", ""),
    ];
    let paths: Vec<&Path> = new.iter().map(PathBuf::as_path).collect();
    let ours = bench.copy("ours");
    let mut settled = Settled::default();
    let mut outstanding = Vec::new();
    in_session(&bench.root(), &ours, &paths, |session, read| {
        for unpacked in read {
            assert!(matches!(
                session.unpack(unpacked).unwrap(),
                Unpacking::Done { .. }
            ));
        }
        settled = session.configure().unwrap();
        outstanding = session.outstanding();
    });
    assert!(left(&settled, "hard").contains("no-such-command"));
    assert!(left(&settled, "needs").contains("hard"));
    assert_eq!(outstanding, ["hard:amd64", "needs:amd64", "watcher:amd64"]);
    assert!(!ours.join("var/half-done").exists());
    assert!(
        ours.join("etc/hard.conf.dpkg-new").exists(),
        "its conffiles wait as well"
    );
    let status = std::fs::read_to_string(ours.join("var/lib/dpkg/status")).unwrap();
    let state = |name: &str| {
        let from = status.find(&format!("Package: {name}\n")).unwrap();
        status[from..]
            .lines()
            .find_map(|line| line.strip_prefix("Status: "))
            .unwrap()
    };
    assert_eq!(state("hard"), "install ok unpacked");
    assert_eq!(state("needs"), "install ok unpacked");
    assert_eq!(state("free"), "install ok installed");
    assert_eq!(state("watcher"), "install ok triggers-pending");
}

#[test]
fn what_is_broken_on_the_way_is_configured_again() {
    let bench = Bench::new();
    let old = [
        package(&bench, "breaker", "1", ""),
        package(&bench, "broken", "1", ""),
        package(&bench, "user", "1", "Depends: broken\n"),
    ];
    bench.install(&old.each_ref().map(PathBuf::as_path));
    let breaker = package(&bench, "breaker", "2", "Breaks: broken (<< 2)\n");
    let broken = package(&bench, "broken", "2", "");
    all_done(&bench.compare_configured(&[&breaker, &broken]));
    all_done(&bench.compare_configured(&[&broken, &breaker]));
    // What stays broken stays unconfigured, and so does what breaks it.
    let ours = bench.copy("ours");
    in_session(&bench.root(), &ours, &[&breaker], |session, read| {
        assert!(matches!(
            session.unpack(&read[0]).unwrap(),
            Unpacking::Done { .. }
        ));
        let settled = session.configure().unwrap();
        assert!(left(&settled, "breaker").contains("it breaks broken 1"));
        assert!(left(&settled, "broken").contains("breaker breaks it"));
        assert_eq!(session.outstanding(), ["breaker:amd64", "broken:amd64"]);
    });
}

#[test]
fn what_was_unpacked_before_is_configured_too() {
    let bench = Bench::new();
    bench.install(&[&package(&bench, "other", "1", "")]);
    let late = package(&bench, "late", "1", "Depends: other\n");
    run(dpkg(&bench.root()).arg("--unpack").arg(&late));
    let (theirs, ours) = (bench.copy("theirs"), bench.copy("ours"));
    run(dpkg(&theirs).args(["--configure", "--pending"]));
    in_session(&bench.root(), &ours, &[], |session, _| {
        let settled = session.configure().unwrap();
        all_done(&settled);
        assert_eq!(settled.packages.len(), 1);
        assert!(session.outstanding().is_empty());
    });
    assert_same(&theirs, &ours);
}
