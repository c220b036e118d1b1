//! The superblock.

use dormouse_block::{
    Error, Result, Source, array_at, le_u16, le_u32, le_u64, read_vec_at, slice_at,
};

use crate::fat::index;

/// The byte at which it begins.
pub(super) const AT: u64 = 1024;
/// Compatible feature: it carries a checksum.
const SUMMED: u32 = 1;
/// Incompatible features that are read: padding in front, clusters of several blocks, chunks, a second algorithm.
const KNOWN: u32 = 0xF;
/// Names of those that are not.
const NAMES: [(u32, &str); 5] = [
    (0x10, "packed tails within inodes (ztailpacking)"),
    (0x20, "fragments or deduplication"),
    (0x40, "long prefixes of attributes"),
    (0x80, "48-bit addresses"),
    (0x100, "a metadata box"),
];

/// The superblock, checked.
#[derive(Debug, Clone)]
pub(super) struct Superblock {
    /// Log of the bytes of a block.
    pub(super) block_log: u32,
    /// Number of the root's inode.
    pub(super) root: u64,
    pub(super) blocks: u64,
    /// The byte from which inodes are counted.
    pub(super) inodes: u64,
    /// The byte from which shared attributes are counted.
    pub(super) xattrs: u64,
    pub(super) uuid: [u8; 16],
    pub(super) label: String,
    /// When it was made, which is the time of short inodes.
    pub(super) made: (i64, u32),
}

impl Superblock {
    /// Bytes of a block.
    pub(super) fn block(&self) -> u64 {
        1 << self.block_log
    }

    /// Reads the superblock of `volume`.
    ///
    /// # Errors
    /// `Corrupt` for a broken one, `Unsupported` for features that are not read.
    pub(super) fn read(volume: &dyn Source) -> Result<Self> {
        let bytes = read_vec_at(volume, AT, 128)?;
        let bad = |what: &'static str| Error::corrupt(what).at_offset(AT);
        let [log, slots] = array_at(&bytes, 12)?;
        let block_log = u32::from(log);
        if !(9..=16).contains(&block_log) {
            return Err(bad("bad size of blocks in the superblock"));
        }
        let features = le_u32(&bytes, 80)?;
        if let Some((_, name)) = NAMES.iter().find(|(bit, _)| features & bit != 0) {
            return Err(Error::unsupported(format!("EROFS with {name}")));
        }
        if features & !KNOWN != 0 || slots != 0 {
            return Err(Error::unsupported(format!(
                "EROFS with unknown features {features:#x}"
            )));
        }
        if le_u16(&bytes, 86)? != 0 {
            return Err(Error::unsupported("EROFS on more than one device"));
        }
        if le_u32(&bytes, 8)? & SUMMED != 0 {
            let block = 1_u64 << block_log;
            let len = if block > AT {
                block.saturating_sub(AT)
            } else {
                block
            };
            let mut summed = read_vec_at(volume, AT, index(len))?;
            if let Some(sum) = summed.get_mut(4..8) {
                sum.fill(0);
            }
            if !crc32c::crc32c(&summed) != le_u32(&bytes, 4)? {
                return Err(bad("a superblock with a wrong checksum"));
            }
        }
        let blocks = u64::from(le_u32(&bytes, 36)?);
        let size = blocks << block_log;
        if size > volume.len() {
            return Err(Error::corrupt(format!(
                "a filesystem of {size} bytes on a volume of {}",
                volume.len()
            )));
        }
        let label = slice_at(&bytes, 64, 16)?;
        let label = label.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(Self {
            block_log,
            root: u64::from(le_u16(&bytes, 14)?),
            blocks,
            inodes: u64::from(le_u32(&bytes, 40)?) << block_log,
            xattrs: u64::from(le_u32(&bytes, 44)?) << block_log,
            uuid: array_at(&bytes, 48)?,
            label: String::from_utf8_lossy(label).into_owned(),
            made: (
                i64::try_from(le_u64(&bytes, 24)?).unwrap_or(i64::MAX),
                le_u32(&bytes, 32)?.min(999_999_999),
            ),
        })
    }
}
