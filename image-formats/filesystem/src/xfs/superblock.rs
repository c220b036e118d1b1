//! The superblock: geometry, features, and where things are.

use dormouse_block::{Error, Result, array_at, be_u16, be_u32, be_u64, le_u32, slice_at};

use super::features::Features;
use super::{index, overflow};

/// `XFSB`.
pub(super) const MAGIC: u32 = 0x5846_5342;
/// Bytes of the largest sector, and so of the largest superblock (`XFS_MAX_SECTORSIZE`).
pub(super) const MAX_SECTOR: u16 = 32768;
/// The smallest allocation group in blocks (`XFS_MIN_AG_BLOCKS`).
const MIN_GROUP: u32 = 64;
/// The most blocks of a log (`XFS_MAX_LOG_BLOCKS`).
const MAX_LOG_BLOCKS: u32 = 1 << 20;

/// What the superblock says, held against itself. A *filesystem block* is a `u64`: the allocation group above the lowest
/// [`Superblock::group_log`] bits, the block within it below. All integers are big-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Bytes of a block as a power of two, 9 to 16.
    pub(super) block_log: u32,
    /// Bytes of a sector as a power of two, 9 to 15.
    pub(super) sector_log: u32,
    /// Bytes of an inode as a power of two, 8 to 11.
    pub(super) inode_log: u32,
    /// Inodes in a block as a power of two.
    pub(super) inodes_log: u32,
    /// Blocks of an allocation group, rounded up to a power of two.
    pub(super) group_log: u32,
    /// Blocks of a block of directories as a power of two.
    pub(super) directory_log: u32,
    /// Blocks of the data device.
    pub(super) blocks: u64,
    /// Blocks of each allocation group but the last.
    pub(super) group_blocks: u32,
    /// Allocation groups.
    pub(super) groups: u32,
    /// The root directory's inode.
    pub(super) root: u64,
    /// Inodes of the filesystem itself: the real-time bitmap and summary, quotas, the metadata directory.
    pub(super) own: [u64; 6],
    /// The filesystem block where the log begins; 0 when it is on another device.
    pub(super) log_start: u64,
    /// Blocks of the log.
    pub(super) log_blocks: u32,
    /// Free blocks, as they were at the last unmounting.
    pub(super) free: u64,
    /// `sb_inoalignmt`: blocks that inode chunks are aligned to.
    pub(super) inode_alignment: u32,
    /// The label, without trailing NULs.
    pub(super) label: Vec<u8>,
    /// The UUID that users see and the log carries.
    pub(super) uuid: [u8; 16],
    /// The UUID that metadata carries.
    pub(super) meta_uuid: [u8; 16],
    /// The features.
    pub(super) features: Features,
}

fn log_of(size: u32, log: u8, least: u32, most: u32, what: &str) -> Result<u32> {
    let log = u32::from(log);
    if !(least..=most).contains(&log) || 1_u32.checked_shl(log) != Some(size) {
        return Err(Error::corrupt(format!("bad {what} of XFS: {size} bytes")));
    }
    Ok(log)
}

impl Superblock {
    /// Reads the superblock at the start of `bytes`, which hold at least a sector; `checked` is false for one that the
    /// log has changed, since its checksum is only made when it is written.
    ///
    /// # Errors
    /// `Corrupt` or `Unsupported`, by name.
    pub(super) fn parse(bytes: &[u8], checked: bool) -> Result<Self> {
        if be_u32(bytes, 0)? != MAGIC {
            return Err(Error::corrupt("no superblock of XFS"));
        }
        let features = Features {
            version: u32::from(be_u16(bytes, 100)?),
            more: be_u32(bytes, 200)?,
            ro_compat: be_u32(bytes, 212)?,
            incompat: be_u32(bytes, 216)?,
            log_incompat: be_u32(bytes, 220)?,
        };
        let [
            block_log,
            sector_log,
            inode_log,
            inodes_log,
            group_log,
            _,
            in_progress,
        ] = array_at::<7>(bytes, 120)?;
        let sector = u32::from(be_u16(bytes, 102)?);
        let sector_log = log_of(sector, sector_log, 9, 15, "sector")?;
        if features.v5() && checked {
            let whole = slice_at(bytes, 0, index(sector))?;
            if super::checksum(whole, 224)? != le_u32(bytes, 224)? {
                return Err(Error::corrupt("bad checksum of the superblock of XFS"));
            }
        }
        features.check()?;
        if in_progress != 0 {
            return Err(Error::corrupt("an XFS whose making never ended"));
        }
        let block_log = log_of(be_u32(bytes, 4)?, block_log, 9, 16, "block")?;
        let inode_log = log_of(u32::from(be_u16(bytes, 104)?), inode_log, 8, 11, "inode")?;
        let [directory_log] = array_at::<1>(bytes, 192)?;
        let uuid = array_at(bytes, 32)?;
        let this = Self {
            block_log,
            sector_log,
            inode_log,
            inodes_log: u32::from(inodes_log),
            group_log: u32::from(group_log),
            directory_log: u32::from(directory_log),
            blocks: be_u64(bytes, 8)?,
            group_blocks: be_u32(bytes, 84)?,
            groups: be_u32(bytes, 88)?,
            root: be_u64(bytes, 56)?,
            own: [
                be_u64(bytes, 64)?,
                be_u64(bytes, 72)?,
                be_u64(bytes, 160)?,
                be_u64(bytes, 168)?,
                if features.v5() {
                    be_u64(bytes, 232)?
                } else {
                    0
                },
                if features.v5() {
                    be_u64(bytes, 264)?
                } else {
                    0
                },
            ],
            log_start: be_u64(bytes, 48)?,
            log_blocks: be_u32(bytes, 96)?,
            free: be_u64(bytes, 144)?,
            inode_alignment: be_u32(bytes, 180)?,
            label: slice_at(bytes, 108, 12)?
                .split(|byte| *byte == 0)
                .next()
                .unwrap_or_default()
                .to_vec(),
            uuid,
            meta_uuid: if features.meta_uuid() {
                array_at(bytes, 248)?
            } else {
                uuid
            },
            features,
        };
        this.check_geometry()?;
        Ok(this)
    }

