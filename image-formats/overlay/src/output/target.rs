//! The file that is written: at any place, with holes where nothing was.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use dormouse_block::{Error, Result};

/// A new file.
pub(super) struct Target {
    file: File,
    path: PathBuf,
    len: u64,
}

impl Target {
    pub(super) fn new(file: File, path: PathBuf) -> Self {
        Self { file, path, len: 0 }
    }

    /// Writes `bytes` at `offset`.
    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|error| {
            Error::io("cannot write", error)
                .at_offset(offset)
                .in_file(self.path.display())
        })?;
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.grow(offset.saturating_add(len));
        Ok(())
    }

    /// Makes the file at least `len` bytes long.
    pub(super) fn grow(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Gives the file its length.
    pub(super) fn finish(self) -> Result<u64> {
        self.file
            .set_len(self.len)
            .map_err(|error| Error::io("cannot write", error).in_file(self.path.display()))?;
        Ok(self.len)
    }
}
