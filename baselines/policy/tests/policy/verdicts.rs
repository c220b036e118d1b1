//! What leads to which verdict.

use dormouse_block::{ErrorKind, Gap, Locator};
use dormouse_packages::{Family, Package};
use dormouse_policy::{Rule, Unknown, Verdict, default_baseline};

use crate::world::{NOW, guest, judge, judge_at, judge_with, offers};

const SUITES: &str = "name = 'x'\nsuites = ['{codename}-security']\n";

#[test]
fn what_the_security_suite_has_is_demanded() {
    let releases = offers(&[
        "bookworm openssl 3.0.11-1~deb12u1",
        "bookworm-security openssl 3.0.11-1~deb12u2",
        "bookworm bash 5.2.15-2+b2",
        "bookworm-security bash 5.2.15-2+b1",
    ]);
    let current = guest(&["openssl 3.0.11-1~deb12u2", "bash 5.2.15-2+b2"]);
    let assessment = judge(default_baseline(), &current, &releases);
    assert_eq!(
        assessment.verdict,
        Verdict::Compliant,
        "{:?}",
        assessment.reasons
    );
    assert!(assessment.passes && assessment.coverage_complete);
    assert_eq!(assessment.judged, 2);

    let old = guest(&["openssl 3.0.11-1~deb12u1", "bash 5.2.15-2+b2"]);
    let assessment = judge(default_baseline(), &old, &releases);
    assert_eq!(assessment.verdict, Verdict::NonCompliant);
    assert!(!assessment.passes);
    let finding = assessment.findings.first().unwrap();
    assert_eq!(
        (finding.package.as_str(), finding.rule),
        ("openssl", Rule::Suite)
    );
    assert_eq!(finding.wanted.as_deref(), Some("3.0.11-1~deb12u2"));
    assert_eq!(finding.suite.as_deref(), Some("bookworm-security"));
    assert_eq!(assessment.reasons, ["1 package is below a demanded suite"]);
}

#[test]
fn of_several_suites_the_newest_version_counts() {
    let releases = offers(&["bookworm a 2", "bookworm-security a 3"]);
    let both = "name = 'x'\nsuites = ['bookworm', 'bookworm-security']\n";
    let assessment = judge(both, &guest(&["a 1"]), &releases);
    assert_eq!(
        assessment.findings.first().unwrap().wanted.as_deref(),
        Some("3")
    );
    let release = "name = 'x'\nsuites = ['bookworm']\n";
    assert_eq!(
        judge(release, &guest(&["a 2"]), &releases).verdict,
        Verdict::Compliant
    );
}

#[test]
fn a_gap_that_may_hide_packages_forbids_compliant_and_pending() {
    let releases = offers(&["bookworm-security a 1"]);
    let mut inventory = guest(&["a 1", "b 1 install ok unpacked"]);
    assert_eq!(
        judge(SUITES, &inventory, &releases).verdict,
        Verdict::Pending
    );
    let gap = |may_hide_packages| Gap {
        at: Locator::default().volume("disk0/gpt3"),
        kind: ErrorKind::Unsupported,
        why: "an encrypted volume".into(),
        may_hide_packages,
    };
    inventory.add_gaps([gap(false)]);
    assert_eq!(
        judge(SUITES, &inventory, &releases).verdict,
        Verdict::Pending
    );
    inventory.add_gaps([gap(true)]);
    let assessment = judge(SUITES, &inventory, &releases);
    assert_eq!(assessment.verdict, Verdict::Indeterminate);
    assert!(
        !assessment.coverage_complete && assessment.passes,
        "the caller says incomplete, not failed"
    );

    // A finding outweighs it, and the coverage is incomplete all the same.
    let newer = offers(&["bookworm-security a 2"]);
    let assessment = judge(SUITES, &inventory, &newer);
    assert_eq!(assessment.verdict, Verdict::NonCompliant);
    assert!(!assessment.coverage_complete);
    assert_eq!(assessment.reasons.len(), 3, "{:?}", assessment.reasons);

    let accepted = format!(
        "{SUITES}[[accepted-gap]]\nid = 'G1'\ngap = '*encrypted*'\nvolume = 'disk0/*'\nreason = 'data'\nexpires = 2026-06-30\n"
    );
    let assessment = judge(&accepted, &inventory, &releases);
    assert_eq!(assessment.verdict, Verdict::Pending);
    assert_eq!(assessment.accepted_gaps.len(), 2);
    let late = judge_at(&accepted, &inventory, &releases, "2026-07-01T00:00:00Z");
    assert_eq!(late.verdict, Verdict::Indeterminate);
    assert_eq!(late.expired_waivers.first().unwrap().id, "G1");
}

