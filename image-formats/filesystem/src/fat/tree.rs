//! A whole filesystem, open for reading.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Error, Result, Source, array_at, le_u32, read_vec_at};

use super::boot::{Boot, Kind};
use super::entry::{self, Entry, Named};
use super::table::{self, Next};
use super::{MODE, chain, index, name, wide};
use crate::{DirEntry, FilesystemInfo, Metadata, NodeId, NodeKind, Time, Tree};

/// Bytes of one directory (Linux: `FAT_MAX_DIR_SIZE`).
const MAX_DIRECTORY: u32 = 2 << 20;
/// Bytes of the table that are read at once.
const STEP: u64 = 64 << 10;
/// Pieces of the table that are kept in memory.
const MAX_PIECES: usize = 256;
/// A table of at most this many bytes is counted when the volume does not say how much is free.
const MAX_COUNTED: u64 = 16 << 20;
/// Clusters of directories that are remembered.
const MAX_CLAIMS: usize = 1 << 22;

/// A FAT filesystem, open for reading.
///
/// A node is the place of its 32 bytes on the volume, divided by 32; the root is 0.
pub struct FatTree {
    source: Arc<dyn Source>,
    boot: Boot,
    label: Option<String>,
    free: u64,
    memory: Mutex<Memory>,
}

/// What was read before.
#[derive(Default)]
struct Memory {
    pieces: HashMap<u64, Arc<[u8]>>,
    /// Which directory a cluster belongs to: one that belonged to two would let paths go on for ever.
    claims: HashMap<u32, NodeId>,
    /// The chain of the file that was read last.
    file: Option<(NodeId, Runs)>,
}

const ROOT: NodeId = NodeId(0);
/// Bytes that one number of a node stands for: an entry.
const PER_NODE: u64 = 32;

/// Consecutive clusters: the first, and how many.
type Runs = Arc<[(u32, u32)]>;

/// A directory that was read.
struct Directory {
    /// Where its bytes are on the volume, piece by piece, with their lengths.
    pieces: Vec<(u64, usize)>,
    entries: Vec<Named>,
}

impl FatTree {
    /// Opens the filesystem on `source`.
    ///
    /// # Errors
    /// `Corrupt` when its boot sector or root directory is broken.
    pub fn open(source: Arc<dyn Source>) -> Result<Self> {
        let boot = Boot::read(source.as_ref())?;
        let mut this = Self {
            source,
            boot,
            label: None,
            free: 0,
            memory: Mutex::default(),
        };
        let root = this.directory(ROOT)?;
        let label = root
            .entries
            .iter()
            .find(|named| {
                named.entry.attributes & (entry::LABEL | entry::DIRECTORY) == entry::LABEL
            })
            .map(|named| label_of(&named.entry.short))
            .or_else(|| Some(String::from_utf8_lossy(&this.boot.label).into_owned()));
        this.label = label.filter(|label| !label.is_empty() && label != "NO NAME");
        this.free = this.count_free()?;
        Ok(this)
    }

    /// The boot sector.
    #[must_use]
    pub fn boot(&self) -> &Boot {
        &self.boot
    }

