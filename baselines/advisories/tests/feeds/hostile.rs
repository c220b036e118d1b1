//! Broken feeds: refused with their file, place and key, and never worse than that.

use dormouse_advisories::Advisories;
use dormouse_block::ErrorKind;

use crate::{fixture, read_text};

#[test]
fn a_malformed_feed_is_refused_by_file_place_and_key() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "osv.json",
            "{\"id\": \"A-1\",\n\"modified\": \"yesterday\"}",
            &["osv.json", "line 2", "modified"],
        ),
        (
            "osv.json",
            "{\"id\": \"A-1\", \"modified\": \"2026-01-01T00:00:00Z\",\n\"affected\": [{\"package\": 1}]}",
            &["line 2", "affected[0].package"],
        ),
        (
            "osv.json",
            "{\"id\": \"A-1\", \"modified\": \"2026-01-01T00:00:00Z\", \"affected\": [{\"package\": {\"ecosystem\": \"Debian:12\", \
             \"name\": \"curl\"}, \"ranges\": [{\"type\": \"ECOSYSTEM\", \"events\": [{\"introduced\": \"0\"}, {\"fixed\": \"no version\"}]}]}]}",
            &["A-1", "curl", "no version"],
        ),
        (
            "kev.json",
            "{\"catalogVersion\": \"1\",\n\"vulnerabilities\": [{\"cveID\": 1}]}",
            &["kev.json", "line 2"],
        ),
        (
            "vex.json",
            "{\"@context\": \"https://openvex.dev/ns\", \"@id\": \"x\", \"timestamp\": \"2026-01-01T00:00:00Z\", \"statements\": [{\"vulnerability\": \"CVE-2026-0001\", \"status\": \"not_affected\"}]}",
            &["statements[0]", "justification"],
        ),
        (
            "vex.json",
            "{\"@context\": \"https://openvex.dev/ns\", \"@id\": \"x\", \"timestamp\": \"2026-01-01T00:00:00Z\", \"statements\": [{\"vulnerability\": \"CVE-2026-0001\", \"status\": \"fine\"}]}",
            &["statements[0].status", "fine"],
        ),
        (
            "updateinfo.xml",
            "<updates><update type='security'><id>A</id><pkglist><collection><package name='a' version='1'/></collection></pkglist></update></updates>",
            &["at byte", "A", "release"],
        ),
        (
            "updateinfo.xml",
            "<updates><update><id>A</id>",
            &["updateinfo.xml", "at byte", "ends"],
        ),
        (
            "updateinfo.xml",
            "<!DOCTYPE u [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><updates><update><id>&b;</id></update></updates>",
            &["entity", "at byte"],
        ),
        (
            "secdb.yaml",
            "distroversion: v3.19\npackages:\n  - pkg:\n      name: a\n      secfix:\n",
            &["line 5", "secfix"],
        ),
        (
            "secdb.json",
            "{\"apkurl\": \"x\", \"distroversion\": \"next\", \"packages\": []}",
            &["distroversion", "next"],
        ),
        (
            "secdb.json",
            "{\"apkurl\": \"x\", \"distroversion\": \"v3.19\", \"packages\": {\"a\": 1}}",
            &["packages", "line 1"],
        ),
        (
            "all.json",
            "[{\"name\": \"AVG-1\", \"packages\": [\"a\"], \"status\": \"Fixed\"}]",
            &["AVG-1", "fixed"],
        ),
        (
            "oval.xml",
            "<oval_definitions><definition id='d' class='patch'><criteria><criterion test_ref='t:9' comment='x'/></criteria></definition></oval_definitions>",
            &["definition d", "t:9"],
        ),
        (
            "epss.csv",
            "#model_version:v1,score_date:2026-01-01T00:00:00+0000\ncve,epss,percentile\nCVE-2026-0001,2,0\n",
            &["line 3", "CVE-2026-0001"],
        ),
    ];
    for (name, text, parts) in cases {
        let error = match read_text(name, text) {
            Ok(_) => panic!("{text}"),
            Err(error) => error.with_causes(),
        };
        for part in parts.iter().chain([name]) {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }
}

