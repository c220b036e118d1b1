//! Debian's order of versions (deb-version(7)).

use std::cmp::Ordering;

/// Compares two versions as dpkg does.
pub(crate) fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let (left_epoch, left) = epoch(left);
    let (right_epoch, right) = epoch(right);
    let (left, left_revision) = revision(left);
    let (right, right_revision) = revision(right);
    left_epoch
        .cmp(&right_epoch)
        .then_with(|| part(left, right))
        .then_with(|| part(left_revision, right_revision))
}

fn epoch(version: &[u8]) -> (u64, &[u8]) {
    let Some(at) = version.iter().position(|&byte| byte == b':') else {
        return (0, version);
    };
    let (digits, rest) = version.split_at(at);
    let epoch = std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0);
    (epoch, rest.get(1..).unwrap_or_default())
}

fn revision(version: &[u8]) -> (&[u8], &[u8]) {
    match version.iter().rposition(|&byte| byte == b'-') {
        Some(at) => (
            version.get(..at).unwrap_or_default(),
            version.get(at.saturating_add(1)..).unwrap_or_default(),
        ),
        None => (version, b""),
    }
}

/// Letters come before other characters, a tilde before everything, the end included.
fn weight(byte: Option<u8>) -> i32 {
    match byte {
        None => 0,
        Some(b'~') => -1,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(byte),
        Some(byte) => i32::from(byte).saturating_add(256),
    }
}

fn part(mut left: &[u8], mut right: &[u8]) -> Ordering {
    loop {
        loop {
            let (one, two) = (left.first().copied(), right.first().copied());
            let plain = |byte: Option<u8>| byte.is_some_and(|byte| !byte.is_ascii_digit());
            if !plain(one) && !plain(two) {
                break;
            }
            let order = weight(one).cmp(&weight(two));
            if order != Ordering::Equal {
                return order;
            }
            left = left.get(1..).unwrap_or_default();
            right = right.get(1..).unwrap_or_default();
        }
        let (one, left_rest) = digits(left);
        let (two, right_rest) = digits(right);
        let order = one.len().cmp(&two.len()).then_with(|| one.cmp(two));
        if order != Ordering::Equal {
            return order;
        }
        left = left_rest;
        right = right_rest;
        if left.is_empty() && right.is_empty() {
            return Ordering::Equal;
        }
    }
}

/// The digits at the start, leading zeros dropped, and what follows.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let zeros = digits.iter().take_while(|&&byte| byte == b'0').count();
    (digits.get(zeros..).unwrap_or_default(), rest)
}

/// Why `text` is no version, if it is none.
pub(crate) fn flaw(text: &[u8]) -> Option<&'static str> {
    if text.is_empty() {
        return Some("version string is empty");
    }
    if text.iter().any(u8::is_ascii_whitespace) {
        return Some("version string has embedded spaces");
    }
    let mut rest = text;
    if let Some(at) = text.iter().position(|&byte| byte == b':') {
        let (epoch, after) = text.split_at(at);
        if epoch.is_empty() {
            return Some("epoch in version is empty");
        }
        if !epoch.iter().all(u8::is_ascii_digit) {
            return Some("epoch in version is not number");
        }
        rest = after.get(1..).unwrap_or_default();
        if rest.is_empty() {
            return Some("nothing after colon in version number");
        }
    }
    let (upstream, debian) = revision(rest);
    if rest.ends_with(b"-") {
        return Some("revision number in version is empty");
    }
    if !upstream.first().is_some_and(u8::is_ascii_digit) {
        return Some("version number does not start with digit");
    }
    let fits = |byte: &u8, more: &[u8]| byte.is_ascii_alphanumeric() || more.contains(byte);
    if !upstream.iter().all(|byte| fits(byte, b".-+~:")) {
        return Some("invalid character in version number");
    }
    if !debian.iter().all(|byte| fits(byte, b".+~")) {
        return Some("invalid character in revision number");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_policy_says() {
        for pair in [
            "1.0~rc1",
            "1.0",
            "1.0+deb12u1",
            "1.0a",
            "1.0-1",
            "1.0.1",
            "1.2",
            "1.10",
            "1:0.1",
        ]
        .windows(2)
        {
            if let [one, two] = pair {
                assert_eq!(
                    compare(one.as_bytes(), two.as_bytes()),
                    match (*one, *two) {
                        ("1.0+deb12u1", "1.0a") | ("1.0a", "1.0-1") => Ordering::Greater,
                        _ => Ordering::Less,
                    },
                    "{one} {two}"
                );
            }
        }
        assert_eq!(compare(b"1.0", b"1.0-0"), Ordering::Equal);
        assert_eq!(compare(b"0:01", b"1"), Ordering::Equal);
    }
}
