//! Upgrade sets held against apt's.
#![allow(
    clippy::disallowed_methods,
    reason = "tests write folders of their own and run the oracle"
)]
#![allow(clippy::panic, clippy::indexing_slicing, clippy::unwrap_used)]

mod random;
mod scene;

use dormouse_policy::{Phased, Preferences, Scope};
use dormouse_remedy::{Hindrance, Only};
use scene::{Scene, package, packages, place, taken};

const UPGRADE: &[&str] = &["-s", "upgrade", "--with-new-pkgs"];

#[test]
fn everything_newer_is_taken_with_what_it_needs_and_as_apt_takes_it() {
    let scene = Scene::new(
        &packages(
            "dpkg 1
             app 1 | Depends: libapp1 (>= 1), tool:any
             libapp1 1 | Multi-Arch: same
             tool 1 | Multi-Arch: allowed
             meta 1 | Depends: kernel-1
             kernel-1 1
             plain 2
             virtual-user 1 | Depends: mail-agent
             postfix 1 | Provides: mail-agent",
        ),
        &packages(
            "app 2 | Depends: libapp1 (>= 2), tool:any (>= 1), helper | other-helper
             app 1.5
             libapp1 2 | Multi-Arch: same | Depends: common-data (= 2)
             common-data 2 | Architecture: all
             helper 1 | Pre-Depends: early (>= 3)
             early 3
             other-helper 1
             meta 2 | Depends: kernel-2
             kernel-2 2
             plain 1
             postfix 2 | Provides: mail-agent (= 2)
             virtual-user 2 | Depends: mail-agent (>= 2)
             unrelated 9",
        ),
    );
    let resolution = scene.resolve(&Only::All);
    assert_eq!(taken(&resolution), scene.apt_takes(UPGRADE));
    assert!(resolution.blocked.is_empty());
    for (first, then) in [
        ("libapp1", "app"),
        ("common-data", "libapp1"),
        ("early", "helper"),
        ("helper", "app"),
        ("kernel-2", "meta"),
        ("postfix", "virtual-user"),
    ] {
        assert!(
            place(&resolution, first) < place(&resolution, then),
            "{first} before {then}"
        );
    }
    let helper = &resolution.packages[place(&resolution, "helper")];
    assert!(!helper.requested && helper.installed.is_none());
    let app = &resolution.packages[place(&resolution, "app")];
    assert_eq!(app.needs, ["helper:amd64", "libapp1:amd64"]);
}

#[test]
fn what_was_asked_for_by_name_comes_alone_with_its_needs() {
    let scene = Scene::new(
        &packages("dpkg 1\n app 1\n lib 1\n other 1"),
        &packages("app 2 | Depends: lib (>= 2)\n lib 2\n other 2"),
    );
    let only = Only::Packages(["app".to_owned(), "absent".to_owned()].into());
    let resolution = scene.resolve(&only);
    assert_eq!(
        taken(&resolution),
        scene.apt_takes(&["-s", "install", "app"])
    );
    assert_eq!(resolution.blocked[0].hindrance, Hindrance::NotInstalled);
    assert_eq!(resolution.blocked[0].name, "absent");
}

#[test]
fn broken_packages_are_upgraded_too() {
    let scene = Scene::new(
        &packages(
            "dpkg 1\n app 1\n plugin 1 | Depends: app\n strict 1 | Depends: app (<< 2)\n old 1 | Breaks: app (>= 2)",
        ),
        &packages(
            "app 2 | Breaks: plugin (<< 2)\n plugin 2\n strict 2 | Depends: app (<< 3)\n old 2",
        ),
    );
    let only = Only::Packages(["app".to_owned()].into());
    let resolution = scene.resolve(&only);
    assert_eq!(
        taken(&resolution),
        scene.apt_takes(&["-s", "install", "app"])
    );
    assert!(place(&resolution, "plugin") < place(&resolution, "app"));
}

