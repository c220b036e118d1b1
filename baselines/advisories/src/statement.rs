//! The one model that every feed is read into: an advisory, and what it states of packages.

use dormouse_packages::Family;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::Severity;

/// What a statement says of the versions in its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// They are affected.
    Affected,
    /// They never were.
    NotAffected,
    /// They were, and are mended.
    Fixed,
    /// Nobody knows yet.
    UnderInvestigation,
}

/// Which of a package's names a statement speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Names {
    /// The name that is installed; the range is of its version.
    Binary,
    /// The name of the source package; the range is of the source's version.
    Source,
    /// The feed does not say which: the installed name before the source's.
    Either,
}

/// One statement of a feed: these versions of a package in a release are affected, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement<'a> {
    /// Whose order the versions have.
    pub family: Family,
    /// The package.
    pub package: &'a str,
    /// Which name that is.
    pub names: Names,
    /// The release that it is for: `debian:12`, `debian:bookworm`, `arch:`, a CPE (`cpe:/o:redhat:enterprise_linux:9::baseos`), a
    /// package URL's (`purl/debian:12`), or empty for every system.
    pub release: &'a str,
    /// The architectures that it is for, with blanks between them; empty for all.
    pub architectures: &'a str,
    /// The module stream that it is for: `name:stream`, [`SOME_MODULE`] where the vendor does not say which, or empty for packages
    /// of no module.
    pub module: &'a str,
    /// What it says.
    pub status: Status,
    /// The first version of the range; from the beginning where absent.
    pub introduced: Option<&'a str>,
    /// The first version after the range.
    pub fixed: Option<&'a str>,
    /// The last version of the range.
    pub last_affected: Option<&'a str>,
    /// The vendor's own word for its state, or a justification.
    pub note: Option<&'a str>,
    /// The advisory that shipped the mended version, where that is another than the statement's own.
    pub shipped_by: Option<&'a str>,
}

/// The module of a modular package or statement whose stream is not said.
pub const SOME_MODULE: &str = "?";

/// One advisory of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advisory<'a> {
    /// Its name, such as `RHSA-2024:4546`, `DSA-5000-1` or `CVE-2024-1234`.
    pub id: &'a str,
    /// The CVEs that it is about.
    pub cves: Vec<&'a str>,
    /// Its other names.
    pub aliases: Vec<&'a str>,
    /// How bad, in the vendor's own word.
    pub word: Option<&'a str>,
    /// How bad, from that word, else from the CVSS score.
    pub severity: Option<Severity>,
    /// The CVSS vector.
    pub vector: Option<&'a str>,
    /// The CVSS base score.
    pub score: Option<&'a str>,
    /// When it was first said.
    pub published: Option<Timestamp>,
    /// When it was last changed.
    pub modified: Option<Timestamp>,
    /// It does not count any more.
    pub withdrawn: bool,
    /// Where more is said: the first four addresses.
    pub references: Vec<&'a str>,
}

/// How far the exploitation of a CVE has gone, as SSVC's decision point says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exploitation {
    /// No evidence of it.
    None,
    /// There is a public proof of concept.
    Poc,
    /// It happens.
    Active,
}

/// What feeds that speak of CVEs alone know of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known<'a> {
    /// It is exploited: a catalogue lists it, or its exploitation is active.
    pub exploited: bool,
    /// Since when the catalogue has it.
    pub since: Option<Date>,
    /// Until when the catalogue wants it mended.
    pub due: Option<Date>,
    /// The catalogue knows of its use by ransomware.
    pub ransomware: bool,
    /// The probability that it is exploited within 30 days, as the scores write it.
    pub epss: Option<&'a str>,
    /// SSVC's exploitation.
    pub exploitation: Option<Exploitation>,
    /// SSVC's automatable.
    pub automatable: Option<bool>,
    /// Whether SSVC's technical impact is total.
    pub total_impact: Option<bool>,
}

/// An advisory as a feed's reader gives it.
#[derive(Debug, Clone, Default)]
pub(crate) struct AdvisoryDraft {
    pub(crate) id: String,
    pub(crate) cves: Vec<String>,
    pub(crate) aliases: Vec<String>,
    pub(crate) word: Option<String>,
    pub(crate) severity: Option<Severity>,
    pub(crate) vector: Option<String>,
    pub(crate) score: Option<String>,
    pub(crate) published: Option<Timestamp>,
    pub(crate) modified: Option<Timestamp>,
    pub(crate) withdrawn: bool,
    pub(crate) references: Vec<String>,
}

/// A statement as a feed's reader gives it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub(crate) family: Family,
    pub(crate) package: String,
    pub(crate) names: Names,
    pub(crate) release: String,
    pub(crate) architectures: String,
    pub(crate) module: String,
    pub(crate) status: Status,
    pub(crate) introduced: String,
    pub(crate) fixed: String,
    pub(crate) last_affected: String,
    pub(crate) note: String,
    pub(crate) shipped_by: String,
}

impl Claim {
    /// That every version of `package` is affected; the rest is filled in by whoever knows more.
    pub(crate) fn new(family: Family, package: &str, names: Names, release: &str) -> Self {
        Self {
            family,
            package: package.to_owned(),
            names,
            release: release.to_owned(),
            architectures: String::new(),
            module: String::new(),
            status: Status::Affected,
            introduced: String::new(),
            fixed: String::new(),
            last_affected: String::new(),
            note: String::new(),
            shipped_by: String::new(),
        }
    }

    /// Every version before `fixed` is affected. "Version equals 0" is how vendors say that none is.
    pub(crate) fn fixed_in(mut self, fixed: &str) -> Self {
        if is_zero(fixed) {
            self.status = Status::NotAffected;
        } else {
            fixed.clone_into(&mut self.fixed);
        }
        self
    }
}

/// Whether a version is one of the ways to write "none": `0`, `0:0`, `0:0-0`.
pub(crate) fn is_zero(version: &str) -> bool {
    version.contains('0') && version.chars().all(|c| matches!(c, '0' | ':' | '-'))
}
