//! What the feeds say of installed packages: ranges, names, streams, and the statements that answer.

use dormouse_advisories::{Severity, Status};
use dormouse_packages::Family;

use crate::{concerns, fixture, package, read, read_text, system};

#[test]
fn an_osv_range_begins_and_ends_where_its_events_say() {
    let go = read(&fixture("osv-schema/osv-linter/GO-2024-2963.json"));
    let none = system("debian", "12");
    let stdlib = |version: &str| concerns(&go, &none, &package(Family::Go, "stdlib", version, ""));
    assert_eq!(stdlib("1.21.11"), ["CVE-2024-24791 1.21.12"]);
    assert_eq!(stdlib("1.22.4"), ["CVE-2024-24791 1.22.5"]);
    for mended in ["1.21.12", "1.22.5", "1.23.0"] {
        assert!(stdlib(mended).is_empty(), "{mended}");
    }
    let python = read(&fixture("osv-schema/osv-linter/PYSEC-2023-74.json"));
    let requests = |version: &str| {
        concerns(
            &python,
            &none,
            &package(Family::Python, "Requests", version, ""),
        )
    };
    assert_eq!(requests("2.30.0").len(), 1);
    assert!(requests("2.2.0").is_empty() && requests("2.31.0").is_empty());
    // A version that is listed and in no range is affected, and no other.
    let malicious = read(&fixture("osv-schema/osv-linter/MAL-2024-10238.json"));
    let of = |version: &str| {
        concerns(
            &malicious,
            &none,
            &package(Family::Python, "123bla", version, ""),
        )
    };
    assert_eq!(of("0.0.1"), ["MAL-2024-10238 -"]);
    assert!(of("0.0.2").is_empty());
}

#[test]
fn red_hat_s_statements_are_for_the_products_of_their_cpe() {
    let vex = read(&fixture("csaf/redhat-vex-cve-2023-38545.json.zst"));
    let curl = |version: &str| package(Family::Rpm, "curl", version, "x86_64");
    let nine = system("rhel", "9.3");
    let found = vex.judge(&nine, &curl("7.76.1-26.el9")).concerns;
    assert_eq!(found.len(), 1);
    let one = &found[0];
    assert_eq!(
        (one.id, one.fixed),
        ("CVE-2023-38545", Some("7.76.1-26.el9_3.2"))
    );
    assert_eq!(
        (one.advisory, one.word),
        (Some("RHSA-2023:6745"), Some("Important"))
    );
    assert_eq!(one.severity, Some(Severity::High));
    assert_eq!(one.published.unwrap().to_string(), "2023-10-11T00:00:00Z");
    assert!(concerns(&vex, &nine, &curl("7.76.1-26.el9_3.2")).is_empty());
    // RHEL 8's is not affected, and its extended streams of RHEL 9 are not this machine's.
    assert!(concerns(&vex, &system("rhel", "8.9"), &curl("7.61.1-30.el8")).is_empty());
    assert!(concerns(&vex, &system("almalinux", "9.3"), &curl("7.76.1-26.el9")).is_empty());
    assert!(vex.speaks_of(&nine, Family::Rpm));
    assert!(!vex.speaks_of(&system("almalinux", "9.3"), Family::Rpm));
}

const STREAMS: &str = r#"<updates>
<update type="security"><id>ALSA-2026:1</id><severity>Important</severity><issued date="2026-01-01"/>
<references><reference id="CVE-2026-0001" type="cve"/></references>
<pkglist><collection short="almalinux-8-appstream"><name>AlmaLinux 8</name>
<module name="nodejs" stream="18" version="1" context="c" arch="x86_64"/>
<package name="nodejs" epoch="1" version="18.20.0" release="1.module_el8.9.0+1+aa" arch="x86_64"/>
</collection></pkglist></update>
<update type="security"><id>ALSA-2026:2</id><references><reference id="CVE-2026-0002"/></references>
<pkglist><collection><name>AlmaLinux 8</name>
<package name="nodejs" epoch="1" version="20.1.0" release="1.el8" arch="x86_64"/>
</collection></pkglist></update>
<update type="bugfix"><id>ALBA-2026:3</id><references/>
<pkglist><collection><name>AlmaLinux 8</name><package name="nodejs" version="99" release="1.el8" arch="x86_64"/></collection></pkglist></update>
</updates>"#;

