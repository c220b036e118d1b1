//! What a judgement must say of the suites that it leans on.

use dormouse_block::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Signer;

/// One suite of a repository, as it was signed. A fact: evidence carries it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Suite {
    /// Its folder below `dists/`; of a flat one its folder, `.` for the repository's own.
    pub directory: String,
    /// `Codename`, such as `bookworm-security`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codename: Option<String>,
    /// `Suite`, such as `oldstable-security`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<String>,
    /// `Origin`, such as `Debian`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// `Label`, such as `Debian-Security`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// `Version`, such as `12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `Date`: the instant that it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<Timestamp>,
    /// `Valid-Until`: from when on it is stale; absent means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
    /// Whether it was stale at the instant judged.
    pub stale: bool,
    /// `NotAutomatic: yes`: what it has is not to be taken unless asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_automatic: bool,
    /// `ButAutomaticUpgrades: yes`: what was taken from it is to be upgraded from it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub but_automatic_upgrades: bool,
    /// It is believed by its digest, which the user vouches for, and not by a signature.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vouched: bool,
    /// The signed file, relative to the repository's folder: `InRelease`, or `Release` beside its `Release.gpg`. Of one
    /// that is vouched for, the file whose digest that is: the index itself, where there is no Release file.
    pub release: String,
    /// Digest of that file.
    pub digest: Digest,
    /// Who signed it: every good signature by a key of the keyring.
    pub signers: Vec<Signer>,
    /// The indices that were read.
    pub indices: Vec<Index>,
}

/// One index of a suite.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Index {
    /// The file that was read, relative to the repository's folder.
    pub path: String,
    /// Its digest, which the Release file states.
    pub digest: Digest,
    /// Its bytes, as they lie there.
    pub size: u64,
    /// Packages in it.
    pub packages: usize,
}

impl Suite {
    /// Whether `name` is this suite's: its codename or its suite name, as signed; the folder's name only where the
    /// signed file has neither.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        if self.codename.is_none() && self.suite.is_none() {
            return self.directory == name;
        }
        self.codename.as_deref() == Some(name) || self.suite.as_deref() == Some(name)
    }

    /// Whether it is for security updates: its label, suite name, codename or folder says so, as Debian's and Ubuntu's do
    /// (`Debian-Security`, `bookworm-security`, `bullseye/updates`).
    #[must_use]
    pub fn is_security(&self) -> bool {
        let says = |text: &str| text.to_ascii_lowercase().contains("security");
        [&self.label, &self.suite, &self.codename]
            .into_iter()
            .flatten()
            .any(|text| says(text))
            || (self.codename.is_none() && self.suite.is_none() && says(&self.directory))
    }

    /// Its codename, else its suite name, else its folder.
    #[must_use]
    pub fn name(&self) -> &str {
        self.codename
            .as_deref()
            .or(self.suite.as_deref())
            .unwrap_or(&self.directory)
    }
}
