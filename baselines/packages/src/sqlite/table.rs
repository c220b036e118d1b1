//! The rows of tables.

use dormouse_block::{Error, Result, be_u16, be_u32, slice_at};
use dormouse_filesystem::Guest;

use super::pager::Pager;
use super::{MAX_ROW, varint};
use crate::cataloger::passes_on;
use crate::guest_file::GuestFile;

/// Columns of one row; the tables read here have five at most.
const MAX_COLUMNS: usize = 64;
/// Tables, indices, views and triggers of one schema.
const MAX_SCHEMA: usize = 10_000;
/// Kinds of table pages.
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;

/// A database, open for reading.
pub(crate) struct Database(Pager);

/// One row of a table.
pub(crate) struct Row<'a> {
    payload: &'a [u8],
}

impl<'a> Row<'a> {
    /// The bytes of column `number`, counted from 0, where it is a blob or a text.
    ///
    /// # Errors
    /// `Corrupt` for a row whose header does not add up.
    pub(crate) fn bytes(&self, number: usize) -> Result<Option<&'a [u8]>> {
        Ok(self
            .column(number)?
            .and_then(|(kind, bytes)| (kind >= 12).then_some(bytes)))
    }

    /// The whole number in column `number`, where it is one.
    ///
    /// # Errors
    /// As [`Row::bytes`].
    pub(crate) fn integer(&self, number: usize) -> Result<Option<i64>> {
        let Some((kind, bytes)) = self.column(number)? else {
            return Ok(None);
        };
        Ok(match kind {
            1..=6 => {
                let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
                let start = if negative { -1_i64 } else { 0 };
                Some(
                    bytes
                        .iter()
                        .fold(start, |all, &byte| all << 8 | i64::from(byte)),
                )
            }
            8 => Some(0),
            9 => Some(1),
            _ => None,
        })
    }

    /// A column's serial type and bytes (section 2.1).
    fn column(&self, number: usize) -> Result<Option<(u64, &'a [u8])>> {
        let bad = || Error::corrupt("a row's header does not read");
        let (length, mut at) = varint(self.payload).ok_or_else(bad)?;
        let length = usize::try_from(length).map_err(|_| bad())?;
        let header = self.payload.get(..length).ok_or_else(bad)?;
        let mut data = length;
        for column in 0..MAX_COLUMNS {
            if at >= length {
                return Ok(None);
            }
            let (kind, taken) = header.get(at..).and_then(varint).ok_or_else(bad)?;
            at = at.saturating_add(taken);
            let size = match kind {
                0 | 8 | 9 => 0,
                1..=4 => kind,
                5 => 6,
                6 | 7 => 8,
                10 | 11 => return Err(Error::corrupt("a column of a reserved type")),
                _ => kind.saturating_sub(12) / 2,
            };
            let size = usize::try_from(size).map_err(|_| bad())?;
            if column == number {
                return slice_at(self.payload, data, size).map(|bytes| Some((kind, bytes)));
            }
            data = data.checked_add(size).ok_or_else(bad)?;
        }
        Err(Error::limit("a row of more than 64 columns"))
    }
}

impl Database {
    /// Opens the database in `file`, with the log beside it.
    ///
    /// # Errors
    /// `Corrupt` for what is no database, `Unsupported` for a later format or another text encoding; the filesystem's.
    pub(crate) fn open(guest: &Guest, file: GuestFile) -> Result<Self> {
        Pager::open(guest, file).map(Self)
    }

    /// What is wrong with the database as a whole, and leaves its rows readable.
    pub(crate) fn doubt(&mut self) -> Option<Error> {
        self.0.doubt.take()
    }

    /// Where the table `name` begins; `None` when there is no such table.
    ///
    /// # Errors
    /// `Corrupt` when the schema does not read.
    pub(crate) fn table(&mut self, name: &str) -> Result<Option<u32>> {
        let mut root = None;
        let mut rows = 0_usize;
        self.rows(1, &mut |row| {
            let row = row?;
            rows = rows.saturating_add(1);
            if rows > MAX_SCHEMA {
                return Err(Error::limit("a schema of more than 10000 rows"));
            }
            let is_table = row.bytes(0)? == Some(b"table");
            if is_table && row.bytes(1)? == Some(name.as_bytes()) {
                let page = row.integer(3)?.and_then(|page| u32::try_from(page).ok());
                root = Some(page.ok_or_else(|| Error::corrupt("a table without a root page"))?);
            }
            Ok(())
        })?;
        Ok(root)
    }

