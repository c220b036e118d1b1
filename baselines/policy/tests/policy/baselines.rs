//! Baseline files: what reads, and what is refused with its line and key.

use dormouse_block::ErrorKind;
use dormouse_policy::{Baseline, SHIPPED, default_baseline};

#[test]
fn every_shipped_baseline_reads_under_its_own_name() {
    for (name, _) in SHIPPED {
        let baseline = Baseline::shipped(name).unwrap().unwrap();
        assert_eq!(baseline.name, *name);
        assert!(!baseline.description.is_empty() && baseline.digest().is_some());
    }
    assert!(Baseline::shipped("none").unwrap().is_none());
}

/// The text with every setting that is a comment taken out of it.
pub(crate) fn in_force(text: &str) -> String {
    let is_setting = |line: &str| {
        line.starts_with('[')
            || line
                .split_once(" = ")
                .is_some_and(|(key, _)| !key.contains(' '))
    };
    text.lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if is_setting(setting) => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect()
}

/// The commented default says all that can be said: with its comments taken off it reads too.
#[test]
fn the_default_reads_with_every_comment_in_force() {
    let baseline = Baseline::parse(&in_force(default_baseline())).unwrap();
    assert_eq!((baseline.gates.len(), baseline.files.len()), (1, 1));
    assert_eq!((baseline.settings.len(), baseline.probes().len()), (1, 6));
    let fix = &baseline.fixes[0];
    let conditions = (
        fix.packages.len(),
        fix.files.len(),
        fix.settings.len(),
        fix.lines.len(),
    );
    assert_eq!(
        (baseline.fixes.len(), conditions, fix.edits.len()),
        (1, (1, 1, 1, 1), 6)
    );
    let rules = &baseline.deadlines.rules;
    assert_eq!(rules.len(), 2 + 16, "its own before those of the shipped");
    assert_eq!(rules[0].id, "severe-and-exposed");
    assert_eq!(baseline.minimum_versions.len(), 1);
    assert_eq!((baseline.required.len(), baseline.forbidden.len()), (1, 1));
    assert_eq!(
        (baseline.waivers.len(), baseline.accepted_gaps.len()),
        (1, 1)
    );
    assert!(baseline.as_of.is_some());
    assert!(baseline.applies_to.labels.len() == 2 && baseline.applies_to.machines.len() == 2);
}

