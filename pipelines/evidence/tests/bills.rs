//! Bills of materials, held against their makers' own validators.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic, write files and run its oracles"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use dormouse_block::{ErrorKind, Gap, Locator};
use dormouse_evidence::{BILL_FORMATS, Bill, bill_format};
use dormouse_filesystem::{Guest, MemoryTree};
use dormouse_packages::{Inventory, Selection, take, take_of};
use serde_json::Value;

/// `CycloneDX`' own library with the schemas of ECMA-424, and SPDX' own validator.
const VALIDATORS: [&str; 2] = [
    "cyclonedx-python-lib[json-validation]==11.12.0",
    "spdx-tools==0.8.5",
];

const CHECK: &str = "
import sys
name, path = sys.argv[1:]
if name == 'cyclonedx':
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(path).read())
    sys.exit(None if wrong is None else str(wrong)[:2000])
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
wrong = validate_full_spdx_document(parse_file(path))
sys.exit(None if not wrong else chr(10).join(one.validation_message for one in wrong[:20]))
";

fn python() -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.env("PYTHONPATH", validators());
    command
}

/// Where the validators are; they are fetched from PyPI once for each build folder.
fn validators() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("bill-validators")
}

fn install() {
    let done = validators().join("done");
    if done.exists() {
        return;
    }
    let made = Command::new("/usr/bin/python3")
        .args(["-m", "pip", "install", "--quiet", "--no-input", "--upgrade"])
        .args(["--retries", "1", "--timeout", "20", "--target"])
        .arg(validators())
        .args(VALIDATORS)
        .output()
        .expect("python3 with pip is needed (tests/guests/prerequisites.sh test)");
    assert!(
        made.status.success(),
        "the validators cannot be fetched from PyPI: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    std::fs::write(done, "").unwrap();
}

fn validate(name: &str, bytes: &[u8]) -> Result<(), String> {
    let ending = if name == "spdx" {
        ".spdx.json"
    } else {
        ".json"
    };
    let file = tempfile::Builder::new().suffix(ending).tempfile().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let done = python()
        .args(["-c", CHECK, name])
        .arg(file.path())
        .output()
        .unwrap();
    if done.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&done.stderr).into_owned())
    }
}

fn guest() -> Guest {
    let mut tree = MemoryTree::new();
    tree.file("/etc/os-release", b"ID=debian\nVERSION_ID=12\nPRETTY_NAME=\"Debian <12> & more\"\n")
        .file(
            "/var/lib/dpkg/status",
            b"Package: openssl\nStatus: install ok installed\nArchitecture: amd64\nSource: openssl-src (3.0)\nVersion: 3.0.11-1~deb12u2\n\n\
              Package: half\nStatus: install ok unpacked\nArchitecture: amd64\nVersion: 1\n\n\
              Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n",
        )
        .file(
            "/usr/lib/python3/dist-packages/six-1.16.0.egg-info",
            b"Name: six\nVersion: 1.16.0\n",
        )
        .file(
            "/srv/node_modules/@a/b/package.json",
            b"{\"name\":\"@a/b\",\"version\":\"1.0.0\"}",
        )
        .file("/boot/vmlinuz-6.1.0-13-amd64", b"");
    Guest::of(tree)
}

fn all() -> Vec<Inventory> {
    let everything = Selection::parse(["all"]).unwrap();
    vec![
        take_of(
            &guest(),
            &Locator::machine("web-01").point("active"),
            &everything,
        ),
        take(&guest(), &Locator::machine("web-02")),
        take(
            &Guest::of(MemoryTree::new()),
            &Locator::machine("empty \u{1b}[31m"),
        ),
    ]
}

fn gap() -> Gap {
    Gap {
        at: Locator::machine("web-03"),
        kind: ErrorKind::Corrupt,
        why: "the header is torn".into(),
        may_hide_packages: true,
    }
}

fn bill<'a>(inventories: &'a [&'a Inventory], gaps: &'a [&'a Gap]) -> Bill<'a> {
    Bill {
        inventories,
        gaps,
        as_of: Some("2026-11-20T10:00:00.5Z".parse().unwrap()),
        tool: ("dormouse", "0.1.0"),
    }
}

#[test]
fn bills_are_what_their_makers_validators_accept() {
    install();
    let all = all();
    let inventories: Vec<&Inventory> = all.iter().collect();
    let gap = gap();
    let whole = bill(&inventories, &[]);
    let untimed = Bill {
        as_of: None,
        ..bill(&inventories[..1], &[])
    };
    let gaps = [&gap];
    let broken = bill(&inventories, &gaps);
    let nothing = bill(&[], &gaps);
    for format in BILL_FORMATS {
        for bill in [whole, untimed, broken] {
            let bytes = format.render(&bill).unwrap();
            assert_eq!(bytes, format.render(&bill).unwrap());
            validate(format.name, &bytes).unwrap();
        }
        let bytes = format.render(&nothing).unwrap();
        if format.name == "cyclonedx" {
            validate(format.name, &bytes).unwrap();
        }
        // The validator can say no.
        let text = String::from_utf8(format.render(&whole).unwrap()).unwrap();
        let wrong = text
            .replace("\"DEVICE\"", "\"TOASTER\"")
            .replace("\"device\"", "\"toaster\"");
        assert!(
            validate(format.name, wrong.as_bytes()).is_err(),
            "{}",
            format.name
        );
    }
}

#[test]
fn a_bill_says_what_was_not_seen() {
    let all = all();
    let inventories: Vec<&Inventory> = all.iter().collect();
    let render = |name: &str, gaps: &[&Gap]| -> Value {
        let bytes = bill_format(name)
            .unwrap()
            .render(&bill(&inventories, gaps))
            .unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    let document = render("cyclonedx", &[]);
    let aggregates: Vec<&Value> = document["compositions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|composition| &composition["aggregate"])
        .collect();
    // Everything was looked for in the first alone, and the last has nothing to look at.
    assert_eq!(aggregates, ["complete", "incomplete", "incomplete"]);
    let first = &document["components"][0];
    let purls: Vec<&str> = first["components"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|component| component["purl"].as_str())
        .collect();
    // What is unpacked is there; what was removed is not.
    assert_eq!(
        purls,
        [
            "pkg:npm/%40a/b@1.0.0",
            "pkg:deb/debian/half@1?arch=amd64&distro=debian-12",
            "pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=amd64&distro=debian-12",
            "pkg:pypi/six@1.16.0",
        ]
    );
    assert_eq!(first["components"][0]["type"], "operating-system");
    assert_eq!(document["metadata"]["timestamp"], "2026-11-20T10:00:00.5Z");
    let text = document.to_string();
    assert!(
        text.contains("not looked for: packages of python, npm"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'));

    // A disk that could not be opened at all leaves nothing complete.
    let torn = gap();
    let document = render("cyclonedx", &[&torn]);
    assert_eq!(document["compositions"][0]["aggregate"], "incomplete");
    assert!(
        document["metadata"]
            .to_string()
            .contains("the header is torn")
    );
    let document = render("spdx", &[&torn]);
    assert!(
        document["annotations"]
            .to_string()
            .contains("the header is torn")
    );
    assert!(
        document["packages"][0]["annotations"]
            .to_string()
            .contains("coverage: incomplete")
    );
    assert_ne!(
        render("spdx", &[])["documentNamespace"],
        document["documentNamespace"]
    );
}
