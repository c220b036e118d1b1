//! The pages of a database, those of its write-ahead log in the place of its own.

use dormouse_block::{Error, GuestPath, Result, array_at, be_u32};
use dormouse_filesystem::Guest;

use super::MAX_PAGES;
use super::wal::Wal;
use crate::guest_file::GuestFile;

/// The first bytes of every database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The pages, each of which is given out once.
pub(super) struct Pager {
    file: GuestFile,
    wal: Option<Wal>,
    /// Bytes of a page.
    page_size: usize,
    /// Bytes of a page that are in use, without those reserved for extensions.
    pub(super) usable: usize,
    /// Pages of the database.
    pages: u32,
    visited: Vec<u64>,
    /// What is wrong with the file as a whole, and leaves its pages readable.
    pub(super) doubt: Option<Error>,
}

/// The path of a file beside the database: its name with `suffix`.
fn beside(path: &GuestPath, suffix: &[u8]) -> Option<GuestPath> {
    let mut name = path.name()?.to_vec();
    name.extend_from_slice(suffix);
    path.parent()?.join(name).ok()
}

impl Pager {
    /// Opens the database and its log, and checks the header (section 1.3).
    ///
    /// # Errors
    /// `Corrupt` for what is no database, `Unsupported` for a later format or an encoding other than UTF-8.
    pub(super) fn open(guest: &Guest, mut file: GuestFile) -> Result<Self> {
        if file.len() == 0 {
            return Err(Error::corrupt("an SQLite database of no bytes"));
        }
        let log = beside(file.path(), b"-wal");
        let log = log.map(|path| GuestFile::open(guest, &path)).transpose()?;
        let mut wal = log.flatten().map(Wal::open).transpose()?.flatten();
        let first = match wal.as_mut().map(|wal| wal.page(1)).transpose()?.flatten() {
            Some(page) => page,
            None => file.read(0, 100)?,
        };
        if array_at(first, 0)? != *MAGIC {
            return Err(Error::corrupt("no SQLite database"));
        }
        let [high, low, _, read_version, reserved, most, least, leaf] = array_at(first, 16)?;
        let page_size = match u16::from_be_bytes([high, low]) {
            1 => 65536,
            size => usize::from(size),
        };
        if !page_size.is_power_of_two() || page_size < 512 {
            return Err(Error::corrupt(format!("pages of {page_size} bytes")));
        }
        if read_version > 2 {
            return Err(Error::unsupported(format!(
                "an SQLite database of the read version {read_version}"
            )));
        }
        if (most, least, leaf) != (64, 32, 32) {
            return Err(Error::corrupt("payload fractions other than 64, 32, 32"));
        }
        let usable = page_size.saturating_sub(usize::from(reserved));
        if usable < 480 {
            return Err(Error::corrupt(format!("pages with {usable} usable bytes")));
        }
        let encoding = be_u32(first, 56)?;
        if encoding > 1 {
            return Err(Error::unsupported(format!(
                "an SQLite database in the text encoding {encoding}"
            )));
        }
        let schema = be_u32(first, 44)?;
        if schema > 4 {
            return Err(Error::unsupported(format!("the schema format {schema}")));
        }
        // The size in the header counts only where the same writer renewed both (section 1.3.7).
        let in_header = (be_u32(first, 24)? == be_u32(first, 92)?).then_some(be_u32(first, 28)?);
        let in_file = file.len() / u64::try_from(page_size).unwrap_or(u64::MAX);
        let in_file = u32::try_from(in_file).unwrap_or(u32::MAX);
        let pages = match &wal {
            Some(wal) if wal.page_size != page_size => {
                return Err(Error::corrupt("the log's pages have another size"));
            }
            Some(wal) => wal.pages,
            None => in_header.filter(|pages| *pages != 0).unwrap_or(in_file),
        };
        if pages > MAX_PAGES {
            return Err(Error::limit(format!(
                "{pages} pages; at most {MAX_PAGES} are read"
            )));
        }
        let mut doubt = (wal.is_none() && pages > in_file)
            .then(|| Error::corrupt(format!("the file has {in_file} of its {pages} pages")));
        if is_hot_journal(guest, file.path())? {
            doubt = Some(Error::unsupported(
                "a transaction was under way, and its rollback journal is not replayed",
            ));
        }
        let words = usize::try_from(pages).unwrap_or_default().div_ceil(64);
        Ok(Self {
            file,
            wal,
            page_size,
            usable,
            pages,
            visited: vec![0; words],
            doubt,
        })
    }

    /// Page `number`, counted from 1, without its reserved bytes.
    ///
    /// # Errors
    /// `Corrupt` for a page that is not there or was given out before.
    pub(super) fn page(&mut self, number: u32) -> Result<&[u8]> {
        let index = number.checked_sub(1).filter(|_| number <= self.pages);
        let index = index.ok_or_else(|| Error::corrupt(format!("there is no page {number}")))?;
        let bit = 1_u64.checked_shl(index % 64).unwrap_or_default();
        let word = usize::try_from(index / 64).unwrap_or(usize::MAX);
        match self.visited.get_mut(word) {
            Some(word) if *word & bit == 0 => *word |= bit,
            _ => return Err(Error::corrupt(format!("page {number} is in use twice"))),
        }
        let usable = self.usable;
        let page = match self
            .wal
            .as_mut()
            .map(|wal| wal.page(number))
            .transpose()?
            .flatten()
        {
            Some(page) => page,
            None => {
                let size = u64::try_from(self.page_size).unwrap_or(u64::MAX);
                let offset = u64::from(index).saturating_mul(size);
                self.file.read(offset, self.page_size)?
            }
        };
        page.get(..usable)
            .ok_or_else(|| Error::corrupt("a short page"))
    }
}

/// Whether a rollback journal beside the database has something to undo: it is there and its header is not zeroed
/// (section 3).
fn is_hot_journal(guest: &Guest, path: &GuestPath) -> Result<bool> {
    let Some(path) = beside(path, b"-journal") else {
        return Ok(false);
    };
    match GuestFile::open(guest, &path)? {
        Some(mut file) if file.len() >= 28 => {
            Ok(file.read(0, 8)? == b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7")
        }
        _ => Ok(false),
    }
}
