//! The superblock: 1,024 bytes at byte 1,024 of the volume.

use dormouse_block::{Error, Result, array_at, le_u16, le_u32, slice_at};

use super::features::{
    BIGALLOC, BIT64, CSUM_SEED, Features, GDT_CSUM, HAS_JOURNAL, LARGEDIR, META_BG, METADATA_CSUM,
    SPARSE_SUPER, SPARSE_SUPER2,
};
use super::{checksum, index, overflow};

/// Where the superblock is, in bytes from the start of the volume.
pub const OFFSET: u64 = 1024;
/// Its bytes.
pub const SIZE: usize = 1024;
/// Its magic number, at +0x38.
pub const MAGIC: u16 = 0xEF53;
/// `s_state`: cleanly unmounted.
pub const STATE_VALID: u16 = 1;
/// `s_state`: errors were found.
pub const STATE_ERROR: u16 = 2;
/// `s_flags`: names are hashed with unsigned characters.
pub const FLAG_UNSIGNED_HASH: u32 = 2;
/// Largest block size of ext4 (64 KiB), as a power of two.
const MAX_BLOCK_LOG: u32 = 16;
/// Group descriptors larger than this are refused, as by the kernel (`EXT4_MAX_DESC_SIZE`).
const MAX_DESCRIPTOR: u16 = 1024;
/// Groups that are accepted: 2^25 groups of 128 MiB are 4 EiB less a bit, beyond any disk.
const MAX_GROUPS: u64 = 1 << 25;

/// The superblock, checked: its numbers fit together as the kernel demands before it mounts.
#[derive(Debug, Clone)]
pub struct Superblock {
    /// All inodes.
    pub inodes_count: u32,
    /// All filesystem blocks.
    pub blocks_count: u64,
    /// Blocks kept for the superuser.
    pub reserved_blocks: u64,
    /// Blocks free, a multiple of the cluster with bigalloc; kept up to date only by a clean unmount.
    pub free_blocks: u64,
    /// Inodes free; kept up to date only by a clean unmount.
    pub free_inodes: u32,
    /// The block of group 0 that comes first: 1 with blocks of 1,024 bytes, else 0.
    pub first_data_block: u32,
    /// Bytes of a block, as a power of two: 10 to 16.
    pub block_log: u32,
    /// Blocks of a cluster, as a power of two; 0 without bigalloc.
    pub cluster_log: u32,
    /// Blocks of a group; the last group may have fewer.
    pub blocks_per_group: u32,
    /// Clusters of a group.
    pub clusters_per_group: u32,
    /// Inodes of a group.
    pub inodes_per_group: u32,
    /// `STATE_` bits.
    pub state: u16,
    /// The first inode that is not reserved.
    pub first_inode: u32,
    /// Bytes of an inode: a power of two from 128 to a block.
    pub inode_size: u16,
    /// What it uses.
    pub features: Features,
    /// The filesystem's UUID.
    pub uuid: [u8; 16],
    /// The label, up to 16 bytes.
    pub label: Vec<u8>,
    /// Blocks kept after the descriptors for growing.
    pub reserved_descriptor_blocks: u16,
    /// The inode of the journal, or 0.
    pub journal_inode: u32,
    /// The device number of an external journal, or 0.
    pub journal_device: u32,
    /// The first inode of the list of orphans, or 0.
    pub last_orphan: u32,
    /// Seeds the hash of names.
    pub hash_seed: [u32; 4],
    /// The hash of new directories: 0 legacy, 1 half MD4, 2 TEA.
    pub hash_version: u8,
    /// Bytes of a group descriptor: 32, or 64 and more with `64bit`.
    pub descriptor_size: u16,
    /// With `meta_bg`, the first group of blocks of descriptors that is spread.
    pub first_meta_group: u32,
    /// Bytes that new inodes use beyond 128.
    pub want_extra_isize: u16,
    /// `FLAG_` bits.
    pub flags: u32,
    /// Groups of a flexible group, as a power of two.
    pub flex_log: u8,
    /// With `sparse_super2`, the groups that hold backups.
    pub backup_groups: [u32; 2],
    /// The inode of the orphan file, or 0.
    pub orphan_file_inode: u32,
    /// With `quota`, the inodes of the quota of users, groups and projects; 0 where there is none.
    pub quota_inodes: [u32; 3],
    /// Seeds all CRC-32C of metadata.
    pub checksum_seed: u32,
    /// How many groups there are.
    pub groups: u32,
}

