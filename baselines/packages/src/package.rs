//! One installed package, as a fact.

use serde::{Deserialize, Serialize};

use crate::dpkg::{Record, State, Version};
use crate::purl::purl;
use crate::{Family, OsRelease};

/// One package of one architecture.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its architecture, in its family's word; empty where the database has none.
    pub architecture: String,
    /// Its version, as the database writes it.
    pub version: String,
    /// Its source package's name.
    pub source_name: String,
    /// Its source package's version.
    pub source_version: String,
    /// How far it is. Only [`Package::is_present`] ones have their version's files on the disk.
    pub state: State,
    /// The administrator holds it at its version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// The version last configured, where it is another one: the files are newer than the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured_version: Option<String>,
    /// Its package URL.
    pub purl: String,
}

impl Package {
    pub(crate) fn of_dpkg(record: &Record, version: &Version, os: Option<&OsRelease>) -> Self {
        let text = |version: &Version| version.as_str().to_owned();
        Self {
            name: record.name.clone(),
            architecture: record.architecture.clone(),
            version: text(version),
            source_name: record.source_name.clone(),
            source_version: text(record.source_version.as_ref().unwrap_or(version)),
            state: record.status.state,
            hold: record.is_held(),
            configured_version: record.config_version.as_ref().map(text),
            purl: purl(
                Family::Dpkg.purl_type(),
                os.map_or("", |os| &os.id),
                &record.name,
                version.as_str(),
                &record.architecture,
                &os.map(OsRelease::distro).unwrap_or_default(),
            ),
        }
    }

    /// Whether the files of its version are on the disk.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.state.has_files()
    }
}
