//! Any three strings as Debian versions: their order is total, and relations and baselines read or refuse them.
#![no_main]

use std::cmp::Ordering;

use dormouse_packages::dpkg::{Relation, Version, compare};
use dormouse_policy::Baseline;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.splitn(3, '\n');
    let [a, b, c] = [parts.next(), parts.next(), parts.next()].map(Option::unwrap_or_default);
    assert_eq!(compare(a, a), Ordering::Equal);
    assert_eq!(compare(a, b), compare(b, a).reverse());
    if compare(a, b).is_le() && compare(b, c).is_le() {
        assert!(compare(a, c).is_le());
    }
    if let Ok(version) = Version::parse(a) {
        assert_eq!(Version::parse(version.as_str()).expect("it was one"), version);
    }
    for relation in Relation::parse_all(a).unwrap_or_default() {
        let again = Relation::parse_all(&relation.to_string()).expect("what was written reads");
        assert_eq!(again, [relation]);
    }
    let _ = Baseline::parse(&text);
});
