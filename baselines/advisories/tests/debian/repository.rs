//! Repositories: indices and payloads are believed as far as digests reach, and nothing outside the folder is read.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::archive::{Archive, COMPRESSIONS, Gnupg, SUITE, instant, walk};
use dormouse_advisories::{Keyring, Repository, Selection, Suite};
use dormouse_block::{Digest, ErrorKind};
use dormouse_packages::dpkg::RelationField;

const NOW: &str = "2026-01-02T00:00:00Z";

fn signed(present: &[&str], more_fields: &str) -> (Archive, Keyring) {
    let gnupg = Gnupg::new();
    let (archive, packages) = Archive::new();
    archive.publish(&packages, present, more_fields);
    gnupg.key("one", "ed25519", "2026-01-01", "2y");
    archive.sign(&gnupg, "2026-01-01", &["one"], &[]);
    (archive, gnupg.keyring("one"))
}

/// The fields of a package file, as dpkg-deb reads them.
fn dpkg_deb(file: &Path) -> BTreeMap<String, String> {
    let output = Command::new("dpkg-deb")
        .arg("-f")
        .arg(file)
        .output()
        .expect("this test needs dpkg-deb");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let fields = text.lines().filter(|line| !line.starts_with(' '));
    fields
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn packages_read_as_dpkg_deb_reads_them_from_every_compression() {
    let mut seen = Vec::new();
    let mut controls = BTreeMap::new();
    for suffix in COMPRESSIONS {
        let (archive, keyring) = signed(&[suffix], "");
        let repository = archive.open(&keyring, NOW).unwrap();
        assert_eq!(repository.gaps(), [], "{suffix}");
        let suite = &repository.suites()[0];
        assert_eq!(
            suite.indices[0].path,
            format!("dists/{SUITE}/main/binary-amd64/Packages{suffix}")
        );
        let debs = walk(&archive.path("pool"));
        assert_eq!(repository.packages().unwrap().len(), debs.len());
        for package in &repository.packages().unwrap() {
            let control: &BTreeMap<_, _> = controls
                .entry(package.filename.clone())
                .or_insert_with(|| dpkg_deb(&archive.path(&package.filename)));
            let theirs = |name: &str| control.get(name).map(String::as_str).unwrap_or_default();
            assert_eq!(&*package.name, theirs("Package"));
            assert_eq!(package.version.as_str(), theirs("Version"));
            assert_eq!(&*package.architecture, theirs("Architecture"));
            let size = package.installed_size.map(|size| size.to_string());
            assert_eq!(size.unwrap_or_default(), theirs("Installed-Size"));
            for field in RelationField::ALL {
                let ours = package.relations(field).unwrap();
                let ours: Vec<_> = ours.iter().map(ToString::to_string).collect();
                assert_eq!(ours.join(", "), theirs(field.as_str()), "{}", package.name);
            }
            let source = theirs("Source").split(" (").next().unwrap();
            let source = if source.is_empty() {
                &package.name
            } else {
                source
            };
            assert_eq!(package.source_name(), source);
        }
        let mut packages = repository.packages().unwrap();
        for package in &mut packages {
            assert_eq!(package.index.take(), Some(suite.indices[0].digest));
            assert_eq!(&*package.component, "main");
        }
        seen.push(packages);
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn candidates_come_with_the_latest_version_first() {
    let (archive, keyring) = signed(&[""], "");
    let repository = archive.open(&keyring, NOW).unwrap();
    let versions: Vec<_> = repository
        .candidates("liblzma5")
        .unwrap()
        .into_iter()
        .map(|package| package.version)
        .collect();
    assert!(versions.len() >= 3, "{versions:?}");
    assert!(
        versions.windows(2).all(|pair| pair[0] >= pair[1]),
        "{versions:?}"
    );
    assert!(
        repository.candidates("liblzma").unwrap().is_empty()
            && repository.candidates("").unwrap().is_empty()
    );
}

#[test]
fn a_payload_is_handed_out_whole_or_not_at_all() {
    use std::io::Read as _;
    let (archive, keyring) = signed(&[""], "");
    let repository = archive.open(&keyring, NOW).unwrap();
    let package = &repository.packages().unwrap()[0].clone();
    let file = archive.path(&package.filename);
    let bytes = std::fs::read(&file).unwrap();
    let payload = repository.open_payload(package).unwrap();
    let mut read = Vec::new();
    payload.reader().read_to_end(&mut read).unwrap();
    assert_eq!(
        (Digest::of(&read), payload.digest()),
        (package.digest, package.digest)
    );

    // Another file in its place is never seen through the handle that was checked.
    let evil = archive.path("evil");
    std::fs::write(&evil, vec![0; bytes.len()]).unwrap();
    std::fs::rename(&evil, &file).unwrap();
    read.clear();
    payload.reader().read_to_end(&mut read).unwrap();
    assert_eq!(Digest::of(&read), package.digest);
    assert_eq!(
        repository.open_payload(package).unwrap_err().kind(),
        ErrorKind::Denied
    );

    let mut longer = bytes.clone();
    longer.push(0);
    std::fs::write(&file, longer).unwrap();
    let error = repository.open_payload(package).unwrap_err();
    assert!(error.to_string().contains("bytes"), "{error}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(
        repository.open_payload(package).unwrap_err().kind(),
        ErrorKind::Corrupt
    );

    // A link may lead elsewhere in the folder, never out of it.
    std::fs::write(archive.path("pool/moved.deb"), &bytes).unwrap();
    std::os::unix::fs::symlink(archive.path("pool/moved.deb"), &file).unwrap();
    assert!(repository.open_payload(package).is_ok());
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("a.deb"), &bytes).unwrap();
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(outside.path().join("a.deb"), &file).unwrap();
    let error = repository.open_payload(package).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(
        error.to_string().contains("out of the repository"),
        "{error}"
    );
}

#[test]
fn an_index_that_differs_from_what_was_signed_is_refused() {
    for suffix in COMPRESSIONS {
        let (archive, keyring) = signed(&[suffix], "");
        let path = archive.suite_path(&format!("main/binary-amd64/Packages{suffix}"));
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let error = archive.open(&keyring, NOW).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{suffix}: {error}");
        bytes[middle] ^= 1;
        bytes.pop();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(
            archive.open(&keyring, NOW).unwrap_err().kind(),
            ErrorKind::Denied,
            "{suffix}"
        );
    }
}

#[test]
fn an_index_is_found_by_its_hash() {
    let (archive, keyring) = signed(&[".xz"], "Acquire-By-Hash: yes\n");
    let named = archive.suite_path("main/binary-amd64/Packages.xz");
    let digest = Digest::of(std::fs::read(&named).unwrap()).hex();
    let hashed = archive.suite_path(&format!("main/binary-amd64/by-hash/SHA256/{digest}"));
    std::fs::create_dir_all(hashed.parent().unwrap()).unwrap();
    std::fs::rename(&named, &hashed).unwrap();
    let repository = archive.open(&keyring, NOW).unwrap();
    assert!(repository.suites()[0].indices[0].path.contains("by-hash"));
    // A mirror in mid-change: the name leads to another state already, the hash to the right one.
    std::fs::write(&named, b"another state").unwrap();
    assert_eq!(
        archive.open(&keyring, NOW).unwrap().packages().unwrap(),
        repository.packages().unwrap()
    );
}

#[test]
fn a_stale_suite_is_a_gap_that_forbids_compliance() {
    let (archive, keyring) = signed(&[""], "Valid-Until: Sat, 10 Jan 2026 00:00:00 UTC\n");
    let fresh = archive.open(&keyring, NOW).unwrap();
    assert!(!fresh.suites()[0].stale && fresh.gaps().is_empty());
    let stale = archive.open(&keyring, "2026-01-10T00:00:01Z").unwrap();
    assert!(stale.suites()[0].stale);
    assert!(
        stale
            .gaps()
            .iter()
            .any(|gap| gap.may_hide_packages && gap.why.contains("valid until"))
    );
    assert_eq!(
        stale.packages().unwrap(),
        fresh.packages().unwrap(),
        "it is reported, not switched off"
    );
}

#[test]
fn what_was_asked_for_and_is_not_there_is_a_gap() {
    let (archive, keyring) = signed(&[""], "");
    let open = |selection: &Selection| {
        Repository::open(archive.folder.path(), &keyring, selection, instant(NOW))
    };
    let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    let mut selection = Selection {
        suites: set(&[SUITE, "other"]),
        ..Selection::default()
    };
    let repository = open(&selection).unwrap();
    assert!(
        repository
            .gaps()
            .iter()
            .any(|gap| gap.may_hide_packages && gap.why.contains("other"))
    );
    // By its signed suite name too.
    selection.suites = set(&["oldstable-security"]);
    assert_eq!(open(&selection).unwrap().suites().len(), 1);
    selection.suites = set(&["other"]);
    assert!(open(&selection).is_err());
    selection = Selection {
        architectures: set(&["s390x"]),
        ..Selection::default()
    };
    assert!(
        open(&selection)
            .unwrap()
            .gaps()
            .iter()
            .any(|gap| gap.may_hide_packages)
    );

    std::fs::remove_file(archive.suite_path("main/binary-amd64/Packages")).unwrap();
    selection.architectures = set(&["amd64"]);
    let repository = open(&selection).unwrap();
    assert!(
        repository
            .gaps()
            .iter()
            .any(|gap| gap.may_hide_packages && gap.why.contains("not there"))
    );
    assert!(repository.packages().unwrap().is_empty());
}

#[test]
fn a_suite_is_what_was_signed_and_not_what_its_folder_says() {
    let (archive, keyring) = signed(&[""], "");
    std::fs::rename(
        archive.path(&format!("dists/{SUITE}")),
        archive.path("dists/better"),
    )
    .unwrap();
    let repository = archive.open(&keyring, NOW).unwrap();
    let suite = &repository.suites()[0];
    assert!(suite.is_called(SUITE) && !suite.is_called("better"));
    assert!(
        repository
            .gaps()
            .iter()
            .any(|gap| gap.why.contains("better"))
    );
    let json = serde_json::to_string(suite).unwrap();
    assert_eq!(&serde_json::from_str::<Suite>(&json).unwrap(), suite);
}

#[test]
fn a_folder_without_a_suite_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    let open = |path: &std::path::Path| {
        Repository::open(
            path,
            &Keyring::default(),
            &Selection::default(),
            instant(NOW),
        )
    };
    assert_eq!(open(empty.path()).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(
        open(&empty.path().join("none")).unwrap_err().kind(),
        ErrorKind::Io
    );
}
