//! A folder in memory: its entries as bytes, and its names.

use std::collections::{HashMap, HashSet};

use dormouse_block::{Error, Result, array_at, read_vec_at};
use dormouse_filesystem::fat::boot::Kind;
use dormouse_filesystem::fat::entry::{self, Entry, FREE, LABEL, SIZE};
use dormouse_filesystem::fat::name;

use super::clusters::Clusters;

/// Entries of one folder (Linux: 2 MiB of them).
const MAX_ENTRIES: usize = 65_536;
/// Numbers of short names that are tried before a folder counts as full of like names.
const MAX_ALIASES: u32 = 99_999;

/// A name in a folder.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) entry: Entry,
    /// The number of its own entry, and that of the first of its long name.
    pub(super) slot: usize,
    first: usize,
}

pub(super) struct Folder {
    /// Clusters, in order; none for the root of FAT12 and FAT16.
    clusters: Vec<u32>,
    bytes: Vec<u8>,
    /// By folded name.
    names: HashMap<String, Found>,
    shorts: HashSet<[u8; 11]>,
    /// The number of the last short name by its stem, so that thousands of like names stay cheap.
    numbers: HashMap<[u8; 11], u32>,
    /// No free entry is before this one.
    cursor: usize,
    dirty: bool,
}

/// The first cluster by which a folder is known: 0 is the root.
pub(super) const ROOT: u32 = 0;

impl Folder {
    /// Reads the folder that begins at `first`.
    pub(super) fn load(clusters: &Clusters, first: u32) -> Result<Self> {
        let boot = &clusters.boot;
        let start = if first == ROOT {
            boot.root_cluster
        } else {
            first
        };
        let mut list = Vec::new();
        let mut bytes = Vec::new();
        if start == 0 {
            let len = usize::try_from(boot.root.1).unwrap_or(usize::MAX);
            bytes = read_vec_at(&*clusters.device, boot.root.0, len)?;
        } else {
            for (start, len) in clusters.chain(start)? {
                for cluster in (start..).take(usize::try_from(len).unwrap_or(usize::MAX)) {
                    list.push(cluster);
                    let at = boot.place(cluster)?;
                    bytes.extend(read_vec_at(&*clusters.device, at, boot.cluster_len())?);
                    if bytes.len() > MAX_ENTRIES.saturating_mul(SIZE) {
                        return Err(Error::limit("a folder of more than 65,536 entries"));
                    }
                }
            }
        }
        let mut this = Self {
            clusters: list,
            bytes,
            names: HashMap::new(),
            shorts: HashSet::new(),
            numbers: HashMap::new(),
            cursor: 0,
            dirty: false,
        };
        // What follows the last entry is free whatever it holds.
        let end = this
            .bytes
            .chunks_exact(SIZE)
            .position(|raw| raw.first() == Some(&0));
        if let Some(end) = end {
            let rest = this.bytes.get_mut(end.saturating_mul(SIZE)..);
            rest.unwrap_or_default().fill(0);
        }
        for named in entry::entries(&this.bytes, boot.kind == Kind::Fat32)? {
            this.shorts.insert(named.entry.short);
            if named.entry.attributes & LABEL != 0 {
                continue;
            }
            let found = Found {
                name: named.name,
                entry: named.entry,
                slot: named.slot,
                first: named.first,
            };
            let twice = this.names.insert(name::folded(&found.name), found);
            if twice.is_some() {
                return Err(Error::corrupt("a folder has a name twice"));
            }
        }
        Ok(this)
    }

    /// A folder that is new, with one cluster: `.` and `..` are in it. `parent` is 0 below the root.
    pub(super) fn fresh(clusters: &mut Clusters, parent: u32, like: &Entry) -> Result<(u32, Self)> {
        let runs = clusters.take(1)?;
        let (own, _) = runs.first().copied().unwrap_or_default();
        let mut this = Self {
            clusters: vec![own],
            bytes: vec![0; clusters.boot.cluster_len()],
            names: HashMap::new(),
            shorts: HashSet::new(),
            numbers: HashMap::new(),
            cursor: 2,
            dirty: true,
        };
        for (slot, short, cluster) in [(0, *b".          ", own), (1, *b"..         ", parent)] {
            let dot = Entry {
                short,
                cluster,
                ..like.clone()
            };
            for raw in entry::build(None, &dot)? {
                this.put(slot, &raw)?;
            }
        }
        Ok((own, this))
    }

    fn put(&mut self, slot: usize, raw: &[u8]) -> Result<()> {
        let at = slot.saturating_mul(SIZE);
        self.bytes
            .get_mut(at..at.saturating_add(raw.len()))
            .ok_or_else(|| Error::corrupt("an entry lies outside its folder"))?
            .copy_from_slice(raw);
        self.dirty = true;
        Ok(())
    }

