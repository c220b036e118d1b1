//! Vendors' advisories: Debian's own list against awk, and the tracker's JSON in its published form.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use dormouse_advisories::{Advisories, Concern, FeedKind, Target};
use dormouse_block::{Digest, ErrorKind};
use dormouse_packages::OsRelease;

use crate::archive::fixtures;

/// A Debian of this codename.
fn debian(codename: &str) -> Target {
    Target::of_system(&OsRelease {
        id: "debian".into(),
        version_codename: Some(codename.into()),
        ..OsRelease::default()
    })
}

fn mended<'a>(
    advisories: &'a Advisories,
    source: &str,
    release: &str,
    there: &str,
    wanted: &str,
) -> Vec<Concern<'a>> {
    advisories.mended(&debian(release), source, there, wanted)
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
    let advisory_count: BTreeSet<_> = lines.iter().map(|line| line[4]).collect();
    let headings = Command::new("grep")
        .args(["-cE", "^\\[[^]]*\\] (DSA|DLA|DTSA)-"])
        .arg(&plain)
        .output()
        .expect("this test needs grep");
    let headings = String::from_utf8(headings.stdout).unwrap();
    assert_eq!(headings.trim(), feed.documents.to_string());
    assert!(feed.advisories >= advisory_count.len());
    assert_eq!(feed.unread, 1);
    assert_eq!(feed.date.unwrap().to_string(), "2023-04-21T00:00:00Z");
    for line in &lines {
        let [cve, source, release, fixed, _] = line[..] else {
            panic!("{line:?}");
        };
        let found = mended(&advisories, source, release, "0~~", fixed);
        assert!(found.iter().any(|concern| concern.id == cve), "{line:?}");
        // What has it already has nothing to gain.
        assert!(mended(&advisories, source, release, fixed, fixed).is_empty());
    }
    // One of them whole, by hand.
    let xorg = mended(
        &advisories,
        "xorg-server",
        "bullseye",
        "2:1.20.11-1+deb11u5",
        "2:1.20.11-1+deb11u6",
    );
    let names: Vec<_> = xorg.iter().map(|concern| concern.id).collect();
    assert_eq!(names, ["CVE-2023-1393"]);
    assert_eq!(xorg[0].advisory, Some("DSA-5380-1"));
    assert_eq!(
        xorg[0].published.unwrap().to_string(),
        "2023-03-29T00:00:00Z"
    );
    assert!(
        mended(&advisories, "xorg-server", "bookworm", "0", "9:9").is_empty(),
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
    let openssl =
        |there: &str, wanted: &str| mended(&advisories, "openssl", "bookworm", there, wanted);
    let all = openssl("3.0.1-1", "3.0.2-1");
    let one = &all[0];
    assert_eq!(
        (one.id, one.advisory, one.word),
        ("CVE-2026-0001", Some("DSA-9999-1"), Some("high"))
    );
    assert_eq!(one.severity, Some(dormouse_advisories::Severity::High));
    assert_eq!(openssl("3.0.1-1", "3.0.2-1").len(), 1);
    assert_eq!(openssl("3.0.1-1", "3.0.3-1").len(), 2);
    assert_eq!(openssl("3.0.2-1", "3.0.3-1").len(), 1);
    assert!(openssl("3.0.1-1", "3.0.2-1~").is_empty());
    let never = mended(&advisories, "openssl", "trixie", "0~", "9");
    assert!(never.is_empty(), "it was never concerned");
    let known = advisories.known("CVE-2026-0002");
    assert!(known.exploited && known.epss.is_none());
    assert_eq!(known.since.unwrap().to_string(), "2026-01-01");
    assert_eq!(known.due.unwrap().to_string(), "2026-01-22");
    assert!(!advisories.known("CVE-2026-0001").exploited);
    assert_eq!(advisories.known("CVE-2026-0001").epss, Some("0.00043"));
    assert_eq!(
        advisories.known("CVE-2099-0001"),
        dormouse_advisories::Known::default()
    );
    let dates: Vec<_> = advisories
        .feeds()
        .iter()
        .map(|feed| (feed.kind, feed.date.map(|date| date.to_string())))
        .collect();
    assert!(
        dates.contains(&(FeedKind::DebianTracker, None)),
        "it says none"
    );
    assert!(dates.contains(&(FeedKind::Epss, Some("2026-01-01T00:00:00Z".into()))));
    assert!(dates.contains(&(
        FeedKind::DebianAdvisories,
        Some("2026-01-01T00:00:00Z".into())
    )));
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
