//! Flat repositories, folders that nobody signed, and kept indices.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use dormouse_advisories::{Access, IndexCache, IndexToKeep, Keyring, Repository, Selection, Trust};
use dormouse_block::{Digest, ErrorKind, Result};

use crate::archive::{Apt, Archive, Gnupg, SUITE, instant};

const NOW: &str = "2026-01-02T00:00:00Z";

fn open(archive: &Archive, keyring: &Keyring, trust: &Trust) -> Result<Repository> {
    Repository::open_with(
        archive.folder.path(),
        &Access {
            keyring,
            selection: &Selection::default(),
            as_of: instant(NOW),
            trust,
            cache: None,
            ahead: None,
            later: None,
        },
    )
}

/// An archive whose index lies in `folder` of it, signed there.
fn flat(gnupg: &Gnupg, folder: &str) -> Archive {
    let (archive, packages) = Archive::new();
    let at = archive.path(folder);
    std::fs::create_dir_all(&at).unwrap();
    std::fs::write(
        at.join("Packages.xz"),
        liblzma::encode_all(&packages[..], 6).unwrap(),
    )
    .unwrap();
    std::fs::write(at.join("Packages"), &packages).unwrap();
    let output = Command::new("apt-ftparchive")
        .args([
            "-o",
            "APT::FTPArchive::Release::Codename=flat",
            "release",
            ".",
        ])
        .current_dir(&at)
        .output()
        .expect("this test needs apt-ftparchive (apt-utils)");
    assert!(output.status.success());
    // Its own clock is the present; the tests' is not.
    let release: String = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| match line.strip_prefix("Date: ") {
            Some(_) => "Date: Thu, 01 Jan 2026 12:00:00 UTC\n".to_owned(),
            None => format!("{line}\n"),
        })
        .collect();
    std::fs::remove_file(at.join("Packages")).unwrap();
    std::fs::write(at.join("Release"), release).unwrap();
    let (from, to) = (at.join("Release"), at.join("InRelease"));
    gnupg.ok(
        "2026-01-01",
        &[
            "--clearsign",
            "--output",
            to.to_str().unwrap(),
            from.to_str().unwrap(),
        ],
    );
    archive
}

#[test]
fn flat_repositories_read_as_apt_reads_them() {
    let gnupg = Gnupg::new();
    gnupg.key("one", "ed25519", "2026-01-01", "20y");
    for folder in ["", "sub"] {
        let archive = flat(&gnupg, folder);
        let repository = open(&archive, &gnupg.keyring("one"), &Trust::default()).unwrap();
        assert_eq!(repository.gaps(), []);
        let suite = &repository.suites()[0];
        assert_eq!(
            suite.directory,
            if folder.is_empty() { "." } else { folder }
        );
        assert!(suite.is_called("flat") && !suite.vouched && suite.signers.len() == 1);
        let root = archive.folder.path().display().to_string();
        let source = format!(
            "copy:{root} {}/",
            if folder.is_empty() { "." } else { folder }
        );
        let apt = Apt::with(&gnupg.export("one"), &[source]);
        assert!(apt.believes());
        let names: BTreeSet<_> = repository
            .packages()
            .unwrap()
            .iter()
            .map(|package| package.name.to_string())
            .collect();
        assert!(names.len() > 3);
        for name in &names {
            let ours = repository.candidates(name).unwrap();
            let versions: Vec<_> = ours.iter().map(|one| one.version.to_string()).collect();
            assert_eq!(versions, apt.versions(name), "{name}");
            let output = apt.run("apt-get", &["--print-uris", "download", name]);
            let text = String::from_utf8(output.stdout).unwrap();
            let uri = text
                .split('\'')
                .nth(1)
                .unwrap()
                .replace("%2b", "+")
                .replace("%7e", "~");
            assert_eq!(uri, format!("copy:{root}/{}", ours[0].filename), "{text}");
            assert_eq!(repository.why_no_payload(&ours[0]).unwrap(), None);
            repository.open_payload(&ours[0]).unwrap();
        }
    }
}

