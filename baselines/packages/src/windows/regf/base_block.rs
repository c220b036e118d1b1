//! The first block of a hive, and of its transaction logs.

use dormouse_block::{Error, Result, Source, le_u32, le_u64, slice_at};

/// Bytes of the base block of a primary file; the bins follow.
pub(super) const BASE_BLOCK: u64 = 4096;
/// Bytes of it that the checksum covers, and that a log keeps a copy of.
const SECTOR: usize = 512;
/// Largest bins read, in bytes: Windows maps no larger hive.
const MAX_BINS: u32 = 0x7fff_f000;

/// What a file that begins as a hive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// A hive.
    Primary,
    /// A log of one dirty vector (up to Windows 8).
    OldLog,
    /// A log of entries (from Windows 8.1 on).
    NewLog,
}

/// The base block. All fields are little-endian.
#[derive(Debug, Clone, Copy)]
pub(super) struct BaseBlock {
    /// Counted up before a write.
    pub(super) primary_sequence: u32,
    /// Counted up after it; equal to the other one in a clean hive.
    pub(super) secondary_sequence: u32,
    /// When the hive was last written: 100 ns since 1601 UTC.
    pub(super) last_written: u64,
    /// Minor version of the format; the major one is 1.
    pub(super) minor: u32,
    /// What the file is.
    pub(super) kind: FileKind,
    /// Offset of the root key's cell from the first bin on.
    pub(super) root: u32,
    /// Bytes of all bins: a multiple of 4096, at most 2 GiB.
    pub(super) bins: u32,
    /// Whether the checksum is right. With a wrong one nothing above can be relied on.
    pub(super) sound: bool,
}

impl BaseBlock {
    /// Reads the base block of a hive or a log.
    ///
    /// # Errors
    /// `Corrupt` for what does not begin as a hive, `Unsupported` for a version that is not read.
    pub(super) fn read(file: &dyn Source) -> Result<Self> {
        let mut sector = [0; SECTOR];
        if file.len() < 512 {
            return Err(Error::corrupt("a registry file of less than 512 bytes"));
        }
        file.read_exact_at(0, &mut sector)?;
        if slice_at(&sector, 0, 4)? != b"regf" {
            return Err(Error::corrupt(
                "no registry file: it does not begin with regf",
            ));
        }
        let sound = checksum(&sector)? == le_u32(&sector, 508)?;
        let kind = match le_u32(&sector, 28)? {
            0 => FileKind::Primary,
            1 | 2 => FileKind::OldLog,
            6 => FileKind::NewLog,
            other => return Err(unread(sound, format!("registry file of type {other}"))),
        };
        let (major, minor) = (le_u32(&sector, 20)?, le_u32(&sector, 24)?);
        // Before 1.2 cells had another form; 1.6 is the newest that anyone has met.
        if major != 1 || !(2..=6).contains(&minor) {
            return Err(unread(
                sound,
                format!("registry file of version {major}.{minor}"),
            ));
        }
        if le_u32(&sector, 32)? != 1 {
            return Err(unread(
                sound,
                "registry file that is no memory image".into(),
            ));
        }
        let bins = le_u32(&sector, 40)?;
        if sound && !sound_bins(bins) {
            return Err(Error::corrupt(format!("a hive of {bins} bytes of bins")));
        }
        Ok(Self {
            primary_sequence: le_u32(&sector, 4)?,
            secondary_sequence: le_u32(&sector, 8)?,
            last_written: le_u64(&sector, 12)?,
            minor,
            kind,
            root: le_u32(&sector, 36)?,
            bins,
            sound,
        })
    }

    /// Whether a write was begun and not ended, or the block itself was torn.
    pub(super) fn is_dirty(&self) -> bool {
        !self.sound || self.primary_sequence != self.secondary_sequence
    }
}

/// Whether bins can have this many bytes.
pub(super) fn sound_bins(bins: u32) -> bool {
    bins != 0 && bins <= MAX_BINS && bins.is_multiple_of(4096)
}

fn unread(sound: bool, what: String) -> Error {
    if sound {
        Error::unsupported(what)
    } else {
        Error::corrupt("the checksum of the hive's base block is wrong")
    }
}

/// The exclusive or of the first 508 bytes, word by word; never 0 and never all ones.
fn checksum(sector: &[u8]) -> Result<u32> {
    let (words, _) = slice_at(sector, 0, 508)?.as_chunks::<4>();
    let sum = words
        .iter()
        .fold(0, |sum, word| sum ^ u32::from_le_bytes(*word));
    Ok(match sum {
        0 => 1,
        u32::MAX => u32::MAX - 1,
        sum => sum,
    })
}
