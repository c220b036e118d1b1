//! One installed package, as a fact.

use dormouse_block::GuestPath;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::dpkg::{Record, Version};
use crate::{Family, OsRelease, Purl, State};

/// One package of one architecture.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its architecture, in its family's word; empty where the database has none.
    pub architecture: String,
    /// Its version as its family writes and compares it, with the epoch where it has one: `1:2.36-9`.
    pub version: String,
    /// The family whose database has it, and whose order its version has.
    pub family: Family,
    /// What it is, where that is no software of its own.
    #[serde(default, skip_serializing_if = "Kind::is_software")]
    pub kind: Kind,
    /// Its source package's name; its own where the database knows no other.
    pub source_name: String,
    /// Its source package's version, as far as the database says it: that of an rpm has no epoch.
    pub source_version: String,
    /// How far it is. Only [`Package::is_present`] ones have their version's files on the disk.
    pub state: State,
    /// The administrator holds it at its version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// The version last configured, where it is another one: the files are newer than the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured_version: Option<String>,
    /// Who made it, in the database's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// The module and stream that it was built in, such as `nodejs:18:9020020230718:rhel9`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// When it was installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed_at: Option<Timestamp>,
    /// The id of the key that it is signed with, in lower-case hexadecimal. Nothing here verifies that signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<String>,
    /// What its files take, in bytes, as the database says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The file or folder that it was found in, where its family has one for each package wherever it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<GuestPath>,
    /// The system's package whose file that is, where the system's own database says so: both are the same software.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned_by: Option<String>,
    /// Its package URL.
    pub purl: String,
}

/// What a record of a package database stands for.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Software.
    #[default]
    Software,
    /// A public key that the database keeps in the shape of a package (rpm's `gpg-pubkey`): trusted, not installed.
    Key,
}

impl Kind {
    fn is_software(&self) -> bool {
        *self == Self::Software
    }
}

impl Package {
    /// An installed package that is its own source and of which nothing else is known; the rest is filled in by
    /// whoever knows more.
    #[must_use]
    pub fn new(
        family: Family,
        name: &str,
        version: &str,
        architecture: &str,
        purl: &Purl<'_>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            architecture: architecture.to_owned(),
            version: version.to_owned(),
            family,
            kind: Kind::Software,
            source_name: name.to_owned(),
            source_version: version.to_owned(),
            state: State::Installed,
            hold: false,
            configured_version: None,
            vendor: None,
            module: None,
            installed_at: None,
            signing_key: None,
            size: None,
            location: None,
            owned_by: None,
            purl: purl.text(),
        }
    }

    /// The package of a record of dpkg's, in a system that package URLs call `distro`.
    pub(crate) fn of_dpkg(
        record: &Record,
        version: &Version,
        os: Option<&OsRelease>,
        distro: &str,
    ) -> Self {
        let text = |version: &Version| version.as_str().to_owned();
        let purl = Purl {
            family: Family::Dpkg,
            namespace: os.map_or("", |os| &os.id),
            name: &record.name,
            version: version.as_str(),
            qualifiers: &[("arch", &record.architecture), ("distro", distro)],
        };
        Self {
            source_name: record.source_name.clone(),
            source_version: text(record.source_version.as_ref().unwrap_or(version)),
            state: record.status.state.into(),
            hold: record.is_held(),
            configured_version: record.config_version.as_ref().map(text),
            size: record.installed_size.and_then(|kib| kib.checked_mul(1024)),
            ..Self::new(
                Family::Dpkg,
                &record.name,
                version.as_str(),
                &record.architecture,
                &purl,
            )
        }
    }

    /// Whether the files of its version are on the disk. A key is no software, and never present.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.kind == Kind::Software && self.state.has_files()
    }
}
