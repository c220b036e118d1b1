//! What each user, group and project has: changes counted as inodes change.

use std::collections::BTreeMap;

use dormouse_block::{Error, Result};
use dormouse_filesystem::ext::features::QUOTA;
use dormouse_filesystem::ext::inode;
use dormouse_filesystem::ext::superblock::Superblock;

use super::core::Core;
use super::mapping::Mapping;
use super::quota_file::{KINDS, QuotaFile};
use super::record::Record;
use super::store::{index, len64, put};
use crate::Device;

/// Bytes of one quota file: room for about 900,000 owners.
const MAX_FILE: u64 = 64 << 20;
/// Owners whose quota one edit changes.
const MAX_OWNERS: usize = 1 << 20;

/// Bytes and inodes of one owner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) bytes: i64,
    pub(super) inodes: i64,
}

/// The quota of one kind of owner.
struct Kept {
    kind: usize,
    inode: u32,
    file: QuotaFile,
    changes: BTreeMap<u32, Usage>,
    /// Clusters promised for writing its file anew.
    promised: u64,
}

/// All quota that the filesystem keeps.
pub(super) struct Quota {
    wanted: bool,
    kept: Vec<Kept>,
}

/// Who has an inode, and what it takes.
struct Charge {
    owners: [u32; KINDS],
    usage: Usage,
}

impl Charge {
    fn of(sb: &Superblock, record: &Record) -> Result<Self> {
        let (user, group) = record.owner()?;
        let bytes = record.blocks(sb)?.checked_mul(u64::from(sb.block_size()));
        let bytes = bytes.and_then(|bytes| i64::try_from(bytes).ok());
        Ok(Self {
            owners: [user, group, record.project()?],
            usage: Usage {
                bytes: bytes.ok_or_else(|| Error::corrupt("an inode of too many blocks"))?,
                inodes: 1,
            },
        })
    }
}

impl Quota {
    /// What there is to keep, not read yet.
    pub(super) fn of(sb: &Superblock) -> Self {
        Self {
            wanted: sb.features.ro_compat(QUOTA),
            kept: Vec::new(),
        }
    }

    pub(super) fn is_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    fn add(&mut self, charge: &Charge, sign: i64) -> Result<()> {
        for kept in &mut self.kept {
            let Some(owner) = charge.owners.get(kept.kind) else {
                continue;
            };
            let usage = kept.changes.entry(*owner).or_default();
            let bytes = charge.usage.bytes.saturating_mul(sign);
            usage.bytes = usage.bytes.saturating_add(bytes);
            usage.inodes = usage.inodes.saturating_add(sign);
            if kept.changes.len() > MAX_OWNERS {
                return Err(Error::limit("the quota of more than 2^20 owners"));
            }
        }
        Ok(())
    }

    /// An inode that was `before` becomes `after`; one without names is nobody's.
    pub(super) fn change(
        &mut self,
        sb: &Superblock,
        before: &Record,
        after: &Record,
    ) -> Result<()> {
        if before.links()? > 0 {
            self.add(&Charge::of(sb, before)?, -1)?;
        }
        if after.links()? > 0 {
            self.add(&Charge::of(sb, after)?, 1)?;
        }
        Ok(())
    }

    /// An inode that lost its last name earlier, and is its owner's to this day, goes.
    pub(super) fn forget(&mut self, sb: &Superblock, record: &Record) -> Result<()> {
        if self.is_kept() {
            self.add(&Charge::of(sb, record)?, -1)?;
        }
        Ok(())
    }
}

impl<D: Device> Core<D> {
    /// Lets nothing be written over the journal.
    pub(super) fn guard_journal(&mut self) -> Result<()> {
        let number = self.sb.journal_inode;
        if number == 0 {
            return Ok(());
        }
        let record = self.raw_record(number)?;
        inode::Inode::parse(&self.sb, number, &record.raw)?;
        let mapping = self.read_mapping(&record)?;
        let ranges = mapping.extents.iter().map(|extent| {
            let end = extent.physical.saturating_add(u64::from(extent.len));
            (extent.physical, end)
        });
        let tree = mapping
            .tree
            .iter()
            .map(|block| (*block, block.saturating_add(1)));
        self.space.zones.add(ranges.chain(tree));
        Ok(())
    }

