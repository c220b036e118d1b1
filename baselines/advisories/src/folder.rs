//! A repository's folder: files are opened inside it or not at all.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use dormouse_block::{Error, HostFile, Result, Source as _, read_vec_at};

use crate::payload::PayloadReader;
use crate::release::is_relative_path;

/// Folders below `dists/` looked into for suites: `bookworm`, `bookworm/updates`, and one more.
const MAX_DEPTH: usize = 3;
/// Entries of `dists/` and the folders below it looked at.
const MAX_ENTRIES: usize = 100_000;

/// An existing folder, by its canonical path.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: PathBuf,
}

/// One place below `dists/` where a signed file may be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SuiteFolder {
    /// Relative to `dists/`.
    pub(crate) name: String,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let fail = |error| Error::io("cannot open the repository", error).in_file(path.display());
        let root = path.canonicalize().map_err(fail)?;
        if !root.is_dir() {
            return Err(Error::denied("the repository is no folder").in_file(path.display()));
        }
        Ok(Self { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Opens the file at `path` below the folder; `None` when there is none. A symbolic link may lead to another place
    /// in the folder, never out of it.
    pub(crate) fn file(&self, path: &str) -> Result<Option<HostFile>> {
        if !is_relative_path(path) {
            return Err(Error::denied(format!(
                "a path that leads out of the repository: {path:?}"
            )));
        }
        let whole = self.root.join(path);
        let real = match whole.canonicalize() {
            Ok(real) => real,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(Error::io("cannot open", error).in_file(whole.display())),
        };
        if !real.starts_with(&self.root) {
            return Err(
                Error::denied("a link that leads out of the repository").in_file(whole.display())
            );
        }
        HostFile::open(&real).map(Some)
    }

    /// The bytes of the file at `path`, at most `limit`; `None` when there is none.
    pub(crate) fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.file(path)? else {
            return Ok(None);
        };
        if file.len() > limit {
            return Err(Error::limit(format!("a file of more than {limit} bytes"))
                .in_file(file.path().display()));
        }
        let len = usize::try_from(file.len())
            .map_err(|_| Error::limit("a file too large for this host"))?;
        read_vec_at(&file, 0, len).map(Some)
    }

    /// The folders below `dists/` that hold an `InRelease` or `Release` file, in the order of their names, each once
    /// whatever links lead to it.
    pub(crate) fn suites(&self) -> Result<Vec<SuiteFolder>> {
        let dists = self.root.join("dists");
        let mut found = Vec::new();
        let mut left = MAX_ENTRIES;
        self.walk(&dists, "", MAX_DEPTH, &mut left, &mut found)?;
        found.sort();
        Ok(found)
    }

    fn walk(
        &self,
        directory: &Path,
        name: &str,
        depth: usize,
        left: &mut usize,
        found: &mut Vec<SuiteFolder>,
    ) -> Result<()> {
        let fail =
            |error| Error::io("cannot list the repository", error).in_file(directory.display());
        if ["InRelease", "Release"]
            .iter()
            .any(|file| directory.join(file).is_file())
        {
            found.push(SuiteFolder {
                name: name.to_owned(),
            });
        }
        let Some(depth) = depth.checked_sub(1) else {
            return Ok(());
        };
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(fail(error)),
        };
        for entry in entries {
            let entry = entry.map_err(fail)?;
            *left = left.checked_sub(1).ok_or_else(|| {
                Error::limit("too many files below dists").in_file(directory.display())
            })?;
            // A link names another suite's folder again (`stable` for `bookworm`): the signed names tell that anyway.
            if !entry.file_type().map_err(fail)?.is_dir() {
                continue;
            }
            let Some(part) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            let name = if name.is_empty() {
                part
            } else {
                format!("{name}/{part}")
            };
            self.walk(&entry.path(), &name, depth, left, found)?;
        }
        Ok(())
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
    )
}

/// The bytes of an open file from its first, in large steps.
pub(crate) fn stream(file: HostFile) -> BufReader<PayloadReader> {
    BufReader::with_capacity(256 << 10, PayloadReader::new(file))
}
