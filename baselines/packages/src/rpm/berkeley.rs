//! The Berkeley DB backend: `Packages`, a hash (or a B-tree) of either byte order.
//!
//! Every page of records is read once, in the file's order: a page that the database gave up is of no kind, so what is of
//! a kind is in use. Overflow chains lead from there, each page of them once.
//!
//! Source: `src/dbinc/db_page.h` of Berkeley DB 5.3, whose names the comments give.

use dormouse_block::{Error, Result, array_at, slice_at};

use super::MAX_HEADER;
use crate::cataloger::passes_on;
use crate::guest_file::GuestFile;

/// Magic numbers, at byte 12 in the writer's own byte order.
const HASH: u32 = 0x0006_1561;
const BTREE: u32 = 0x0005_3162;
/// Versions of them that have the pages described here.
const HASH_VERSIONS: std::ops::RangeInclusive<u32> = 7..=10;
const BTREE_VERSIONS: std::ops::RangeInclusive<u32> = 8..=10;
/// Bytes of a page's header (`SIZEOF_PAGE`).
const PAGE_HEADER: usize = 26;
/// Pages of one database.
const MAX_PAGES: u32 = 1 << 22;

/// Kinds of pages (`P_*`).
mod page {
    pub(super) const INVALID: u8 = 0;
    pub(super) const HASH_UNSORTED: u8 = 2;
    pub(super) const BTREE_INTERNAL: u8 = 3;
    pub(super) const RECORDS_INTERNAL: u8 = 4;
    pub(super) const BTREE_LEAF: u8 = 5;
    pub(super) const RECORDS_LEAF: u8 = 6;
    pub(super) const OVERFLOW: u8 = 7;
    pub(super) const HASH_META: u8 = 8;
    pub(super) const BTREE_META: u8 = 9;
    pub(super) const DUPLICATE_LEAF: u8 = 12;
    pub(super) const HASH: u8 = 13;
}

/// Kinds of items on pages of hashes (`H_*`) and of B-trees (`B_*`, of which the top bit says that it is deleted).
const H_KEYDATA: u8 = 1;
const H_DUPLICATE: u8 = 2;
const H_OFFPAGE: u8 = 3;
const H_OFFDUP: u8 = 4;
const B_KEYDATA: u8 = 1;
const B_DUPLICATE: u8 = 2;
const B_OVERFLOW: u8 = 3;
const B_DELETED: u8 = 0x80;

/// The byte order of whoever wrote the database.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, bytes: &[u8], at: usize) -> Result<u16> {
        let raw = array_at(bytes, at)?;
        Ok(match self {
            Self::Little => u16::from_le_bytes(raw),
            Self::Big => u16::from_be_bytes(raw),
        })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Result<u32> {
        let raw = array_at(bytes, at)?;
        Ok(match self {
            Self::Little => u32::from_le_bytes(raw),
            Self::Big => u32::from_be_bytes(raw),
        })
    }
}

fn order_of(start: &[u8]) -> Option<(Order, u32)> {
    [Order::Little, Order::Big].into_iter().find_map(|order| {
        let magic = order.u32(start, 12).ok()?;
        matches!(magic, HASH | BTREE).then_some((order, magic))
    })
}

struct Berkeley<'a> {
    file: &'a mut GuestFile,
    order: Order,
    page_size: usize,
    pages: u32,
    /// Pages of overflow chains that were read.
    visited: Vec<u64>,
}

/// A value on a page, or where its chain begins and how long it is.
enum Item {
    Here(std::ops::Range<usize>),
    Chain(u32, u32),
    /// A key, or the record of rpm's own counter: no header.
    None,
}