    /// Clusters free: what the FSInfo sector says, else counted where the table is not too large.
    fn count_free(&self) -> Result<u64> {
        if let Some(at) = self.boot.info {
            let sector = read_vec_at(self.source.as_ref(), at, 512)?;
            let signed = le_u32(&sector, 0)? == 0x4161_5252 && le_u32(&sector, 484)? == 0x6141_7272;
            let free = le_u32(&sector, 488)?;
            if signed && free <= self.boot.clusters {
                return Ok(u64::from(free));
            }
        }
        if self.boot.table_bytes > MAX_COUNTED {
            return Ok(0);
        }
        let mut free = 0_u64;
        for cluster in (2_u32..).take(index(self.boot.clusters)) {
            if self.next(cluster)? == Next::Free {
                free = free.saturating_add(1);
            }
        }
        Ok(free)
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A piece of the table that is read at once.
    fn piece(&self, nth: u64) -> Result<Arc<[u8]>> {
        if let Some(piece) = self.memory().pieces.get(&nth) {
            return Ok(piece.clone());
        }
        let start = nth.saturating_mul(STEP);
        let len = self.boot.table_bytes.saturating_sub(start).min(STEP);
        let table = self.boot.tables.first().copied().unwrap_or_default();
        let bytes = read_vec_at(
            self.source.as_ref(),
            table.saturating_add(start),
            index(len),
        )?;
        let piece: Arc<[u8]> = bytes.into();
        let mut memory = self.memory();
        if memory.pieces.len() >= MAX_PIECES {
            memory.pieces.clear();
        }
        memory.pieces.insert(nth, piece.clone());
        Ok(piece)
    }

    fn next(&self, cluster: u32) -> Result<Next> {
        let (at, len) = table::place(self.boot.kind, cluster);
        let mut raw = [0; 4];
        for (nth, to) in raw.iter_mut().take(len).enumerate() {
            let at = at.saturating_add(wide(nth));
            let piece = self.piece(at / STEP)?;
            let [byte] = array_at(&piece, index(at % STEP))?;
            *to = byte;
        }
        table::parse(self.boot.kind, cluster, &raw)
    }

    fn high(&self) -> bool {
        self.boot.kind == Kind::Fat32
    }

    /// What the 32 bytes of a node say.
    fn entry(&self, node: NodeId) -> Result<Entry> {
        let at = node.0.saturating_mul(PER_NODE);
        if at < self.boot.root.0 || at >= self.boot.bytes {
            return Err(Error::corrupt("no such node"));
        }
        let raw = read_vec_at(self.source.as_ref(), at, entry::SIZE)?;
        let [first] = array_at(&raw, 0)?;
        let entry = Entry::parse(&raw, self.high())?;
        if first == 0 || first == entry::FREE || entry.attributes & entry::LABEL != 0 {
            return Err(Error::corrupt("no such node").at_offset(at));
        }
        Ok(entry)
    }

    fn directory(&self, node: NodeId) -> Result<Directory> {
        let mut first = self.boot.root_cluster;
        if node != ROOT {
            let entry = self.entry(node)?;
            if !entry.is_directory() {
                return Err(Error::corrupt("not a directory"));
            }
            first = entry.cluster;
        }
        let mut pieces = Vec::new();
        if first == 0 {
            if node != ROOT {
                return Err(Error::corrupt("a directory without clusters"));
            }
            pieces.push((self.boot.root.0, index(self.boot.root.1)));
        } else {
            let most = MAX_DIRECTORY
                .checked_div(self.boot.cluster)
                .unwrap_or(1)
                .max(1);
            let runs = chain::follow(
                self.boot.clusters,
                first,
                most.saturating_add(1),
                &mut |cluster| self.next(cluster),
            )?;
            let mut memory = self.memory();
            let count: u64 = runs.iter().map(|(_, len)| u64::from(*len)).sum();
            if count > u64::from(most) {
                return Err(Error::limit("a directory of more than 2 MiB"));
            }
            for (start, len) in runs {
                for cluster in (start..).take(index(len)) {
                    if memory.claims.len() >= MAX_CLAIMS {
                        return Err(Error::limit("directories of more than 2^22 clusters"));
                    }
                    if *memory.claims.entry(cluster).or_insert(node) != node {
                        return Err(Error::corrupt(format!(
                            "cluster {cluster} belongs to two directories"
                        )));
                    }
                }
                let bytes = index(len).saturating_mul(self.boot.cluster_len());
                pieces.push((self.boot.place(start)?, bytes));
            }
        }
        let mut bytes = Vec::new();
        for (at, len) in &pieces {
            bytes.extend(read_vec_at(self.source.as_ref(), *at, *len)?);
        }
        let entries = entry::entries(&bytes, self.high())?;
        Ok(Directory { pieces, entries })
    }

    fn listed(&self, node: NodeId) -> Result<Vec<(DirEntry, Named)>> {
        let Directory { pieces, entries } = self.directory(node)?;
        let mut out = Vec::with_capacity(entries.len());
        for named in entries {
            if named.entry.attributes & entry::LABEL != 0 {
                continue;
            }
            let mut rest = named.slot.saturating_mul(entry::SIZE);
            let mut place = None;
            for (at, len) in &pieces {
                if rest < *len {
                    place = Some(at.saturating_add(wide(rest)));
                    break;
                }
                rest = rest.saturating_sub(*len);
            }
            let place = place.ok_or_else(|| Error::corrupt("an entry was lost"))?;
            out.push((
                DirEntry {
                    name: named.name.clone().into_bytes(),
                    node: NodeId(place / PER_NODE),
                    kind: Some(if named.entry.is_directory() {
                        NodeKind::Directory
                    } else {
                        NodeKind::File
                    }),
                },
                named,
            ));
        }
        Ok(out)
    }

    /// The chain of a file, as far as its size reaches.
    fn chain_of(&self, node: NodeId, entry: &Entry) -> Result<Runs> {
        if let Some((known, runs)) = &self.memory().file
            && *known == node
        {
            return Ok(runs.clone());
        }
        let wanted = entry.size.div_ceil(self.boot.cluster);
        let runs = chain::follow(self.boot.clusters, entry.cluster, wanted, &mut |cluster| {
            self.next(cluster)
        })?;
        let runs: Runs = runs.into();
        self.memory().file = Some((node, runs.clone()));
        Ok(runs)
    }
}

fn label_of(short: &[u8; 11]) -> String {
    // A label has no dot between its halves.
    let text = name::shown(short, (false, false));
    let (base, rest) = short.split_at(8);
    let whole = rest.iter().any(|byte| *byte != b' ');
    if !whole || base.ends_with(b" ") {
        return String::from_utf8_lossy(short).trim_end().to_owned();
    }
    text.replacen('.', "", 1)
}

impl Tree for FatTree {
    fn info(&self) -> FilesystemInfo {
        let kind = match self.boot.kind {
            Kind::Fat12 => "fat12",
            Kind::Fat16 => "fat16",
            Kind::Fat32 => "fat32",
        };
        FilesystemInfo {
            kind: "vfat".to_owned(),
            label: self.label.clone(),
            uuid: self
                .boot
                .serial
                .map(|serial| format!("{:04x}-{:04x}", serial >> 16, serial & 0xFFFF)),
            size: self.boot.bytes,
            free: self.free.saturating_mul(u64::from(self.boot.cluster)),
            features: vec![kind.to_owned()],
            journal_replayed: false,
        }
    }