#[test]
fn an_unsolvable_upgrade_names_the_chain_and_the_rest_goes_on() {
    let scene = Scene::new(
        &packages("dpkg 1\n held-lib 1 | held\n app 1\n top 1\n free 1\n pin 1 | Depends: lib (= 1)\n lib 1\n foe 1\n friend 1"),
        &packages(
            "held-lib 2\n app 2 | Depends: held-lib (>= 2)\n top 2 | Depends: app (>= 2)\n free 2\n lib 2
             friend 2 | Conflicts: foe",
        ),
    );
    let resolution = scene.resolve(&Only::All);
    assert_eq!(taken(&resolution), scene.apt_takes(UPGRADE));
    assert_eq!(taken(&resolution).keys().collect::<Vec<_>>(), ["free"]);
    let why = |name: &str| {
        let blocked = resolution
            .blocked
            .iter()
            .find(|blocked| blocked.name == name)
            .unwrap();
        (blocked.hindrance, blocked.why.join("; "))
    };
    assert_eq!(
        why("held-lib"),
        (Hindrance::Held, "held-lib 1 is on hold".into())
    );
    assert_eq!(
        why("top"),
        (
            Hindrance::Unsolvable,
            "top 2 depends on app (>= 2); app 2 depends on held-lib (>= 2); held-lib 1 is on hold"
                .into()
        )
    );
    assert!(why("lib").1.contains("pin 1"), "{:?}", why("lib"));
    assert!(
        why("friend").1.contains("foe 1 is there"),
        "{:?}",
        why("friend")
    );
}

#[test]
fn the_second_alternative_serves_where_the_first_leads_nowhere() {
    let scene = Scene::new(
        &packages("dpkg 1\n app 1\n foe 1"),
        &packages(
            "app 2 | Depends: first | second\n first 1 | Depends: nowhere\n second 1\n foe 1.1",
        ),
    );
    let resolution = scene.resolve(&Only::All);
    assert_eq!(
        taken(&resolution).keys().collect::<Vec<_>>(),
        ["app", "foe", "second"]
    );
}

#[test]
fn phased_updates_wait() {
    let scene = Scene::new(
        &packages("dpkg 1\n app 1\n whole 1"),
        &packages(
            "app 2 | Phased-Update-Percentage: 30\n app 1.5\n whole 2 | Phased-Update-Percentage: 10",
        ),
    );
    let resolution = scene.resolve(&Only::All);
    assert_eq!(
        taken(&resolution).get("app").map(String::as_str),
        Some("1.5")
    );
    assert_eq!(resolution.blocked.len(), 1);
    assert_eq!(resolution.blocked[0].hindrance, Hindrance::Phased);
    let all = scene.resolve_with(&Only::All, &Preferences::default(), Phased::Take);
    assert_eq!(taken(&all).get("app").map(String::as_str), Some("2"));
    assert_eq!(taken(&all).get("whole").map(String::as_str), Some("2"));
}

#[test]
fn what_comes_new_is_marked_automatic_and_says_why_and_from_where() {
    let scene = Scene::new(
        &packages("dpkg 1\n linux-image 1 | Depends: linux-image-6.1-1\n linux-image-6.1-1 1"),
        &packages(
            "linux-image 2 | Depends: linux-image-6.1-2\n linux-image-6.1-2 2 | Depends: modules\n modules 2",
        ),
    );
    let resolution = scene.resolve(&Only::All);
    assert_eq!(taken(&resolution), scene.apt_takes(UPGRADE));
    let of = |name: &str| &resolution.packages[place(&resolution, name)];
    assert!(!of("linux-image").automatic && of("linux-image").because.is_none());
    assert!(of("linux-image-6.1-2").automatic && of("modules").automatic);
    assert_eq!(
        of("modules").because.as_deref(),
        Some("linux-image-6.1-2 2 depends on modules")
    );
    assert_eq!(resolution.suites.len(), 1);
    let suite = &resolution.suites[0];
    assert_eq!(of("modules").release, Some(suite.digest));
    assert_eq!(of("modules").index, Some(suite.indices[0].digest));
    assert_eq!(of("modules").priority, Some(500));
    assert_eq!(suite.signers.len(), 1);
}

