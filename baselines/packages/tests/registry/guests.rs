//! A Windows of hives that others collected: what it says it is, and what is installed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dormouse_block::Locator;
use dormouse_filesystem::{Guest, MemoryTree};
use dormouse_packages::{Family, Inventory, State, take};

use crate::oracle::{registry, run, unpack};

const SOFTWARE: &str = "plaso/SOFTWARE-win7sp1-x86";

fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap()
}

fn look(tree: MemoryTree) -> Inventory {
    take(&Guest::of(tree), &Locator::machine("w"))
}

fn of(inventory: &Inventory, family: Family) -> Vec<&dormouse_packages::Package> {
    let all = inventory.packages.iter();
    all.filter(|package| package.family == family).collect()
}

/// Names and versions, by libhivex.
fn applications(hive: &Path, key: &str) -> BTreeSet<(String, String)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/registry/applications.py");
    let done = run(
        "/usr/bin/python3",
        &[script.to_str().unwrap(), hive.to_str().unwrap(), key],
    );
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let pair = |line: &str| {
        let (name, version) = line.split_once('\t').unwrap();
        (name.to_owned(), version.to_owned())
    };
    String::from_utf8(done.stdout)
        .unwrap()
        .lines()
        .map(pair)
        .collect()
}

#[test]
fn windows_7_has_the_packages_updates_and_applications_that_others_count() {
    let folder = tempfile::tempdir().unwrap();
    unpack(folder.path(), &["plaso", "regipy"]);
    let folder = folder.path();
    let mut tree = MemoryTree::new();
    // Spelled as Windows does, and as it does not.
    tree.file("/WINDOWS/system32/config/SOFTWARE", &read(folder, SOFTWARE))
        .file(
            "/WINDOWS/system32/config/SYSTEM",
            &read(folder, "regipy/SYSTEM"),
        )
        .file(
            "/Users/nfury/NTUSER.DAT",
            &read(folder, "regipy/transactions_NTUSER.DAT"),
        )
        .file(
            "/Users/nfury/ntuser.dat.LOG1",
            &read(folder, "regipy/transactions_ntuser.dat.log1"),
        )
        .file(
            "/Users/nfury/ntuser.dat.LOG2",
            &read(folder, "regipy/transactions_ntuser.dat.log2"),
        );
    let inventory = look(tree);
    assert_eq!(inventory.gaps, BTreeSet::new());
    let os = inventory.os.as_ref().unwrap();
    let expected =
        std::fs::read_to_string(registry().join(format!("{SOFTWARE}.expected-os.txt"))).unwrap();
    let expected: BTreeMap<&str, &str> = expected
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    assert_eq!(os.id, "windows");
    assert_eq!(os.variant_id.as_deref(), Some(expected["EditionID"]));
    assert_eq!(
        os.pretty_name,
        Some(format!(
            "{} {}",
            expected["ProductName"], expected["CSDVersion"]
        ))
    );
    let build: Vec<&str> = expected["BuildLabEx"].split('.').collect();
    assert_eq!(build[0], expected["CurrentBuild"]);
    assert_eq!(
        os.version_id,
        Some(format!("6.1.{}.{}", build[0], build[1]))
    );
    assert_eq!(inventory.family, Some(Family::Windows));
    assert_eq!(inventory.architectures, ["x86"]);

    // Component packages, by the list made with hivexsh.
    let list = registry().join(format!("{SOFTWARE}.expected-cbs-packages.txt"));
    let list = std::fs::read_to_string(list).unwrap();
    let expected: BTreeSet<String> = list
        .lines()
        .map(|line| {
            let parts: Vec<&str> = line.split('~').collect();
            let language = if parts[3].is_empty() {
                String::new()
            } else {
                format!("&lang={}", parts[3])
            };
            format!(
                "pkg:generic/microsoft/{}@{}?arch={}{language}",
                parts[0], parts[4], parts[2]
            )
        })
        .collect();
    let components = of(&inventory, Family::Windows);
    assert_eq!(expected.len(), 1034);
    assert_eq!(
        components
            .iter()
            .map(|package| package.purl.clone())
            .collect::<BTreeSet<_>>(),
        expected
    );
    let articles: BTreeSet<&str> = components
        .iter()
        .filter(|package| package.name.contains("_for_KB"))
        .map(|package| package.source_name.as_str())
        .collect();
    assert_eq!(articles.len(), 131);
    // CurrentState as python3-hivex counts it: 112, 80 and 64.
    let count = |state: State| {
        components
            .iter()
            .filter(|package| package.state == state)
            .count()
    };
    assert_eq!(
        (
            count(State::Installed),
            count(State::Superseded),
            count(State::Disabled)
        ),
        (524, 507, 3)
    );
    let update = inventory.find("Package_for_KB976902").next().unwrap();
    assert_eq!(update.installed_at.unwrap().as_second(), 1_316_265_407);
    assert!(
        !components
            .iter()
            .any(|package| package.state == State::Superseded && package.is_present())
    );

    // Applications, of everybody and of one user whose hive needs its log.
    let key = r"Microsoft\Windows\CurrentVersion\Uninstall";
    let mut expected = applications(&folder.join(SOFTWARE), key);
    assert!(expected.contains(&("VMware Tools".into(), "8.0.2.14744".into())));
    expected.extend(applications(
        &folder.join("regipy/transactions_NTUSER.DAT"),
        &format!(r"Software\{key}"),
    ));
    let found = of(&inventory, Family::WindowsApplication);
    let pairs: BTreeSet<_> = found
        .iter()
        .map(|package| (package.name.clone(), package.version.clone()))
        .collect();
    assert_eq!(pairs, expected);
    let drive = inventory.find("Microsoft OneDrive").next().unwrap();
    assert_eq!(
        drive.location.as_ref().unwrap().to_string(),
        "/Users/nfury/NTUSER.DAT"
    );
    let update = "Update for Microsoft .NET Framework 4 Client Profile (KB2468871)";
    assert_eq!(
        inventory.find(update).next().unwrap().source_name,
        "KB2468871"
    );
}

#[test]
fn a_hive_left_in_the_middle_of_a_write_is_a_gap_by_name() {
    let folder = tempfile::tempdir().unwrap();
    unpack(folder.path(), &["regipy"]);
    let mut tree = MemoryTree::new();
    // Of another name, but dirty, and without its log.
    tree.file(
        "/Windows/System32/config/SOFTWARE",
        &read(folder.path(), "regipy/SYSTEM_2"),
    );
    let inventory = look(tree);
    let gap = inventory
        .gaps
        .iter()
        .find(|gap| gap.why.contains("in the middle of a write"))
        .unwrap();
    assert!(gap.may_hide_packages);
    assert_eq!(
        gap.at.path.as_ref().unwrap().to_string(),
        "/Windows/System32/config/SOFTWARE"
    );
    assert!(!inventory.coverage.complete);
    // Broken altogether.
    let mut tree = MemoryTree::new();
    tree.file("/Windows/System32/config/SOFTWARE", b"regf");
    assert!(!look(tree).coverage.complete);
}