#[test]
fn broken_samples_are_refused() {
    for path in [
        "debian-tracker-trivy-db/broken-cve",
        "debian-tracker-trivy-db/broken-distributions",
        "debian-tracker-trivy-db/broken-packages",
        "oval/oracle/broken-oval-data.xml.bz2",
        "osv-schema/osv-linter/nointroduced-CVE-2023-41045.json",
    ] {
        let result = Advisories::read(&[fixture(path)]);
        // Ranges of commits are no inventory's, whatever they lack.
        if path.contains("nointroduced") {
            assert_eq!(result.unwrap().feeds()[0].elsewhere, 1);
            continue;
        }
        let error = result.unwrap_err();
        let is_theirs = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported);
        assert!(is_theirs, "{path}: {}", error.with_causes());
    }
}

#[test]
fn a_zip_archive_is_no_feed_yet_and_is_said_to_be_one() {
    let error = Advisories::parse("all.zip", b"PK\x03\x04rest").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("zip"));
}

/// A small generator of pseudo-random numbers (xorshift), so that a failure is the same failure again.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % below.max(1)
    }

    fn mutate(&mut self, from: &[u8]) -> Vec<u8> {
        let mut bytes = from.to_vec();
        for _ in 0..=self.next(4) {
            let at = self.next(bytes.len());
            match self.next(5) {
                0 => bytes[at] ^= 1 << self.next(8),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, b"{}[]\"<>&;:,0\\/"[self.next(14)]),
                3 => {
                    let other = self.next(bytes.len());
                    let (from, to) = (at.min(other), at.max(other).min(at.min(other) + 200));
                    let part = bytes[from..to].to_vec();
                    bytes.splice(at..at, part);
                }
                _ => {
                    let to = (at + 1 + self.next(20)).min(bytes.len());
                    bytes.drain(at..to);
                }
            }
            if bytes.is_empty() {
                bytes.push(b' ');
            }
        }
        bytes
    }
}

#[test]
fn mutated_feeds_end_in_an_answer() {
    let mut random = Random(0x5eed_0042);
    let name = "azurelinux-3.0-oval.xml";
    let read = |path: &str| std::fs::read(fixture(path)).unwrap();
    let mut tar = Vec::new();
    for (name, body) in [
        (
            "./a/GO.json",
            read("osv-schema/osv-linter/GO-2024-2963.json"),
        ),
        ("b.txt", b"x".to_vec()),
    ] {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", body.len()).as_bytes());
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend_from_slice(&header);
        tar.extend_from_slice(&body);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    let sources = [
        tar,
        read("osv-schema/osv-linter/GO-2024-2963.json"),
        read("csaf/oasis-2.0/csaf_vex/2022-evd-uc-01-na-001.json"),
        read("alpine-vunnel/secdb/v3.15/main.yaml"),
        read("updateinfo/createrepo_c/updateinfo_01.xml"),
        read("oval/mariner/azurelinux-3.0-oval.xml"),
        br#"[{"name": "AVG-1", "packages": ["curl"], "status": "Fixed", "fixed": "8.1-1", "issues": ["CVE-2026-0001"]}]"#.to_vec(),
        br#"{"@context": "https://openvex.dev/ns/v0.2.0", "@id": "x", "timestamp": "2026-01-01T00:00:00Z", "statements": [{"vulnerability": {"name": "CVE-2026-0001"}, "products": [{"@id": "pkg:deb/debian/curl@8-1"}], "status": "fixed"}]}"#.to_vec(),
        br#"{"apkurl": "x", "distroversion": "v3.19", "packages": [{"pkg": {"name": "a", "secfixes": {"1-r0": ["CVE-2026-0001"]}}}]}"#.to_vec(),
        br#"{"dataType": "CVE_RECORD", "cveMetadata": {"cveId": "CVE-2026-0001"}, "containers": {"adp": [{"metrics": [{"other": {"type": "ssvc", "content": {"options": [{"Exploitation": "poc"}]}}}]}]}}"#.to_vec(),
    ];
    for source in &sources {
        let whole = Advisories::parse(name, source);
        assert!(
            whole.is_ok(),
            "{:?} {}",
            whole.err().map(|error| error.with_causes()),
            String::from_utf8_lossy(source)
        );
    }
    let (mut good, mut bad) = (0, 0);
    for round in 0..3000 {
        let source = &sources[round % sources.len()];
        match Advisories::parse(name, &random.mutate(source)) {
            Ok(_) => good += 1,
            Err(_) => bad += 1,
        }
    }
    assert!(good > 200 && bad > 200, "{good} {bad}");
}
