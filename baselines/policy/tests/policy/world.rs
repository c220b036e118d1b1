//! A guest and the versions on offer, in a few words.

use std::collections::BTreeMap;

use dormouse_advisories::{Advisories, Index, Suite};
use dormouse_block::{Digest, Locator};
use dormouse_filesystem::{Guest, MemoryTree};
use dormouse_packages::{Inventory, Observation, take};
use dormouse_policy::{Assessment, Baseline, History, Question, Releases, assess};

pub(crate) const NOW: &str = "2026-01-02T00:00:00Z";

/// An inventory of packages written `name version` or `name version status words`.
pub(crate) fn guest(packages: &[&str]) -> Inventory {
    let mut status = String::new();
    for package in packages {
        let mut words = package.splitn(3, ' ');
        let (name, version) = (words.next().unwrap(), words.next().unwrap());
        let state = words.next().unwrap_or("install ok installed");
        status.push_str(&format!(
            "Package: {name}\nStatus: {state}\nArchitecture: amd64\nVersion: {version}\n\n"
        ));
    }
    let mut tree = MemoryTree::new();
    tree.file("/var/lib/dpkg/status", status.as_bytes()).file(
        "/etc/os-release",
        b"ID=debian\nVERSION_ID=12\nVERSION_CODENAME=bookworm\n",
    );
    take(
        &Guest::of(tree),
        &Locator::machine("web-01").point("active"),
    )
}

pub(crate) fn suite(codename: &str) -> Suite {
    Suite {
        directory: codename.into(),
        codename: Some(codename.into()),
        suite: None,
        origin: Some("Debian".into()),
        label: None,
        version: None,
        date: Some("2026-01-01T00:00:00Z".parse().unwrap()),
        valid_until: None,
        stale: false,
        not_automatic: false,
        but_automatic_upgrades: false,
        vouched: false,
        release: format!("dists/{codename}/InRelease"),
        digest: Digest::of(codename),
        signers: Vec::new(),
        indices: vec![Index {
            path: format!("dists/{codename}/main/binary-amd64/Packages.xz"),
            digest: Digest::of("index"),
            size: 5,
            packages: 3,
        }],
    }
}

/// bookworm and its security suite, with offers written `suite name version`.
pub(crate) fn offers(offers: &[&str]) -> Releases {
    let mut releases = Releases::default();
    let numbers =
        ["bookworm", "bookworm-security"].map(|name| (name, releases.add_suite(suite(name))));
    for offer in offers {
        let words: Vec<_> = offer.split(' ').collect();
        let (_, number) = numbers.iter().find(|(name, _)| *name == words[0]).unwrap();
        releases.add(*number, words[1], "amd64", words[2].parse().unwrap());
    }
    releases
}

pub(crate) fn judge(baseline: &str, inventory: &Inventory, releases: &Releases) -> Assessment {
    judge_at(baseline, inventory, releases, NOW)
}

pub(crate) fn judge_at(
    baseline: &str,
    inventory: &Inventory,
    releases: &Releases,
    as_of: &str,
) -> Assessment {
    judge_with(baseline, inventory, releases, &Advisories::default(), as_of)
}

pub(crate) fn judge_with(
    baseline: &str,
    inventory: &Inventory,
    releases: &Releases,
    advisories: &Advisories,
    as_of: &str,
) -> Assessment {
    let labels = BTreeMap::from([("stage".to_owned(), "production".to_owned())]);
    ask(
        baseline,
        &Question {
            baseline: &Baseline::parse(baseline).unwrap(),
            inventory,
            labels: &labels,
            releases,
            advisories,
            observations: &[],
            history: &History::default(),
            as_of: as_of.parse().unwrap(),
        },
    )
}

/// What is known beside inventory and releases.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) advisories: Advisories,
    pub(crate) observations: Vec<Observation>,
    pub(crate) history: History,
    pub(crate) labels: BTreeMap<String, String>,
}

pub(crate) fn judge_knowing(
    baseline: &str,
    inventory: &Inventory,
    releases: &Releases,
    known: &Known,
    as_of: &str,
) -> Assessment {
    ask(
        baseline,
        &Question {
            baseline: &Baseline::parse(baseline).unwrap(),
            inventory,
            labels: &known.labels,
            releases,
            advisories: &known.advisories,
            observations: &known.observations,
            history: &known.history,
            as_of: as_of.parse().unwrap(),
        },
    )
}

fn ask(baseline: &str, question: &Question<'_>) -> Assessment {
    let assessment = assess(question);
    // The same question has the same answer, to the byte, and the answer survives being written down, as published.
    let json = serde_json::to_string(&assessment).unwrap();
    assert_eq!(serde_json::to_string(&assess(question)).unwrap(), json);
    assert_eq!(
        serde_json::from_str::<Assessment>(&json).unwrap(),
        assessment
    );
    crate::schemas::valid("assessment-v1.json", &serde_json::from_str(&json).unwrap());
    assert_eq!(
        Baseline::parse(baseline).unwrap().name,
        assessment.baseline.name
    );
    assessment
}