#[test]
fn errors_name_line_and_key() {
    let waiver = "name = 'x'\n[[waiver]]\nid = 'W'\npackage = 'a'\nreason = 'r'\n";
    for (text, line, word) in [
        ("name = 'x'\nsuite = ['a']\n".to_owned(), 2, "`suite`"),
        (
            "name = 'x'\n\n[applies-to]\nosx = ['a']\n".to_owned(),
            4,
            "`osx`",
        ),
        ("name = 'x'\nsuites = 'a'\n".to_owned(), 2, "sequence"),
        ("name = 'x'\nfail-on = ['bad']\n".to_owned(), 2, "`bad`"),
        (
            "name = 'x'\n[minimum-versions]\nopenssl = '1 2'\n".to_owned(),
            3,
            "character",
        ),
        (
            "name = 'x'\n[[forbidden]]\npackage = 'a'\nversions = '1.2'\n".to_owned(),
            4,
            "range",
        ),
        (
            "name = 'x'\n[[required]]\npackage = 'a b'\n".to_owned(),
            3,
            "package name",
        ),
        (format!("{waiver}expires = 'soon'\n"), 6, "date"),
        (format!("{waiver}expires = 2026-02-30\n"), 6, ""),
        (
            format!("{waiver}expires = 2026-01-01\nexpire = 1\n"),
            7,
            "`expire`",
        ),
        (
            format!("{waiver}rule = 'any'\nexpires = 2026-01-01\n"),
            6,
            "`any`",
        ),
        ("name = 'x'\nname = 'y'\n".to_owned(), 2, "duplicate"),
        (
            "name = 'x'\n[[gate]]\nid = 'g'\ncves = ['CVE-1']\n".to_owned(),
            4,
            "CVE-1",
        ),
        (
            "name = 'x'\n[[gate]]\n\nid = 'g'\n".to_owned(),
            4,
            "names no CVE",
        ),
        (
            "name = 'x'\n[[file]]\nid = 'f'\npath = '/x'\nmode = '888'\n".to_owned(),
            5,
            "octal",
        ),
        (
            "name = 'x'\n[[setting]]\nid = 's'\npaths = ['/a*/b']\nkey = 'k'\n".to_owned(),
            4,
            "last component",
        ),
        (
            "name = 'x'\n[[setting]]\nid = 's'\npaths = ['/a']\nkey = 'k'\n".to_owned(),
            3,
            "allows no value",
        ),
        (
            "name = 'x'\n[[deadlines.rule]]\nid = 'd'\nseverity = ['low']\nwithin = '1 day'\n"
                .to_owned(),
            3,
            "has conditions",
        ),
        (
            "name = 'x'\n[[deadlines.rule]]\nid = 'd'\nwithin = '1 fortnight'\n".to_owned(),
            4,
            "no time",
        ),
        (
            "name = 'x'\n[[waiver]]\nid = 'W'\nreason = 'r'\nexpires = 2026-01-01\n".to_owned(),
            3,
            "is for everything",
        ),
        (
            format!(
                "{waiver}expires = 2026-01-01\n[[waiver]]\nid = 'W'\npackage = 'b'\nreason = 'r'\nexpires = 2026-01-01\n"
            ),
            8,
            "two waivers",
        ),
        ("name = \n".to_owned(), 1, ""),
    ] {
        let error = Baseline::parse(&text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let message = error.to_string();
        assert!(
            message.contains(&format!("line {line} ")),
            "{text}: {message}"
        );
        assert!(message.contains(word), "{text}: {message}");
    }
    let error = Baseline::parse(waiver).unwrap_err();
    assert!(
        error.to_string().contains("`expires`"),
        "a waiver without an end is refused: {error}"
    );
    let twice = format!(
        "{waiver}expires = 2026-01-01\n[[accepted-gap]]\nid = 'W'\ngap = '*'\nreason = 'r'\nexpires = 2026-01-01\n"
    );
    assert!(
        Baseline::parse(&twice)
            .unwrap_err()
            .to_string()
            .contains("\"W\"")
    );
    assert!(Baseline::parse("").is_err());
}

#[test]
fn files_are_named_in_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.toml");
    std::fs::write(&path, "name = 'x'\nsuite = 1\n").unwrap();
    let message = Baseline::read(&path).unwrap_err().to_string();
    assert!(
        message.contains("mine.toml") && message.contains("line 2"),
        "{message}"
    );
    std::fs::write(&path, b"name = '\xff'\n").unwrap();
    assert!(Baseline::read(&path).is_err());
    std::fs::write(&path, default_baseline()).unwrap();
    assert_eq!(
        Baseline::read(&path).unwrap(),
        Baseline::parse(default_baseline()).unwrap()
    );
}

#[test]
fn mutated_baselines_read_or_are_refused() {
    let mut state = 0x5eed_0009_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below.max(1)
    };
    let text: String = default_baseline()
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or(line)))
        .collect();
    let plain = default_baseline().as_bytes();
    let mut refused = 0;
    for round in 0..4000 {
        let mut bytes = if round % 2 == 0 {
            plain.to_vec()
        } else {
            text.as_bytes().to_vec()
        };
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes.truncate(at),
                1 => bytes[at] = b"=[]'\"\n#{},.-"[random(12)],
                _ => drop(bytes.drain(at..(at + random(30)).min(bytes.len()))),
            }
            if bytes.is_empty() {
                bytes.push(b'x');
            }
        }
        refused += usize::from(Baseline::parse(&String::from_utf8_lossy(&bytes)).is_err());
    }
    assert!(refused > 1000, "{refused}");
}
