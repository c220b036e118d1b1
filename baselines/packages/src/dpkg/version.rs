//! Debian versions and their order, as deb-version(7) defines them.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest version accepted, in bytes. Real ones have fewer than 100; a file name of 255 bytes must hold one.
const MAX_VERSION: usize = 255;

/// Compares two Debian versions: epoch, then upstream version, then revision.
///
/// Any two strings are ordered, and the order is total over them; it is dpkg's own on valid versions. A missing
/// epoch or revision counts as zero, so `1.0`, `0:1.0` and `1.0-0` are equal. Nothing is allocated.
///
/// Source: deb-version(7), and Debian Policy 5.6.12.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a_epoch, a_upstream, a_revision) = split(a.as_bytes());
    let (b_epoch, b_upstream, b_revision) = split(b.as_bytes());
    compare_part(a_epoch, b_epoch)
        .then_with(|| compare_part(a_upstream, b_upstream))
        .then_with(|| compare_part(a_revision, b_revision))
}

/// Epoch (before the first colon), upstream version, revision (after the last hyphen).
fn split(version: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let (epoch, rest) = match version.iter().position(|&byte| byte == b':') {
        Some(at) => around(version, at),
        None => (&[][..], version),
    };
    let (upstream, revision) = match rest.iter().rposition(|&byte| byte == b'-') {
        Some(at) => around(rest, at),
        None => (rest, &[][..]),
    };
    (epoch, upstream, revision)
}

/// What stands before and after the byte at `at`.
fn around(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
    let before = bytes.get(..at).unwrap_or_default();
    let after = at.checked_add(1).and_then(|next| bytes.get(next..));
    (before, after.unwrap_or_default())
}

/// Where a byte stands among what is no digit: a tilde before the end, the end and digits before letters, letters
/// before everything else.
fn rank(byte: Option<&u8>) -> i32 {
    match byte {
        None | Some(b'0'..=b'9') => 0,
        Some(b'~') => -1,
        Some(&letter) if letter.is_ascii_alphabetic() => i32::from(letter),
        Some(&other) => i32::from(other).saturating_add(256),
    }
}

/// Alternating runs of other bytes and of digits; the first unequal run decides.
fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    loop {
        // A run without digits, byte by byte; an end or a digit on either side counts as rank 0.
        while a.first().is_some_and(|byte| !byte.is_ascii_digit())
            || b.first().is_some_and(|byte| !byte.is_ascii_digit())
        {
            let order = rank(a.first()).cmp(&rank(b.first()));
            if order != Ordering::Equal {
                return order;
            }
            a = a.get(1..).unwrap_or_default();
            b = b.get(1..).unwrap_or_default();
        }
        let (a_digits, a_rest) = digits(a);
        let (b_digits, b_rest) = digits(b);
        // Without leading zeros the longer number is the greater one.
        let order = a_digits
            .len()
            .cmp(&b_digits.len())
            .then_with(|| a_digits.cmp(b_digits));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (a_rest, b_rest);
        if a.is_empty() && b.is_empty() {
            return Ordering::Equal;
        }
    }
}

/// The number that `bytes` begin with, without leading zeros, and what follows it.
fn digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(bytes.len());
    let (number, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
    let zeros = number
        .iter()
        .position(|&byte| byte != b'0')
        .unwrap_or(number.len());
    (number.get(zeros..).unwrap_or_default(), rest)
}

/// A version that dpkg accepts, kept as it was written. Two that dpkg calls equal are equal, however they are written.
#[derive(Clone)]
pub struct Version(Box<str>);

/// Why a text is no Debian version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionError(&'static str);

impl fmt::Display for VersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for VersionError {}