/// Hands the value of every record to `take`; in the place of those that do not read, why. The record of key 0, rpm's own
/// counter, is none.
///
/// # Errors
/// `Corrupt` or `Unsupported` for a file whose first page does not read; the host's failures, and whatever `take` returns.
pub(super) fn each_value(
    file: &mut GuestFile,
    take: &mut dyn FnMut(Result<&[u8]>) -> Result<()>,
) -> Result<()> {
    let mut database = Berkeley::open(file)?;
    let mut page = Vec::new();
    let mut value = Vec::new();
    for number in 1..database.pages {
        page.clear();
        page.extend_from_slice(database.page(number)?);
        let kind = page.get(25).copied().unwrap_or_default();
        let items = match kind {
            page::HASH | page::HASH_UNSORTED => database.hash_items(&page),
            page::BTREE_LEAF => database.leaf_items(&page, true),
            page::DUPLICATE_LEAF | page::RECORDS_LEAF => database.leaf_items(&page, false),
            page::INVALID
            | page::BTREE_INTERNAL
            | page::RECORDS_INTERNAL
            | page::OVERFLOW
            | page::HASH_META
            | page::BTREE_META => continue,
            _ => Err(Error::unsupported(format!("a page of the kind {kind}"))),
        };
        let items = match items {
            Ok(items) => items,
            Err(error) => {
                let what = format!("page {number} does not read");
                take(Err(Error::new(error.kind(), what).because(error)))?;
                continue;
            }
        };
        for item in items {
            match item {
                Item::None => {}
                Item::Here(range) => take(
                    page.get(range)
                        .ok_or_else(|| Error::corrupt("a value outside its page")),
                )?,
                Item::Chain(first, total) => match database.chain(first, total, &mut value) {
                    Ok(()) => take(Ok(&value))?,
                    Err(error) if passes_on(&error) => return Err(error),
                    Err(error) => {
                        let what = format!("a value of page {number} does not read");
                        take(Err(Error::new(error.kind(), what).because(error)))?;
                    }
                },
            }
        }
    }
    Ok(())
}

impl<'a> Berkeley<'a> {
    fn open(file: &'a mut GuestFile) -> Result<Self> {
        // The part of the first page that all kinds share (`DBMETA`).
        let meta = file.read(0, 72)?;
        let (order, magic) =
            order_of(meta).ok_or_else(|| Error::corrupt("no Berkeley database"))?;
        let version = order.u32(meta, 16)?;
        let known = match magic {
            HASH => HASH_VERSIONS.contains(&version),
            _ => BTREE_VERSIONS.contains(&version),
        };
        if !known {
            return Err(Error::unsupported(format!(
                "a Berkeley database of version {version}"
            )));
        }
        let size = order.u32(meta, 20)?;
        if !size.is_power_of_two() || !(512..=65536).contains(&size) {
            return Err(Error::corrupt(format!("pages of {size} bytes")));
        }
        let [encryption, _, flags] = array_at(meta, 24)?;
        if encryption != 0 {
            return Err(Error::unsupported("an encrypted Berkeley database"));
        }
        // `DBMETA_CHKSUM`, `DBMETA_PART_RANGE`, `DBMETA_PART_CALLBACK`
        if flags & 7 != 0 {
            return Err(Error::unsupported(format!(
                "a Berkeley database with the flags {flags:#x}"
            )));
        }
        let last = order.u32(meta, 32)?;
        let pages = last.saturating_add(1);
        if pages > MAX_PAGES {
            return Err(Error::limit(format!(
                "{pages} pages; at most {MAX_PAGES} are read"
            )));
        }
        if u64::from(pages).saturating_mul(u64::from(size)) > file.len() {
            return Err(Error::corrupt(format!(
                "the file ends before its last page, {last}"
            )));
        }
        let words = usize::try_from(pages).unwrap_or_default().div_ceil(64);
        Ok(Self {
            file,
            order,
            page_size: usize::try_from(size).unwrap_or_default(),
            pages,
            visited: vec![0; words],
        })
    }

    fn page(&mut self, number: u32) -> Result<&[u8]> {
        if number >= self.pages {
            return Err(Error::corrupt(format!("there is no page {number}")));
        }
        let size = u64::try_from(self.page_size).unwrap_or(u64::MAX);
        let offset = u64::from(number).saturating_mul(size);
        self.file.read(offset, self.page_size)
    }

    /// The places that a page's index names.
    fn index(&self, page: &[u8]) -> Result<Vec<usize>> {
        let count = usize::from(self.order.u16(page, 20)?);
        (0..count)
            .map(|at| {
                let at = PAGE_HEADER.saturating_add(at.saturating_mul(2));
                self.order.u16(page, at).map(usize::from)
            })
            .collect()
    }

    /// The items of a page of a hash: keys and values by turns, each up to where the one before it begins.
    fn hash_items(&self, page: &[u8]) -> Result<Vec<Item>> {
        let index = self.index(page)?;
        let mut end = page.len();
        let mut spans = Vec::with_capacity(index.len());
        for at in index {
            if at < PAGE_HEADER || at >= end {
                return Err(Error::corrupt("its items overlap"));
            }
            spans.push(at..end);
            end = at;
        }
        if spans.len() % 2 != 0 {
            return Err(Error::corrupt("a key without a value"));
        }
        let mut items = Vec::new();
        for pair in spans.chunks_exact(2) {
            let [key, value] = pair else { continue };
            let key = page.get(key.clone()).unwrap_or_default();
            let is_counter = matches!(key, [H_KEYDATA, 0, 0, 0, 0]);
            if !is_counter {
                self.hash_value(page, value.clone(), &mut items)?;
            }
        }
        Ok(items)
    }

