//! Signatures beside feeds, digests of a repository's index, and what is kept of a feed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use dormouse_advisories::{Advisories, FeedAccess, FeedKind, FeedSignature, IndexCache, Keyring};
use dormouse_block::ErrorKind;

use crate::{fixture, read};

fn gpg(home: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("gpg")
        .env("GNUPGHOME", home)
        .args([
            "--batch",
            "--quiet",
            "--yes",
            "--passphrase",
            "",
            "--pinentry-mode",
            "loopback",
        ])
        .args(arguments)
        .output()
        .expect("this test needs gpg");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "gpg {arguments:?}: {errors}");
    output.stdout
}

const FEED: &str = "[01 Jan 2026] DSA-1 openssl - security update\n\t{CVE-2026-0001}\n\t[bookworm] - openssl 3.0.2-1\n";

#[test]
fn a_bad_signature_beside_a_feed_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let made = [
        "--quick-gen-key",
        "Feed <feed@example.org>",
        "ed25519",
        "sign",
        "never",
    ];
    gpg(home.path(), &made);
    let keyring = Keyring::parse(&gpg(home.path(), &["--export"])).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list");
    std::fs::write(&path, FEED).unwrap();
    let access = |keyring| FeedAccess {
        keyring,
        as_of: jiff::Timestamp::now(),
        cache: None,
    };
    let state = |keyring| {
        Advisories::read_with(std::slice::from_ref(&path), &access(keyring))
            .map(|advisories| advisories.feeds()[0].signature.clone())
    };
    assert_eq!(state(Some(&keyring)).unwrap(), FeedSignature::Unsigned);
    for (suffix, how) in [
        ("asc", "--armor"),
        ("sig", "--no-armor"),
        ("gpg", "--no-armor"),
    ] {
        let name = format!("{}.{suffix}", path.display());
        gpg(
            home.path(),
            &[
                "--detach-sign",
                how,
                "--output",
                &name,
                path.to_str().unwrap(),
            ],
        );
        let FeedSignature::Good { signers } = state(Some(&keyring)).unwrap() else {
            panic!("{suffix}");
        };
        assert_eq!(signers.len(), 1);
        assert_eq!(state(None).unwrap(), FeedSignature::Unchecked);
        // Given as a folder, the signature is none of its feeds.
        let whole =
            Advisories::read_with(&[folder.path().to_owned()], &access(Some(&keyring))).unwrap();
        assert_eq!((whole.feeds().len(), whole.feeds()[0].other_files), (1, 1));
        std::fs::write(&path, FEED.replace("3.0.2-1", "3.0.1-1")).unwrap();
        let error = state(Some(&keyring)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{suffix}");
        assert!(error.to_string().contains("list"), "{error}");
        std::fs::write(&path, FEED).unwrap();
        std::fs::remove_file(&name).unwrap();
    }
}

#[test]
fn updateinfo_is_what_its_index_says_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("repodata");
    std::fs::create_dir(&inner).unwrap();
    let text = "<updates><update type='security'><id>ALSA-1</id><issued date='2026-01-01'/></update></updates>";
    std::fs::write(inner.join("1-updateinfo.xml"), text).unwrap();
    std::fs::write(inner.join("primary.xml"), "<metadata/>").unwrap();
    let sum = |text: &str| dormouse_block::Digest::of(text).hex();
    let index = |digest: &str| {
        let text = format!(
            "<repomd><data type='primary'><location href='repodata/primary.xml'/></data><data type='updateinfo'>\
             <checksum type='sha256'>{digest}</checksum><location href='repodata/1-updateinfo.xml'/></data></repomd>"
        );
        std::fs::write(inner.join("repomd.xml"), text).unwrap();
    };
    index(&sum(text));
    for path in [folder.path(), &inner] {
        let advisories = read(path);
        assert_eq!(advisories.feeds().len(), 1);
        assert_eq!(advisories.feeds()[0].kind, FeedKind::UpdateInfo);
        assert_eq!(advisories.feeds()[0].name, "1-updateinfo.xml");
    }
    index(&sum("another"));
    let error = Advisories::read(&[folder.path().to_owned()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    // An index of 2008 states SHA-1, which speaks for nothing; its feed is read all the same.
    let old = read(&fixture("updateinfo/libzypp-Delta"));
    assert_eq!(old.feeds()[0].signature, FeedSignature::Unsigned);
}

#[test]
fn a_feed_is_compiled_once() {
    let kept = RefCell::new(BTreeMap::<String, Vec<u8>>::new());
    let loads = RefCell::new(0);
    let load = |name: &str| {
        *loads.borrow_mut() += 1;
        kept.borrow().get(name).cloned()
    };
    let save = |name: &str, parts: &[&[u8]]| {
        assert!(
            kept.borrow_mut()
                .insert(name.to_owned(), parts.concat())
                .is_none(),
            "{name} again"
        );
    };
    let access = FeedAccess {
        cache: Some(IndexCache {
            load: &load,
            save: &save,
        }),
        ..FeedAccess::default()
    };
    let paths = [
        fixture("osv-almalinux/alsa-8-9-to-2023.tar.zst"),
        fixture("oval/azurelinux-3.0-oval.xml.zst"),
    ];
    let first = Advisories::read_with(&paths, &access).unwrap();
    let second = Advisories::read_with(&paths, &access).unwrap();
    assert_eq!(kept.borrow().len(), 2);
    assert_eq!(*loads.borrow(), 4);
    assert_eq!(first.feeds(), second.feeds());
    assert!(first.statements().eq(second.statements()));
    // What is damaged there is compiled again.
    let names: Vec<String> = kept.borrow().keys().cloned().collect();
    for name in &names {
        let mut bytes = kept.borrow_mut().remove(name).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        kept.borrow_mut().insert(name.clone(), bytes);
    }
    let broken = RefCell::new(kept.borrow().clone());
    let load = |name: &str| broken.borrow().get(name).cloned();
    let saved = RefCell::new(0);
    let save = |_: &str, _: &[&[u8]]| *saved.borrow_mut() += 1;
    let access = FeedAccess {
        cache: Some(IndexCache {
            load: &load,
            save: &save,
        }),
        ..FeedAccess::default()
    };
    let third = Advisories::read_with(&paths, &access).unwrap();
    assert_eq!(*saved.borrow(), 2);
    assert!(third.statements().eq(first.statements()));
}