    /// Reads the quota files, where the filesystem keeps quota.
    pub(super) fn read_quota(&mut self) -> Result<()> {
        if !self.quota.wanted {
            return Ok(());
        }
        for (kind, number) in self.sb.quota_inodes.into_iter().enumerate() {
            if number == 0 {
                continue;
            }
            let (record, size, mapping) = self.quota_inode(number)?;
            let mut bytes = Vec::with_capacity(index(size));
            for extent in &mapping.extents {
                for nth in 0..extent.len {
                    let block = extent.physical.saturating_add(u64::from(nth));
                    bytes.extend_from_slice(self.store.read(block)?);
                }
            }
            bytes.truncate(index(size));
            let file = QuotaFile::parse(kind, &bytes).map_err(|error| {
                Error::new(
                    error.kind(),
                    format!("quota (inode {}): {error}", record.number),
                )
            })?;
            // Room for a few new owners; each may need three blocks of its own.
            let promised = 65536_u64
                .div_ceil(u64::from(self.sb.block_size()))
                .div_ceil(self.sb.cluster_blocks())
                .min(self.space.free_blocks() >> self.sb.cluster_log);
            self.space.promise(promised, "quota")?;
            self.quota.kept.push(Kept {
                kind,
                inode: number,
                file,
                changes: BTreeMap::new(),
                promised,
            });
        }
        Ok(())
    }

    fn quota_inode(&mut self, number: u32) -> Result<(Record, u64, Mapping)> {
        let bad = |what: &str| Error::corrupt(format!("the quota file (inode {number}) {what}"));
        let record = self.raw_record(number)?;
        let parsed = inode::Inode::parse(&self.sb, number, &record.raw)?;
        if record.mode()? >> 12 != 8 || record.links()? == 0 || parsed.has(inode::INLINE) {
            return Err(bad("is no plain file"));
        }
        if parsed.size > MAX_FILE {
            return Err(Error::limit("a quota file of more than 64 MiB"));
        }
        let mapping = self.read_mapping(&record)?;
        let mut next = 0_u32;
        for extent in &mapping.extents {
            if extent.logical != next || !extent.written {
                return Err(bad("has holes"));
            }
            next = next.saturating_add(extent.len);
        }
        if u64::from(next) != parsed.size.div_ceil(u64::from(self.sb.block_size())) {
            return Err(bad("has a wrong size"));
        }
        Ok((record, parsed.size, mapping))
    }

    /// Writes the quota files in which something changed.
    pub(super) fn write_quota(&mut self) -> Result<()> {
        for mut kept in std::mem::take(&mut self.quota.kept) {
            self.space.release(kept.promised);
            kept.changes.retain(|_, usage| *usage != Usage::default());
            if kept.changes.is_empty() {
                continue;
            }
            for (owner, usage) in &kept.changes {
                kept.file.change(*owner, *usage)?;
            }
            let bytes = kept.file.bytes()?;
            let (mut record, _, mut mapping) = self.quota_inode(kept.inode)?;
            let block = self.sb.block_len();
            let wanted = bytes.len().div_ceil(block);
            let have = index(mapping.data_blocks());
            let blocks = self.resize(&mut record, &mut mapping, wanted.max(have))?;
            for (nth, number) in blocks.iter().enumerate() {
                let at = nth.saturating_mul(block);
                let part = bytes.get(at..).unwrap_or_default();
                let part = part.get(..block).unwrap_or(part);
                put(self.store.create(*number)?, 0, part)?;
            }
            record.set_mtime(self.now)?;
            record.set_size(len64(blocks.len().saturating_mul(block)))?;
            self.put_hidden(&mut record)?;
        }
        Ok(())
    }
}