    pub(super) fn find(&self, wanted: &str) -> Option<&Found> {
        let folded = name::folded(wanted);
        self.names.get(&folded).or_else(|| {
            // By its short name.
            let short = name::exact_short(&folded).filter(|short| self.shorts.contains(short))?;
            self.names.values().find(|found| found.entry.short == short)
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// A short name that no other entry has; whether the long one is needed as well.
    fn short_for(&mut self, long: &str) -> Result<([u8; 11], bool)> {
        if let Some(short) = name::exact_short(long).filter(|short| !self.shorts.contains(short)) {
            return Ok((short, false));
        }
        let stem = name::alias(long, 1).unwrap_or([b' '; 11]);
        let mut nth = self.numbers.get(&stem).copied().unwrap_or(0);
        while nth <= MAX_ALIASES {
            if let Some(short) = name::alias(long, nth)
                && !self.shorts.contains(&short)
            {
                self.numbers.insert(stem, nth);
                return Ok((short, true));
            }
            nth = nth.saturating_add(1);
        }
        Err(Error::limit("a folder with too many names that are alike"))
    }

    /// Adds a name that is not there; the short name of `entry` is made for it.
    pub(super) fn add(
        &mut self,
        clusters: &mut Clusters,
        long: &str,
        mut entry: Entry,
    ) -> Result<()> {
        if !name::is_valid(long) {
            return Err(Error::denied(format!("FAT cannot hold the name {long:?}")));
        }
        let (short, needs_long) = self.short_for(long)?;
        entry.short = short;
        entry.lower = (false, false);
        let built = entry::build(needs_long.then_some(long), &entry)?;
        let first = self.room(clusters, built.len())?;
        for (nth, raw) in built.iter().enumerate() {
            self.put(first.saturating_add(nth), raw)?;
        }
        let slot = first.saturating_add(built.len()).saturating_sub(1);
        self.shorts.insert(short);
        self.names.insert(
            name::folded(long),
            Found {
                name: long.to_owned(),
                entry,
                slot,
                first,
            },
        );
        Ok(())
    }

    /// The first of `wanted` free entries in a row; the folder grows when there are none.
    fn room(&mut self, clusters: &mut Clusters, wanted: usize) -> Result<usize> {
        let mut free = 0_usize;
        let mut start = self.cursor;
        let mut seen_free = false;
        for slot in self.cursor..self.bytes.len() / SIZE {
            let [first] = array_at(&self.bytes, slot.saturating_mul(SIZE))?;
            if first != 0 && first != FREE {
                free = 0;
                start = slot.saturating_add(1);
                continue;
            }
            if !seen_free {
                seen_free = true;
                self.cursor = slot;
            }
            free = free.saturating_add(1);
            if free == wanted {
                return Ok(start);
            }
        }
        let Some(last) = self.clusters.last().copied() else {
            return Err(Error::limit("no space left in the root folder"));
        };
        let per = clusters.boot.cluster_len() / SIZE;
        let more = wanted.saturating_sub(free).div_ceil(per.max(1));
        let total = self
            .bytes
            .len()
            .saturating_add(more.saturating_mul(per).saturating_mul(SIZE));
        if total > MAX_ENTRIES.saturating_mul(SIZE) {
            return Err(Error::limit("a folder of more than 65,536 entries"));
        }
        if u64::from(clusters.free()) < u64::try_from(more).unwrap_or(u64::MAX) {
            return Err(Error::limit("no space left for a folder"));
        }
        let mut last = last;
        for _ in 0..more {
            last = clusters.extend(last)?;
            self.clusters.push(last);
        }
        self.bytes.resize(total, 0);
        self.dirty = true;
        Ok(start)
    }

    /// Removes a name that is there.
    pub(super) fn remove(&mut self, wanted: &str) -> Result<Found> {
        let key = self.find(wanted).map(|found| name::folded(&found.name));
        let found = key.and_then(|key| self.names.remove(&key));
        let found = found.ok_or_else(|| Error::corrupt("a name vanished"))?;
        for slot in found.first..=found.slot {
            let at = slot.saturating_mul(SIZE);
            if let Some(byte) = self.bytes.get_mut(at) {
                *byte = FREE;
            }
        }
        self.dirty = true;
        self.shorts.remove(&found.entry.short);
        self.cursor = self.cursor.min(found.first);
        Ok(found)
    }

    /// Changes what the entry of a name that is there says, its name kept.
    pub(super) fn change(&mut self, wanted: &str, change: impl FnOnce(&mut Entry)) -> Result<()> {
        let key = self.find(wanted).map(|found| name::folded(&found.name));
        let found = key.and_then(|key| self.names.get_mut(&key));
        let found = found.ok_or_else(|| Error::corrupt("a name vanished"))?;
        change(&mut found.entry);
        let (slot, entry) = (found.slot, found.entry.clone());
        self.rewrite(slot, &entry)
    }

    fn rewrite(&mut self, slot: usize, entry: &Entry) -> Result<()> {
        let at = slot.saturating_mul(SIZE);
        let raw = self
            .bytes
            .get_mut(at..at.saturating_add(SIZE))
            .ok_or_else(|| Error::corrupt("an entry lies outside its folder"))?;
        entry::write(raw, entry)?;
        self.dirty = true;
        Ok(())
    }

    /// Lets `..` lead to another folder.
    pub(super) fn set_parent(&mut self, parent: u32, high: bool) -> Result<()> {
        let raw = self.bytes.get(SIZE..).unwrap_or_default();
        let mut dots = Entry::parse(raw, high)?;
        if &dots.short != b"..         " {
            return Err(Error::corrupt("a folder does not begin with . and .."));
        }
        dots.cluster = parent;
        self.rewrite(1, &dots)
    }

    /// Writes what changed.
    pub(super) fn flush(&mut self, clusters: &Clusters) -> Result<()> {
        if !std::mem::take(&mut self.dirty) {
            return Ok(());
        }
        if self.clusters.is_empty() {
            return clusters.device.write_at(clusters.boot.root.0, &self.bytes);
        }
        let len = clusters.boot.cluster_len();
        for (cluster, part) in self.clusters.iter().zip(self.bytes.chunks(len)) {
            clusters
                .device
                .write_at(clusters.boot.place(*cluster)?, part)?;
        }
        Ok(())
    }
}
