//! Directories written anew: all names packed into blocks, by hash where the filesystem indexes directories.

use dormouse_block::{Error, Result};
use dormouse_filesystem::ext::directory::{self, NODE_ENTRIES, ROOT_ENTRIES, ROOT_INFO};
use dormouse_filesystem::ext::features::{DIR_INDEX, FILETYPE};
use dormouse_filesystem::ext::hash::NameHash;
use dormouse_filesystem::ext::inode;

use super::core::Core;
use super::mapping::Mapping;
use super::names::{Directory, Name, seal, write_entry};
use super::record::Record;
use super::space::Run;
use super::store::{index, len64, put, put16, put32};
use crate::Device;

/// The lowest hash of a block of names, and its entries.
type Leaf<'a> = (u32, Vec<(&'a [u8], &'a Name)>);

/// What a new directory looks like before it has blocks.
struct Plan<'a> {
    /// For each block of names: its lowest hash and its entries.
    leaves: Vec<Leaf<'a>>,
    /// Levels of inner index blocks; `None` for a directory without index.
    levels: Option<u8>,
    /// Inner index blocks, the lowest level first: the lowest hash of each and the first and last child.
    nodes: Vec<Vec<(u32, usize, usize)>>,
}

impl<D: Device> Core<D> {
    /// Writes a directory whose blocks are out of date.
    pub(super) fn write_directory(&mut self, directory: &mut Directory) -> Result<()> {
        let (mut record, inode) = self.record(directory.number)?;
        directory.release(self);
        if inode.has(inode::INLINE) {
            self.leave_inline(&mut record)?;
        }
        let mut mapping = self.read_mapping(&record)?;
        let names = std::mem::take(&mut directory.names);
        let result = self.write_names(directory, &mut record, &mut mapping, &names);
        directory.names = names;
        result?;
        self.put_record(&mut record)
    }

    fn write_names(
        &mut self,
        directory: &mut Directory,
        record: &mut Record,
        mapping: &mut Mapping,
        names: &foldhash::HashMap<Box<[u8]>, Name>,
    ) -> Result<()> {
        let plan = self.plan(directory.bytes, names)?;
        let inner: usize = plan.nodes.iter().map(Vec::len).sum();
        let root = usize::from(plan.levels.is_some());
        let total = plan.leaves.len().saturating_add(inner).saturating_add(root);
        let blocks = self.resize(record, mapping, total)?;
        let hashed = plan.levels.is_some();
        let flags = record.flags()? & !inode::INDEX;
        record.set_flags(if hashed { flags | inode::INDEX } else { flags })?;
        let seed = directory.for_writing(blocks.clone(), hashed);
        let block_at = |logical: usize| {
            blocks
                .get(logical)
                .copied()
                .ok_or_else(|| Error::corrupt("a directory block vanished"))
        };
        let first_leaf = root.saturating_add(inner);
        for (nth, (_, entries)) in plan.leaves.iter().enumerate() {
            let logical = first_leaf.saturating_add(nth);
            let sb = &self.sb;
            let bytes = self.store.create(block_at(logical)?)?;
            let mut at = 0;
            let end = directory::usable(sb);
            if logical == 0 {
                // `..` reaches to the end of the block when nothing follows.
                let dots_end = if entries.is_empty() { end } else { 24 };
                at = write_dots(sb, bytes, directory, dots_end)?;
            }
            for (nth, (name, to)) in entries.iter().enumerate() {
                let size = directory::entry_size(name.len());
                let whole = nth.saturating_add(1) == entries.len();
                let length = if whole { end.saturating_sub(at) } else { size };
                write_entry(sb, bytes, at, length, name, to.inode, to.kind)?;
                at = at.saturating_add(size);
            }
            seal(sb, seed, hashed, number32(logical), bytes)?;
        }
        let Some(levels) = plan.levels else {
            return Ok(());
        };
        // Index blocks stand before the leaves: the root, then the level below it, and so on.
        let mut below = first_leaf;
        let mut children: Vec<(u32, usize)> = plan
            .leaves
            .iter()
            .enumerate()
            .map(|(nth, (hash, _))| (*hash, below.saturating_add(nth)))
            .collect();
        for level in &plan.nodes {
            let start = below.saturating_sub(level.len());
            let mut above = Vec::with_capacity(level.len());
            for (nth, (hash, first, end)) in level.iter().enumerate() {
                let logical = start.saturating_add(nth);
                let sb = &self.sb;
                let bytes = self.store.create(block_at(logical)?)?;
                let whole = directory::stored_length(sb.block_len(), sb.block_len());
                put16(bytes, 4, u64::from(whole))?;
                write_index(
                    bytes,
                    NODE_ENTRIES,
                    directory::index_limit(sb, NODE_ENTRIES),
                    children.get(*first..*end).unwrap_or_default(),
                )?;
                seal(sb, seed, true, number32(logical), bytes)?;
                above.push((*hash, logical));
            }
            children = above;
            below = start;
        }
        let sb = &self.sb;
        let bytes = self.store.create(block_at(0)?)?;
        write_dots(sb, bytes, directory, sb.block_len())?;
        put(
            bytes,
            ROOT_INFO,
            &[0, 0, 0, 0, sb.hash_version, 8, levels, 0],
        )?;
        write_index(
            bytes,
            ROOT_ENTRIES,
            directory::index_limit(sb, ROOT_ENTRIES),
            &children,
        )?;
        seal(sb, seed, true, 0, bytes)
    }

