//! Which nodes the writes to a filesystem reached, from its tables and not from a walk through its files.
//!
//! Every block that was written is held against the earlier state. A block of an inode table names the nodes whose
//! records changed. Any other block that the earlier state used and that has other bytes now must belong to a node that
//! the caller knows or to a directory that changed: of all other nodes neither records nor bytes are others than before.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use dormouse_block::{ErrorKind, Result, le_u16, le_u32};

use super::extent;
use super::group::{BLOCK_UNINIT, Group, INODE_UNINIT, base_blocks, inode_table_blocks};
use super::inode::{EA_INODE, EXTENTS, INLINE, Inode, ROOT};
use super::superblock::Superblock;
use super::tree::ExtTree;
use super::{index, wide};
use crate::{Named, NodeId, NodeKind, Touched};

/// Extents of one file that are looked at.
const MAX_EXTENTS: usize = 1 << 16;
/// Pieces that written and used blocks may be in.
const MAX_PIECES: usize = 1 << 22;
/// Groups whose tables are looked at: those of 128 TiB.
const MAX_GROUPS: u32 = 1 << 20;
/// Blocks compared in one step.
const STEP: u64 = 64;

/// Blocks as a sorted list of ranges.
#[derive(Debug, Default)]
struct Blocks(Vec<Range<u64>>);

impl Blocks {
    fn add(&mut self, start: u64, len: u64) {
        if len > 0 {
            self.0.push(start..start.saturating_add(len));
        }
    }

    /// Sorted and joined.
    fn sorted(mut self) -> Self {
        self.0.sort_unstable_by_key(|run| run.start);
        self.0.dedup_by(|next, kept| {
            let joins = next.start <= kept.end;
            if joins {
                kept.end = kept.end.max(next.end);
            }
            joins
        });
        self
    }

    fn has(&self, block: u64) -> bool {
        let after = self.0.partition_point(|run| run.start <= block);
        after
            .checked_sub(1)
            .and_then(|nth| self.0.get(nth))
            .is_some_and(|run| run.contains(&block))
    }

    /// What of `run` lies in these, as ranges.
    fn within(&self, run: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let first = self.0.partition_point(|own| own.end <= run.start);
        let (start, end) = (run.start, run.end);
        self.0
            .get(first..)
            .unwrap_or_default()
            .iter()
            .take_while(move |own| own.start < end)
            .map(move |own| own.start.max(start)..own.end.min(end))
    }
}

/// Blocks that nodes hold.
#[derive(Debug, Default)]
struct Held {
    blocks: Blocks,
    /// Blocks of extended attributes, and how many of the nodes share each.
    attributes: BTreeMap<u64, BTreeSet<NodeId>>,
}

impl Held {
    /// The blocks that nobody else holds, and blocks of extended attributes that others hold too.
    fn told(mut self, tree: &ExtTree) -> Result<(Blocks, BTreeSet<u64>)> {
        let mut shared = BTreeSet::new();
        for (block, nodes) in &self.attributes {
            // `h_refcount`
            if wide(nodes.len()) >= u64::from(le_u32(&tree.volume.block(*block)?, 4)?) {
                let cluster = tree.sb.cluster_blocks();
                self.blocks
                    .add(*block & !cluster.saturating_sub(1), cluster);
            } else {
                shared.insert(*block);
            }
        }
        Ok((self.blocks.sorted(), shared))
    }
}

/// The nodes of `after` that bytes written since `before`, at `written`, reached, beside `known` nodes of `before`; `None`
/// where tables do not tell.
///
/// # Errors
/// Bytes that cannot be read.
pub(crate) fn touched(
    before: &ExtTree,
    after: &ExtTree,
    written: &[Range<u64>],
    known: &mut dyn Iterator<Item = NodeId>,
) -> Result<Option<Vec<Touched>>> {
    match told(before, after, written, known) {
        // Whoever walks through the files says where that is.
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Limit) => Ok(None),
        told => told,
    }
}

