//! What dpkg's database says at the moment a script runs, as far as scripts can ask for it.

use std::collections::BTreeMap;

use crate::read_texts::ReadTexts;

/// The package database as `dpkg-query` would read it. File lists, diversions, overrides and alternatives are not here:
/// they are files of the draft (`/var/lib/dpkg/info/*.list` and so on), and are read and written there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// The native architecture, such as `amd64`.
    pub architecture: String,
    /// Foreign architectures, in the order they were added.
    pub foreign_architectures: Vec<String>,
    /// The records by package name; more than one where several architectures are installed.
    pub packages: BTreeMap<String, Vec<PackageView>>,
    /// Texts of the guest's scripts that were read before.
    pub read: ReadTexts,
}

/// One record of the package database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackageView {
    /// Its architecture.
    pub architecture: String,
    /// Whether it is `Multi-Arch: same`, so that its files in `info/` carry the architecture.
    pub multi_arch_same: bool,
    /// What is wanted: `install`, `hold`, `deinstall`, `purge` or `unknown`.
    pub want: String,
    /// `ok` or `reinstreq`.
    pub error: String,
    /// Its state: `installed`, `unpacked`, `half-configured`, `triggers-pending`, `config-files` and so on.
    pub state: String,
    /// The version that is installed or unpacked; none in state `not-installed`.
    pub version: Option<String>,
    /// `Config-Version`: the version last configured, where it differs from `version`.
    pub config_version: Option<String>,
    /// Its conffiles as the record lists them.
    pub conffiles: Vec<ConffileView>,
    /// Every other field by its usual name, such as `Provides` or `Source`.
    pub fields: BTreeMap<String, String>,
}

/// One line of a record's `Conffiles`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConffileView {
    /// The absolute path.
    pub path: String,
    /// The MD5 digest of the version's own file, or `newconffile`.
    pub md5: String,
    /// Whether the package no longer ships it.
    pub obsolete: bool,
    /// Whether the package asks for its removal on upgrade.
    pub remove_on_upgrade: bool,
}
