//! A package file whose digest has been checked over all its bytes.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use dormouse_block::{Digest, Error, HostFile, Result, Source, digest_of};

/// A `.deb` that is, byte for byte, the one that the signed index names.
///
/// It is read through the very file handle that was checked, so that another file put in its place is never seen.
#[derive(Debug, Clone)]
pub struct VerifiedPayload {
    file: Arc<HostFile>,
    digest: Digest,
}

impl VerifiedPayload {
    /// Checks size and digest of the whole file before any byte of it is handed out.
    ///
    /// # Errors
    /// `Denied` when either differs, `Io` when it cannot be read.
    pub(crate) fn check(file: HostFile, size: u64, digest: Digest) -> Result<Self> {
        let path = file.path().display().to_string();
        if file.len() != size {
            let why = format!(
                "the payload has {} bytes; its index says {size}",
                file.len()
            );
            return Err(Error::denied(why).in_file(path));
        }
        let found = digest_of(&file)?;
        if found != digest {
            let why = format!("the payload is {found}; its index says {digest}");
            return Err(Error::denied(why).in_file(path));
        }
        Ok(Self {
            file: Arc::new(file),
            digest,
        })
    }

    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.file.len()
    }

    /// The bytes, by position.
    #[must_use]
    pub fn source(&self) -> Arc<dyn Source> {
        self.file.clone()
    }

    /// The bytes, from the first.
    #[must_use]
    pub fn reader(&self) -> PayloadReader {
        PayloadReader {
            file: self.file.clone(),
            at: 0,
        }
    }
}

/// Reads a payload from its first byte on; independent of other readers of the same one.
#[derive(Debug)]
pub struct PayloadReader {
    file: Arc<HostFile>,
    at: u64,
}

impl PayloadReader {
    pub(crate) fn new(file: HostFile) -> Self {
        Self {
            file: Arc::new(file),
            at: 0,
        }
    }
}

impl Read for PayloadReader {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.file.len().saturating_sub(self.at)).unwrap_or(usize::MAX);
        let n = left.min(buf.len());
        let part = buf.get_mut(..n).unwrap_or_default();
        self.file
            .read_exact_at(self.at, part)
            .map_err(|error| std::io::Error::other(error.with_causes()))?;
        self.at = self.at.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        Ok(n)
    }
}

impl Seek for PayloadReader {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let (base, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::End(by) => (self.file.len(), by),
            SeekFrom::Current(by) => (self.at, by),
        };
        let before =
            || std::io::Error::new(std::io::ErrorKind::InvalidInput, "before the first byte");
        self.at = base.checked_add_signed(by).ok_or_else(before)?;
        Ok(self.at)
    }
}
