//! Each family's version order, against real pairs, upstream's own tables, and the tool.

use std::cmp::Ordering;
use std::process::Command;

use dormouse_packages::{Family, apk, pacman, rpm};

use crate::{Random, fixture, run, text};

fn order(sign: &str) -> Ordering {
    match sign.trim() {
        "<" | "-1" => Ordering::Less,
        "=" | "0" => Ordering::Equal,
        ">" | "1" => Ordering::Greater,
        other => panic!("{other:?}"),
    }
}

fn pairs(file: &str, family: Family) -> usize {
    let text = text(fixture(file));
    for line in text.lines() {
        let [a, sign, b] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line:?}");
        };
        assert_eq!(family.compare(a, b), order(sign), "{a} {b}");
        assert_eq!(family.compare(b, a), order(sign).reverse(), "{b} {a}");
    }
    text.lines().count()
}

#[test]
fn three_thousand_pairs_of_rpm_versions_are_ordered() {
    assert_eq!(pairs("versions/rpm-evr-pairs.tsv", Family::Rpm), 3000);
}

#[test]
fn the_pairs_of_apk_versions_are_ordered() {
    assert_eq!(pairs("versions/apk-version-pairs.tsv", Family::Apk), 1293);
}

#[test]
fn rpm_s_own_table_holds() {
    let text = text(fixture("versions/rpmvercmp.at"));
    let mut cases = 0;
    for line in text.lines() {
        let Some(case) = line.trim().strip_prefix("RPMVERCMP(") else {
            continue;
        };
        let case = case.strip_suffix(')').unwrap();
        let [a, b, sign] = case.split(',').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{line:?}");
        };
        let unquote = |word: &str| word.trim_matches(['[', ']']).to_owned();
        let (a, b) = (unquote(a), unquote(b));
        assert_eq!(rpm::compare_part(&a, &b), order(sign), "{a} {b}");
        cases += 1;
    }
    assert!(cases > 80, "{cases}");
}

#[test]
fn apk_s_own_table_holds() {
    let text = text(fixture("versions/apk-tools-version.data"));
    let (mut orders, mut valid, mut invalid) = (0, 0, 0);
    for line in text.lines() {
        let line = line.split('#').next().unwrap().trim();
        match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            [] => {}
            [one] => match one.strip_prefix('!') {
                Some(bad) => {
                    assert!(!apk::is_version(bad), "{bad}");
                    invalid += 1;
                }
                None => {
                    assert!(apk::is_version(one), "{one}");
                    valid += 1;
                }
            },
            // Fuzzy matches are about dependencies, not about order.
            [_, sign, _] if sign.contains('~') => {}
            [a, sign @ ("<" | "=" | ">"), b] => {
                assert_eq!(apk::compare(a, b), order(sign), "{a} {b}");
                assert_eq!(apk::compare(b, a), order(sign).reverse(), "{b} {a}");
                orders += 1;
            }
            _ => panic!("{line:?}"),
        }
    }
    assert!(
        orders > 700 && valid > 3 && invalid > 5,
        "{orders} {valid} {invalid}"
    );
}

#[test]
fn the_published_cases_of_pacman_hold() {
    let text = text(fixture("versions/univers-alpm_version_cmp.json"));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = json
        .as_array()
        .or_else(|| json["tests"].as_array())
        .unwrap();
    let mut compared = 0;
    for case in cases {
        let list = |value: &serde_json::Value| -> Vec<String> {
            let list = value.as_array().unwrap().iter();
            list.map(|one| one.as_str().unwrap().to_owned()).collect()
        };
        match case["test_type"].as_str().unwrap() {
            "comparison" => {
                let mut ours = list(&case["input"]["versions"]);
                let theirs = list(&case["expected_output"]);
                ours.sort_by(|a, b| pacman::compare(a, b));
                let same = ours
                    .iter()
                    .zip(&theirs)
                    .all(|(a, b)| pacman::compare(a, b) == Ordering::Equal);
                assert!(same && ours.len() == theirs.len(), "{case}");
            }
            "equality" => {
                let both = list(&case["input"]["versions"]);
                let equal = pacman::compare(&both[0], &both[1]) == Ordering::Equal;
                assert_eq!(Some(equal), case["expected_output"].as_bool(), "{case}");
            }
            other => panic!("{other}"),
        }
        compared += 1;
    }
    assert!(compared > 20, "{compared}");
}

