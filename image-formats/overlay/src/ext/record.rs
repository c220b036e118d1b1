//! An inode to be changed: its bytes, its fields, and its place in the table.

use dormouse_block::{Error, Result, le_u16, le_u32, slice_at};
use dormouse_filesystem::Time;
use dormouse_filesystem::ext::features::{EXTRA_ISIZE, HUGE_FILE};
use dormouse_filesystem::ext::inode::{self, Inode, MAP_OFFSET, MAP_SIZE, OLD_SIZE};
use dormouse_filesystem::ext::superblock::Superblock;

use super::store::{index, put, put16, put32};

/// Further fields that reach to the end of the project.
const PROJECT_END: u16 = 32;

/// The bytes of one inode.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) number: u32,
    pub(super) raw: Vec<u8>,
}

impl Record {
    /// A new inode in the place of `old`, whose generation it continues.
    pub(super) fn fresh(sb: &Superblock, number: u32, old_generation: u32) -> Result<Self> {
        let size = usize::from(sb.inode_size);
        let mut raw = vec![0; size];
        put32(&mut raw, 0x64, u64::from(old_generation.wrapping_add(1)))?;
        if size > OLD_SIZE {
            // At least the fields up to the checksum's upper half must be there for it; mke2fs says 32.
            let room = u16::try_from(size.saturating_sub(OLD_SIZE)).unwrap_or(u16::MAX);
            let wanted = if sb.features.ro_compat(EXTRA_ISIZE) && sb.want_extra_isize >= 4 {
                sb.want_extra_isize
            } else {
                32
            };
            put16(&mut raw, OLD_SIZE, u64::from(wanted.min(room) & !3))?;
        }
        Ok(Self { number, raw })
    }

    pub(super) fn parsed(&self, sb: &Superblock) -> Result<Inode> {
        let mut copy = self.clone();
        copy.seal(sb)?;
        Inode::parse(sb, self.number, &copy.raw)
    }

    /// Computes its checksum.
    pub(super) fn seal(&mut self, sb: &Superblock) -> Result<()> {
        if sb.metadata_checksums() {
            let (sum, whole) = inode::checksum(sb, self.number, &self.raw)?;
            put16(&mut self.raw, 0x7C, u64::from(sum))?;
            if whole {
                put16(&mut self.raw, 0x82, u64::from(sum >> 16))?;
            }
        }
        Ok(())
    }

    pub(super) fn mode(&self) -> Result<u16> {
        le_u16(&self.raw, 0)
    }

    pub(super) fn set_mode(&mut self, mode: u16) -> Result<()> {
        put16(&mut self.raw, 0, u64::from(mode))
    }

    pub(super) fn is_directory(&self) -> Result<bool> {
        Ok(self.mode()? >> 12 == 4)
    }

    pub(super) fn set_owner(&mut self, uid: u32, gid: u32) -> Result<()> {
        put16(&mut self.raw, 2, u64::from(uid))?;
        put16(&mut self.raw, 0x78, u64::from(uid >> 16))?;
        put16(&mut self.raw, 0x18, u64::from(gid))?;
        put16(&mut self.raw, 0x7A, u64::from(gid >> 16))
    }

    pub(super) fn links(&self) -> Result<u16> {
        le_u16(&self.raw, 0x1A)
    }

    pub(super) fn set_links(&mut self, links: u16) -> Result<()> {
        put16(&mut self.raw, 0x1A, u64::from(links))
    }

    pub(super) fn flags(&self) -> Result<u32> {
        le_u32(&self.raw, 0x20)
    }

    pub(super) fn set_flags(&mut self, flags: u32) -> Result<()> {
        put32(&mut self.raw, 0x20, u64::from(flags))
    }

    pub(super) fn has(&self, flag: u32) -> Result<bool> {
        Ok(self.flags()? & flag != 0)
    }

    /// The project, where the inode has room for one.
    pub(super) fn project(&self) -> Result<u32> {
        if self.extra_size() < PROJECT_END {
            return Ok(0);
        }
        le_u32(&self.raw, inode::PROJECT_OFFSET)
    }

    pub(super) fn set_project(&mut self, project: u32) -> Result<()> {
        if project == self.project()? {
            return Ok(());
        }
        if self.extra_size() < PROJECT_END {
            return Err(Error::unsupported(
                "a project in an inode without room for one",
            ));
        }
        put32(&mut self.raw, inode::PROJECT_OFFSET, u64::from(project))
    }

    /// Takes from the directory `above`, in which it is made, what new inodes take from it.
    pub(super) fn inherit(&mut self, above: &Self) -> Result<()> {
        let mask = match self.mode()? >> 12 {
            0x4 => inode::INHERITED,
            0x8 => inode::FILE_INHERITED,
            _ => inode::OTHER_INHERITED,
        };
        self.set_flags(self.flags()? | above.flags()? & mask)?;
        if above.has(inode::PROJECT_INHERIT)? {
            self.set_project(above.project()?)?;
        }
        Ok(())
    }

    pub(super) fn owner(&self) -> Result<(u32, u32)> {
        let wide = |low: usize, high: usize| -> Result<u32> {
            Ok(u32::from(le_u16(&self.raw, low)?) | u32::from(le_u16(&self.raw, high)?) << 16)
        };
        Ok((wide(2, 0x78)?, wide(0x18, 0x7A)?))
    }

