//! dpkg's database as we read it, against dpkg-query on the same one.

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

use dormouse_block::Locator;
use dormouse_filesystem::{Guest, MemoryTree};
use dormouse_packages::dpkg::{Database, MultiArch, RelationField, State};
use dormouse_packages::{Inventory, take};

fn fixtures() -> PathBuf {
    std::env::var_os("DORMOUSE_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    )
}

/// What dpkg-query says of the database in `admin`, sorted.
fn dpkg_query(admin: &Path, format: &str) -> Vec<String> {
    let output = Command::new("dpkg-query")
        .arg("--admindir")
        .arg(admin)
        .args(["-W", "-f", &format!("{format}\u{1}")])
        .env("LC_ALL", "C")
        .output()
        .expect("this test needs dpkg-query");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "dpkg-query: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<_> = text
        .split('\u{1}')
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

const FIELDS: &str = "${Package}\\t${Architecture}\\t${Version}\\t${db:Status-Want} ${db:Status-Eflag} ${db:Status-Status}\\t\
    ${source:Package}\\t${source:Version}\\t${Essential}\\t${Multi-Arch}\\t${Priority}\\t${Section}\\t${Installed-Size}\\t\
    ${Config-Version}";

fn multi_arch(value: MultiArch) -> &'static str {
    match value {
        MultiArch::No => "no",
        MultiArch::Same => "same",
        MultiArch::Foreign => "foreign",
        MultiArch::Allowed => "allowed",
    }
}

/// Compares record by record, so that a difference is seen at a glance.
fn same(ours: &[String], theirs: &[String], what: &str) {
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours, theirs, "{what}");
    }
    assert_eq!(ours.len(), theirs.len(), "{what}");
}

fn our_fields(database: &Database) -> Vec<String> {
    let mut lines = Vec::new();
    for record in database
        .records()
        .iter()
        .filter(|record| record.state() != State::NotInstalled)
    {
        let size = record
            .installed_size
            .map(|size| size.to_string())
            .unwrap_or_default();
        let version = |version: &Option<dormouse_packages::dpkg::Version>| {
            version
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default()
        };
        lines.push(format!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            record.name,
            record.architecture,
            version(&record.version),
            record.status,
            record.source_name,
            version(&record.source_version),
            if record.essential { "yes" } else { "no" },
            multi_arch(record.multi_arch),
            record.priority.as_deref().unwrap_or_default(),
            record.section.as_deref().unwrap_or_default(),
            size,
            version(&record.config_version),
        ));
    }
    lines.sort();
    lines
}

fn our_relations(database: &Database, field: RelationField) -> Vec<String> {
    let mut lines = Vec::new();
    for record in database
        .records()
        .iter()
        .filter(|record| record.state() != State::NotInstalled)
    {
        let relations: Vec<_> = record
            .relations(field)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        lines.push(format!(
            "{}:{}\t{}",
            record.name,
            record.architecture,
            relations.join(", ")
        ));
    }
    lines.sort();
    lines
}

fn our_conffiles(database: &Database) -> Vec<String> {
    let mut lines = Vec::new();
    for record in database
        .records()
        .iter()
        .filter(|record| record.state() != State::NotInstalled)
    {
        let mut line = format!("{}:{}\t", record.name, record.architecture);
        let each: Vec<_> = record
            .conffiles
            .iter()
            .map(|file| {
                let md5 = file.md5.as_deref().unwrap_or("newconffile");
                let obsolete = if file.obsolete { " obsolete" } else { "" };
                let remove = if file.remove_on_upgrade {
                    " remove-on-upgrade"
                } else {
                    ""
                };
                format!(" {} {md5}{obsolete}{remove}", file.path)
            })
            .collect();
        line.push_str(&each.join("\n"));
        lines.push(line.trim_end().to_owned());
    }
    lines.sort();
    lines
}

fn agree(status: &[u8], journal: &[(&str, &[u8])]) -> Database {
    let dir = tempfile::tempdir().unwrap();
    let admin = dir.path();
    let mut tree = MemoryTree::new();
    for folder in ["updates", "info", "triggers", "parts"] {
        std::fs::create_dir(admin.join(folder)).unwrap();
        tree.directory(&format!("/var/lib/dpkg/{folder}"));
    }
    std::fs::write(admin.join("status"), status).unwrap();
    tree.file("/var/lib/dpkg/status", status);
    for (name, bytes) in journal {
        std::fs::write(admin.join("updates").join(name), bytes).unwrap();
        tree.file(&format!("/var/lib/dpkg/updates/{name}"), bytes);
    }
    let database = Database::read(&Guest::of(tree)).unwrap().unwrap();
    assert_eq!(database.gaps, []);
    same(&our_fields(&database), &dpkg_query(admin, FIELDS), "fields");
    for field in RelationField::ALL {
        let format = format!("${{Package}}:${{Architecture}}\\t${{{}}}", field.as_str());
        same(
            &our_relations(&database, field),
            &dpkg_query(admin, &format),
            field.as_str(),
        );
    }
    let theirs = dpkg_query(admin, "${Package}:${Architecture}\\t${Conffiles}");
    let mut theirs: Vec<_> = theirs
        .iter()
        .map(|line| line.replace("\t\n", "\t").trim_end().to_owned())
        .collect();
    theirs.sort();
    same(&our_conffiles(&database), &theirs, "conffiles");
    database
}

