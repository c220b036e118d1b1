//! Pipeline definitions: profiles of the one sequence of stages.

use std::path::{Path, PathBuf};

use dormouse_block::{Digest, Error, Result};
use serde::{Deserialize, Serialize};

use crate::StageName;

/// Longest definition that is read, in bytes.
const MAX_DEFINITION: u64 = 1 << 20;

/// The shipped pipelines by name.
pub static SHIPPED_PIPELINES: &[(&str, &str)] = &[
    ("audit", include_str!("../../definitions/audit.toml")),
    ("demo", include_str!("../../definitions/demo.toml")),
    (
        "image-build",
        include_str!("../../definitions/image-build.toml"),
    ),
    (
        "pre-provision",
        include_str!("../../definitions/pre-provision.toml"),
    ),
];

/// A pipeline: which stages run, against what, within which limits.
///
/// Paths are taken relative to the library unless they are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Pipeline {
    /// What the run is called.
    pub name: String,
    /// One line about it.
    #[serde(default)]
    pub description: String,
    /// The last stage that runs; `report` always runs over what there is.
    #[serde(default = "Pipeline::last")]
    pub until: StageName,
    /// A shipped baseline's name, or a file.
    pub baseline: String,
    /// Folders that hold package repositories.
    #[serde(default)]
    pub repositories: Vec<PathBuf>,
    /// The keyring that the repositories' signatures are held against.
    #[serde(default)]
    pub keyring: Option<PathBuf>,
    /// What is patched.
    #[serde(default)]
    pub inject: Inject,
    /// In which form one bundle of all catch-up plans is written.
    #[serde(default)]
    pub bundle: BundleChoice,
    /// Further folders that backing files may come from; the library itself always may.
    #[serde(default)]
    pub allow_backing: Vec<PathBuf>,
    /// Bounds on one restore point.
    #[serde(default)]
    pub limits: Limits,
}

/// What a run patches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inject {
    /// Nothing: plans only.
    Never,
    /// The active state of every machine that is cold; all other points get a catch-up plan.
    #[default]
    Active,
    /// Every cold point, snapshots too, each into an image of its own.
    #[serde(skip)]
    Anything,
}

/// In which form a run writes a bundle of its catch-up plans and all package files that they need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BundleChoice {
    /// It writes none.
    #[default]
    None,
    /// A folder.
    Folder,
    /// An ISO 9660 image.
    Iso,
}

/// Bounds on the work for one restore point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes that may be read of host files while one restore point is inspected.
    pub inspect_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // A package database with everything on the way to it is some tens of MiB; hostile images ask for more.
        Self {
            inspect_bytes: 16 << 30,
        }
    }
}

impl Pipeline {
    fn last() -> StageName {
        StageName::Report
    }

    /// Reads a definition from a TOML file.
    ///
    /// # Errors
    /// `Io` when it cannot be read; `Corrupt` for a bad definition, naming line and key.
    pub fn read(path: &Path) -> Result<Self> {
        let text = crate::host::read_text(path, MAX_DEFINITION)?;
        Self::parse(&text).map_err(|error| error.in_file(path.display()))
    }

    /// Reads a definition from TOML text; unknown keys are errors.
    ///
    /// # Errors
    /// `Corrupt`, naming line and key.
    pub fn parse(text: &str) -> Result<Self> {
        toml::from_str(text)
            .map_err(|error| Error::corrupt("bad pipeline definition").because(error))
    }

    /// Whether `stage` runs.
    #[must_use]
    pub fn runs(&self, stage: StageName) -> bool {
        stage <= self.until || stage == StageName::Report
    }

    /// The digest that stands for this definition in a run's key.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(serde_json::to_vec(self).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_errors_that_name_them() {
        let error = Pipeline::parse("name = \"x\"\nbaseline = \"b\"\ncolour = 1\n").unwrap_err();
        let text = error.with_causes();
        assert!(text.contains("colour") && text.contains("line 3"), "{text}");
    }

    #[test]
    fn the_shipped_definitions_parse() {
        for (name, text) in SHIPPED_PIPELINES {
            assert_eq!(Pipeline::parse(text).unwrap().name, *name);
        }
    }
}
