//! Which signatures count, with gpg as the signer and gpgv as the oracle.

use crate::archive::{Archive, Gnupg, SUITE, gpgv_accepts};
use dormouse_advisories::Keyring;
use dormouse_block::ErrorKind;

const NOW: &str = "2026-01-02T00:00:00Z";

#[test]
fn good_signatures_count_and_tampered_text_does_not_as_gpgv_says() {
    let gnupg = Gnupg::new();
    let (archive, packages) = Archive::new();
    archive.publish(&packages, &[""], "");
    for algorithm in ["ed25519", "rsa2048", "nistp256"] {
        let name = format!("{algorithm}@test.example");
        let fingerprint = gnupg.key(&name, algorithm, "2026-01-01", "2y");
        archive.sign(&gnupg, "2026-01-01", &[&name], &[]);
        let signed = archive.suite_path("InRelease");
        let keys = gnupg.export(&name);
        assert!(
            gpgv_accepts(&keys, &[&signed], archive.folder.path()),
            "{algorithm}"
        );
        let repository = archive.open(&gnupg.keyring(&name), NOW).unwrap();
        let suite = &repository.suites()[0];
        assert_eq!(suite.name(), SUITE);
        assert_eq!(suite.signers[0].primary, fingerprint);
        assert_eq!(
            suite.signers[0].signed_at.to_string(),
            "2026-01-01T12:00:00Z"
        );

        let text = std::fs::read_to_string(&signed).unwrap();
        for (from, to) in [
            ("Label: Test", "Label: Best"),
            ("Date: Thu", "Date: Fri"),
            ("SHA256:\n ", "SHA256:\n  "),
        ] {
            std::fs::write(&signed, text.replacen(from, to, 1)).unwrap();
            assert!(
                !gpgv_accepts(&keys, &[&signed], archive.folder.path()),
                "{from}"
            );
            let error = archive.open(&gnupg.keyring(&name), NOW).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
            assert!(error.to_string().contains("InRelease"), "{error}");
        }
        // What stands outside the signed part is no part of it, and not passed over either.
        for text in [
            format!("Suite: evil\n\n{text}"),
            format!("{text}\nSuite: evil\n"),
        ] {
            std::fs::write(&signed, text).unwrap();
            assert!(archive.open(&gnupg.keyring(&name), NOW).is_err());
        }
    }
}

#[test]
fn a_detached_signature_counts_armored_or_binary() {
    let gnupg = Gnupg::new();
    let (archive, packages) = Archive::new();
    archive.publish(&packages, &[".xz"], "");
    gnupg.key("one", "ed25519", "2026-01-01", "2y");
    gnupg.key("two", "rsa2048", "2026-01-01", "2y");
    let (release, signature) = (
        archive.suite_path("Release"),
        archive.suite_path("Release.gpg"),
    );
    for armor in ["--armor", "--no-armor"] {
        let paths = [signature.to_str().unwrap(), release.to_str().unwrap()];
        let arguments = [
            armor,
            "--detach-sign",
            "--local-user",
            "one",
            "--local-user",
            "two",
            "--output",
        ];
        gnupg.ok("2026-01-01", &[&arguments[..], &paths[..]].concat());
        let keys = [gnupg.export("one"), gnupg.export("two")].concat();
        assert!(gpgv_accepts(
            &keys,
            &[&signature, &release],
            archive.folder.path()
        ));
        let both = Keyring::parse(&keys).unwrap();
        assert_eq!(
            archive.open(&both, NOW).unwrap().suites()[0].signers.len(),
            2
        );
        // One good signature by a trusted key is enough; the other's key need not be known.
        assert_eq!(
            archive.open(&gnupg.keyring("two"), NOW).unwrap().suites()[0]
                .signers
                .len(),
            1
        );
    }
    let text = std::fs::read(&release).unwrap();
    std::fs::write(&release, [&text[..], b" "].concat()).unwrap();
    assert_eq!(
        archive.open(&gnupg.keyring("one"), NOW).unwrap_err().kind(),
        ErrorKind::Denied
    );
    std::fs::remove_file(&signature).unwrap();
    let error = archive.open(&gnupg.keyring("one"), NOW).unwrap_err();
    assert!(error.to_string().contains("not signed"), "{error}");
}

