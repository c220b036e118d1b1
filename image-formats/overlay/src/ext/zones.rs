//! Where the filesystem's own tables lie: no file may have a block there.

use dormouse_block::{Error, Result};
use dormouse_filesystem::ext::group::{Group, base_blocks, inode_table_blocks};
use dormouse_filesystem::ext::superblock::Superblock;

/// Ranges of blocks, ascending and apart.
#[derive(Debug, Default)]
pub(super) struct Zones {
    /// The first block of each and the first after it.
    ranges: Vec<(u64, u64)>,
}

impl Zones {
    /// The superblocks, descriptors, bitmaps and inode tables of `groups`.
    pub(super) fn of<'g>(sb: &Superblock, groups: impl Iterator<Item = &'g Group>) -> Self {
        let table = inode_table_blocks(sb);
        // With bigalloc and blocks of 1 KiB the boot block counts as block 0.
        let boot = u64::from(sb.block_log == 10 && sb.first_data_block == 0);
        let mut ranges = Vec::new();
        for (number, group) in (0..sb.groups).zip(groups) {
            let start = sb.group_start(number);
            let base = u64::from(base_blocks(sb, number));
            let base = base.saturating_add(if number == 0 { boot } else { 0 });
            for (first, len) in [
                (start, base),
                (group.block_bitmap, 1),
                (group.inode_bitmap, 1),
                (group.inode_table, table),
            ] {
                if len > 0 {
                    ranges.push((first, first.saturating_add(len)));
                }
            }
        }
        let mut this = Self { ranges };
        this.merge();
        this
    }

    fn merge(&mut self) {
        self.ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(self.ranges.len());
        for (start, end) in self.ranges.drain(..) {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        self.ranges = merged;
    }

    /// Adds the blocks of a file that the filesystem keeps for itself, such as its journal.
    pub(super) fn add(&mut self, ranges: impl Iterator<Item = (u64, u64)>) {
        self.ranges.extend(ranges);
        self.merge();
    }

    /// The parts of the ranges between two blocks.
    pub(super) fn within(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let from = self.ranges.partition_point(|(_, stop)| *stop <= start);
        self.ranges
            .get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(move |(first, _)| *first < end)
            .map(move |(first, stop)| ((*first).max(start), (*stop).min(end)))
    }

    /// Refuses blocks that are the filesystem's own.
    ///
    /// # Errors
    /// `Corrupt`, naming the first block.
    pub(super) fn check(&self, start: u64, len: u64) -> Result<()> {
        let end = start.saturating_add(len);
        let after = self.ranges.partition_point(|(first, _)| *first < end);
        let before = after.checked_sub(1).and_then(|nth| self.ranges.get(nth));
        match before {
            Some((_, stop)) if *stop > start => Err(Error::corrupt(format!(
                "a file has block {start}, which is the filesystem's own"
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_and_are_found() {
        let mut zones = Zones::default();
        zones.add([(10, 12), (30, 40), (12, 15)].into_iter());
        assert_eq!(zones.ranges, [(10, 15), (30, 40)]);
        for (start, len, free) in [
            (0, 10, true),
            (0, 11, false),
            (14, 1, false),
            (15, 15, true),
            (15, 16, false),
            (39, 1, false),
            (40, 100, true),
        ] {
            assert_eq!(zones.check(start, len).is_ok(), free, "{start} {len}");
        }
    }
}