    fn plan<'a>(
        &self,
        bytes: usize,
        names: &'a foldhash::HashMap<Box<[u8]>, Name>,
    ) -> Result<Plan<'a>> {
        let sb = &self.sb;
        let usable = directory::usable(sb);
        let hasher = NameHash::of(sb, sb.hash_version).filter(|_| sb.features.compat(DIR_INDEX));
        let dots = 24_usize;
        let single = bytes.saturating_add(dots) <= usable;
        let mut list: Vec<(u32, u32, &[u8], &Name)> = names
            .iter()
            .map(|(name, to)| {
                let hash = hasher.filter(|_| !single).map(|hasher| hasher.hash(name));
                (
                    hash.map_or(0, |hash| hash.major),
                    hash.map_or(0, |hash| hash.minor),
                    &**name,
                    to,
                )
            })
            .collect();
        list.sort_unstable_by_key(|(major, minor, name, _)| (*major, *minor, *name));
        let indexed = hasher.is_some() && !single;
        // Leaves of an index keep a fifth free, so that a few more names fit without another split.
        let full = if indexed {
            usable.saturating_mul(4) / 5
        } else {
            usable
        };
        let mut leaves: Vec<Leaf<'a>> = Vec::new();
        let mut used = if indexed { 0 } else { dots };
        let mut last = None;
        for (major, _, name, to) in list {
            let size = directory::entry_size(name.len());
            let first = leaves.is_empty();
            if first || used.saturating_add(size) > full {
                let goes_on = u32::from(last == Some(major));
                leaves.push((if first { 0 } else { major | goes_on }, Vec::new()));
                used = if first { used } else { 0 };
            }
            if let Some((_, leaf)) = leaves.last_mut() {
                leaf.push((name, to));
            }
            used = used.saturating_add(size);
            last = Some(major);
        }
        if leaves.is_empty() {
            leaves.push((0, Vec::new()));
        }
        let mut nodes = Vec::new();
        if !indexed {
            return Ok(Plan {
                leaves,
                levels: None,
                nodes,
            });
        }
        let root_room = directory::index_limit(sb, ROOT_ENTRIES);
        // Inner blocks keep a fifth free as well.
        let room = (directory::index_limit(sb, NODE_ENTRIES).saturating_mul(4) / 5).max(2);
        let mut level: Vec<u32> = leaves.iter().map(|(hash, _)| *hash).collect();
        while level.len() > root_room {
            let mut above = Vec::new();
            for (nth, part) in level.chunks(room).enumerate() {
                let first = nth.saturating_mul(room);
                let hash = part.first().copied().unwrap_or_default();
                above.push((hash, first, first.saturating_add(part.len())));
            }
            level = above.iter().map(|(hash, ..)| *hash).collect();
            nodes.push(above);
        }
        let levels = u8::try_from(nodes.len()).unwrap_or(u8::MAX);
        if levels > sb.index_levels() {
            return Err(Error::limit("a directory too large for its index"));
        }
        Ok(Plan {
            leaves,
            levels: Some(levels),
            nodes,
        })
    }

    /// Gives a directory (or another file without holes) exactly `total` blocks, those it has first, and writes its map and sizes.
    pub(super) fn resize(
        &mut self,
        record: &mut Record,
        mapping: &mut Mapping,
        total: usize,
    ) -> Result<Vec<u64>> {
        let mut blocks: Vec<u64> = Vec::with_capacity(total);
        for extent in &mapping.extents {
            for nth in 0..extent.len {
                blocks.push(extent.physical.saturating_add(u64::from(nth)));
            }
        }
        let per = index(self.sb.cluster_blocks());
        let within = |n: usize| n & per.saturating_sub(1);
        // What is left of the last cluster is the directory's already.
        while blocks.len() < total && within(blocks.len()) != 0 {
            let last = blocks.last().copied().unwrap_or_default();
            let next = last.saturating_add(1);
            if within(index(next)) != within(blocks.len()) {
                return Err(Error::corrupt(
                    "a directory that does not fill its clusters",
                ));
            }
            blocks.push(next);
        }
        if let Some(more) = total.checked_sub(blocks.len()).filter(|more| *more > 0) {
            for run in self.take_blocks(record.number, len64(more))? {
                let room = u64::from(run.len).min(len64(total.saturating_sub(blocks.len())));
                blocks.extend(run.start..run.start.saturating_add(room));
            }
        }
        while blocks.len() > total {
            if let Some(block) = blocks.pop()
                && within(blocks.len()) == 0
            {
                self.give_blocks(block, 1)?;
            }
        }
        let mut runs: Vec<Run> = Vec::new();
        for block in &blocks {
            match runs.last_mut() {
                Some(last) if last.start.saturating_add(u64::from(last.len)) == *block => {
                    last.len = last.len.saturating_add(1);
                }
                _ => runs.push(Run {
                    start: *block,
                    len: 1,
                }),
            }
        }
        mapping.extents = Mapping::of_runs(&runs, len64(total)).extents;
        self.write_mapping(record, mapping)?;
        let attributes = u64::from(record.attribute_block()? != 0);
        let attributes = attributes << self.sb.cluster_log;
        let all = mapping.all_blocks(&self.sb).saturating_add(attributes);
        record.set_blocks(&self.sb, all)?;
        record.set_size(len64(total).saturating_mul(u64::from(self.sb.block_size())))?;
        Ok(blocks)
    }
}

