//! Forks of an inode: where the bytes of a file, or its attributes, are; and the records of extents.

use dormouse_block::{Error, Result, be_u16, be_u64, slice_at};

use super::btree::{MAX_LEVELS, up_to};

/// Bytes of an extent's record.
pub(super) const RECORD: usize = 16;
/// Logical blocks that a record can name: 54 bits.
const MAX_LOGICAL: u64 = 1 << 54;

/// Which fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// The bytes of a file, the entries of a directory.
    Data,
    /// The extended attributes.
    Attributes,
}

/// How a fork keeps what it holds (`di_format`, `di_aformat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A device's number.
    Device,
    /// In the inode itself.
    Local,
    /// A list of extents in the inode.
    Extents,
    /// A btree of extents, whose root is in the inode.
    Btree,
}

/// A fork of an inode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fork<'a> {
    /// How it keeps things.
    pub(super) format: Format,
    /// Its part of the inode.
    pub(super) bytes: &'a [u8],
    /// Extents of it, all levels together.
    pub(super) extents: u64,
}

/// Consecutive logical blocks in consecutive filesystem blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// The first logical block, below 2^54.
    pub(super) logical: u64,
    /// The first filesystem block, below 2^52.
    pub(super) block: u64,
    /// How many, 1 to 2^21 - 1.
    pub(super) len: u64,
    /// Whether they were written; if not they are read as zeroes.
    pub(super) written: bool,
}

/// Record `nth` of `bytes`: a flag, 54 bits of logical block, 52 bits of filesystem block, 21 bits of length.
pub(super) fn extent(bytes: &[u8], nth: usize) -> Result<Extent> {
    let at = nth.saturating_mul(RECORD);
    let high = be_u64(bytes, at)?;
    let low = be_u64(bytes, at.saturating_add(8))?;
    Ok(Extent {
        logical: (high >> 9) & MAX_LOGICAL.saturating_sub(1),
        block: ((high & 0x1FF) << 43) | (low >> 21),
        len: low & 0x1F_FFFF,
        written: high >> 63 == 0,
    })
}

/// The extent of the first `count` records of `bytes` that holds logical block `logical`, or else where the next one
/// begins.
///
/// # Errors
/// `Corrupt` for records that are empty or overlap.
pub(super) fn find(
    bytes: &[u8],
    count: usize,
    logical: u64,
) -> Result<(Option<Extent>, Option<u64>)> {
    let after = up_to(count, logical, |nth| Ok(extent(bytes, nth)?.logical))?;
    let next = if after < count {
        Some(extent(bytes, after)?.logical)
    } else {
        None
    };
    let Some(nth) = after.checked_sub(1) else {
        return Ok((None, next));
    };
    let found = extent(bytes, nth)?;
    let end = found.logical.saturating_add(found.len);
    if found.len == 0 || end > MAX_LOGICAL || next.is_some_and(|next| next < end) {
        return Err(Error::corrupt("extents are empty or overlap"));
    }
    Ok(((logical < end).then_some(found), next))
}

/// The root of a btree of extents in a fork.
pub(super) struct Root<'a> {
    bytes: &'a [u8],
    /// Its level, at least 1.
    pub(super) level: u16,
    /// Keys in it.
    pub(super) count: usize,
    max: usize,
}

impl<'a> Root<'a> {
    /// Reads a root.
    ///
    /// # Errors
    /// `Corrupt` for a broken one.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let level = be_u16(bytes, 0)?;
        let count = usize::from(be_u16(bytes, 2)?);
        let max = bytes.len().saturating_sub(4) / RECORD;
        if level == 0 || level > MAX_LEVELS || count == 0 || count > max {
            return Err(Error::corrupt("bad root of an extent btree"));
        }
        Ok(Self {
            bytes,
            level,
            count,
            max,
        })
    }

    /// Key `nth`.
    pub(super) fn key(&self, nth: usize) -> Result<u64> {
        be_u64(self.bytes, nth.saturating_mul(8).saturating_add(4))
    }

    /// Pointer `nth`.
    pub(super) fn pointer(&self, nth: usize) -> Result<u64> {
        let at = self.max.saturating_add(nth).saturating_mul(8);
        be_u64(self.bytes, at.saturating_add(4))
    }
}

impl<'a> Fork<'a> {
    /// The records of a list of extents, and their number.
    ///
    /// # Errors
    /// `Corrupt` for more than there is room for.
    pub(super) fn list(&self) -> Result<(&'a [u8], usize)> {
        let count = usize::try_from(self.extents).unwrap_or(usize::MAX);
        let list = slice_at(self.bytes, 0, count.saturating_mul(RECORD))
            .map_err(|_| Error::corrupt("more extents than the inode has room for"))?;
        Ok((list, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(extent: &Extent) -> [u8; RECORD] {
        let high = u64::from(!extent.written) << 63 | extent.logical << 9 | extent.block >> 43;
        let low = extent.block << 21 | extent.len;
        let mut out = [0; RECORD];
        out[..8].copy_from_slice(&high.to_be_bytes());
        out[8..].copy_from_slice(&low.to_be_bytes());
        out
    }

    #[test]
    fn extents_are_found_and_holes_measured() {
        let first = Extent {
            logical: 5,
            block: (1 << 52) - 1,
            len: 3,
            written: false,
        };
        let second = Extent {
            logical: (1 << 54) - 2,
            block: 1,
            len: 2,
            written: true,
        };
        let list = [record(&first), record(&second)].concat();
        assert_eq!(extent(&list, 0).unwrap(), first);
        assert_eq!(extent(&list, 1).unwrap(), second);
        assert_eq!(find(&list, 2, 0).unwrap(), (None, Some(5)));
        assert_eq!(find(&list, 2, 7).unwrap().0, Some(first));
        assert_eq!(find(&list, 2, 8).unwrap(), (None, Some((1 << 54) - 2)));
        assert_eq!(find(&list, 2, (1 << 54) - 1).unwrap(), (Some(second), None));
        let overlapping = [
            record(&first),
            record(&Extent {
                logical: 6,
                ..first
            }),
        ]
        .concat();
        assert!(find(&overlapping, 2, 5).is_err());
    }
}