fn told(
    before: &ExtTree,
    after: &ExtTree,
    written: &[Range<u64>],
    known: &mut dyn Iterator<Item = NodeId>,
) -> Result<Option<Vec<Touched>>> {
    let sb = &before.sb;
    if !before.volume.replay().blocks.is_empty()
        || !after.volume.replay().blocks.is_empty()
        || !same_geometry(sb, &after.sb)
        || sb.groups > MAX_GROUPS
    {
        return Ok(None);
    }
    let Some(groups) = Groups::of(before, after)? else {
        return Ok(None);
    };
    let mut runs = Blocks::default();
    for range in written {
        let end = range.end.div_ceil(u64::from(sb.block_size()));
        let start = range.start >> sb.block_log;
        runs.add(start, end.min(sb.blocks_count).saturating_sub(start));
    }
    let runs = runs.sorted();
    if runs.0.len() > MAX_PIECES {
        return Ok(None);
    }
    let mut held = Held::default();
    for node in known {
        if !before.add_held(node, true, &mut held)? {
            return Ok(None);
        }
    }
    let Some(nodes) = groups.changed_nodes(before, after, &runs)? else {
        return Ok(None);
    };
    for touched in &nodes {
        if let Some(was) = touched.before {
            let all = was.kind == NodeKind::Directory;
            if !before.add_held(touched.node, all, &mut held)? {
                return Ok(None);
            }
        }
    }
    for node in system_nodes(sb) {
        if !before.add_held(node, true, &mut held)? {
            return Ok(None);
        }
    }
    let (held, shared) = held.told(before)?;
    for block in groups.changed_blocks(before, after, &runs, &held)? {
        if !shared.contains(&block) || !same_attributes(before, after, block)? {
            return Ok(None);
        }
    }
    Ok(Some(nodes))
}

/// Whether a block of extended attributes is what it was but for the number of its users.
fn same_attributes(before: &ExtTree, after: &ExtTree, block: u64) -> Result<bool> {
    let users_aside = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        // `h_refcount` and `h_checksum`.
        for field in [4..8, 16..20] {
            if let Some(field) = bytes.get_mut(field) {
                field.fill(0);
            }
        }
        bytes
    };
    let (was, is) = (before.volume.block(block)?, after.volume.block(block)?);
    Ok(users_aside(&was) == users_aside(&is))
}

/// Nodes that no directory leads to and that the filesystem keeps for itself.
fn system_nodes(sb: &Superblock) -> impl Iterator<Item = NodeId> {
    let kept = [sb.journal_inode, sb.orphan_file_inode];
    kept.into_iter()
        .chain(sb.quota_inodes)
        .filter(|number| *number != 0)
        .map(|number| NodeId(u64::from(number)))
}

fn same_geometry(one: &Superblock, other: &Superblock) -> bool {
    let of = |sb: &Superblock| {
        (
            (
                sb.inodes_count,
                sb.blocks_count,
                sb.first_data_block,
                sb.block_log,
            ),
            (
                sb.cluster_log,
                sb.blocks_per_group,
                sb.inodes_per_group,
                sb.first_inode,
            ),
            (
                sb.inode_size,
                sb.uuid,
                sb.descriptor_size,
                sb.first_meta_group,
            ),
            (sb.checksum_seed, sb.groups, sb.hash_seed, sb.hash_version),
        )
    };
    of(one) == of(other) && one.features == other.features
}

/// Where every group has its tables, which are in the same places before and after.
struct Groups {
    before: Vec<Group>,
    after: Vec<Group>,
    /// Inode tables: their first blocks, and whose they are.
    tables: BTreeMap<u64, u32>,
    table_blocks: Blocks,
    /// Superblocks, descriptors and bitmaps.
    fixed: Blocks,
}

impl Groups {
    fn of(before: &ExtTree, after: &ExtTree) -> Result<Option<Self>> {
        let sb = &before.sb;
        let mut this = Self {
            before: Vec::new(),
            after: Vec::new(),
            tables: BTreeMap::new(),
            table_blocks: Blocks::default(),
            fixed: Blocks::default(),
        };
        let table = inode_table_blocks(sb);
        for number in 0..sb.groups {
            let was = before.group(number)?;
            let is = after.group(number)?;
            let places =
                |group: &Group| (group.block_bitmap, group.inode_bitmap, group.inode_table);
            if places(&was) != places(&is) {
                return Ok(None);
            }
            this.tables.insert(was.inode_table, number);
            this.table_blocks.add(was.inode_table, table);
            this.fixed.add(was.block_bitmap, 1);
            this.fixed.add(was.inode_bitmap, 1);
            this.fixed
                .add(sb.group_start(number), u64::from(base_blocks(sb, number)));
            this.before.push(was);
            this.after.push(is);
        }
        // The superblock itself, which no group counts where blocks are of 1 KiB and clusters are larger.
        this.fixed
            .add(0, u64::from(sb.first_data_block).saturating_add(1));
        this.table_blocks = this.table_blocks.sorted();
        this.fixed = this.fixed.sorted();
        Ok(Some(this))
    }