#[test]
fn a_module_s_package_is_judged_by_its_own_stream() {
    let advisories = read_text("updateinfo.xml", STREAMS).unwrap();
    let alma = system("almalinux", "8.9");
    let node = |version: &str, label: Option<&str>| {
        let mut node = package(Family::Rpm, "nodejs", version, "x86_64");
        node.module = label.map(str::to_owned);
        node
    };
    let of = |version: &str, label| concerns(&advisories, &alma, &node(version, label));
    let modular = "1:18.1.0-1.module_el8.7.0+1+bb";
    assert_eq!(
        of(modular, Some("nodejs:18:870:1")),
        ["CVE-2026-0001 1:18.20.0-1.module_el8.9.0+1+aa"]
    );
    assert!(of(modular, Some("nodejs:16:870:1")).is_empty());
    assert_eq!(of("1:18.1.0-1.el8", None), ["CVE-2026-0002 1:20.1.0-1.el8"]);
    assert!(
        of("18.1.0-1.el8", None).len() == 1,
        "an epoch that is not there is 0"
    );
    // AlmaLinux' packages have no label: what is below a stream's mended version is undecided, what is not is not affected.
    let unlabelled = advisories.judge(&alma, &node(modular, None));
    assert_eq!((unlabelled.concerns.len(), unlabelled.undecided), (0, 1));
    let newest = advisories.judge(&alma, &node("1:18.20.0-1.module_el8.9.0+1+aa", None));
    assert_eq!((newest.concerns.len(), newest.undecided), (0, 0));
    let other = package(Family::Rpm, "nodejs", "1:1.0-1.el8", "aarch64");
    assert!(
        concerns(&advisories, &alma, &other).is_empty(),
        "of another architecture"
    );
}

#[test]
fn a_source_s_version_has_its_package_s_epoch() {
    let osv = r#"{"id": "RLSA-2026:1", "modified": "2026-01-01T00:00:00Z", "aliases": ["CVE-2026-0001"],
        "affected": [{"package": {"ecosystem": "Rocky Linux:9", "name": "bind"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "32:9.16.23-5.el9"}]}]}]}"#;
    let advisories = read_text("a.json", osv).unwrap();
    let rocky = system("rocky", "9.3");
    let mut libs = package(Family::Rpm, "bind-libs", "32:9.16.23-4.el9", "x86_64");
    libs.source_name = "bind".into();
    libs.source_version = "9.16.23-4.el9".into();
    assert_eq!(
        concerns(&advisories, &rocky, &libs),
        ["CVE-2026-0001 32:9.16.23-5.el9"]
    );
    libs.version = "32:9.16.23-6.el9".into();
    libs.source_version = "9.16.23-6.el9".into();
    assert!(
        concerns(&advisories, &rocky, &libs).is_empty(),
        "its file name has no epoch"
    );
}

const SUSE: &str = r#"<oval_definitions xmlns:o="x"><generator><o:timestamp>2026-01-01T00:00:00</o:timestamp></generator><definitions>
<definition id="d:1" class="vulnerability"><metadata><title>CVE-2026-0001</title><reference ref_id="CVE-2026-0001" source="CVE"/>
<severity>Important</severity></metadata>
<criteria operator="AND"><criteria operator="OR">
<criterion test_ref="t:1" comment="SUSE Linux Enterprise Server 15 SP5 is installed"/>
<criterion test_ref="t:1" comment="SUSE Linux Enterprise Server 15 SP6 is installed"/></criteria>
<criteria operator="OR"><criterion test_ref="t:2" comment="a-1 is installed"/><criterion test_ref="t:3" comment="b is not affected"/></criteria>
</criteria></definition></definitions><tests>
<rpminfo_test id="t:1"><object object_ref="o:1"/><state state_ref="s:1"/></rpminfo_test>
<rpminfo_test id="t:2"><object object_ref="o:2"/><state state_ref="s:2"/></rpminfo_test>
<rpminfo_test id="t:3"><object object_ref="o:3"/><state state_ref="s:3"/></rpminfo_test></tests><objects>
<rpminfo_object id="o:1"><name>sles-release</name></rpminfo_object><rpminfo_object id="o:2"><name>a</name></rpminfo_object>
<rpminfo_object id="o:3"><name>b</name></rpminfo_object></objects><states>
<rpminfo_state id="s:1"><version operation="equals">15.5</version></rpminfo_state>
<rpminfo_state id="s:2"><evr datatype="evr_string" operation="less than">0:2-1</evr></rpminfo_state>
<rpminfo_state id="s:3"><version operation="equals">0</version></rpminfo_state></states></oval_definitions>"#;

