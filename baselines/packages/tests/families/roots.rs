//! Whole root filesystems as their distributions publish them, and single databases, against the expected lists.

use std::path::Path;
use std::process::Command;

use dormouse_filesystem::MemoryTree;
use dormouse_packages::{Family, Inventory, Kind, Package, Reach};

use crate::{fixture, inventory, read, run, text};

/// The folders of a published root that are of use here.
fn root(archive: &str, folders: &[&str]) -> MemoryTree {
    let dir = tempfile::tempdir().unwrap();
    run(Command::new("tar")
        .arg("-xf")
        .arg(fixture(archive))
        .arg("-C")
        .arg(dir.path())
        .args(["--no-same-owner", "--wildcards"])
        .args(folders));
    let mut tree = MemoryTree::new();
    add(&mut tree, dir.path(), "");
    tree
}

fn add(tree: &mut MemoryTree, host: &Path, guest: &str) {
    for entry in std::fs::read_dir(host).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{guest}/{}", entry.file_name().to_str().unwrap());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            add(tree, &entry.path(), &path);
        } else if kind.is_symlink() {
            let target = std::fs::read_link(entry.path()).unwrap();
            tree.symlink(&path, target.to_str().unwrap());
        } else {
            tree.file(&path, &read(entry.path()));
        }
    }
}

fn list(inventory: &Inventory, line: impl Fn(&Package) -> String) -> Vec<String> {
    let mut lines: Vec<_> = inventory.present().map(line).collect();
    lines.sort();
    lines
}

fn expected(path: &str) -> Vec<String> {
    let text = text(fixture(path));
    let mut lines: Vec<_> = text.lines().skip(1).map(str::to_owned).collect();
    lines.sort();
    lines
}

fn rpm_line(package: &Package) -> String {
    let (epoch, rest) = package
        .version
        .split_once(':')
        .unwrap_or(("0", &package.version));
    let (version, release) = rest.split_once('-').unwrap();
    let source = package
        .purl
        .split("upstream=")
        .nth(1)
        .unwrap()
        .replace("%2B", "+");
    format!(
        "{}\t{epoch}\t{version}\t{release}\t{}\t{source}",
        package.name, package.architecture
    )
}

#[test]
fn almalinux_9_on_arm_reads_as_rpm_listed_it() {
    let tree = root(
        "rootfs/almalinux-9.1-20221117-aarch64-micro.tar.xz",
        &["etc/os-release", "usr/lib/os-release", "var/lib/rpm"],
    );
    let inventory = inventory(tree);
    assert!(inventory.coverage.complete, "{:?}", inventory.gaps);
    assert_eq!(inventory.family, Some(Family::Rpm));
    assert_eq!(inventory.native_architecture(), Some("aarch64"));
    let theirs = expected("rootfs/expect/packages-al9-20221117.tsv");
    assert_eq!(list(&inventory, rpm_line), theirs);
    assert_eq!(
        inventory
            .packages
            .iter()
            .filter(|one| one.kind == Kind::Key)
            .count(),
        1
    );
    let bash = inventory.find("bash").next().unwrap();
    assert_eq!(
        bash.purl,
        "pkg:rpm/almalinux/bash@5.1.8-5.el9?arch=aarch64&distro=almalinux-9.1&upstream=bash-5.1.8-5.el9.src.rpm"
    );
    assert_eq!(bash.vendor.as_deref(), Some("AlmaLinux"));
}

#[test]
fn almalinux_8_on_a_big_endian_machine_reads_as_rpm_listed_it() {
    let tree = root(
        "rootfs/almalinux-8-20230523-s390x-micro.tar.xz",
        &["etc/os-release", "usr/lib/os-release", "var/lib/rpm"],
    );
    let inventory = inventory(tree);
    assert!(inventory.coverage.complete, "{:?}", inventory.gaps);
    assert_eq!(inventory.native_architecture(), Some("s390x"));
    let theirs = expected("rootfs/expect/packages-al8-20230523.tsv");
    assert_eq!(list(&inventory, rpm_line), theirs);
}

/// The fixed versions of advisories that the distribution's own tools found: each above what is installed, in our order.
#[test]
fn the_findings_of_the_oracles_are_ours() {
    for (archive, list) in [
        (
            "rootfs/almalinux-9.1-20221117-aarch64-micro.tar.xz",
            "rootfs/expect/expect-al9-20221117.tsv",
        ),
        (
            "rootfs/almalinux-8-20230523-s390x-micro.tar.xz",
            "rootfs/expect/expect-al8-20230523.tsv",
        ),
    ] {
        let inventory = inventory(root(
            archive,
            &["etc/os-release", "usr/lib/os-release", "var/lib/rpm"],
        ));
        for line in expected(list) {
            let [_, name, installed, fixed] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            let package = inventory.find(name).next().unwrap();
            assert_eq!(
                Family::Rpm.compare(&package.version, installed),
                std::cmp::Ordering::Equal
            );
            assert_eq!(
                Family::Rpm.compare(&package.version, fixed),
                std::cmp::Ordering::Less,
                "{line}"
            );
        }
    }
}

