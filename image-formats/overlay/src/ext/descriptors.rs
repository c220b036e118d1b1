//! Group descriptors and the superblock's totals, written.

use dormouse_block::{Error, Result, slice_at};
use dormouse_filesystem::ext::checksum::crc32c;
use dormouse_filesystem::ext::features::BIT64;
use dormouse_filesystem::ext::group::Group;
use dormouse_filesystem::ext::superblock::Superblock;

use super::space::Space;
use super::store::{Store, put, put16, put32};
use crate::Device;

fn lost() -> Error {
    Error::corrupt("there is no such block group")
}

/// The bits of a bitmap's checksum that a descriptor of this size holds.
pub(super) fn sum_mask(sb: &Superblock) -> u32 {
    if sb.descriptor_size >= 64 {
        u32::MAX
    } else {
        0xFFFF
    }
}

/// Puts a descriptor and its checksum into its block.
pub(super) fn write_descriptor<D: Device>(
    sb: &Superblock,
    store: &mut Store<D>,
    number: u32,
    group: &Group,
) -> Result<()> {
    let (block, within) = sb.descriptor_place(number)?;
    let size = usize::from(sb.descriptor_size);
    let bytes = store
        .modify(block)?
        .get_mut(within..within.saturating_add(size))
        .ok_or_else(lost)?;
    let wide = sb.features.incompat(BIT64) && size >= 64;
    let mut pair = |low: usize, high: usize, value: u32| -> Result<()> {
        put16(bytes, low, u64::from(value))?;
        if wide {
            put16(bytes, high, u64::from(value >> 16))
        } else {
            Ok(())
        }
    };
    pair(0xC, 0x2C, group.free_blocks)?;
    pair(0xE, 0x2E, group.free_inodes)?;
    pair(0x10, 0x30, group.directories)?;
    if sb.metadata_checksums() {
        pair(0x18, 0x38, group.block_bitmap_sum)?;
        pair(0x1A, 0x3A, group.inode_bitmap_sum)?;
    }
    if sb.features.group_checksums() {
        pair(0x1C, 0x32, group.unused_inodes)?;
        put(bytes, 0x12, &group.flags.to_le_bytes())?;
    }
    if let Some(sum) = Group::checksum(sb, number, bytes)? {
        put(bytes, 0x1E, &sum.to_le_bytes())?;
    }
    Ok(())
}

/// Puts the totals into the bytes of a superblock and seals it.
pub(super) fn seal_superblock(sb: &Superblock, space: &Space, bytes: &mut [u8]) -> Result<()> {
    put32(bytes, 0xC, space.all_free_blocks())?;
    put32(bytes, 0x10, space.free_inodes())?;
    if sb.features.incompat(BIT64) {
        put32(bytes, 0x158, space.all_free_blocks() >> 32)?;
    }
    if sb.metadata_checksums() {
        let sum = crc32c(!0, slice_at(bytes, 0, 0x3FC)?);
        put(bytes, 0x3FC, &sum.to_le_bytes())?;
    }
    Ok(())
}
