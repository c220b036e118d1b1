//! Vendors' advisories: Debian's own list against awk, and the tracker's JSON in its published form.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use dormouse_advisories::{Advisories, FeedKind};
use dormouse_block::{Digest, ErrorKind};
use dormouse_packages::dpkg::Version;

use crate::archive::fixtures;

fn version(text: &str) -> Version {
    Version::parse(text).unwrap()
}

fn list() -> PathBuf {
    fixtures().join("advisories/debian-security-tracker/DSA-list-2023-04.zst")
}

/// Every advisory's CVE, source package, release and version, as awk takes them out of the list.
const AWK: &str = r#"
    /^\[/ { split($0, parts, "] "); split(parts[2], words, " "); advisory = words[1]; cves = ""; next }
    /^[ \t]+\{/ { line = $0; gsub(/[\t{} ]/, " ", line); cves = cves " " line; next }
    /^[ \t]+\[[a-z]+\] - / {
        if ($4 !~ /^([0-9]+:)?[0-9][A-Za-z0-9.+:~-]*$/) next
        release = substr($1, 2, length($1) - 2)
        if ($4 == "" || substr($4, 1, 1) == "<") next
        count = split(cves, each, " ")
        for (i = 1; i <= count; i++)
            if (each[i] ~ /^CVE-[0-9][0-9][0-9][0-9]-[0-9][0-9][0-9][0-9]+$/) print each[i], $3, release, $4, advisory
    }"#;

#[test]
fn debian_s_list_says_what_awk_reads_in_it() {
    let advisories = Advisories::read(&[list()]).unwrap();
    let feed = &advisories.feeds()[0];
    assert_eq!(feed.kind, FeedKind::DebianAdvisories);
    assert_eq!(feed.digest, Digest::of(std::fs::read(list()).unwrap()));
    let text = zstd::decode_all(&std::fs::read(list()).unwrap()[..]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("list");
    std::fs::write(&plain, text).unwrap();
    let output = Command::new("awk")
        .arg(AWK)
        .arg(&plain)
        .output()
        .expect("this test needs awk");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    assert!(lines.len() > 10_000, "{}", lines.len());
    assert_eq!((feed.entries, feed.unread), (lines.len(), 1));
    for line in &lines {
        let [cve, source, release, fixed, _] = line[..] else {
            panic!("{line:?}");
        };
        let mended = advisories.mended(source, release, &version("0~~"), &version(fixed));
        assert!(mended.iter().any(|fix| *fix.cve == *cve), "{line:?}");
        // What has it already has nothing to gain.
        let none = advisories.mended(source, release, &version(fixed), &version(fixed));
        assert!(none.is_empty());
    }
    // One of them whole, by hand.
    let xorg = advisories.mended(
        "xorg-server",
        "bullseye",
        &version("2:1.20.11-1+deb11u5"),
        &version("2:1.20.11-1+deb11u6"),
    );
    let names: Vec<_> = xorg.iter().map(|fix| &*fix.cve).collect();
    assert_eq!(names, ["CVE-2023-1393"]);
    assert_eq!(xorg[0].advisory.as_deref(), Some("DSA-5380-1"));
    assert!(
        advisories
            .mended("xorg-server", "bookworm", &version("0"), &version("9:9"))
            .is_empty(),
        "another release"
    );
}

const TRACKER: &str = r#"{
  "openssl": {
    "CVE-2026-0001": {
      "description": "a \"thing\"", "debianbug": 1, "scope": "remote",
      "releases": {
        "bookworm": {"status": "resolved", "repositories": {"bookworm": "3.0.1-1", "bookworm-security": "3.0.2-1"},
                     "fixed_version": "3.0.2-1", "urgency": "high"},
        "trixie": {"status": "resolved", "repositories": {}, "fixed_version": "0", "urgency": "unimportant"},
        "sid": {"status": "open", "repositories": {"sid": "3.1-1"}, "urgency": "not yet assigned", "nodsa": "minor"}
      }
    },
    "CVE-2026-0002": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "3.0.3-1"}}},
    "TEMP-0000000-ABCDEF": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "1"}}}
  },
  "empty": {}
}"#;

