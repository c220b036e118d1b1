//! rpm's databases in every form, against rpm.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use dormouse_filesystem::{Guest, MemoryTree};
use dormouse_packages::rpm::{Backend, DatabaseFile, Found, Header, PackageHeader};
use dormouse_packages::{Family, Kind};

use crate::{fixture, inventory, read, run, text, unwrapped};

/// What rpm says of every package of a database, sorted: all that the inventory takes from a header.
fn rpm_says(folder: &Path, backend: &str) -> Vec<String> {
    const FORMAT: &str = "%{NAME}|%{EPOCHNUM}|%{VERSION}|%{RELEASE}|%{ARCH}|%{SOURCERPM}|%{VENDOR}|%{MODULARITYLABEL}|\
        %{INSTALLTIME}|%{LONGSIZE}|%{RSAHEADER:pgpsig}|%{DSAHEADER:pgpsig}|%{SIGPGP:pgpsig}|%{SIGGPG:pgpsig}\\n";
    let out = run(Command::new("rpm")
        .args(["--define", &format!("_db_backend {backend}"), "--dbpath"])
        .arg(folder)
        .args(["-qa", "--qf", FORMAT]));
    let mut lines: Vec<_> = String::from_utf8(out)
        .unwrap()
        .lines()
        .map(|line| {
            let fields: Vec<_> = line.split('|').collect();
            let key = fields[10..]
                .iter()
                .find_map(|text| text.split("Key ID ").nth(1));
            format!("{}|{}", fields[..10].join("|"), key.unwrap_or("(none)"))
        })
        .collect();
    lines.sort();
    lines
}

/// The same of ours.
fn headers(guest: &Guest) -> Vec<String> {
    let found = Found::in_guest(guest).unwrap();
    assert_eq!((found.files.len(), found.passed_over.len()), (1, 0));
    let mut lines = Vec::new();
    each(guest, &found.files[0], |header| {
        let one = PackageHeader::read(header).unwrap();
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "(none)".into());
        lines.push(format!(
            "{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}",
            one.name,
            one.epoch.unwrap_or_default(),
            one.version,
            one.release,
            or_none(&one.architecture),
            or_none(&one.source_rpm),
            or_none(&one.vendor),
            or_none(&one.module),
            one.install_time
                .map_or("(none)".into(), |time| time.to_string()),
            one.size.unwrap_or_default(),
            or_none(&one.signing_key),
        ));
    });
    lines.sort();
    lines
}

fn each(guest: &Guest, file: &DatabaseFile, mut take: impl FnMut(&Header<'_>)) {
    dormouse_packages::rpm::read(guest, file, &mut |header| {
        take(&header?);
        Ok(())
    })
    .unwrap();
}

/// A tree with all files of a database's folder.
fn tree(folder: &Path) -> MemoryTree {
    let mut tree = MemoryTree::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        tree.file(&format!("/var/lib/rpm/{name}"), &read(entry.path()));
    }
    tree.file("/etc/os-release", b"ID=fedora\nVERSION_ID=44\n");
    tree
}

fn agree(folder: &Path, backend: &str) -> Vec<String> {
    let ours = headers(&Guest::of(tree(folder)));
    let theirs = rpm_says(folder, backend);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
    ours
}

/// A database that rpm makes of the published package files and keys.
fn made_by_rpm(folder: &Path) {
    let mut files = run(Command::new("find")
        .arg(fixture("packages/rpm"))
        .args(["-name", "*.rpm"]));
    files.pop();
    let files = String::from_utf8(files).unwrap();
    let mut files: Vec<_> = files.lines().collect();
    files.sort_unstable();
    assert!(files.len() > 20);
    for file in files {
        // Some are of a later kind than the installed rpm, and no matter here.
        let _ = Command::new("rpm")
            .arg("--dbpath")
            .arg(folder)
            .args([
                "-i",
                "--justdb",
                "--nodeps",
                "--noscripts",
                "--notriggers",
                "--nosignature",
                "--nodigest",
            ])
            .args(["--ignorearch", "--ignoreos", "--force", file])
            .output()
            .expect("this test needs rpm");
    }
    for key in ["RPM-GPG-KEY-CentOS-6", "RPM-GPG-KEY-CentOS-7"] {
        let key = fixture(&format!("packages/rpm/cavaliergopher/{key}"));
        run(Command::new("rpm")
            .arg("--dbpath")
            .arg(folder)
            .arg("--import")
            .arg(key));
    }
}

