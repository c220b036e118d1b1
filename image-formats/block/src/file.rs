//! Host files, opened read-only.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, SeekFrom};
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result, Source};

/// What tells one state of a host file from another without reading it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Identity {
    /// Device and inode number of the host's filesystem.
    pub device: u64,
    /// See `device`.
    pub inode: u64,
    /// Bytes.
    pub len: u64,
    /// Seconds and nanoseconds of the last change of its bytes.
    pub modified: (i64, i64),
    /// Seconds and nanoseconds of the last change of its inode.
    pub changed: (i64, i64),
}

impl Identity {
    /// Whether both are states of one file with the same bytes; its name, owner or mode may differ.
    #[must_use]
    pub fn has_bytes_of(&self, other: &Self) -> bool {
        *self
            == Self {
                changed: self.changed,
                ..other.clone()
            }
    }
}

/// A file or block device of the host, opened read-only. It cannot be written through this.
#[derive(Debug)]
pub struct HostFile {
    file: File,
    path: PathBuf,
    len: u64,
    identity: Identity,
}

impl HostFile {
    /// Opens `path` for reading. Devices other than block devices, pipes and sockets are refused, and opening
    /// one never blocks.
    ///
    /// # Errors
    /// `Io` when the host cannot open it, `Denied` when it is neither a regular file nor a block device.
    pub fn open(path: &Path) -> Result<Self> {
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let fail = |error| Error::io("cannot open", error).in_file(path.display());
        #[expect(clippy::disallowed_methods, reason = "opens for reading only")]
        let file = File::options()
            .read(true)
            .custom_flags(nonblocking)
            .open(path)
            .map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        let kind = metadata.file_type();
        let len = if kind.is_file() {
            metadata.len()
        } else if kind.is_block_device() {
            rustix::fs::seek(&file, SeekFrom::End(0)).map_err(|errno| fail(errno.into()))?
        } else {
            return Err(
                Error::denied("neither a regular file nor a block device").in_file(path.display())
            );
        };
        Ok(Self {
            file,
            path: path.to_owned(),
            len,
            identity: identity(&metadata, len),
        })
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state of the file when it was opened.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The state of the file now: it differs from [`HostFile::identity`] when somebody has changed it meanwhile.
    ///
    /// # Errors
    /// `Io` when the host cannot say.
    pub fn identity_now(&self) -> Result<Identity> {
        let metadata = self
            .file
            .metadata()
            .map_err(|error| Error::io("cannot look at", error).in_file(self.path.display()))?;
        let len = if metadata.is_file() {
            metadata.len()
        } else {
            self.len
        };
        Ok(identity(&metadata, len))
    }

    /// The open file, for asking the host about locks on it.
    #[must_use]
    pub fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.file)
    }
}

fn identity(metadata: &std::fs::Metadata, len: u64) -> Identity {
    Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
        len,
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}

impl Source for HostFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(buf, offset).map_err(|error| {
            let wanted = buf.len();
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                Error::new(
                    ErrorKind::Corrupt,
                    format!("the file ends before {wanted} bytes could be read"),
                )
            } else {
                Error::io(format!("cannot read {wanted} bytes"), error)
            }
            .at_offset(offset)
            .in_file(self.path.display())
        })
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        if offset >= self.len {
            return Ok(None);
        }
        // A filesystem that keeps no map of holes answers with the whole rest, or not at all.
        let Ok(start) = rustix::fs::seek(&self.file, SeekFrom::Data(offset)) else {
            // ENXIO: only a hole follows; anything else: no map, so all of it may be data.
            return match rustix::fs::seek(&self.file, SeekFrom::Hole(offset)) {
                Ok(hole) if hole == offset => Ok(None),
                _ => Ok(Some(offset..self.len)),
            };
        };
        let end = rustix::fs::seek(&self.file, SeekFrom::Hole(start)).unwrap_or(self.len);
        Ok((start < self.len).then(|| start..end.clamp(start, self.len)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_file_is_corrupt_not_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.raw");
        std::fs::write(&path, b"abc").unwrap();
        let file = HostFile::open(&path).unwrap();
        let mut buf = [0; 4];
        let error = file.read_exact_at(0, &mut buf).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("disk.raw"));
    }

    #[test]
    fn another_name_is_no_other_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let state = |name: &str| {
            let file = HostFile::open(&dir.path().join(name)).unwrap();
            file.identity().clone()
        };
        std::fs::write(dir.path().join("a"), b"abc").unwrap();
        let first = state("a");
        std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        assert!(first.has_bytes_of(&state("b")));
        std::fs::write(dir.path().join("a"), b"abc").unwrap();
        assert!(!first.has_bytes_of(&state("a")));
        std::fs::write(dir.path().join("b"), b"abcd").unwrap();
        assert!(!first.has_bytes_of(&state("b")));
    }

    #[test]
    fn what_is_not_a_file_is_refused_without_blocking() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        assert_eq!(HostFile::open(&fifo).unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(
            HostFile::open(dir.path()).unwrap_err().kind(),
            ErrorKind::Denied
        );
    }

    #[test]
    fn holes_are_told_from_data() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparse");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        file.write_all_at(b"x", 512 << 10).unwrap();
        let sparse = HostFile::open(&path).unwrap();
        let data = sparse.next_data(0).unwrap().unwrap();
        assert!(data.contains(&(512 << 10)));
        assert_eq!(sparse.next_data(data.end).unwrap(), None);
    }
}