    /// Hands every row of the table that begins at page `root` to `take`, in the order of their ids; in the place of
    /// rows that do not read, why.
    ///
    /// # Errors
    /// Whatever `take` returns, and the host's failures.
    pub(crate) fn rows(
        &mut self,
        root: u32,
        take: &mut dyn FnMut(Result<Row<'_>>) -> Result<()>,
    ) -> Result<()> {
        let mut stack = vec![root];
        let mut page = Vec::new();
        let mut payload = Vec::new();
        while let Some(number) = stack.pop() {
            let walked = self
                .load(number, &mut page)
                .and_then(|()| self.walk(number, &page, &mut stack, &mut payload, take));
            match walked {
                Ok(()) => {}
                Err(Broken::Page(error)) if !passes_on(&error) => take(Err(error))?,
                Err(Broken::Page(error) | Broken::Taker(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn load(&mut self, number: u32, into: &mut Vec<u8>) -> Result<(), Broken> {
        into.clear();
        into.extend_from_slice(self.0.page(number)?);
        Ok(())
    }

    /// One page: its children onto the stack, or its rows to `take` (section 1.6).
    fn walk(
        &mut self,
        number: u32,
        page: &[u8],
        stack: &mut Vec<u32>,
        payload: &mut Vec<u8>,
        take: &mut dyn FnMut(Result<Row<'_>>) -> Result<()>,
    ) -> Result<(), Broken> {
        let start = if number == 1 { 100 } else { 0 };
        let head = page.get(start..).unwrap_or_default();
        let kind = *head.first().unwrap_or(&0);
        let cells = usize::from(be_u16(head, 3)?);
        let pointers = match kind {
            INTERIOR => slice_at(head, 12, cells.saturating_mul(2))?,
            LEAF => slice_at(head, 8, cells.saturating_mul(2))?,
            _ => {
                let what = format!("page {number} is of the kind {kind}, which no table has");
                return Err(Error::corrupt(what).into());
            }
        };
        let (pointers, _) = pointers.as_chunks::<2>();
        let cell_at = |pointer: &[u8; 2]| usize::from(u16::from_be_bytes(*pointer));
        if kind == INTERIOR {
            stack.push(be_u32(head, 8)?);
            for pointer in pointers.iter().rev() {
                stack.push(be_u32(page, cell_at(pointer))?);
            }
            return Ok(());
        }
        // Cells do not overlap: together they have no more bytes than the page.
        let mut budget = page.len();
        for pointer in pointers {
            match self.payload(page, cell_at(pointer), &mut budget, payload) {
                Ok(()) => take(Ok(Row { payload })).map_err(Broken::Taker)?,
                Err(error) if passes_on(&error) => return Err(error.into()),
                Err(error) => {
                    let what = format!("a row of page {number} does not read");
                    take(Err(Error::new(error.kind(), what).because(error)))
                        .map_err(Broken::Taker)?;
                }
            }
        }
        Ok(())
    }

    /// The whole payload of the cell at `at`, from its page and the overflow chain (section 1.7).
    fn payload(
        &mut self,
        page: &[u8],
        at: usize,
        budget: &mut usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        out.clear();
        let bad = || Error::corrupt("a cell does not read");
        let cell = page.get(at..).ok_or_else(bad)?;
        let (total, taken) = varint(cell).ok_or_else(bad)?;
        let cell = cell.get(taken..).ok_or_else(bad)?;
        let (_, taken) = varint(cell).ok_or_else(bad)?;
        let cell = cell.get(taken..).ok_or_else(bad)?;
        if total > MAX_ROW {
            return Err(Error::limit(format!(
                "a row of {total} bytes; at most {MAX_ROW} are read"
            )));
        }
        let total = usize::try_from(total).map_err(|_| bad())?;
        let local = local(total, self.0.usable);
        out.extend_from_slice(slice_at(cell, 0, local)?);
        *budget = budget
            .checked_sub(local)
            .ok_or_else(|| Error::corrupt("the cells of a page overlap"))?;
        if local == total {
            return Ok(());
        }
        let mut next = be_u32(cell, local)?;
        while out.len() < total {
            let page = self.0.page(next)?;
            next = be_u32(page, 0)?;
            let left = total.saturating_sub(out.len());
            let part = page.get(4..).unwrap_or_default();
            out.extend_from_slice(part.get(..left).unwrap_or(part));
        }
        Ok(())
    }
}

/// How many bytes of a payload of `total` stand on the leaf itself (section 1.6, "table B-tree leaf cell").
fn local(total: usize, usable: usize) -> usize {
    let most = usable.saturating_sub(35);
    if total <= most {
        return total;
    }
    let least = (usable.saturating_sub(12).saturating_mul(32) / 255).saturating_sub(23);
    let rest = total
        .saturating_sub(least)
        .checked_rem(usable.saturating_sub(4))
        .unwrap_or_default();
    let some = least.saturating_add(rest);
    if some <= most { some } else { least }
}

/// Why a page was not walked to its end.
enum Broken {
    /// It does not read.
    Page(Error),
    /// Whoever takes the rows wants no more.
    Taker(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Page(error)
    }
}
