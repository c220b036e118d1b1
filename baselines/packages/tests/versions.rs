//! Debian's version order against libapt's answers and against dpkg itself.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic, write files and run its oracles"
)]

use std::cmp::Ordering;
use std::path::PathBuf;
use std::process::Command;

use dormouse_packages::dpkg::{Version, compare};

fn fixtures() -> PathBuf {
    std::env::var_os("DORMOUSE_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    )
}

fn pairs() -> Vec<(String, Ordering, String)> {
    let path = fixtures().join("versions/deb-version-pairs.tsv");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let order = |sign: &str| match sign {
        "<" => Ordering::Less,
        "=" => Ordering::Equal,
        ">" => Ordering::Greater,
        other => panic!("unknown sign {other:?}"),
    };
    text.lines()
        .map(|line| {
            let mut parts = line.split('\t');
            let [a, sign, b] = [parts.next(), parts.next(), parts.next()].map(Option::unwrap);
            (a.to_owned(), order(sign), b.to_owned())
        })
        .collect()
}

#[test]
fn three_thousand_real_pairs_compare_as_libapt_says() {
    let pairs = pairs();
    assert!(pairs.len() >= 3000, "{} pairs", pairs.len());
    for (a, order, b) in pairs {
        assert_eq!(compare(&a, &b), order, "{a} {b}");
        assert_eq!(compare(&b, &a), order.reverse(), "{b} {a}");
        let [a, b] = [&a, &b].map(|text| Version::parse(text).unwrap());
        assert_eq!(a.cmp(&b), order);
    }
}

/// Asks dpkg in one shell for many pairs: the exit status of each of `lt`, `eq`.
fn dpkg_says(pairs: &[(String, String)]) -> Vec<Ordering> {
    let script = "while read -r a b; do if dpkg --compare-versions \"$a\" lt \"$b\"; then echo l; \
        elif dpkg --compare-versions \"$a\" eq \"$b\"; then echo e; else echo g; fi; done";
    let input: String = pairs.iter().map(|(a, b)| format!("{a} {b}\n")).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pairs");
    std::fs::write(&path, input).unwrap();
    let output = Command::new("sh")
        .args(["-ec", script])
        .stdin(std::fs::File::open(&path).unwrap())
        .output()
        .expect("this test needs sh and dpkg");
    assert!(output.status.success(), "this test needs dpkg");
    let order = |line: &str| match line {
        "l" => Ordering::Less,
        "e" => Ordering::Equal,
        _ => Ordering::Greater,
    };
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(order)
        .collect()
}

/// A small generator of pseudo-random numbers (xorshift), so that a failure is the same failure again.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % below
    }

    fn version(&mut self) -> String {
        const PARTS: [&str; 16] = [
            "0", "1", "9", "10", "007", "~", "~~", "+", ".", "-", "a", "z", "rc1", "deb12u2", "Z",
            "+b1",
        ];
        let mut text = String::from(["", "", "0:", "1:", "00:"][self.next(5)]);
        text.push(char::from(b'0' + u8::try_from(self.next(10)).unwrap()));
        for _ in 0..self.next(7) {
            text.push_str(PARTS[self.next(PARTS.len())]);
        }
        text
    }
}

#[test]
fn generated_versions_compare_as_dpkg_says() {
    let mut random = Random(0x5eed_0001);
    let mut sample = Vec::new();
    while sample.len() < 400 {
        let (a, b) = (random.version(), random.version());
        if Version::parse(&a).is_ok() && Version::parse(&b).is_ok() {
            sample.push((a, b));
        }
    }
    let said = dpkg_says(&sample);
    assert_eq!(said.len(), sample.len());
    assert!(said.contains(&Ordering::Less) && said.contains(&Ordering::Greater));
    for ((a, b), order) in sample.iter().zip(said) {
        assert_eq!(compare(a, b), order, "{a} {b}");
    }
}

#[test]
fn the_order_is_total_over_any_strings() {
    let mut random = Random(0x5eed_0002);
    let mut all: Vec<String> = (0..150).map(|_| random.version()).collect();
    all.extend((0..150).map(|_| {
        let bytes: Vec<u8> = (0..random.next(12))
            .map(|_| u8::try_from(random.next(256)).unwrap())
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }));
    for a in &all {
        assert_eq!(compare(a, a), Ordering::Equal);
        for b in &all {
            assert_eq!(compare(a, b), compare(b, a).reverse(), "{a:?} {b:?}");
        }
    }
    // Sorted by it, every earlier one is no greater than every later one: it is transitive.
    all.sort_by(|a, b| compare(a, b));
    for (at, a) in all.iter().enumerate() {
        for b in all.iter().skip(at) {
            assert_ne!(compare(a, b), Ordering::Greater, "{a:?} {b:?}");
        }
    }
}