    pub(super) fn generation(&self) -> Result<u32> {
        le_u32(&self.raw, 0x64)
    }

    pub(super) fn set_size(&mut self, size: u64) -> Result<()> {
        put32(&mut self.raw, 4, size)?;
        put32(&mut self.raw, 0x6C, size >> 32)
    }

    /// The seed of the checksums of its blocks.
    pub(super) fn seed(&self, sb: &Superblock) -> Result<u32> {
        Ok(inode::seed(sb, self.number, self.generation()?))
    }

    pub(super) fn map(&self) -> Result<&[u8]> {
        slice_at(&self.raw, MAP_OFFSET, MAP_SIZE)
    }

    pub(super) fn set_map(&mut self, map: &[u8]) -> Result<()> {
        put(&mut self.raw, MAP_OFFSET, &[0; MAP_SIZE])?;
        put(&mut self.raw, MAP_OFFSET, map)
    }

    /// Filesystem blocks that it takes, with its map and attributes.
    pub(super) fn blocks(&self, sb: &Superblock) -> Result<u64> {
        let mut count = u64::from(le_u32(&self.raw, 0x1C)?);
        if sb.features.ro_compat(HUGE_FILE) {
            count |= u64::from(le_u16(&self.raw, 0x74)?) << 32;
            if self.has(inode::HUGE)? {
                return Ok(count);
            }
        }
        Ok(count >> sb.block_log.saturating_sub(9))
    }

    pub(super) fn set_blocks(&mut self, sb: &Superblock, blocks: u64) -> Result<()> {
        let sectors = blocks << sb.block_log.saturating_sub(9);
        let huge = sb.features.ro_compat(HUGE_FILE);
        let flags = self.flags()? & !inode::HUGE;
        let (count, flags) = if sectors >> 32 == 0 || (huge && sectors >> 48 == 0) {
            (sectors, flags)
        } else if huge && blocks >> 48 == 0 {
            (blocks, flags | inode::HUGE)
        } else {
            return Err(Error::limit("a file of too many blocks"));
        };
        self.set_flags(flags)?;
        put32(&mut self.raw, 0x1C, count)?;
        if huge {
            put16(&mut self.raw, 0x74, count >> 32)?;
        }
        Ok(())
    }

    pub(super) fn attribute_block(&self) -> Result<u64> {
        Ok(u64::from(le_u32(&self.raw, 0x68)?) | u64::from(le_u16(&self.raw, 0x76)?) << 32)
    }

    pub(super) fn set_attribute_block(&mut self, block: u64) -> Result<()> {
        put32(&mut self.raw, 0x68, block)?;
        put16(&mut self.raw, 0x76, block >> 32)
    }

    fn extra_size(&self) -> u16 {
        le_u16(&self.raw, OLD_SIZE).unwrap_or_default()
    }

    /// The bytes after its fields, where attributes may be; none in inodes without further fields.
    pub(super) fn attribute_area(&mut self) -> &mut [u8] {
        match self.extra_size() {
            0 => &mut [],
            extra => self
                .raw
                .get_mut(OLD_SIZE.saturating_add(index(extra))..)
                .unwrap_or_default(),
        }
    }

    fn set_time(&mut self, low: usize, extra: usize, time: Time) -> Result<()> {
        let fits =
            usize::from(self.extra_size()).saturating_add(OLD_SIZE) >= extra.saturating_add(4);
        // 34 bits of seconds with the further fields, 32 without; what lies beyond is clamped.
        let least = i64::from(i32::MIN);
        let most = if fits {
            least.saturating_add((1_i64 << 34).saturating_sub(1))
        } else {
            i64::from(i32::MAX)
        };
        let seconds = time.seconds.clamp(least, most);
        put32(&mut self.raw, low, seconds.cast_unsigned())?;
        if fits {
            let short = i64::from(
                u32::try_from(seconds.cast_unsigned() & 0xFFFF_FFFF)
                    .unwrap_or_default()
                    .cast_signed(),
            );
            let epoch = (seconds.saturating_sub(short) >> 32).cast_unsigned() & 3;
            let nanoseconds = u64::from(time.nanoseconds.min(999_999_999));
            put32(&mut self.raw, extra, epoch | nanoseconds << 2)?;
        }
        Ok(())
    }

    pub(super) fn set_mtime(&mut self, time: Time) -> Result<()> {
        self.set_time(0x10, 0x88, time)
    }

    pub(super) fn set_ctime(&mut self, time: Time) -> Result<()> {
        self.set_time(0xC, 0x84, time)
    }

    pub(super) fn set_atime(&mut self, time: Time) -> Result<()> {
        self.set_time(8, 0x8C, time)
    }

    pub(super) fn set_crtime(&mut self, time: Time) -> Result<()> {
        self.set_time_if_there(0x90, 0x94, time)
    }

    fn set_time_if_there(&mut self, low: usize, extra: usize, time: Time) -> Result<()> {
        if usize::from(self.extra_size()).saturating_add(OLD_SIZE) >= extra.saturating_add(4) {
            self.set_time(low, extra, time)?;
        }
        Ok(())
    }

    /// Marks it as removed at `time`.
    pub(super) fn set_removed(&mut self, time: Time) -> Result<()> {
        // Never 0, which would mean that it was not removed.
        let seconds = time.seconds.clamp(1, i64::from(u32::MAX));
        put32(&mut self.raw, 0x14, seconds.cast_unsigned())
    }
}
