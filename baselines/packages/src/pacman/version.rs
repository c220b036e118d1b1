//! pacman's version order: that of an early rpm, with epochs and its own thoughts on separators.

use std::cmp::Ordering;

use crate::evr::{Evr, compare_digits, run};

/// Compares two versions of pacman packages: epoch, version, release. A missing epoch is 0; a missing release is equal
/// to any.
///
/// Source: vercmp(8) and `alpm_pkg_vercmp` of libalpm.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    let (a, b) = (Evr::split(a), Evr::split(b));
    compare_part(a.epoch.unwrap_or("0"), b.epoch.unwrap_or("0"))
        .then_with(|| compare_part(a.version, b.version))
        .then_with(|| match (a.release, b.release) {
            (Some(a), Some(b)) => compare_part(a, b),
            _ => Ordering::Equal,
        })
}

/// Compares two versions without epoch and release, or two releases.
fn compare_part(a: &str, b: &str) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() && !b.is_empty() {
        let separates = |byte: u8| !byte.is_ascii_alphanumeric();
        let (a_between, a_from) = run(a, separates);
        let (b_between, b_from) = run(b, separates);
        (a, b) = (a_from, b_from);
        let (Some(first), Some(_)) = (a.first(), b.first()) else {
            break;
        };
        // More separators are the newer version.
        if a_between.len() != b_between.len() {
            return a_between.len().cmp(&b_between.len());
        }
        let number = first.is_ascii_digit();
        let kind = |byte: u8| match number {
            true => byte.is_ascii_digit(),
            false => byte.is_ascii_alphabetic(),
        };
        let (a_run, a_rest) = run(a, kind);
        let (b_run, b_rest) = run(b, kind);
        // Of two kinds: the number is the newer one.
        if b_run.is_empty() {
            return if number {
                Ordering::Greater
            } else {
                Ordering::Less
            };
        }
        let order = if number {
            compare_digits(a_run, b_run)
        } else {
            a_run.cmp(b_run)
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
    let is_word = |text: &[u8]| text.first().is_some_and(u8::is_ascii_alphabetic);
    match (a.is_empty(), b.is_empty()) {
        (true, true) => Ordering::Equal,
        // What is left of one never makes it newer when it is a word: `1.0rc` is before `1.0`.
        (true, false) if !is_word(b) => Ordering::Less,
        _ if is_word(a) => Ordering::Less,
        _ => Ordering::Greater,
    }
}
