//! Group descriptors: where a group's bitmaps and inode table are, and how much of them is used.

use dormouse_block::{Error, Result, le_u16, le_u32};

use super::features::{BIT64, META_BG};
use super::superblock::Superblock;
use super::{checksum, overflow};

/// `bg_flags`: the inode table and bitmap are not initialised.
pub const INODE_UNINIT: u16 = 1;
/// `bg_flags`: the block bitmap is not initialised.
pub const BLOCK_UNINIT: u16 = 2;
/// `bg_flags`: the inode table is zeroed.
pub const ITABLE_ZEROED: u16 = 4;

/// A group descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The filesystem block of the block bitmap.
    pub block_bitmap: u64,
    /// The filesystem block of the inode bitmap.
    pub inode_bitmap: u64,
    /// The first filesystem block of the inode table.
    pub inode_table: u64,
    /// Free blocks (clusters with bigalloc).
    pub free_blocks: u32,
    /// Free inodes.
    pub free_inodes: u32,
    /// Directories.
    pub directories: u32,
    /// `_UNINIT` and `_ZEROED` bits.
    pub flags: u16,
    /// Inodes at the end of the table that were never used.
    pub unused_inodes: u32,
    /// CRC-32C of the block bitmap; its lower half only in descriptors of 32 bytes.
    pub block_bitmap_sum: u32,
    /// CRC-32C of the inode bitmap; its lower half only in descriptors of 32 bytes.
    pub inode_bitmap_sum: u32,
}

impl Group {
    /// Reads the descriptor of `group` from its bytes and checks it.
    ///
    /// # Errors
    /// `Corrupt` for a wrong checksum, and for tables outside the filesystem.
    pub fn parse(sb: &Superblock, group: u32, bytes: &[u8]) -> Result<Self> {
        if let Some(sum) = Self::checksum(sb, group, bytes)?
            && sum != le_u16(bytes, 0x1E)?
        {
            return Err(Error::corrupt(format!(
                "bad checksum of group descriptor {group}"
            )));
        }
        let wide = sb.features.incompat(BIT64) && sb.descriptor_size >= 64;
        let pair32 = |low: usize, high: usize| -> Result<u64> {
            let high = if wide { le_u32(bytes, high)? } else { 0 };
            Ok(u64::from(le_u32(bytes, low)?) | u64::from(high) << 32)
        };
        let pair16 = |low: usize, high: usize| -> Result<u32> {
            let high = if wide { le_u16(bytes, high)? } else { 0 };
            Ok(u32::from(le_u16(bytes, low)?) | u32::from(high) << 16)
        };
        let this = Self {
            block_bitmap: pair32(0, 0x20)?,
            inode_bitmap: pair32(4, 0x24)?,
            inode_table: pair32(8, 0x28)?,
            free_blocks: pair16(0xC, 0x2C)?,
            free_inodes: pair16(0xE, 0x2E)?,
            directories: pair16(0x10, 0x30)?,
            flags: le_u16(bytes, 0x12)?,
            unused_inodes: pair16(0x1C, 0x32)?,
            block_bitmap_sum: pair16(0x18, 0x38)?,
            inode_bitmap_sum: pair16(0x1A, 0x3A)?,
        };
        sb.check_blocks(this.block_bitmap, 1)?;
        sb.check_blocks(this.inode_bitmap, 1)?;
        sb.check_blocks(this.inode_table, inode_table_blocks(sb))?;
        Ok(this)
    }

    /// The checksum that the descriptor of `group` with these bytes should have, or `None` without that feature.
    ///
    /// # Errors
    /// `Corrupt` for bytes shorter than a descriptor.
    pub fn checksum(sb: &Superblock, group: u32, bytes: &[u8]) -> Result<Option<u16>> {
        let size = usize::from(sb.descriptor_size);
        let (Some(head), Some(tail)) = (bytes.get(..0x1E), bytes.get(0x20..size.max(0x20))) else {
            return Err(overflow());
        };
        let number = group.to_le_bytes();
        if sb.metadata_checksums() {
            let sum = checksum::crc32c(sb.checksum_seed, &number);
            let sum = checksum::crc32c(checksum::crc32c(sum, head), &[0, 0]);
            let sum = checksum::crc32c(sum, tail);
            return Ok(Some(u16::try_from(sum & 0xFFFF).unwrap_or_default()));
        }
        if sb.descriptor_checksums_only() {
            let sum = checksum::crc16(checksum::crc16(!0, &sb.uuid), &number);
            let sum = checksum::crc16(sum, head);
            let tail = if sb.features.incompat(BIT64) {
                tail
            } else {
                &[]
            };
            return Ok(Some(checksum::crc16(sum, tail)));
        }
        Ok(None)
    }
}

/// Blocks of a group's inode table.
#[must_use]
pub fn inode_table_blocks(sb: &Superblock) -> u64 {
    u64::from(sb.inodes_per_group)
        .saturating_mul(u64::from(sb.inode_size))
        .div_ceil(u64::from(sb.block_size()))
}

/// Blocks at the start of `group` that copies of the superblock and of descriptors take.
#[must_use]
pub fn base_blocks(sb: &Superblock, group: u32) -> u32 {
    let has_super = sb.has_superblock(group);
    let per = sb.descriptors_per_block();
    let nth = group.checked_div(per).unwrap_or(0);
    if sb.features.incompat(META_BG) && nth >= sb.first_meta_group {
        // The first, second and last group of a meta group hold its one block of descriptors.
        let within = group.checked_rem(per).unwrap_or(0);
        let holds = within == 0 || within == 1 || within == per.saturating_sub(1);
        return u32::from(has_super).saturating_add(u32::from(holds));
    }
    if !has_super {
        return 0;
    }
    let mut blocks = sb.groups.div_ceil(per);
    if sb.features.incompat(META_BG) {
        blocks = blocks.min(sb.first_meta_group);
    }
    1_u32
        .saturating_add(blocks)
        .saturating_add(u32::from(sb.reserved_descriptor_blocks))
}
