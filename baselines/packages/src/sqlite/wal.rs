//! The write-ahead log: which pages it has newer than the database file (section 4).

use std::collections::BTreeMap;

use dormouse_block::{Error, Result, be_u32};

use crate::guest_file::GuestFile;

/// The log's header and that of each frame, in bytes.
const HEADER: usize = 32;
const FRAME: usize = 24;
/// Magic numbers: checksums over little-endian and over big-endian words.
const LITTLE: u32 = 0x377f_0682;
const BIG: u32 = 0x377f_0683;
/// Largest log read, in bytes. SQLite begins it anew at 1000 pages unless somebody reads all the while.
const MAX_LOG: u64 = 1 << 30;
/// The one version of the format.
const VERSION: u32 = 3_007_000;

/// The committed pages of a log.
pub(super) struct Wal {
    file: GuestFile,
    /// Where in the log the newest committed copy of each page is.
    frames: BTreeMap<u32, u64>,
    /// Bytes of a page.
    pub(super) page_size: usize,
    /// Pages of the database after the last commit.
    pub(super) pages: u32,
}

/// The running checksum of section 4.2.
fn checksum(order: u32, sum: (u32, u32), bytes: &[u8]) -> (u32, u32) {
    let word = |chunk: &[u8; 4]| match order {
        LITTLE => u32::from_le_bytes(*chunk),
        _ => u32::from_be_bytes(*chunk),
    };
    let (words, _) = bytes.as_chunks::<4>();
    let (pairs, _) = words.as_chunks::<2>();
    pairs.iter().fold(sum, |(a, b), [first, second]| {
        let a = a.wrapping_add(word(first)).wrapping_add(b);
        (a, b.wrapping_add(word(second)).wrapping_add(a))
    })
}

impl Wal {
    /// Reads the log; `None` when it holds nothing that was committed. A log whose header or frames do not check ends
    /// there, as it does for SQLite: they are what a crash or an earlier use left.
    ///
    /// # Errors
    /// `Limit` for a log of more than 1 GiB; the filesystem's.
    pub(super) fn open(mut file: GuestFile) -> Result<Option<Self>> {
        if file.len() < 32 {
            return Ok(None);
        }
        if file.len() > MAX_LOG {
            return Err(Error::limit(format!(
                "a log of {} bytes; at most {MAX_LOG} are read",
                file.len()
            )));
        }
        let header = file.read(0, HEADER)?;
        let (magic, version) = (be_u32(header, 0)?, be_u32(header, 4)?);
        let size = be_u32(header, 8)?;
        let salt = (be_u32(header, 16)?, be_u32(header, 20)?);
        let written = (be_u32(header, 24)?, be_u32(header, 28)?);
        let mut sum = checksum(magic, (0, 0), header.get(..24).unwrap_or_default());
        let plain = size.is_power_of_two() && (512..=65536).contains(&size);
        if !matches!(magic, LITTLE | BIG) || version != VERSION || !plain || sum != written {
            return Ok(None);
        }
        let page_size = usize::try_from(size).unwrap_or_default();
        let step = FRAME.saturating_add(page_size);
        let mut frames = BTreeMap::new();
        let mut pending = BTreeMap::new();
        let mut pages = 0;
        let mut offset = 32_u64;
        let step_bytes = u64::try_from(step).unwrap_or(u64::MAX);
        while let Some(end) = offset
            .checked_add(step_bytes)
            .filter(|end| *end <= file.len())
        {
            let frame = file.read(offset, step)?;
            let (head, page) = frame.split_at_checked(FRAME).unwrap_or_default();
            let (number, commit) = (be_u32(head, 0)?, be_u32(head, 4)?);
            let own = (be_u32(head, 8)?, be_u32(head, 12)?);
            let written = (be_u32(head, 16)?, be_u32(head, 20)?);
            sum = checksum(magic, sum, head.get(..8).unwrap_or_default());
            sum = checksum(magic, sum, page);
            if own != salt || written != sum || number == 0 {
                break;
            }
            pending.insert(number, offset.saturating_add(24));
            if commit != 0 {
                pages = commit;
                frames.append(&mut pending);
            }
            offset = end;
        }
        Ok((!frames.is_empty()).then_some(Self {
            file,
            frames,
            page_size,
            pages,
        }))
    }

    /// The newest committed copy of a page, if the log has one.
    pub(super) fn page(&mut self, number: u32) -> Result<Option<&[u8]>> {
        match self.frames.get(&number) {
            Some(&offset) => self.file.read(offset, self.page_size).map(Some),
            None => Ok(None),
        }
    }
}
