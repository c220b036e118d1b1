//! The rule of advisories: published roots against published advisories, and what it says of what it cannot judge.

use std::path::{Path, PathBuf};
use std::process::Command;

use dormouse_advisories::Advisories;
use dormouse_block::Locator;
use dormouse_filesystem::{Guest, MemoryTree};
use dormouse_packages::{Inventory, take};
use dormouse_policy::{Assessment, Releases, Rule, Unknown, Verdict};

use crate::world::{guest, judge_with};

fn fixture(path: &str) -> PathBuf {
    let folder = std::env::var_os("DORMOUSE_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    );
    folder.join(path)
}

fn add(tree: &mut MemoryTree, host: &Path, guest: &str) {
    for entry in std::fs::read_dir(host).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{guest}/{}", entry.file_name().to_str().unwrap());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            add(tree, &entry.path(), &path);
        } else if kind.is_symlink() {
            let target = std::fs::read_link(entry.path()).unwrap();
            tree.symlink(&path, target.to_str().unwrap());
        } else {
            tree.file(&path, &std::fs::read(entry.path()).unwrap());
        }
    }
}

/// What a published root has installed.
fn root(archive: &str) -> Inventory {
    let folder = tempfile::tempdir().unwrap();
    let done = Command::new("tar")
        .arg("-xf")
        .arg(fixture(archive))
        .arg("-C")
        .arg(folder.path())
        .args(["--no-same-owner", "--wildcards"])
        .args([
            "*etc/os-release",
            "*usr/lib/os-release",
            "*var/lib/rpm*",
            "*lib/apk/db/installed",
            "*etc/apk/*",
        ])
        .output()
        .expect("this test needs tar");
    // Some roots have no file of some of these names; then tar says so and takes the rest.
    assert!(
        folder.path().read_dir().unwrap().next().is_some(),
        "{done:?}"
    );
    let mut tree = MemoryTree::new();
    add(&mut tree, folder.path(), "");
    take(&Guest::of(tree), &Locator::machine("root"))
}

fn feed(path: &str) -> Advisories {
    Advisories::read(&[fixture(path)]).unwrap()
}

fn of(inventory: &Inventory, advisories: &Advisories, baseline: &str, as_of: &str) -> Assessment {
    judge_with(baseline, inventory, &Releases::default(), advisories, as_of)
}

const PLAIN: &str = "name = 'x'\n";

/// The oracle's lines, without their heading.
fn expected(path: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(fixture(&format!("rootfs/expect/{path}"))).unwrap();
    let lines = text.lines().skip(1);
    let mut lines: Vec<Vec<String>> = lines
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect();
    lines.sort();
    lines
}

