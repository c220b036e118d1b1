//! Inodes: what a file is, and where its bytes are.

use dormouse_block::{Error, Result, array_at, le_u16, le_u32, slice_at};

use super::features::{DIR_INDEX, HUGE_FILE, LARGEDIR};
use super::superblock::Superblock;
use super::{checksum, overflow};
use crate::{NodeKind, Time};

/// The root directory's inode.
pub const ROOT: u32 = 2;
/// Bytes of an inode without further fields.
pub const OLD_SIZE: usize = 128;
/// Where the block map is, in bytes from the start of the inode.
pub const MAP_OFFSET: usize = 0x28;
/// Bytes of the block map, the root of the extent tree, a short link's target or the first inline data.
pub const MAP_SIZE: usize = 60;

/// `i_flags`: encrypted.
pub const ENCRYPTED: u32 = 0x800;
/// `i_flags`: a hashed directory.
pub const INDEX: u32 = 0x1000;
/// `i_flags`: `i_blocks` counts filesystem blocks.
pub const HUGE: u32 = 0x4_0000;
/// `i_flags`: mapped by extents.
pub const EXTENTS: u32 = 0x8_0000;
/// `i_flags`: what is made in this directory gets its project.
pub const PROJECT_INHERIT: u32 = 0x2000_0000;
/// `i_flags` that what is made in a directory takes from it (kernel: `EXT4_FL_INHERITED`, less those of features of their
/// own): synchronous updates, no dump, no access times, journaled data, synchronous directory updates, DAX, projects.
pub const INHERITED: u32 = 0x8 | 0x40 | 0x80 | 0x4000 | 0x1_0000 | 0x200_0000 | PROJECT_INHERIT;
/// Those of [`INHERITED`] that regular files take.
pub const FILE_INHERITED: u32 = INHERITED & !(0x1_0000 | PROJECT_INHERIT);
/// Those of [`INHERITED`] that anything else takes.
pub const OTHER_INHERITED: u32 = 0x40 | 0x80;
/// Where the project is, in inodes whose further fields reach to its end.
pub const PROJECT_OFFSET: usize = 0x9C;
/// `i_flags`: holds the value of an extended attribute.
pub const EA_INODE: u32 = 0x20_0000;
/// `i_flags`: the bytes are in the inode.
pub const INLINE: u32 = 0x1000_0000;
/// `i_flags`: names ignore case.
pub const CASEFOLD: u32 = 0x4000_0000;

/// An inode, its checksum verified.
#[derive(Debug, Clone)]
pub struct Inode {
    /// Its number, from 1.
    pub number: u32,
    /// Type and permissions as stored.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names that lead to it.
    pub links: u16,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes that it takes, whatever the `HUGE` flag says.
    pub sectors: u64,
    /// Flags, some of which are the constants here.
    pub flags: u32,
    /// Changes whenever the number is used anew.
    pub generation: u32,
    /// The filesystem block of its extended attributes, or 0.
    pub attribute_block: u64,
    /// Last read.
    pub atime: Time,
    /// Last change of its bytes.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// When it was removed, or the next orphan.
    pub dtime: u32,
    /// Bytes used beyond the first 128.
    pub extra_size: u16,
    /// All its bytes.
    pub raw: Box<[u8]>,
}

/// The seed of the checksums of everything that belongs to an inode.
#[must_use]
pub fn seed(sb: &Superblock, number: u32, generation: u32) -> u32 {
    let seed = checksum::crc32c(sb.checksum_seed, &number.to_le_bytes());
    checksum::crc32c(seed, &generation.to_le_bytes())
}

/// The checksum that an inode of these bytes should have: its 32 bits, and whether the upper half is stored.
///
/// # Errors
/// `Corrupt` for bytes shorter than an inode.
pub fn checksum(sb: &Superblock, number: u32, bytes: &[u8]) -> Result<(u32, bool)> {
    let generation = le_u32(bytes, 0x64)?;
    let sum = seed(sb, number, generation);
    let sum = checksum::crc32c(sum, slice_at(bytes, 0, 0x7C)?);
    let sum = checksum::crc32c(sum, &[0, 0]);
    let sum = checksum::crc32c(sum, slice_at(bytes, 0x7E, 2)?);
    let Some(rest) = bytes.get(OLD_SIZE..).filter(|rest| rest.len() >= 4) else {
        return Ok((sum, false));
    };
    if le_u16(rest, 0)? < 4 {
        return Ok((checksum::crc32c(sum, rest), false));
    }
    let sum = checksum::crc32c(sum, slice_at(rest, 0, 2)?);
    let sum = checksum::crc32c(sum, &[0, 0]);
    Ok((
        checksum::crc32c(sum, rest.get(4..).unwrap_or_default()),
        true,
    ))
}

fn time(bytes: &[u8], low: usize, extra: Option<usize>) -> Result<Time> {
    let seconds = i64::from(le_u32(bytes, low)?.cast_signed());
    let Some(extra) = extra else {
        return Ok(Time {
            seconds,
            nanoseconds: 0,
        });
    };
    let extra = le_u32(bytes, extra)?;
    Ok(Time {
        seconds: seconds.saturating_add(i64::from(extra & 3) << 32),
        // Out of range only in broken inodes; the kernel shows those digits, we the largest sound ones.
        nanoseconds: (extra >> 2).min(999_999_999),
    })
}