impl Version {
    /// Reads a version as dpkg reads it from its own database: surrounding blanks dropped, an upstream version that
    /// does not begin with a digit allowed.
    ///
    /// # Errors
    /// An empty version or part, an epoch that is no number up to 2,147,483,647, a byte that deb-version(7) does not
    /// allow, or more than 255 bytes.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let text = text.trim_matches([' ', '\t', '\n', '\r']);
        check(text)?;
        Ok(Self(text.into()))
    }

    /// The version as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The epoch; 0 where none is written.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        let (epoch, ..) = split(self.0.as_bytes());
        std::str::from_utf8(epoch)
            .ok()
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_default()
    }

    /// The version without its epoch, as file names spell it.
    #[must_use]
    pub fn without_epoch(&self) -> &str {
        self.0.split_once(':').map_or(&*self.0, |(_, rest)| rest)
    }
}

fn check(text: &str) -> Result<(), VersionError> {
    if text.is_empty() {
        return Err(VersionError("version is empty"));
    }
    if text.len() > MAX_VERSION {
        return Err(VersionError("version is longer than 255 bytes"));
    }
    let (epoch, rest) = text
        .split_once(':')
        .map_or((None, text), |(epoch, rest)| (Some(epoch), rest));
    if let Some(epoch) = epoch {
        if epoch.is_empty() || !epoch.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(VersionError("epoch in version is not a number"));
        }
        if epoch
            .parse::<u32>()
            .map_or(true, |n| i32::try_from(n).is_err())
        {
            return Err(VersionError("epoch in version is too large"));
        }
    }
    let (upstream, revision) = rest
        .rsplit_once('-')
        .map_or((rest, None), |(upstream, revision)| {
            (upstream, Some(revision))
        });
    if upstream.is_empty() {
        return Err(VersionError("upstream version is empty"));
    }
    if revision == Some("") {
        return Err(VersionError("revision of version is empty"));
    }
    let allowed = |byte: u8, more: &[u8]| byte.is_ascii_alphanumeric() || more.contains(&byte);
    if !upstream.bytes().all(|byte| allowed(byte, b".-+~:")) {
        return Err(VersionError("invalid character in version"));
    }
    if !revision
        .unwrap_or("0")
        .bytes()
        .all(|byte| allowed(byte, b".+~"))
    {
        return Err(VersionError("invalid character in revision of version"));
    }
    Ok(())
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_s_own_examples_hold() {
        // deb-version(7): "~~", "~~a", "~", "" and "a" sort in this order.
        for (less, more) in [
            ("1~~", "1~~a"),
            ("1~~a", "1~"),
            ("1~", "1"),
            ("1", "1a"),
            ("1.0~beta1~svn1245", "1.0~beta1"),
            ("1.0~beta1", "1.0"),
            ("9", "10"),
            ("1.a", "1.+"),
            ("2.0", "1:0.5"),
            ("1.0-1", "1.0-1+b1"),
            ("1.2.3-1", "1.2.3-1.1"),
        ] {
            assert_eq!(compare(less, more), Ordering::Less, "{less} {more}");
            assert_eq!(compare(more, less), Ordering::Greater, "{more} {less}");
        }
        for (a, b) in [
            ("1.0", "0:1.0"),
            ("1.0", "1.0-0"),
            ("1.02", "1.2"),
            ("", "0"),
        ] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} {b}");
        }
    }

    #[test]
    fn numbers_of_any_length_compare_without_overflow() {
        let long = "9".repeat(100_000);
        assert_eq!(compare(&long, &format!("1{long}")), Ordering::Less);
    }

    #[test]
    fn what_dpkg_refuses_is_no_version() {
        for text in [
            "",
            " ",
            "a:1",
            ":1",
            "1:",
            "1-",
            "-1",
            "1 2",
            "1_2",
            "1:-1",
            "4294967296:1",
            "2147483648:1",
        ] {
            assert!(Version::parse(text).is_err(), "{text:?}");
        }
        for text in ["1", "1:2", "2147483647:0", " 1.2-3 ", "1:1:1-1", "git-1"] {
            assert!(Version::parse(text).is_ok(), "{text:?}");
        }
        assert_eq!(Version::parse("3:1.2-1").unwrap().epoch(), 3);
        assert_eq!(Version::parse("3:1.2-1").unwrap().without_epoch(), "1.2-1");
    }
}
