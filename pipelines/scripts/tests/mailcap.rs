//! `update-mime` held against the program itself: the host's, or the one that `DORMOUSE_UPDATE_MIME` names, so that each
//! known text can be asked. And `linux-run-hooks`, as kernels call it.
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail by panicking, prepares files of its own and asks programs of the host"
)]

mod common;

use std::fs;
use std::process::Command;

use common::{Guests, call, path, world};
use dormouse_scripts::{Limits, Outcome, run};

/// A mailcap file as the package ships it, with a user's own entry, and words that the program corrects.
const MAILCAP: &str = "# made by install-mime, as install-mime does\n\
    # ----- User Section Begins ----- #\n\
    text/mine; mine %s\n\
    # -----  User Section Ends  ----- #\n\
    \n\
    old/entry; gone\n";

const FILES: &[(&str, &str)] = &[
    ("etc/mailcap", MAILCAP),
    (
        "etc/mailcap.order",
        "# nothing but a comment\n\n   # another\n",
    ),
    (
        "usr/lib/mime/packages/unzip",
        "application/zip; unzip -l %s; copiousoutput\n\n  # a comment\ntext/*; class %s; priority=7\n*/*; all %s; PRIORITY = 7 ;\n",
    ),
    (
        "usr/lib/mime/packages/vim",
        "text/plain; vim %s; needsterminal; priority=2\ntext/x; a; priority = 12; b\ntext/y; b; priority=3;  \ntext/z; c; priority=4; d ; \nno type at all\n\
         text/q; priority=;x\ntext/r; xpriority=8x\ntext/s; Priority=9\ntext/last; no end of line",
    ),
    ("usr/lib/mime/packages/.hidden", "text/hidden; x\n"),
    ("usr/lib/mime/packages/saved~", "text/saved; x\n"),
    ("usr/lib/mime/packages/#saved", "text/saved; y\n"),
    (
        "usr/share/applications/viewer.desktop",
        "[Desktop Entry]\nName=The Viewer\nName[de]=Der Betrachter\nIcon=eye\nTryExec=/usr/bin/viewer\nExec=viewer %i -T %c %U\n\
         Terminal=false\nMimeType=image/png;image/jpeg ; image/gif;;image/x-icon\n[Desktop Action New]\nName=Other\nExec=other\nMimeType=image/other;\n",
    ),
    (
        "usr/share/applications/kde/term.desktop",
        "# comment\n[Desktop Entry]\nExec=sh -c 'a; b\\\\; c\\\\\\\\; d'\nTerminal=true\nmimetype=text/term;\n",
    ),
    (
        "usr/share/applications/vim.desktop",
        "[Desktop Entry]\nExec=gvim\nMimeType=text/vim\n",
    ),
    (
        "usr/share/applications/none.desktop",
        "[Desktop Entry]\nExec=none\nMimeType=\n",
    ),
    (
        "usr/share/applications/late.desktop",
        "Exec=outside\nMimeType=text/outside\n[Desktop Entry]\nGenericExec=odd %f\nTryExec=odd\n  MimeType=text/odd\n",
    ),
    (
        "usr/share/applications/readme.txt",
        "Exec=x\nMimeType=text/readme\n",
    ),
];