/// The database of the very machine that runs the tests: hundreds of real packages.
fn host_status() -> Vec<u8> {
    std::fs::read("/var/lib/dpkg/status").expect("this test needs a machine with dpkg's database")
}

#[test]
fn a_whole_machine_reads_as_dpkg_query_reads_it() {
    let database = agree(&host_status(), &[]);
    assert!(database.records().len() > 50);
    assert!(database.native_architecture().is_some());
}

#[test]
fn a_published_database_reads_as_dpkg_query_reads_it() {
    let path = fixtures().join("pkgdb/dpkg/postgresql.status");
    let status = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(agree(&status, &[]).records().len(), 3);
}

const STATES: &str = "Package: done\nStatus: install ok installed\nPriority: optional\nSection: misc\nInstalled-Size: 12\n\
    Maintainer: A <a@b.example>\nArchitecture: amd64\nMulti-Arch: same\nSource: made (1:2.0-1)\nVersion: 1:2.0-1+b1\n\
    Depends: libc6 (>= 2.36), a | b (<< 3), c:any\nConffiles:\n /etc/done d41d8cd98f00b204e9800998ecf8427e\n \
    /etc/gone d41d8cd98f00b204e9800998ecf8427e obsolete\nDescription: one\n two\n .\n three\n\n\
    Package: done\nStatus: install ok installed\nMaintainer: A <a@b.example>\nArchitecture: i386\nMulti-Arch: same\n\
    Version: 1:2.0-1\nDescription: one\n\n\
    Package: held\nStatus: hold ok installed\nMaintainer: A <a@b.example>\nArchitecture: all\nVersion: 3\nDescription: x\n\n\
    Package: rest\nStatus: deinstall ok config-files\nMaintainer: A <a@b.example>\nArchitecture: amd64\nVersion: 1\n\
    Conffiles:\n /etc/rest d41d8cd98f00b204e9800998ecf8427e\nDescription: x\n\n\
    Package: half\nStatus: install reinstreq half-installed\nMaintainer: A <a@b.example>\nArchitecture: amd64\nVersion: 1\n\
    Description: x\n\n\
    Package: fresh\nEssential: yes\nStatus: install ok unpacked\nMaintainer: A <a@b.example>\nArchitecture: amd64\n\
    Version: 2\nConfig-Version: 1\nConffiles:\n /etc/fresh newconffile\nDescription: x\n\n\
    Package: waits\nStatus: install ok triggers-awaited\nMaintainer: A <a@b.example>\nArchitecture: amd64\nVersion: 1\n\
    Description: x\nTriggers-Awaited: fired\n\n\
    Package: fired\nStatus: install ok triggers-pending\nMaintainer: A <a@b.example>\nArchitecture: amd64\nVersion: 1\n\
    Description: x\nTriggers-Pending: /usr/share/x\n\n\
    Package: never\nStatus: purge ok not-installed\nArchitecture: amd64\n\n";

#[test]
fn every_state_reads_as_dpkg_query_reads_it() {
    let database = agree(STATES.as_bytes(), &[]);
    assert_eq!(database.find("done").count(), 2);
    let fired = database.get("fired", "amd64").unwrap();
    assert_eq!(fired.triggers_pending, ["/usr/share/x"]);
    assert_eq!(
        database.get("waits", "amd64").unwrap().triggers_awaited,
        ["fired"]
    );
    let done = database.get("done", "amd64").unwrap();
    assert_eq!(done.info_name(), "done:amd64");
    assert!(
        STATES.as_bytes().starts_with(done.paragraph().raw()),
        "the paragraph is kept as it stands"
    );
}

#[test]
fn the_journal_is_applied_as_dpkg_applies_it() {
    let half = "Package: held\nStatus: install ok half-configured\nMaintainer: A <a@b.example>\nArchitecture: all\n\
        Version: 4\nDescription: x\n";
    let done = half.replace("half-configured", "installed");
    let fresh = "Package: added\nStatus: install ok unpacked\nMaintainer: A <a@b.example>\nArchitecture: amd64\n\
        Version: 7\nDescription: x\n";
    let files: [(&str, &[u8]); 3] = [
        ("0000", half.as_bytes()),
        ("0001", done.as_bytes()),
        ("0002", fresh.as_bytes()),
    ];
    let database = agree(STATES.as_bytes(), &files);
    assert_eq!(database.journal.len(), 3);
    let held = database.get("held", "all").unwrap();
    assert_eq!(held.status.to_string(), "install ok installed");
    assert_eq!(held.version.as_ref().unwrap().as_str(), "4");
    assert_eq!(held.paragraph().raw(), done.as_bytes());
    // Each record has the text of its own file.
    for record in database.records() {
        let name = format!("Package: {}\n", record.name);
        assert!(record.paragraph().raw().starts_with(name.as_bytes()));
        assert_eq!(record.field("package"), Some(record.name.as_bytes()));
    }
    assert_eq!(held.clone(), *held);
    assert_ne!(held, database.get("added", "amd64").unwrap());
}

