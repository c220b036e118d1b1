//! Transactions put together again from the operations in records.

use std::collections::HashMap;

use dormouse_block::{Error, Result, array_at, be_u32, le_u16, le_u32, slice_at};

use super::super::index;
use super::record::Record;

/// Bytes of an operation's header.
const OPERATION: usize = 12;
/// Bytes before the items of a transaction: its header, with the magic number `TRAN` in front.
const HEADER: usize = 16;
const HEADER_MAGIC: u32 = 0x5452_414E;
/// Flags of operations.
const START: u8 = 0x01;
const COMMIT: u8 = 0x02;
const CONTINUES: u8 = 0x04;
const WAS_CONTINUED: u8 = 0x08;
const END: u8 = 0x10;
const UNMOUNT: u8 = 0x20;
/// Who writes operations: transactions, and the log itself.
const CLIENTS: [u8; 2] = [0x69, 0xAA];
/// Most regions of one item (`XLOG_MAX_REGIONS_IN_ITEM`).
const MAX_REGIONS: usize = 257;
/// Bytes of all transactions that are open at once.
const MAX_OPEN: usize = 512 << 20;
/// What a region weighs beside its bytes.
const REGION: usize = 64;

/// One thing that a transaction changes: regions of bytes, the first of which says what it is.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) regions: Vec<Vec<u8>>,
    total: usize,
}

impl Item {
    /// The first region's type.
    pub(super) fn kind(&self) -> Result<u16> {
        le_u16(self.region(0)?, 0)
    }

    /// Region `nth`.
    ///
    /// # Errors
    /// `Corrupt` when there are fewer.
    pub(super) fn region(&self, nth: usize) -> Result<&[u8]> {
        self.regions
            .get(nth)
            .map(Vec::as_slice)
            .ok_or_else(|| Error::corrupt("an item of the log ends early"))
    }
}

/// A transaction whose end was not seen yet.
#[derive(Debug, Default)]
struct Open {
    lsn: u64,
    header: Vec<u8>,
    items: Vec<Item>,
    weight: usize,
}

fn bad(what: &str) -> Error {
    Error::corrupt(format!("{what} in the log"))
}

impl Open {
    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.header.is_empty() {
            if le_u32(bytes, 0)? != HEADER_MAGIC || bytes.len() > HEADER {
                return Err(bad("a transaction without a header"));
            }
            self.header = bytes.to_vec();
            return Ok(());
        }
        if self
            .items
            .last()
            .is_none_or(|item| item.regions.len() >= item.total)
        {
            let total = usize::from(le_u16(bytes, 2)?);
            if total == 0 || total > MAX_REGIONS {
                return Err(bad("an item of no known size"));
            }
            self.items.push(Item {
                regions: Vec::new(),
                total,
            });
        }
        let item = self.items.last_mut().ok_or_else(|| bad("no item"))?;
        item.regions.push(bytes.to_vec());
        Ok(())
    }

    fn go_on(&mut self, bytes: &[u8]) -> Result<()> {
        if self.header.len() < HEADER && self.items.is_empty() {
            self.header.extend_from_slice(bytes);
            if self.header.len() > HEADER {
                return Err(bad("a transaction's header that is too long"));
            }
            return Ok(());
        }
        let region = self
            .items
            .last_mut()
            .and_then(|item| item.regions.last_mut())
            .ok_or_else(|| bad("the rest of nothing"))?;
        region.extend_from_slice(bytes);
        Ok(())
    }
}

/// All transactions that are open.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    open: HashMap<u32, Open>,
    weight: usize,
}

impl Transactions {
    /// Adds the operations of `record`; a transaction that is committed is handed to `take` with the place in the log
    /// where it began.
    ///
    /// # Errors
    /// `Corrupt` for what cannot be, `Limit` for more than 512 MiB at once, and those of `take`.
    pub(super) fn add(
        &mut self,
        record: &Record,
        mut take: impl FnMut(u64, Vec<Item>) -> Result<()>,
    ) -> Result<()> {
        let data = &record.data;
        let mut at = 0_usize;
        for _ in 0..record.header.operations {
            if at >= data.len() {
                break;
            }
            let id = be_u32(data, at)?;
            let len = index(be_u32(data, at.saturating_add(4))?);
            let [client, flags] = array_at::<2>(data, at.saturating_add(8))?;
            at = at.saturating_add(OPERATION);
            let bytes = slice_at(data, at, len)?;
            at = at.saturating_add(len);
            if !CLIENTS.contains(&client) {
                return Err(bad("an operation of an unknown client"));
            }
            let Some(open) = self.open.get_mut(&id) else {
                // What began before the tail is in its place already.
                if flags & START != 0 {
                    let lsn = record.header.lsn;
                    self.open.insert(
                        id,
                        Open {
                            lsn,
                            ..Open::default()
                        },
                    );
                }
                continue;
            };
            let mut flags = flags & !END;
            if flags & WAS_CONTINUED != 0 {
                flags &= !CONTINUES;
            }
            let weight = len.saturating_add(REGION);
            match flags {
                0 | CONTINUES => open.add(bytes)?,
                WAS_CONTINUED => open.go_on(bytes)?,
                COMMIT => {
                    if let Some(open) = self.open.remove(&id) {
                        self.weight = self.weight.saturating_sub(open.weight);
                        if open
                            .items
                            .iter()
                            .any(|item| item.regions.len() != item.total)
                        {
                            return Err(bad("a committed transaction that is not whole"));
                        }
                        take(open.lsn, open.items)?;
                    }
                    continue;
                }
                UNMOUNT => {
                    self.open.remove(&id);
                    continue;
                }
                _ => return Err(bad("an operation with unknown flags")),
            }
            open.weight = open.weight.saturating_add(weight);
            self.weight = self.weight.saturating_add(weight);
            if self.weight > MAX_OPEN {
                return Err(Error::limit("transactions of more than 512 MiB in the log"));
            }
        }
        Ok(())
    }
}
