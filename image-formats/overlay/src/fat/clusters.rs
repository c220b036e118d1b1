//! The table of clusters in memory, and bytes in clusters.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use dormouse_block::{Error, Result, le_u32, read_vec_at};
use dormouse_filesystem::fat::boot::{Boot, Kind};
use dormouse_filesystem::fat::chain;
use dormouse_filesystem::fat::table::{self, Next};

use crate::Device;

/// Clusters of a volume that is edited: its table is in memory.
const MAX_CLUSTERS: u32 = 1 << 22;
/// Bytes of content that are written at once.
const STEP: u64 = 256 << 10;

/// Consecutive clusters: the first, and how many.
pub(super) type Runs = Vec<(u32, u32)>;

pub(super) struct Clusters {
    pub(super) device: Arc<dyn Device>,
    pub(super) boot: Boot,
    table: Vec<u8>,
    /// Sectors of the table that changed.
    dirty: BTreeSet<u64>,
    free: u32,
    /// Where the search for free clusters begins.
    cursor: u32,
}

fn index(n: impl TryInto<usize>) -> usize {
    n.try_into().unwrap_or(usize::MAX)
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

impl Clusters {
    pub(super) fn open(device: Arc<dyn Device>) -> Result<Self> {
        let boot = Boot::read(&*device)?;
        if boot.clusters > MAX_CLUSTERS {
            return Err(Error::limit(
                "a FAT volume of more than 2^22 clusters is not edited",
            ));
        }
        let entries = boot.clusters.saturating_add(2);
        let (end, len) = table::place(boot.kind, entries);
        let used = end.saturating_add(wide(len)).min(boot.table_bytes);
        let mut tables = boot.tables.iter();
        let first = tables.next().copied().unwrap_or_default();
        let table = read_vec_at(&*device, first, index(used))?;
        for other in tables {
            if read_vec_at(&*device, *other, index(used))? != table {
                return Err(Error::denied(
                    "the copies of the FAT differ; fsck.fat must check the volume first",
                ));
            }
        }
        let clean = match boot.kind {
            Kind::Fat12 => true,
            Kind::Fat16 => table.get(3).is_some_and(|byte| byte & 0x80 != 0),
            Kind::Fat32 => table.get(7).is_some_and(|byte| byte & 0x08 != 0),
        };
        if boot.state & 1 != 0 || !clean {
            return Err(Error::denied(
                "the FAT volume was not left clean; fsck.fat must check it first",
            ));
        }
        let mut this = Self {
            device,
            boot,
            table,
            dirty: BTreeSet::new(),
            free: 0,
            cursor: 2,
        };
        for cluster in (2_u32..).take(index(this.boot.clusters)) {
            if this.next(cluster)? == Next::Free {
                this.free = this.free.saturating_add(1);
            }
        }
        Ok(this)
    }

    pub(super) fn free(&self) -> u32 {
        self.free
    }

    fn next(&self, cluster: u32) -> Result<Next> {
        table::get(self.boot.kind, cluster, &self.table)
    }

    fn set(&mut self, cluster: u32, next: Next) -> Result<()> {
        self.boot.place(cluster)?;
        let (at, len) = table::place(self.boot.kind, cluster);
        let place = index(at);
        let bytes = self
            .table
            .get_mut(place..place.saturating_add(len))
            .ok_or_else(|| Error::corrupt("an entry lies outside the table"))?;
        table::store(self.boot.kind, cluster, next, bytes)?;
        let sector = u64::from(self.boot.sector);
        let last = at.saturating_add(wide(len)).saturating_sub(1);
        for byte in [at, last] {
            self.dirty.insert(byte.checked_div(sector).unwrap_or(0));
        }
        Ok(())
    }

    /// The clusters of a file or directory that begins at `first`.
    ///
    /// # Errors
    /// `Corrupt` for a chain that leads outside or in a circle.
    pub(super) fn chain(&self, first: u32) -> Result<Runs> {
        if first == 0 {
            return Ok(Vec::new());
        }
        chain::follow(self.boot.clusters, first, u32::MAX, &mut |cluster| {
            self.next(cluster)
        })
    }

    /// Takes `wanted` clusters that follow each other in a chain.
    ///
    /// # Errors
    /// `Limit` when there are fewer; then none is taken.
    pub(super) fn take(&mut self, wanted: u32) -> Result<Runs> {
        if wanted > self.free {
            return Err(Error::limit(format!(
                "no space left: {wanted} clusters are wanted and {} are free",
                self.free
            )));
        }
        let mut runs: Runs = Vec::new();
        let mut left = wanted;
        let count = self.boot.clusters;
        let mut at = self.cursor;
        let mut last = None;
        for _ in 0..count {
            if left == 0 {
                break;
            }
            if at.saturating_sub(2) >= count {
                at = 2;
            }
            if self.next(at)? == Next::Free {
                self.set(at, Next::End)?;
                if let Some(last) = last {
                    self.set(last, Next::Cluster(at))?;
                }
                last = Some(at);
                left = left.saturating_sub(1);
                match runs.last_mut() {
                    Some((start, len)) if start.saturating_add(*len) == at => {
                        *len = len.saturating_add(1);
                    }
                    _ => runs.push((at, 1)),
                }
            }
            at = at.saturating_add(1);
        }
        self.cursor = at;
        self.free = self.free.saturating_sub(wanted);
        Ok(runs)
    }

    /// Adds a cluster to the chain whose last cluster is `last`.
    ///
    /// # Errors
    /// `Limit` when none is free.
    pub(super) fn extend(&mut self, last: u32) -> Result<u32> {
        let runs = self.take(1)?;
        let (fresh, _) = runs.first().copied().unwrap_or_default();
        self.set(last, Next::Cluster(fresh))?;
        Ok(fresh)
    }

    /// Gives the chain that begins at `first` back.
    ///
    /// # Errors
    /// As [`Clusters::chain`].
    pub(super) fn give(&mut self, first: u32) -> Result<()> {
        for (start, len) in self.chain(first)? {
            for cluster in (start..).take(index(len)) {
                self.set(cluster, Next::Free)?;
                self.free = self.free.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Writes `size` bytes of `content`, the last cluster filled to its end with zeroes: nothing of what was there is left.
    ///
    /// # Errors
    /// `Corrupt` when the content ends early or goes on.
    pub(super) fn write(&self, runs: &Runs, size: u64, content: &mut dyn Read) -> Result<()> {
        let mut left = size;
        let mut buf = vec![
            0;
            index(
                STEP.min(size.max(1))
                    .next_multiple_of(u64::from(self.boot.cluster))
            )
        ];
        for (first, len) in runs {
            let mut at = self.boot.place(*first)?;
            let mut room = u64::from(*len).saturating_mul(u64::from(self.boot.cluster));
            while room > 0 && left > 0 {
                let step = wide(buf.len()).min(room).min(left);
                let padded = step
                    .next_multiple_of(u64::from(self.boot.cluster))
                    .min(room);
                let part = buf.get_mut(..index(padded)).unwrap_or_default();
                let (bytes, rest) = part
                    .split_at_mut_checked(index(step))
                    .ok_or_else(|| Error::corrupt("a piece larger than its place"))?;
                content.read_exact(bytes).map_err(|error| {
                    if error.kind() == std::io::ErrorKind::UnexpectedEof {
                        Error::corrupt("the content of a file ends before its size").because(error)
                    } else {
                        Error::io("reading the content of a file", error)
                    }
                })?;
                rest.fill(0);
                self.device.write_at(at, part)?;
                at = at.saturating_add(padded);
                room = room.saturating_sub(padded);
                left = left.saturating_sub(step);
            }
        }
        match content.read(&mut [0]) {
            Ok(0) if left == 0 => Ok(()),
            Ok(_) => Err(Error::corrupt(
                "the content of a file goes on after its size",
            )),
            Err(error) => Err(Error::io("reading the content of a file", error)),
        }
    }

    /// Reads bytes of clusters from `offset` on, at most up to `size`.
    pub(super) fn read(
        &self,
        runs: &Runs,
        size: u64,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<usize> {
        let len = wide(buf.len()).min(size.saturating_sub(offset));
        let mut done = 0_u64;
        let mut start = 0_u64;
        for (first, count) in runs {
            let end = start
                .saturating_add(u64::from(*count).saturating_mul(u64::from(self.boot.cluster)));
            let at = offset.saturating_add(done);
            if at >= start && at < end && done < len {
                let step = end.saturating_sub(at).min(len.saturating_sub(done));
                let from = self
                    .boot
                    .place(*first)?
                    .saturating_add(at.saturating_sub(start));
                let to = index(done)..index(done.saturating_add(step));
                self.device
                    .read_exact_at(from, buf.get_mut(to).unwrap_or_default())?;
                done = done.saturating_add(step);
            }
            start = end;
        }
        Ok(index(done))
    }

    /// Writes what changed of the table to its copies, and the count of free clusters.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.dirty.is_empty() {
            return Ok(());
        }
        let sector = index(self.boot.sector);
        for nth in std::mem::take(&mut self.dirty) {
            let at = nth.saturating_mul(u64::from(self.boot.sector));
            let rest = self.table.get(index(at)..).unwrap_or_default();
            let part = rest.get(..sector).unwrap_or(rest);
            for table in &self.boot.tables {
                self.device.write_at(table.saturating_add(at), part)?;
            }
        }
        let Some(at) = self.boot.info else {
            return Ok(());
        };
        let info = read_vec_at(&*self.device, at, 512)?;
        if le_u32(&info, 0)? != 0x4161_5252 || le_u32(&info, 484)? != 0x6141_7272 {
            return Ok(());
        }
        let last = self.cursor.saturating_sub(1).max(2);
        let fresh = [self.free.to_le_bytes(), last.to_le_bytes()].concat();
        if info.get(488..496) != Some(&fresh) {
            self.device.write_at(at.saturating_add(488), &fresh)?;
        }
        Ok(())
    }
}