fn number32(logical: usize) -> u32 {
    u32::try_from(logical).unwrap_or(u32::MAX)
}

/// Writes `.` and `..`, the latter up to `end`; where they would end by themselves.
fn write_dots(
    sb: &dormouse_filesystem::ext::superblock::Superblock,
    bytes: &mut [u8],
    directory: &Directory,
    end: usize,
) -> Result<usize> {
    let kind = if sb.features.incompat(FILETYPE) { 2 } else { 0 };
    write_entry(sb, bytes, 0, 12, b".", directory.number, kind)?;
    write_entry(
        sb,
        bytes,
        12,
        end.saturating_sub(12),
        b"..",
        directory.parent,
        kind,
    )?;
    Ok(24)
}

fn write_index(
    bytes: &mut [u8],
    start: usize,
    limit: usize,
    children: &[(u32, usize)],
) -> Result<()> {
    for (nth, (hash, block)) in children.iter().enumerate() {
        let at = start.saturating_add(nth.saturating_mul(8));
        if nth == 0 {
            put16(bytes, at, len64(limit))?;
            put16(bytes, at.saturating_add(2), len64(children.len()))?;
        } else {
            put32(bytes, at, u64::from(*hash))?;
        }
        put32(bytes, at.saturating_add(4), len64(*block))?;
    }
    Ok(())
}
