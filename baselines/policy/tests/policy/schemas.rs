//! Real facts against the published schemas.

use std::path::PathBuf;

use dormouse_block::{ErrorKind, Gap, GuestPath, Locator};
use dormouse_packages::{ConfiguredRepository, DefaultKernel, Family, Kind, Package, State};
use dormouse_policy::default_baseline;
use serde_json::{Value, json};

use crate::world::{guest, judge, judge_with, offers};

fn schema(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../schemas")
        .join(name);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

#[track_caller]
pub(crate) fn valid(name: &str, document: &Value) {
    let validator = jsonschema::draft202012::new(&schema(name)).unwrap();
    let errors: Vec<_> = validator
        .iter_errors(document)
        .map(|error| format!("{error} at {}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}");
}

#[track_caller]
pub(crate) fn invalid(name: &str, document: &Value) {
    let validator = jsonschema::draft202012::new(&schema(name)).unwrap();
    assert!(!validator.is_valid(document), "{name} lets pass {document}");
}

fn gap() -> Gap {
    Gap {
        at: Locator::machine("web-01")
            .point("active")
            .volume("disk0/gpt2"),
        kind: ErrorKind::Unsupported,
        why: "an encrypted volume".into(),
        may_hide_packages: true,
    }
}

#[test]
fn inventories_are_as_published() {
    let mut inventory = guest(&[
        "a 1",
        "b 2 hold ok unpacked",
        "c 1 deinstall ok config-files",
    ]);
    valid(
        "inventory-v2.json",
        &serde_json::to_value(&inventory).unwrap(),
    );
    inventory.add_gaps([gap()]);
    let mut document = serde_json::to_value(&inventory).unwrap();
    valid("inventory-v2.json", &document);
    valid(
        "inventory-v2.json",
        &serde_json::to_value(guest(&[])).unwrap(),
    );
    document["schema"] = json!("dormouse/inventory/v1");
    invalid("inventory-v2.json", &document);
    let mut document = serde_json::to_value(guest(&["a 1"])).unwrap();
    document["surprise"] = json!(1);
    invalid("inventory-v2.json", &document);
    let mut document = serde_json::to_value(guest(&["a 1"])).unwrap();
    document["packages"][0]["state"] = json!("perfect");
    invalid("inventory-v2.json", &document);
}

#[test]
fn inventories_of_every_family_state_and_kind_are_as_published() {
    let mut inventory = guest(&["a 1"]);
    let package = inventory.packages.pop_first().unwrap();
    let path = GuestPath::new("/etc/x").unwrap();
    for family in Family::all() {
        for state in State::ALL {
            for kind in [Kind::Software, Kind::Key] {
                inventory.packages.insert(Package {
                    family,
                    state,
                    kind,
                    vendor: Some("v".into()),
                    module: Some("nodejs:18:1:el9".into()),
                    installed_at: Some(jiff::Timestamp::UNIX_EPOCH),
                    signing_key: Some("199e2f91fd431d51".into()),
                    size: Some(1),
                    location: Some(path.clone()),
                    ..package.clone()
                });
            }
        }
        inventory.family = Some(family);
        inventory.repositories.insert(ConfiguredRepository {
            family,
            file: path.clone(),
            name: "core".into(),
            uris: vec!["https://r.example/".into()],
            suites: vec!["s".into()],
            components: vec!["main".into()],
            enabled: true,
        });
    }
    inventory.default_kernel = Some(DefaultKernel {
        release: "6.1.0-13-amd64".into(),
        why: "the menu".into(),
    });
    valid(
        "inventory-v2.json",
        &serde_json::to_value(&inventory).unwrap(),
    );
}

#[test]
fn assessments_are_as_published() {
    let releases = offers(&["bookworm-security a 2", "bookworm c 1"]);
    let mut inventory = guest(&[
        "a 1",
        "b 1",
        "c 2 install ok unpacked",
        "d 1 install reinstreq half-installed",
    ]);
    inventory.add_gaps([gap()]);
    let baseline = "name = 'x'\nsuites = ['{codename}-security']\n[[required]]\npackage = 'r'\n\
        [[waiver]]\nid = 'W1'\npackage = 'a'\nreason = 'r'\napprover = 'o'\nexpires = 2030-01-01\n\
        [[waiver]]\nid = 'W2'\npackage = 'd'\nreason = 'r'\nexpires = 2020-01-01\n\
        [[accepted-gap]]\nid = 'G1'\ngap = '*'\nreason = 'r'\nexpires = 2030-01-01\n";
    for baseline in [baseline, default_baseline()] {
        let assessment = judge(baseline, &inventory, &releases);
        valid(
            "assessment-v1.json",
            &serde_json::to_value(&assessment).unwrap(),
        );
    }
    let assessment = judge(baseline, &inventory, &releases);
    let mended = judge_with(
        "name = 'x'\nsuites = ['bookworm-security']\n",
        &guest(&["openssl 3.0.1-1"]),
        &offers(&["bookworm-security openssl 3.0.2-1"]),
        &crate::verdicts::advisories(),
        crate::world::NOW,
    );
    assert_eq!(mended.findings.first().unwrap().cves.len(), 2);
    valid(
        "assessment-v1.json",
        &serde_json::to_value(&mended).unwrap(),
    );
    assert!(!assessment.expired_waivers.is_empty() && !assessment.accepted_gaps.is_empty());
    assert!(!assessment.unknown.is_empty() && !assessment.outstanding.is_empty());
    let document = serde_json::to_value(&assessment).unwrap();
    for (pointer, value) in [
        ("/verdict", json!("fine")),
        ("/findings/0/rule", json!("mood")),
        ("/as-of", json!("today")),
        ("/suites/0/digest", json!("md5:00")),
    ] {
        let mut broken = document.clone();
        *broken.pointer_mut(pointer).unwrap() = value;
        invalid("assessment-v1.json", &broken);
    }
}

#[test]
fn baselines_are_as_published() {
    let to_json =
        |text: &str| serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap();
    valid("baseline-v1.json", &to_json(default_baseline()));
    let whole = "name = 'x'\ndescription = 'd'\nsuites = ['a']\nas-of = '2026-01-01'\nunknown-packages = 'fail'\nfail-on = ['pending']\n\
        [applies-to]\nos = ['debian']\nversion = ['12']\ncodename = ['b']\nmachines = ['*']\nlabels = { a = 'b' }\n\
        [minimum-versions]\na = '1'\n[[required]]\npackage = 'a'\nreason = 'r'\n\
        [[forbidden]]\npackage = 'a'\nversions = '<< 1'\nreason = 'r'\n\
        [[waiver]]\nid = 'W'\npackage = 'a'\nrule = 'suite'\nversions = '= 1'\nmachines = ['*']\nreason = 'r'\napprover = 'o'\nexpires = '2026-01-01'\n\
        [[accepted-gap]]\nid = 'G'\ngap = '*'\nvolume = '*'\npath = '*'\nmachines = ['*']\nreason = 'r'\napprover = 'o'\nexpires = '2026-01-01'\n";
    let whole = &format!(
        "{whole}[upgrades]\nonly = ['security', 'CVE-2026-0001', 'bash']\nphased = 'take'\n\
        [[repository]]\nname = 'tools'\nsigned-by = ['ABCD']\ntrusted = ['sha256:{}']\nreason = 'r'\n\
        [[pin]]\npackages = ['*', 'src:linux']\ncodename = 'a'\nsuite = 'b'\norigin = 'c'\nlabel = 'd'\nrelease = '12'\n\
        component = 'main'\nrepository = 'tools'\nversion = '1*'\npriority = -1\nreason = 'r'\n",
        "0".repeat(64)
    );
    dormouse_policy::Baseline::parse(whole).unwrap();
    valid("baseline-v1.json", &to_json(whole));
    for (_, shipped) in dormouse_policy::SHIPPED {
        valid("baseline-v1.json", &to_json(shipped));
    }
    let commented = crate::baselines::in_force(default_baseline())
        .replace("2026-12-31", "'2026-12-31'")
        .replace("2026-06-30", "'2026-06-30'");
    dormouse_policy::Baseline::parse(&commented).unwrap();
    valid("baseline-v1.json", &to_json(&commented));
    for text in [
        "name = 'x'\nsuite = 'a'\n",
        "suites = []\n",
        "name = 'x'\nfail-on = ['bad']\n",
        "name = 'x'\n[[waiver]]\nid = 'W'\n",
        "name = 'x'\n[upgrades]\nphased = 'now'\n",
        "name = 'x'\n[[pin]]\npackages = ['*']\npriority = 100000\n",
        "name = 'x'\n[[repository]]\nname = 'a'\ntrusted = ['md5:1']\n",
        "name = 'x'\n[[gate]]\nid = 'g'\n",
        "name = 'x'\n[[gate]]\nid = 'g'\ncves = ['CVE-1']\n",
        "name = 'x'\n[[file]]\nid = 'f'\npath = 'etc'\n",
        "name = 'x'\n[[file]]\nid = 'f'\npath = '/etc'\nmode = '0888'\n",
        "name = 'x'\n[[setting]]\nid = 's'\npaths = ['/a']\nkey = 'k'\n",
        "name = 'x'\n[[fix]]\nid = 'f'\ntitle = 't'\n",
        "name = 'x'\n[[fix]]\nid = 'f'\ntitle = 't'\nedit = []\n",
        "name = 'x'\n[[fix]]\nid = 'f'\ntitle = 't'\n[[fix.edit]]\ndo = 'set'\npath = '/a'\nkey = 'k'\n",
        "name = 'x'\n[[fix]]\nid = 'f'\ntitle = 't'\n[[fix.edit]]\ndo = 'remove'\npath = '/a'\nkey = 'k'\n",
        "name = 'x'\n[[fix]]\nid = 'f'\ntitle = 't'\n[[fix.edit]]\ndo = 'line'\npath = '/a'\nmatching = 'k'\n",
        "name = 'x'\n[[fix]]\nid = 'f'\ntitle = 't'\n[[fix.edit]]\ndo = 'attributes'\npath = '/a'\n",
        "name = 'x'\n[[fix]]\nid = 'f'\ntitle = 't'\n[[fix.file]]\nid = 'g'\npath = '/a'\n[[fix.edit]]\ndo = 'remove'\npath = '/a'\n",
        "name = 'x'\n[[deadlines.rule]]\nid = 'd'\nwithin = 'soon'\n",
        "name = 'x'\n[[deadlines.rule]]\nid = 'd'\nwithin = '1 day'\nfrom = []\n",
        "name = 'x'\n[[waiver]]\nid = 'W'\nreason = 'r'\nexpires = '2026-01-01'\n",
    ] {
        assert!(dormouse_policy::Baseline::parse(text).is_err());
        invalid("baseline-v1.json", &to_json(text));
    }
}
