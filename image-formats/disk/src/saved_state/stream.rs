//! Bytes in a row, from a file or from what unpacks it, through one buffer.

use std::io::Read;
use std::sync::Arc;

use dormouse_block::{Error, Result, Source};

use super::MAX_RATIO;

/// Bytes read at once, as [`super::STEP`].
const BUFFER: usize = 128 << 10;
/// Least that a packed state may hold, whatever its file's length.
const LEAST: u64 = 64 << 20;

/// Where the bytes come from.
enum Feed {
    Source {
        source: Arc<dyn Source>,
        at: u64,
    },
    Unpacked {
        from: Box<dyn Read>,
        at: u64,
        most: u64,
    },
}

/// A stream of bytes, big-endian numbers among them.
pub(super) struct Stream {
    feed: Feed,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Stream {
    /// The bytes of `source` from `at` on.
    pub(super) fn of(source: Arc<dyn Source>, at: u64) -> Self {
        Self::over(Feed::Source { source, at })
    }

    /// What `from` unpacks of a file of `packed` bytes.
    pub(super) fn unpacked(from: Box<dyn Read>, packed: u64) -> Self {
        Self::over(Feed::Unpacked {
            from,
            at: 0,
            most: packed.saturating_mul(MAX_RATIO).max(LEAST),
        })
    }

    fn over(feed: Feed) -> Self {
        Self {
            feed,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
        }
    }

    /// Where the next byte stands, in the file or in what was unpacked of it.
    pub(super) fn position(&self) -> u64 {
        let read = match &self.feed {
            Feed::Source { at, .. } | Feed::Unpacked { at, .. } => *at,
        };
        let waiting = self.end.saturating_sub(self.start);
        read.saturating_sub(u64::try_from(waiting).unwrap_or(0))
    }

    /// The file itself, when nothing was packed.
    pub(super) fn source(&self) -> Option<&Arc<dyn Source>> {
        match &self.feed {
            Feed::Source { source, .. } => Some(source),
            Feed::Unpacked { .. } => None,
        }
    }

    /// Goes on at another place of the file.
    pub(super) fn go_on_at(&mut self, place: u64) -> Result<()> {
        let Feed::Source { source, at } = &mut self.feed else {
            return Err(Error::corrupt(
                "a packed state leads to a place of its file",
            ));
        };
        if place > source.len() {
            return Err(Error::corrupt("a place beyond the end of the file").at_offset(place));
        }
        *at = place;
        (self.start, self.end) = (0, 0);
        Ok(())
    }

    fn waiting(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Reads on until `wanted` bytes wait, or nothing more comes.
    fn fill(&mut self, wanted: usize) -> Result<()> {
        if self.waiting().len() >= wanted {
            return Ok(());
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end = self.end.saturating_sub(self.start);
        self.start = 0;
        while self.end < wanted {
            let room = self.buffer.get_mut(self.end..).unwrap_or_default();
            let got = match &mut self.feed {
                Feed::Source { source, at } => {
                    let left = usize::try_from(source.len().saturating_sub(*at));
                    let step = left.unwrap_or(usize::MAX).min(room.len());
                    let part = room.get_mut(..step).unwrap_or_default();
                    source.read_exact_at(*at, part)?;
                    *at = at.saturating_add(u64::try_from(step).unwrap_or(u64::MAX));
                    step
                }
                Feed::Unpacked { from, at, most } => {
                    let got = from.read(room).map_err(broken)?;
                    *at = at.saturating_add(u64::try_from(got).unwrap_or(u64::MAX));
                    if *at > *most {
                        return Err(Error::limit(format!(
                            "a packed state holds more than {MAX_RATIO} times its file"
                        )));
                    }
                    got
                }
            };
            if got == 0 {
                break;
            }
            self.end = self.end.saturating_add(got);
        }
        Ok(())
    }

    fn cut(&self) -> Error {
        Error::corrupt("the saved state is cut off").at_offset(self.position())
    }

    /// The next `len` bytes, no more than [`BUFFER`].
    pub(super) fn take(&mut self, len: usize) -> Result<&[u8]> {
        self.fill(len)?;
        let from = self.start;
        let to = from.saturating_add(len);
        if to > self.end {
            return Err(self.cut());
        }
        self.start = to;
        let bytes = self.buffer.get(from..to);
        bytes.ok_or_else(|| Error::limit("more of a stream at once than its buffer holds"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// The next byte, which stays where it is; `None` at the end.
    pub(super) fn peek(&mut self) -> Result<Option<u8>> {
        self.fill(1)?;
        Ok(self.waiting().first().copied())
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A name behind its length of one byte.
    pub(super) fn name(&mut self) -> Result<String> {
        let len = self.byte()?;
        let bytes = self.take(usize::from(len))?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Leaves out `len` bytes.
    pub(super) fn skip(&mut self, len: u64) -> Result<()> {
        let mut left = len;
        while left > 0 {
            self.fill(1)?;
            let step = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(self.waiting().len());
            if step == 0 {
                return Err(self.cut());
            }
            self.start = self.start.saturating_add(step);
            left = left.saturating_sub(u64::try_from(step).unwrap_or(left));
        }
        Ok(())
    }
}

/// What an unpacker says; what its file said keeps its kind.
pub(super) fn broken(error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Error::corrupt("the packed state is cut off").because(error)
        }
        Err(error) => Error::corrupt("the packed state is broken").because(error),
    }
}

/// A source as unpackers read it.
pub(super) struct Packed {
    pub(super) source: Arc<dyn Source>,
    pub(super) at: u64,
}

impl Read for Packed {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.source.len().saturating_sub(self.at));
        let step = left.unwrap_or(usize::MAX).min(out.len());
        let part = out.get_mut(..step).unwrap_or_default();
        self.source
            .read_exact_at(self.at, part)
            .map_err(std::io::Error::other)?;
        self.at = self.at.saturating_add(u64::try_from(step).unwrap_or(0));
        Ok(step)
    }
}
