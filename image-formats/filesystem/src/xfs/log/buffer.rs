//! Items of buffers: parts of 128 bytes of a piece of metadata.

use dormouse_block::{
    Error, Result, Source, array_at, be_u16, be_u32, be_u64, le_u16, le_u32, le_u64, slice_at,
};

use super::super::superblock::Superblock;
use super::super::volume::Changes;
use super::super::{index, wide};
use super::transaction::Item;

/// Bytes that a bit of the map stands for (`XFS_BLF_CHUNK`).
const CHUNK: usize = 128;
/// `XFS_BLF_INODE_BUF`: only the list of deleted inodes changes, which no reader follows.
const INODES: u16 = 1;
/// `XFS_BLF_CANCEL`: the buffer's blocks were freed.
const CANCEL: u16 = 1 << 1;
/// `XFS_BLF_{U,P,G}DQUOT_BUF`: quotas.
const QUOTAS: u16 = 7 << 2;
/// Sectors of the largest buffer: a block of directories or a sector of 64 KiB.
const MAX_SECTORS: u16 = 256;

/// What an item says of its buffer (`struct xfs_buf_log_format`).
pub(super) struct Format<'a> {
    flags: u16,
    sectors: u16,
    first: u64,
    map: &'a [u8],
}

impl<'a> Format<'a> {
    /// Reads the first region of an item.
    ///
    /// # Errors
    /// `Corrupt` for a broken one.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let words = index(le_u32(bytes, 16)?);
        let sectors = le_u16(bytes, 6)?;
        if sectors > MAX_SECTORS {
            return Err(Error::corrupt("a buffer of more than 128 KiB in the log"));
        }
        Ok(Self {
            flags: le_u16(bytes, 4)?,
            sectors,
            first: le_u64(bytes, 8)?,
            map: slice_at(bytes, 20, words.saturating_mul(4))?,
        })
    }

    /// Whether it says that the buffer's blocks were freed.
    pub(super) fn cancels(&self) -> bool {
        self.flags & CANCEL != 0
    }

    /// The buffer's first sector, and how many it has.
    pub(super) fn place(&self) -> (u64, u32) {
        (self.first, u32::from(self.sectors))
    }

    fn offset(&self) -> Result<u64> {
        self.first
            .checked_mul(512)
            .ok_or_else(|| Error::corrupt("a buffer beyond all volumes in the log"))
    }

    fn bit(&self, nth: usize) -> bool {
        self.map
            .get(nth / 8)
            .is_some_and(|byte| byte >> (nth % 8) & 1 == 1)
    }
}

/// Where the place in the log that changed a piece of metadata last, and the filesystem's UUID, stand in it.
fn stamps(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    Ok(match &array_at::<4>(bytes, 0)? {
        b"AB3B" | b"AB3C" | b"RMB3" | b"R3FC" | b"FIB3" | b"IAB3" => Some((24, 32)),
        b"BMA3" | b"MAPR" | b"RCNT" => Some((32, 40)),
        b"XAGF" => Some((208, 64)),
        b"XAFL" => Some((24, 8)),
        b"XAGI" => Some((320, 296)),
        b"XSLM" => Some((48, 16)),
        b"XDB3" | b"XDD3" | b"XDF3" => Some((16, 24)),
        b"XFSB" => Some((240, 32)),
        _ => match be_u16(bytes, 8)? {
            0x3DF1 | 0x3DFF | 0x3BEE | 0x3EBE => Some((24, 32)),
            _ => None,
        },
    })
}

/// Whether what stands in place already is at least as new as `lsn`.
fn is_newer(sb: &Superblock, bytes: &[u8], lsn: u64) -> Result<bool> {
    if !sb.features.v5() {
        return Ok(false);
    }
    let Some((at, uuid_at)) = stamps(bytes)? else {
        return Ok(false);
    };
    let uuid = array_at::<16>(bytes, uuid_at)?;
    // A superblock carries the UUID that users see; anything else is left over from another filesystem.
    let own = uuid == sb.meta_uuid
        || (be_u32(bytes, 0)? == super::super::superblock::MAGIC && uuid == sb.uuid);
    let found = be_u64(bytes, at)?;
    Ok(own && found != 0 && found != u64::MAX && found >= lsn)
}

/// Plays the parts of a buffer that `item` holds.
///
/// # Errors
/// `Corrupt` for an item that does not hold them, or leads outside the volume.
pub(super) fn play(
    sb: &Superblock,
    source: &dyn Source,
    changes: &mut Changes,
    format: &Format<'_>,
    item: &Item,
    lsn: u64,
) -> Result<()> {
    if format.flags & (INODES | QUOTAS) != 0 {
        return Ok(());
    }
    let offset = format.offset()?;
    let len = usize::from(format.sectors).saturating_mul(512);
    let mut head = [0; 512];
    changes.read(source, offset, &mut head)?;
    if is_newer(sb, &head, lsn)? {
        return Ok(());
    }
    let bits = format.map.len().saturating_mul(8);
    let mut bit = 0;
    let mut region = 1;
    while bit < bits {
        if !format.bit(bit) {
            bit = bit.saturating_add(1);
            continue;
        }
        let run = (bit..bits).take_while(|nth| format.bit(*nth)).count();
        let bytes = item.region(region)?;
        // A run may be in several regions, where it crosses pages of memory.
        let run = run.min(bytes.len() / CHUNK);
        let at = bit.saturating_mul(CHUNK);
        let part = slice_at(bytes, 0, run.saturating_mul(CHUNK))?;
        if run == 0 || at.saturating_add(part.len()) > len {
            return Err(Error::corrupt(
                "a buffer in the log has parts outside of it",
            ));
        }
        changes.write(source, offset.saturating_add(wide(at)), part)?;
        region = region.saturating_add(1);
        bit = bit.saturating_add(run);
    }
    Ok(())
}
