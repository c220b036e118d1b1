//! Shipped deadlines against the tables of their sources, and what deadlines do to findings and verdicts.

use std::collections::BTreeMap;

use dormouse_advisories::Severity::{self, Critical, High, Low, Medium, None as Nothing};
use dormouse_policy::deadline::{Subject, Weight};
use dormouse_policy::{Baseline, Due, Rule, Verdict};
use jiff::Timestamp;

use crate::world::{Known, guest, judge_at, judge_knowing, judge_with, offers};

/// A month and a day, so that months and days differ.
const SINCE: &str = "2026-01-31T00:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// What a shipped baseline says of one weight on a machine that is exposed or not, all of it known of since [`SINCE`].
#[track_caller]
fn due(name: &str, exposed: Option<bool>, weight: &Weight) -> Due {
    let baseline = Baseline::shipped(name).unwrap().unwrap();
    let weight = Weight {
        cve: Some("CVE-2026-0001".into()),
        published: Some(at(SINCE)),
        available: Some(at(SINCE)),
        ..weight.clone()
    };
    let subject = Subject {
        rule: Rule::Suite,
        package: "openssl",
        exposed,
        labels: &BTreeMap::new(),
        detected: at(SINCE),
        as_of: at(SINCE),
    };
    baseline.deadlines.due(&subject, &[weight]).unwrap()
}

fn rated(severity: Severity) -> Weight {
    Weight {
        severity: Some(severity),
        exploited: Some(false),
        automatable: Some(false),
        total_impact: Some(false),
        ..Weight::default()
    }
}

/// The table as CERT/CC publishes it (`cisa_bod_26_04_1_0_0.csv`), all sixteen rows: in KEV, exposed, automatable, impact.
#[test]
fn cisa_bod_26_04_is_its_table() {
    let table = "\
0,no,no,no,partial,fix on system upgrade
1,yes,no,no,partial,14 days
2,no,yes,no,partial,60 days
3,no,no,yes,partial,60 days
4,no,no,no,total,fix on system upgrade
5,yes,yes,no,partial,14 days
6,yes,no,yes,partial,14 days
7,no,yes,yes,partial,14 days
8,yes,no,no,total,14 days
9,no,yes,no,total,14 days
10,no,no,yes,total,60 days
11,yes,yes,yes,partial,3 days
12,yes,yes,no,total,3 days & forensic investigation
13,yes,no,yes,total,3 days & forensic investigation
14,no,yes,yes,total,3 days
15,yes,yes,yes,total,3 days & forensic investigation";
    assert_eq!(table.lines().count(), 16);
    for line in table.lines() {
        let cells: Vec<_> = line.split(',').collect();
        let yes = |cell: usize| cells[cell] == "yes" || cells[cell] == "total";
        let weight = Weight {
            exploited: Some(yes(1)),
            automatable: Some(yes(3)),
            total_impact: Some(yes(4)),
            exploited_since: yes(1).then(|| at(SINCE)),
            ..Weight::default()
        };
        let due = due("cisa-bod-26-04", Some(yes(2)), &weight);
        let said = match (due.within.to_string().as_str(), due.forensic_triage) {
            ("next upgrade", false) => "fix on system upgrade".to_owned(),
            (days, false) => days.to_owned(),
            (days, true) => format!("{days} & forensic investigation"),
        };
        assert_eq!(said, cells[5], "row {line}");
        assert!(due.assumed.is_empty(), "row {line}: {due:?}");
        let days = cells[5].split(' ').next().unwrap().parse::<i64>().ok();
        let until = days.map(|days| at(SINCE) + jiff::SignedDuration::from_hours(24 * days));
        assert_eq!(due.until, until, "row {line}");
    }
}

#[test]
fn cisa_counts_from_the_earlier_of_listing_and_detection_and_says_what_it_assumed() {
    let listed = Weight {
        exploited: Some(true),
        exploited_since: Some(at("2026-01-20T00:00:00Z")),
        ..Weight::default()
    };
    let due = due("cisa-bod-26-04", None, &listed);
    assert_eq!(due.rule, "kev-exposed-total");
    assert_eq!(due.until, Some(at("2026-01-23T00:00:00Z")));
    assert!(due.overdue && due.forensic_triage);
    let assumed: Vec<_> = due
        .assumed
        .iter()
        .map(|(a, b)| format!("{a}={b}"))
        .collect();
    assert_eq!(
        assumed,
        ["automatable=no", "exposed=yes", "total-impact=yes"]
    );
}