    /// The nodes whose records in written blocks of inode tables are others than before.
    fn changed_nodes(
        &self,
        before: &ExtTree,
        after: &ExtTree,
        written: &Blocks,
    ) -> Result<Option<Vec<Touched>>> {
        let sb = &before.sb;
        let size = usize::from(sb.inode_size);
        let system: Vec<NodeId> = system_nodes(sb).collect();
        let mut nodes = Vec::new();
        for run in written
            .0
            .iter()
            .flat_map(|run| self.table_blocks.within(run))
        {
            for block in run {
                let was = before.volume.block(block)?;
                let is = after.volume.block(block)?;
                if was == is {
                    continue;
                }
                let Some((first, group)) = self.tables.range(..=block).next_back() else {
                    return Ok(None);
                };
                let per_block = wide(sb.block_len().checked_div(size).unwrap_or(1));
                let slot = block.saturating_sub(*first).saturating_mul(per_block);
                let pairs = was.chunks_exact(size).zip(is.chunks_exact(size));
                for (nth, (was, is)) in pairs.enumerate() {
                    let within = slot.saturating_add(wide(nth));
                    if was == is || within >= u64::from(sb.inodes_per_group) {
                        continue;
                    }
                    let number = u64::from(*group)
                        .saturating_mul(u64::from(sb.inodes_per_group))
                        .saturating_add(within)
                        .saturating_add(1);
                    let node = NodeId(number);
                    let reserved = number < u64::from(sb.first_inode) && number != u64::from(ROOT);
                    if reserved || system.contains(&node) {
                        continue;
                    }
                    let (Ok(before), Ok(after)) = (
                        named(sb, &self.before, (*group, within), number, was),
                        named(sb, &self.after, (*group, within), number, is),
                    ) else {
                        return Ok(None);
                    };
                    nodes.push(Touched {
                        node,
                        before,
                        after,
                    });
                }
            }
        }
        Ok(Some(nodes))
    }

    /// Written blocks with other bytes than before that the earlier state used, but for tables and those that are `held`.
    fn changed_blocks(
        &self,
        before: &ExtTree,
        after: &ExtTree,
        written: &Blocks,
        held: &Blocks,
    ) -> Result<Vec<u64>> {
        let sb = &before.sb;
        let mut used = Used {
            tree: before,
            groups: &self.before,
            fixed: &self.fixed,
            tables: &self.table_blocks,
            bitmaps: HashMap::new(),
        };
        let len = sb.block_len();
        let mut was = vec![0; len.saturating_mul(index(STEP))];
        let mut is = was.clone();
        let mut changed = Vec::new();
        for run in &written.0 {
            let mut block = run.start;
            while block < run.end {
                let wanted = |block: u64, used: &mut Used<'_>| -> Result<bool> {
                    Ok(!self.fixed.has(block)
                        && !self.table_blocks.has(block)
                        && !held.has(block)
                        && used.has(block)?)
                };
                if !wanted(block, &mut used)? {
                    block = block.saturating_add(1);
                    continue;
                }
                let mut end = block.saturating_add(1);
                while end < run.end.min(block.saturating_add(STEP)) && wanted(end, &mut used)? {
                    end = end.saturating_add(1);
                }
                let bytes = len.saturating_mul(index(end.saturating_sub(block)));
                let (Some(was), Some(is)) = (was.get_mut(..bytes), is.get_mut(..bytes)) else {
                    break;
                };
                before.volume.read(block, 0, was)?;
                after.volume.read(block, 0, is)?;
                for (nth, (was, is)) in was.chunks_exact(len).zip(is.chunks_exact(len)).enumerate()
                {
                    if was != is {
                        changed.push(block.saturating_add(wide(nth)));
                    }
                }
                block = end;
            }
        }
        Ok(changed)
    }
}

