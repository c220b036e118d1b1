//! apk's version order, which is Gentoo's with a commit hash.

use std::cmp::Ordering;

use crate::evr::{compare_digits, run};

/// What a part of a version is. Where two versions part in kind, the earlier kind here is the newer version, unless it
/// is a suffix of what comes before a release. What is no version from some byte on is newer than what goes on otherwise,
/// as it is for apk 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Invalid,
    FirstNumber,
    Number,
    Letter,
    Suffix,
    SuffixNumber,
    Hash,
    Revision,
    End,
}

/// Suffixes in their order; those before the release, then those after.
const BEFORE: [&[u8]; 4] = [b"alpha", b"beta", b"pre", b"rc"];
const AFTER: [&[u8]; 5] = [b"cvs", b"svn", b"git", b"hg", b"p"];

/// The place of a suffix: below 4 before the release.
fn place(suffix: &[u8]) -> Option<usize> {
    BEFORE
        .iter()
        .chain(&AFTER)
        .position(|known| *known == suffix)
}

/// The parts of a version one by one.
struct Parts<'a> {
    kind: Kind,
    value: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    fn new(version: &'a str) -> Self {
        let mut parts = Self {
            kind: Kind::Invalid,
            value: &[],
            rest: version.as_bytes(),
        };
        parts.take(Kind::FirstNumber, 0, |byte| byte.is_ascii_digit());
        parts
    }

    /// Takes a run after `skip` bytes; an empty one is no part.
    fn take(&mut self, kind: Kind, skip: usize, wanted: impl Fn(u8) -> bool) {
        let from = self.rest.get(skip..).unwrap_or_default();
        (self.value, self.rest) = run(from, wanted);
        self.kind = if self.value.is_empty() {
            Kind::Invalid
        } else {
            kind
        };
    }

    fn goes_on(&self) -> bool {
        !matches!(self.kind, Kind::Invalid | Kind::End)
    }

    fn next(&mut self) {
        let digit = |byte: u8| byte.is_ascii_digit();
        let before = self.kind;
        self.kind = Kind::Invalid;
        match (self.rest.first(), before) {
            (None, _) => self.kind = Kind::End,
            (Some(b'a'..=b'z'), Kind::FirstNumber | Kind::Number) => {
                (self.value, self.rest) = self.rest.split_at_checked(1).unwrap_or_default();
                self.kind = Kind::Letter;
            }
            (Some(b'.'), Kind::FirstNumber | Kind::Number) => self.take(Kind::Number, 1, digit),
            // As apk 2 has it: 0.99f7 is a version.
            (Some(b'0'..=b'9'), Kind::Letter) => self.take(Kind::Number, 0, digit),
            (Some(b'0'..=b'9'), Kind::Suffix) => self.take(Kind::SuffixNumber, 0, digit),
            (Some(b'_'), before) if before <= Kind::SuffixNumber => {
                self.take(Kind::Suffix, 1, |byte| byte.is_ascii_lowercase());
                if place(self.value).is_none() {
                    self.kind = Kind::Invalid;
                }
            }
            (Some(b'~'), before) if before < Kind::Hash => {
                let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                self.take(Kind::Hash, 1, hex);
            }
            (Some(b'-'), before) if before < Kind::Revision && self.rest.starts_with(b"-r") => {
                self.take(Kind::Revision, 2, digit);
            }
            _ => {}
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let zero = |value: &[u8]| value.first() == Some(&b'0');
        match self.kind {
            // A number that begins with a zero is a fraction: compared as text.
            Kind::Number if zero(self.value) || zero(other.value) => self.value.cmp(other.value),
            Kind::FirstNumber | Kind::Number | Kind::SuffixNumber | Kind::Revision => {
                compare_digits(self.value, other.value)
            }
            Kind::Suffix => place(self.value).cmp(&place(other.value)),
            _ => self.value.cmp(other.value),
        }
    }

    fn is_before_release(&self) -> bool {
        let before = place(self.value).is_some_and(|place| place < BEFORE.len());
        self.kind == Kind::Suffix && before
    }
}

/// Compares two versions of apk packages. Any two texts are ordered; what is no version counts up to where it ceases to
/// be one.
///
/// Source: apk-package(5), "pkgver", and the published table of apk-tools.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (Parts::new(a), Parts::new(b));
    while a.kind == b.kind && a.goes_on() {
        let order = a.compare(&b);
        if order != Ordering::Equal {
            return order;
        }
        a.next();
        b.next();
    }
    if a.kind == b.kind {
        return Ordering::Equal;
    }
    match (a.is_before_release(), b.is_before_release()) {
        (true, _) => Ordering::Less,
        (_, true) => Ordering::Greater,
        _ => b.kind.cmp(&a.kind),
    }
}

/// Whether apk 3 takes `text` for a version; apk 2 took a few more, which [`compare`] orders all the same.
#[must_use]
pub fn is_version(text: &str) -> bool {
    let mut parts = Parts::new(text);
    while parts.goes_on() {
        let before = parts.kind;
        parts.next();
        if (before, parts.kind) == (Kind::Letter, Kind::Number) {
            return false;
        }
    }
    parts.kind == Kind::End
}