/// VDR-TFR-PVR, every cell: exposed and likely exploitable, likely exploitable, not likely.
#[test]
fn fedramp_2026_is_its_tables() {
    let tables = [
        (
            "b",
            [
                "4 days|8 days|32 days",
                "8 days|32 days|64 days",
                "32 days|64 days|192 days",
                "96 days|160 days|192 days",
            ],
        ),
        (
            "c",
            [
                "2 days|4 days|16 days",
                "4 days|8 days|64 days",
                "16 days|32 days|128 days",
                "48 days|128 days|192 days",
            ],
        ),
        (
            "d",
            [
                "12 hours|1 day|8 days",
                "2 days|8 days|32 days",
                "8 days|16 days|64 days",
                "24 days|96 days|192 days",
            ],
        ),
    ];
    for (class, rows) in tables {
        let name = format!("fedramp-2026-class-{class}");
        for (severity, row) in [Critical, High, Medium, Low].into_iter().zip(rows) {
            let cells: Vec<_> = row.split('|').collect();
            let likely = [
                Weight {
                    exploited: Some(true),
                    ..rated(severity)
                },
                Weight {
                    automatable: Some(true),
                    ..rated(severity)
                },
                // Automation is assumed unless proven otherwise.
                Weight {
                    automatable: None,
                    ..rated(severity)
                },
            ];
            for weight in &likely {
                for (exposed, cell) in [(Some(true), 0), (None, 0), (Some(false), 1)] {
                    let due = due(&name, exposed, weight);
                    assert_eq!(
                        due.within.to_string(),
                        cells[cell],
                        "{class} {severity:?} {weight:?}"
                    );
                    assert_eq!(due.from.as_str(), "detected");
                }
            }
            for exposed in [Some(true), Some(false)] {
                let due = due(&name, exposed, &rated(severity));
                assert_eq!(due.within.to_string(), cells[2], "{class} {severity:?}");
            }
        }
        let due = due(&name, Some(true), &rated(Nothing));
        assert_eq!(due.until, None, "N1 is routine");
        let gates = &Baseline::shipped(&name).unwrap().unwrap().gates;
        assert_eq!(gates[0].exploited, Some(true), "VDR-CSO-AKE");
    }
}

#[test]
fn definitions_by_severity_are_their_sources() {
    for (name, rows) in [
        // Critical, high, medium, low.
        (
            "fedramp-rev5-legacy",
            ["2026-03-02", "2026-03-02", "2026-05-01", "2026-07-30"],
        ),
        (
            "monthly-quarterly",
            ["2026-02-28", "2026-02-28", "2026-04-30", "2026-04-30"],
        ),
        (
            "pci-dss-6.3.3",
            ["2026-02-28", "2026-04-30", "2026-04-30", "2026-04-30"],
        ),
        (
            "cis-7.3-7.4",
            ["2026-02-28", "2026-02-28", "2026-02-28", "2026-02-28"],
        ),
    ] {
        for (severity, day) in [Critical, High, Medium, Low].into_iter().zip(rows) {
            let due = due(name, Some(true), &rated(severity));
            assert_eq!(
                due.until,
                Some(at(&format!("{day}T00:00:00Z"))),
                "{name} {severity:?}"
            );
        }
    }
}

const DATED: &str = "name = 'x'\nsuites = ['bookworm-security']\nfail-on-overdue-only = true\n\
    [[deadlines.rule]]\nid = 'all'\nwithin = '30 days'\nfrom = 'published'\n";

/// Both CVEs of openssl, seen first on this day.
fn seen(day: &str) -> Known {
    let mut known = Known {
        advisories: crate::verdicts::advisories(),
        ..Known::default()
    };
    for cve in ["CVE-2026-0001", "CVE-2026-0002"] {
        known.history.note("openssl", cve, at(day));
        known
            .history
            .note("openssl", cve, at("2026-06-01T00:00:00Z"));
    }
    known
}