#[test]
fn what_nobody_signed_is_believed_by_its_digest_alone() {
    let (archive, packages) = Archive::new();
    let compressed = liblzma::encode_all(&packages[..], 6).unwrap();
    std::fs::write(archive.path("Packages.xz"), &compressed).unwrap();
    let keyring = Keyring::default();
    let error = open(&archive, &keyring, &Trust::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let digest = Digest::of(&compressed);
    assert!(error.to_string().contains(&digest.to_string()), "{error}");
    let vouched = Trust {
        vouched: [digest].into(),
        ..Trust::default()
    };
    let repository = open(&archive, &keyring, &vouched).unwrap();
    let suite = &repository.suites()[0];
    assert!(suite.vouched && suite.signers.is_empty() && suite.digest == digest);
    assert_eq!(suite.release, "Packages.xz");
    assert!(repository.package_count() > 3 && repository.gaps().is_empty());
    // One byte more, and it is another file.
    std::fs::write(
        archive.path("Packages.xz"),
        [&compressed[..], b"\0"].concat(),
    )
    .unwrap();
    assert_eq!(
        open(&archive, &keyring, &vouched).unwrap_err().kind(),
        ErrorKind::Denied
    );

    // The same of a Release file without a signature.
    archive.publish(&packages, &[".gz"], "");
    std::fs::remove_file(archive.path("Packages.xz")).unwrap();
    let error = open(&archive, &keyring, &Trust::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let digest = Digest::of(std::fs::read(archive.suite_path("Release")).unwrap());
    assert!(error.to_string().contains(&digest.to_string()), "{error}");
    let vouched = Trust {
        vouched: [digest].into(),
        ..Trust::default()
    };
    let repository = open(&archive, &keyring, &vouched).unwrap();
    assert!(repository.suites()[0].vouched && repository.suites()[0].is_called(SUITE));
}

#[test]
fn a_repository_s_own_keys_are_the_only_ones_that_count_for_it() {
    let gnupg = Gnupg::new();
    let (archive, packages) = Archive::new();
    archive.publish(&packages, &[""], "");
    let one = gnupg.key("one", "ed25519", "2026-01-01", "2y");
    let two = gnupg.key("two", "ed25519", "2026-01-01", "2y");
    archive.sign(&gnupg, "2026-01-01", &["one"], &[]);
    let mut keyring = gnupg.keyring("one");
    keyring.extend(gnupg.keyring("two"));
    let by = |fingerprint: &str| Trust {
        signed_by: [fingerprint.to_owned()].into(),
        ..Trust::default()
    };
    assert!(open(&archive, &keyring, &by(&one)).is_ok());
    let error = open(&archive, &keyring, &by(&two)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.with_causes().contains(&one), "{error}");
}

#[test]
fn kept_indices_say_the_same_and_damaged_ones_are_not_used() {
    let gnupg = Gnupg::new();
    let (archive, packages) = Archive::new();
    archive.publish(&packages, &[".xz"], "");
    gnupg.key("one", "ed25519", "2026-01-01", "2y");
    archive.sign(&gnupg, "2026-01-01", &["one"], &[]);
    let keyring = gnupg.keyring("one");
    let kept: RefCell<BTreeMap<String, Vec<u8>>> = RefCell::default();
    let saved = RefCell::new(0);
    let load = |name: &str| kept.borrow().get(name).cloned();
    let save = |name: &str, parts: &[&[u8]]| {
        *saved.borrow_mut() += 1;
        kept.borrow_mut().insert(name.to_owned(), parts.concat());
    };
    let (selection, trust) = (Selection::default(), Trust::default());
    let access = Access {
        keyring: &keyring,
        selection: &selection,
        as_of: instant(NOW),
        trust: &trust,
        cache: Some(IndexCache {
            load: &load,
            save: &save,
        }),
        ahead: None,
        later: None,
    };
    let open = || {
        let repository = Repository::open_with(archive.folder.path(), &access).unwrap();
        (repository.packages().unwrap(), repository.suites().to_vec())
    };
    let fresh = archive.open(&keyring, NOW).unwrap();
    let fresh = (fresh.packages().unwrap(), fresh.suites().to_vec());
    assert_eq!(open(), fresh);
    assert_eq!(*saved.borrow(), 1);
    assert_eq!(open(), fresh);
    assert_eq!(*saved.borrow(), 1, "the second time it is not read");
    let whole = kept.borrow().values().next().unwrap().clone();
    // What is kept by and by is the same.
    kept.borrow_mut().clear();
    let later = |name: String, index: IndexToKeep| {
        let keep = |parts: &[&[u8]]| drop(kept.borrow_mut().insert(name, parts.concat()));
        index.keep(keep).unwrap();
    };
    Repository::open_with(
        archive.folder.path(),
        &Access {
            later: Some(&later),
            ..access
        },
    )
    .unwrap();
    assert_eq!(*saved.borrow(), 1);
    assert_eq!(kept.borrow().values().collect::<Vec<_>>(), [&whole]);
    for at in (0..whole.len()).step_by(whole.len() / 61) {
        let name = kept.borrow().keys().next().unwrap().clone();
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        kept.borrow_mut().insert(name.clone(), bytes);
        assert_eq!(open(), fresh, "byte {at}");
        kept.borrow_mut().insert(name, whole[..at].to_vec());
        assert_eq!(open(), fresh, "cut at {at}");
    }
}

#[test]
fn providers_are_found_by_what_they_provide() {
    let gnupg = Gnupg::new();
    let (archive, packages) = Archive::new();
    // The real packages there provide nothing.
    let packages = String::from_utf8(packages).unwrap();
    let packages = packages
        .replace(
            "Package: liblzma5\n",
            "Package: liblzma5\nProvides: lzma (= 5), xz-library\n",
        )
        .replace(
            "Package: login\n",
            "Package: login\nProvides: lzma,\n  get-in:any (= 1) , lzmb\n",
        );
    archive.publish(packages.as_bytes(), &[""], "");
    gnupg.key("one", "ed25519", "2026-01-01", "2y");
    archive.sign(&gnupg, "2026-01-01", &["one"], &[]);
    let repository = archive.open(&gnupg.keyring("one"), NOW).unwrap();
    let mut given = BTreeSet::new();
    for package in repository.packages().unwrap() {
        let field = dormouse_packages::dpkg::RelationField::Provides;
        for relation in package.relations(field).unwrap() {
            for alternative in relation.alternatives() {
                given.insert((alternative.name.clone(), package.name.clone()));
            }
        }
    }
    assert_eq!(given.len(), 5);
    for (name, by) in &given {
        let found = repository.providers(name).unwrap();
        assert!(found.iter().any(|package| package.name == *by), "{name}");
        assert!(
            found
                .iter()
                .all(|package| given.contains(&(name.clone(), package.name.clone())))
        );
    }
    assert!(
        repository
            .providers("nothing-provides-this")
            .unwrap()
            .is_empty()
    );
}