/// What the program makes of these files: it runs with its constants turned to a folder of ours.
fn theirs(program: &str) -> String {
    // The program passes over what is below a hidden folder.
    let folder = tempfile::Builder::new()
        .prefix("mailcap")
        .tempdir()
        .unwrap();
    for (name, text) in FILES {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let root = folder.path().to_str().unwrap();
    let turned = ["/etc/", "/usr/lib/", "/usr/share/"]
        .iter()
        .fold(program.to_owned(), |text, place| {
            text.replace(&format!("\"{place}"), &format!("\"{root}{place}"))
        });
    let script = folder.path().join("program");
    fs::write(&script, turned).unwrap();
    let output = Command::new("perl").arg(&script).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    fs::read_to_string(folder.path().join("etc/mailcap")).unwrap()
}

fn guest(program: &str) -> Guests {
    let mut guests = Guests::plain();
    for (name, text) in FILES {
        guests.tree.file(&format!("/{name}"), text.as_bytes());
    }
    guests
        .tree
        .file("/usr/sbin/update-mime", program.as_bytes())
        .with(|metadata| metadata.mode = 0o755);
    guests
}

fn after(guests: &Guests, script: &str) -> Result<Vec<u8>, String> {
    let mut draft = guests.draft();
    let script = format!("#!/bin/sh\nset -e\n{script}\n");
    match run(
        &call(script.as_bytes()),
        &mut draft,
        &world(),
        &Limits::default(),
    ) {
        Outcome::Done(_) => Ok(draft.read(&path("/etc/mailcap"), 1 << 20).unwrap().unwrap()),
        Outcome::Deferred(deferral) => Err(deferral.to_string()),
    }
}

fn program() -> String {
    common::required(&["perl"]);
    let place = std::env::var("DORMOUSE_UPDATE_MIME").unwrap_or("/usr/sbin/update-mime".into());
    fs::read_to_string(&place)
        .unwrap_or_else(|error| panic!("{place}, of the package mailcap, is required: {error}"))
}

#[test]
fn the_mailcap_file_is_the_one_that_update_mime_makes() {
    let program = program();
    let wanted = theirs(&program);
    assert!(wanted.contains("image/x-icon"), "{wanted}");
    let guests = guest(&program);
    for call in ["update-mime", "update-mime --triggered"] {
        let made = String::from_utf8(after(&guests, call).unwrap()).unwrap();
        assert_eq!(made, wanted);
    }
    // As packages' scripts of old call it.
    let untouched = after(&guests, "update-mime --quiet").unwrap();
    assert_eq!(untouched, MAILCAP.as_bytes());
}

#[test]
fn another_program_a_configuration_and_an_order_are_not_interpreted() {
    let program = program();
    let refused = after(&guest("#!/usr/bin/perl\nexit 0;\n"), "update-mime").unwrap_err();
    assert!(refused.contains("another version"), "{refused}");
    let mut guests = guest(&program);
    guests.tree.file("/etc/mailcap.order", b"vim:text/plain\n");
    let refused = after(&guests, "update-mime").unwrap_err();
    assert!(refused.contains("order"), "{refused}");
    let mut guests = guest(&program);
    guests.tree.file("/etc/update-mime.conf", b"$debug = 1;\n");
    let refused = after(&guests, "update-mime").unwrap_err();
    assert!(refused.contains("configuration"), "{refused}");
}

#[test]
fn kernels_hooks_run_in_order_with_their_arguments() {
    let mut guests = guest("");
    guests
        .tree
        .file("/usr/bin/linux-run-hooks", b"#!/usr/bin/perl\n")
        .with(|metadata| metadata.mode = 0o755);
    let call = "linux-run-hooks image preinst 6.12.1 /boot/vmlinuz-6.12.1 -- install 6.12.1";
    assert_eq!(after(&guests, call).unwrap(), MAILCAP.as_bytes());
    for (name, word) in [
        ("a-first", "one"),
        ("b-second", "two"),
        ("c.dpkg-old", "three"),
    ] {
        let hook = format!("#!/bin/sh\necho {word} $1 $2 $DEB_MAINT_PARAMS >> /etc/mailcap\n");
        guests
            .tree
            .file(&format!("/etc/kernel/preinst.d/{name}"), hook.as_bytes())
            .with(|metadata| metadata.mode = 0o755);
    }
    let made = after(&guests, call).unwrap();
    let wanted = format!(
        "{MAILCAP}one 6.12.1 /boot/vmlinuz-6.12.1 install 6.12.1\ntwo 6.12.1 /boot/vmlinuz-6.12.1 install 6.12.1\n"
    );
    assert_eq!(String::from_utf8(made).unwrap(), wanted);
    guests
        .tree
        .file("/usr/share/kernel/preinst.d/other", b"#!/bin/sh\n");
    let refused = after(&guests, call).unwrap_err();
    assert!(refused.contains("two folders"), "{refused}");
}