fn version(random: &mut Random, words: &[&str]) -> String {
    let count = 1 + random.next(7);
    (0..count)
        .map(|_| words[random.next(words.len())])
        .collect()
}

const WORDS: &[&str] = &[
    "0", "1", "2", "10", "01", "a", "b", "rc", "Z", ".", "..", "_", "+", "-", "~", "^", "1:", "0:",
    ":", "git",
];

#[test]
fn made_up_versions_are_ordered_as_rpm_orders_them() {
    let mut random = Random(0x5eed_0100);
    let mut all = Vec::new();
    while all.len() < 4000 {
        let (a, b) = (version(&mut random, WORDS), version(&mut random, WORDS));
        // What rpm takes for no version at all is no question to it.
        let ok = |text: &str| {
            let (_, rest) = text.split_once(':').unwrap_or(("", text));
            let (version, release) = rest.rsplit_once('-').unwrap_or((rest, "1"));
            text.matches(':').count() < 2
                && !version.contains('-')
                && !version.is_empty()
                && !release.is_empty()
        };
        if !ok(&a) || !ok(&b) {
            continue;
        }
        all.push((a, b));
    }
    for chunk in all.chunks(500) {
        let calls: Vec<_> = chunk
            .iter()
            .map(|(a, b)| format!("rpm.vercmp('{a}','{b}')"))
            .collect();
        let lua = format!("%{{lua:print(table.concat({{{}}}, ' '))}}", calls.join(","));
        let said = run(Command::new("rpm").arg("--eval").arg(lua));
        let said = String::from_utf8(said).unwrap();
        let said: Vec<_> = said.split_ascii_whitespace().collect();
        assert_eq!(said.len(), chunk.len());
        for ((a, b), sign) in chunk.iter().zip(said) {
            assert_eq!(rpm::compare(a, b), order(sign), "{a} {b}");
        }
    }
}

#[test]
fn made_up_versions_are_ordered_as_libalpm_orders_them() {
    let mut random = Random(0x5eed_0101);
    let words: Vec<_> = WORDS.iter().filter(|word| **word != "-").copied().collect();
    let mut all = Vec::new();
    for _ in 0..4000 {
        let mut one = || {
            let mut text = version(&mut random, &words);
            if random.next(2) == 0 {
                text.push_str(&format!("-{}", random.next(3)));
            }
            text
        };
        all.push((one(), one()));
    }
    // libalpm has no program of its own in Debian that compares versions.
    let script = "import ctypes, sys\n\
        alpm = ctypes.CDLL('libalpm.so.13')\n\
        for line in open(sys.argv[1]):\n a, b = line.rstrip('\\n').split('\\t')\n \
        print(alpm.alpm_pkg_vercmp(a.encode(), b.encode()))";
    let lines: String = all.iter().map(|(a, b)| format!("{a}\t{b}\n")).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines).unwrap();
    let said = run(Command::new("python3")
        .args(["-c", script])
        .arg(file.path()));
    let said = String::from_utf8(said).unwrap();
    let said: Vec<_> = said.lines().collect();
    assert_eq!(said.len(), all.len());
    for ((a, b), sign) in all.iter().zip(said) {
        assert_eq!(pacman::compare(a, b), order(sign), "{a} {b}");
    }
}

#[test]
fn any_two_texts_are_ordered_one_way() {
    let mut random = Random(0x5eed_0102);
    let all: Vec<String> = (0..200).map(|_| version(&mut random, WORDS)).collect();
    for family in [Family::Rpm, Family::Apk, Family::Pacman] {
        for a in &all {
            assert_eq!(family.compare(a, a), Ordering::Equal);
            for b in &all {
                let (there, back) = (family.compare(a, b), family.compare(b, a));
                // Words against the end are not one order in pacman's: `1.a` and `1.` each are before the other.
                if family != Family::Pacman {
                    assert_eq!(there, back.reverse(), "{family} {a:?} {b:?}");
                }
            }
        }
    }
}