#[test]
fn what_is_no_journal_file_is_passed_over() {
    let files: [(&str, &[u8]); 1] = [("tmp.i", b"Package: held\nStatus: install ok unpa")];
    let database = agree(STATES.as_bytes(), &files);
    assert!(database.journal.is_empty());
}

fn inventory(tree: MemoryTree) -> Inventory {
    take(
        &Guest::of(tree),
        &Locator::machine("web-01").point("active"),
    )
}

#[test]
fn an_inventory_carries_every_state_and_counts_what_is_present() {
    let mut tree = MemoryTree::new();
    tree.file("/var/lib/dpkg/status", STATES.as_bytes())
        .file("/var/lib/dpkg/arch", b"amd64\ni386\n")
        .file("/boot/vmlinuz-6.1.0-13-amd64", b"")
        .file(
            "/etc/os-release",
            b"ID=debian\nVERSION_ID=12\nVERSION_CODENAME=bookworm\n",
        );
    let inventory = inventory(tree);
    assert_eq!(
        inventory.packages.len(),
        8,
        "the one that was never installed is none"
    );
    assert_eq!(inventory.coverage.present, 6);
    assert!(inventory.coverage.complete);
    assert_eq!(inventory.architectures, ["amd64", "i386"]);
    assert_eq!(
        inventory.kernels.iter().collect::<Vec<_>>(),
        ["6.1.0-13-amd64"]
    );
    let done = inventory.find("done").next().unwrap();
    assert_eq!(
        done.purl,
        "pkg:deb/debian/done@1:2.0-1%2Bb1?arch=amd64&distro=debian-12"
    );
    assert_eq!(
        (done.source_name.as_str(), done.source_version.as_str()),
        ("made", "1:2.0-1")
    );
    assert!(inventory.find("held").all(|package| package.hold));
    let json = serde_json::to_string(&inventory).unwrap();
    let again: Inventory = serde_json::from_str(&json).unwrap();
    assert_eq!(again, inventory);
    assert_eq!(serde_json::to_string(&again).unwrap(), json);
    assert!(
        serde_json::from_str::<Inventory>(&json.replace("inventory/v2", "inventory/v1")).is_err()
    );
}

#[test]
fn an_inventory_of_nothing_is_a_gap_that_may_hide_packages() {
    for (case, tree) in [
        ("an empty disk", MemoryTree::new()),
        ("an empty database", {
            let mut tree = MemoryTree::new();
            tree.file("/var/lib/dpkg/status", b"");
            tree
        }),
        ("a database of removed packages", {
            let mut tree = MemoryTree::new();
            tree.file(
                "/var/lib/dpkg/status",
                b"Package: a\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n",
            );
            tree
        }),
    ] {
        let inventory = inventory(tree);
        assert_eq!(inventory.coverage.present, 0, "{case}");
        assert!(!inventory.coverage.complete, "{case}");
        assert!(
            inventory
                .gaps
                .iter()
                .all(|gap| gap.at.machine.as_deref() == Some("web-01")),
            "{case}"
        );
    }
}

#[test]
fn a_broken_record_is_a_gap_and_the_others_stand() {
    let mut tree = MemoryTree::new();
    tree.file(
        "/var/lib/dpkg/status",
        b"Package: good\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n\
        Package: bad\nStatus: install ok perfect\nArchitecture: all\nVersion: 1\n\n\
        Package: worse\nArchitecture: all\nVersion: 1\n\n\
        Package: none\nStatus: install ok installed\nArchitecture: all\n\n\
        Package: twice\nVersion: 1\nVersion: 2\nStatus: install ok installed\n\n\
        Package: late\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n",
    )
    .file("/var/lib/rpm/rpmdb.sqlite", b"");
    let inventory = inventory(tree);
    let names: Vec<_> = inventory
        .present()
        .map(|package| package.name.as_str())
        .collect();
    assert_eq!(names, ["good", "late"]);
    assert!(!inventory.coverage.complete);
    let hiding: Vec<_> = inventory
        .gaps
        .iter()
        .filter(|gap| gap.may_hide_packages)
        .collect();
    assert_eq!(hiding.len(), 5, "{hiding:#?}");
    assert!(hiding.iter().any(|gap| gap.why.contains("record of worse")));
    assert!(hiding.iter().any(|gap| gap.why.contains("SQLite")));
}

#[test]
fn an_image_without_dpkg_is_read_from_its_status_folder() {
    let mut tree = MemoryTree::new();
    tree.file(
        "/var/lib/dpkg/status.d/base",
        b"Package: base-files\nArchitecture: amd64\nVersion: 12.4\n",
    )
    .file(
        "/var/lib/dpkg/status.d/base.md5sums",
        b"d41d8cd98f00b204e9800998ecf8427e  etc/x\n",
    );
    let inventory = inventory(tree);
    assert_eq!(inventory.coverage.present, 1);
    assert!(inventory.coverage.complete, "{:?}", inventory.gaps);
    assert_eq!(inventory.architectures, ["amd64"]);
}