const EXPLOITED: &str = r#"{"title": "a", "catalogVersion": "2026.01.01", "dateReleased": "x", "count": 2, "vulnerabilities": [
  {"cveID": "CVE-2026-0002", "vendorProject": "x", "dateAdded": "2026-01-01", "dueDate": "2026-01-22"},
  {"cveID": "CVE-2020-9999", "vendorProject": "y"}]}"#;

const SCORES: &str = "#model_version:v2025.03.14,score_date:2026-01-01T00:00:00+0000\ncve,epss,percentile\n\
    CVE-2026-0001,0.00043,0.08\nCVE-2020-9999,0.9,0.99\n";

#[test]
fn a_folder_of_feeds_joins_them_by_source_and_cve() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("data.json"), TRACKER).unwrap();
    std::fs::write(at("kev.json"), EXPLOITED).unwrap();
    std::fs::create_dir(at("DSA")).unwrap();
    std::fs::write(
        at("DSA/list"),
        "[01 Jan 2026] DSA-9999-1 openssl - security update\n\t{CVE-2026-0001}\n\t[bookworm] - openssl 3.0.2-1\n\
         \tNOTE: x\n\t[trixie] - openssl <not-affected> (y)\n",
    )
    .unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(SCORES.as_bytes()).unwrap();
    std::fs::write(at("epss.csv.gz"), gz.finish().unwrap()).unwrap();
    let advisories = Advisories::read(&[folder.path().to_owned()]).unwrap();
    let kinds: BTreeSet<_> = advisories.feeds().iter().map(|feed| feed.kind).collect();
    assert_eq!(kinds.len(), 4);
    let mended = |there: &str, wanted: &str| {
        advisories.mended("openssl", "bookworm", &version(there), &version(wanted))
    };
    let one = &mended("3.0.1-1", "3.0.2-1")[0];
    assert_eq!(
        (&*one.cve, one.advisory.as_deref(), one.urgency.as_deref()),
        ("CVE-2026-0001", Some("DSA-9999-1"), Some("high"))
    );
    assert_eq!(mended("3.0.1-1", "3.0.2-1").len(), 1);
    assert_eq!(mended("3.0.1-1", "3.0.3-1").len(), 2);
    assert_eq!(mended("3.0.2-1", "3.0.3-1").len(), 1);
    assert!(mended("3.0.1-1", "3.0.2-1~").is_empty());
    let never = advisories.mended("openssl", "trixie", &version("0~"), &version("9"));
    assert!(never.is_empty(), "it was never concerned");
    assert!(advisories.is_exploited("CVE-2026-0002"));
    assert!(!advisories.is_exploited("CVE-2026-0001"));
    assert!(
        !advisories.is_exploited("CVE-2020-9999") && advisories.score("CVE-2020-9999").is_none(),
        "what no package has is not kept"
    );
    assert_eq!(advisories.score("CVE-2026-0001"), Some("0.00043"));
}

#[test]
fn broken_feeds_are_errors_and_other_files_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feed");
    for (text, kind) in [
        ("", ErrorKind::Unsupported),
        ("hello", ErrorKind::Unsupported),
        ("[1, 2]", ErrorKind::Unsupported),
        ("{", ErrorKind::Corrupt),
        ("{\"a\": 1}", ErrorKind::Corrupt),
        (
            "{\"ok\": {\"CVE-2026-0001\": {\"releases\": []}}}",
            ErrorKind::Corrupt,
        ),
        ("{\"Bad Name\": {}}", ErrorKind::Corrupt),
        (
            "{\"ok\": {\"CVE-2026-0001\": {\"releases\": {\"a\": {\"fixed_version\": \"no version\"}}}}}",
            ErrorKind::Corrupt,
        ),
        ("{\"ok\": {}} trailing", ErrorKind::Corrupt),
        (
            "{\"catalogVersion\": 1, \"vulnerabilities\": [{}]}",
            ErrorKind::Corrupt,
        ),
        ("cve,epss\nCVE-2026-0001,high\n", ErrorKind::Corrupt),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Advisories::read(std::slice::from_ref(&path)).unwrap_err();
        assert_eq!(error.kind(), kind, "{text:?}: {}", error.with_causes());
    }
    let deep = format!("{{\"a\": {}", "{\"CVE-2026-0001\": ".repeat(100_000));
    std::fs::write(&path, deep).unwrap();
    assert!(Advisories::read(&[path]).is_err());
}
