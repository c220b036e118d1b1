//! Candidates among several repositories and suites, held against apt-cache policy.

use std::fmt::Write as _;
use std::path::Path;

use dormouse_advisories::{Keyring, Repository, Selection};
use dormouse_block::Digest;
use dormouse_packages::dpkg::Version;
use dormouse_policy::{Baseline, Offer};

use crate::archive::{Apt, Gnupg};
use crate::world::NOW;

/// A small generator (xorshift64*), so that a seed names a case for ever.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(value).unwrap() % below
    }
}

const NAMES: [&str; 12] = [
    "aa", "ab", "ac", "ba", "bb", "bc", "ca", "cb", "cc", "da", "db", "dc",
];
/// Folder, suite, and more fields of its Release file.
const SUITES: [(&str, &str, &str); 5] = [
    ("one", "stable", "Origin: Debian\nLabel: Debian\n"),
    (
        "one",
        "backports",
        "Origin: Debian\nLabel: Backports\nNotAutomatic: yes\nButAutomaticUpgrades: yes\n",
    ),
    (
        "one",
        "experimental",
        "Origin: Debian\nLabel: Debian\nNotAutomatic: yes\n",
    ),
    ("two", "vendor", "Origin: Vendor\nLabel: Tools\n"),
    ("two", "vendor-old", "Origin: Vendor\nLabel: Tools\n"),
];

fn suite(gnupg: &Gnupg, root: &Path, name: &str, fields: &str, packages: &[(&str, String)]) {
    let folder = root.join("dists").join(name);
    let index = folder.join("main/binary-amd64");
    std::fs::create_dir_all(&index).unwrap();
    let mut text = String::new();
    for (package, version) in packages {
        let digest = Digest::of(format!("{package} {version}")).hex();
        writeln!(
            text,
            "Package: {package}\nVersion: {version}\nArchitecture: amd64\nMaintainer: A <a@b.example>\n\
             Filename: pool/{package}_{version}.deb\nSize: 1000\nSHA256: {digest}\nDescription: x\n"
        )
        .unwrap();
    }
    std::fs::write(index.join("Packages"), &text).unwrap();
    let release = format!(
        "{fields}Suite: {name}\nCodename: {name}\nVersion: 12\nDate: Thu, 01 Jan 2026 12:00:00 UTC\nArchitectures: amd64\n\
         Components: main\nSHA256:\n {} {} main/binary-amd64/Packages\n",
        Digest::of(&text).hex(),
        text.len()
    );
    std::fs::write(folder.join("Release"), release).unwrap();
    let (from, to) = (folder.join("Release"), folder.join("InRelease"));
    gnupg.ok(
        "2026-01-01",
        &[
            "--clearsign",
            "--output",
            to.to_str().unwrap(),
            from.to_str().unwrap(),
        ],
    );
}

/// The same pins as apt_preferences(5) and as a baseline write them.
fn pins(chance: &mut Chance) -> (String, String) {
    let (mut apts, mut ours) = (String::new(), "name = 'x'\n".to_owned());
    for _ in 0..chance.next(5) {
        let priority = [-1, -10, 1, 50, 99, 100, 101, 400, 500, 501, 990][chance.next(11)];
        let packages = match chance.next(4) {
            0 | 1 => vec!["*".to_owned()],
            2 => vec![NAMES[chance.next(NAMES.len())].to_owned()],
            _ => vec![
                format!("{}*", ["a", "b", "c", "d"][chance.next(4)]),
                NAMES[chance.next(NAMES.len())].to_owned(),
            ],
        };
        let (_, suite, fields) = SUITES[chance.next(SUITES.len())];
        let label = fields
            .split("Label: ")
            .nth(1)
            .unwrap()
            .lines()
            .next()
            .unwrap();
        let origin = fields
            .lines()
            .next()
            .unwrap()
            .strip_prefix("Origin: ")
            .unwrap();
        let (release, keys) = match chance.next(6) {
            0 => (
                format!("release n={suite}"),
                format!("codename = '{suite}'\n"),
            ),
            1 => (format!("release a={suite}"), format!("suite = '{suite}'\n")),
            2 => (format!("release l={label}"), format!("label = '{label}'\n")),
            3 => (
                format!("release o={origin}"),
                format!("origin = '{origin}'\n"),
            ),
            4 => (
                format!("release o={origin}, n={suite}, c=main"),
                format!("origin = '{origin}'\ncodename = '{suite}'\ncomponent = 'main'\n"),
            ),
            _ if packages[0] != "*" => ("version 3*".to_owned(), "version = '3*'\n".to_owned()),
            _ => ("release v=12".to_owned(), "release = '12'\n".to_owned()),
        };
        writeln!(
            apts,
            "Package: {}\nPin: {release}\nPin-Priority: {priority}\n",
            packages.join(" ")
        )
        .unwrap();
        writeln!(
            ours,
            "[[pin]]\npackages = {packages:?}\n{keys}priority = {priority}"
        )
        .unwrap();
    }
    (apts, ours)
}