impl Inode {
    /// Reads inode `number` from its bytes.
    ///
    /// # Errors
    /// `Corrupt` for a wrong checksum or size of the further fields.
    pub fn parse(sb: &Superblock, number: u32, bytes: &[u8]) -> Result<Self> {
        let bad = |what: &str| Error::corrupt(format!("{what} of inode {number}"));
        if sb.metadata_checksums() {
            let (sum, whole) = checksum(sb, number, bytes)?;
            let low = u32::from(le_u16(bytes, 0x7C)?);
            let stored = if whole {
                low | u32::from(le_u16(bytes, 0x82)?) << 16
            } else {
                low
            };
            let wanted = if whole { sum } else { sum & 0xFFFF };
            if stored != wanted {
                return Err(bad("bad checksum"));
            }
        }
        let extra_size = match bytes.get(OLD_SIZE..) {
            Some(rest) if !rest.is_empty() => {
                let extra = le_u16(rest, 0)?;
                if usize::from(extra) > rest.len() || extra % 4 != 0 {
                    return Err(bad("bad size of the further fields"));
                }
                extra
            }
            _ => 0,
        };
        let has = |end: u16| (extra_size >= end).then_some(());
        let mode = le_u16(bytes, 0)?;
        let flags = le_u32(bytes, 0x20)?;
        let wide_size = mode & 0xF000 == 0x8000 || sb.features.incompat(LARGEDIR);
        let high_size = if wide_size { le_u32(bytes, 0x6C)? } else { 0 };
        let mut sectors = u64::from(le_u32(bytes, 0x1C)?);
        if sb.features.ro_compat(HUGE_FILE) {
            sectors |= u64::from(le_u16(bytes, 0x74)?) << 32;
            if flags & HUGE != 0 {
                sectors <<= sb.block_log.saturating_sub(9);
            }
        }
        let this = Self {
            number,
            mode,
            uid: u32::from(le_u16(bytes, 2)?) | u32::from(le_u16(bytes, 0x78)?) << 16,
            gid: u32::from(le_u16(bytes, 0x18)?) | u32::from(le_u16(bytes, 0x7A)?) << 16,
            links: le_u16(bytes, 0x1A)?,
            size: u64::from(le_u32(bytes, 4)?) | u64::from(high_size) << 32,
            sectors,
            flags,
            generation: le_u32(bytes, 0x64)?,
            attribute_block: u64::from(le_u32(bytes, 0x68)?)
                | u64::from(le_u16(bytes, 0x76)?) << 32,
            atime: time(bytes, 8, has(16).map(|()| 0x8C))?,
            ctime: time(bytes, 0xC, has(8).map(|()| 0x84))?,
            mtime: time(bytes, 0x10, has(12).map(|()| 0x88))?,
            dtime: le_u32(bytes, 0x14)?,
            extra_size,
            raw: bytes.into(),
        };
        if this.size > i64::MAX.cast_unsigned() {
            return Err(bad("bad size"));
        }
        Ok(this)
    }

    /// What it is, or `None` for a type that does not exist.
    #[must_use]
    pub fn kind(&self) -> Option<NodeKind> {
        Some(match self.mode >> 12 {
            0x1 => NodeKind::Fifo,
            0x2 => NodeKind::CharDevice,
            0x4 => NodeKind::Directory,
            0x6 => NodeKind::BlockDevice,
            0x8 => NodeKind::File,
            0xA => NodeKind::Symlink,
            0xC => NodeKind::Socket,
            _ => return None,
        })
    }

    /// Whether all bits of `flag` are set.
    #[must_use]
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag == flag
    }

    /// Whether it is a hashed directory, which only counts where the filesystem hashes directories.
    #[must_use]
    pub fn is_hashed(&self, sb: &Superblock) -> bool {
        self.has(INDEX) && sb.features.compat(DIR_INDEX)
    }

    /// The 60 bytes of its block map.
    ///
    /// # Errors
    /// `Corrupt` when the inode is shorter.
    pub fn map(&self) -> Result<[u8; MAP_SIZE]> {
        array_at(&self.raw, MAP_OFFSET)
    }

    /// The bytes after its fields, which may hold extended attributes.
    #[must_use]
    pub fn attribute_area(&self) -> &[u8] {
        let start = OLD_SIZE.saturating_add(usize::from(self.extra_size));
        // Without further fields there is no area either (kernel: EXT4_I(inode)->i_extra_isize of 0).
        if self.extra_size == 0 {
            return &[];
        }
        self.raw.get(start..).unwrap_or_default()
    }

    /// The seed of the checksums of its blocks.
    #[must_use]
    pub fn seed(&self, sb: &Superblock) -> u32 {
        seed(sb, self.number, self.generation)
    }

    /// Major and minor number of a device.
    ///
    /// # Errors
    /// `Corrupt` when the inode is shorter than its map.
    pub fn device(&self) -> Result<(u32, u32)> {
        let map = self.map()?;
        let old = le_u32(&map, 0)?;
        if old != 0 {
            return Ok(((old >> 8) & 0xFF, old & 0xFF));
        }
        let new = le_u32(&map, 4)?;
        Ok((
            (new & 0xF_FF00) >> 8,
            (new & 0xFF) | ((new >> 12) & 0xF_FF00),
        ))
    }

    /// How many logical blocks its size covers.
    ///
    /// # Errors
    /// `Corrupt` for more than 2^32.
    pub fn blocks(&self, sb: &Superblock) -> Result<u32> {
        let blocks = self.size.div_ceil(u64::from(sb.block_size()));
        u32::try_from(blocks).map_err(|_| overflow())
    }
}
