//! Files compressed by Windows itself (`compact /exe`, the Windows overlay filter): the bytes lie packed in a stream of
//! their own, and the file's data is a hole of its size.

use std::sync::Arc;

use dormouse_block::{Error, Result, le_u32, le_u64};

use super::boot::Boot;
use super::node::Stream;
use super::table::Table;
use super::{lzx, xpress};
use crate::fat::{index, wide};

/// The name of the stream, `WofCompressedData`.
pub(super) const STREAM: &str = "WofCompressedData";

/// What the chunks are packed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// XPRESS, chunks of this many bytes.
    Xpress(usize),
    /// LZX, chunks of 32 KiB.
    Lzx,
}

impl Packing {
    /// Reads what follows the head of the reparse point.
    ///
    /// # Errors
    /// `Unsupported` for files in an image of another kind and unknown packings.
    pub(super) fn parse(body: &[u8]) -> Result<Self> {
        if le_u32(body, 0)? != 1 {
            return Err(Error::unsupported(
                "an unknown version of Windows's file compression",
            ));
        }
        match le_u32(body, 4)? {
            1 => {
                return Err(Error::unsupported(
                    "the file's bytes lie in a Windows image (WIMBoot), which is not read",
                ));
            }
            2 if le_u32(body, 8)? == 1 => {}
            _ => {
                return Err(Error::unsupported(
                    "an unknown provider of Windows's file compression",
                ));
            }
        }
        match le_u32(body, 12)? {
            0 => Ok(Self::Xpress(4 << 10)),
            1 => Ok(Self::Lzx),
            2 => Ok(Self::Xpress(8 << 10)),
            3 => Ok(Self::Xpress(16 << 10)),
            _ => Err(Error::unsupported(
                "an unknown packing of Windows's file compression",
            )),
        }
    }

    fn chunk(self) -> u64 {
        match self {
            Self::Xpress(size) => wide(size),
            Self::Lzx => wide(lzx::CHUNK),
        }
    }

    /// Fills `buf` from `offset` on of a file of `size` bytes packed in `stream`, within whose size it must lie. `held` is
    /// the chunk unpacked last, with its number.
    ///
    /// # Errors
    /// `Corrupt` for broken chunks.
    pub(super) fn read(
        self,
        (stream, size): (&Stream, u64),
        (table, boot): (&Table, &Boot),
        offset: u64,
        buf: &mut [u8],
        held: &mut Option<(u64, Arc<[u8]>)>,
    ) -> Result<()> {
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let nth = at.checked_div(self.chunk()).unwrap_or(0);
            let within = index(at.checked_rem(self.chunk()).unwrap_or(0));
            let chunk = match held {
                Some((number, chunk)) if *number == nth => chunk.clone(),
                _ => {
                    let chunk = self.unpack(stream, size, (table, boot), nth)?;
                    *held = Some((nth, chunk.clone()));
                    chunk
                }
            };
            let from = chunk
                .get(within..)
                .filter(|from| !from.is_empty())
                .ok_or_else(broken)?;
            let step = from.len().min(rest.len());
            let (to, after) = rest.split_at_mut_checked(step).ok_or_else(broken)?;
            to.copy_from_slice(from.get(..step).ok_or_else(broken)?);
            at = at.saturating_add(wide(step));
            rest = after;
        }
        Ok(())
    }

    /// Chunk `nth`. The stream begins with the end of each chunk but the last, counted from behind that table.
    fn unpack(
        self,
        stream: &Stream,
        size: u64,
        (table, boot): (&Table, &Boot),
        nth: u64,
    ) -> Result<Arc<[u8]>> {
        let chunks = size.div_ceil(self.chunk());
        let each: u64 = if size > u64::from(u32::MAX) { 8 } else { 4 };
        let head = chunks.saturating_sub(1).saturating_mul(each);
        let number = |nth: u64| -> Result<u64> {
            let mut raw = [0; 8];
            let raw = raw.get_mut(..index(each)).ok_or_else(broken)?;
            stream
                .read(table, boot, nth.saturating_mul(each), raw, &mut None)
                .map_err(|_| broken())?;
            if each == 8 {
                le_u64(raw, 0)
            } else {
                Ok(u64::from(le_u32(raw, 0)?))
            }
        };
        let data = stream.size().checked_sub(head).ok_or_else(broken)?;
        let start = match nth.checked_sub(1) {
            Some(before) => number(before)?,
            None => 0,
        };
        let end = if nth.saturating_add(1) < chunks {
            number(nth)?
        } else {
            data
        };
        let whole = self
            .chunk()
            .min(size.saturating_sub(nth.saturating_mul(self.chunk())));
        let len = end
            .checked_sub(start)
            .filter(|len| *len <= whole && end <= data)
            .ok_or_else(broken)?;
        let mut packed = vec![0; index(len)];
        let from = head.checked_add(start).ok_or_else(broken)?;
        stream.read(table, boot, from, &mut packed, &mut None)?;
        if len == whole {
            return Ok(packed.into());
        }
        let mut out = vec![0; index(whole)];
        match self {
            Self::Xpress(_) => xpress::unpack(&packed, &mut out)?,
            Self::Lzx => lzx::unpack(&packed, &mut out)?,
        }
        Ok(out.into())
    }
}

fn broken() -> Error {
    Error::corrupt("broken file compression of Windows")
}