#[test]
fn a_database_that_rpm_made_reads_as_rpm_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    made_by_rpm(dir.path());
    let all = agree(dir.path(), "sqlite");
    assert!(all.len() > 20);
    assert!(all.iter().any(|line| line.ends_with("|24c6a8a7f4a80eb5")));
    assert!(all.iter().any(|line| line.starts_with("one-epoch|1|")));
    assert!(all.iter().any(|line| line.starts_with("gpg-pubkey|")));
    // Rebuilt, its pages lie otherwise.
    run(Command::new("rpmdb")
        .arg("--dbpath")
        .arg(dir.path())
        .arg("--rebuilddb"));
    assert_eq!(agree(dir.path(), "sqlite").len(), all.len());

    let inventory = inventory(tree(dir.path()));
    assert!(inventory.coverage.complete, "{:?}", inventory.gaps);
    assert_eq!(inventory.family, Some(Family::Rpm));
    let keys = inventory
        .packages
        .iter()
        .filter(|one| one.kind == Kind::Key);
    assert_eq!(
        keys.filter(|key| !key.is_present() && key.name == "gpg-pubkey")
            .count(),
        2
    );
    let one = inventory.find("one-epoch").next().unwrap();
    assert_eq!(
        one.purl,
        "pkg:rpm/fedora/one-epoch@0.1-1?arch=x86_64&distro=fedora-44&epoch=1&upstream=one-epoch-0.1-1.src.rpm"
    );
    assert_eq!(
        (one.version.as_str(), one.source_version.as_str()),
        ("1:0.1-1", "0.1-1")
    );
}

#[test]
fn the_files_of_a_package_are_those_that_rpm_lists() {
    let dir = tempfile::tempdir().unwrap();
    made_by_rpm(dir.path());
    let guest = Guest::of(tree(dir.path()));
    let mut ours = Vec::new();
    each(
        &guest,
        &Found::in_guest(&guest).unwrap().files[0],
        |header| {
            for file in header.files().unwrap() {
                ours.push(String::from_utf8([file.directory, file.name].concat()).unwrap());
            }
            let tags: Vec<_> = header.tags().collect();
            assert!(tags.contains(&1000));
            // SUMMARY, in the language that the header calls C.
            assert_eq!(
                header.text(1004).unwrap(),
                header.translated(1004, b"C").unwrap()
            );
        },
    );
    ours.sort();
    let theirs = run(Command::new("rpm").arg("--dbpath").arg(dir.path()).args([
        "-qa",
        "--qf",
        "[%{FILENAMES}\\n]",
    ]));
    let theirs = String::from_utf8(theirs).unwrap();
    let mut theirs: Vec<_> = theirs.lines().collect();
    theirs.sort_unstable();
    assert!(theirs.len() > 30);
    assert_eq!(ours, theirs);
}

fn expected(list: &str) -> Vec<String> {
    let text = text(fixture(list));
    let mut lines: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with("name\t"))
        .map(|line| line.split('\t').take(5).collect::<Vec<_>>().join("|"))
        .collect();
    lines.sort();
    lines
}

fn short(lines: &[String]) -> Vec<String> {
    let mut lines: Vec<_> = lines
        .iter()
        .map(|line| line.split('|').take(5).collect::<Vec<_>>().join("|"))
        .collect();
    lines.sort();
    lines
}

#[test]
fn fedora_44_in_sqlite_reads_as_its_list_and_as_rpm_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = unwrapped("pkgdb/rpm/fedora-44/rpmdb.sqlite.zst");
    std::fs::write(dir.path().join("rpmdb.sqlite"), bytes).unwrap();
    let ours = agree(dir.path(), "sqlite");
    assert_eq!(
        short(&ours),
        expected("pkgdb/rpm/fedora-44/expected-rpm-qa.tsv")
    );
    assert_eq!(ours.len(), 147);
}

