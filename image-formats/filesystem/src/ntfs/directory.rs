//! A directory: its index, walked in order or searched for a name.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use dormouse_block::{Error, Result};

use super::attribute;
use super::boot::Boot;
use super::index::{self, Entry, Root};
use super::name::Upcase;
use super::node::{Node, Stream};
use super::table::Table;
use crate::fat::wide;

/// Blocks of one index at most: 512 MiB of the usual ones.
const MAX_BLOCKS: u64 = 1 << 17;
/// Names of one directory at most.
const MAX_NAMES: usize = 1 << 20;
/// Levels of an index at most; three hold millions of names.
const MAX_LEVELS: usize = 32;

/// An open directory.
pub(super) struct Directory<'a> {
    table: &'a Table,
    boot: &'a Boot,
    root: Root,
    /// The blocks below the root.
    blocks: Option<Stream>,
    /// One bit for each block in use.
    used: Option<Stream>,
    /// Bytes that a block's number counts: clusters, or sectors where a block is smaller than a cluster.
    unit: u64,
}

impl<'a> Directory<'a> {
    /// Opens the directory `node`.
    ///
    /// # Errors
    /// `Corrupt` for what is none or a broken one.
    pub(super) fn open(node: &Node, table: &'a Table, boot: &'a Boot) -> Result<Self> {
        let stream = |kind: u32| node.stream(table, boot, kind, index::NAME);
        if !node.record.directory {
            return Err(Error::corrupt("not a directory"));
        }
        let Some(root @ Stream::Resident(_)) = stream(attribute::INDEX_ROOT)? else {
            return Err(Error::corrupt("a directory without an index"));
        };
        let root = Root::parse(&root.whole(table, boot, boot.record_bytes())?)?;
        let block = u64::from(root.block);
        let blocks = stream(attribute::INDEX_ALLOCATION)?;
        if blocks
            .as_ref()
            .is_some_and(|blocks| blocks.size() > block.saturating_mul(MAX_BLOCKS))
        {
            return Err(Error::limit("a directory of more than 2^17 index blocks"));
        }
        Ok(Self {
            table,
            boot,
            unit: if boot.cluster <= block {
                boot.cluster
            } else {
                512
            },
            root,
            blocks,
            used: stream(attribute::BITMAP)?,
        })
    }

    fn block(&self, number: u64) -> Result<Vec<Entry>> {
        let outside = || Error::corrupt("an index leads to a block that is not there");
        let blocks = self.blocks.as_ref().ok_or_else(outside)?;
        let at = number.checked_mul(self.unit).ok_or_else(outside)?;
        let mut bytes = vec![0; crate::fat::index(self.root.block)];
        if at
            .checked_add(wide(bytes.len()))
            .is_none_or(|end| end > blocks.size())
        {
            return Err(outside());
        }
        blocks.read(self.table, self.boot, at, &mut bytes, &mut None)?;
        index::block(bytes, number)
    }

    /// All entries with a name, in the index's order.
    ///
    /// # Errors
    /// `Corrupt` for a broken index, also one that holds names which a search does not find; `Limit` for too many.
    pub(super) fn list(&self) -> Result<Vec<Entry>> {
        let mut out = Vec::new();
        let mut seen = BTreeSet::new();
        let mut levels = vec![self.root.entries.clone().into_iter()];
        // The entry that comes after all that is below it.
        let mut after: Vec<Option<Entry>> = vec![None];
        while let Some(level) = levels.last_mut() {
            if let Some(Some(entry)) = after.last_mut().map(Option::take) {
                out.push(entry);
                if out.len() > MAX_NAMES {
                    return Err(Error::limit("a directory of more than 2^20 names"));
                }
            }
            let Some(entry) = level.next() else {
                levels.pop();
                after.pop();
                continue;
            };
            let below = entry.below;
            if let Some(last) = after.last_mut() {
                *last = Some(entry).filter(|entry| entry.name.is_some());
            }
            if let Some(number) = below {
                if !seen.insert(number) || levels.len() >= MAX_LEVELS {
                    return Err(Error::corrupt("an index goes in a circle"));
                }
                levels.push(self.block(number)?.into_iter());
                after.push(None);
            }
        }
        self.check_all_reached(&seen)?;
        Ok(out)
    }

    /// Looks that no block in use holds names which the walk did not meet.
    fn check_all_reached(&self, seen: &BTreeSet<u64>) -> Result<()> {
        let Some(used) = &self.used else {
            return if seen.is_empty() {
                Ok(())
            } else {
                Err(Error::corrupt("an index without a map of its blocks"))
            };
        };
        let bits = used.whole(self.table, self.boot, MAX_BLOCKS)?;
        let per = u64::from(self.root.block)
            .checked_div(self.unit)
            .unwrap_or(1);
        let size = self.blocks.as_ref().map_or(0, Stream::size);
        let there = size.checked_div(u64::from(self.root.block)).unwrap_or(0);
        for (nth, byte) in (0_u64..).zip(&bits) {
            for bit in 0..8_u64 {
                let block = nth.saturating_mul(8).saturating_add(bit);
                let number = block.saturating_mul(per);
                let in_use = byte >> bit & 1 == 1;
                if in_use == seen.contains(&number) {
                    continue;
                }
                if !in_use {
                    return Err(Error::corrupt("an index leads to a block that is free"));
                }
                if block < there && self.block(number)?.iter().any(|entry| entry.name.is_some()) {
                    return Err(Error::corrupt(
                        "an index does not lead to all of its blocks",
                    ));
                }
            }
        }
        Ok(())
    }

    /// The entries whose name is `wanted` but for case.
    ///
    /// # Errors
    /// As [`Directory::list`], as far as the search goes.
    pub(super) fn find(&self, upcase: &Upcase, wanted: &[u16]) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        let mut todo = vec![self.root.entries.clone()];
        while let Some(entries) = todo.pop() {
            for entry in entries {
                let order = match &entry.name {
                    Some(name) => upcase.compare(wanted, &name.units),
                    None => Ordering::Less,
                };
                if order == Ordering::Greater {
                    continue;
                }
                if let Some(number) = entry.below {
                    if !seen.insert(number) {
                        return Err(Error::corrupt("an index goes in a circle"));
                    }
                    todo.push(self.block(number)?);
                }
                if order == Ordering::Less {
                    break;
                }
                found.push(entry);
            }
        }
        Ok(found)
    }
}
