//! Package families: each has one database and one version order.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{OsRelease, apk, dpkg, language, pacman, rpm, snap, windows};

/// A kind of package database, and with it a version order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Debian, Ubuntu and their derivatives.
    Dpkg,
    /// Red Hat, Fedora, SUSE and their derivatives.
    Rpm,
    /// Alpine, Wolfi, postmarketOS.
    Apk,
    /// Arch Linux and its derivatives.
    Pacman,
    /// Windows' own component packages and hotfixes.
    Windows,
    /// Applications that Windows can uninstall.
    WindowsApplication,
    /// Snaps, by revision.
    Snap,
    /// Flatpaks, by branch.
    Flatpak,
    /// Python's packages.
    Python,
    /// Node's packages.
    Npm,
    /// Ruby's gems.
    Gem,
    /// Modules in programs written in Go.
    Go,
    /// Crates in programs written in Rust.
    Cargo,
}

/// What a family's packages make up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The operating system: a guest without any such database was not read.
    System,
    /// What is installed beside it: applications, and libraries of one language.
    Beside,
}

/// Whether the specification of a family's package URLs has names in small letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Letters {
    /// Capital ones become small.
    Small,
    /// They stay as they are.
    AsWritten,
}

/// What the rest needs to know of a family.
struct Row {
    family: Family,
    name: &'static str,
    purl_type: &'static str,
    letters: Letters,
    reach: Reach,
    /// `ID`s of os-release(5) of systems that are made of it; derivatives name one of them in `ID_LIKE`.
    systems: &'static [&'static str],
    compare: fn(&str, &str) -> Ordering,
}

/// One line for each family.
#[rustfmt::skip]
static FAMILIES: &[Row] = &[
    Row { family: Family::Dpkg, name: "dpkg", purl_type: "deb", letters: Letters::Small, reach: Reach::System, systems: &["debian", "ubuntu"], compare: dpkg::compare },
    Row { family: Family::Rpm, name: "rpm", purl_type: "rpm", letters: Letters::AsWritten, reach: Reach::System, systems: &["fedora", "rhel", "centos", "almalinux", "rocky", "ol", "amzn", "suse", "opensuse", "sles", "azurelinux", "mariner", "photon", "openEuler", "mageia"], compare: rpm::compare },
    Row { family: Family::Apk, name: "apk", purl_type: "apk", letters: Letters::Small, reach: Reach::System, systems: &["alpine", "wolfi", "chainguard", "postmarketos"], compare: apk::compare },
    Row { family: Family::Pacman, name: "pacman", purl_type: "alpm", letters: Letters::Small, reach: Reach::System, systems: &["arch", "archarm", "manjaro"], compare: pacman::compare },
    Row { family: Family::Windows, name: "windows", purl_type: "generic", letters: Letters::AsWritten, reach: Reach::System, systems: &["windows"], compare: windows::compare },
    Row { family: Family::WindowsApplication, name: "windows-application", purl_type: "generic", letters: Letters::AsWritten, reach: Reach::Beside, systems: &[], compare: windows::compare },
    Row { family: Family::Snap, name: "snap", purl_type: "generic", letters: Letters::AsWritten, reach: Reach::Beside, systems: &[], compare: snap::compare },
    Row { family: Family::Flatpak, name: "flatpak", purl_type: "generic", letters: Letters::AsWritten, reach: Reach::Beside, systems: &[], compare: windows::compare },
    Row { family: Family::Python, name: "python", purl_type: "pypi", letters: Letters::Small, reach: Reach::Beside, systems: &[], compare: language::compare_python },
    Row { family: Family::Npm, name: "npm", purl_type: "npm", letters: Letters::Small, reach: Reach::Beside, systems: &[], compare: language::compare_semver },
    Row { family: Family::Gem, name: "gem", purl_type: "gem", letters: Letters::AsWritten, reach: Reach::Beside, systems: &[], compare: language::compare_gem },
    Row { family: Family::Go, name: "go", purl_type: "golang", letters: Letters::Small, reach: Reach::Beside, systems: &[], compare: language::compare_semver },
    Row { family: Family::Cargo, name: "cargo", purl_type: "cargo", letters: Letters::AsWritten, reach: Reach::Beside, systems: &[], compare: language::compare_semver },
];

impl Family {
    /// Every family, in the table's order.
    pub fn all() -> impl Iterator<Item = Self> {
        FAMILIES.iter().map(|row| row.family)
    }

    fn row(self) -> Option<&'static Row> {
        FAMILIES.iter().find(|row| row.family == self)
    }

    /// The family that a system is made of, by its `ID` and then its `ID_LIKE`; `None` when none of them is known.
    #[must_use]
    pub fn of_system(os: &OsRelease) -> Option<Self> {
        std::iter::once(&os.id).chain(&os.id_like).find_map(|id| {
            let made_of = |row: &&Row| row.systems.contains(&id.as_str());
            FAMILIES.iter().find(made_of).map(|row| row.family)
        })
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

    pub(crate) fn purl_letters(self) -> Letters {
        self.row().map_or(Letters::AsWritten, |row| row.letters)
    }

    /// What its packages make up.
    #[must_use]
    pub fn reach(self) -> Reach {
        self.row().map_or(Reach::Beside, |row| row.reach)
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
        for (family, name, purl_type) in [
            (Family::Dpkg, "dpkg", "deb"),
            (Family::Rpm, "rpm", "rpm"),
            (Family::Apk, "apk", "apk"),
            (Family::Pacman, "pacman", "alpm"),
            (Family::Windows, "windows", "generic"),
        ] {
            assert_eq!(family.as_str(), name);
            assert_eq!(family.purl_type(), purl_type);
            assert_eq!(serde_json::to_string(&family).unwrap(), format!("{name:?}"));
            assert_eq!(family.compare("1.0", "1.1"), Ordering::Less, "{name}");
            assert_eq!(family.reach(), Reach::System);
        }
        assert_eq!(Family::Dpkg.compare("1.0~rc1", "1.0"), Ordering::Less);
        assert_eq!(Family::Rpm.compare("1.0^git1", "1.0"), Ordering::Greater);
        assert_eq!(Family::Apk.compare("1.0_rc1", "1.0"), Ordering::Less);
        assert_eq!(Family::Pacman.compare("1.0rc1", "1.0"), Ordering::Less);
    }

    #[test]
    fn a_derivative_is_made_of_what_it_is_like() {
        let of = |text: &str| Family::of_system(&OsRelease::parse(text.as_bytes()).unwrap());
        assert_eq!(of("ID=debian"), Some(Family::Dpkg));
        assert_eq!(
            of("ID=linuxmint\nID_LIKE=\"ubuntu debian\""),
            Some(Family::Dpkg)
        );
        assert_eq!(of("ID=anolis\nID_LIKE=\"rhel fedora\""), Some(Family::Rpm));
        assert_eq!(
            of("ID=opensuse-leap\nID_LIKE=\"suse opensuse\""),
            Some(Family::Rpm)
        );
        assert_eq!(of("ID=endeavouros\nID_LIKE=arch"), Some(Family::Pacman));
        assert_eq!(of("ID=cirros"), None);
    }
}
