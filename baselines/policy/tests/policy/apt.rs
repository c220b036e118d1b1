//! What judging finds below a suite is what apt would upgrade.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::Locator;
use dormouse_filesystem::{Guest, MemoryTree};
use dormouse_packages::take;
use dormouse_policy::{Baseline, Question, Releases, Rule, assess};

use crate::archive::{Apt, Archive, Gnupg, SUITE};
use crate::world::NOW;

#[test]
fn findings_are_what_apt_would_upgrade() {
    let gnupg = Gnupg::new();
    let (archive, packages) = Archive::new();
    archive.publish(&packages, &[".xz"], "");
    gnupg.key("one", "ed25519", "2026-01-01", "20y");
    archive.sign(&gnupg, "2026-01-01", &["one"], &[]);
    let repositories = [archive.open(&gnupg.keyring("one"), NOW).unwrap()];
    let releases = Releases::of(&repositories);
    let apt = Apt::new(&archive, &gnupg.export("one"));
    assert!(apt.believes());
    let baseline = Baseline::parse(&format!("name = 'x'\nsuites = ['{SUITE}']\n")).unwrap();

    let names: BTreeSet<_> = repositories[0]
        .packages()
        .unwrap()
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    let mut upgraded = 0;
    // Each package in turn at the oldest version on offer, at the newest, between them, and past them.
    for round in 0..4_usize {
        let mut status = String::new();
        for (number, name) in names.iter().enumerate() {
            let offers = repositories[0].candidates(name).unwrap();
            let (newest, oldest) = (&offers[0], &offers[offers.len() - 1]);
            let version = match (round + number) % 4 {
                0 => oldest.version.to_string(),
                1 => newest.version.to_string(),
                2 => format!("{}~", newest.version),
                _ => format!("{}+local1", newest.version),
            };
            status.push_str(&format!(
                "Package: {name}\nStatus: install ok installed\nMaintainer: A <a@b.example>\nArchitecture: amd64\n\
                Version: {version}\nDescription: x\n\n"
            ));
        }
        apt.install(status.as_bytes());
        let output = apt.run("apt", &["list", "--upgradable"]);
        let listing = String::from_utf8(output.stdout).unwrap();
        let theirs: BTreeMap<String, String> = listing
            .lines()
            .filter_map(|line| {
                let (name, rest) = line.split_once('/')?;
                let wanted = rest.split(' ').nth(1)?;
                // apt takes one version with other fields for another build; to us a version is itself.
                let same = rest.ends_with(&format!("from: {wanted}]"));
                (!same).then(|| (name.to_owned(), wanted.to_owned()))
            })
            .collect();

        let mut tree = MemoryTree::new();
        tree.file("/var/lib/dpkg/status", status.as_bytes());
        let inventory = take(&Guest::of(tree), &Locator::machine("web-01"));
        let assessment = assess(&Question {
            baseline: &baseline,
            inventory: &inventory,
            labels: &BTreeMap::new(),
            releases: &releases,
            advisories: &dormouse_advisories::Advisories::default(),
            observations: &[],
            history: &dormouse_policy::History::default(),
            as_of: NOW.parse().unwrap(),
        });
        let ours: BTreeMap<String, String> = assessment
            .findings
            .iter()
            .filter(|finding| finding.rule == Rule::Suite)
            .map(|finding| (finding.package.clone(), finding.wanted.clone().unwrap()))
            .collect();
        assert_eq!(ours, theirs, "round {round}");
        upgraded += ours.len();
    }
    assert!(upgraded >= names.len(), "{upgraded}");
}
