//! Patterns over names: `*` for any run of characters, `?` for one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A pattern that a whole name must match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Glob(String);

impl Glob {
    /// A pattern.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// Whether the whole of `name` matches. Takes at most the product of both lengths in steps.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (mut pattern, mut text) = (self.0.as_str(), name);
        // Where to go on when what follows the last star does not fit: the pattern after it, and the text it had.
        let mut retry: Option<(&str, &str)> = None;
        loop {
            let mut rest = pattern.chars();
            let mut left = text.chars();
            match (rest.next(), left.next()) {
                (Some('*'), _) => {
                    pattern = rest.as_str();
                    retry = Some((pattern, text));
                    continue;
                }
                (None, None) => return true,
                (Some(want), Some(have)) if want == '?' || want == have => {
                    (pattern, text) = (rest.as_str(), left.as_str());
                    continue;
                }
                _ => {}
            }
            let Some((after, had)) = retry else {
                return false;
            };
            let mut shorter = had.chars();
            if shorter.next().is_none() {
                return false;
            }
            (pattern, text) = (after, shorter.as_str());
            retry = Some((pattern, text));
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn stars_and_marks_match_whole_names() {
        for (pattern, name, matches) in [
            ("web-*", "web-01", true),
            ("web-*", "web", false),
            ("*-01", "web-01", true),
            ("w?b-*1", "web-0011", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("", "", true),
            ("*", "", true),
            ("?", "", false),
            ("é?o*", "école", true),
            ("é", "e", false),
        ] {
            assert_eq!(
                Glob::new(pattern).matches(name),
                matches,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = Glob::new("*a".repeat(200));
        assert!(!pattern.matches(&"a".repeat(199)));
        assert!(!Glob::new("*a".repeat(50) + "b").matches(&"a".repeat(20_000)));
    }
}
