//! The superblock of a thin pool's metadata (`struct thin_disk_superblock`), little-endian.

use dormouse_block::{Error, Result, Source, le_u32, le_u64, read_vec_at};

use super::btree::{BLOCK, checksum};

/// `THIN_SUPERBLOCK_MAGIC`.
const MAGIC: u64 = 27_022_010;
/// `SUPERBLOCK_CSUM_XOR`.
const SALT: u32 = 160_774;
/// Versions that are known (`THIN_VERSION`).
const VERSIONS: [u32; 2] = [1, 2];
/// Blocks of data, in bytes (`DATA_DEV_BLOCK_SIZE_MIN_SECTORS`, `..._MAX_SECTORS`).
const MIN_BLOCK: u64 = 64 << 10;
const MAX_BLOCK: u64 = 1 << 30;

/// What is needed of it.
pub(super) struct Superblock {
    /// Root of the tree of volumes.
    pub(super) mappings: u64,
    /// Bytes of a block of data.
    pub(super) block: u64,
}

impl Superblock {
    pub(super) fn read(metadata: &dyn Source) -> Result<Self> {
        let bytes = read_vec_at(metadata, 0, BLOCK)?;
        if le_u64(&bytes, 32)? != MAGIC {
            return Err(Error::corrupt("the thin pool's metadata have no signature"));
        }
        if checksum(&bytes, SALT) != le_u32(&bytes, 0)? || le_u64(&bytes, 8)? != 0 {
            return Err(Error::corrupt(
                "the checksum of the thin pool's superblock is wrong",
            ));
        }
        let version = le_u32(&bytes, 40)?;
        if !VERSIONS.contains(&version) {
            return Err(Error::unsupported(format!(
                "thin pools of version {version}"
            )));
        }
        let features = le_u32(&bytes, 360)?;
        if features != 0 {
            return Err(Error::unsupported(format!(
                "thin pools with incompatible features {features:#x}"
            )));
        }
        let block = u64::from(le_u32(&bytes, 336)?).saturating_mul(512);
        if !block.is_multiple_of(MIN_BLOCK) || !(MIN_BLOCK..=MAX_BLOCK).contains(&block) {
            return Err(Error::corrupt(format!(
                "blocks of {block} bytes are impossible"
            )));
        }
        Ok(Self {
            mappings: le_u64(&bytes, 320)?,
            block,
        })
    }
}