#[test]
fn candidates_are_apt_s_whatever_the_pins() {
    let gnupg = Gnupg::new();
    gnupg.key("one", "ed25519", "2026-01-01", "20y");
    let keyring: Keyring = gnupg.keyring("one");
    let (mut differing, mut kept, mut taken) = (0, 0, 0);
    for seed in 1..=6_u64 {
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let folder = tempfile::tempdir().unwrap();
        for (root, name, fields) in SUITES {
            let packages: Vec<_> = NAMES
                .iter()
                .filter_map(|package| {
                    let version = chance.next(5);
                    (version > 0).then(|| (*package, version.to_string()))
                })
                .collect();
            suite(&gnupg, &folder.path().join(root), name, fields, &packages);
        }
        let repositories: Vec<Repository> = ["one", "two"]
            .iter()
            .map(|root| {
                let path = folder.path().join(root);
                Repository::open(&path, &keyring, &Selection::default(), NOW.parse().unwrap())
                    .unwrap()
            })
            .collect();
        let sources: Vec<String> = SUITES
            .iter()
            .map(|(root, name, _)| {
                format!("copy:{} {name} main", folder.path().join(root).display())
            })
            .collect();
        let apt = Apt::with(&gnupg.export("one"), &sources);
        assert!(apt.believes(), "seed {seed}");
        let installed: Vec<(&str, String)> = NAMES
            .iter()
            .filter_map(|name| {
                let version = chance.next(6);
                (version > 0).then(|| (*name, version.to_string()))
            })
            .collect();
        let status: String = installed
            .iter()
            .map(|(name, version)| {
                format!(
                    "Package: {name}\nStatus: install ok installed\nMaintainer: A <a@b.example>\nArchitecture: amd64\n\
                     Version: {version}\nDescription: x\n\n"
                )
            })
            .collect();
        apt.install(status.as_bytes());
        for round in 0..8 {
            let (theirs, ours) = pins(&mut chance);
            apt.prefer(&theirs);
            let preferences = Baseline::parse(&ours).unwrap().preferences();
            for name in NAMES {
                let mut offers: Vec<Offer> = Vec::new();
                for (repository, one) in repositories.iter().enumerate() {
                    offers.extend(
                        one.candidates(name)
                            .unwrap()
                            .into_iter()
                            .map(|package| Offer {
                                repository,
                                package,
                                priority: 0,
                            }),
                    );
                }
                let there = installed.iter().find(|(known, _)| *known == name);
                let version = there.map(|(_, version)| Version::parse(version).unwrap());
                let own = preferences.rank(&repositories, &mut offers, version.as_ref());
                let chosen = offers.iter().find(|offer| {
                    version.as_ref().is_none_or(|version| {
                        offer.package.version > *version && offer.priority >= own
                    })
                });
                let ours_is = match (chosen, &version) {
                    (Some(offer), _) => offer.package.version.to_string(),
                    (None, Some(version)) => version.to_string(),
                    (None, None) => "(none)".to_owned(),
                };
                let apts_is = apt.candidate(name);
                if apts_is == "(none)" && version.is_some() {
                    // Pins forbid even what is installed; to us it is what it is.
                    differing += 1;
                    continue;
                }
                assert_eq!(
                    ours_is, apts_is,
                    "seed {seed} round {round}: {name}, installed {version:?}\n{theirs}\n{offers:?}"
                );
                if chosen.is_some() {
                    taken += 1;
                } else {
                    kept += 1;
                }
            }
        }
    }
    assert!(
        kept > 50 && taken > 50 && differing < 60,
        "{kept} {taken} {differing}"
    );
}