    fn check_geometry(&self) -> Result<()> {
        let bad = |what: &str| Err(Error::corrupt(format!("bad {what} in XFS's superblock")));
        if self.block_log.checked_sub(self.inode_log) != Some(self.inodes_log) {
            return bad("number of inodes in a block");
        }
        if self.block_log.saturating_add(self.directory_log) > 16 {
            return bad("size of directory blocks");
        }
        if self.sector_log > self.block_log {
            return bad("size of sectors");
        }
        if self.group_blocks < MIN_GROUP
            || self.group_log > 31
            || self.group_blocks.next_power_of_two() != 1 << self.group_log
        {
            return bad("size of allocation groups");
        }
        let all = u64::from(self.group_blocks).saturating_mul(u64::from(self.groups));
        let before = all.saturating_sub(u64::from(self.group_blocks));
        if self.groups == 0 || self.blocks > all || self.blocks <= before {
            return bad("number of allocation groups");
        }
        if self.log_start != 0 && (self.log_blocks == 0 || self.log_blocks > MAX_LOG_BLOCKS) {
            return bad("size of the log");
        }
        Ok(())
    }

    /// Bytes of a block.
    pub(super) fn block_size(&self) -> usize {
        1 << self.block_log
    }

    /// Bytes of the data device.
    ///
    /// # Errors
    /// `Corrupt` for more than 2^64.
    pub(super) fn bytes(&self) -> Result<u64> {
        self.blocks
            .checked_mul(1 << self.block_log)
            .ok_or_else(overflow)
    }

    /// Blocks of allocation group `group`.
    fn group_len(&self, group: u64) -> Result<u64> {
        let size = u64::from(self.group_blocks);
        let last = u64::from(self.groups).saturating_sub(1);
        match group.cmp(&last) {
            std::cmp::Ordering::Less => Ok(size),
            std::cmp::Ordering::Equal => Ok(self.blocks.saturating_sub(last.saturating_mul(size))),
            std::cmp::Ordering::Greater => Err(Error::corrupt(format!(
                "allocation group {group} of {}",
                self.groups
            ))),
        }
    }

    /// The byte where `len` consecutive blocks from filesystem block `block` on begin; all lie in one group.
    ///
    /// # Errors
    /// `Corrupt` when they do not.
    pub(super) fn extent(&self, block: u64, len: u64) -> Result<u64> {
        let group = block >> self.group_log;
        let within = block & (1_u64 << self.group_log).saturating_sub(1);
        if within.checked_add(len).is_none_or(|end| {
            self.group_len(group)
                .map_or(true, |blocks| end > blocks || len == 0)
        }) {
            return Err(Error::corrupt(format!(
                "{len} blocks at block {within} of allocation group {group} lie outside of it"
            )));
        }
        group
            .checked_mul(u64::from(self.group_blocks))
            .and_then(|start| start.checked_add(within))
            .and_then(|at| at.checked_mul(1 << self.block_log))
            .ok_or_else(overflow)
    }

    /// The byte where sector `nth` of `group` is: 1 holds the free space's roots, 2 those of the inodes.
    ///
    /// # Errors
    /// `Corrupt` when there is no such group.
    pub(super) fn group_sector(&self, group: u64, nth: u64) -> Result<u64> {
        self.group_len(group)?;
        group
            .checked_mul(u64::from(self.group_blocks))
            .and_then(|at| at.checked_mul(1 << self.block_log))
            .and_then(|at| at.checked_add(nth << self.sector_log))
            .ok_or_else(overflow)
    }

    /// The allocation group of an inode, its number within, the filesystem block that holds it and its byte there.
    ///
    /// # Errors
    /// `Corrupt` when no inode can have this number.
    pub(super) fn inode_place(&self, number: u64) -> Result<InodePlace> {
        let bits = self.group_log.saturating_add(self.inodes_log);
        let group = number.checked_shr(bits).unwrap_or(0);
        let within = number & 1_u64.checked_shl(bits).unwrap_or(0).saturating_sub(1);
        let block = (group << self.group_log) | (within >> self.inodes_log);
        self.extent(block, 1)
            .map_err(|_| Error::corrupt(format!("there is no inode {number}")))?;
        let nth = within & (1_u64 << self.inodes_log).saturating_sub(1);
        Ok(InodePlace {
            group,
            within: u32::try_from(within).map_err(|_| overflow())?,
            block,
            byte: index(nth << self.inode_log),
        })
    }

    /// Bytes of a block of directories.
    pub(super) fn directory_size(&self) -> usize {
        1 << self.block_log.saturating_add(self.directory_log)
    }

    /// The UUID in lower-case hexadecimal with dashes, if it is not all zero.
    pub(super) fn uuid_text(&self) -> Option<String> {
        if self.uuid == [0; 16] {
            return None;
        }
        let digits: String = self.uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
        let parts = parts.map(|range| digits.get(range).unwrap_or_default());
        Some(parts.join("-"))
    }
}

/// Where an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InodePlace {
    /// Its allocation group.
    pub(super) group: u64,
    /// Its number within the group.
    pub(super) within: u32,
    /// The filesystem block that holds it.
    pub(super) block: u64,
    /// The byte of that block where it begins.
    pub(super) byte: usize,
}
