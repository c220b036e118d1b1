//! Items of inodes: the core in the processor's byte order, and forks as they stand in inodes.

use dormouse_block::{
    Error, Result, Source, array_at, be_u16, be_u64, le_u16, le_u32, le_u64, slice_at,
};

use super::super::fork::{RECORD, Which};
use super::super::inode::{CORE_2, CORE_3, Inode, MAGIC};
use super::super::superblock::Superblock;
use super::super::volume::Changes;
use super::super::{index, overflow};
use super::transaction::Item;

/// Flags of what is logged: of the data fork its bytes, extents, btree's root; a device's number; of the attributes.
const DATA: u32 = 0x02 | 0x04;
const DATA_ROOT: u32 = 0x08;
const DEVICE: u32 = 0x10;
const ATTRIBUTES: u32 = 0x40 | 0x80;
const ATTRIBUTES_ROOT: u32 = 0x100;
/// `XFS_DIFLAG2_BIGTIME` and `XFS_DIFLAG2_NREXT64`.
const BIG_TIME: u64 = 1 << 3;
const MANY_EXTENTS: u64 = 1 << 4;
/// `DI_MAX_FLUSH`: counters of flushes begin anew after it.
const MAX_FLUSH: u16 = 0xFFFF;
/// Bytes of the core before `di_next_unlinked`, which the log never changes.
const CORE: usize = 96;

/// What an item says of its inode (`struct xfs_inode_log_format`).
pub(super) struct Format {
    fields: u32,
    device: u32,
    /// The inode's buffer: first sector, sectors.
    first: u64,
    sectors: u32,
    /// The inode's byte in the buffer.
    byte: u32,
}

impl Format {
    /// Reads the first region of an item: 56 bytes, or 52 by 32-bit processors.
    ///
    /// # Errors
    /// `Corrupt` for a broken one.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let shift = match bytes.len() {
            56 => 4_usize,
            52 => 0,
            _ => return Err(Error::corrupt("an inode in the log of no known form")),
        };
        Ok(Self {
            fields: le_u32(bytes, 4)?,
            device: le_u32(bytes, shift.saturating_add(20))?,
            first: le_u64(bytes, shift.saturating_add(36))?,
            sectors: le_u32(bytes, shift.saturating_add(44))?,
            byte: le_u32(bytes, shift.saturating_add(48))?,
        })
    }

    /// The inode's buffer, as cancellations name it.
    pub(super) fn buffer(&self) -> (u64, u32) {
        (self.first, self.sectors)
    }
}

/// Turns `N` bytes at `at` around.
fn swap<const N: usize>(to: &mut [u8], from: &[u8], at: usize) -> Result<()> {
    let mut bytes = array_at::<N>(from, at)?;
    bytes.reverse();
    put(to, at, &bytes)
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) -> Result<()> {
    at.checked_add(bytes.len())
        .and_then(|end| to.get_mut(at..end))
        .ok_or_else(|| Error::corrupt("an inode in the log is larger than it can be"))?
        .copy_from_slice(bytes);
    Ok(())
}

/// Writes the core as it stands in the log (`struct xfs_log_dinode`) into an inode. The places are the same.
fn core(raw: &mut [u8], logged: &[u8], lsn: u64) -> Result<()> {
    let [version] = array_at::<1>(logged, 4)?;
    let three = version == 3;
    let flags2 = if three { le_u64(logged, 120)? } else { 0 };
    // Version, formats, the data fork's length: single bytes.
    for at in [4, 5, 82, 83] {
        put(raw, at, &array_at::<1>(logged, at)?)?;
    }
    for at in [0, 2, 6, 20, 22, 88, 90] {
        swap::<2>(raw, logged, at)?;
    }
    for at in [8, 12, 16, 72, 84, 92] {
        swap::<4>(raw, logged, at)?;
    }
    for at in [56, 64] {
        swap::<8>(raw, logged, at)?;
    }
    let mut times = vec![32, 40, 48];
    if three {
        times.push(144);
        swap::<8>(raw, logged, 104)?;
        swap::<8>(raw, logged, 120)?;
        swap::<4>(raw, logged, 128)?;
        swap::<8>(raw, logged, 152)?;
        put(raw, 132, slice_at(logged, 132, 12)?)?;
        put(raw, 160, slice_at(logged, 160, 16)?)?;
        put(raw, 112, &lsn.to_be_bytes())?;
    }
    for at in times {
        if flags2 & BIG_TIME != 0 {
            swap::<8>(raw, logged, at)?;
        } else {
            swap::<4>(raw, logged, at)?;
            swap::<4>(raw, logged, at.saturating_add(4))?;
        }
    }
    if flags2 & MANY_EXTENTS != 0 {
        swap::<8>(raw, logged, 24)?;
        swap::<4>(raw, logged, 76)?;
        return put(raw, 80, &[0; 2]);
    }
    if three {
        put(raw, 24, &[0; 8])?;
    } else {
        // The kernel begins to count flushes anew.
        put(raw, 24, slice_at(logged, 24, 6)?)?;
        put(raw, 30, &[0; 2])?;
    }
    swap::<4>(raw, logged, 76)?;
    swap::<2>(raw, logged, 80)
}