#[test]
fn alpine_3_8_reads_as_its_list() {
    let inventory = inventory(root(
        "rootfs/glider-alpine-3.8.2-x86_64.tar.xz",
        &["*etc/os-release", "*lib/apk/db", "*etc/apk"],
    ));
    assert!(inventory.coverage.complete, "{:?}", inventory.gaps);
    assert_eq!(inventory.family, Some(Family::Apk));
    let ours = list(&inventory, |one| {
        format!(
            "{}\t{}\t{}\t{}",
            one.name, one.version, one.architecture, one.source_name
        )
    });
    assert_eq!(
        ours,
        expected("rootfs/expect/packages-glider-alpine-3.8.tsv")
    );
    for line in expected("rootfs/expect/expect-glider-alpine-3.8.tsv") {
        let fields: Vec<_> = line.split('\t').collect();
        let package = inventory.find(fields[0]).next().unwrap();
        assert_eq!(
            (package.source_name.as_str(), package.version.as_str()),
            (fields[1], fields[2])
        );
        assert_eq!(
            Family::Apk.compare(fields[2], fields[3]),
            std::cmp::Ordering::Less
        );
    }
}

/// Every record of the file: `P:` and `V:` lines, which stand in no other place.
fn counted(text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("P:") {
            name = value.to_owned();
        } else if let Some(value) = line.strip_prefix("V:") {
            all.push((name.clone(), value.to_owned()));
        }
    }
    all.sort();
    all
}

#[test]
fn later_alpines_read_whole() {
    for (archive, version) in [
        ("rootfs/alpine-minirootfs-3.16.9-x86_64.tar.gz", "3.16.9"),
        ("rootfs/alpine-minirootfs-3.19.4-x86_64.tar.gz", "3.19.4"),
    ] {
        let tree = root(archive, &["*etc/os-release", "*lib/apk/db", "*etc/apk"]);
        let raw = run(Command::new("tar")
            .arg("-xOf")
            .arg(fixture(archive))
            .arg("./lib/apk/db/installed"));
        let inventory = inventory(tree);
        assert!(inventory.coverage.complete, "{:?}", inventory.gaps);
        let mut ours: Vec<_> = inventory
            .present()
            .map(|one| (one.name.clone(), one.version.clone()))
            .collect();
        ours.sort();
        assert_eq!(ours, counted(&String::from_utf8(raw).unwrap()));
        assert!(ours.len() > 12);
        assert_eq!(inventory.native_architecture(), Some("x86_64"));
        let musl = inventory.find("musl").next().unwrap();
        assert!(
            musl.purl.starts_with("pkg:apk/alpine/musl@1.2."),
            "{}",
            musl.purl
        );
        assert!(
            musl.purl
                .ends_with(&format!("?arch=x86_64&distro=alpine-{version}"))
        );
        assert!(musl.size.is_some());
    }
}

#[test]
fn a_root_without_a_database_says_so() {
    let inventory = inventory(root(
        "rootfs/cirros-0.5.2-x86_64.tar.xz",
        &["*etc/os-release"],
    ));
    assert!(!inventory.coverage.complete);
    assert_eq!(inventory.coverage.present, 0);
    assert!(
        inventory
            .gaps
            .iter()
            .any(|gap| gap.why.contains("no package database"))
    );
}

#[test]
fn published_apk_databases_read_at_both_places() {
    let old = read(fixture("pkgdb/apk/trivy-installed"));
    let new = read(fixture("pkgdb/apk/apko-usr-lib-installed"));
    let mut tree = MemoryTree::new();
    tree.file("/lib/apk/db/installed", &old);
    let before = inventory(tree);
    let broken: Vec<_> = before
        .gaps
        .iter()
        .filter(|gap| gap.may_hide_packages)
        .collect();
    // A record without a version; and the last one has no empty line behind it, as apk writes one.
    assert_eq!(broken.len(), 2, "{broken:?}");
    assert!(broken[0].why.contains("invalidPackageWithoutAVersion"));
    let names: Vec<_> = before
        .present()
        .map(|one| format!("{} {}", one.name, one.version))
        .collect();
    assert!(names.contains(&"musl 1.1.14-r10".to_owned()), "{names:?}");
    assert_eq!(
        names.len(),
        counted(std::str::from_utf8(&old).unwrap()).len()
    );

    let mut tree = MemoryTree::new();
    tree.file("/usr/lib/apk/db/installed", &new)
        .symlink("/lib", "usr/lib");
    let after = inventory(tree);
    assert_eq!(
        after.coverage.files.len(),
        1,
        "one file, whichever way it is reached"
    );
    assert!(after.coverage.complete, "{:?}", after.gaps);
    assert_eq!(
        after.coverage.present,
        counted(std::str::from_utf8(&new).unwrap()).len()
    );
}