    fn hash_value(
        &self,
        page: &[u8],
        span: std::ops::Range<usize>,
        items: &mut Vec<Item>,
    ) -> Result<()> {
        let item = page.get(span.clone()).unwrap_or_default();
        match item.first().copied().unwrap_or_default() {
            H_KEYDATA => items.push(Item::Here(span.start.saturating_add(1)..span.end)),
            H_OFFPAGE => {
                items.push(Item::Chain(
                    self.order.u32(item, 4)?,
                    self.order.u32(item, 8)?,
                ));
            }
            // The pages of an off-page set of duplicates are leaves, read in their own turn.
            H_OFFDUP => {}
            H_DUPLICATE => {
                // Each between two copies of its length.
                let mut at = 1_usize;
                while at < item.len() {
                    let length = usize::from(self.order.u16(item, at)?);
                    let start = at.saturating_add(2);
                    let end = start.saturating_add(length);
                    slice_at(item, start, length.saturating_add(2))?;
                    items.push(Item::Here(
                        span.start.saturating_add(start)..span.start.saturating_add(end),
                    ));
                    at = end.saturating_add(2);
                }
            }
            kind => return Err(Error::unsupported(format!("an item of the kind {kind}"))),
        }
        Ok(())
    }

    /// The items of a leaf of a B-tree: keys and values by turns where it has keys.
    fn leaf_items(&self, page: &[u8], keyed: bool) -> Result<Vec<Item>> {
        let index = self.index(page)?;
        if keyed && index.len() % 2 != 0 {
            return Err(Error::corrupt("a key without a value"));
        }
        // Values do not overlap: together they have no more bytes than the page.
        let mut budget = page.len();
        let mut items = Vec::new();
        let mut is_counter = false;
        for (number, at) in index.into_iter().enumerate() {
            let length = usize::from(self.order.u16(page, at)?);
            let kind = *page
                .get(at.saturating_add(2))
                .ok_or_else(|| Error::corrupt("an item outside its page"))?;
            if keyed && number % 2 == 0 {
                let key = slice_at(page, at.saturating_add(3), length);
                is_counter = kind & !B_DELETED == B_KEYDATA && matches!(key, Ok([0, 0, 0, 0]));
                continue;
            }
            if is_counter || kind & B_DELETED != 0 {
                continue;
            }
            items.push(match kind {
                B_KEYDATA => {
                    let start = at.saturating_add(3);
                    slice_at(page, start, length)?;
                    budget = budget
                        .checked_sub(length)
                        .ok_or_else(|| Error::corrupt("its items overlap"))?;
                    Item::Here(start..start.saturating_add(length))
                }
                B_OVERFLOW => Item::Chain(
                    self.order.u32(page, at.saturating_add(4))?,
                    self.order.u32(page, at.saturating_add(8))?,
                ),
                B_DUPLICATE => Item::None,
                _ => return Err(Error::unsupported(format!("an item of the kind {kind}"))),
            });
        }
        Ok(items)
    }

    /// A value of `total` bytes on a chain of overflow pages.
    fn chain(&mut self, first: u32, total: u32, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        if total > MAX_HEADER {
            return Err(Error::limit(format!("a value of {total} bytes")));
        }
        let order = self.order;
        let mut next = first;
        while out.len() < total {
            let bit = 1_u64.checked_shl(next % 64).unwrap_or_default();
            let word = usize::try_from(next / 64).unwrap_or(usize::MAX);
            match self.visited.get_mut(word) {
                Some(word) if *word & bit == 0 => *word |= bit,
                _ => return Err(Error::corrupt(format!("page {next} is in use twice"))),
            }
            let page = self.page(next)?;
            if page.get(25) != Some(&page::OVERFLOW) {
                return Err(Error::corrupt(format!(
                    "page {next} is of no overflow chain"
                )));
            }
            // `OV_LEN`, in the place of the offset of free space.
            let length = usize::from(order.u16(page, 22)?);
            let part = slice_at(page, PAGE_HEADER, length)?;
            if length == 0 || length > total.saturating_sub(out.len()) {
                return Err(Error::corrupt("an overflow chain of another length"));
            }
            out.extend_from_slice(part);
            next = order.u32(page, 16)?;
        }
        if next != 0 {
            return Err(Error::corrupt("an overflow chain that goes on"));
        }
        Ok(())
    }
}
