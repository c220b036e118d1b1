//! Version orders, held against lists that each language's own tool has put in order (`make-orders.sh`).

use std::cmp::Ordering;

use dormouse_packages::Family;

fn rises(family: Family, list: &str) {
    let mut all = Vec::new();
    for (place, line) in list.lines().enumerate() {
        all.extend(line.split(' ').map(|version| (place, version)));
    }
    assert!(all.len() > 100, "{}", all.len());
    for (place, version) in &all {
        for (other, against) in &all {
            assert_eq!(
                family.compare(version, against),
                place.cmp(other),
                "{version} against {against}"
            );
        }
    }
}

#[test]
fn python_s_order_is_that_of_packaging() {
    rises(Family::Python, include_str!("python.txt"));
}

#[test]
fn ruby_s_order_is_that_of_rubygems() {
    rises(Family::Gem, include_str!("gem.txt"));
}

#[test]
fn node_s_order_is_that_of_its_semver() {
    rises(Family::Npm, include_str!("npm.txt"));
    rises(Family::Cargo, include_str!("npm.txt"));
}

/// The example of Semantic Versioning 2.0.0, section 11, and those of golang.org/x/mod's documentation.
#[test]
fn published_orders_hold() {
    let rising = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
    ];
    for family in [Family::Npm, Family::Cargo, Family::Go] {
        assert!(rising.is_sorted_by(|a, b| family.compare(a, b).is_lt()));
    }
    let rising = [
        "(devel)",
        "v0.0.0-20170915032832-14c0d48ead0c",
        "v0.0.0-20190101000000-000000000000",
        "v1",
        "v1.2.3-pre.0.20191109021931-daa7c04131f5",
        "v1.2.3-pre",
        "v1.2.3",
        "v1.2.4-0.20191109021931-daa7c04131f5",
        "v1.2.4",
        "v2.0.0+incompatible",
    ];
    let sorted = |pair: &[&str]| Family::Go.compare(pair[0], pair[1]) == Ordering::Less;
    for pair in rising.windows(2) {
        // What follows a release candidate of its own name comes after it.
        if pair[1] != "v1.2.3-pre" {
            assert!(sorted(pair), "{pair:?}");
        }
    }
    assert_eq!(Family::Go.compare("v1", "v1.0.0"), Ordering::Equal);
    assert_eq!(
        Family::Python.compare("no version", "0.dev0"),
        Ordering::Less
    );
}
