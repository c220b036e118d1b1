//! Archives made by chance: what we take must leave a system that apt calls whole, and be no less than apt takes.

use std::fmt::Write as _;

use dormouse_remedy::Only;

use crate::scene::{Package, Scene, status, taken};

/// A small generator (xorshift64*), so that a seed names a case for ever.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(value).unwrap() % below
    }
}

const PACKAGES: usize = 40;

fn name(number: usize) -> String {
    format!("p{number:02}")
}

/// What kinds of relations an archive has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// To packages by name.
    Named,
    /// To what packages provide, too, and before unpacking.
    Provided,
}

/// Each installed package depends on packages of lower numbers, so that the system is whole.
fn installed(chance: &mut Chance, kind: Kind) -> Vec<Package> {
    let mut out = vec![crate::scene::package("dpkg 1")];
    let mut given = Vec::new();
    for number in 0..PACKAGES {
        let mut line = format!("{} 1", name(number));
        if number > 0 {
            let wanted: Vec<String> = (0..chance.next(3))
                .map(|_| {
                    let other = name(chance.next(number));
                    match chance.next(4) {
                        0 => format!("{other} (>= 1)"),
                        1 => format!("{other} (<< 3)"),
                        2 if chance.next(4) == 0 => format!("{other} (= 1)"),
                        _ => other,
                    }
                })
                .collect();
            let mut wanted = wanted;
            if kind == Kind::Provided && !given.is_empty() && chance.next(3) == 0 {
                wanted.push(format!("virtual{}", given[chance.next(given.len())]));
            }
            if !wanted.is_empty() {
                write!(line, " | Depends: {}", wanted.join(", ")).unwrap();
            }
        }
        if kind == Kind::Provided && chance.next(4) == 0 {
            write!(line, " | Provides: virtual{}", number % 5).unwrap();
            given.push(number % 5);
        }
        if chance.next(15) == 0 {
            line.push_str(" | held");
        }
        out.push(crate::scene::package(&line));
    }
    out
}

fn offered(chance: &mut Chance, kind: Kind) -> Vec<Package> {
    let mut out = Vec::new();
    for number in 0..PACKAGES + 10 {
        let fresh = number >= PACKAGES;
        if !fresh && chance.next(3) == 0 {
            continue;
        }
        let mut line = format!("{} 2", name(number));
        let mut wanted = Vec::new();
        for _ in 0..chance.next(3) {
            let other = name(chance.next(PACKAGES + 10));
            if other == name(number) {
                continue;
            }
            wanted.push(match chance.next(5) {
                0 => format!("{other} (>= 2)"),
                1 => format!("{other} (<< 2)"),
                2 => format!("{other} | {}", name(chance.next(PACKAGES))),
                _ => other,
            });
        }
        let mut field = "Depends";
        if kind == Kind::Provided {
            if chance.next(6) == 0 {
                wanted.push(format!("virtual{}", chance.next(5)));
            }
            if chance.next(6) == 0 {
                field = "Pre-Depends";
            }
            if chance.next(4) == 0 {
                let version = [" (= 2)", ""][chance.next(2)];
                write!(line, " | Provides: virtual{}{version}", number % 5).unwrap();
            }
        }
        if !wanted.is_empty() {
            write!(line, " | {field}: {}", wanted.join(", ")).unwrap();
        }
        if chance.next(8) == 0 {
            write!(
                line,
                " | Breaks: {} (<< 2)",
                name((number + 1 + chance.next(PACKAGES - 1)) % PACKAGES)
            )
            .unwrap();
        }
        if fresh && chance.next(3) == 0 {
            write!(line, " | Conflicts: {}", name(chance.next(PACKAGES))).unwrap();
        }
        out.push(crate::scene::package(&line));
    }
    out
}

#[test]
fn sets_are_whole_and_no_smaller_than_apt_s() {
    hold_against_apt(Kind::Named, 1..=12);
}

#[test]
fn sets_with_providers_are_whole_and_no_smaller_than_apt_s() {
    hold_against_apt(Kind::Provided, 101..=112);
}

fn hold_against_apt(kind: Kind, seeds: std::ops::RangeInclusive<u64>) {
    for seed in seeds {
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let before = installed(&mut chance, kind);
        let offers = offered(&mut chance, kind);
        let scene = Scene::new(&before, &offers);
        let ours = taken(&scene.resolve(&Only::All));
        let apts = scene.apt_takes(&["-s", "upgrade", "--with-new-pkgs"]);
        let upgrades = |set: &std::collections::BTreeMap<String, String>| {
            set.keys()
                .filter(|name| before.iter().any(|package| package.name == **name))
                .count()
        };
        assert!(
            upgrades(&ours) >= upgrades(&apts),
            "seed {seed}: {} upgrades, apt has {}\nours {ours:?}\napt  {apts:?}",
            upgrades(&ours),
            upgrades(&apts)
        );
        let mut after: Vec<Package> = before
            .into_iter()
            .filter(|package| !ours.contains_key(&package.name))
            .collect();
        after.extend(
            offers
                .into_iter()
                .filter(|package| ours.contains_key(&package.name)),
        );
        let output = scene.apt(&status(&after), &["check"]);
        assert!(
            output.status.success(),
            "seed {seed}: apt does not call this whole: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        for package in after
            .iter()
            .filter(|package| package.status.starts_with("hold"))
        {
            assert!(
                !ours.contains_key(&package.name),
                "seed {seed}: {} is on hold",
                package.name
            );
        }
    }
}
