//! `openssl rehash` held against openssl itself, on the certificates of this host and on made-up ones.
#![allow(
    clippy::disallowed_methods,
    reason = "tests write folders of their own and run the oracle"
)]
#![allow(missing_docs, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use dormouse_block::{Error, GuestPath};
use dormouse_filesystem::{Follow, Guest, MemoryTree, Time};
use dormouse_overlay::{Draft, DraftNode};
use dormouse_scripts::{Call, Limits, Outcome, ScriptName, World, run};

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| panic!("cannot run openssl, which this test needs: {error}"));
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn links(folder: &Path) -> BTreeMap<String, String> {
    fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let target = fs::read_link(entry.path()).ok()?;
            Some((
                entry.file_name().into_string().unwrap(),
                target.to_str().unwrap().to_owned(),
            ))
        })
        .collect()
}

fn ours(folder: &Path) -> BTreeMap<String, String> {
    let mut tree = MemoryTree::new();
    tree.file("/usr/bin/openssl", b"")
        .with(|metadata| metadata.mode = 0o755);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("/certs/{}", path.file_name().unwrap().to_str().unwrap());
        match fs::read_link(&path) {
            Ok(target) => tree.symlink(&name, target.to_str().unwrap()),
            Err(_) => tree.file(&name, &fs::read(&path).unwrap()),
        };
    }
    let mut draft = Draft::new(
        Arc::new(Guest::of(tree)),
        Arc::new(|_, _, _| Err(Error::corrupt("no payloads here"))),
    );
    let call = Call {
        script: b"#!/bin/sh\nset -e\ncd /certs\nopenssl rehash . >/dev/null\n",
        name: ScriptName::Postinst,
        arguments: vec!["configure".into()],
        package: "ca-certificates",
        architecture: "all",
        environment: Vec::new(),
        dpkg_version: "1.21.22",
        now: Time::default(),
    };
    let outcome = run(&call, &mut draft, &World::default(), &Limits::default());
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    let certs = GuestPath::new("/certs").unwrap();
    draft
        .read_dir(&certs)
        .unwrap()
        .unwrap()
        .into_iter()
        .filter_map(|name| {
            let found = draft
                .get(&certs.join(&name).unwrap(), Follow::No)
                .unwrap()
                .unwrap();
            let DraftNode::Symlink(target) = found.node else {
                return None;
            };
            Some((
                String::from_utf8(name).unwrap(),
                String::from_utf8(target).unwrap(),
            ))
        })
        .collect()
}

fn compare(folder: &Path) {
    let found = ours(folder);
    openssl(folder, &["rehash", "."]);
    assert_eq!(found, links(folder));
    assert!(!found.is_empty());
}

#[test]
fn real_certificates_get_the_links_that_openssl_gives_them() {
    let folder = tempfile::tempdir().unwrap();
    let real = Path::new("/usr/share/ca-certificates/mozilla");
    let mut number = 0;
    let names = fs::read_dir(real)
        .unwrap_or_else(|error| panic!("this test needs the package ca-certificates: {error}"));
    for entry in names {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        fs::copy(&path, folder.path().join(format!("{name}.pem"))).unwrap();
        number += 1;
    }
    assert!(number > 50);
    fs::write(folder.path().join("README.txt"), "no certificate").unwrap();
    compare(folder.path());
    // Links that are right stay, and those to what is gone go.
    let (gone, kept) = {
        let all = links(folder.path());
        let mut all = all.into_iter();
        (all.next().unwrap(), all.next().unwrap())
    };
    fs::remove_file(folder.path().join(&gone.1)).unwrap();
    fs::remove_file(folder.path().join(&kept.0)).unwrap();
    compare(folder.path());
}

#[test]
fn names_of_every_kind_are_hashed_alike() {
    let folder = tempfile::tempdir().unwrap();
    let subjects = [
        "/C=DE/O=Some   Org/CN=  Blanks  within ",
        "/CN=Same/O=Twin",
        "/CN=same/O=TWIN",
        "/C=US/ST=Ünïcode/CN=Größe",
        "/CN=plus+OU=multi/O=x",
        "/emailAddress=Root@Example.org/CN=mail",
    ];
    for (number, subject) in subjects.iter().enumerate() {
        for kind in ["utf8only", "default"] {
            let name = format!("{number}-{kind}.pem");
            let configuration = format!("[req]\ndistinguished_name=dn\nstring_mask={kind}\n[dn]\n");
            fs::write(folder.path().join("openssl.cnf"), configuration).unwrap();
            openssl(
                folder.path(),
                &[
                    "req",
                    "-config",
                    "openssl.cnf",
                    "-x509",
                    "-newkey",
                    "rsa:1024",
                    "-nodes",
                    "-keyout",
                    "key",
                    "-out",
                    &name,
                    "-days",
                    "1",
                    "-utf8",
                    "-multivalue-rdn",
                    "-subj",
                    subject,
                ],
            );
        }
    }
    // Two in one file are none, and the same one twice has one link.
    let one = fs::read(folder.path().join("0-utf8only.pem")).unwrap();
    fs::write(
        folder.path().join("bundle.crt"),
        [one.clone(), one.clone()].concat(),
    )
    .unwrap();
    fs::write(folder.path().join("twice.CER"), one).unwrap();
    fs::remove_file(folder.path().join("key")).unwrap();
    compare(folder.path());
}