/// What a record says: names that lead to it, and what it is; `None` for one that is not in use.
fn named(
    sb: &Superblock,
    groups: &[Group],
    (group, within): (u32, u64),
    number: u64,
    bytes: &[u8],
) -> Result<Option<Named>> {
    let group = groups
        .get(index(u64::from(group)))
        .ok_or_else(super::overflow)?;
    // The end of a table may never have been written.
    let written = if group.flags & INODE_UNINIT != 0 {
        0
    } else {
        sb.inodes_per_group.saturating_sub(group.unused_inodes)
    };
    let never = within >= u64::from(written) && sb.features.group_checksums();
    if never || le_u16(bytes, 0x1A)? == 0 {
        return Ok(None);
    }
    let number = u32::try_from(number).map_err(|_| super::overflow())?;
    let inode = Inode::parse(sb, number, bytes)?;
    let kind = inode.kind().filter(|_| !inode.has(EA_INODE));
    let kind = kind.ok_or_else(super::overflow)?;
    Ok(Some(Named {
        kind,
        links: u32::from(inode.links),
    }))
}

/// The blocks that a filesystem uses, by its bitmaps.
struct Used<'a> {
    tree: &'a ExtTree,
    groups: &'a [Group],
    fixed: &'a Blocks,
    tables: &'a Blocks,
    bitmaps: HashMap<u32, Arc<[u8]>>,
}

impl Used<'_> {
    fn has(&mut self, block: u64) -> Result<bool> {
        let sb = &self.tree.sb;
        let Some((number, within)) = sb.group_of_block(block) else {
            return Ok(true);
        };
        let Some(group) = self.groups.get(index(u64::from(number))) else {
            return Ok(true);
        };
        if group.flags & BLOCK_UNINIT != 0 && sb.features.group_checksums() {
            return Ok(self.fixed.has(block) || self.tables.has(block));
        }
        let bitmap = match self.bitmaps.entry(number) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(self.tree.volume.block(group.block_bitmap)?)
            }
        };
        let bit = within >> sb.cluster_log;
        let byte = bitmap.get(index(u64::from(bit >> 3)));
        Ok(byte.is_none_or(|byte| byte >> (bit & 7) & 1 == 1))
    }
}

impl ExtTree {
    /// Adds the blocks that `node` holds, those of its extended attributes alone where not `all` are asked for; false when
    /// they cannot all be told.
    fn add_held(&self, node: NodeId, all: bool, held: &mut Held) -> Result<bool> {
        let number = u32::try_from(node.0).map_err(|_| super::overflow())?;
        let inode = self.inode(number)?;
        if inode.attribute_block != 0 {
            let users = held.attributes.entry(inode.attribute_block).or_default();
            users.insert(node);
        }
        if !all {
            return Ok(true);
        }
        let held = &mut held.blocks;
        // Whatever a cluster has room for is its file's.
        let whole = self.sb.cluster_blocks().saturating_sub(1);
        let mut add = |start: u64, len: u64| {
            let end = start.saturating_add(len).saturating_add(whole) & !whole;
            let start = start & !whole;
            held.add(start, end.saturating_sub(start));
        };
        let has_bytes = match inode.kind() {
            Some(NodeKind::File | NodeKind::Directory) => true,
            Some(NodeKind::Symlink) => inode.size >= wide(super::inode::MAP_SIZE),
            _ => false,
        };
        if !has_bytes || inode.has(INLINE) {
            return Ok(true);
        }
        let sb = &self.sb;
        if inode.has(EXTENTS) {
            let seed = inode.seed(sb);
            let (extents, blocks) =
                extent::collect(sb, seed, &inode.map()?, MAX_EXTENTS, &mut |block| {
                    self.volume.block(block)
                })?;
            for extent in extents {
                add(extent.physical, u64::from(extent.len));
            }
            for block in blocks {
                add(block, 1);
            }
        } else {
            // Indirect blocks are left out, and compared like anything else.
            let blocks = inode.blocks(sb)?;
            let mut logical = 0;
            while logical < blocks {
                let run = self.map(&inode, logical)?;
                let len = run.len.min(blocks.saturating_sub(logical)).max(1);
                if let Some(physical) = run.physical {
                    add(physical, u64::from(len));
                }
                logical = logical.saturating_add(len);
            }
        }
        Ok(held.0.len() <= MAX_PIECES)
    }
}
