//! Packages that lie as files in a guest's folders.

use dormouse_block::Locator;
use dormouse_filesystem::{Guest, MemoryTree};
use dormouse_packages::{Family, Inventory, Selection, take, take_of};

const STATUS: &[u8] =
    b"Package: python3-six\nStatus: install ok installed\nArchitecture: all\nVersion: 1.16.0-4\n";

fn tree() -> MemoryTree {
    let mut tree = MemoryTree::new();
    tree.file("/etc/os-release", b"ID=debian\nVERSION_ID=12\n")
        .file("/var/lib/dpkg/status", STATUS)
        .file(
            "/var/lib/dpkg/info/python3-six.list",
            b"/.\n/usr/lib/python3/dist-packages/six-1.16.0.egg-info/PKG-INFO\n",
        )
        .file(
            "/usr/lib/python3/dist-packages/six-1.16.0.egg-info/PKG-INFO",
            b"Metadata-Version: 1.2\nName: six\nVersion: 1.16.0\n\nVersion: 9\n",
        )
        .file(
            "/opt/app/venv/lib/python3.11/site-packages/Zope.Interface_x-5.0.dist-info/METADATA",
            b"Metadata-Version: 2.1\r\nName: Zope.Interface_x\r\nVersion: 5.0\r\n\r\ntext",
        )
        .file("/usr/lib/python3/dist-packages/old.egg-info", b"Name: old\nVersion: 0.1\n")
        .file("/usr/lib/python3/dist-packages/bad.egg-info", b"Name: bad\n\nVersion: 1\n")
        .directory("/usr/lib/python3/dist-packages/left.dist-info")
        .file("/srv/web/node_modules/left-pad/package.json", b"{\"name\":\"left-pad\",\"version\":\"1.3.0\"}")
        .file("/srv/web/node_modules/left-pad/lib/package.json", b"{\"name\":\"no\",\"version\":\"1\"}")
        .file("/srv/web/node_modules/@babel/core/package.json", b"{\"name\":\"@babel/core\",\"version\":\"7.23.0\"}")
        .file("/srv/web/node_modules/@babel/core/node_modules/semver/package.json", b"{\"name\":\"semver\",\"version\":\"6.3.1\"}")
        .file("/srv/web/node_modules/esm/package.json", b"{\"type\":\"module\"}")
        .file("/srv/web/node_modules/broken/package.json", b"{")
        .file("/srv/web/package.json", b"{\"name\":\"web\",\"version\":\"1.0.0\"}")
        .file(
            "/var/lib/gems/3.1.0/specifications/nokogiri-1.15.4-x86_64-linux.gemspec",
            b"# -*- encoding: utf-8 -*-\n# stub: nokogiri 1.15.4 x86_64-linux lib\n\nGem::Specification.new do |s|\n",
        )
        .file(
            "/usr/lib/ruby/gems/3.1.0/specifications/default/json-2.6.1.gemspec",
            b"Gem::Specification.new do |s|\n  s.name = \"json\".freeze\n  s.version = Gem::Version.new(\"2.6.1\")\nend\n",
        )
        .file("/usr/share/specifications-of/x.gemspec", b"")
        .file("/var/lib/gems/3.1.0/specifications/none.gemspec", b"puts 1\n")
        // A link back up is not followed.
        .symlink("/opt/app/loop", "/");
    tree
}

fn look(names: &[&str]) -> Inventory {
    let selection = Selection::parse(names).unwrap();
    take_of(&Guest::of(tree()), &Locator::machine("m"), &selection)
}

fn purls(inventory: &Inventory, family: Family) -> Vec<&str> {
    let of = inventory
        .packages
        .iter()
        .filter(|package| package.family == family);
    of.map(|package| package.purl.as_str()).collect()
}

#[test]
fn packages_are_found_wherever_they_lie() {
    let inventory = look(&["all"]);
    assert_eq!(
        purls(&inventory, Family::Python),
        [
            "pkg:pypi/zope.interface-x@5.0",
            "pkg:pypi/old@0.1",
            "pkg:pypi/six@1.16.0"
        ]
    );
    assert_eq!(
        purls(&inventory, Family::Npm),
        [
            "pkg:npm/%40babel/core@7.23.0",
            "pkg:npm/left-pad@1.3.0",
            "pkg:npm/semver@6.3.1"
        ]
    );
    assert_eq!(
        purls(&inventory, Family::Gem),
        [
            "pkg:gem/json@2.6.1",
            "pkg:gem/nokogiri@1.15.4?platform=x86_64-linux"
        ]
    );
    // What is broken is said.
    let gaps: Vec<String> = inventory.gaps.iter().map(ToString::to_string).collect();
    assert_eq!(gaps.len(), 3, "{gaps:?}");
    for name in ["bad.egg-info", "broken/package.json", "none.gemspec"] {
        assert!(gaps.iter().any(|gap| gap.contains(name)), "{gaps:?}");
    }
    assert!(!inventory.coverage.complete);
}

#[test]
fn what_the_system_s_packages_hold_is_told_apart() {
    let inventory = look(&["default", "python"]);
    let owner = |name: &str| {
        let found = inventory.find(name).next().unwrap();
        found.owned_by.clone()
    };
    assert_eq!(owner("six").as_deref(), Some("python3-six"));
    assert_eq!(owner("old"), None);
    assert_eq!(owner("python3-six"), None);
}

#[test]
fn a_walk_is_made_when_it_is_asked_for() {
    let guest = Guest::of(tree());
    let inventory = take(&guest, &Locator::machine("m"));
    assert_eq!(inventory.packages.len(), 1);
    assert!(inventory.coverage.complete && !inventory.coverage.families.contains(&Family::Python));
    // Families that are looked for unless others are chosen are missed by name.
    let inventory = look(&["gem"]);
    assert!(
        inventory
            .gaps
            .iter()
            .any(|gap| gap.why.contains("dpkg") && gap.may_hide_packages)
    );
    assert_eq!(Selection::parse(["default", "cobol"]).unwrap_err(), "cobol");
}