impl Superblock {
    /// Reads the superblock from its 1,024 bytes.
    ///
    /// # Errors
    /// `Corrupt` for a wrong magic number, checksum or geometry; `Unsupported` for features that are not read.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if le_u16(bytes, 0x38)? != MAGIC {
            return Err(Error::corrupt("no ext superblock").at_offset(OFFSET));
        }
        let dynamic = le_u32(bytes, 0x4C)? >= 1;
        let mut features = Features {
            compat: le_u32(bytes, 0x5C)?,
            incompat: le_u32(bytes, 0x60)?,
            ro_compat: le_u32(bytes, 0x64)?,
        };
        if !dynamic {
            features = Features {
                compat: 0,
                incompat: 0,
                ro_compat: 0,
            };
        }
        if features.ro_compat(METADATA_CSUM) {
            let kind = slice_at(bytes, 0x175, 1)?;
            if kind != [1] {
                return Err(
                    Error::unsupported("metadata checksums other than crc32c").at_offset(OFFSET)
                );
            }
            let sum = checksum::crc32c(!0, slice_at(bytes, 0, 0x3FC)?);
            if sum != le_u32(bytes, 0x3FC)? {
                return Err(Error::corrupt("bad checksum of the superblock").at_offset(OFFSET));
            }
        }
        features.check_readable()?;
        let bit64 = features.incompat(BIT64);
        let high = |offset| -> Result<u64> {
            Ok(if bit64 {
                u64::from(le_u32(bytes, offset)?) << 32
            } else {
                0
            })
        };
        let block_log = le_u32(bytes, 0x18)?.saturating_add(10);
        let cluster_log = le_u32(bytes, 0x1C)?.saturating_add(10);
        if block_log > MAX_BLOCK_LOG {
            return Err(Error::corrupt("blocks larger than 64 KiB").at_offset(OFFSET));
        }
        let bigalloc = features.ro_compat(BIGALLOC);
        let descriptor_size = if bit64 { le_u16(bytes, 0xFE)? } else { 32 };
        let uuid: [u8; 16] = array_at(bytes, 0x68)?;
        let label: &[u8] = slice_at(bytes, 0x78, 16)?;
        let mut this = Self {
            inodes_count: le_u32(bytes, 0)?,
            blocks_count: u64::from(le_u32(bytes, 4)?) | high(0x150)?,
            reserved_blocks: u64::from(le_u32(bytes, 8)?) | high(0x154)?,
            free_blocks: u64::from(le_u32(bytes, 0xC)?) | high(0x158)?,
            free_inodes: le_u32(bytes, 0x10)?,
            first_data_block: le_u32(bytes, 0x14)?,
            block_log,
            cluster_log: if bigalloc {
                cluster_log.checked_sub(block_log).ok_or_else(|| {
                    Error::corrupt("clusters smaller than blocks").at_offset(OFFSET)
                })?
            } else {
                0
            },
            blocks_per_group: le_u32(bytes, 0x20)?,
            clusters_per_group: if bigalloc {
                le_u32(bytes, 0x24)?
            } else {
                le_u32(bytes, 0x20)?
            },
            inodes_per_group: le_u32(bytes, 0x28)?,
            state: le_u16(bytes, 0x3A)?,
            first_inode: if dynamic { le_u32(bytes, 0x54)? } else { 11 },
            inode_size: if dynamic { le_u16(bytes, 0x58)? } else { 128 },
            features,
            uuid,
            label: label
                .split(|&byte| byte == 0)
                .next()
                .unwrap_or_default()
                .to_vec(),
            reserved_descriptor_blocks: le_u16(bytes, 0xCE)?,
            journal_inode: le_u32(bytes, 0xE0)?,
            journal_device: le_u32(bytes, 0xE4)?,
            last_orphan: le_u32(bytes, 0xE8)?,
            hash_seed: [
                le_u32(bytes, 0xEC)?,
                le_u32(bytes, 0xF0)?,
                le_u32(bytes, 0xF4)?,
                le_u32(bytes, 0xF8)?,
            ],
            hash_version: slice_at(bytes, 0xFC, 1)?
                .first()
                .copied()
                .unwrap_or_default(),
            descriptor_size,
            first_meta_group: le_u32(bytes, 0x104)?,
            want_extra_isize: le_u16(bytes, 0x15E)?,
            flags: le_u32(bytes, 0x160)?,
            flex_log: slice_at(bytes, 0x174, 1)?
                .first()
                .copied()
                .unwrap_or_default(),
            backup_groups: [le_u32(bytes, 0x24C)?, le_u32(bytes, 0x250)?],
            orphan_file_inode: le_u32(bytes, 0x280)?,
            quota_inodes: [
                le_u32(bytes, 0x240)?,
                le_u32(bytes, 0x244)?,
                le_u32(bytes, 0x26C)?,
            ],
            checksum_seed: if features.incompat(CSUM_SEED) {
                le_u32(bytes, 0x270)?
            } else {
                checksum::crc32c(!0, &uuid)
            },
            groups: 0,
        };
        this.check(bit64)?;
        Ok(this)
    }

    fn check(&mut self, bit64: bool) -> Result<()> {
        let bad = |what: &'static str| Err(Error::corrupt(what).at_offset(OFFSET));
        let size = u32::from(self.inode_size);
        if !size.is_power_of_two() || size < 128 || size > self.block_size() {
            return bad("bad inode size in the superblock");
        }
        let descriptor = self.descriptor_size;
        if bit64 && (!(64..=MAX_DESCRIPTOR).contains(&descriptor) || !descriptor.is_power_of_two())
        {
            return bad("bad size of group descriptors in the superblock");
        }
        let bits = self.block_size().saturating_mul(8);
        if self.blocks_per_group == 0 || self.clusters_per_group == 0 || self.inodes_per_group == 0
        {
            return bad("an empty block group in the superblock");
        }
        if self.cluster_log > 20
            || self.clusters_per_group > bits
            || self.inodes_per_group > bits
            || u64::from(self.clusters_per_group) << self.cluster_log
                != u64::from(self.blocks_per_group)
        {
            return bad("block groups larger than their bitmaps in the superblock");
        }
        let inodes_per_block = self.block_size().checked_div(size).unwrap_or(0);
        if self.inodes_per_group < inodes_per_block || self.first_inode < 11 {
            return bad("bad number of inodes in the superblock");
        }
        let first = u64::from(self.first_data_block);
        if first >= self.blocks_count
            || first > 1
            || self.blocks_count.leading_zeros() < self.block_log
        {
            return bad("bad number of blocks in the superblock");
        }
        let groups = self
            .blocks_count
            .saturating_sub(first)
            .div_ceil(u64::from(self.blocks_per_group).max(1));
        if groups > MAX_GROUPS {
            return Err(Error::limit("more than 2^25 block groups").at_offset(OFFSET));
        }
        self.groups = u32::try_from(groups).map_err(|_| overflow())?;
        let inodes = u64::from(self.groups).saturating_mul(u64::from(self.inodes_per_group));
        if inodes != u64::from(self.inodes_count) {
            return bad("the number of inodes does not fit the number of block groups");
        }
        Ok(())
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        1 << self.block_log
    }

    /// Bytes of a block, as the length of a buffer.
    #[must_use]
    pub fn block_len(&self) -> usize {
        index(self.block_size())
    }

    /// Bytes of the whole filesystem.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.blocks_count << self.block_log
    }

    /// `ext2`, `ext3` or `ext4`, by the features in use.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        const EXT3_INCOMPAT: u32 = 0x2 | 0x4 | 0x8 | META_BG;
        const EXT3_RO_COMPAT: u32 = 0x1 | 0x2 | 0x4;
        if self.features.incompat & !EXT3_INCOMPAT != 0
            || self.features.ro_compat & !EXT3_RO_COMPAT != 0
        {
            "ext4"
        } else if self.features.compat(HAS_JOURNAL) {
            "ext3"
        } else {
            "ext2"
        }
    }

    /// The UUID in text, unless it is all zeroes.
    #[must_use]
    pub fn uuid_text(&self) -> Option<String> {
        if self.uuid == [0; 16] {
            return None;
        }
        let mut text = String::with_capacity(36);
        for (at, byte) in self.uuid.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push_str(&format!("{byte:02x}"));
        }
        Some(text)
    }

    /// Whether all metadata has CRC-32C checksums.
    #[must_use]
    pub fn metadata_checksums(&self) -> bool {
        self.features.ro_compat(METADATA_CSUM)
    }

    /// Whether only the group descriptors have checksums, of the older kind.
    #[must_use]
    pub fn descriptor_checksums_only(&self) -> bool {
        self.features.ro_compat(GDT_CSUM) && !self.metadata_checksums()
    }

    /// Levels of index nodes below a hashed directory's root block that are allowed.
    #[must_use]
    pub fn index_levels(&self) -> u8 {
        if self.features.incompat(LARGEDIR) {
            2
        } else {
            1
        }
    }

    /// The first filesystem block of `group`.
    #[must_use]
    pub fn group_start(&self, group: u32) -> u64 {
        u64::from(group)
            .saturating_mul(u64::from(self.blocks_per_group))
            .saturating_add(u64::from(self.first_data_block))
    }

    /// Blocks of `group`: fewer than [`Superblock::blocks_per_group`] in the last one.
    #[must_use]
    pub fn group_blocks(&self, group: u32) -> u32 {
        let rest = self.blocks_count.saturating_sub(self.group_start(group));
        u32::try_from(rest.min(u64::from(self.blocks_per_group))).unwrap_or(0)
    }

    /// Blocks of a cluster, the unit in which blocks are given out: 1 without bigalloc.
    #[must_use]
    pub fn cluster_blocks(&self) -> u64 {
        1 << self.cluster_log
    }

    /// Clusters of `group`; the last one of a filesystem may be cut short.
    #[must_use]
    pub fn group_clusters(&self, group: u32) -> u32 {
        self.group_blocks(group).div_ceil(1 << self.cluster_log)
    }

    /// The group of filesystem block `block`, and its number there.
    #[must_use]
    pub fn group_of_block(&self, block: u64) -> Option<(u32, u32)> {
        if block >= self.blocks_count {
            return None;
        }
        let at = block.checked_sub(u64::from(self.first_data_block))?;
        let per = u64::from(self.blocks_per_group);
        let group = u32::try_from(at.checked_div(per)?).ok()?;
        Some((group, u32::try_from(at.checked_rem(per)?).ok()?))
    }

    /// Whether `group` holds a copy of the superblock.
    #[must_use]
    pub fn has_superblock(&self, group: u32) -> bool {
        if group == 0 {
            return true;
        }
        if self.features.compat(SPARSE_SUPER2) {
            return self.backup_groups.contains(&group);
        }
        if group == 1 || !self.features.ro_compat(SPARSE_SUPER) {
            return true;
        }
        group % 2 == 1 && [3, 5, 7].iter().any(|&base| is_power_of(group, base))
    }

    /// Descriptors in a block.
    #[must_use]
    pub fn descriptors_per_block(&self) -> u32 {
        self.block_size()
            .checked_div(u32::from(self.descriptor_size))
            .unwrap_or(1)
            .max(1)
    }

    /// The filesystem block that holds the descriptor of `group`, and its byte there.
    ///
    /// # Errors
    /// `Corrupt` for a group that does not exist.
    pub fn descriptor_place(&self, group: u32) -> Result<(u64, usize)> {
        if group >= self.groups {
            return Err(Error::corrupt(format!("there is no block group {group}")));
        }
        let per = self.descriptors_per_block();
        let nth = group.checked_div(per).unwrap_or(0);
        let within = index(group.checked_rem(per).unwrap_or(0))
            .saturating_mul(usize::from(self.descriptor_size));
        if !self.features.incompat(META_BG) || nth < self.first_meta_group {
            // After the block of the superblock, which is not the first one of a bigalloc filesystem with blocks of 1 KiB.
            let block = (OFFSET >> self.block_log)
                .saturating_add(1)
                .saturating_add(u64::from(nth));
            return Ok((block, within));
        }
        let first = nth.checked_mul(per).ok_or_else(overflow)?;
        let mut block = self
            .group_start(first)
            .saturating_add(u64::from(self.has_superblock(first)));
        // Block 0 of a bigalloc filesystem with blocks of 1 KiB is the boot sector (kernel: descriptor_loc).
        if self.block_log == 10 && nth == 0 && self.first_data_block == 0 {
            block = block.saturating_add(1);
        }
        Ok((block, within))
    }

    /// The group of inode `inode` and its number there, from 0.
    ///
    /// # Errors
    /// `Corrupt` for an inode that does not exist.
    pub fn inode_place(&self, inode: u32) -> Result<(u32, u32)> {
        let at = inode
            .checked_sub(1)
            .filter(|_| inode <= self.inodes_count)
            .ok_or_else(|| Error::corrupt(format!("there is no inode {inode}")))?;
        let per = self.inodes_per_group;
        Ok((
            at.checked_div(per).unwrap_or(0),
            at.checked_rem(per).unwrap_or(0),
        ))
    }

    /// Held against the volume's geometry: blocks `start` to `start + len` exist and are none of the first.
    ///
    /// # Errors
    /// `Corrupt` when they lie outside.
    pub fn check_blocks(&self, start: u64, len: u64) -> Result<()> {
        match start.checked_add(len) {
            Some(end) if end <= self.blocks_count && start > u64::from(self.first_data_block) => {
                Ok(())
            }
            _ => Err(Error::corrupt(format!(
                "block {start} lies outside the filesystem of {} blocks",
                self.blocks_count
            ))),
        }
    }
}

fn is_power_of(mut n: u32, base: u32) -> bool {
    while n > 1 {
        match (n.checked_rem(base), n.checked_div(base)) {
            (Some(0), Some(next)) => n = next,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_are_in_powers_of_three_five_and_seven() {
        let powers: Vec<u32> = (1..100)
            .filter(|&group| group == 1 || [3, 5, 7].iter().any(|&base| is_power_of(group, base)))
            .collect();
        assert_eq!(powers, [1, 3, 5, 7, 9, 25, 27, 49, 81]);
    }

    #[test]
    fn empty_bytes_are_no_superblock() {
        assert!(Superblock::parse(&[]).is_err());
        assert!(Superblock::parse(&[0; SIZE]).is_err());
    }
}
