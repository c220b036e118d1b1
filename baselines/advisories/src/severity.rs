//! How bad a vulnerability is, on the one scale that every vendor's words are brought to.

use std::str::FromStr as _;

use serde::{Deserialize, Serialize};

/// How bad, from the least.
///
/// CVSS' qualitative scale (FIRST, CVSS v3.1, section 5). A vendor's own word is kept beside it, never replaced by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// No effect: a base score of 0.
    None,
    /// 0.1 to 3.9.
    Low,
    /// 4.0 to 6.9.
    Medium,
    /// 7.0 to 8.9.
    High,
    /// 9.0 to 10.
    Critical,
}

/// Vendors' words. Red Hat's and those of its kin are critical, important, moderate, low; Debian's "unimportant" says that there
/// is no effect on security; Ubuntu's "negligible" is its lowest that still is one.
const WORDS: &[(&str, Severity)] = &[
    ("critical", Severity::Critical),
    ("important", Severity::High),
    ("high", Severity::High),
    ("moderate", Severity::Medium),
    ("medium", Severity::Medium),
    ("low", Severity::Low),
    ("negligible", Severity::Low),
    ("minor", Severity::Low),
    ("unimportant", Severity::None),
    ("none", Severity::None),
];

impl Severity {
    /// From the severest: numbers of the compiled form.
    pub(crate) const ALL: [Self; 5] = [
        Self::None,
        Self::Low,
        Self::Medium,
        Self::High,
        Self::Critical,
    ];

    /// What a vendor's word means; `None` for one that says nothing (`not yet assigned`, `untriaged`, `unspecified`).
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        let word = word.trim();
        let found = WORDS
            .iter()
            .find(|(known, _)| word.eq_ignore_ascii_case(known));
        found.map(|(_, severity)| *severity)
    }

    /// What a base score means; `None` for one that is none.
    #[must_use]
    pub fn of_score(score: f64) -> Option<Self> {
        match score {
            score if !(0.0..=10.0).contains(&score) => None,
            score if score < 0.1 => Some(Self::None),
            score if score < 4.0 => Some(Self::Low),
            score if score < 7.0 => Some(Self::Medium),
            score if score < 9.0 => Some(Self::High),
            _ => Some(Self::Critical),
        }
    }
}

/// The base score of a CVSS vector of version 2, 3 or 4; `None` for text that is no vector.
pub(crate) fn score_of(vector: &str) -> Option<f64> {
    let vector = vector.trim_matches(['(', ')']);
    // A vector of version 3 without one of its base metrics would be scored as if that were the least.
    let is_whole = |metrics: &[&str]| {
        metrics
            .iter()
            .all(|metric| vector.split('/').any(|part| part.starts_with(metric)))
    };
    if vector.starts_with("CVSS:3")
        && !is_whole(&["AV:", "AC:", "PR:", "UI:", "S:", "C:", "I:", "A:"])
    {
        return None;
    }
    cvss::Cvss::from_str(vector).ok().map(|cvss| cvss.score())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The guides' own examples: CVE-2002-0392, CVE-2003-0818 and CVE-2003-0062 of version 2's; of version 3.1's user guide.
    #[test]
    fn the_guides_examples_have_their_scores() {
        for (vector, score) in [
            ("AV:N/AC:L/Au:N/C:N/I:N/A:C", 7.8),
            ("AV:N/AC:L/Au:N/C:C/I:C/A:C", 10.0),
            ("(AV:L/AC:H/Au:N/C:C/I:C/A:C)", 6.2),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H", 7.5),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
            ("CVSS:3.0/AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N", 6.4),
            (
                "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:H/SI:H/SA:H",
                10.0,
            ),
        ] {
            let found = score_of(vector).unwrap();
            assert!((found - score).abs() < 0.001, "{vector}: {found}");
        }
        for text in ["", "CVSS:3.1/AV:N", "AV:N/AC:L", "CVSS:9.0/AV:N"] {
            assert_eq!(score_of(text), None, "{text}");
        }
    }

    #[test]
    fn scores_and_words_meet_on_one_scale() {
        for (score, severity) in [
            (0.0, Severity::None),
            (0.1, Severity::Low),
            (3.9, Severity::Low),
            (4.0, Severity::Medium),
            (6.9, Severity::Medium),
            (7.0, Severity::High),
            (8.9, Severity::High),
            (9.0, Severity::Critical),
            (10.0, Severity::Critical),
        ] {
            assert_eq!(Severity::of_score(score), Some(severity));
        }
        assert_eq!(Severity::of_score(10.1), None);
        assert_eq!(Severity::of_score(f64::NAN), None);
        assert_eq!(Severity::of_word(" IMPORTANT"), Some(Severity::High));
        assert_eq!(Severity::of_word("not yet assigned"), None);
    }
}
