//! Debian's own programs on a private folder of the host against the interpreted ones on a guest that has the same files at
//! the same paths.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may fail by panicking, prepares files of its own and asks programs of the host"
)]

mod common;

use std::path::Path;

use common::{Guests, required};
use dormouse_filesystem::Follow;
use dormouse_overlay::{Draft, DraftNode};
use dormouse_scripts::{Limits, Outcome, run};

/// Every node below a folder of the host, in words.
fn host_listing(folder: &Path) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut out = Vec::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let mode = metadata.permissions().mode() & 0o7777;
            if metadata.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                out.push(format!("{} -> {}", path.display(), target.display()));
            } else if metadata.is_dir() {
                out.push(format!("{} {mode:o}", path.display()));
                todo.push(path);
            } else {
                let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
                out.push(format!("{} {mode:o} {text:?}", path.display()));
            }
        }
    }
    out.sort();
    out
}

fn draft_listing(draft: &Draft, folder: &str, shown: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut todo = vec![(folder.to_owned(), shown.to_owned())];
    while let Some((folder, shown)) = todo.pop() {
        for name in draft.read_dir(&common::path(&folder)).unwrap().unwrap() {
            let name = String::from_utf8(name).unwrap();
            let path = format!("{}/{name}", folder.trim_end_matches('/'));
            let shown = format!("{shown}/{name}");
            let found = draft
                .get(&common::path(&path), Follow::No)
                .unwrap()
                .unwrap();
            let mode = found.attributes.mode;
            match &found.node {
                DraftNode::Symlink(target) => {
                    out.push(format!("{shown} -> {}", String::from_utf8_lossy(target)));
                }
                DraftNode::Directory => {
                    out.push(format!("{shown} {mode:o}"));
                    todo.push((path, shown));
                }
                DraftNode::File(content) => {
                    let bytes = draft.read(&found.path, content.size()).unwrap().unwrap();
                    let text = String::from_utf8_lossy(&bytes);
                    out.push(format!("{shown} {mode:o} {text:?}"));
                }
                DraftNode::Special(..) => out.push(format!("{shown} special")),
            }
        }
    }
    out.sort();
    out
}

fn on_host(script: &str, folder: &Path, environment: &[(&str, &str)]) -> (i32, String) {
    let done = std::process::Command::new("dash")
        .args(["-c", script])
        .current_dir(folder)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("LC_ALL", "C")
        .env("DPKG_MAINTSCRIPT_PACKAGE", "example")
        .env("T", folder)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    (
        done.status.code().unwrap(),
        String::from_utf8_lossy(&done.stdout).into_owned(),
    )
}

/// Runs `prepare` on the host, then `script` there and in a guest with the same files: `T` is the folder in both.
fn compare(prepare: &str, script: &str) {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let (status, _) = on_host(prepare, folder.path(), &[]);
    assert_eq!(status, 0, "the preparation fails: {prepare}");
    let inside = folder.path().to_str().unwrap();
    let mut guests = Guests::plain();
    guests.tree.directory(inside);
    for (path, found) in walk(folder.path()) {
        match found {
            Found::Directory => guests.tree.directory(&path),
            Found::File(bytes) => guests.tree.file(&path, &bytes),
            Found::Link(target) => guests.tree.symlink(&path, &target),
        };
    }
    let (status, out) = on_host(script, folder.path(), &[]);
    let ours = run_in(&guests, script, inside);
    let (our_status, our_out, draft) = ours;
    let differing: Vec<_> = our_out
        .lines()
        .zip(out.lines())
        .filter(|(ours, theirs)| ours != theirs)
        .collect();
    assert!(
        our_status == status && our_out == out,
        "{our_status} for {status}, ours and theirs: {differing:?}\n{script}"
    );
    assert_eq!(
        draft_listing(&draft, inside, inside),
        host_listing(folder.path()),
        "{script}"
    );
}

enum Found {
    Directory,
    File(Vec<u8>),
    Link(String),
}

fn walk(folder: &Path) -> Vec<(String, Found)> {
    let mut out = Vec::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.to_str().unwrap().to_owned();
            if path.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                out.push((name, Found::Link(target.to_str().unwrap().to_owned())));
            } else if path.is_dir() {
                // Others are made with what they hold.
                if std::fs::read_dir(&path).unwrap().next().is_none() {
                    out.push((name, Found::Directory));
                }
                todo.push(path);
            } else {
                out.push((name, Found::File(std::fs::read(&path).unwrap())));
            }
        }
    }
    out.sort_by(|one, two| one.0.cmp(&two.0));
    out
}

