//! Package families: each has one version order.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::dpkg;

/// A kind of package database, and with it a version order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Debian, Ubuntu and their derivatives.
    Dpkg,
}

/// What the rest needs to know of a family.
struct Row {
    family: Family,
    name: &'static str,
    purl_type: &'static str,
    compare: fn(&str, &str) -> Ordering,
}

/// One line for each family.
static FAMILIES: &[Row] = &[Row {
    family: Family::Dpkg,
    name: "dpkg",
    purl_type: "deb",
    compare: dpkg::compare,
}];

impl Family {
    fn row(self) -> Option<&'static Row> {
        FAMILIES.iter().find(|row| row.family == self)
    }

    /// The family's name, as facts spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().map_or("", |row| row.name)
    }

    /// The `type` of the family's package URLs.
    #[must_use]
    pub fn purl_type(self) -> &'static str {
        self.row().map_or("generic", |row| row.purl_type)
    }

    /// Compares two versions in the family's own order.
    #[must_use]
    pub fn compare(self, a: &str, b: &str) -> Ordering {
        self.row()
            .map_or_else(|| a.cmp(b), |row| (row.compare)(a, b))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_its_line() {
        // A family without a line in the table would have no name.
        assert_eq!(Family::Dpkg.as_str(), "dpkg");
        assert_eq!(Family::Dpkg.purl_type(), "deb");
        assert_eq!(Family::Dpkg.compare("1.0~rc1", "1.0"), Ordering::Less);
    }
}