#[test]
fn an_inventory_of_nothing_never_passes_as_compliant() {
    let assessment = judge("name = 'x'\n", &guest(&[]), &offers(&[]));
    assert_eq!(assessment.verdict, Verdict::Indeterminate);
    let mut nothing = guest(&[]);
    nothing.gaps.clear();
    assert_eq!(
        judge("name = 'x'\n", &nothing, &offers(&[])).verdict,
        Verdict::Indeterminate
    );
}

#[test]
fn packages_that_are_not_configured_are_pending_and_those_half_installed_are_broken() {
    let releases = offers(&["bookworm-security a 2"]);
    for state in [
        "unpacked",
        "half-configured",
        "triggers-pending",
        "triggers-awaited",
    ] {
        let assessment = judge(
            SUITES,
            &guest(&[&format!("a 2 install ok {state}")]),
            &releases,
        );
        assert_eq!(assessment.verdict, Verdict::Pending, "{state}");
        assert_eq!(assessment.outstanding.len(), 1);
        let assessment = judge(
            SUITES,
            &guest(&[&format!("a 1 install ok {state}")]),
            &releases,
        );
        assert_eq!(
            assessment.verdict,
            Verdict::NonCompliant,
            "{state} below the baseline"
        );
    }
    let assessment = judge(
        SUITES,
        &guest(&["a 2", "b 1 install reinstreq half-installed"]),
        &releases,
    );
    assert_eq!(assessment.verdict, Verdict::NonCompliant);
    assert_eq!(assessment.findings.first().unwrap().rule, Rule::Broken);
    // What is not installed is not judged.
    let assessment = judge(
        SUITES,
        &guest(&["a 2", "b 1 deinstall ok config-files"]),
        &releases,
    );
    assert_eq!(
        (assessment.verdict, assessment.judged),
        (Verdict::Compliant, 1)
    );
}

#[test]
fn a_suite_that_is_not_there_or_of_another_architecture_is_a_gap() {
    let baseline = "name = 'x'\nsuites = ['bookworm-backports']\n";
    let assessment = judge(baseline, &guest(&["a 1"]), &offers(&[]));
    assert_eq!(assessment.verdict, Verdict::Indeterminate);
    assert!(
        assessment
            .gaps
            .first()
            .unwrap()
            .why
            .contains("bookworm-backports")
    );

    let mut inventory = guest(&["a 1"]);
    let package = inventory.packages.pop_first().unwrap();
    inventory.packages.insert(dormouse_packages::Package {
        architecture: "riscv64".into(),
        ..package
    });
    let assessment = judge(SUITES, &inventory, &offers(&["bookworm-security b 1"]));
    assert_eq!(assessment.verdict, Verdict::Indeterminate);
    assert!(
        assessment
            .gaps
            .iter()
            .any(|gap| gap.why.contains("riscv64"))
    );

    let mut nameless = guest(&["a 1"]);
    nameless.os = None;
    let assessment = judge(SUITES, &nameless, &offers(&["bookworm-security a 1"]));
    assert_eq!(
        assessment.verdict,
        Verdict::Indeterminate,
        "{:?}",
        assessment.gaps
    );
}

#[test]
fn packages_of_unknown_origin_are_listed_and_fail_where_the_baseline_says_so() {
    let releases = offers(&["bookworm-security a 2", "bookworm c 5"]);
    let inventory = guest(&["a 2", "b 1", "c 6"]);
    let assessment = judge(SUITES, &inventory, &releases);
    assert_eq!(assessment.verdict, Verdict::Compliant);
    let unknown: Vec<_> = assessment
        .unknown
        .iter()
        .map(|known| (known.package.as_str(), known.what))
        .collect();
    assert_eq!(unknown, [("b", Unknown::Name), ("c", Unknown::Version)]);
    let strict = format!("{SUITES}unknown-packages = 'fail'\n");
    let assessment = judge(&strict, &inventory, &releases);
    assert_eq!(assessment.verdict, Verdict::NonCompliant);
    assert_eq!(
        assessment
            .findings
            .iter()
            .filter(|finding| finding.rule == Rule::Unknown)
            .count(),
        2
    );
}