#[test]
fn within_its_deadline_a_finding_passes_the_gate_and_past_it_not() {
    let releases = offers(&["bookworm-security openssl 3.0.2-1"]);
    let there = guest(&["openssl 3.0.1-1"]);
    let dated = DATED.replace("published", "detected");
    let known = seen("2026-01-01T00:00:00Z");
    for (as_of, overdue) in [
        ("2026-01-02T00:00:00Z", false),
        ("2026-01-30T23:59:59Z", false),
        ("2026-01-31T00:00:00Z", true),
    ] {
        let assessment = judge_knowing(&dated, &there, &releases, &known, as_of);
        let due = assessment.findings[0].due.clone().unwrap();
        assert_eq!(due.since, at("2026-01-01T00:00:00Z"), "{due:?}");
        assert_eq!(due.overdue, overdue, "{as_of}");
        assert_eq!(assessment.passes, !overdue, "{as_of}");
        assert_eq!(assessment.verdict, Verdict::NonCompliant);
        let word = if overdue {
            "1 finding is overdue"
        } else {
            "within deadlines, the next until 2026-01-31"
        };
        let said = &assessment.reasons;
        assert!(said.iter().any(|why| why.contains(word)), "{said:?}");
        assert_eq!(assessment.next_deadline(), Some(at("2026-01-31T00:00:00Z")));
        assert_eq!(
            assessment.findings[0].first_seen,
            Some(at("2026-01-01T00:00:00Z"))
        );
    }
    // Without the key the gate fails on any of them.
    let plain = DATED.replace("fail-on-overdue-only = true\n", "");
    assert!(!judge_at(&plain, &there, &releases, "2026-01-02T00:00:00Z").passes);
    let error = Baseline::parse("name = 'x'\nfail-on-overdue-only = true\n").unwrap_err();
    assert!(error.to_string().contains("fail-on-overdue-only"));
}

#[test]
fn what_has_no_date_counts_from_its_first_sighting_and_says_so() {
    let releases = offers(&["bookworm-security curl 2"]);
    let there = guest(&["curl 1"]);
    let as_of = "2026-03-01T00:00:00Z";
    let fresh = judge_at(DATED, &there, &releases, as_of);
    let due = fresh.findings[0].due.clone().unwrap();
    assert_eq!((due.since, due.overdue), (at(as_of), false));
    let assumed = due.assumed.get("date").map(String::as_str);
    assert_eq!(assumed, Some("detected"));
    assert_eq!(fresh.findings[0].first_seen, None);

    let mut known = Known::default();
    for what in fresh.findings[0].sightings() {
        known.history.note("curl", what, at("2026-01-15T00:00:00Z"));
    }
    let later = judge_knowing(DATED, &there, &releases, &known, as_of);
    let due = later.findings[0].due.clone().unwrap();
    assert_eq!((due.since, due.overdue), (at("2026-01-15T00:00:00Z"), true));
    // What the state saw after the instant judged is not known then.
    let before = judge_knowing(DATED, &there, &releases, &known, "2026-01-10T00:00:00Z");
    assert_eq!(before.findings[0].first_seen, None);
}

#[test]
fn an_exposed_machine_is_told_by_its_label() {
    let releases = offers(&["bookworm-security curl 2"]);
    let text = "name = 'x'\nsuites = ['bookworm-security']\n[deadlines]\nlike = 'monthly-quarterly'\n\
        assume = { exposed = false }\n\
        [[deadlines.rule]]\nid = 'public'\nexposed = true\nwithin = '1 day'\nfrom = 'detected'\n";
    for (label, exposed, rule) in [
        (Some("public"), Some(true), "public"),
        (Some("internal"), Some(false), "monthly"),
        (Some("pubilc"), None, "monthly"),
        (None, None, "monthly"),
    ] {
        let mut known = Known::default();
        if let Some(label) = label {
            known.labels.insert("exposure".into(), label.into());
        }
        let assessment = judge_knowing(
            text,
            &guest(&["curl 1"]),
            &releases,
            &known,
            crate::world::NOW,
        );
        let due = assessment.findings[0].due.clone().unwrap();
        assert_eq!(
            (assessment.exposed, due.rule.as_str()),
            (exposed, rule),
            "{label:?}"
        );
        assert_eq!(due.assumed.contains_key("exposed"), exposed.is_none());
    }
    let error = Baseline::parse("name = 'x'\n[deadlines]\nlike = 'none'\n").unwrap_err();
    assert!(error.to_string().contains("\"none\""));
}