fn found(assessment: &Assessment) -> Vec<Vec<String>> {
    let findings = assessment
        .findings
        .iter()
        .filter(|one| one.rule == Rule::Advisory);
    let mut lines: Vec<Vec<String>> = findings
        .map(|one| {
            let first = &one.cves[0];
            assert!(one.cves.iter().all(|cve| cve.advisory == first.advisory));
            let installed = one.installed.clone().unwrap();
            let installed = if installed.contains(':') {
                installed
            } else {
                format!("0:{installed}")
            };
            vec![
                first.advisory.clone().unwrap_or_default(),
                one.package.clone(),
                installed,
                one.wanted.clone().unwrap(),
            ]
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn almalinux_s_roots_have_the_findings_that_rpm_s_order_gives() {
    let advisories = feed("advisories/osv-almalinux/alsa-8-9-to-2023.tar.zst");
    for (archive, list, count) in [
        (
            "almalinux-9.1-20221117-aarch64-micro.tar.xz",
            "expect-al9-20221117.tsv",
            7,
        ),
        (
            "almalinux-8-20230523-s390x-micro.tar.xz",
            "expect-al8-20230523.tsv",
            6,
        ),
    ] {
        let inventory = root(&format!("rootfs/{archive}"));
        let assessment = of(&inventory, &advisories, PLAIN, "2023-12-20T00:00:00Z");
        let theirs = expected(list);
        assert_eq!(theirs.len(), count);
        assert_eq!(found(&assessment), theirs);
        assert_eq!(assessment.verdict, Verdict::NonCompliant);
        assert!(assessment.unknown.is_empty(), "{:?}", assessment.unknown);
        assert!(assessment.judged >= 18, "{}", assessment.judged);
        let first = assessment
            .findings
            .iter()
            .find(|one| one.package == "glibc")
            .unwrap();
        assert!(
            first
                .cves
                .iter()
                .all(|cve| cve.id.starts_with("CVE-") && cve.published.is_some())
        );
        assert!(
            first
                .cves
                .iter()
                .all(|cve| cve.severity.is_some() && cve.urgency.is_some())
        );
        assert_eq!(assessment.feeds, advisories.feeds());
    }
}

#[test]
fn alpine_s_root_has_the_findings_that_apk_s_order_gives() {
    let advisories = feed("advisories/alpine-secdb/v3.8/main.yaml");
    let inventory = root("rootfs/glider-alpine-3.8.2-x86_64.tar.xz");
    let assessment = of(&inventory, &advisories, PLAIN, "2020-01-01T00:00:00Z");
    let findings = assessment
        .findings
        .iter()
        .filter(|one| one.rule == Rule::Advisory);
    let mut ours: Vec<Vec<String>> = findings
        .map(|one| {
            let source = inventory
                .find(&one.package)
                .next()
                .unwrap()
                .source_name
                .clone();
            assert_eq!(one.cves.len(), 1);
            vec![
                one.package.clone(),
                source,
                one.installed.clone().unwrap(),
                one.wanted.clone().unwrap(),
                one.cves[0].id.clone(),
            ]
        })
        .collect();
    ours.sort();
    let theirs = expected("expect-glider-alpine-3.8.tsv");
    assert_eq!(theirs.len(), 2);
    assert_eq!(ours, theirs);
    // It says no date of its own, which hides no package.
    let undated = assessment
        .gaps
        .iter()
        .filter(|gap| gap.why.contains("does not say of when"));
    assert_eq!(undated.filter(|gap| !gap.may_hide_packages).count(), 1);
    // Advisories for another release are none for this one.
    let other = feed("advisories/alpine-secdb/v3.10/main.yaml");
    let assessment = of(&inventory, &other, PLAIN, "2020-01-01T00:00:00Z");
    assert!(assessment.findings.is_empty());
    assert_eq!(assessment.verdict, Verdict::Indeterminate);
    assert!(
        assessment
            .gaps
            .iter()
            .any(|gap| gap.why.contains("speaks of apk packages"))
    );
}

#[test]
fn a_stale_feed_is_a_gap_for_those_whom_it_is_about() {
    let advisories = feed("advisories/osv-almalinux/alsa-8-9-to-2023.tar.zst");
    let alma = root("rootfs/almalinux-8-20230523-s390x-micro.tar.xz");
    let stale = |inventory: &Inventory, baseline: &str, as_of: &str| {
        let assessment = of(inventory, &advisories, baseline, as_of);
        let stale = assessment
            .gaps
            .iter()
            .filter(|gap| gap.why.contains("days old"));
        (
            stale.filter(|gap| gap.may_hide_packages).count(),
            assessment.coverage_complete,
        )
    };
    assert_eq!(stale(&alma, PLAIN, "2026-01-01T00:00:00Z"), (1, false));
    assert_eq!(stale(&alma, PLAIN, "2023-12-20T00:00:00Z").0, 0);
    let patient = "name = 'x'\n[advisories]\nstale-after-days = 10000\n";
    assert_eq!(stale(&alma, patient, "2026-01-01T00:00:00Z"), (0, true));
    assert_eq!(
        stale(&guest(&["a 1"]), PLAIN, "2026-01-01T00:00:00Z"),
        (0, true)
    );
}

#[test]
fn a_package_of_another_maker_is_unknown_and_not_judged() {
    let advisories = feed("advisories/osv-almalinux/alsa-8-9-to-2023.tar.zst");
    let mut alma = root("rootfs/almalinux-8-20230523-s390x-micro.tar.xz");
    let mut libcap = alma.find("libcap").next().unwrap().clone();
    assert!(alma.packages.remove(&libcap));
    libcap.vendor = Some("Fedora Project".into());
    alma.packages.insert(libcap);
    let at = "2023-12-20T00:00:00Z";
    let assessment = of(&alma, &advisories, PLAIN, at);
    assert_eq!(found(&assessment).len(), 5);
    let unknown: Vec<_> = assessment
        .unknown
        .iter()
        .map(|one| (one.package.as_str(), one.what))
        .collect();
    assert_eq!(unknown, [("libcap", Unknown::Origin)]);
    let failing = of(
        &alma,
        &advisories,
        "name = 'x'\nunknown-packages = 'fail'\n",
        at,
    );
    let finding = failing
        .findings
        .iter()
        .find(|one| one.rule == Rule::Unknown)
        .unwrap();
    assert!(finding.why.contains("Fedora Project"), "{}", finding.why);
}

const TRACKER: &str = r#"{"openssl": {
    "CVE-2026-0001": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "3.0.2-1", "urgency": "high"}}},
    "CVE-2026-0002": {"releases": {"bookworm": {"status": "open", "urgency": "low", "nodsa": "Minor issue"}}},
    "CVE-2026-0003": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "0", "urgency": "unimportant"}}}}}"#;
