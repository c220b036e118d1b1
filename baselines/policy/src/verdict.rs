//! The four answers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a restore point stands to a baseline. The order is that of severity, and the worst of several is their maximum:
/// what is known to be wrong outweighs what is not known.
///
/// A gate fails on the verdicts that its baseline names (exit code 1); `Indeterminate` that does not fail the gate is
/// incomplete coverage (exit code 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything was seen and is as the baseline wants it.
    Compliant,
    /// The files are as the baseline wants them; work of the first boot is outstanding.
    Pending,
    /// Nothing wrong was found, and something was not seen or could not be judged.
    Indeterminate,
    /// Something is not as the baseline wants it.
    NonCompliant,
}

impl Verdict {
    /// The verdict as facts spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compliant => "compliant",
            Self::Pending => "pending",
            Self::Indeterminate => "indeterminate",
            Self::NonCompliant => "non-compliant",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Compliant, Indeterminate, NonCompliant, Pending};

    #[test]
    fn the_worst_of_several_is_their_maximum() {
        assert_eq!(
            [Pending, NonCompliant, Compliant, Indeterminate]
                .iter()
                .max(),
            Some(&NonCompliant)
        );
        assert_eq!(
            [Pending, Compliant, Indeterminate].iter().max(),
            Some(&Indeterminate)
        );
        assert_eq!([Pending, Compliant].iter().max(), Some(&Pending));
    }
}