#[test]
fn version_equals_nought_says_that_a_package_is_not_affected() {
    let advisories = read_text("suse.xml", SUSE).unwrap();
    let statuses: Vec<_> = advisories
        .statements()
        .map(|(one, _)| (one.package, one.release, one.status, one.fixed))
        .collect();
    assert_eq!(
        statuses,
        [
            ("a", "sles:15.5", Status::Affected, Some("0:2-1")),
            ("a", "sles:15.6", Status::Affected, Some("0:2-1")),
            ("b", "sles:15.5", Status::NotAffected, None),
            ("b", "sles:15.6", Status::NotAffected, None),
        ]
    );
    let sles = system("sles", "15.5");
    assert_eq!(
        concerns(
            &advisories,
            &sles,
            &package(Family::Rpm, "a", "1-1", "x86_64")
        ),
        ["CVE-2026-0001 0:2-1"]
    );
    assert!(
        concerns(
            &advisories,
            &sles,
            &package(Family::Rpm, "b", "1-1", "x86_64")
        )
        .is_empty()
    );
    assert!(
        concerns(
            &advisories,
            &system("sles", "15.4"),
            &package(Family::Rpm, "a", "1-1", "x86_64")
        )
        .is_empty()
    );
}

const ARCH: &str = r#"[{"name": "AVG-1", "packages": ["curl", "lib32-curl"], "status": "Fixed", "severity": "High", "type": "x",
  "affected": "8.0-1", "fixed": "8.1-1", "ticket": null, "issues": ["CVE-2026-0001"], "advisories": ["ASA-202601-1"]},
 {"name": "AVG-2", "packages": ["curl"], "status": "Vulnerable", "severity": "Low", "fixed": null, "issues": ["CVE-2026-0002"], "advisories": []},
 {"name": "AVG-3", "packages": ["curl"], "status": "Not affected", "fixed": null, "issues": ["CVE-2026-0003"], "advisories": []}]"#;

#[test]
fn arch_s_issues_are_its_packages() {
    let advisories = read_text("all.json", ARCH).unwrap();
    let arch = system("arch", "");
    let curl = package(Family::Pacman, "curl", "8.0-2", "x86_64");
    assert_eq!(
        concerns(&advisories, &arch, &curl),
        ["CVE-2026-0001 8.1-1", "CVE-2026-0002 -"]
    );
    let judgement = advisories.judge(&arch, &curl);
    assert_eq!(judgement.concerns[0].advisory, Some("ASA-202601-1"));
    assert_eq!(judgement.concerns[1].note, Some("Vulnerable"));
    assert_eq!(judgement.concerns[1].severity, Some(Severity::Low));
}

#[test]
fn a_user_s_own_statement_answers_and_is_named() {
    let osv = r#"{"id": "DSA-1", "modified": "2026-01-01T00:00:00Z", "related": ["CVE-2026-0001", "CVE-2026-0002", "CVE-2026-0003"],
        "affected": [{"package": {"ecosystem": "Debian:12", "name": "curl"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "8-2"}]}]}]}"#;
    let vex = r#"{"@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://example.org/vex-1", "author": "a",
        "timestamp": "2026-01-01T00:00:00Z", "version": 1, "statements": [
        {"vulnerability": {"name": "CVE-2026-0001"}, "products": [{"@id": "pkg:deb/debian/curl@8-1"}],
         "status": "not_affected", "justification": "vulnerable_code_not_in_execute_path"},
        {"vulnerability": {"name": "CVE-2026-0002"}, "products": [{"@id": "pkg:deb/debian/curl@7-1"}], "status": "fixed"},
        {"vulnerability": {"name": "CVE-2026-0003"}, "products": [{"@id": "https://example.org/product",
         "subcomponents": [{"@id": "pkg:deb/debian/curl"}]}], "status": "under_investigation"}]}"#;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("dsa.json"), osv).unwrap();
    std::fs::write(folder.path().join("vex.json"), vex).unwrap();
    let advisories = read(folder.path());
    assert_eq!(advisories.feeds().len(), 2);
    let debian = system("debian", "12");
    let curl = package(Family::Dpkg, "curl", "8-1", "amd64");
    let all = [
        "!CVE-2026-0001 8-2",
        "CVE-2026-0002 8-2",
        "CVE-2026-0003 8-2",
    ];
    assert_eq!(concerns(&advisories, &debian, &curl), all);
    let judgement = advisories.judge(&debian, &curl);
    let answer = judgement.concerns[0].answer.unwrap();
    assert_eq!(answer.document, "https://example.org/vex-1");
    assert_eq!(
        answer.justification,
        Some("vulnerable_code_not_in_execute_path")
    );
    // A version that it does not speak of is not answered, nor is another system's.
    let older = package(Family::Dpkg, "curl", "8-0", "amd64");
    assert_eq!(
        concerns(&advisories, &debian, &older)[0],
        "CVE-2026-0001 8-2"
    );
    // CSAF says the same of a package URL.
    let csaf = r#"{"document": {"category": "csaf_vex", "csaf_version": "2.0", "tracking": {"id": "OURS-1",
        "current_release_date": "2026-01-01T00:00:00Z", "initial_release_date": "2026-01-01T00:00:00Z"}},
        "product_tree": {"full_product_names": [{"name": "c", "product_id": "P1",
        "product_identification_helper": {"purl": "pkg:deb/debian/curl@8-1?arch=amd64"}}]},
        "vulnerabilities": [{"cve": "CVE-2026-0001", "product_status": {"known_not_affected": ["P1"]},
        "flags": [{"label": "component_not_present", "product_ids": ["P1"]}]},
        {"cve": "CVE-2026-0002", "product_status": {"fixed": ["P1"]}}]}"#;
    std::fs::write(folder.path().join("vex.json"), csaf).unwrap();
    let advisories = read(folder.path());
    let all = [
        "!CVE-2026-0001 8-2",
        "!CVE-2026-0002 8-2",
        "CVE-2026-0003 8-2",
    ];
    assert_eq!(concerns(&advisories, &debian, &curl), all);
    let judgement = advisories.judge(&debian, &curl);
    assert_eq!(
        judgement.concerns[0].answer.unwrap().justification,
        Some("component_not_present")
    );
    assert_eq!(judgement.concerns[1].answer.unwrap().status, Status::Fixed);
}

