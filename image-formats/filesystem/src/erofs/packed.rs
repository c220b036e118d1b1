//! The index of a packed file: which part of it each physical cluster holds.

use dormouse_block::{Error, Result, array_at, le_u16, le_u32};

use super::inode::{Inode, Layout};
use super::superblock::Superblock;
use crate::fat::{index, wide};

/// Logical clusters of one file at most: 32 GiB of 4 KiB.
const MAX_CLUSTERS: u64 = 1 << 23;
/// Bytes that one physical cluster stands for at most (Linux: `Z_EROFS_PCLUSTER_MAX_DSIZE`).
const MAX_UNPACKED: u64 = 12 << 20;
/// `h_advise`: entries of two bytes.
const TWO_BYTES: u16 = 1;
/// `h_advise`: clusters of several blocks, for either head.
const BIG: u16 = 2 | 4;
/// `h_advise`: what is stored is turned so that it lies in its block as in the file.
const TURNED: u16 = 0x10;
/// `h_advise` that needs features which are refused.
const REFUSED: u16 = 8 | 0x20;
/// Bit of a distance: it is the number of blocks of the cluster instead.
const BLOCKS: u32 = 1 << 11;
/// The number of blocks in such a distance.
const COUNT: u32 = BLOCKS - 1;

/// A part of a file and the physical cluster it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// First byte in the file.
    pub(super) start: u64,
    /// Bytes in the file.
    pub(super) len: u64,
    /// First block.
    pub(super) block: u32,
    /// Blocks.
    pub(super) blocks: u32,
    /// How it is kept.
    pub(super) how: How,
}

/// How a cluster is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Lz4,
    Stored,
    /// Stored, turned within the block.
    Turned,
}

/// What one entry of the index says.
enum Entry {
    /// An extent begins at this offset in its cluster.
    Head {
        offset: u64,
        block: u32,
        stored: bool,
        second: bool,
    },
    /// It goes on; how many blocks the cluster has, if that is said here.
    More(Option<u32>),
}

/// Where the index begins, aligned for it.
fn header_at(inode: &Inode) -> u64 {
    inode.end.next_multiple_of(8)
}

/// The extents of a packed file; `read` reads metadata.
///
/// # Errors
/// `Corrupt` for a broken index, `Unsupported` for other packings.
pub(super) fn extents(
    inode: &Inode,
    sb: &Superblock,
    read: &mut dyn FnMut(u64, usize) -> Result<Vec<u8>>,
) -> Result<Vec<Extent>> {
    let bad = |what: &'static str| Error::corrupt(what);
    let header = read(header_at(inode), 8)?;
    let advise = le_u16(&header, 4)?;
    let [algorithms, bits] = array_at(&header, 6)?;
    if advise & REFUSED != 0 || bits & 0x80 != 0 {
        return Err(Error::unsupported("a packed tail or fragment"));
    }
    let log = sb.block_log.saturating_add(u32::from(bits & 7));
    if log > 14 && inode.layout == Layout::PackedCompact {
        return Err(bad("bad size of logical clusters"));
    }
    let count = inode.size.div_ceil(1 << log);
    if count > MAX_CLUSTERS {
        return Err(Error::limit("a packed file of more than 2^23 clusters"));
    }
    let big = advise & BIG != 0;
    let entries = if inode.layout == Layout::PackedFull {
        full(inode, count, read)?
    } else {
        compact(inode, count, log, advise, read)?
    };
    let mut out: Vec<Extent> = Vec::new();
    for (nth, entry) in (0_u64..).zip(&entries) {
        let Entry::Head {
            offset,
            block,
            stored,
            second,
        } = entry
        else {
            continue;
        };
        let algorithm = if *second {
            algorithms >> 4
        } else {
            algorithms & 0xF
        };
        if !stored && algorithm != 0 {
            return Err(Error::unsupported(match algorithm {
                1 => "a file packed with LZMA",
                2 => "a file packed with DEFLATE",
                3 => "a file packed with zstd",
                _ => "a file packed with an unknown algorithm",
            }));
        }
        let start = (nth << log).saturating_add(*offset);
        if *offset < 1 << log && start == inode.size && !out.is_empty() {
            // The last cluster is shared with the end of the file, which mkfs.erofs writes as a head.
            continue;
        }
        if *offset >= 1 << log || start >= inode.size {
            return Err(bad("an extent of a packed file begins outside its cluster"));
        }
        match out.last_mut() {
            Some(last) => {
                last.len = start
                    .checked_sub(last.start)
                    .filter(|len| *len > 0)
                    .ok_or_else(|| bad("extents of a packed file that do not follow each other"))?;
            }
            None if start != 0 => return Err(bad("a packed file without a beginning")),
            None => {}
        }
        let after = entries.get(index(nth).saturating_add(1));
        let blocks = match after {
            Some(Entry::More(Some(blocks))) if big => *blocks,
            _ => 1 << log.saturating_sub(sb.block_log),
        };
        if blocks == 0 {
            return Err(bad("a cluster without blocks"));
        }
        out.push(Extent {
            start,
            len: 0,
            block: *block,
            blocks,
            how: match (stored, advise & TURNED != 0) {
                (false, _) => How::Lz4,
                (true, false) => How::Stored,
                (true, true) => How::Turned,
            },
        });
    }
    match out.last_mut() {
        Some(last) => last.len = inode.size.saturating_sub(last.start),
        None if inode.size > 0 => return Err(bad("a packed file without clusters")),
        None => {}
    }
    if out.iter().any(|extent| extent.len > MAX_UNPACKED) {
        return Err(Error::limit("a cluster that stands for more than 12 MiB"));
    }
    Ok(out)
}

