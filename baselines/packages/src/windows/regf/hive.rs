//! A hive, open for reading.

use std::cell::Cell;
use std::sync::Arc;

use dormouse_block::{Error, ErrorKind, Result, Source};

use super::Key;
use super::base_block::{BaseBlock, FileKind};
use super::log::recover;
use super::pages::Pages;

/// Bytes read beyond which a hive is made to be read for ever: this much, and so many times the hive's own size. Looking for a
/// few hundred keys by name reads far less.
const MIN_WORK: u64 = 256 << 20;
const WORK: u64 = 16;
/// What reading one cell costs beside its bytes.
const CELL_WORK: u64 = 64;

/// How a hive was left, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// All of it was written.
    Clean,
    /// A write was under way; the logs made it whole.
    Recovered {
        /// Log entries applied; a log of the old form counts as one.
        entries: usize,
        /// Pages of 4096 bytes that they gave.
        pages: usize,
    },
    /// A write was under way and no log makes it whole. What is read may be old, and may be torn.
    Dirty(String),
}

/// A registry hive.
pub struct Hive {
    pages: Pages,
    base: BaseBlock,
    condition: Condition,
    work: Cell<u64>,
}

impl Hive {
    /// Opens the hive in `file`, with whatever transaction logs stand beside it, in any order.
    ///
    /// # Errors
    /// `Corrupt` for what is no hive, or a clean one whose file is too short, or one whose base block is torn without a log
    /// to mend it; `Unsupported` for versions that are not read; failures of the host.
    pub fn open(file: Arc<dyn Source>, logs: &[Arc<dyn Source>]) -> Result<Self> {
        let mut base = BaseBlock::read(file.as_ref())?;
        if base.kind != FileKind::Primary && base.sound {
            return Err(Error::corrupt(
                "a transaction log stands where the hive should",
            ));
        }
        let mut pages = Pages::new(file, base.bins);
        let condition = if base.is_dirty() {
            match recover(&base, &mut pages, logs) {
                Ok(Some(applied)) => {
                    base = applied.base;
                    pages.set_bins(base.bins);
                    Condition::Recovered {
                        entries: applied.entries,
                        pages: pages.dirty(),
                    }
                }
                Ok(None) if logs.is_empty() => Condition::Dirty("it has no transaction log".into()),
                Ok(None) => Condition::Dirty("no transaction log fits it".into()),
                Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::Cancelled) => {
                    return Err(error);
                }
                Err(error) => Condition::Dirty(error.with_causes()),
            }
        } else {
            Condition::Clean
        };
        if let Condition::Dirty(why) = &condition {
            pages.forget();
            if !base.sound {
                return Err(Error::corrupt(format!(
                    "the checksum of the hive's base block is wrong, and {why}"
                )));
            }
        }
        if condition == Condition::Clean && !pages.is_whole() {
            return Err(Error::corrupt("the hive's file ends before its bins do"));
        }
        let work = WORK.saturating_mul(base.bins.into()).max(MIN_WORK);
        let hive = Self {
            pages,
            base,
            condition,
            work: Cell::new(work),
        };
        let mut bin = [0; 4];
        hive.pages.read(0, &mut bin)?;
        if bin != *b"hbin" {
            return Err(Error::corrupt(
                "the hive's first bin does not begin with hbin",
            ));
        }
        Ok(hive)
    }

    /// How the hive was left, and what became of it.
    #[must_use]
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// When it was last written, in units of 100 ns since 1601 UTC.
    #[must_use]
    pub fn last_written(&self) -> u64 {
        self.base.last_written
    }

    /// The sequence number of the last write; after a recovery that of the last log entry.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        self.base.secondary_sequence
    }

    /// The root key.
    ///
    /// # Errors
    /// `Corrupt` when there is none.
    pub fn root(&self) -> Result<Key<'_>> {
        Key::read(self, self.base.root, None)
    }

    /// The key at `path` below the root: names between backslashes, with ASCII letters of either case.
    ///
    /// # Errors
    /// `Corrupt` for broken keys on the way.
    pub fn key(&self, path: &str) -> Result<Option<Key<'_>>> {
        self.root()?.descendant(path)
    }

    /// All bins as they are after recovery, part by part: what a sound hive's file would hold after its base block.
    ///
    /// # Errors
    /// The source's, and whatever `take` returns.
    pub fn bins(&self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut page = [0; 4096];
        for offset in (0..self.pages.bins()).step_by(page.len()) {
            self.pages.read(offset, &mut page)?;
            take(&page)?;
        }
        Ok(())
    }

    /// Whether values above 16,344 bytes lie in several cells.
    pub(super) fn has_big_data(&self) -> bool {
        self.base.minor > 3
    }

    fn charge(&self, bytes: usize) -> Result<()> {
        let cost = u64::try_from(bytes)
            .unwrap_or(u64::MAX)
            .saturating_add(CELL_WORK);
        match self.work.get().checked_sub(cost) {
            Some(left) => {
                self.work.set(left);
                Ok(())
            }
            None => Err(Error::limit("the hive's keys lead round and round")),
        }
    }

    /// The first `want` bytes of the cell at `offset`, or all of it where it has fewer.
    pub(super) fn cell(&self, offset: u32, want: usize) -> Result<Vec<u8>> {
        let corrupt = |what: &'static str| Error::corrupt(what).at_offset(offset.into());
        if !offset.is_multiple_of(8) {
            return Err(corrupt("a cell that is not aligned"));
        }
        let mut size = [0; 4];
        self.pages.read(offset, &mut size)?;
        let size = i32::from_le_bytes(size);
        if size >= 0 {
            return Err(corrupt("a cell in use that is marked free"));
        }
        let size = size.unsigned_abs();
        if size < 8 || !size.is_multiple_of(8) {
            return Err(corrupt("a cell of an impossible size"));
        }
        let end = offset.checked_add(size);
        if end.is_none_or(|end| end > self.pages.bins()) {
            return Err(corrupt("a cell that ends beyond the hive's bins"));
        }
        let len = usize::try_from(size.saturating_sub(4)).map_or(want, |len| len.min(want));
        self.charge(len)?;
        let mut bytes = vec![0; len];
        self.pages.read(offset.saturating_add(4), &mut bytes)?;
        Ok(bytes)
    }
}
