//! The content-addressed store: `<state>/sha256/<first two digits>/<digest>`.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use dormouse_block::{Digest, DigestReader, Error, Result};

/// Bytes by their digest. What stands under a digest is complete; what was being written when a process died is
/// removed when the store is next opened.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    partial: PathBuf,
}

impl Store {
    pub(crate) fn open(state: &Path) -> Result<Self> {
        let store = Self {
            folder: state.join("sha256"),
            partial: state.join("partial"),
        };
        let fail = |error| Error::io("cannot use the store", error).in_file(state.display());
        if store.partial.exists() {
            fs::remove_dir_all(&store.partial).map_err(fail)?;
        }
        fs::create_dir_all(&store.partial).map_err(fail)?;
        fs::create_dir_all(&store.folder).map_err(fail)?;
        Ok(store)
    }

    /// Where the bytes of `digest` stand once they are there.
    #[must_use]
    pub fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        self.folder
            .join(hex.get(..2).unwrap_or_default())
            .join(&hex)
    }

    /// Whether the bytes of `digest` are there.
    #[must_use]
    pub fn has(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Keeps `bytes`.
    ///
    /// # Errors
    /// `Io` when the host cannot.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.has(digest) {
            return Ok(digest);
        }
        let mut writer = self.writer()?;
        writer.write_all(bytes).map_err(|error| self.fail(error))?;
        self.keep(writer)
    }

    /// The bytes of `digest`, verified; `None` when they are not there.
    ///
    /// # Errors
    /// `Io` when the host cannot read them, `Corrupt` when they changed.
    pub fn get(&self, digest: Digest, limit: u64) -> Result<Option<Vec<u8>>> {
        let path = self.path(digest);
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = crate::host::read_bytes(&path, limit)?;
        if Digest::of(&bytes) != digest {
            return Err(Error::corrupt(
                "the stored bytes are not what their name says; remove the file",
            )
            .in_file(path.display()));
        }
        Ok(Some(bytes))
    }

    /// A file to write bytes to that are not known yet; [`Store::keep`] gives them their name.
    ///
    /// # Errors
    /// `Io` when the host cannot.
    pub fn writer(&self) -> Result<tempfile::NamedTempFile> {
        tempfile::NamedTempFile::new_in(&self.partial).map_err(|error| self.fail(error))
    }

    /// Keeps what was written to `writer`.
    ///
    /// # Errors
    /// `Io` when the host cannot.
    pub fn keep(&self, writer: tempfile::NamedTempFile) -> Result<Digest> {
        let mut reader = DigestReader::new(writer.reopen().map_err(|error| self.fail(error))?);
        let mut buf = vec![0; 1 << 20];
        while reader.read(&mut buf).map_err(|error| self.fail(error))? > 0 {}
        let (digest, _) = reader.finish();
        self.keep_as(writer, digest)?;
        Ok(digest)
    }

    /// Keeps what was written to `writer`, whose digest the caller computed while writing.
    ///
    /// # Errors
    /// `Io` when the host cannot.
    pub fn keep_as(&self, writer: tempfile::NamedTempFile, digest: Digest) -> Result<()> {
        let path = self.path(digest);
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(|error| self.fail(error))?;
        writer
            .as_file()
            .sync_data()
            .map_err(|error| self.fail(error))?;
        writer
            .persist(&path)
            .map_err(|error| self.fail(error.error))?;
        crate::host::sync_folder(folder)
    }

    fn fail(&self, error: std::io::Error) -> Error {
        Error::io("cannot write to the store", error).in_file(self.folder.display())
    }
}

/// A store of one command's own, gone with it.
pub struct StoreFolder {
    store: Store,
    _folder: tempfile::TempDir,
}

impl StoreFolder {
    /// A store in the host's folder for temporary files.
    ///
    /// # Errors
    /// `Io` when the host cannot.
    pub fn temporary() -> Result<Self> {
        let folder = tempfile::tempdir()
            .map_err(|error| Error::io("cannot make a temporary folder", error))?;
        Ok(Self {
            store: Store::open(folder.path())?,
            _folder: folder,
        })
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_under_its_name_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let digest = store.put(b"sleepy").unwrap();
        assert_eq!(store.get(digest, 100).unwrap().unwrap(), b"sleepy");
        fs::write(store.path(digest), b"awake").unwrap();
        assert!(store.get(digest, 100).is_err());
    }

    #[test]
    fn what_was_half_written_is_gone_when_the_store_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (_, left) = store.writer().unwrap().keep().unwrap();
        assert!(left.exists());
        Store::open(dir.path()).unwrap();
        assert!(!left.exists());
    }
}
