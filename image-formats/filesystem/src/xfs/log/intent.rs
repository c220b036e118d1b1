//! What was intended and not done: changes that a transaction announces and a later one does.

use std::collections::BTreeMap;

use dormouse_block::{Error, Result, le_u32, le_u64, slice_at};

use super::super::fork::Which;
use super::super::map::Mapped;
use super::super::superblock::Superblock;
use super::transaction::Item;

/// Bytes of one extent of an intent to map (`struct xfs_map_extent`).
const EXTENT: usize = 32;
/// Kinds of change, and flags of an extent's.
const MAP: u32 = 1;
const UNMAP: u32 = 2;
const REAL_TIME: u32 = 1 << 29;
const UNWRITTEN: u32 = 1 << 30;
const ATTRIBUTES: u32 = 1 << 31;
/// Intents that are open at once.
const MAX_OPEN: usize = 1 << 20;

/// A range of a fork that leads somewhere else than the fork says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Change {
    which: Which,
    logical: u64,
    len: u64,
    block: Option<u64>,
}

impl Change {
    /// Lays this change over what a fork says of logical block `logical`.
    pub(in super::super) fn lay_over(&self, logical: u64, mapped: &mut Mapped) {
        let Some(within) = logical.checked_sub(self.logical) else {
            // It begins later: up to there, all is as it was.
            mapped.len = mapped.len.min(self.logical.saturating_sub(logical));
            return;
        };
        if within < self.len {
            *mapped = Mapped {
                len: mapped.len.min(self.len.saturating_sub(within)),
                block: self.block.map(|block| block.saturating_add(within)),
            };
        }
    }
}

/// The changes of files that are still to be done, by inode, in their order.
#[derive(Debug, Default)]
pub(in super::super) struct Pending(BTreeMap<u64, Vec<Change>>);

impl Pending {
    /// The changes of one fork.
    pub(in super::super) fn of(&self, inode: u64, which: Which) -> impl Iterator<Item = &Change> {
        self.0
            .get(&inode)
            .into_iter()
            .flatten()
            .filter(move |change| change.which == which)
    }
}

/// Intents by their kind and number, in the order they were announced.
#[derive(Debug, Default)]
pub(super) struct Intents {
    open: BTreeMap<u64, (u16, u64, Item)>,
    by_number: BTreeMap<(u16, u64), u64>,
    next: u64,
}

/// `XFS_LI_BUI`: to map or unmap an extent of a file.
pub(super) const MAPPING: u16 = 0x1244;
/// `XFS_LI_ATTRI`: to set or remove an extended attribute.
pub(super) const ATTRIBUTE: u16 = 0x1246;
/// `XFS_LI_XMI`: to exchange the extents of two files.
pub(super) const EXCHANGE: u16 = 0x1248;

impl Intents {
    /// Notes that the change of `item` was announced.
    ///
    /// # Errors
    /// `Corrupt` for an item that is too short, `Limit` for more than 2^20.
    pub(super) fn announce(&mut self, kind: u16, item: Item) -> Result<()> {
        let number = le_u64(item.region(0)?, 8)?;
        if self.open.len() >= MAX_OPEN {
            return Err(Error::limit("more than 2^20 unfinished changes in the log"));
        }
        self.next = self.next.saturating_add(1);
        self.by_number.insert((kind, number), self.next);
        self.open.insert(self.next, (kind, number, item));
        Ok(())
    }

    /// Notes that the change of `kind` that `item` names was done.
    ///
    /// # Errors
    /// `Corrupt` for an item that is too short.
    pub(super) fn done(&mut self, kind: u16, item: &Item) -> Result<()> {
        let number = le_u64(item.region(0)?, 8)?;
        if let Some(nth) = self.by_number.remove(&(kind, number)) {
            self.open.remove(&nth);
        }
        Ok(())
    }

    /// What is left to be done.
    ///
    /// # Errors
    /// `Unsupported`, by name, for what changes more than a file's extents; `Corrupt` for a broken item.
    pub(super) fn pending(self, sb: &Superblock) -> Result<Pending> {
        let mut out = Pending::default();
        for (kind, _, item) in self.open.into_values() {
            match kind {
                MAPPING => mapping(sb, &item, &mut out)?,
                ATTRIBUTE => {
                    return Err(Error::unsupported(
                        "an unfinished change of extended attributes in the log of XFS",
                    ));
                }
                _ => {
                    return Err(Error::unsupported(
                        "an unfinished exchange of extents in the log of XFS",
                    ));
                }
            }
        }
        Ok(out)
    }
}

fn mapping(sb: &Superblock, item: &Item, out: &mut Pending) -> Result<()> {
    let bytes = item.region(0)?;
    // The kernel knows intents of one extent alone.
    if le_u32(bytes, 4)? != 1 {
        return Err(Error::corrupt("an unfinished change of several extents"));
    }
    let extent = slice_at(bytes, 16, EXTENT)?;
    let flags = le_u32(extent, 28)?;
    if flags & REAL_TIME != 0 {
        return Err(Error::unsupported(
            "an unfinished change of a real-time file in the log of XFS",
        ));
    }
    let block = le_u64(extent, 8)?;
    let len = u64::from(le_u32(extent, 24)?);
    sb.extent(block, len)?;
    let block = match flags & !(UNWRITTEN | ATTRIBUTES) {
        MAP => (flags & UNWRITTEN == 0).then_some(block),
        UNMAP => None,
        _ => return Err(Error::corrupt("an unfinished change of unknown kind")),
    };
    out.0.entry(le_u64(extent, 0)?).or_default().push(Change {
        which: if flags & ATTRIBUTES == 0 {
            Which::Data
        } else {
            Which::Attributes
        },
        logical: le_u64(extent, 16)?,
        len,
        block,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_laid_over_what_a_fork_says() {
        let change = Change {
            which: Which::Data,
            logical: 10,
            len: 5,
            block: Some(100),
        };
        let lay = |logical, len| {
            let mut mapped = Mapped {
                len,
                block: Some(7),
            };
            change.lay_over(logical, &mut mapped);
            (mapped.len, mapped.block)
        };
        assert_eq!(lay(0, 50), (10, Some(7)));
        assert_eq!(lay(8, 1), (1, Some(7)));
        assert_eq!(lay(10, 50), (5, Some(100)));
        assert_eq!(lay(12, 2), (2, Some(102)));
        assert_eq!(lay(15, 50), (50, Some(7)));
    }
}