#[test]
fn the_riskiest_comes_first() {
    let releases = offers(&[
        "bookworm-security a 2",
        "bookworm-security b 2",
        "bookworm-security openssl 3.0.2-1",
    ]);
    let text = "name = 'x'\nsuites = ['bookworm-security']\n\
        [[deadlines.rule]]\nid = 'b'\npackages = ['b']\nwithin = '1 day'\nfrom = 'detected'\n\
        [[deadlines.rule]]\nid = 'late'\nwithin = 'next upgrade'\n";
    let assessment = judge_with(
        text,
        &guest(&["a 1", "b 1", "openssl 3.0.1-1"]),
        &releases,
        &crate::verdicts::advisories(),
        crate::world::NOW,
    );
    let order: Vec<_> = assessment
        .findings
        .iter()
        .map(|one| one.package.as_str())
        .collect();
    assert_eq!(
        order,
        ["openssl", "b", "a"],
        "exploited, then due, then the next upgrade"
    );
}

#[test]
fn a_waiver_of_one_cve_leaves_the_others_and_of_all_waives_the_finding() {
    let releases = offers(&["bookworm-security openssl 3.0.2-1"]);
    let there = guest(&["openssl 3.0.1-1"]);
    let with = |cves: &str, more: &str| {
        let text = format!(
            "{DATED}[[waiver]]\nid = 'W'\ncves = {cves}\nreason = 'r'\nexpires = 2026-06-30\n{more}"
        );
        judge_with(
            &text,
            &there,
            &releases,
            &crate::verdicts::advisories(),
            crate::world::NOW,
        )
    };
    let one = with("['CVE-2026-0002']", "");
    assert_eq!(one.findings[0].waiver, None);
    let waived: Vec<_> = one.findings[0]
        .cves
        .iter()
        .map(|cve| cve.waiver.as_deref())
        .collect();
    assert_eq!(waived, [None, Some("W")]);
    assert_eq!(
        one.findings[0].due.as_ref().unwrap().cve.as_deref(),
        Some("CVE-2026-0001")
    );
    let all = with("['CVE-2026-0001', 'CVE-2026-0002']", "");
    assert_eq!(all.findings[0].waiver.as_ref().unwrap().id, "W");
    assert_eq!(all.verdict, Verdict::Compliant);
    for (labels, covers) in [
        ("labels = { stage = 'prod*' }\n", true),
        ("labels = { stage = 'test' }\n", false),
    ] {
        let some = with("['CVE-2026-0001', 'CVE-2026-0002']", labels);
        assert_eq!(some.findings[0].waiver.is_some(), covers, "{labels}");
    }
}

#[test]
fn gates_forbid_open_cves_and_are_never_passed_unasked() {
    let there = guest(&["openssl 3.0.1-1", "bash 1"]);
    let gate = |conditions: &str| {
        format!("name = 'x'\n[advisories]\ndemanded = false\n[[gate]]\nid = 'g'\n{conditions}\n")
    };
    for (conditions, cves) in [
        ("cves = ['CVE-2026-0001']", 1),
        ("exploited = true", 1),
        ("severity-at-least = 'high'", 2),
        ("cves = ['CVE-2026-0001']\nexploited = true", 2),
        ("cves = ['CVE-2020-0001']", 0),
        ("exploited = true\npackages = ['bash']", 0),
        ("epss-at-least = 0.5", 0),
    ] {
        let assessment = judge_with(
            &gate(conditions),
            &there,
            &offers(&[]),
            &crate::verdicts::advisories(),
            crate::world::NOW,
        );
        let found: usize = assessment.findings.iter().map(|one| one.cves.len()).sum();
        assert_eq!(found, cves, "{conditions}");
        let verdict = if cves == 0 {
            Verdict::Compliant
        } else {
            Verdict::NonCompliant
        };
        assert_eq!(assessment.verdict, verdict, "{conditions}");
        assert!(
            assessment
                .findings
                .iter()
                .all(|one| one.rule == Rule::Gate && one.package == "openssl")
        );
    }
    let blind = judge_at(
        &gate("exploited = true"),
        &there,
        &offers(&[]),
        crate::world::NOW,
    );
    assert_eq!(
        blind.verdict,
        Verdict::Indeterminate,
        "without feeds nobody knows"
    );
}
