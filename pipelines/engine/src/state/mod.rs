//! What outlasts a run: a database anyone can query, beside a content-addressed store.

mod database;
mod store;

use std::fs;
use std::path::{Path, PathBuf};

use dormouse_block::{Error, Result};
use rustix::fs::FlockOperation;

pub use database::{Database, FindingRow, PackageRow, PointRow, RunRow};
pub use store::{Store, StoreFolder};

/// An open state folder; one process at a time may run a pipeline in it.
pub struct State {
    folder: PathBuf,
    /// Finished work and answers.
    pub database: Database,
    /// Payloads and large facts.
    pub store: Store,
    _lock: fs::File,
}

impl State {
    /// Opens the state in `folder`, making it when it is missing, and holds it for this process.
    ///
    /// # Errors
    /// `Io` when the folder cannot be used, or another process holds it.
    pub fn open(folder: &Path) -> Result<Self> {
        let fail =
            |error| Error::io("cannot use the state folder", error).in_file(folder.display());
        fs::create_dir_all(folder).map_err(fail)?;
        let lock = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("lock"))
            .map_err(fail)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
            if errno == rustix::io::Errno::WOULDBLOCK {
                Error::io(
                    "another dormouse is running in the state folder",
                    errno.into(),
                )
                .in_file(folder.display())
            } else {
                fail(errno.into())
            }
        })?;
        Ok(Self {
            database: Database::open(&folder.join("dormouse.db"))?,
            store: Store::open(folder)?,
            folder: folder.to_owned(),
            _lock: lock,
        })
    }

    /// Where compiled indices of repositories are kept.
    #[must_use]
    pub fn index_folder(&self) -> PathBuf {
        self.folder.join("index")
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
