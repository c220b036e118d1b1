//! VHDX, after Microsoft's [MS-VHDX].

use dormouse_block::{Error, Result, Source};

use super::size_of;
use super::target::Target;
use super::walk::{Fingerprint, pieces};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// "The maximum virtual disk size is 64 TB."
const MAX_SIZE: u64 = 64 << 40;
/// Bytes of a block: small ones leave more out; larger disks get Hyper-V's default, for their tables' sake.
const SMALL_BLOCK: u64 = 2 << 20;
const LARGE_BLOCK: u64 = 32 << 20;
const SMALL_UP_TO: u64 = 1 << 40;
/// Sectors that one sector bitmap covers.
const CHUNK_SECTORS: u64 = 1 << 23;
/// Smaller stretches of zeroes inside a block are not left as holes.
const PIECE: u64 = 4096;
/// Where log, metadata and table begin.
const LOG: u64 = MIB;
const METADATA: u64 = 2 * MIB;
const TABLE: u64 = 3 * MIB;
/// State of a block that is there.
const PRESENT: u64 = 6;

/// GUIDs as they stand in the file.
const BAT_REGION: [u8; 16] = *b"\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08";
const METADATA_REGION: [u8; 16] =
    *b"\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";
const FILE_PARAMETERS: [u8; 16] =
    *b"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b";
const DISK_SIZE: [u8; 16] = *b"\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8";
const DISK_ID: [u8; 16] = *b"\xab\x12\xca\xbe\xe6\xb2\x23\x45\x93\xef\xc3\x09\xe0\x00\xc7\x46";
const LOGICAL_SECTOR: [u8; 16] =
    *b"\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f";
const PHYSICAL_SECTOR: [u8; 16] =
    *b"\xc7\x48\xa3\xcd\x5d\x44\x71\x44\x9c\xc9\xe9\x88\x52\x51\xc5\x56";

pub(super) fn write(disk: &dyn Source, target: &mut Target) -> Result<()> {
    let size = size_of(disk, MAX_SIZE, "VHDX")?;
    let block = if size <= SMALL_UP_TO {
        SMALL_BLOCK
    } else {
        LARGE_BLOCK
    };
    let ratio = (CHUNK_SECTORS * 512).checked_div(block).unwrap_or(1).max(1);
    let blocks = size.div_ceil(block);
    // Behind every `ratio` blocks stands an entry for a sector bitmap, which only layers need.
    let entries = blocks.saturating_add(blocks.saturating_sub(1).checked_div(ratio).unwrap_or(0));
    let too_large = || Error::limit("the disk is too large");
    let mut table = vec![0_u64; usize::try_from(entries).map_err(|_| too_large())?];
    let table_len = entries.saturating_mul(8).max(1).next_multiple_of(MIB);
    let mut next = TABLE.saturating_add(table_len);
    let mut seen = Fingerprint::new("vhdx", size);
    pieces(disk, PIECE, |offset, bytes| {
        seen.add(offset, bytes);
        let number = offset.checked_div(block).unwrap_or(0);
        let entry = number.saturating_add(number.checked_div(ratio).unwrap_or(0));
        let slot = usize::try_from(entry)
            .ok()
            .and_then(|entry| table.get_mut(entry))
            .ok_or_else(|| Error::corrupt("data lie beyond the end of the disk"))?;
        if *slot == 0 {
            *slot = next | PRESENT;
            next = next.saturating_add(block);
            // The whole block belongs to the file, whatever of it is a hole.
            target.grow(next);
        }
        let start = *slot & !(MIB - 1);
        let within = offset.checked_rem(block).unwrap_or(0);
        target.put(start.saturating_add(within), bytes)
    })?;
    target.grow(next);
    let bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    target.put(TABLE, &bytes)?;
    metadata(target, size, block, &seen)?;
    let regions = region_table(table_len)?;
    target.put(192 * KIB, &regions)?;
    target.put(256 * KIB, &regions)?;
    for (sequence, at) in [(1, 64 * KIB), (2, 128 * KIB)] {
        target.put(at, &header(sequence, &seen))?;
    }
    let mut identifier = b"vhdxfile".to_vec();
    identifier.extend("Dormouse".encode_utf16().flat_map(u16::to_le_bytes));
    target.put(0, &identifier)
}

/// A structure's CRC-32C at its byte 4, computed while that is zero.
fn sum_into(bytes: &mut [u8]) {
    let sum = crc32c::crc32c(bytes);
    if let Some(field) = bytes.get_mut(4..8) {
        field.copy_from_slice(&sum.to_le_bytes());
    }
}

fn header(sequence: u64, seen: &Fingerprint) -> Vec<u8> {
    let mut out = b"head\0\0\0\0".to_vec();
    out.extend(sequence.to_le_bytes());
    out.extend(seen.guid("file write"));
    out.extend(seen.guid("data write"));
    // Nothing to replay.
    out.extend([0; 16]);
    // The log's version, and the file's.
    out.extend(0_u16.to_le_bytes());
    out.extend(1_u16.to_le_bytes());
    out.extend((1_u32 << 20).to_le_bytes());
    out.extend(LOG.to_le_bytes());
    out.resize(4096, 0);
    sum_into(&mut out);
    out
}

fn region_table(table_len: u64) -> Result<Vec<u8>> {
    let mut out = b"regi\0\0\0\0".to_vec();
    out.extend(2_u32.to_le_bytes());
    out.extend([0; 4]);
    for (id, offset, len) in [
        (BAT_REGION, TABLE, table_len),
        (METADATA_REGION, METADATA, MIB),
    ] {
        let len = u32::try_from(len).map_err(|_| Error::limit("the disk is too large"))?;
        out.extend(id);
        out.extend(offset.to_le_bytes());
        out.extend(len.to_le_bytes());
        // Required.
        out.extend(1_u32.to_le_bytes());
    }
    out.resize(64 << 10, 0);
    sum_into(&mut out);
    Ok(out)
}

fn metadata(target: &mut Target, size: u64, block: u64, seen: &Fingerprint) -> Result<()> {
    let block = u32::try_from(block).map_err(|_| Error::limit("the block is too large"))?;
    let parameters = [block.to_le_bytes(), [0; 4]].concat();
    // Bit 1: of the virtual disk; bit 2: required.
    let items: [([u8; 16], Vec<u8>, u32); 5] = [
        (FILE_PARAMETERS, parameters, 4),
        (DISK_SIZE, size.to_le_bytes().to_vec(), 6),
        (DISK_ID, seen.guid("disk").to_vec(), 6),
        (LOGICAL_SECTOR, 512_u32.to_le_bytes().to_vec(), 6),
        (PHYSICAL_SECTOR, 4096_u32.to_le_bytes().to_vec(), 6),
    ];
    let mut table = b"metadata\0\0\x05\0".to_vec();
    table.resize(32, 0);
    let mut values = Vec::new();
    for (id, value, flags) in items {
        let at = u32::try_from(values.len())
            .unwrap_or(0)
            .saturating_add(64 << 10);
        let len = u32::try_from(value.len()).unwrap_or(0);
        table.extend(id);
        table.extend(at.to_le_bytes());
        table.extend(len.to_le_bytes());
        table.extend(flags.to_le_bytes());
        table.extend([0; 4]);
        values.extend(value);
    }
    target.put(METADATA, &table)?;
    target.put(METADATA.saturating_add(64 * KIB), &values)
}
