//! The superblock: geometry, the roots of the first trees, and enough of the chunk map to read the rest of it.

use dormouse_block::{
    Error, ErrorKind, Result, Source, array_at, le_u16, le_u32, le_u64, read_vec_at, slice_at,
};

use super::checksum::{Checksum, FIELD};
use super::features::{self, METADATA_UUID, MIXED_GROUPS};
use super::node::MAX_LEVEL;

/// Where superblocks lie; the later ones only where the device reaches so far (kernel: `btrfs_sb_offset`).
pub(super) const OFFSETS: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
/// Bytes of a superblock.
pub(super) const SIZE: usize = 4096;
/// The eight bytes at 0x40.
pub(super) const MAGIC: &[u8; 8] = b"_BHRfS_M";
/// Room for system chunks.
const MAX_SYS_CHUNKS: usize = 2048;
/// Largest sector and node (kernel: `BTRFS_MAX_METADATA_BLOCKSIZE`).
const MAX_BLOCK: u32 = 64 << 10;
/// Smallest sector.
const MIN_SECTOR: u32 = 2048;
/// Devices of one filesystem.
const MAX_DEVICES: u64 = 1024;

/// Where a tree begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TreeRoot {
    /// The tree's own number: what its nodes say they belong to.
    pub(super) id: u64,
    /// Logical address of its root node, in bytes.
    pub(super) logical: u64,
    /// Levels below the root node.
    pub(super) level: u8,
    /// Transaction that wrote the root node.
    pub(super) generation: u64,
}

/// What is needed of a superblock; integers are little-endian, offsets those of `struct btrfs_super_block`.
#[derive(Debug, Clone)]
pub(super) struct Superblock {
    pub(super) checksum: Checksum,
    /// The UUID that users see.
    pub(super) fsid: [u8; 16],
    /// The UUID in tree nodes.
    pub(super) metadata_uuid: [u8; 16],
    pub(super) flags: u64,
    pub(super) generation: u64,
    pub(super) root: u64,
    pub(super) root_level: u8,
    pub(super) chunk_root: u64,
    pub(super) chunk_root_level: u8,
    pub(super) chunk_root_generation: u64,
    /// Logical address of the tree of log trees; 0 when there is none.
    pub(super) log_root: u64,
    pub(super) log_root_level: u8,
    pub(super) total_bytes: u64,
    pub(super) bytes_used: u64,
    /// The directory within the root tree that names the default subvolume.
    pub(super) root_dir: u64,
    pub(super) num_devices: u64,
    /// Bytes of a sector: the unit of data and of its checksums.
    pub(super) sector: u32,
    /// Bytes of a tree node.
    pub(super) node: u32,
    pub(super) compat_ro: u64,
    pub(super) incompat: u64,
    /// This device's number and UUID.
    pub(super) device: (u64, [u8; 16]),
    pub(super) label: Option<String>,
    /// Keys and chunk items of the chunks that hold the chunk tree.
    pub(super) sys_chunks: Vec<u8>,
}

impl Superblock {
    /// The superblock of a device: the first one, or the newest sound copy when that is broken.
    pub(super) fn read(source: &dyn Source) -> Result<Self> {
        let mut first = None;
        let mut newest: Option<Self> = None;
        for at in OFFSETS {
            if at.saturating_add(u64::try_from(SIZE).unwrap_or(u64::MAX)) > source.len() {
                break;
            }
            let bytes = read_vec_at(source, at, SIZE)?;
            match Self::parse(&bytes, at) {
                Ok(sb) if at == OFFSETS[0] => return Ok(sb),
                // What this version does not read, it does not read in the copies either.
                Err(error) if error.kind() == ErrorKind::Unsupported && at == OFFSETS[0] => {
                    return Err(error.at_offset(at));
                }
                Ok(sb) => {
                    if newest
                        .as_ref()
                        .is_none_or(|have| have.generation < sb.generation)
                    {
                        newest = Some(sb);
                    }
                }
                Err(error) => {
                    first.get_or_insert(error.at_offset(at));
                }
            }
        }
        newest.ok_or_else(|| {
            first.unwrap_or_else(|| Error::corrupt("the volume is too short for btrfs"))
        })
    }

