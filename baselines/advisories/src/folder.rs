//! A repository's folder: files are opened inside it or not at all.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use dormouse_block::{Error, HostFile, Result, Source as _, read_vec_at};

use crate::payload::PayloadReader;
use crate::release::is_relative_path;

/// Folders below `dists/` looked into for suites: `bookworm`, `bookworm/updates`, and one more.
const MAX_DEPTH: usize = 3;
/// Folders of a repository without `dists/` looked into for flat suites.
const MAX_FLAT_DEPTH: usize = 2;
/// What a suite's place is known by.
const SIGNED: [&str; 2] = ["InRelease", "Release"];
/// What a folder of packages that nobody signed is known by.
pub(crate) const INDICES: [&str; 4] = ["Packages", "Packages.zst", "Packages.gz", "Packages.xz"];
/// Entries of `dists/` and the folders below it looked at.
const MAX_ENTRIES: usize = 100_000;

/// An existing folder, by its canonical path.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: PathBuf,
}

/// How a suite lies in its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layout {
    /// Below `dists/`, with components and architectures.
    Components,
    /// One folder with one index (`deb ./` in sources.list(5)).
    Flat,
}

/// One place where a signed file may be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The folder, relative to the repository's; empty for that itself.
    folder: String,
    pub(crate) layout: Layout,
}

impl Place {
    /// A file of the place, relative to the repository's folder.
    pub(crate) fn path(&self, file: &str) -> String {
        if self.folder.is_empty() {
            file.to_owned()
        } else {
            format!("{}/{file}", self.folder)
        }
    }

    /// The suite's folder below `dists/`; of a flat one its folder, `.` for the repository's own.
    pub(crate) fn name(&self) -> &str {
        match (self.layout, self.folder.as_str()) {
            (Layout::Components, folder) => folder.strip_prefix("dists/").unwrap_or(folder),
            (Layout::Flat, "") => ".",
            (Layout::Flat, folder) => folder,
        }
    }
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

    /// The name of the folder, by which a user speaks of it.
    pub(crate) fn name(&self) -> Option<&str> {
        self.root.file_name()?.to_str()
    }

    /// The places that hold an `InRelease` or `Release` file, in the order of their names, each once whatever links
    /// lead to it: below `dists/`, or the repository's own folder, or, where there are neither, the folders in it.
    /// A folder that has nothing but an index is one place.
    pub(crate) fn places(&self) -> Result<Vec<Place>> {
        let mut left = MAX_ENTRIES;
        let mut found = Vec::new();
        self.walk(
            "dists",
            MAX_DEPTH,
            Layout::Components,
            &mut left,
            &mut found,
        )?;
        if self.holds("", &SIGNED) {
            found.push(Place {
                folder: String::new(),
                layout: Layout::Flat,
            });
        }
        if found.is_empty() {
            self.walk("", MAX_FLAT_DEPTH, Layout::Flat, &mut left, &mut found)?;
        }
        if found.is_empty() && self.holds("", &INDICES) {
            found.push(Place {
                folder: String::new(),
                layout: Layout::Flat,
            });
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    fn holds(&self, folder: &str, files: &[&str]) -> bool {
        let folder = self.root.join(folder);
        files.iter().any(|file| folder.join(file).is_file())
    }

    fn walk(
        &self,
        folder: &str,
        depth: usize,
        layout: Layout,
        left: &mut usize,
        found: &mut Vec<Place>,
    ) -> Result<()> {
        let directory = self.root.join(folder);
        let fail =
            |error| Error::io("cannot list the repository", error).in_file(directory.display());
        if self.holds(folder, &SIGNED) {
            found.push(Place {
                folder: folder.to_owned(),
                layout,
            });
        }
        let Some(depth) = depth.checked_sub(1) else {
            return Ok(());
        };
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(fail(error)),
        };
        for entry in entries {
            let entry = entry.map_err(fail)?;
            *left = left.checked_sub(1).ok_or_else(|| {
                Error::limit("too many files in the repository").in_file(directory.display())
            })?;
            // A link names another suite's folder again (`stable` for `bookworm`): the signed names tell that anyway.
            if !entry.file_type().map_err(fail)?.is_dir() {
                continue;
            }
            let Some(part) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            let folder = if folder.is_empty() {
                part
            } else {
                format!("{folder}/{part}")
            };
            self.walk(&folder, depth, layout, left, found)?;
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
