//! Blocks of btrees: those of allocation groups with 32-bit pointers, those of files with 64-bit ones.

use std::sync::Arc;

use dormouse_block::{Error, Result, be_u16, be_u32, be_u64};

use super::stamp::{LONG_BTREE, SHORT_BTREE, Stamp};
use super::volume::Place;
use super::{XfsTree, fork};

/// More levels than any btree can have (`XFS_BTREE_MAXLEVELS`).
pub(super) const MAX_LEVELS: u16 = 9;

/// A kind of btree.
pub(super) struct Kind {
    /// What it is called.
    what: &'static str,
    /// Magic numbers of versions 4 and 5.
    magic: [u32; 2],
    /// Bytes of the header in versions 4 and 5.
    header: [usize; 2],
    stamp: &'static Stamp,
    /// Bytes of a record.
    record: usize,
    /// Bytes of a key, and of a pointer.
    key: usize,
}

/// The inodes of an allocation group: `IABT`, `IAB3`.
pub(super) const INODES: Kind = Kind {
    what: "an inode btree",
    magic: [0x4941_4254, 0x4941_4233],
    header: [16, 56],
    stamp: &SHORT_BTREE,
    record: 16,
    key: 4,
};
/// The extents of a fork: `BMAP`, `BMA3`.
pub(super) const EXTENTS: Kind = Kind {
    what: "an extent btree",
    magic: [0x424D_4150, 0x424D_4133],
    header: [24, 72],
    stamp: &LONG_BTREE,
    record: fork::RECORD,
    key: 8,
};

/// One block of a btree, checked.
pub(super) struct Node {
    bytes: Arc<[u8]>,
    header: usize,
    /// Records or keys in it.
    pub(super) count: usize,
    max_keys: usize,
    key: usize,
}

fn number(bytes: &[u8], at: usize, size: usize) -> Result<u64> {
    match size {
        4 => be_u32(bytes, at).map(u64::from),
        _ => be_u64(bytes, at),
    }
}

/// How many of `count` ascending numbers are at most `wanted`.
pub(super) fn up_to(count: usize, wanted: u64, at: impl Fn(usize) -> Result<u64>) -> Result<usize> {
    let (mut low, mut high) = (0_usize, count);
    while low < high {
        let middle = low.midpoint(high);
        if at(middle)? <= wanted {
            low = middle.saturating_add(1);
        } else {
            high = middle;
        }
    }
    Ok(low)
}

impl Node {
    /// The records, one after the other.
    pub(super) fn records(&self) -> &[u8] {
        self.bytes.get(self.header..).unwrap_or_default()
    }

    /// Key `nth`, which is what the first record below pointer `nth` begins with.
    pub(super) fn key(&self, nth: usize) -> Result<u64> {
        let at = nth.saturating_mul(self.key).saturating_add(self.header);
        number(&self.bytes, at, self.key)
    }

    /// Pointer `nth`.
    pub(super) fn pointer(&self, nth: usize) -> Result<u64> {
        let at = self.max_keys.saturating_add(nth).saturating_mul(self.key);
        number(&self.bytes, at.saturating_add(self.header), self.key)
    }
}

impl XfsTree {
    /// The block of a btree of `owner` at filesystem block `block`, which must be of this `level`.
    ///
    /// # Errors
    /// `Corrupt` for a broken one.
    pub(super) fn btree_block(
        &self,
        kind: &Kind,
        owner: u64,
        block: u64,
        level: u16,
    ) -> Result<Node> {
        let offset = self.sb.extent(block, 1)?;
        let size = self.sb.block_size();
        let v5 = self.sb.features.v5();
        let pick = |[four, five]: [usize; 2]| if v5 { five } else { four };
        let header = pick(kind.header);
        let room = size.saturating_sub(header);
        let place = Place {
            offset,
            owner,
            len: size,
        };
        let bad = |what: &str| {
            Err(Error::corrupt(format!("bad {what} of {}", kind.what)).at_offset(offset))
        };
        let bytes = self.volume.metadata(place, |buf| {
            self.volume.read(offset, buf)?;
            self.check_stamp_at(kind.stamp, buf, offset, owner, kind.what)
        })?;
        // Held against what is wanted each time: the same block may be reached in two ways.
        let [four, five] = kind.magic;
        if be_u32(&bytes, 0)? != if v5 { five } else { four } {
            return bad("magic number");
        }
        if be_u16(&bytes, 4)? != level {
            return bad("level");
        }
        let count = usize::from(be_u16(&bytes, 6)?);
        let max_keys = room.checked_div(kind.key.saturating_mul(2)).unwrap_or(0);
        let max = if level == 0 {
            room.checked_div(kind.record).unwrap_or(0)
        } else {
            max_keys
        };
        if count > max || (count == 0 && level > 0) {
            return bad("number of records");
        }
        Ok(Node {
            bytes,
            header,
            count,
            max_keys,
            key: kind.key,
        })
    }
}