#[test]
fn minimum_required_and_forbidden_packages_are_held_to() {
    let baseline = "name = 'x'\n[minimum-versions]\nopenssl = '3.0.11-1~deb12u2'\nabsent = '9'\n\
        [[required]]\npackage = 'auditd'\nreason = 'we audit'\n\
        [[forbidden]]\npackage = 'telnet*'\nreason = 'in the clear'\n\
        [[forbidden]]\npackage = 'sudo'\nversions = '<< 1.9.13'\n";
    let assessment = judge(
        baseline,
        &guest(&["openssl 3.0.11-1~deb12u1", "telnetd 0.17", "sudo 1.9.12"]),
        &offers(&[]),
    );
    let rules: Vec<_> = assessment
        .findings
        .iter()
        .map(|found| (found.package.as_str(), found.rule))
        .collect();
    let want = [
        ("auditd", Rule::Required),
        ("openssl", Rule::MinimumVersion),
        ("sudo", Rule::Forbidden),
        ("telnetd", Rule::Forbidden),
    ];
    assert_eq!(rules, want);
    assert!(
        assessment
            .findings
            .first()
            .unwrap()
            .why
            .contains("we audit")
    );
    let good = guest(&[
        "openssl 3.0.11-1~deb12u2",
        "sudo 1.9.13",
        "auditd 1",
        "telnet 1 deinstall ok config-files",
    ]);
    assert_eq!(
        judge(baseline, &good, &offers(&[])).verdict,
        Verdict::Compliant
    );
    // One that is removed but for its configuration is not installed.
    let removed = guest(&["auditd 1 deinstall ok config-files", "sudo 2"]);
    assert_eq!(judge(baseline, &removed, &offers(&[])).findings.len(), 1);
}

#[test]
fn a_waiver_counts_for_what_it_names_until_it_ends() {
    let waiver = |more: &str| {
        format!(
            "{SUITES}[[waiver]]\nid = 'W1'\npackage = 'a*'\nreason = 'later'\nexpires = 2026-01-31\n{more}"
        )
    };
    let releases = offers(&["bookworm-security ab 2", "bookworm-security b 2"]);
    let inventory = guest(&["ab 1", "b 2"]);
    let assessment = judge(&waiver("approver = 'ops'\n"), &inventory, &releases);
    assert_eq!(assessment.verdict, Verdict::Compliant);
    let finding = assessment.findings.first().unwrap();
    assert_eq!(
        finding.waiver.as_ref().unwrap().approver.as_deref(),
        Some("ops")
    );
    assert_eq!(assessment.open_findings().count(), 0);

    let last = judge_at(&waiver(""), &inventory, &releases, "2026-01-31T23:59:59Z");
    assert_eq!(
        last.verdict,
        Verdict::Compliant,
        "the day named is the last"
    );
    let late = judge_at(&waiver(""), &inventory, &releases, "2026-02-01T00:00:00Z");
    assert_eq!(late.verdict, Verdict::NonCompliant);
    assert_eq!(late.expired_waivers.first().unwrap().id, "W1");

    for (more, covers) in [
        ("machines = ['web-*']\n", true),
        ("machines = ['db-*', 'web-01']\n", true),
        ("machines = ['db-*']\n", false),
        ("rule = 'suite'\n", true),
        ("rule = 'forbidden'\n", false),
        ("versions = '<= 1'\n", true),
        ("versions = '>> 1'\n", false),
    ] {
        let verdict = judge(&waiver(more), &inventory, &releases).verdict;
        let want = if covers {
            Verdict::Compliant
        } else {
            Verdict::NonCompliant
        };
        assert_eq!(verdict, want, "{more}");
    }
}

#[test]
fn a_machine_that_the_baseline_is_not_for_is_indeterminate() {
    let releases = offers(&["bookworm-security a 1"]);
    let inventory = guest(&["a 1"]);
    for (applies, is_for) in [
        ("os = ['debian']", true),
        ("os = ['ubuntu', 'debian']", true),
        ("os = ['ubuntu']", false),
        ("version = ['12']", true),
        ("codename = ['trixie']", false),
        ("machines = ['web-*']", true),
        ("machines = ['db-*']", false),
        ("labels = { stage = 'prod*' }", true),
        ("labels = { stage = 'test' }", false),
        ("labels = { tenant = '*' }", false),
    ] {
        let baseline = format!("{SUITES}[applies-to]\n{applies}\n");
        let assessment = judge(&baseline, &inventory, &releases);
        let want = if is_for {
            Verdict::Compliant
        } else {
            Verdict::Indeterminate
        };
        assert_eq!(assessment.verdict, want, "{applies}");
    }
}

#[test]
fn the_gate_fails_on_the_verdicts_named() {
    let inventory = guest(&["a 1 install ok unpacked"]);
    let releases = offers(&["bookworm-security a 1"]);
    assert!(judge(SUITES, &inventory, &releases).passes);
    let strict = format!("{SUITES}fail-on = ['pending', 'indeterminate', 'non-compliant']\n");
    assert!(!judge(&strict, &inventory, &releases).passes);
}

#[test]
fn held_packages_are_findings_that_say_so() {
    let assessment = judge(
        SUITES,
        &guest(&["a 1 hold ok installed"]),
        &offers(&["bookworm-security a 2"]),
    );
    assert!(assessment.findings.first().unwrap().hold);
}

#[test]
fn a_frozen_baseline_is_judged_at_its_own_instant() {
    let frozen = format!("as-of = 2025-12-31\n{SUITES}");
    let assessment = judge(
        &frozen,
        &guest(&["a 1"]),
        &offers(&["bookworm-security a 1"]),
    );
    assert_eq!(assessment.as_of.to_string(), "2026-01-01T00:00:00Z");
}