fn run_in(guests: &Guests, script: &str, folder: &str) -> (i32, String, Draft) {
    let mut guests = Guests {
        tree: guests.tree.clone(),
    };
    guests.tree.file("/snippet", script.as_bytes());
    let mut draft = guests.draft();
    let wrapper = format!(
        "#!/bin/sh\nexport T={folder}\ncd {folder}\nsh /snippet > /stdout 2> /stderr < /dev/null\necho $? > /status\n"
    );
    match run(
        &common::call(wrapper.as_bytes()),
        &mut draft,
        &common::world(),
        &Limits::default(),
    ) {
        Outcome::Done(_) => {}
        Outcome::Deferred(deferral) => panic!("deferred: {deferral}\n{script}"),
    }
    let text = |path: &str| {
        String::from_utf8(draft.read(&common::path(path), 1 << 20).unwrap().unwrap()).unwrap()
    };
    let (status, out) = (text("/status"), text("/stdout"));
    (status.trim().parse().unwrap(), out, draft)
}

const ALTERNATIVES: &str =
    "mkdir alt adm bin man; for f in a b c; do echo $f > bin/$f; echo $f > man/$f.1; done";

#[test]
fn alternatives_are_kept_as_update_alternatives_keeps_them() {
    required(&["update-alternatives"]);
    let set = "ua() { update-alternatives --altdir $T/alt --admindir $T/adm \"$@\" >/dev/null; echo $?; }\n";
    let install = "ua --install $T/bin/x x $T/bin/a 10\n";
    let slaves = "ua --install $T/bin/x x $T/bin/b 20 --slave $T/man/x.1 x.1 $T/man/b.1\n";
    for script in [
        install.to_owned(),
        format!("{install}{slaves}"),
        format!("{slaves}{install}"),
        format!("{install}{slaves}ua --remove x $T/bin/b\n"),
        format!("{install}{slaves}ua --remove x $T/bin/a\n"),
        format!("{install}ua --remove x $T/bin/a\n"),
        format!("{install}ua --remove x $T/bin/zzz\n"),
        format!("{install}{slaves}ua --set x $T/bin/a\nua --install $T/bin/x x $T/bin/c 99\n"),
        format!("{install}{slaves}ua --set x $T/bin/a\nua --auto x\n"),
        format!("{install}{slaves}ua --set x $T/bin/a\nua --remove x $T/bin/a\n"),
        format!("{install}{slaves}ua --remove-all x\n"),
        format!("{install}ua --install $T/bin/x x $T/bin/a 50\n"),
        format!("{install}ua --install $T/bin/y x $T/bin/b 5\n"),
        format!(
            "{slaves}ua --install $T/bin/x x $T/bin/c 30 --slave $T/man/x.1 x.1 $T/man/missing.1\n"
        ),
        format!("{slaves}ua --install $T/bin/x x $T/bin/b 20\n"),
        format!("{slaves}ua --install $T/bin/x x $T/bin/b 20 --slave $T/man/z.1 x.1 $T/man/b.1\n"),
        format!("{install}rm $T/alt/x; {slaves}"),
        format!("{install}rm $T/bin/x; {slaves}"),
        format!("{install}ln -sf $T/bin/c $T/alt/x; {slaves}"),
        format!("{install}ln -sf $T/bin/gone $T/alt/x; {slaves}"),
        format!("{install}rm $T/bin/x; echo mine > $T/bin/x; {slaves}"),
        "ua --install $T/bin/x x $T/bin/none 10\nua --set x $T/bin/a\nua --remove x $T/bin/a\n"
            .to_owned(),
        format!(
            "{install}ua --set x $T/bin/none\nua --install $T/bin/x x $T/bin/b 10\nua --install $T/bin/x x $T/bin/c 10\n"
        ),
    ] {
        compare(ALTERNATIVES, &format!("{set}{script}"));
    }
    for action in ["query", "display", "list"] {
        let show =
            format!("update-alternatives --altdir $T/alt --admindir $T/adm --{action} x; echo $?");
        compare(ALTERNATIVES, &format!("{set}{install}{slaves}{show}"));
        compare(ALTERNATIVES, &format!("{set}{show}"));
    }
}