const VEX: &str = r#"{"@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://example.org/vex-1", "timestamp": "2026-01-01T00:00:00Z",
    "statements": [{"vulnerability": {"name": "CVE-2026-0001"}, "products": [{"@id": "pkg:deb/debian/openssl"}],
    "status": "not_affected", "justification": "component_not_present"}]}"#;
const EXPLOITED: &str = r#"{"catalogVersion": "1", "dateReleased": "2026-01-01T00:00:00Z", "vulnerabilities": [
    {"cveID": "CVE-2026-0001", "dateAdded": "2026-01-01", "dueDate": "2026-01-04"}]}"#;

fn feeds(texts: &[(&str, &str)]) -> Advisories {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in texts {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    Advisories::read(&[folder.path().to_owned()]).unwrap()
}

#[test]
fn what_no_version_mends_is_listed_or_fails_as_the_baseline_wants() {
    let inventory = guest(&["openssl 3.0.1-1"]);
    let advisories = feeds(&[("data.json", TRACKER), ("kev.json", EXPLOITED)]);
    let assessment = of(&inventory, &advisories, PLAIN, "2026-01-02T00:00:00Z");
    let finding = assessment.findings.first().unwrap();
    assert_eq!(
        (finding.rule, finding.wanted.as_deref()),
        (Rule::Advisory, Some("3.0.2-1"))
    );
    assert_eq!(finding.why, "CVE-2026-0001 is mended in 3.0.2-1");
    assert!(finding.cves[0].exploited);
    assert_eq!(
        finding.cves[0].exploited_due.unwrap().to_string(),
        "2026-01-04"
    );
    let unfixed = assessment.unfixed.first().unwrap();
    assert_eq!(
        (unfixed.cves[0].id.as_str(), unfixed.cves[0].fixed.as_str()),
        ("CVE-2026-0002", "")
    );
    let strict = "name = 'x'\n[advisories]\nunfixed = 'fail'\n";
    let assessment = of(&inventory, &advisories, strict, "2026-01-02T00:00:00Z");
    assert_eq!(
        (assessment.findings.len(), assessment.unfixed.len()),
        (2, 0)
    );
    let mended = of(
        &guest(&["openssl 3.0.2-1"]),
        &advisories,
        PLAIN,
        "2026-01-02T00:00:00Z",
    );
    assert_eq!(mended.verdict, Verdict::Compliant, "{:?}", mended.reasons);
}

#[test]
fn an_answered_finding_stands_and_does_not_count() {
    let inventory = guest(&["openssl 3.0.1-1"]);
    let advisories = feeds(&[("data.json", TRACKER), ("vex.json", VEX)]);
    let assessment = of(&inventory, &advisories, PLAIN, "2026-01-02T00:00:00Z");
    assert_eq!(
        assessment.verdict,
        Verdict::Compliant,
        "{:?}",
        assessment.reasons
    );
    let finding = assessment.findings.first().unwrap();
    let answer = finding.answer.as_ref().unwrap();
    assert_eq!(answer.document, "https://example.org/vex-1");
    assert_eq!(
        answer.justification.as_deref(),
        Some("component_not_present")
    );
    assert!(
        finding.why.contains("https://example.org/vex-1"),
        "{}",
        finding.why
    );
    assert_eq!(assessment.open_findings().count(), 0);
    crate::schemas::valid(
        "assessment-v1.json",
        &serde_json::to_value(&assessment).unwrap(),
    );
}