#[test]
fn sle_15_in_ndb_reads_as_its_list() {
    let mut tree = MemoryTree::new();
    let bytes = unwrapped("pkgdb/rpm/sle15-bci-ndb/Packages.db.zst");
    tree.file("/usr/lib/sysimage/rpm/Packages.db", &bytes)
        .symlink("/var/lib/rpm", "../../usr/lib/sysimage/rpm");
    let ours = headers(&Guest::of(tree));
    assert_eq!(
        short(&ours),
        expected("pkgdb/rpm/sle15-bci-ndb/expected-rpm-qa.tsv")
    );
    assert_eq!(ours.len(), 35);
}

#[test]
fn a_berkeley_database_of_one_package_reads_as_rpm_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = unwrapped("pkgdb/rpm/libuuid-bdb/Packages.zst");
    std::fs::write(dir.path().join("Packages"), bytes).unwrap();
    let ours = agree(dir.path(), "bdb_ro");
    assert_eq!(ours.len(), 1);
    assert!(ours[0].starts_with("libuuid|0|"));
}

/// Every row of `Packages` as SQLite's own program prints it: number and hexadecimal header.
fn rows(database: &Path) -> Vec<(u32, String)> {
    let out = run(Command::new("sqlite3")
        .arg(database)
        .arg("select hnum, hex(blob) from Packages order by hnum"));
    let out = String::from_utf8(out).unwrap();
    out.lines()
        .map(|line| {
            let (number, blob) = line.split_once('|').unwrap();
            (number.parse().unwrap(), blob.to_lowercase())
        })
        .collect()
}

