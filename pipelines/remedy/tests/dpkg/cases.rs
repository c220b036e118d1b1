use dormouse_remedy::dpkg::Unpacking;

use crate::root::{Bench, Recipe};

fn all_done(outcomes: &[Unpacking]) {
    for outcome in outcomes {
        assert!(matches!(outcome, Unpacking::Done { .. }), "{outcome:?}");
    }
}

#[test]
fn an_upgrade_replaces_adds_and_drops_files() {
    let bench = Bench::new();
    let old = bench.build(&Recipe {
        name: "plain",
        version: "1.0-1",
        fields: "Depends: other (>= 0:1.2) | third,more:any\nSection: misc\nPriority: Optional\nHomepage: https://example.org\n",
        files: &[
            ("usr/bin/plain", "old"),
            ("usr/bin/plain-too", "= usr/bin/plain"),
            ("usr/share/doc/plain/copyright", "c"),
            ("usr/lib/plain/dropped/deep/file", "x"),
            ("usr/lib/plain/link", "-> dropped"),
            ("opt/gone/a", "a"),
        ],
        ..Recipe::default()
    });
    let new = bench.build(&Recipe {
        name: "plain",
        version: "1:1.0-2",
        fields: "Depends: other(>= 0:1.2)|third , more:any\nSection: misc\nX-Kept: yes\nInstalled-Size: 12\nProvides: p (= 3)\nEssential: no\n",
        files: &[
            ("usr/bin/plain", "new"),
            ("usr/bin/plain-too", "= usr/bin/plain"),
            ("usr/share/doc/plain/copyright", "c"),
            ("usr/share/doc/plain/NEWS", "n"),
            ("usr/lib/plain/link", "-> fresh"),
            ("usr/lib/plain/fresh/", ""),
        ],
        ..Recipe::default()
    });
    bench.force_install(&[&old]);
    all_done(&bench.compare(&[&new]));
}

#[test]
fn a_new_package_is_added_to_the_database() {
    let bench = Bench::new();
    let old = bench.build(&Recipe {
        name: "zzz",
        version: "1",
        ..Recipe::default()
    });
    let new = bench.build(&Recipe {
        name: "fresh",
        version: "2",
        files: &[("etc/fresh.conf", "a"), ("usr/bin/fresh", "b")],
        control: &[
            ("conffiles", "/etc/fresh.conf\n"),
            ("md5sums", "x\n"),
            ("triggers", "activate-noawait nobody\n"),
        ],
        ..Recipe::default()
    });
    bench.install(&[&old]);
    all_done(&bench.compare(&[&new]));
}

