//! What a judgement must say of the suites that it leans on.

use dormouse_block::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Signer;

/// One suite of a repository, as it was signed. A fact: evidence carries it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Suite {
    /// Its folder below `dists/`.
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
    /// The signed file, relative to the repository's folder: `InRelease`, or `Release` beside its `Release.gpg`.
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

    /// Its codename, else its suite name, else its folder.
    #[must_use]
    pub fn name(&self) -> &str {
        self.codename
            .as_deref()
            .or(self.suite.as_deref())
            .unwrap_or(&self.directory)
    }
}
