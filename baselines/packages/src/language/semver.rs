//! Semantic Versioning 2.0.0, as npm, Cargo and Go modules use it.

use std::cmp::Ordering;

/// Compares two numbers of any length.
fn numbers(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A version's release and what comes before it.
struct Version<'a> {
    release: [&'a str; 3],
    pre: Option<&'a str>,
}

impl<'a> Version<'a> {
    /// Reads a version; parts that are missing count as 0, for Go has such. What comes after `+` has no order.
    fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim().trim_start_matches('=').trim_start_matches('v');
        let text = text.split_once('+').map_or(text, |(text, _)| text);
        let (numbers, pre) = match text.split_once('-') {
            Some((numbers, pre)) => (numbers, Some(pre)),
            None => (text, None),
        };
        let mut release = ["0"; 3];
        let mut places = release.iter_mut();
        for number in numbers.split('.') {
            *places.next()? = Some(number).filter(|number| is_number(number))?;
        }
        let sound = |id: &str| {
            !id.is_empty()
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        pre.is_none_or(|pre| pre.split('.').all(sound))
            .then_some(Self { release, pre })
    }

    fn compare(&self, other: &Self) -> Ordering {
        let pairs = self.release.iter().zip(&other.release);
        for (a, b) in pairs {
            let order = numbers(a, b);
            if order != Ordering::Equal {
                return order;
            }
        }
        match (self.pre, other.pre) {
            (Some(a), Some(b)) => before_release(a, b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        }
    }
}

/// Numbers by value and before words, words by their letters, fewer identifiers first.
fn before_release(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (is_number(a), is_number(b)) {
                (true, true) => numbers(a, b),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => a.cmp(b),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Compares two versions. What is none comes before what is.
#[must_use]
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    match (Version::parse(a), Version::parse(b)) {
        (Some(a), Some(b)) => a.compare(&b),
        (None, None) => a.cmp(b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}