    fn root(&self) -> NodeId {
        ROOT
    }

    fn metadata(&self, node: NodeId) -> Result<Metadata> {
        let mut out = Metadata {
            node,
            kind: NodeKind::Directory,
            mode: MODE,
            uid: 0,
            gid: 0,
            links: 1,
            size: 0,
            atime: Time::default(),
            mtime: Time::default(),
            ctime: Time::default(),
            device: None,
        };
        if node == ROOT {
            return Ok(out);
        }
        let entry = self.entry(node)?;
        out.mtime = entry.mtime;
        out.ctime = entry.mtime;
        out.atime = entry.atime;
        if !entry.is_directory() {
            out.kind = NodeKind::File;
            out.size = u64::from(entry.size);
        }
        if entry.attributes & entry::READ_ONLY != 0 {
            out.mode = MODE & !0o222;
        }
        Ok(out)
    }

    fn read_dir(&self, node: NodeId) -> Result<Vec<DirEntry>> {
        let listed = self.listed(node)?;
        Ok(listed.into_iter().map(|(entry, _)| entry).collect())
    }

    /// Names are equal whatever their case, and short names lead to files as well.
    fn lookup(&self, node: NodeId, wanted: &[u8]) -> Result<Option<DirEntry>> {
        let Ok(wanted) = std::str::from_utf8(wanted) else {
            return Ok(None);
        };
        let folded = name::folded(wanted);
        let listed = self.listed(node)?;
        let by = |is: &dyn Fn(&Named) -> bool| {
            listed
                .iter()
                .find(|(_, named)| is(named))
                .map(|(entry, _)| entry.clone())
        };
        Ok(by(&|named| named.name == wanted)
            .or_else(|| by(&|named| name::folded(&named.name) == folded))
            .or_else(|| by(&|named| name::shown(&named.entry.short, (false, false)) == folded)))
    }

    fn ignores_case(&self) -> bool {
        true
    }

    fn read_link(&self, _: NodeId) -> Result<Vec<u8>> {
        Err(Error::corrupt("not a symbolic link"))
    }

    fn read_at(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        if node == ROOT {
            return Err(Error::corrupt("not a regular file"));
        }
        let entry = self.entry(node)?;
        if entry.is_directory() {
            return Err(Error::corrupt("not a regular file"));
        }
        let len = wide(buf.len()).min(u64::from(entry.size).saturating_sub(offset));
        let Some(buf) = buf.get_mut(..index(len)).filter(|buf| !buf.is_empty()) else {
            return Ok(0);
        };
        let runs = self.chain_of(node, &entry)?;
        let mut done = 0_usize;
        // Where the run begins in the file.
        let mut start = 0_u64;
        for (first, len) in runs.iter() {
            let bytes = u64::from(*len).saturating_mul(u64::from(self.boot.cluster));
            let end = start.saturating_add(bytes);
            let at = offset.saturating_add(wide(done));
            if at >= start && at < end && done < buf.len() {
                let step = index(end.saturating_sub(at)).min(buf.len().saturating_sub(done));
                let part = buf
                    .get_mut(done..done.saturating_add(step))
                    .unwrap_or_default();
                let from = self
                    .boot
                    .place(*first)?
                    .saturating_add(at.saturating_sub(start));
                self.source.read_exact_at(from, part)?;
                done = done.saturating_add(step);
            }
            start = end;
        }
        if done < buf.len() {
            return Err(Error::corrupt("a file's chain ends before its size"));
        }
        Ok(done)
    }

    fn xattrs(&self, _: NodeId) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        Ok(BTreeMap::new())
    }

    fn kept_mode(&self, _: NodeKind) -> Option<u16> {
        Some(MODE)
    }

    fn kept_time(&self, time: Time) -> Time {
        entry::kept(time)
    }
}