/// Turns the root of a btree as it is in memory, a whole block's header before it, into that of a fork of `room` bytes.
fn root(sb: &Superblock, logged: &[u8], room: usize) -> Result<Vec<u8>> {
    let header = if sb.features.v5() { 72_usize } else { 24 };
    let level = array_at::<2>(logged, 4)?;
    let count = usize::from(be_u16(logged, 6)?);
    let from = logged.len().saturating_sub(header) / RECORD;
    let to = room.saturating_sub(4) / RECORD;
    if count > from || count > to {
        return Err(Error::corrupt("a btree's root in the log does not fit"));
    }
    let mut out = vec![0; room];
    put(&mut out, 0, &level)?;
    put(&mut out, 2, &array_at::<2>(logged, 6)?)?;
    let list = count.saturating_mul(8);
    put(&mut out, 4, slice_at(logged, header, list)?)?;
    let pointers = slice_at(logged, header.saturating_add(from.saturating_mul(8)), list)?;
    put(&mut out, to.saturating_mul(8).saturating_add(4), pointers)?;
    Ok(out)
}

/// Plays what `item` holds of an inode.
///
/// # Errors
/// `Corrupt` for an item that does not fit, or leads to no inode.
pub(super) fn play(
    sb: &Superblock,
    source: &dyn Source,
    changes: &mut Changes,
    format: &Format,
    item: &Item,
    lsn: u64,
) -> Result<()> {
    let offset = format
        .first
        .checked_mul(512)
        .and_then(|at| at.checked_add(u64::from(format.byte)))
        .ok_or_else(overflow)?;
    let mut raw = vec![0; 1 << sb.inode_log];
    if offset
        .checked_add(1 << sb.inode_log)
        .is_none_or(|end| end > source.len())
    {
        return Err(Error::corrupt("an inode outside the volume in the log"));
    }
    changes.read(source, offset, &mut raw)?;
    let logged = item.region(1)?;
    if be_u16(&raw, 0)? != MAGIC || le_u16(logged, 0)? != MAGIC {
        return Err(
            Error::corrupt("the log changes an inode where there is none").at_offset(offset),
        );
    }
    let [version] = array_at::<1>(logged, 4)?;
    let three = sb.features.v5();
    if (version == 3) != three || logged.len() < if three { CORE_3 } else { CORE } {
        return Err(Error::corrupt("an inode of no known version in the log"));
    }
    if three {
        let found = be_u64(&raw, 112)?;
        if found != 0 && found != u64::MAX && found > lsn {
            return Ok(());
        }
    } else {
        let (here, there) = (be_u16(&raw, 30)?, le_u16(logged, 30)?);
        let begun_anew = here == MAX_FLUSH && there < MAX_FLUSH >> 1;
        if there < here && !begun_anew {
            return Ok(());
        }
    }
    core(&mut raw, logged, lsn)?;
    forks(sb, format, item, &mut raw)?;
    changes.write(source, offset, &raw)
}

fn forks(sb: &Superblock, format: &Format, item: &Item, raw: &mut [u8]) -> Result<()> {
    // Of a free inode nothing but its core counts, and of any other its forks must lie within it.
    let inode = Inode::parse(sb, 0, raw)?;
    let mut region = 2;
    for (which, plain, tree) in [
        (Which::Data, DATA, DATA_ROOT),
        (Which::Attributes, ATTRIBUTES, ATTRIBUTES_ROOT),
    ] {
        if which == Which::Data && format.fields & DEVICE != 0 {
            put(
                raw,
                inode.fork_range(which)?.0,
                &format.device.to_be_bytes(),
            )?;
        }
        if format.fields & (plain | tree) == 0 || item.regions.len() <= region {
            continue;
        }
        let (start, room) = inode.fork_range(which)?;
        let logged = item.region(region)?;
        region = region.saturating_add(1);
        if format.fields & plain != 0 {
            if logged.len() > room {
                return Err(Error::corrupt("a fork in the log is larger than its inode"));
            }
            put(raw, start, logged)?;
        } else {
            put(raw, start, &root(sb, logged, room)?)?;
        }
    }
    Ok(())
}

/// A free inode as it is made with its chunk.
pub(super) fn fresh(sb: &Superblock, number: u64, generation: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << sb.inode_log);
    out.extend_from_slice(&MAGIC.to_be_bytes());
    out.extend_from_slice(&[0, 0, if sb.features.v5() { 3 } else { 2 }]);
    out.resize(92, 0);
    out.extend_from_slice(&generation.to_be_bytes());
    // Nothing follows it in a list of deleted inodes.
    out.extend_from_slice(&[0xFF; 4]);
    out.resize(CORE_2, 0);
    if sb.features.v5() {
        out.resize(152, 0);
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&sb.meta_uuid);
        out.resize(CORE_3, 0);
    }
    out.resize(index(1_u64 << sb.inode_log), 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_turned_around_field_by_field() {
        let mut logged: Vec<u8> = (0..176).collect();
        logged[4] = 3;
        logged[120..128].copy_from_slice(&(BIG_TIME | MANY_EXTENTS).to_le_bytes());
        let mut raw = vec![0xEE; 256];
        core(&mut raw, &logged, 7).unwrap();
        assert_eq!(raw[0..4], [1, 0, 3, 2]);
        assert_eq!(raw[24..32], [31, 30, 29, 28, 27, 26, 25, 24]);
        assert_eq!(raw[32..34], [39, 38]);
        assert_eq!(raw[76..82], [79, 78, 77, 76, 0, 0]);
        assert_eq!(raw[82..84], [82, 83]);
        assert_eq!(
            raw[96..104],
            [0xEE; 8],
            "the list of deleted inodes, and the checksum"
        );
        assert_eq!(raw[112..120], 7_u64.to_be_bytes());
        assert_eq!(raw[160..162], [160, 161]);
        logged[120..128].fill(0);
        core(&mut raw, &logged, 7).unwrap();
        assert_eq!(raw[32..40], [35, 34, 33, 32, 39, 38, 37, 36]);
    }
}