const RECORD: &str = r#"{"dataType": "CVE_RECORD", "dataVersion": "5.1", "cveMetadata": {"cveId": "CVE-2026-0001", "state": "PUBLISHED"},
  "containers": {"cna": {"title": "x"}, "adp": [{"title": "CISA ADP Vulnrichment", "metrics": [
  {"other": {"type": "ssvc", "content": {"id": "CVE-2026-0001", "role": "CISA Coordinator", "version": "2.0.3",
   "timestamp": "2026-01-02T00:00:00Z", "options": [{"Exploitation": "active"}, {"Automatable": "yes"}, {"Technical Impact": "partial"}]}}},
  {"cvssV3_1": {"baseScore": 9.8}}], "providerMetadata": {"orgId": "x", "shortName": "CISA-ADP", "dateUpdated": "2026-01-02T03:04:05.678Z"}}]}}"#;

#[test]
fn decision_points_are_known_of_their_cve() {
    let advisories = read_text("CVE-2026-0001.json", RECORD).unwrap();
    let known = advisories.known("CVE-2026-0001");
    assert!(known.exploited, "its exploitation is active");
    assert_eq!(
        (known.automatable, known.total_impact),
        (Some(true), Some(false))
    );
    assert_eq!(
        advisories.feeds()[0].date.unwrap().to_string(),
        "2026-01-02T03:04:05Z"
    );
    let poc = RECORD.replace("\"active\"", "\"poc\"");
    assert!(
        !read_text("a.json", &poc)
            .unwrap()
            .known("CVE-2026-0001")
            .exploited
    );
    let error = read_text("a.json", &RECORD.replace("\"active\"", "\"maybe\"")).unwrap_err();
    assert!(
        error.with_causes().contains("Exploitation"),
        "{}",
        error.with_causes()
    );
}

#[test]
fn ubuntu_s_extended_maintenance_is_for_who_asks_for_it() {
    let osv = |ecosystem: &str| {
        let text = format!(
            r#"{{"id": "USN-1", "modified": "2026-01-01T00:00:00Z", "upstream": ["CVE-2026-0001"],
            "severity": [{{"type": "Ubuntu", "score": "negligible"}}],
            "affected": [{{"package": {{"ecosystem": "{ecosystem}", "name": "curl"}},
            "ranges": [{{"type": "ECOSYSTEM", "events": [{{"introduced": "0"}}, {{"fixed": "8-2"}}]}}]}}]}}"#
        );
        read_text("a.json", &text).unwrap()
    };
    let jammy = system("ubuntu", "22.04");
    let curl = package(Family::Dpkg, "curl", "8-1", "amd64");
    let main = osv("Ubuntu:22.04:LTS");
    assert_eq!(concerns(&main, &jammy, &curl), ["CVE-2026-0001 8-2"]);
    let judgement = main.judge(&jammy, &curl);
    assert_eq!(
        (judgement.concerns[0].word, judgement.concerns[0].severity),
        (Some("negligible"), Some(Severity::Low))
    );
    assert!(concerns(&osv("Ubuntu:Pro:22.04:LTS"), &jammy, &curl).is_empty());
    assert_eq!(osv("Ubuntu:Pro:FIPS:22.04:LTS").feeds()[0].elsewhere, 1);
}
