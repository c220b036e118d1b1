//! Stages: which updates reach which machines when.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::Digest;
use dormouse_packages::Family;
use dormouse_policy::Estate;
use dormouse_policy::stage::{Progress, Stage, Taken, Turn, Update, package_set, turn};
use jiff::Timestamp;

use crate::world::guest;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn update(version: &str) -> Update {
    Update {
        package: "openssl".into(),
        version: version.into(),
    }
}

fn stages(more: &str) -> Vec<Stage> {
    let text = format!(
        "[[stage]]\ncategory = 'test'\n[[stage]]\ncategory = 'production'\nafter = 'test'\nsoak = '3 days'\n{more}\n"
    );
    Estate::parse(&text).unwrap().stages
}

fn progress(taken: &[(&str, &str, &str)]) -> Progress {
    let alike = Digest::of("alike");
    let machines = [
        ("t1", "test"),
        ("t2", "test"),
        ("p1", "production"),
        ("p2", "production"),
        ("p3", "production"),
    ];
    Progress {
        categories: machines
            .map(|(name, category)| (name.into(), category.into()))
            .into(),
        groups: [("p1", alike), ("p2", alike), ("p3", Digest::of("other"))]
            .map(|(name, group)| (name.into(), group))
            .into(),
        packages: BTreeMap::from([("test".to_owned(), BTreeSet::from(["openssl".to_owned()]))]),
        taken: taken
            .iter()
            .map(|(machine, version, verified)| Taken {
                machine: (*machine).into(),
                group: alike,
                update: update(version),
                verified: at(verified),
            })
            .collect(),
    }
}

#[track_caller]
fn asked(more: &str, machine: &str, taken: &[(&str, &str, &str)], now: &str) -> Turn {
    let updates = BTreeSet::from([update("2")]);
    turn(
        &stages(more),
        machine,
        &updates,
        Family::Dpkg,
        &progress(taken),
        at(now),
    )
}

fn waits(turn: &Turn) -> (&str, Option<Timestamp>) {
    match turn {
        Turn::Wait { why, until } => (why, *until),
        other => panic!("{other:?}"),
    }
}

const NOW: &str = "2026-02-10T00:00:00Z";

#[test]
fn an_update_comes_on_when_the_earlier_stage_stands_with_it() {
    assert_eq!(
        asked("", "t1", &[], NOW),
        Turn::Go,
        "the first stage waits for nobody"
    );
    assert_eq!(
        asked("", "unknown", &[], NOW),
        Turn::Go,
        "nor does a machine without a stage"
    );
    let (why, until) = (asked("", "p1", &[], NOW), None);
    assert_eq!(
        waits(&why),
        (
            "openssl 2 was taken by 0 of 1 machines of the stage test",
            until
        )
    );
    // Taken two days ago, three are wanted.
    let turn = asked("", "p1", &[("t1", "2", "2026-02-08T00:00:00Z")], NOW);
    assert_eq!(waits(&turn).1, Some(at("2026-02-11T00:00:00Z")));
    let soaked = [("t1", "2", "2026-02-07T00:00:00Z")];
    assert_eq!(asked("", "p1", &soaked, NOW), Turn::Go);
    // A later version of it stands for it; an earlier one does not, nor what another category took, nor what is to come.
    assert_eq!(
        asked("", "p1", &[("t1", "2.1", "2026-02-01T00:00:00Z")], NOW),
        Turn::Go
    );
    for taken in [
        ("t1", "1.9", "2026-02-01T00:00:00Z"),
        ("p2", "2", "2026-02-01T00:00:00Z"),
        ("t1", "2", "2026-02-11T00:00:00Z"),
    ] {
        assert_eq!(waits(&asked("", "p1", &[taken], NOW)).1, None, "{taken:?}");
    }
    let two = "at-least = 2";
    assert!(waits(&asked(two, "p1", &soaked, NOW)).0.contains("1 of 2"));
    let both = [soaked[0], ("t2", "2", "2026-02-06T00:00:00Z")];
    assert_eq!(asked(two, "p1", &both, NOW), Turn::Go);
}

#[test]
fn what_no_machine_of_the_earlier_stage_has_waits_or_passes_as_it_is_said() {
    let updates = BTreeSet::from([Update {
        package: "nginx".into(),
        version: "2".into(),
    }]);
    let ask = |more: &str| {
        turn(
            &stages(more),
            "p1",
            &updates,
            Family::Dpkg,
            &progress(&[]),
            at(NOW),
        )
    };
    assert!(waits(&ask("")).0.contains("nginx"));
    assert_eq!(ask("untested = 'pass'"), Turn::Go);
    assert!(
        matches!(
            asked("untested = 'pass'", "p1", &[], NOW),
            Turn::Wait { .. }
        ),
        "what it has is tried"
    );
}

#[test]
fn one_of_those_alike_goes_first_and_the_others_follow() {
    let soaked = ("t1", "2", "2026-02-01T00:00:00Z");
    let canary = "canary = '1 day'";
    assert_eq!(
        asked(canary, "p1", &[soaked], NOW),
        Turn::Canary { alike: 2 }
    );
    assert_eq!(
        asked(canary, "p3", &[soaked], NOW),
        Turn::Canary { alike: 1 }
    );
    assert_eq!(
        waits(&asked(canary, "p2", &[soaked], NOW)).0,
        "p1 goes first of 2 machines alike"
    );
    let went = |verified| [soaked, ("p1", "2", verified)];
    let turn = asked(canary, "p2", &went("2026-02-09T12:00:00Z"), NOW);
    assert_eq!(waits(&turn).1, Some(at("2026-02-10T12:00:00Z")));
    assert_eq!(
        asked(canary, "p2", &went("2026-02-09T00:00:00Z"), NOW),
        Turn::Go
    );
}

#[test]
fn a_change_of_category_changes_the_turn_of_that_machine_alone() {
    let mut progress = progress(&[]);
    let updates = BTreeSet::from([update("2")]);
    let ask = |progress: &Progress, machine: &str| {
        turn(
            &stages(""),
            machine,
            &updates,
            Family::Dpkg,
            progress,
            at(NOW),
        )
    };
    let before = ask(&progress, "p2");
    assert!(matches!(ask(&progress, "p1"), Turn::Wait { .. }));
    progress.categories.insert("p1".into(), "test".into());
    assert_eq!(ask(&progress, "p1"), Turn::Go);
    assert_eq!(ask(&progress, "p2"), before);
}

#[test]
fn package_sets_are_equal_for_machines_alike() {
    let set = |packages: &[&str]| package_set(&guest(packages));
    assert_eq!(set(&["a 1", "b 1"]), set(&["b 1", "a 1"]));
    assert_ne!(set(&["a 1", "b 1"]), set(&["a 1", "b 2"]));
    assert_eq!(
        set(&["a 1"]),
        set(&["a 1", "c 1 deinstall ok config-files"])
    );
}
