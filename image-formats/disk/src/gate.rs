//! The gate: who decides which further files an image may name.

use std::path::{Path, PathBuf};

use dormouse_block::{Error, Result};
use serde::{Deserialize, Serialize};

/// What a file is to the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The file that was asked for.
    Image,
    /// What an image reads where it has no data of its own.
    Backing,
    /// Where an image keeps its clusters, outside itself.
    DataFile,
    /// A part of a disk that is kept in several files.
    Extent,
    /// What a machine's description names as one of its disks.
    Disk,
    /// A part of a machine's description.
    Description,
    /// Memory or devices saved of a running machine.
    SavedState,
}

impl Role {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Backing => "backing file",
            Self::DataFile => "data file",
            Self::Extent => "extent",
            Self::Disk => "disk",
            Self::Description => "description",
            Self::SavedState => "saved state",
        }
    }
}

/// A reference inside an image to another file. The name is the image's, so it is not to be trusted.
#[derive(Debug, Clone, Copy)]
pub struct Reference<'a> {
    /// The file that holds the reference.
    pub from: &'a Path,
    /// What the other file would be to it.
    pub role: Role,
    /// Where the reference leads: the name, resolved against the folder of `from`.
    pub path: &'a Path,
}

/// Asked before any file that an image names is opened.
pub trait Gate: Send + Sync {
    /// The path to open instead of `reference.path`, if it may be opened at all.
    ///
    /// # Errors
    /// `Denied` when it may not, `Corrupt` when nothing is there.
    fn permit(&self, reference: &Reference<'_>) -> Result<PathBuf>;

    /// Folders in which a file is looked for whose own folder is known to another machine alone.
    fn folders(&self) -> &[PathBuf] {
        &[]
    }
}

/// Permits nothing: only images that stand alone can be opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct DenyAll;

impl Gate for DenyAll {
    fn permit(&self, reference: &Reference<'_>) -> Result<PathBuf> {
        Err(Error::denied(format!(
            "its {} {} may not be opened: no other file may",
            reference.role.as_str(),
            reference.path.display()
        ))
        .in_file(reference.from.display()))
    }
}

/// Permits files inside given folders, after every symbolic link is resolved.
#[derive(Debug, Clone, Default)]
pub struct LibraryGate {
    roots: Vec<PathBuf>,
}

impl LibraryGate {
    /// A gate that permits what lies inside `roots` (folders, or single files).
    ///
    /// # Errors
    /// `Io` when one of them cannot be resolved.
    pub fn new<P: AsRef<Path>>(roots: impl IntoIterator<Item = P>) -> Result<Self> {
        let roots = roots
            .into_iter()
            .map(|root| {
                // The folder of a bare file name is written as nothing.
                let root = match root.as_ref() {
                    empty if empty.as_os_str().is_empty() => Path::new("."),
                    root => root,
                };
                root.canonicalize()
                    .map_err(|error| Error::io("cannot resolve", error).in_file(root.display()))
            })
            .collect::<Result<_>>()?;
        Ok(Self { roots })
    }
}

impl Gate for LibraryGate {
    fn folders(&self) -> &[PathBuf] {
        &self.roots
    }

    fn permit(&self, reference: &Reference<'_>) -> Result<PathBuf> {
        let role = reference.role.as_str();
        let named = reference.path.display();
        // A name outside the folders is refused before the host is asked about it, so that the refusal tells
        // nobody whether the file exists; its links are resolved only when they could lead inside.
        let real = reference.path.canonicalize();
        let inside = |path: &Path| self.roots.iter().any(|root| path.starts_with(root));
        match real {
            Ok(real) if inside(&real) => Ok(real),
            Err(error) if inside(&lexical(reference.path)) => {
                let missing = error.kind() == std::io::ErrorKind::NotFound;
                let what = format!("its {role} {named} cannot be found");
                Err(if missing {
                    // The library lacks a file: the image is incomplete, the host is well.
                    Error::corrupt(what)
                } else {
                    Error::io(what, error)
                })
            }
            Ok(_) | Err(_) => Err(Error::denied(format!(
                "its {role} {named} lies outside the allowed folders; its folder must be allowed first"
            ))),
        }
        .map_err(|error| error.in_file(reference.from.display()))
    }
}

/// `path` made absolute by its nearest existing ancestor, without `..` after it.
fn lexical(path: &Path) -> PathBuf {
    let mut rest = Vec::new();
    let mut folder = path;
    loop {
        if let Ok(real) = folder.canonicalize() {
            return rest.iter().rev().fold(real, |path, name| path.join(name));
        }
        match (folder.parent(), folder.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name.to_owned());
                folder = parent;
            }
            _ => return path.to_owned(),
        }
        if folder.as_os_str().is_empty() {
            folder = Path::new(".");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_block::ErrorKind;

    fn ask(gate: &dyn Gate, path: &Path) -> Result<PathBuf> {
        gate.permit(&Reference {
            from: Path::new("overlay.qcow2"),
            role: Role::Backing,
            path,
        })
    }

    #[test]
    fn only_what_really_lies_inside_is_permitted() {
        let dir = tempfile::tempdir().unwrap();
        let library = dir.path().join("library");
        std::fs::create_dir(&library).unwrap();
        std::fs::write(library.join("base.raw"), b"x").unwrap();
        std::fs::write(dir.path().join("secret"), b"x").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), library.join("link")).unwrap();
        let gate = LibraryGate::new([&library]).unwrap();
        assert!(ask(&gate, &library.join("base.raw")).is_ok());
        assert!(ask(&gate, &library.join("../library/base.raw")).is_ok());
        for outside in [
            "link",
            "../secret",
            "/etc/passwd",
            "../nowhere",
            "/nowhere/at/all",
        ] {
            let error = ask(&gate, &library.join(outside)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{outside}: {error}");
            assert!(error.to_string().contains("overlay.qcow2"));
        }
        let missing = ask(&gate, &library.join("gone.raw")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Corrupt, "{missing}");
    }

    #[test]
    fn a_sibling_folder_with_the_same_beginning_is_outside() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["lib", "library"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("a.raw"), b"x").unwrap();
        }
        let gate = LibraryGate::new([dir.path().join("lib")]).unwrap();
        assert!(ask(&gate, &dir.path().join("library/a.raw")).is_err());
    }
}