/// Feeds that say what mends what in bookworm.
pub(crate) fn advisories() -> dormouse_advisories::Advisories {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("list"),
        "[01 Jan 2026] DSA-9999-1 openssl - security update\n\t{CVE-2026-0001 CVE-2026-0002}\n\
         \t[bookworm] - openssl 3.0.2-1\n",
    )
    .unwrap();
    std::fs::write(
        folder.path().join("kev.json"),
        "{\"catalogVersion\": \"1\", \"vulnerabilities\": [{\"cveID\": \"CVE-2026-0002\"}]}",
    )
    .unwrap();
    dormouse_advisories::Advisories::read(&[folder.path().to_owned()]).unwrap()
}

#[test]
fn findings_name_the_cves_that_they_mend_and_scopes_reach_by_them() {
    let releases = offers(&[
        "bookworm openssl 3.0.1-1",
        "bookworm-security openssl 3.0.2-1",
        "bookworm bash 2",
        "bookworm-security curl 2",
    ]);
    let there = guest(&["openssl 3.0.1-1", "bash 1", "curl 1"]);
    let found = |only: &str| {
        let baseline = format!(
            "name = 'x'\nsuites = ['bookworm', 'bookworm-security']\n[upgrades]\nonly = {only}\n"
        );
        let assessment = judge_with(&baseline, &there, &releases, &advisories(), NOW);
        let mut names: Vec<_> = assessment
            .findings
            .iter()
            .map(|finding| finding.package.clone())
            .collect();
        names.sort();
        (names.join(" "), assessment)
    };
    let (all, assessment) = found("[]");
    assert_eq!(all, "bash curl openssl");
    let openssl = assessment.findings.first().unwrap();
    assert_eq!(openssl.package, "openssl", "what is exploited comes first");
    let cves: Vec<_> = openssl
        .cves
        .iter()
        .map(|cve| (cve.id.as_str(), cve.advisory.as_deref(), cve.exploited))
        .collect();
    assert_eq!(
        cves,
        [
            ("CVE-2026-0001", Some("DSA-9999-1"), false),
            ("CVE-2026-0002", Some("DSA-9999-1"), true)
        ]
    );
    assert!(assessment.findings.last().unwrap().cves.is_empty());
    for (only, names) in [
        ("['all']", "bash curl openssl"),
        ("['security']", "curl openssl"),
        ("['CVE-2026-0002']", "openssl"),
        ("['cve-2026-0001', 'bash']", "bash openssl"),
        ("['CVE-2026-0003']", ""),
        ("['curl']", "curl"),
    ] {
        assert_eq!(found(only).0, names, "{only}");
    }
}

#[test]
fn a_family_that_nothing_covers_is_a_gap_by_name_and_never_compliant() {
    for family in [Family::Rpm, Family::Apk, Family::Pacman] {
        let mut inventory = guest(&["a 1", "b 1"]);
        let packages = std::mem::take(&mut inventory.packages);
        inventory.family = Some(family);
        inventory.packages = packages
            .into_iter()
            .map(|package| Package { family, ..package })
            .collect();
        for baseline in ["name = 'x'\n", SUITES] {
            let assessment = judge(baseline, &inventory, &offers(&["bookworm-security a 9"]));
            assert_eq!(assessment.verdict, Verdict::Indeterminate, "{family}");
            assert_eq!(assessment.judged, 0);
            let gap = assessment.gaps.iter().find(|gap| {
                gap.why
                    == format!(
                        "no repository or advisory speaks of {family} packages: 2 are not judged"
                    )
            });
            assert!(gap.unwrap().may_hide_packages);
        }
        // What is known to be wrong is a finding all the same, in the family's own order.
        let baseline = "name = 'x'\n[minimum-versions]\na = '1.0.1'\n";
        let assessment = judge(baseline, &inventory, &offers(&[]));
        assert_eq!(assessment.verdict, Verdict::NonCompliant, "{family}");
    }
}

#[test]
fn a_machine_of_two_families_is_judged_for_the_one_that_is_covered() {
    let mut inventory = guest(&["a 1", "b 1"]);
    let package = inventory.packages.pop_last().unwrap();
    inventory.packages.insert(Package {
        family: Family::Rpm,
        ..package
    });
    let releases = offers(&["bookworm-security a 2", "bookworm-security b 2"]);
    let assessment = judge(SUITES, &inventory, &releases);
    let found: Vec<_> = assessment
        .findings
        .iter()
        .map(|finding| finding.package.as_str())
        .collect();
    assert_eq!(
        found,
        ["a"],
        "the rpm package of the same name is not Debian's"
    );
    assert!(!assessment.coverage_complete);
}