    fn parse(bytes: &[u8], at: u64) -> Result<Self> {
        if slice_at(bytes, 0x40, 8)? != MAGIC {
            return Err(Error::corrupt("no superblock of btrfs"));
        }
        let checksum = Checksum::new(le_u16(bytes, 0xC4)?)?;
        let summed = slice_at(bytes, FIELD, SIZE.saturating_sub(FIELD))?;
        if !checksum.holds(slice_at(bytes, 0, checksum.size())?, summed) {
            return Err(Error::corrupt("bad checksum of a superblock"));
        }
        let bad = |what: &str| Error::corrupt(format!("bad {what} in a superblock"));
        if le_u64(bytes, 0x30)? != at {
            return Err(bad("own address"));
        }
        let incompat = le_u64(bytes, 0xBC)?;
        features::check_incompat(incompat)?;
        let flags = le_u64(bytes, 0x38)?;
        features::check_flags(flags)?;
        let sector = le_u32(bytes, 0x90)?;
        let node = le_u32(bytes, 0x94)?;
        if !sector.is_power_of_two() || !(MIN_SECTOR..=MAX_BLOCK).contains(&sector) {
            return Err(bad("sector size"));
        }
        if !node.is_power_of_two() || !(sector..=MAX_BLOCK).contains(&node) {
            return Err(bad("node size"));
        }
        if incompat & MIXED_GROUPS != 0 && sector != node {
            return Err(bad("node size of mixed block groups"));
        }
        let [root_level, chunk_root_level, log_root_level] = array_at(bytes, 0xC6)?;
        if [root_level, chunk_root_level, log_root_level]
            .iter()
            .any(|level| *level > MAX_LEVEL)
        {
            return Err(bad("level of a tree"));
        }
        let unit = u64::from(sector).saturating_sub(1);
        let (root, chunk_root, log_root) = (
            le_u64(bytes, 0x50)?,
            le_u64(bytes, 0x58)?,
            le_u64(bytes, 0x60)?,
        );
        if (root | chunk_root | log_root) & unit != 0 {
            return Err(bad("address of a tree"));
        }
        let num_devices = le_u64(bytes, 0x88)?;
        if num_devices == 0 || num_devices > MAX_DEVICES {
            return Err(bad("number of devices"));
        }
        let sys_size = usize::try_from(le_u32(bytes, 0xA0)?).unwrap_or(usize::MAX);
        if sys_size > MAX_SYS_CHUNKS {
            return Err(bad("size of the system chunks"));
        }
        let fsid = array_at(bytes, 0x20)?;
        let metadata_uuid = if incompat & METADATA_UUID != 0 {
            array_at(bytes, 0x23B)?
        } else {
            fsid
        };
        let label = slice_at(bytes, 0x12B, 256)?;
        let label = label.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(Self {
            checksum,
            fsid,
            metadata_uuid,
            flags,
            generation: le_u64(bytes, 0x48)?,
            root,
            root_level,
            chunk_root,
            chunk_root_level,
            chunk_root_generation: le_u64(bytes, 0xA4)?,
            log_root,
            log_root_level,
            total_bytes: le_u64(bytes, 0x70)?,
            bytes_used: le_u64(bytes, 0x78)?,
            root_dir: le_u64(bytes, 0x80)?,
            num_devices,
            sector,
            node,
            compat_ro: le_u64(bytes, 0xB4)?,
            incompat,
            device: (le_u64(bytes, 0xC9)?, array_at(bytes, 0x10B)?),
            label: (!label.is_empty()).then(|| String::from_utf8_lossy(label).into_owned()),
            sys_chunks: slice_at(bytes, 0x32B, sys_size)?.to_vec(),
        })
    }

    /// Names of the features in use, and the kind of checksums.
    pub(super) fn features(&self) -> Vec<String> {
        let mut names = features::names(self.incompat, self.compat_ro, self.flags);
        names.push(self.checksum.name().to_owned());
        names
    }

    /// Whether other filesystems may stand on this one.
    pub(super) fn is_seed(&self) -> bool {
        self.flags & features::SEEDING != 0
    }
}

/// A UUID as people write it; `None` when it is all zeroes.
pub(super) fn uuid_text(uuid: &[u8; 16]) -> Option<String> {
    if *uuid == [0; 16] {
        return None;
    }
    let mut out = String::with_capacity(36);
    for (n, byte) in uuid.iter().enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push_str(&format!("{byte:02x}"));
    }
    Some(out)
}