#[test]
fn conffiles_wait_beside_and_their_old_digests_stay() {
    let bench = Bench::new();
    let old = bench.build(&Recipe {
        name: "conf",
        version: "1",
        files: &[
            ("etc/conf/same", "same"),
            ("etc/conf/changed", "one"),
            ("etc/conf/edited", "one"),
            ("etc/conf/deleted", "one"),
            ("etc/conf/dropped", "one"),
            ("etc/conf/dropped-deleted", "one"),
            ("etc/conf/linked", "one"),
            ("etc/conf/removed", "one"),
            ("etc/conf/removed-edited", "one"),
            ("etc/conf/no-conffile-any-more", "one"),
        ],
        control: &[(
            "conffiles",
            "/etc/conf/same\n/etc/conf/changed\n/etc/conf/edited\n/etc/conf/deleted\n/etc/conf/dropped\n\
             /etc/conf/dropped-deleted\n/etc/conf/linked\n/etc/conf/removed\n/etc/conf/removed-edited\n\
             /etc/conf/no-conffile-any-more\n",
        )],
        ..Recipe::default()
    });
    let new = bench.build(&Recipe {
        name: "conf",
        version: "2",
        files: &[
            ("etc/conf/same", "same"),
            ("etc/conf/changed", "two"),
            ("etc/conf/edited", "two"),
            ("etc/conf/deleted", "two"),
            ("etc/conf/linked", "two"),
            ("etc/conf/added", "two"),
            ("etc/conf/no-conffile-any-more", "two"),
        ],
        control: &[(
            "conffiles",
            "/etc/conf/same\n/etc/conf/changed\n/etc/conf/edited\n/etc/conf/deleted\n/etc/conf/linked\n/etc/conf/added\n\
             remove-on-upgrade /etc/conf/removed\nremove-on-upgrade /etc/conf/removed-edited\n",
        )],
        ..Recipe::default()
    });
    bench.install(&[&old]);
    let root = bench.root();
    bench.write("etc/conf/edited", "mine");
    bench.write("etc/conf/removed-edited", "mine");
    std::fs::remove_file(root.join("etc/conf/deleted")).unwrap();
    std::fs::remove_file(root.join("etc/conf/dropped-deleted")).unwrap();
    std::fs::rename(root.join("etc/conf/linked"), root.join("etc/elsewhere")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", root.join("etc/conf/linked")).unwrap();
    all_done(&bench.compare(&[&new]));
}

#[test]
fn directories_and_links_take_each_other_s_places_as_in_dpkg() {
    let bench = Bench::new();
    let old = bench.build(&Recipe {
        name: "dirs",
        version: "1",
        files: &[
            ("usr/share/one/file", "a"),
            ("usr/share/two", "-> one"),
            ("usr/share/three", "a file"),
            ("usr/share/four", "-> one"),
            ("usr/share/five/file", "b"),
            ("usr/share/six", "-> nowhere"),
        ],
        ..Recipe::default()
    });
    let new = bench.build(&Recipe {
        name: "dirs",
        version: "2",
        files: &[
            ("usr/share/one/file", "a2"),
            // A directory where a link to one stands: the link stays.
            ("usr/share/two/more", "m"),
            // A directory where a file stands.
            ("usr/share/three/file", "c"),
            // Another link.
            ("usr/share/four", "-> five"),
            // A link where a directory stands: the directory stays.
            ("usr/share/five", "-> one"),
            // A directory where a dangling link stands.
            ("usr/share/six/file", "d"),
        ],
        ..Recipe::default()
    });
    bench.install(&[&old]);
    all_done(&bench.compare(&[&new]));
}

#[test]
fn merged_usr_is_followed_and_moved_files_are_not_lost() {
    let bench = Bench::new();
    let root = bench.root();
    std::fs::create_dir_all(root.join("usr/lib")).unwrap();
    std::os::unix::fs::symlink("usr/lib", root.join("lib")).unwrap();
    let old = bench.build(&Recipe {
        name: "merged",
        version: "1",
        files: &[
            ("lib/merged/a", "1"),
            ("lib/merged/b", "1"),
            ("lib/libmerged.so.1", "1"),
        ],
        ..Recipe::default()
    });
    let new = bench.build(&Recipe {
        name: "merged",
        version: "2",
        files: &[
            ("usr/lib/merged/a", "2"),
            ("usr/lib/libmerged.so.1", "2"),
            ("lib/merged/c", "2"),
        ],
        ..Recipe::default()
    });
    bench.install(&[&old]);
    all_done(&bench.compare(&[&new]));
}

#[test]
fn files_move_between_packages() {
    let bench = Bench::new();
    let one = bench.build(&Recipe {
        name: "one",
        version: "1",
        files: &[
            ("usr/bin/tool", "1"),
            ("usr/bin/stays", "1"),
            ("etc/moved.conf", "1"),
        ],
        control: &[("conffiles", "/etc/moved.conf\n")],
        ..Recipe::default()
    });
    let two = bench.build(&Recipe {
        name: "two",
        version: "1",
        files: &[("usr/bin/two", "1")],
        ..Recipe::default()
    });
    let two_new = bench.build(&Recipe {
        name: "two",
        version: "2",
        fields: "Replaces: one (<< 2)\nBreaks: one (<< 2)\n",
        files: &[
            ("usr/bin/two", "2"),
            ("usr/bin/tool", "2"),
            ("etc/moved.conf", "2"),
        ],
        control: &[("conffiles", "/etc/moved.conf\n")],
    });
    let one_new = bench.build(&Recipe {
        name: "one",
        version: "2",
        files: &[("usr/bin/stays", "2")],
        ..Recipe::default()
    });
    bench.install(&[&one, &two]);
    all_done(&bench.compare(&[&two_new, &one_new]));
    all_done(&bench.compare(&[&one_new, &two_new]));
}

#[test]
fn a_file_of_another_package_is_never_overwritten_without_leave() {
    let bench = Bench::new();
    let one = bench.build(&Recipe {
        name: "one",
        version: "1",
        files: &[("usr/bin/tool", "1")],
        ..Recipe::default()
    });
    let two = bench.build(&Recipe {
        name: "two",
        version: "1",
        files: &[("usr/bin/tool", "2")],
        ..Recipe::default()
    });
    bench.install(&[&one]);
    let ours = bench.copy("ours");
    let outcome = crate::root::unpack(&bench.root(), &ours, &[&two]);
    assert!(
        matches!(&outcome[0], Unpacking::Refused { why } if why.contains("/usr/bin/tool")),
        "{outcome:?}"
    );
    assert_eq!(std::fs::read(ours.join("usr/bin/tool")).unwrap(), b"1");
    let status = std::fs::read_to_string(ours.join("var/lib/dpkg/status")).unwrap();
    assert!(!status.contains("two"), "{status}");
}

#[test]
fn replaced_files_stay_with_whoever_replaced_them() {
    let bench = Bench::new();
    let one = bench.build(&Recipe {
        name: "one",
        version: "1",
        files: &[("usr/bin/tool", "1"), ("usr/bin/one", "1")],
        ..Recipe::default()
    });
    let two = bench.build(&Recipe {
        name: "two",
        version: "1",
        fields: "Replaces: one\n",
        files: &[("usr/bin/tool", "2")],
        ..Recipe::default()
    });
    let one_new = bench.build(&Recipe {
        name: "one",
        version: "2",
        files: &[("usr/bin/tool", "3"), ("usr/bin/one", "3")],
        ..Recipe::default()
    });
    bench.install(&[&one]);
    bench.install(&[&two]);
    all_done(&bench.compare(&[&one_new]));
}

#[test]
fn a_package_without_files_left_disappears() {
    let bench = Bench::new();
    let one = bench.build(&Recipe {
        name: "one",
        version: "1",
        files: &[("usr/bin/one", "1"), ("etc/one.conf", "1")],
        control: &[("conffiles", "/etc/one.conf\n")],
        ..Recipe::default()
    });
    let two = bench.build(&Recipe {
        name: "two",
        version: "1",
        fields: "Replaces: one\nProvides: one\n",
        files: &[("usr/bin/one", "2"), ("etc/one.conf", "2")],
        control: &[("conffiles", "/etc/one.conf\n")],
    });
    bench.install(&[&one]);
    let outcome = bench.compare(&[&two]);
    assert!(
        matches!(&outcome[0], Unpacking::Done { disappeared, .. } if disappeared == &["one"]),
        "{outcome:?}"
    );
}

#[test]
fn diversions_and_overrides_are_honoured() {
    let bench = Bench::new();
    let old = bench.build(&Recipe {
        name: "div",
        version: "1",
        files: &[
            ("usr/bin/mine", "1"),
            ("usr/bin/theirs", "1"),
            ("usr/bin/mail", "1"),
            ("usr/bin/dropped", "1"),
        ],
        ..Recipe::default()
    });
    let new = bench.build(&Recipe {
        name: "div",
        version: "2",
        files: &[
            ("usr/bin/mine", "2"),
            ("usr/bin/theirs", "2"),
            ("usr/bin/mail", "2"),
            ("usr/spool/", ""),
        ],
        ..Recipe::default()
    });
    bench.install(&[&old]);
    let root = bench.root();
    for name in ["theirs", "dropped"] {
        std::fs::rename(
            root.join(format!("usr/bin/{name}")),
            root.join(format!("usr/bin/{name}.distrib")),
        )
        .unwrap();
        bench.write(&format!("usr/bin/{name}"), "the administrator's");
    }
    bench.write(
        "var/lib/dpkg/diversions",
        "/usr/bin/theirs\n/usr/bin/theirs.distrib\n:\n/usr/bin/mine\n/usr/bin/mine.other\ndiv\n\
         /usr/bin/dropped\n/usr/bin/dropped.distrib\n:\n",
    );
    bench.write(
        "var/lib/dpkg/statoverride",
        "root mail 2755 /usr/bin/mail\nmail #8 1770 /usr/spool\n",
    );
    all_done(&bench.compare(&[&new]));
}

#[test]
fn triggers_pend_and_are_awaited() {
    let bench = Bench::new();
    let watcher = bench.build(&Recipe {
        name: "watcher",
        version: "1",
        control: &[(
            "triggers",
            "interest-noawait /usr/share/watched\ninterest /usr/share/strict\ninterest explicit\n",
        )],
        files: &[("usr/bin/watcher", "1")],
        ..Recipe::default()
    });
    let second = bench.build(&Recipe {
        name: "second",
        version: "1",
        fields: "Multi-Arch: same\n",
        control: &[(
            "triggers",
            "interest /usr/share/strict\ninterest-noawait explicit\n",
        )],
        files: &[("usr/bin/second", "1")],
    });
    let old = bench.build(&Recipe {
        name: "acts",
        version: "1",
        control: &[("triggers", "activate explicit\n")],
        files: &[
            ("usr/share/strict/dropped", "1"),
            ("usr/share/watched/a/b", "1"),
        ],
        ..Recipe::default()
    });
    let new = bench.build(&Recipe {
        name: "acts",
        version: "2",
        control: &[("triggers", "activate-noawait explicit\n")],
        files: &[
            ("usr/share/watched/a/b", "2"),
            ("usr/share/strict/x/y", "1"),
        ],
        ..Recipe::default()
    });
    let watcher_new = bench.build(&Recipe {
        name: "watcher",
        version: "2",
        control: &[(
            "triggers",
            "interest-noawait /usr/share/watched\ninterest /usr/share/new\n",
        )],
        files: &[("usr/bin/watcher", "2")],
        ..Recipe::default()
    });
    bench.install(&[&watcher, &second, &old]);
    all_done(&bench.compare(&[&new]));
    all_done(&bench.compare(&[&watcher_new]));
    all_done(&bench.compare(&[&new, &watcher_new]));
    all_done(&bench.compare(&[&watcher_new, &new]));
}

#[test]
fn architectures_of_one_package_share_files() {
    let bench = Bench::new();
    bench.write("var/lib/dpkg/arch", "amd64\ni386\n");
    let recipe = |version: &'static str, architecture: &'static str, text: &'static str| {
        bench.build(&Recipe {
            name: "libshared",
            version,
            fields: architecture,
            files: Box::leak(Box::new([("usr/share/doc/libshared/copyright", text)])),
            ..Recipe::default()
        })
    };
    let amd64 = "Architecture: amd64\nMulti-Arch: same\n";
    let i386 = "Architecture: i386\nMulti-Arch: same\n";
    let old = [recipe("1", amd64, "1"), recipe("1", i386, "1")];
    let new = [recipe("2", amd64, "2"), recipe("2", i386, "2")];
    bench.install(&[&old[0], &old[1]]);
    all_done(&bench.compare(&[&new[0], &new[1]]));
    all_done(&bench.compare(&[&new[1], &new[0]]));
}

