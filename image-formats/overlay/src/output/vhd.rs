//! VHD, after Microsoft's Virtual Hard Disk Image Format Specification 1.0.

use dormouse_block::{Error, Result, Source};

use super::raw::plain;
use super::size_of;
use super::target::Target;
use super::walk::{Fingerprint, pieces};

/// What Hyper-V and QEMU allow: 2040 GiB.
const MAX_SIZE: u64 = 2040 << 30;
/// Bytes of a block, everybody's default.
const BLOCK: u64 = 2 << 20;
/// Bytes of a block's sector bitmap.
const BITMAP: u64 = 512;
/// Smaller stretches of zeroes inside a block are not left as holes.
const PIECE: u64 = 4096;
/// The epoch: 2000-01-01 UTC, in seconds since 1970.
const EPOCH: u64 = 946_684_800;
/// Where the block allocation table begins: behind the copy of the footer and the header.
const TABLE: u64 = 1536;

pub(super) fn fixed(disk: &dyn Source, target: &mut Target, made: u64) -> Result<()> {
    let size = size_of(disk, MAX_SIZE, "VHD")?;
    let mut seen = Fingerprint::new("vhd-fixed", size);
    plain(disk, target, |offset, bytes| seen.add(offset, bytes))?;
    target.put(size, &footer(size, 2, made, &seen))
}

pub(super) fn dynamic(disk: &dyn Source, target: &mut Target, made: u64) -> Result<()> {
    let size = size_of(disk, MAX_SIZE, "VHD")?;
    let mut seen = Fingerprint::new("vhd", size);
    let entries = size.div_ceil(BLOCK);
    let len = usize::try_from(entries).map_err(|_| Error::limit("the disk is too large"))?;
    let mut table = vec![u32::MAX; len];
    let mut next = TABLE.saturating_add(entries.saturating_mul(4).next_multiple_of(512));
    pieces(disk, PIECE, |offset, bytes| {
        seen.add(offset, bytes);
        let slot = usize::try_from(offset / BLOCK)
            .ok()
            .and_then(|block| table.get_mut(block))
            .ok_or_else(|| Error::corrupt("data lie beyond the end of the disk"))?;
        if *slot == u32::MAX {
            *slot = u32::try_from(next / 512)
                .map_err(|_| Error::limit("the file is larger than VHD allows"))?;
            // All sectors of a block that is there count as written.
            target.put(next, &[0xff; 512])?;
            next = next.saturating_add(BITMAP).saturating_add(BLOCK);
        }
        let start = u64::from(*slot).saturating_mul(512).saturating_add(BITMAP);
        target.put(start.saturating_add(offset % BLOCK), bytes)
    })?;
    let footer = footer(size, 3, made, &seen);
    target.put(0, &footer)?;
    target.put(512, &header(entries)?)?;
    let mut bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
    bytes.resize(bytes.len().next_multiple_of(512), 0xff);
    target.put(TABLE, &bytes)?;
    target.put(next, &footer)
}

fn header(entries: u64) -> Result<Vec<u8>> {
    let entries = u32::try_from(entries).map_err(|_| Error::limit("the disk is too large"))?;
    let mut out = Vec::new();
    out.extend(b"cxsparse");
    // No next header; the specification's four bytes are eight.
    out.extend(u64::MAX.to_be_bytes());
    out.extend(TABLE.to_be_bytes());
    out.extend(0x0001_0000_u32.to_be_bytes());
    out.extend(entries.to_be_bytes());
    out.extend((2_u32 << 20).to_be_bytes());
    out.resize(1024, 0);
    sum_into(&mut out, 36);
    Ok(out)
}

fn footer(size: u64, kind: u32, made: u64, seen: &Fingerprint) -> Vec<u8> {
    let (cylinders, heads, sectors) = geometry(size / 512);
    let data: u64 = if kind == 2 { u64::MAX } else { 512 };
    let time = u32::try_from(made.saturating_sub(EPOCH)).unwrap_or(u32::MAX);
    let mut out = Vec::new();
    out.extend(b"conectix");
    // Bit 1 is always set.
    out.extend(2_u32.to_be_bytes());
    out.extend(0x0001_0000_u32.to_be_bytes());
    out.extend(data.to_be_bytes());
    out.extend(time.to_be_bytes());
    // Hyper-V's name: of a program that it does not know, QEMU would take the geometry for the size.
    out.extend(b"win ");
    out.extend(0x000a_0000_u32.to_be_bytes());
    out.extend(b"Wi2k");
    out.extend(size.to_be_bytes());
    out.extend(size.to_be_bytes());
    out.extend(cylinders.to_be_bytes());
    out.extend([heads, sectors]);
    out.extend(kind.to_be_bytes());
    out.extend([0; 4]);
    out.extend(seen.guid("disk"));
    out.resize(512, 0);
    sum_into(&mut out, 64);
    out
}

/// The ones' complement of the sum of all bytes, those of the sum itself being zero.
fn sum_into(bytes: &mut [u8], at: usize) {
    let sum = bytes
        .iter()
        .fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    if let Some(field) = bytes.get_mut(at..at.saturating_add(4)) {
        field.copy_from_slice(&(!sum).to_be_bytes());
    }
}

/// Cylinders, heads and sectors as the specification's appendix computes them.
fn geometry(sectors: u64) -> (u16, u8, u8) {
    let sectors = sectors.min(65_535 * 16 * 255);
    let (per_track, heads, tracks);
    if sectors >= 65_535 * 16 * 63 {
        per_track = 255;
        heads = 16;
        tracks = sectors / 255;
    } else {
        let few = sectors / 17;
        let some = few.div_ceil(1024).max(4);
        if few < some.saturating_mul(1024) && some <= 16 {
            (per_track, heads, tracks) = (17, some, few);
        } else if sectors / 31 < 16 * 1024 {
            (per_track, heads, tracks) = (31, 16, sectors / 31);
        } else {
            (per_track, heads, tracks) = (63, 16, sectors / 63);
        }
    }
    let cylinders = tracks.checked_div(heads).unwrap_or(0);
    (
        u16::try_from(cylinders).unwrap_or(u16::MAX),
        u8::try_from(heads).unwrap_or(16),
        per_track,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometries_are_those_of_the_specification() {
        // As qemu-img writes them for disks of these sizes.
        assert_eq!(geometry(0), (0, 4, 17));
        assert_eq!(geometry(2048 * 20), (602, 4, 17));
        assert_eq!(geometry(2048 * 4096), (8322, 16, 63));
        assert_eq!(geometry(u64::MAX), (65_535, 16, 255));
    }
}