#[test]
fn diversions_are_kept_as_dpkg_divert_keeps_them() {
    required(&["dpkg-divert"]);
    let prepare = "mkdir adm adm/info bin; touch adm/status adm/diversions adm/arch; echo f > bin/f; echo g > bin/g";
    let set = "dv() { dpkg-divert --admindir $T/adm \"$@\"; echo $?; }\n";
    for script in [
        "dv --package p --no-rename --add $T/bin/f",
        "dv --package p --rename --add $T/bin/f",
        "dv --package p --rename --divert $T/bin/f.real --add $T/bin/f; dv --list; dv --truename $T/bin/f; dv --listpackage $T/bin/f",
        "dv --local --rename --add $T/bin/f; dv --local --rename --remove $T/bin/f",
        "dv --package p --rename --add $T/bin/f; dv --package p --rename --add $T/bin/f",
        "dv --package p --rename --add $T/bin/f; dv --package q --rename --add $T/bin/f",
        "dv --package p --rename --add $T/bin/f; dv --package q --rename --remove $T/bin/f",
        "dv --package p --rename --add $T/bin/missing; dv --list '*missing*'; dv --truename /x",
        "dv --quiet --package p --rename --divert $T/bin/g --add $T/bin/f",
        "dv --package p --rename --remove $T/bin/f",
        "dv --package p --no-rename --add $T/bin/f; dv --package p --no-rename --add $T/bin/g; dv --package p --no-rename --remove $T/bin/f; dv --list; rm $T/adm/diversions-old",
        // dpkg writes them in the order of its hash table, which says nothing.
        "dv --package p --no-rename --add $T/bin/f; dv --package p --no-rename --add $T/bin/g; dpkg-divert --admindir $T/adm --list | sort; rm $T/adm/diversions*",
    ] {
        compare(prepare, &format!("{set}{script}"));
    }
}

#[test]
fn overrides_are_kept_as_dpkg_statoverride_keeps_them() {
    required(&["dpkg-statoverride"]);
    let prepare = "mkdir adm bin; touch adm/statoverride; echo f > bin/f";
    let set = "so() { dpkg-statoverride --admindir $T/adm \"$@\"; echo $?; }\n";
    for script in [
        "so --list; so --add root staff 0640 /x; so --list; so --list /x; so --list '/*'; so --list /y",
        "so --update --add root root 0755 $T/bin/f; so --add root root 755 $T/bin/f; so --remove $T/bin/f; so --remove $T/bin/f",
        "so --add root root 4755 /a; so --add root daemon 2755 /b/; so --remove /a; so --force-all --add root root 1777 /b",
        "so --add nobodyknows root 755 /a; so --add root root 99 /a; so --add root root 755 relative",
        "so --quiet --remove /none; so --force-all --remove /none; so --update --add root root 700 /none",
    ] {
        compare(prepare, &format!("{set}{script}"));
    }
}

#[test]
fn options_are_ordered_as_getopt_orders_them() {
    required(&["getopt"]);
    for script in [
        "getopt -o ab:c:: -l alpha,beta:,gamma:: -n me -- -a -b v -cx file --alpha --beta=1 --beta 2 --gamma --gamma=3 -- rest",
        "getopt -o a -- -x; echo $?",
        "getopt -o a -l long -- --lon a b -a; echo $?",
        "getopt -o +a -- -a x -a; getopt -o '' -- \"it's\" 'a b'; getopt -T; echo $?",
        "getopt -a -o hd::nP: -l help,debug::,package: -n me -- -help -d -d2 --package x -package y -P z -n file",
        "getopt -a -o ab -l alpha -- -alp -ab -zz; echo $?",
        "getopt -o a: -- -a; echo $?; getopt -o a -l x -- --x=1; echo $?; getopt -o ab -- -ab -ba",
    ] {
        compare("true", script);
    }
}

/// A unit file.
fn unit(install: &str) -> String {
    format!("[Unit]\\nDescription=x\\n[Service]\\nExecStart=/bin/true\\n[Install]\\n{install}\\n")
}