fn full(
    inode: &Inode,
    count: u64,
    read: &mut dyn FnMut(u64, usize) -> Result<Vec<u8>>,
) -> Result<Vec<Entry>> {
    let at = header_at(inode).saturating_add(16);
    let bytes = read(at, index(count.saturating_mul(8)))?;
    bytes
        .chunks_exact(8)
        .map(|entry| {
            let kind = le_u16(entry, 0)? & 3;
            let delta = u32::from(le_u16(entry, 4)?);
            Ok(match kind {
                2 => Entry::More((delta & BLOCKS != 0).then_some(delta & COUNT)),
                _ => Entry::Head {
                    offset: u64::from(le_u16(entry, 2)?),
                    block: le_u32(entry, 4)?,
                    stored: kind == 0,
                    second: kind == 3,
                },
            })
        })
        .collect()
}

/// Entries of four bytes up to a multiple of 32, then of two bytes, sixteen at a time, then of four again. Each pack of two
/// or sixteen ends with a block's number, from which those of its heads are counted.
fn compact(
    inode: &Inode,
    count: u64,
    log: u32,
    advise: u16,
    read: &mut dyn FnMut(u64, usize) -> Result<Vec<u8>>,
) -> Result<Vec<Entry>> {
    let base = header_at(inode).saturating_add(8);
    let first = ((32_u64.saturating_sub(base % 32) / 4) & 7).min(count);
    let rest = count.saturating_sub(first);
    let narrow = if advise & TWO_BYTES != 0 {
        rest.saturating_sub(rest % 16)
    } else {
        0
    };
    if narrow > 0 && log > 12 {
        return Err(Error::corrupt("bad size of logical clusters"));
    }
    let mut out = Vec::new();
    let mut at = base;
    for (entries, size) in [
        (first, 4_u64),
        (narrow, 2),
        (rest.saturating_sub(narrow), 4),
    ] {
        let per: u64 = if size == 4 { 2 } else { 16 };
        let pack = index(per.saturating_mul(size));
        // The last pack is there whole even if it is not full.
        let packs = entries.div_ceil(per);
        let bytes = read(at, pack.saturating_mul(index(packs)))?;
        for (nth, bytes) in (0_u64..).zip(bytes.chunks_exact(pack)) {
            let left = entries.saturating_sub(nth.saturating_mul(per)).min(per);
            unpack(
                bytes,
                index(per),
                index(left),
                log,
                advise & BIG != 0,
                &mut out,
            )?;
        }
        at = at.saturating_add(entries.saturating_mul(size));
    }
    Ok(out)
}

/// Adds the first `wanted` entries of a pack of `count`.
fn unpack(
    pack: &[u8],
    count: usize,
    wanted: usize,
    log: u32,
    big: bool,
    out: &mut Vec<Entry>,
) -> Result<()> {
    let low = log.max(12);
    let (words, base) = pack
        .split_at_checked(pack.len().saturating_sub(4))
        .ok_or_else(|| Error::corrupt("a pack of index entries that is too short"))?;
    let mut block = le_u32(base, 0)?;
    let bits = words
        .len()
        .saturating_mul(8)
        .checked_div(count)
        .unwrap_or(0);
    let mut padded = words.to_vec();
    padded.extend_from_slice(&[0; 8]);
    // Blocks of the head before, if it is in this pack.
    let mut blocks = if big { 0 } else { 1 };
    for nth in 0..wanted {
        let at = nth.saturating_mul(bits);
        let word = le_u32(&padded, at / 8)? >> (at % 8);
        let value = word & (1_u32 << low).saturating_sub(1);
        let kind = word >> low & 3;
        if kind == 2 {
            let said = (value & BLOCKS != 0).then_some(value & COUNT);
            if let Some(said) = said {
                blocks = said;
            }
            out.push(Entry::More(said));
            continue;
        }
        block = block.wrapping_add(blocks);
        blocks = 1;
        out.push(Entry::Head {
            offset: u64::from(value),
            block,
            stored: kind == 0,
            second: kind == 3,
        });
    }
    Ok(())
}

/// Unpacks `extent` from the bytes of its blocks.
///
/// # Errors
/// `Corrupt` for broken data.
pub(super) fn unpack_extent(extent: &Extent, bytes: &[u8], block: u64) -> Result<Vec<u8>> {
    let short = || Error::corrupt("a packed cluster is shorter than the file says");
    let len = index(extent.len);
    match extent.how {
        How::Lz4 => {
            // What does not fill its blocks is padded in front.
            let pad = bytes.iter().take_while(|byte| **byte == 0).count();
            let mut out = vec![0; len];
            let done = crate::lz4::unpack(bytes.get(pad..).unwrap_or_default(), &mut out)?;
            if done < len {
                return Err(short());
            }
            Ok(out)
        }
        How::Stored => bytes.get(..len).map(<[u8]>::to_vec).ok_or_else(short),
        How::Turned => {
            let first = index(extent.start.checked_rem(block).unwrap_or(0));
            let bytes = bytes.get(..index(block)).ok_or_else(short)?;
            if wide(len) > block {
                return Err(short());
            }
            let (front, back) = bytes.split_at_checked(first).ok_or_else(short)?;
            let mut out = [back, front].concat();
            out.truncate(len);
            Ok(out)
        }
    }
}