/// The same packages in Berkeley databases that Berkeley's own loader makes.
#[test]
fn berkeley_databases_of_each_kind_and_byte_order_read() {
    let dir = tempfile::tempdir().unwrap();
    made_by_rpm(dir.path());
    let theirs = rpm_says(dir.path(), "sqlite");
    let rows = rows(&dir.path().join("rpmdb.sqlite"));
    for (kind, order, page_size, duplicates) in [
        ("hash", 1234, 4096, 0),
        ("hash", 4321, 4096, 0),
        ("hash", 4321, 512, 0),
        ("hash", 1234, 65536, 0),
        ("hash", 1234, 4096, 1),
        ("btree", 1234, 4096, 0),
        ("btree", 4321, 8192, 0),
        ("btree", 4321, 4096, 1),
    ] {
        let case = format!("{kind} {order} {page_size} {duplicates}");
        let folder = dir
            .path()
            .join(format!("{kind}-{order}-{page_size}-{duplicates}"));
        std::fs::create_dir(&folder).unwrap();
        let mut dump = format!(
            "VERSION=3\nformat=bytevalue\ntype={kind}\ndb_lorder={order}\ndb_pagesize={page_size}\nduplicates={duplicates}\nHEADER=END\n"
        );
        let key = |number: u32| -> String {
            let bytes = if order == 1234 {
                number.to_le_bytes()
            } else {
                number.to_be_bytes()
            };
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        // rpm's own counter, which is no package.
        writeln!(dump, " {}\n {}", key(0), key(99)).unwrap();
        for (number, blob) in &rows {
            // With duplicates, several values of one key.
            let number = if duplicates == 1 {
                number % 3 + 1
            } else {
                *number
            };
            writeln!(dump, " {}\n {blob}", key(number)).unwrap();
        }
        dump.push_str("DATA=END\n");
        let input = folder.join("dump");
        std::fs::write(&input, dump).unwrap();
        run(Command::new("db_load")
            .arg("-f")
            .arg(&input)
            .arg(folder.join("Packages")));
        std::fs::remove_file(&input).unwrap();
        let ours = headers(&Guest::of(tree(&folder)));
        assert_eq!(ours, theirs, "{case}");
        if kind == "hash" && duplicates == 0 && order == 1234 {
            assert_eq!(rpm_says(&folder, "bdb_ro"), theirs, "{case}");
        }
    }
}

/// A copy of Fedora's database, with `session` run on it by SQLite's own program and the files copied while it is open.
fn copied_in_use(session: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    let copy = dir.path().join("copy");
    std::fs::create_dir(&live).unwrap();
    std::fs::create_dir(&copy).unwrap();
    let bytes = unwrapped("pkgdb/rpm/fedora-44/rpmdb.sqlite.zst");
    std::fs::write(live.join("rpmdb.sqlite"), bytes).unwrap();
    let script = format!(
        "pragma journal_mode=wal;\npragma wal_autocheckpoint=0;\n{session}\n.shell cp {0}/rpmdb.sqlite {0}/rpmdb.sqlite-wal {1}\n",
        live.display(),
        copy.display()
    );
    let input = dir.path().join("script");
    std::fs::write(&input, script).unwrap();
    run(Command::new("sqlite3")
        .arg(live.join("rpmdb.sqlite"))
        .stdin(std::fs::File::open(&input).unwrap()));
    dir
}

#[test]
fn a_log_that_was_not_merged_is_replayed() {
    for (session, packages) in [
        ("delete from Packages where hnum % 2 = 0;", None),
        (
            "create table t as select * from Packages where hnum % 3 = 0; delete from Packages where hnum % 3 = 0;\n\
            insert into Packages select hnum + 5000, blob from t; drop table t;",
            Some(147),
        ),
        // What was not committed does not count, though it stands in the log.
        (
            "delete from Packages where hnum % 2 = 1;\npragma cache_size=5;\nbegin;\ndelete from Packages;",
            None,
        ),
        // Merged and begun anew: what is left of the first use does not count.
        (
            "delete from Packages where hnum % 5 = 0;\npragma wal_checkpoint(restart);\ndelete from Packages where hnum % 7 = 0;",
            None,
        ),
    ] {
        let dir = copied_in_use(session);
        let copy = dir.path().join("copy");
        assert!(
            read(copy.join("rpmdb.sqlite-wal")).len() > 4096,
            "{session}"
        );
        let ours = agree(&copy, "sqlite");
        assert!(
            packages.is_none_or(|packages| packages == ours.len()),
            "{session}"
        );
        assert!(packages.is_some() || ours.len() < 147, "{session}");
        // Without the log it is another database.
        let alone = dir.path().join("alone");
        std::fs::create_dir(&alone).unwrap();
        std::fs::copy(copy.join("rpmdb.sqlite"), alone.join("rpmdb.sqlite")).unwrap();
        if packages.is_none() {
            assert_ne!(headers(&Guest::of(tree(&alone))), ours, "{session}");
        }
    }
}

#[test]
fn pages_of_every_size_read() {
    for size in [512, 1024, 8192, 65536] {
        let dir = tempfile::tempdir().unwrap();
        let bytes = unwrapped("pkgdb/rpm/fedora-44/rpmdb.sqlite.zst");
        let path = dir.path().join("rpmdb.sqlite");
        std::fs::write(&path, bytes).unwrap();
        let script = format!("pragma journal_mode=delete; pragma page_size={size}; vacuum;");
        run(Command::new("sqlite3").arg(&path).arg(script));
        assert_eq!(agree(dir.path(), "sqlite").len(), 147, "{size}");
    }
}

#[test]
fn a_second_database_in_one_folder_is_a_gap() {
    let mut tree = MemoryTree::new();
    tree.file(
        "/var/lib/rpm/rpmdb.sqlite",
        &unwrapped("pkgdb/rpm/fedora-44/rpmdb.sqlite.zst"),
    )
    .file(
        "/var/lib/rpm/Packages",
        &unwrapped("pkgdb/rpm/libuuid-bdb/Packages.zst"),
    );
    let guest = Guest::of(tree.clone());
    let found = Found::in_guest(&guest).unwrap();
    assert_eq!(found.files[0].backend, Backend::Sqlite);
    assert_eq!(found.passed_over[0].backend, Backend::Berkeley);
    let inventory = inventory(tree);
    assert!(!inventory.coverage.complete);
    assert_eq!(inventory.coverage.present, 146);
}

#[test]
fn an_open_rollback_journal_is_a_gap() {
    let mut tree = MemoryTree::new();
    let mut journal = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7".to_vec();
    journal.resize(512, 0);
    tree.file(
        "/var/lib/rpm/rpmdb.sqlite",
        &unwrapped("pkgdb/rpm/fedora-44/rpmdb.sqlite.zst"),
    )
    .file("/var/lib/rpm/rpmdb.sqlite-journal", &journal);
    let inventory = inventory(tree);
    assert!(!inventory.coverage.complete);
    assert!(
        inventory
            .gaps
            .iter()
            .any(|gap| gap.why.contains("rollback journal"))
    );
}