#[test]
fn keys_that_are_strange_expired_or_revoked_do_not_count() {
    let gnupg = Gnupg::new();
    let (archive, packages) = Archive::new();
    archive.publish(&packages, &[""], "");
    gnupg.key("stranger", "ed25519", "2026-01-01", "2y");
    gnupg.key("short", "ed25519", "2026-01-01", "10d");
    let revoked = gnupg.key("gone", "ed25519", "2026-01-01", "2y");
    let refused = |keyring: &Keyring, as_of: &str, why: &str| {
        let error = archive.open(keyring, as_of).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains(why), "{error}");
    };

    archive.sign(&gnupg, "2026-01-01", &["short"], &[]);
    refused(&gnupg.keyring("stranger"), NOW, "not in the keyring");
    refused(&Keyring::default(), NOW, "not in the keyring");
    assert!(archive.open(&gnupg.keyring("short"), NOW).is_ok());
    refused(
        &gnupg.keyring("short"),
        "2026-01-12T00:00:00Z",
        "has expired",
    );
    // As of an instant before the signature the key was good when it signed; that the snapshot is newer is a gap.
    let early = archive
        .open(&gnupg.keyring("short"), "2025-06-01T00:00:00Z")
        .unwrap();
    assert!(
        early
            .gaps()
            .iter()
            .any(|gap| gap.why.contains("after") && !gap.may_hide_packages)
    );

    archive.sign(&gnupg, "2026-01-01", &["gone"], &[]);
    assert!(archive.open(&gnupg.keyring("gone"), NOW).is_ok());
    let certificate = archive.path("revocation.asc");
    let ready = gnupg.home().join(format!("openpgp-revocs.d/{revoked}.rev"));
    let text = std::fs::read_to_string(ready).unwrap();
    std::fs::write(&certificate, text.replace(":-----BEGIN", "-----BEGIN")).unwrap();
    gnupg.ok("2026-01-01", &["--import", certificate.to_str().unwrap()]);
    refused(&gnupg.keyring("gone"), NOW, "revoked");
}

#[test]
fn weak_digests_and_expired_signatures_do_not_count() {
    let gnupg = Gnupg::new();
    let (archive, packages) = Archive::new();
    archive.publish(&packages, &[""], "");
    gnupg.key("one", "rsa2048", "2026-01-01", "2y");
    archive.sign(
        &gnupg,
        "2026-01-01",
        &["one"],
        &["--digest-algo", "SHA1", "--allow-weak-digest-algos"],
    );
    let text = std::fs::read_to_string(archive.suite_path("InRelease")).unwrap();
    assert!(
        text.contains("Hash: SHA1"),
        "the test's own signature is weak"
    );
    let error = archive.open(&gnupg.keyring("one"), NOW).unwrap_err();
    assert!(error.to_string().contains("too weak"), "{error}");

    archive.sign(
        &gnupg,
        "2026-01-01",
        &["one"],
        &["--default-sig-expire", "5d"],
    );
    assert!(archive.open(&gnupg.keyring("one"), NOW).is_ok());
    let error = archive
        .open(&gnupg.keyring("one"), "2026-01-07T00:00:00Z")
        .unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
}

#[test]
fn signing_subkeys_count_while_they_are_bound_and_alive() {
    let gnupg = Gnupg::new();
    let (archive, packages) = Archive::new();
    archive.publish(&packages, &[""], "");
    gnupg.ok(
        "2026-01-01",
        &["--quick-generate-key", "main", "rsa2048", "cert", "2y"],
    );
    let listing =
        String::from_utf8(gnupg.ok("2026-01-01", &["--with-colons", "--list-keys", "main"]))
            .unwrap();
    let primary = listing
        .lines()
        .find_map(|line| line.strip_prefix("fpr:"))
        .unwrap()
        .trim_matches(':');
    gnupg.ok(
        "2026-01-01",
        &["--quick-add-key", primary, "ed25519", "sign", "10d"],
    );
    archive.sign(&gnupg, "2026-01-01", &["main"], &[]);
    let keyring = gnupg.keyring("main");
    let repository = archive.open(&keyring, NOW).unwrap();
    let signer = &repository.suites()[0].signers[0];
    assert_eq!(signer.primary, primary);
    assert_ne!(signer.key, primary);
    let error = archive.open(&keyring, "2026-01-12T00:00:00Z").unwrap_err();
    assert!(error.to_string().contains("subkey has expired"), "{error}");
}

#[test]
fn keyrings_are_read_armored_and_refused_when_they_hold_no_key() {
    let gnupg = Gnupg::new();
    gnupg.key("one", "ed25519", "2026-01-01", "2y");
    gnupg.key("two", "ed25519", "2026-01-01", "2y");
    let armored = [
        gnupg.ok("2026-01-01", &["--armor", "--export", "one"]),
        b"a note between the blocks\n".to_vec(),
        gnupg.ok("2026-01-01", &["--armor", "--export", "two"]),
    ]
    .concat();
    assert_eq!(Keyring::parse(&armored).unwrap().fingerprints().len(), 2);
    assert_eq!(
        Keyring::parse(&gnupg.ok("2026-01-01", &["--export"]))
            .unwrap()
            .fingerprints()
            .len(),
        2
    );
    for bytes in [
        &b""[..],
        b"no key",
        b"\x99\x01",
        b"\0\0\0\x20\x01\x01\0\x02KBXf\0\0\0\0",
        &armored[..200],
    ] {
        assert!(Keyring::parse(bytes).is_err(), "{bytes:?}");
    }
    let error = Keyring::read("/nonexistent/keyring.gpg".as_ref()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}
