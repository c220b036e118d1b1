//! Byte sources: a length, and a positioned exact read.

use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::{Digest, Error, Result};

/// Positioned, read-only bytes. The bytes are untrusted; the source itself never changes them.
pub trait Source: Send + Sync {
    /// The number of bytes.
    fn len(&self) -> u64;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` with the bytes from `offset` on.
    ///
    /// # Errors
    /// A range that does not lie within [`Source::len`] is an error, as is a host that cannot read it.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// The next range at or after `offset` that may hold anything but zeroes, or `None` when only
    /// zeroes follow. The whole rest is always a right answer.
    ///
    /// # Errors
    /// When the map of what is allocated cannot be read.
    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        let end = self.len();
        Ok((offset < end).then_some(offset..end))
    }
}

impl<S: Source + ?Sized> Source for Arc<S> {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        (**self).read_exact_at(offset, buf)
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        (**self).next_data(offset)
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        (**self).read_exact_at(offset, buf)
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        (**self).next_data(offset)
    }
}

impl<S: Source + ?Sized> Source for &S {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        (**self).read_exact_at(offset, buf)
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        (**self).next_data(offset)
    }
}

/// Bytes in memory.
#[derive(Debug, Clone)]
pub struct Bytes(Arc<[u8]>);

impl Bytes {
    /// A source of these bytes.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }
}

impl Source for Bytes {
    fn len(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let from = usize::try_from(offset)
            .ok()
            .and_then(|start| self.0.get(start..start.checked_add(buf.len())?))
            .ok_or_else(|| beyond(offset, buf.len(), self.len()))?;
        buf.copy_from_slice(from);
        Ok(())
    }
}

/// A part of another source, such as a partition.
pub struct Window {
    inner: Arc<dyn Source>,
    start: u64,
    len: u64,
}

/// The `len` bytes of `inner` from `start` on.
///
/// # Errors
/// [`crate::ErrorKind::Corrupt`] when that range does not lie within `inner`.
pub fn window(inner: Arc<dyn Source>, start: u64, len: u64) -> Result<Window> {
    match start.checked_add(len) {
        Some(end) if end <= inner.len() => Ok(Window { inner, start, len }),
        _ => Err(Error::corrupt(format!(
            "{len} bytes are wanted of a source of {}",
            inner.len()
        ))
        .at_offset(start)),
    }
}

impl Source for Window {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = u64::try_from(buf.len())
            .ok()
            .and_then(|n| offset.checked_add(n));
        if end.is_none_or(|end| end > self.len) {
            return Err(beyond(offset, buf.len(), self.len));
        }
        let at = self
            .start
            .checked_add(offset)
            .ok_or_else(|| beyond(offset, buf.len(), self.len))?;
        self.inner.read_exact_at(at, buf)
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        if offset >= self.len {
            return Ok(None);
        }
        let end = self.start.saturating_add(self.len);
        let found = self.inner.next_data(self.start.saturating_add(offset))?;
        Ok(found.filter(|range| range.start < end).map(|range| {
            range.start.max(self.start).saturating_sub(self.start)
                ..range.end.min(end).saturating_sub(self.start)
        }))
    }
}

fn beyond(offset: u64, wanted: usize, len: u64) -> Error {
    Error::corrupt(format!("{wanted} bytes are wanted of a source of {len}")).at_offset(offset)
}

/// Reads `len` bytes at `offset` into a new buffer; `len` must have been held against a limit before.
///
/// # Errors
/// As [`Source::read_exact_at`]; the range is held against the source's length before anything is allocated.
pub fn read_vec_at(source: &dyn Source, offset: u64, len: usize) -> Result<Vec<u8>> {
    let end = u64::try_from(len).ok().and_then(|n| offset.checked_add(n));
    if end.is_none_or(|end| end > source.len()) {
        return Err(beyond(offset, len, source.len()));
    }
    let mut buf = vec![0; len];
    source.read_exact_at(offset, &mut buf)?;
    Ok(buf)
}

/// The SHA-256 digest of everything a guest can read from `source`, zeroes included.
///
/// # Errors
/// As [`Source::read_exact_at`].
pub fn digest_of(source: &dyn Source) -> Result<Digest> {
    const STEP: u64 = 1 << 20;
    let mut hasher = Sha256::new();
    let mut buf = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < source.len() {
        let step = STEP.min(source.len().saturating_sub(offset));
        let part = usize::try_from(step)
            .ok()
            .and_then(|n| buf.get_mut(..n))
            .ok_or_else(|| beyond(offset, 0, source.len()))?;
        source.read_exact_at(offset, part)?;
        hasher.update(&*part);
        offset = offset.saturating_add(step);
    }
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_never_reads_outside() {
        let inner: Arc<dyn Source> = Arc::new(Bytes::new((0..10).collect::<Vec<u8>>()));
        let part = window(inner.clone(), 4, 3).unwrap();
        assert_eq!(read_vec_at(&part, 0, 3).unwrap(), [4, 5, 6]);
        assert!(read_vec_at(&part, 1, 3).is_err());
        assert!(read_vec_at(&part, u64::MAX, 1).is_err());
        assert!(window(inner.clone(), 8, 3).is_err());
        assert!(window(inner, u64::MAX, 2).is_err());
        assert_eq!(part.next_data(1).unwrap(), Some(1..3));
        assert_eq!(part.next_data(3).unwrap(), None);
    }
}
