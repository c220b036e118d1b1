//! The host file, written from its beginning to its end: the last few MiB wait in memory, so that the host sees large
//! writes whatever the editor does.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use dormouse_block::{Error, Result};

use crate::layout::{CLUSTER, CLUSTER_LEN};

/// Bytes of new clusters that wait in memory.
const TAIL: usize = 4 << 20;

/// Bytes that are a large write by themselves, and need not wait.
const LARGE: usize = 512 << 10;

/// Appends clusters to a file, and changes those that were appended before.
pub(crate) struct Appender {
    file: File,
    path: PathBuf,
    /// Host offset of the first byte that waits in memory; everything before is in the file.
    tail_start: u64,
    tail: Vec<u8>,
}

impl Appender {
    /// Appends to `file` from the second cluster on: the header comes last, into the first.
    pub(crate) fn new(file: File, path: PathBuf) -> Self {
        Self {
            file,
            path,
            tail_start: CLUSTER,
            tail: Vec::new(),
        }
    }

    /// The host offset of the next cluster: the length of the file once all is written.
    pub(crate) fn end(&self) -> u64 {
        self.tail_start.saturating_add(length(self.tail.len()))
    }

    /// Where what waits in memory begins.
    pub(crate) fn waiting_from(&self) -> u64 {
        self.tail_start
    }

    fn failed(&self, what: &'static str, offset: u64, error: std::io::Error) -> Error {
        Error::io(what, error)
            .at_offset(offset)
            .in_file(self.path.display())
    }

    /// Brings what waits in memory to the file.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.file
            .write_all_at(&self.tail, self.tail_start)
            .map_err(|error| self.failed("cannot write", self.tail_start, error))?;
        self.tail_start = self.tail_start.saturating_add(length(self.tail.len()));
        self.tail.clear();
        Ok(())
    }

    /// Appends whole clusters and gives the host offset of the first.
    pub(crate) fn append(&mut self, clusters: &[u8]) -> Result<u64> {
        if clusters.len() >= LARGE && clusters.len().is_multiple_of(CLUSTER_LEN) {
            self.flush()?;
            let host = self.tail_start;
            self.file
                .write_all_at(clusters, host)
                .map_err(|error| self.failed("cannot write", host, error))?;
            self.tail_start = host.saturating_add(length(clusters.len()));
            return Ok(host);
        }
        if self.tail.len().saturating_add(clusters.len()) > TAIL {
            self.flush()?;
        }
        let host = self.tail_start.saturating_add(length(self.tail.len()));
        self.tail.extend_from_slice(clusters);
        self.tail
            .resize(self.tail.len().next_multiple_of(CLUSTER_LEN), 0);
        Ok(host)
    }

    /// Overwrites bytes of clusters that were appended before.
    pub(crate) fn overwrite(&mut self, host: u64, bytes: &[u8]) -> Result<()> {
        if let Some(at) = host.checked_sub(self.tail_start) {
            let part = usize::try_from(at)
                .ok()
                .and_then(|at| self.tail.get_mut(at..at.checked_add(bytes.len())?))
                .ok_or_else(|| Error::corrupt("a cluster lies behind the end of the layer"))?;
            part.copy_from_slice(bytes);
            return Ok(());
        }
        self.file
            .write_all_at(bytes, host)
            .map_err(|error| self.failed("cannot write", host, error))
    }

    /// Reads bytes of clusters that were appended before.
    pub(crate) fn fetch(&self, host: u64, buf: &mut [u8]) -> Result<()> {
        if let Some(at) = host.checked_sub(self.tail_start) {
            let part = usize::try_from(at)
                .ok()
                .and_then(|at| self.tail.get(at..at.checked_add(buf.len())?))
                .ok_or_else(|| Error::corrupt("a cluster lies behind the end of the layer"))?;
            buf.copy_from_slice(part);
            return Ok(());
        }
        self.file
            .read_exact_at(buf, host)
            .map_err(|error| self.failed("cannot read back", host, error))
    }

    /// Writes what is left, and the header cluster.
    pub(crate) fn finish(&mut self, header: &[u8]) -> Result<()> {
        self.flush()?;
        self.file
            .write_all_at(header, 0)
            .map_err(|error| self.failed("cannot write", 0, error))
    }
}

/// A length in memory as a length in a file.
pub(crate) fn length(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
