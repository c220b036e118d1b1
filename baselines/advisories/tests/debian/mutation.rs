//! Broken archives: whatever the files hold, opening one ends, and nothing that was not signed is believed.

use crate::archive::{Archive, Gnupg, instant};
use dormouse_advisories::{
    Access, Advisories, IndexedPackage, Keyring, Release, Repository, Selection, Trust,
};
use dormouse_block::Digest;
use dormouse_packages::deb822::paragraphs;
use dormouse_packages::dpkg::RelationField;

/// A small generator of pseudo-random numbers (xorshift), so that a failure is the same failure again.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % below.max(1)
    }

    fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        const BYTES: &[u8] = b"\n\0: \t/.,()<>=~-+\xff\xc3aZ09\r#";
        let mut out = bytes.to_vec();
        for _ in 0..=self.next(3) {
            let at = self.next(out.len());
            let end = (at + self.next(30)).min(out.len());
            match self.next(5) {
                0 => out.truncate(at),
                1 => drop(out.drain(at..end)),
                2 => {
                    let part = out[at..end].to_vec();
                    let to = self.next(out.len());
                    out.splice(to..to, part);
                }
                3 if !out.is_empty() => out[at] = BYTES[self.next(BYTES.len())],
                _ => out.insert(at, BYTES[self.next(BYTES.len())]),
            }
        }
        out
    }
}

const RELEASE: &[u8] = b"Origin: Debian\nSuite: oldstable\nCodename: bookworm\nDate: Sat, 08 Nov 2025 10:15:36 UTC\n\
    Valid-Until: Sat, 15 Nov 2025 10:15:36 UTC\nArchitectures: all amd64\nComponents: main\nSHA256:\n \
    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-amd64/Packages\n";

const PACKAGES: &[u8] = b"Package: liblzma5\nSource: xz-utils (5.4.1-1)\nVersion: 5.4.1-1+b1\nInstalled-Size: 359\n\
    Architecture: amd64\nDepends: libc6 (>= 2.34), a | b:any (<< 1)\nMulti-Arch: same\nPhased-Update-Percentage: 10\n\
    Filename: pool/main/x/xz-utils/liblzma5_5.4.1-1_amd64.deb\nSize: 205020\n\
    SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n";

#[test]
fn broken_release_files_and_indices_are_errors() {
    let mut random = Random(0x5eed_0006);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..20_000 {
        let _ = Release::parse(&random.mutate(RELEASE));
        let bytes = random.mutate(PACKAGES);
        for (_, paragraph) in paragraphs(&bytes) {
            let Ok(package) = IndexedPackage::parse(paragraph, 0) else {
                bad += 1;
                continue;
            };
            good += 1;
            let leads_out = package
                .filename
                .split('/')
                .any(|name| name == ".." || name.is_empty());
            assert!(!leads_out, "{}", package.filename);
            for field in RelationField::ALL {
                let _ = package.relations(field);
            }
        }
    }
    assert!(good > 1000 && bad > 1000, "{good} {bad}");
}

#[test]
fn no_mutation_of_a_signed_file_is_believed() {
    let gnupg = Gnupg::new();
    let (archive, packages) = Archive::new();
    archive.publish(&packages, &[""], "");
    gnupg.key("one", "ed25519", "2026-01-01", "2y");
    archive.sign(&gnupg, "2026-01-01", &["one"], &[]);
    let keyring = gnupg.keyring("one");
    let path = archive.suite_path("InRelease");
    let signed = std::fs::read(&path).unwrap();
    let release = std::fs::read(archive.suite_path("Release")).unwrap();
    let believed = archive.open(&keyring, "2026-01-02T00:00:00Z").unwrap();
    let mut random = Random(0x5eed_0007);
    let mut refused = 0;
    for _ in 0..1500 {
        let bytes = random.mutate(&signed);
        std::fs::write(&path, &bytes).unwrap();
        match archive.open(&keyring, "2026-01-02T00:00:00Z") {
            Err(_) => refused += 1,
            // What the signature does not cover (armor headers, line ends, blanks at line ends) may differ; what is
            // believed may not.
            Ok(repository) => {
                assert_eq!(repository.packages().unwrap(), believed.packages().unwrap());
                let (ours, theirs) = (&repository.suites()[0], &believed.suites()[0]);
                assert_eq!(
                    (&ours.codename, ours.date, &ours.signers),
                    (&theirs.codename, theirs.date, &theirs.signers)
                );
            }
        }
    }
    assert!(refused > 1200, "{refused}");
    assert!(release.starts_with(b"Origin"));
}

