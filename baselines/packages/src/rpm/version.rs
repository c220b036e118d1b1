//! rpm's version order.

use std::cmp::Ordering;

use crate::evr::{Evr, compare_digits, run};

/// Compares two versions of rpm packages: epoch, version, release. A missing epoch is 0; a missing release is below any.
///
/// Source: rpm-version(7) and `rpmverCmp` of librpm.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (Evr::split(a), Evr::split(b));
    compare_part(a.epoch.unwrap_or("0"), b.epoch.unwrap_or("0"))
        .then_with(|| compare_part(a.version, b.version))
        .then_with(|| match (a.release, b.release) {
            (Some(a), Some(b)) => compare_part(a, b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        })
}

/// Compares two versions without epoch and release, or two releases: `rpmvercmp`.
///
/// Runs of digits or of letters decide, whatever separates them; a number is above a word, a tilde below the end, a
/// caret above the end and below anything else.
#[must_use]
pub fn compare_part(a: &str, b: &str) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() || !b.is_empty() {
        let separates = |byte: u8| !byte.is_ascii_alphanumeric() && !matches!(byte, b'~' | b'^');
        (_, a) = run(a, separates);
        (_, b) = run(b, separates);
        match (a.first(), b.first()) {
            (Some(b'~'), Some(b'~')) | (Some(b'^'), Some(b'^')) => {
                a = a.get(1..).unwrap_or_default();
                b = b.get(1..).unwrap_or_default();
                continue;
            }
            (Some(b'~'), _) => return Ordering::Less,
            (_, Some(b'~')) => return Ordering::Greater,
            (Some(b'^'), None) => return Ordering::Greater,
            (None, Some(b'^')) => return Ordering::Less,
            (Some(b'^'), _) => return Ordering::Less,
            (_, Some(b'^')) => return Ordering::Greater,
            (None, _) | (_, None) => break,
            (Some(first), Some(_)) => {
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
        }
    }
    // Whichever has something left is the newer one.
    b.is_empty().cmp(&a.is_empty())
}
