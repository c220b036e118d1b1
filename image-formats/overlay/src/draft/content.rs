//! Where the bytes of a draft's files are, and reading them.

use std::io::Read;
use std::sync::Arc;

use dormouse_block::{Digest, Error, GuestPath, Locator, Result};
use dormouse_filesystem::{Follow, Guest, NodeId, Tree};

use super::{Draft, DraftNode, Drafted};

/// Bytes that are set aside for a file because of its size alone.
const MAX_BELIEVED: usize = 1 << 20;

/// Where a file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// Here.
    Bytes(Arc<[u8]>),
    /// In a verified payload.
    Payload {
        /// The package file's digest.
        payload: Digest,
        /// Where they begin in its unpacked data archive.
        offset: u64,
        /// How many they are.
        size: u64,
    },
    /// In the base: the file that is at this path there, free of symbolic links.
    Base {
        /// That path.
        path: GuestPath,
        /// How many they are.
        size: u64,
    },
}

impl Content {
    /// Content held in memory.
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::Bytes(bytes.into())
    }

    /// The number of bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::Payload { size, .. } | Self::Base { size, .. } => *size,
        }
    }
}

/// Opens the bytes of a payload: the package file's digest, where they begin in its data archive, how many.
pub type PayloadReader = Arc<dyn Fn(Digest, u64, u64) -> Result<Box<dyn Read>> + Send + Sync>;

impl Draft {
    /// Opens the bytes that `content` names.
    ///
    /// # Errors
    /// A broken base or payload.
    pub fn open(&self, content: &Content) -> Result<Box<dyn Read + '_>> {
        match content {
            Content::Bytes(bytes) => Ok(Box::new(std::io::Cursor::new(bytes.clone()))),
            Content::Payload {
                payload,
                offset,
                size,
            } => (self.payloads)(*payload, *offset, *size),
            Content::Base { path, size } => {
                Ok(Box::new(BaseReader::open(&self.base, path, *size)?))
            }
        }
    }

    /// Up to `length` bytes of `content` from `offset` on, fewer at its end, without reading what stands before.
    ///
    /// # Errors
    /// A broken base or payload.
    pub fn read_part(&self, content: &Content, offset: u64, length: usize) -> Result<Vec<u8>> {
        let left = content.size().saturating_sub(offset);
        let length = u64::try_from(length).unwrap_or(u64::MAX).min(left);
        let reader: Box<dyn Read + '_> = match content {
            Content::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = bytes.get(start..).unwrap_or_default();
                Box::new(std::io::Cursor::new(rest))
            }
            Content::Payload {
                payload,
                offset: start,
                ..
            } => (self.payloads)(*payload, start.saturating_add(offset), length)?,
            Content::Base { path, size } => {
                let mut reader = BaseReader::open(&self.base, path, *size)?;
                reader.offset = offset;
                Box::new(reader)
            }
        };
        let mut out = room_for(length);
        reader
            .take(length)
            .read_to_end(&mut out)
            .map_err(|error| Error::io("cannot read a file's content", error))?;
        Ok(out)
    }

    /// The bytes of the regular file at `path`, symbolic links followed; `None` when there is none.
    ///
    /// # Errors
    /// `Limit` for more than `limit` bytes; otherwise as [`Draft::open`].
    pub fn read(&self, path: &GuestPath, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(Drafted {
            node: DraftNode::File(content),
            ..
        }) = self.get(path, Follow::Links)?
        else {
            return Ok(None);
        };
        let located = |error: Error| error.located(&Locator::default().path(path.clone()));
        if content.size() > limit {
            return Err(located(Error::limit(format!(
                "the file has {} bytes; at most {limit} are read",
                content.size()
            ))));
        }
        let mut out = room_for(content.size());
        self.open(&content)
            .map_err(located)?
            .take(limit)
            .read_to_end(&mut out)
            .map_err(|error| located(Error::io("cannot read a file's content", error)))?;
        Ok(Some(out))
    }
}

/// Room for so many bytes, as far as a size that nobody checked is believed.
fn room_for(size: u64) -> Vec<u8> {
    Vec::with_capacity(
        usize::try_from(size)
            .unwrap_or(MAX_BELIEVED)
            .min(MAX_BELIEVED),
    )
}

/// Reads a file of the base in order.
struct BaseReader<'a> {
    tree: &'a dyn Tree,
    node: NodeId,
    offset: u64,
    size: u64,
}

impl<'a> BaseReader<'a> {
    fn open(guest: &'a Guest, path: &GuestPath, size: u64) -> Result<Self> {
        let missing =
            || Error::corrupt("no such file").located(&Locator::default().path(path.clone()));
        let at = guest.resolve(path, Follow::No)?.ok_or_else(missing)?;
        let mount = guest.mounts().get(at.mount).ok_or_else(missing)?;
        Ok(Self {
            tree: mount.tree.as_ref(),
            node: at.node,
            offset: 0,
            size,
        })
    }
}

impl Read for BaseReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let wanted = buf.len().min(left);
        let Some(part) = buf.get_mut(..wanted).filter(|part| !part.is_empty()) else {
            return Ok(0);
        };
        let n = self
            .tree
            .read_at(self.node, self.offset, part)
            .map_err(std::io::Error::other)?;
        self.offset = self
            .offset
            .saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        Ok(n)
    }
}