#[test]
fn broken_keyrings_are_errors() {
    let gnupg = Gnupg::new();
    gnupg.key("one", "ed25519", "2026-01-01", "2y");
    let keys = gnupg.export("one");
    let mut random = Random(0x5eed_0008);
    for _ in 0..3000 {
        let _ = Keyring::parse(&random.mutate(&keys));
    }
}

#[test]
fn compiled_indices_say_what_their_paragraphs_say() {
    let mut random = Random(0x5eed_0009);
    let folder = tempfile::tempdir().unwrap();
    let more = String::from_utf8(PACKAGES.to_vec()).unwrap();
    let whole = [
        more.as_str(),
        &more.replace("liblzma5", "aaa").replace("5.4.1", "5.4.2"),
        &more.replace("liblzma5", "zzz"),
        &more.replace("5.4.1-1+b1", "5.4.1-2"),
    ]
    .join("\n");
    let (mut good, mut bad) = (0, 0);
    for _ in 0..1500 {
        let bytes = random.mutate(whole.as_bytes());
        std::fs::write(folder.path().join("Packages"), &bytes).unwrap();
        let trust = Trust {
            vouched: [Digest::of(&bytes)].into(),
            ..Trust::default()
        };
        let access = Access {
            keyring: &Keyring::default(),
            selection: &Selection::default(),
            as_of: instant("2026-01-02T00:00:00Z"),
            trust: &trust,
            cache: None,
            ahead: None,
            later: None,
        };
        let ours = Repository::open_with(folder.path(), &access);
        let plain: Result<Vec<_>, _> = paragraphs(&bytes)
            .map(|(_, paragraph)| IndexedPackage::parse(paragraph, 0))
            .collect();
        match (ours, plain) {
            (Ok(ours), Ok(mut plain)) => {
                let mut ours = ours.packages().unwrap();
                for package in &mut ours {
                    package.index = None;
                }
                let key = |package: &IndexedPackage| format!("{package:?}");
                ours.sort_by_key(key);
                plain.sort_by_key(key);
                assert_eq!(ours, plain);
                good += 1;
            }
            (Err(_), Err(_)) => bad += 1,
            (ours, plain) => panic!(
                "{:?}\n{:?}\n{}",
                ours.map(|ours| ours.package_count()),
                plain.map(|plain| plain.len()),
                String::from_utf8_lossy(&bytes)
            ),
        }
    }
    assert!(good > 200 && bad > 200, "{good} {bad}");
}

#[test]
fn broken_feeds_end_in_an_answer() {
    let mut random = Random(0x5eed_000a);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feed");
    let list = b"[01 Jan 2026] DSA-9999-1 openssl - security update\n\t{CVE-2026-0001}\n\t[bookworm] - openssl 3.0.2-1\n";
    let tracker = br#"{"openssl": {"CVE-2026-0001": {"releases": {"bookworm": {"fixed_version": "3.0.2-1", "urgency": "x"}}}}}"#;
    let (mut good, mut bad) = (0, 0);
    for round in 0..3000 {
        let from: &[u8] = if round % 2 == 0 { list } else { tracker };
        std::fs::write(&path, random.mutate(from)).unwrap();
        match Advisories::read(std::slice::from_ref(&path)) {
            Ok(_) => good += 1,
            Err(_) => bad += 1,
        }
    }
    assert!(good > 200 && bad > 200, "{good} {bad}");
}