#[test]
fn a_mirror_without_a_file_says_which_and_what_stays_behind_for_it() {
    let scene = Scene::new(
        &packages("dpkg 1\n app 1\n lib 1\n other 1"),
        &packages("app 2 | Depends: lib (>= 2)\n lib 2\n other 2"),
    );
    scene.lose("lib", "2");
    let resolution = scene.resolve(&Only::All);
    assert_eq!(taken(&resolution).keys().collect::<Vec<_>>(), ["other"]);
    let why = |name: &str| {
        let blocked = resolution.blocked.iter().find(|one| one.name == name);
        let blocked = blocked.unwrap();
        (blocked.hindrance, blocked.why.join("; "))
    };
    assert_eq!(
        why("lib"),
        (
            Hindrance::NoPayload,
            "lib 2: the repository has no file pool/lib_2.deb".to_owned()
        )
    );
    assert_eq!(
        why("app"),
        (
            Hindrance::Unsolvable,
            "app 2 depends on lib (>= 2); lib 2: the repository has no file pool/lib_2.deb"
                .to_owned()
        )
    );
}

#[test]
fn scopes_reach_sources_cves_and_names_and_nothing_else() {
    let scene = Scene::new(
        &packages(
            "dpkg 1\n one 1 | Source: both\n two 1 | Source: both\n three 1\n mended 1\n mended-too 1 | Source: mended\n spared 1",
        ),
        &packages(
            "one 2 | Source: both\n two 2 | Source: both\n three 2\n mended 2\n mended-too 2 | Source: mended\n spared 2",
        ),
    );
    let reach = |scopes: &[&str]| {
        let scopes = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
        let resolution = scene.resolve(&Only::Scopes(scopes));
        let names: Vec<String> = taken(&resolution).into_keys().collect();
        (names.join(" "), resolution.blocked)
    };
    assert_eq!(reach(&["both"]).0, "one two");
    assert_eq!(reach(&["one"]).0, "one");
    assert_eq!(reach(&["three", "both"]).0, "one three two");
    assert_eq!(reach(&["cve-2026-0001"]).0, "mended mended-too");
    assert_eq!(reach(&["CVE-2026-0002"]).0, "");
    assert_eq!(reach(&["security"]).0, "", "the suite is called test");
    assert_eq!(reach(&["spared"]).0, "spared");
    assert_eq!(reach(&["all"]).0, "mended mended-too one three two");
    let (names, blocked) = reach(&["absent", "one"]);
    assert_eq!((names.as_str(), blocked.len()), ("one", 1));
    assert_eq!(blocked[0].hindrance, Hindrance::NotInstalled);
    assert!("not a name".parse::<Scope>().is_err());
}

#[test]
fn the_same_version_of_another_build_and_earlier_ones_are_no_upgrade() {
    let scene = Scene::new(
        &packages("dpkg 1\n app 2 | Depends: dpkg\n local 3~local"),
        &packages("app 2\n local 2"),
    );
    let resolution = scene.resolve(&Only::All);
    assert!(resolution.packages.is_empty() && resolution.blocked.is_empty());
}

#[test]
fn architectures_of_one_package_go_together() {
    let mut scene = Scene::new(
        &packages(
            "dpkg 1
             libx 1 | Multi-Arch: same
             libx 1 | Multi-Arch: same | Architecture: i386
             liby 1 | Multi-Arch: same
             liby 1 | Multi-Arch: same | Architecture: i386",
        ),
        &packages(
            "libx 2 | Multi-Arch: same
             libx 2 | Multi-Arch: same | Architecture: i386
             liby 2 | Multi-Arch: same",
        ),
    );
    scene.architectures = vec!["amd64", "i386"];
    let resolution = scene.resolve(&Only::All);
    assert_eq!(
        taken(&resolution).keys().collect::<Vec<_>>(),
        ["libx", "libx:i386"]
    );
    assert_eq!(resolution.blocked[0].name, "liby");
}

#[test]
fn pre_dependencies_come_first_even_in_circles() {
    let scene = Scene::new(
        &packages("dpkg 1\n a 1\n b 1\n c 1"),
        &packages(
            "a 2 | Pre-Depends: b (>= 2)\n b 2 | Depends: c (>= 2)\n c 2 | Depends: b (>= 2)",
        ),
    );
    let resolution = scene.resolve(&Only::All);
    assert_eq!(taken(&resolution), scene.apt_takes(UPGRADE));
    assert!(place(&resolution, "b") < place(&resolution, "a"));
    assert_eq!(resolution, scene.resolve(&Only::All));
}

#[test]
fn a_line_of_a_scene_is_a_package() {
    let one = package("a 1:2 | Depends: b | held");
    assert_eq!(
        (one.name.as_str(), one.version.as_str(), one.status),
        ("a", "1:2", "hold ok installed")
    );
}