#[test]
fn a_package_that_becomes_multi_arch_same_takes_its_new_names() {
    let bench = Bench::new();
    let old = bench.build(&Recipe {
        name: "turns",
        version: "1",
        files: &[("usr/bin/turns", "1")],
        control: &[
            ("md5sums", "a\n"),
            ("shlibs", "x\n"),
            ("triggers", "interest /usr/share/turns\n"),
        ],
        ..Recipe::default()
    });
    let new = bench.build(&Recipe {
        name: "turns",
        version: "2",
        fields: "Multi-Arch: same\n",
        files: &[("usr/bin/turns", "2")],
        control: &[
            ("symbols", "x\n"),
            ("triggers", "interest /usr/share/turns\n"),
        ],
    });
    bench.install(&[&old]);
    all_done(&bench.compare(&[&new]));
}

#[test]
fn excluded_paths_stay_away() {
    let bench = Bench::new();
    let old = bench.build(&Recipe {
        name: "docs",
        version: "1",
        files: &[("usr/share/doc/docs/README", "1"), ("usr/bin/docs", "1")],
        ..Recipe::default()
    });
    let new = bench.build(&Recipe {
        name: "docs",
        version: "2",
        files: &[
            ("usr/share/doc/docs/README", "2"),
            ("usr/share/doc/docs/copyright", "2"),
            ("usr/bin/docs", "2"),
            ("usr/share/man/man1/docs.1", "2"),
        ],
        ..Recipe::default()
    });
    bench.install(&[&old]);
    bench.compare_with(
        &[&new],
        "path-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\npath-exclude=/usr/share/man/*\n",
    );
}