fn arch() -> MemoryTree {
    let mut tree = MemoryTree::new();
    for package in ["gmp-6.2.1-2", "pacman-6.0.1-5"] {
        for file in ["desc", "files", "mtree"] {
            let bytes = read(fixture(&format!("pkgdb/pacman/syft/{package}/{file}")));
            tree.file(&format!("/var/lib/pacman/local/{package}/{file}"), &bytes);
        }
    }
    tree.file("/var/lib/pacman/local/ALPM_DB_VERSION", b"9\n")
        .file("/etc/os-release", b"ID=arch\nPRETTY_NAME=\"Arch Linux\"\n");
    tree
}

#[test]
fn published_pacman_entries_read_as_pacman_reads_them() {
    let mut tree = arch();
    tree.file("/etc/pacman.conf", b"[options]\nIgnorePkg = gm*\n");
    let inventory = inventory(tree);
    assert!(inventory.coverage.complete, "{:?}", inventory.gaps);
    assert_eq!(inventory.family, Some(Family::Pacman));
    let dir = tempfile::tempdir().unwrap();
    for package in ["gmp-6.2.1-2", "pacman-6.0.1-5"] {
        let to = dir.path().join("db/local").join(package);
        std::fs::create_dir_all(&to).unwrap();
        for file in ["desc", "files", "mtree"] {
            std::fs::write(
                to.join(file),
                read(fixture(&format!("pkgdb/pacman/syft/{package}/{file}"))),
            )
            .unwrap();
        }
    }
    std::fs::write(dir.path().join("db/local/ALPM_DB_VERSION"), "9\n").unwrap();
    std::fs::write(dir.path().join("pacman.conf"), "[options]\n").unwrap();
    let theirs = run(Command::new("pacman")
        .args(["-Q", "--dbpath"])
        .arg(dir.path().join("db"))
        .arg("--root")
        .arg(dir.path())
        .arg("--config")
        .arg(dir.path().join("pacman.conf")));
    let ours: String = inventory
        .present()
        .map(|one| format!("{} {}\n", one.name, one.version))
        .collect();
    assert_eq!(ours, String::from_utf8(theirs).unwrap());
    let gmp = inventory.find("gmp").next().unwrap();
    assert!(gmp.hold);
    assert_eq!(
        gmp.purl,
        "pkg:alpm/arch/gmp@6.2.1-2?arch=x86_64&distro=arch"
    );
    assert_eq!(
        gmp.installed_at.unwrap().to_string(),
        "2022-10-16T00:04:00Z"
    );
    assert_eq!(
        gmp.vendor.as_deref(),
        Some("Antonio Rojas <arojas@archlinux.org>")
    );
}

#[test]
fn a_pacman_package_that_does_not_read_is_a_gap() {
    let mut tree = arch();
    tree.file("/var/lib/pacman/local/half-1-1/files", b"").file(
        "/var/lib/pacman/local/bad-1-1/desc",
        b"%NAME%\nbad\n\nvalue\n",
    );
    let inventory = inventory(tree);
    assert_eq!(inventory.coverage.present, 2);
    assert_eq!(
        inventory
            .gaps
            .iter()
            .filter(|gap| gap.may_hide_packages)
            .count(),
        2
    );
    let mut tree = arch();
    tree.file("/var/lib/pacman/local/ALPM_DB_VERSION", b"10\n");
    assert!(!crate::inventory(tree).coverage.complete);
}

#[test]
fn a_guest_of_two_databases_is_of_its_system_s_family() {
    // Debian with an rpm database of its own, as alien leaves one.
    let status =
        b"Package: hello\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.10-3\n";
    let rpm = crate::unwrapped("pkgdb/rpm/fedora-44/rpmdb.sqlite.zst");
    let with = |os: &[u8]| {
        let mut tree = MemoryTree::new();
        tree.file("/etc/os-release", os)
            .file("/var/lib/dpkg/status", status)
            .file("/var/lib/rpm/rpmdb.sqlite", &rpm);
        inventory(tree)
    };
    let debian = with(b"ID=debian\nVERSION_ID=12\n");
    assert_eq!(debian.family, Some(Family::Dpkg));
    assert_eq!(debian.architectures, ["amd64"]);
    assert_eq!(debian.coverage.present, 147);
    assert!(
        debian
            .find("bash")
            .all(|package| package.family == Family::Rpm)
    );
    assert_eq!(with(b"ID=fedora\n").family, Some(Family::Rpm));
    // Whose os-release says nothing is of the family that most of its packages are.
    assert_eq!(with(b"ID=unknown\n").family, Some(Family::Rpm));
    assert!(
        Family::all().all(|family| family.reach() == Reach::System || !family.as_str().is_empty())
    );

    // A system whose own database is missing is not read, whatever else is there.
    let mut tree = MemoryTree::new();
    tree.file("/etc/os-release", b"ID=fedora\n")
        .file("/var/lib/dpkg/status", status);
    let inventory = inventory(tree);
    assert!(!inventory.coverage.complete);
    assert!(
        inventory
            .gaps
            .iter()
            .any(|gap| gap.why.contains("no rpm database"))
    );
}