#[test]
fn units_are_enabled_as_deb_systemd_helper_enables_them() {
    required(&["deb-systemd-helper"]);
    let prepare = format!(
        "mkdir -p lib/systemd/system etc/systemd/system usr/lib/systemd/user\n\
         printf '{}' > lib/systemd/system/a.service\n\
         printf '{}' > lib/systemd/system/b.service\n\
         printf '{}' > lib/systemd/system/c.socket\n\
         printf '{}' > lib/systemd/system/t@.service\n\
         printf '[Unit]\\n' > lib/systemd/system/static.service\n",
        unit("WantedBy=multi-user.target"),
        unit("WantedBy=multi-user.target graphical.target\\nAlias=bb.service\\nAlso=c.socket"),
        unit("WantedBy=sockets.target\\nRequiredBy=x.service"),
        unit("WantedBy=multi-user.target\\nDefaultInstance=one"),
    );
    let helper = "h() { deb-systemd-helper \"$@\" 2>/dev/null; echo $?; }\n";
    for script in [
        "h enable a.service; h was-enabled a.service; h debian-installed a.service; h is-enabled a.service",
        "h enable b.service; h is-enabled b.service; h disable b.service; h was-enabled b.service",
        "h enable a.service; rm $R/etc/systemd/system/multi-user.target.wants/a.service; h enable a.service; h was-enabled a.service",
        "h enable a.service; h update-state a.service; h purge a.service; h debian-installed a.service",
        "h mask a.service; h unmask a.service; h mask a.service; h mask a.service",
        "h unmask a.service; h update-state b.service; h enable b.service; h reenable b.service",
        "h enable t@.service; h enable static.service; h enable missing.service",
        "h enable a.service b.service c.socket; h disable a.service; h purge b.service c.socket",
        "h mask missing.service; h purge missing.service; h was-enabled missing.service; h is-enabled missing.service",
    ] {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let (status, _) = on_host(&prepare, folder.path(), &[]);
        assert_eq!(status, 0);
        let mut guests = Guests::plain();
        let inside = folder.path().to_str().unwrap();
        for (path, found) in walk(folder.path()) {
            let path = path.strip_prefix(inside).unwrap();
            match found {
                Found::Directory => guests.tree.directory(path),
                Found::File(bytes) => guests.tree.file(path, &bytes),
                Found::Link(target) => guests.tree.symlink(path, &target),
            };
        }
        let script = format!("{helper}{script}");
        let root = [("DPKG_ROOT", inside), ("R", inside)];
        let (status, out) = on_host(&script, folder.path(), &root);
        let (our_status, our_out, draft) = run_in(&guests, &script, "/work");
        assert_eq!((our_status, our_out), (status, out), "{script}");
        for part in ["lib/systemd", "etc/systemd", "var/lib/systemd"] {
            let host = folder.path().join(part);
            let theirs = if host.is_dir() {
                host_listing(&host)
            } else {
                Vec::new()
            };
            let there = draft
                .read_dir(&common::path(&format!("/{part}")))
                .unwrap()
                .is_some();
            let ours = if there {
                draft_listing(&draft, &format!("/{part}"), host.to_str().unwrap())
            } else {
                Vec::new()
            };
            assert_eq!(ours, theirs, "{script}");
        }
    }
}

#[test]
fn versions_compare_as_dpkg_compares_them() {
    required(&["dpkg"]);
    let versions = [
        "''",
        "0",
        "1",
        "1.0",
        "1.0-1",
        "1.0-1+deb12u1",
        "1.0~rc1-1",
        "1:0.9",
        "1.0a",
        "1.0+b",
        "1.10",
        "1.9",
        "1.0.0",
        "1.0-0",
        "0:1.0",
        "2.36-9+deb12u4",
        "2.36-9+deb12u10",
        "a1",
        "1_2",
        "1:",
        "1-",
    ];
    let mut script = String::new();
    for (index, left) in versions.iter().enumerate() {
        for right in &versions {
            let relation = [
                "lt", "le", "eq", "ne", "ge", "gt", "lt-nl", "le-nl", "gt-nl", "ge-nl", "'<<'",
                "'<'", "'>'", "'>>'",
            ]
            .get(index % 14)
            .unwrap();
            script.push_str(&format!("dpkg --compare-versions {left} {relation} {right} 2>/dev/null; echo \"$? {left} {relation} {right}\"\n"));
            script.push_str(&format!("dpkg --compare-versions {left} lt {right} 2>/dev/null; echo \"$? {left} lt {right}\"\n"));
        }
        script.push_str(&format!(
            "dpkg --validate-version {left} 2>/dev/null; echo \"$? {left}\"\n"
        ));
    }
    compare("true", &script);
}

#[test]
fn ranges_of_sed_begin_late_where_their_first_line_went_by() {
    let mut script = String::new();
    for program in [
        "1,2d;1,/4/s/^/x/",
        "1,2d;1,4s/^/x/",
        "1,3d;2,3s/^/x/",
        "1,3d;2,+1s/^/x/",
        "1,3d;0,/5/s/^/x/",
        "0,/1/s/^/x/",
        "/[35]/!d;2,/5/s/^/x/",
        "/[35]/!d;4,3s/^/x/",
        "4,2s/^/x/",
        "2,/2/s/^/x/",
        "1,/3/d;1,/5/{/^[^5]/d}",
        "2,4!s/^/x/",
    ] {
        script.push_str(&format!(
            "printf '1\\n2\\n3\\n4\\n5\\n6\\n' | sed -e '{program}'; echo --\n"
        ));
    }
    script.push_str("/bin/echo -e 'a\\nb'; /bin/echo -e plain text; /bin/echo -ne 'x\\ty'\n");
    compare("true", &script);
}
