//! One file of a guest, read here and there.

use std::sync::Arc;

use dormouse_block::{Error, GuestPath, Locator, Result, Source};
use dormouse_filesystem::{Follow, Guest, NodeId, NodeKind, Tree};

/// Bytes read at once: what follows is wanted next more often than not.
const WINDOW: usize = 64 << 10;

/// A file and the part of it that was read last.
pub(crate) struct GuestFile {
    tree: Arc<dyn Tree>,
    node: NodeId,
    len: u64,
    path: GuestPath,
    start: u64,
    window: Vec<u8>,
}

impl GuestFile {
    /// The regular file at `path`; `None` when there is none.
    ///
    /// # Errors
    /// The filesystem's.
    pub(crate) fn open(guest: &Guest, path: &GuestPath) -> Result<Option<Self>> {
        let Some(at) = guest.resolve(path, Follow::Links)? else {
            return Ok(None);
        };
        let Some(mount) = guest.mounts().get(at.mount) else {
            return Ok(None);
        };
        let metadata = mount.tree.metadata(at.node)?;
        Ok((metadata.kind == NodeKind::File).then(|| Self {
            tree: mount.tree.clone(),
            node: at.node,
            len: metadata.size,
            path: at.path,
            start: 0,
            window: Vec::new(),
        }))
    }

    /// Bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Where it is, without links.
    pub(crate) fn path(&self) -> &GuestPath {
        &self.path
    }

    /// The `len` bytes from `offset` on. `len` must have been held against a limit before.
    ///
    /// # Errors
    /// `Corrupt` when the file ends before them; the filesystem's.
    pub(crate) fn read(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        let at = offset
            .checked_sub(self.start)
            .and_then(|at| usize::try_from(at).ok());
        let known = at.and_then(|at| Some(at..at.checked_add(len)?));
        let known = match known.filter(|range| range.end <= self.window.len()) {
            Some(range) => range,
            None => {
                self.fill(offset, len)?;
                0..len
            }
        };
        self.window
            .get(known)
            .ok_or_else(|| Error::corrupt("the file ends early").at_offset(offset))
    }

    fn fill(&mut self, offset: u64, len: usize) -> Result<()> {
        let left = self.len.saturating_sub(offset);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        if left < len {
            return Err(
                Error::corrupt(format!("{len} bytes are wanted where {left} are left"))
                    .at_offset(offset)
                    .located(&Locator::default().path(self.path.clone())),
            );
        }
        self.window.resize(len.max(WINDOW.min(left)), 0);
        self.start = offset;
        let mut filled = 0_usize;
        while let Some(rest) = self
            .window
            .get_mut(filled..)
            .filter(|rest| !rest.is_empty())
        {
            let from = offset.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
            let n = self.tree.read_at(self.node, from, rest)?;
            if n == 0 {
                self.window.clear();
                return Err(Error::corrupt("the file ends before its size").at_offset(from));
            }
            filled = filled.saturating_add(n);
        }
        Ok(())
    }
}

/// A file whose parts are wanted in no order.
pub(crate) struct Scattered {
    tree: Arc<dyn Tree>,
    node: NodeId,
    len: u64,
}

impl From<GuestFile> for Scattered {
    fn from(file: GuestFile) -> Self {
        Self {
            tree: file.tree,
            node: file.node,
            len: file.len,
        }
    }
}

impl Source for Scattered {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, mut buf: &mut [u8]) -> Result<()> {
        let mut at = offset;
        while !buf.is_empty() {
            let n = self.tree.read_at(self.node, at, buf)?;
            if n == 0 {
                return Err(Error::corrupt("the file ends before its size").at_offset(at));
            }
            let (_, rest) = buf.split_at_mut_checked(n).unwrap_or((&mut [], &mut []));
            buf = rest;
            at = at.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        }
        Ok(())
    }
}
