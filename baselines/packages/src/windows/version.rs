//! Order of versions as Windows and its installers write them.

use std::cmp::Ordering;

/// Compares versions part by part between dots: numbers by value, others by their letters, a number before others; parts that
/// are missing count as 0, as `System.Version` and Windows Installer have it for versions of fewer parts.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (a, b) => part(a.unwrap_or("0"), b.unwrap_or("0")),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

fn part(a: &str, b: &str) -> Ordering {
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// The digits of a number of any length, without leading zeroes.
fn number(part: &str) -> Option<&str> {
    let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| part.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_by_value_and_missing_ones_as_zero() {
        let rising = [
            "6.1.7600.16385",
            "6.1.7601.17514",
            "10.0.19045.3448",
            "10.0.19045.10000",
        ];
        assert!(rising.is_sorted_by(|a, b| compare(a, b).is_lt()));
        assert_eq!(compare("14.0", "14.00.0.0"), Ordering::Equal);
        assert_eq!(compare("1.2", "1.2.1"), Ordering::Less);
        assert_eq!(compare("1.2", "1.2b"), Ordering::Less);
        assert_eq!(compare("", ""), Ordering::Equal);
        assert_eq!(
            compare("99999999999999999999", "100000000000000000000"),
            Ordering::Less
        );
    }
}
