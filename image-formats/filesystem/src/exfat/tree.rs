//! A whole filesystem, open for reading.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use dormouse_block::{Error, Result, Source, le_u32, read_vec_at};

use super::boot::Boot;
use super::entry::{self, File, Place};
use super::upcase::{self, Upcase};
use crate::fat::table::Next;
use crate::fat::{MODE, chain, index, wide};
use crate::pieces::Pieces;
use crate::wtf8::{shown, written};
use crate::{DirEntry, FilesystemInfo, Left, Metadata, NodeId, NodeKind, Time, Tree};

/// Bytes of a directory at most (section 7.4: 256 MiB; this much has a million names).
const MAX_DIRECTORY: u64 = 128 << 20;
/// Directories that are remembered at most.
const MAX_DIRECTORIES: usize = 1 << 20;
/// Files of directories read last, all together.
const MAX_KEPT: usize = 100_000;
/// Bytes of the table that are read at once, and the most pieces that are kept.
const STEP: u64 = 32 << 10;
const MAX_PIECES: usize = 128;
/// Bytes of the map of clusters that are read to count the free ones.
const MAX_COUNTED: u64 = 16 << 20;
const ROOT: NodeId = NodeId(0);
/// Units of the longest name.
const MAX_NAME: usize = 255;

/// An exFAT filesystem, open for reading.
///
/// A node is the first cluster of its directory in the upper half and the number of its first entry in the lower; the root
/// is 0.
pub struct ExfatTree {
    source: Arc<dyn Source>,
    boot: Boot,
    pieces: Pieces,
    upcase: Upcase,
    bitmap: Option<Place>,
    label: Option<String>,
    free: OnceLock<u64>,
    memory: Mutex<Memory>,
}

/// Consecutive clusters: the first, and how many.
type Runs = Arc<[(u32, u32)]>;

/// What was read before.
#[derive(Default)]
struct Memory {
    /// Where each directory is, by its first cluster, and which node it belongs to: one that belonged to two would let paths
    /// go on for ever.
    directories: HashMap<u32, (NodeId, Place)>,
    read: HashMap<u32, Arc<[File]>>,
    kept: usize,
    /// The clusters of the file that was read last.
    file: Option<(NodeId, Runs)>,
}

impl ExfatTree {
    /// Opens the filesystem on `source`.
    ///
    /// # Errors
    /// `Corrupt` when its boot region, root directory or table of upper case is broken, `Unsupported` for TexFAT.
    pub fn open(source: Arc<dyn Source>) -> Result<Self> {
        let boot = Boot::read(source.as_ref())?;
        let mut this = Self {
            source,
            boot,
            pieces: Pieces::new(MAX_PIECES),
            upcase: Upcase::parse(&[], 0)?,
            bitmap: None,
            label: None,
            free: OnceLock::new(),
            memory: Mutex::default(),
        };
        // The root has no entry of its own; its clusters go on until the table says so.
        let most = this.boot.clusters_of(MAX_DIRECTORY);
        let first = this.boot.root;
        let runs = this.follow(first, most.saturating_add(1))?;
        let clusters: u64 = runs.iter().map(|(_, len)| u64::from(*len)).sum();
        if clusters > most {
            return Err(Error::limit("a root directory of more than 128 MiB"));
        }
        let root = Place {
            first,
            len: clusters.saturating_mul(this.boot.cluster),
            contiguous: false,
        };
        let entries = entry::entries(&this.bytes(&root, MAX_DIRECTORY)?)?;
        let (table, sum) = entries
            .upcase
            .ok_or_else(|| Error::corrupt("a volume without a table of upper case"))?;
        this.upcase = Upcase::parse(&this.bytes(&table, upcase::MAX)?, sum)?;
        this.bitmap = entries.bitmap;
        this.label = entries.label.filter(|label| !label.is_empty());
        this.memory().directories.insert(first, (ROOT, root));
        Ok(this)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the table says of `cluster`.
    fn next(&self, cluster: u32) -> Result<Next> {
        let at = u64::from(cluster).saturating_mul(4);
        let nth = at / STEP;
        let piece = self.pieces.get(nth, || {
            let start = nth.saturating_mul(STEP);
            let len = self.boot.table.1.saturating_sub(start).min(STEP);
            let from = self.boot.table.0.saturating_add(start);
            read_vec_at(self.source.as_ref(), from, index(len))
        })?;
        Ok(match le_u32(&piece, index(at % STEP))? {
            0 => Next::Free,
            0xFFFF_FFF7 => Next::Bad,
            0xFFFF_FFFF => Next::End,
            next => Next::Cluster(next),
        })
    }

    fn follow(&self, first: u32, limit: u64) -> Result<Vec<(u32, u32)>> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        chain::follow(self.boot.clusters, first, limit, &mut |cluster| {
            self.next(cluster)
        })
    }

    /// The clusters of `place`, as far as its length reaches.
    fn runs(&self, place: &Place) -> Result<Vec<(u32, u32)>> {
        let wanted = self.boot.clusters_of(place.len);
        if wanted == 0 {
            return Ok(Vec::new());
        }
        if !place.contiguous {
            return self.follow(place.first, wanted);
        }
        let len = u32::try_from(wanted)
            .ok()
            .filter(|len| {
                let nth = place.first.checked_sub(2);
                let end = nth.and_then(|nth| nth.checked_add(*len));
                end.is_some_and(|end| end <= self.boot.clusters)
            })
            .ok_or_else(|| Error::corrupt("a file's clusters lie outside the volume"))?;
        Ok(vec![(place.first, len)])
    }

    /// Fills `buf` from `offset` on of what lies in `runs`.
    fn read(&self, runs: &[(u32, u32)], offset: u64, buf: &mut [u8]) -> Result<()> {
        let mut done = 0_usize;
        // Where the run begins in the file.
        let mut start = 0_u64;
        for (first, len) in runs {
            let end = start.saturating_add(u64::from(*len).saturating_mul(self.boot.cluster));
            let at = offset.saturating_add(wide(done));
            if at >= start && at < end && done < buf.len() {
                let step = index(end.saturating_sub(at)).min(buf.len().saturating_sub(done));
                let part = buf
                    .get_mut(done..done.saturating_add(step))
                    .unwrap_or_default();
                let from = self.boot.place(*first)?;
                self.source
                    .read_exact_at(from.saturating_add(at.saturating_sub(start)), part)?;
                done = done.saturating_add(step);
            }
            start = end;
        }
        if done < buf.len() {
            return Err(Error::corrupt("a file's chain ends before its size"));
        }
        Ok(())
    }

    /// All bytes of `place`, of which there must be at most `most`.
    fn bytes(&self, place: &Place, most: u64) -> Result<Vec<u8>> {
        if place.len > most {
            return Err(Error::limit(format!(
                "{} bytes of a directory or table where {most} are the most",
                place.len
            )));
        }
        let runs = self.runs(place)?;
        let mut out = vec![0; index(place.len)];
        self.read(&runs, 0, &mut out)?;
        Ok(out)
    }

    /// The files of the directory that begins with cluster `first`.
    fn files(&self, first: u32) -> Result<Arc<[File]>> {
        let place = {
            let memory = self.memory();
            if let Some(files) = memory.read.get(&first) {
                return Ok(files.clone());
            }
            let (_, place) = memory
                .directories
                .get(&first)
                .ok_or_else(|| Error::corrupt("no such node"))?;
            *place
        };
        let files: Arc<[File]> = entry::entries(&self.bytes(&place, MAX_DIRECTORY)?)?
            .files
            .into();
        for file in files.iter() {
            if self.upcase.hash(&file.name) != file.hash {
                return Err(Error::corrupt("a name with a wrong hash"));
            }
        }
        let mut memory = self.memory();
        memory.kept = memory.kept.saturating_add(files.len());
        if memory.kept > MAX_KEPT {
            memory.read.clear();
            memory.kept = files.len();
        }
        memory.read.insert(first, files.clone());
        Ok(files)
    }

    /// The file that `node` stands for.
    fn file(&self, node: NodeId) -> Result<File> {
        let none = || Error::corrupt("no such node");
        let first = u32::try_from(node.0 >> 32).map_err(|_| none())?;
        let slot = u32::try_from(node.0 & 0xFFFF_FFFF).map_err(|_| none())?;
        let files = self.files(first)?;
        let nth = files
            .binary_search_by_key(&slot, |file| file.slot)
            .map_err(|_| none())?;
        files.get(nth).cloned().ok_or_else(none)
    }

    /// The first cluster of the directory `node`, which is remembered; 0 for one without clusters.
    fn directory(&self, node: NodeId) -> Result<u32> {
        if node == ROOT {
            return Ok(self.boot.root);
        }
        let file = self.file(node)?;
        if file.attributes & entry::DIRECTORY == 0 {
            return Err(Error::corrupt("not a directory"));
        }
        if file.place.len == 0 {
            return Ok(0);
        }
        let mut memory = self.memory();
        if memory.directories.len() >= MAX_DIRECTORIES {
            return Err(Error::limit("more than 2^20 directories"));
        }
        let (owner, _) = *memory
            .directories
            .entry(file.place.first)
            .or_insert((node, file.place));
        if owner != node {
            return Err(Error::corrupt(format!(
                "cluster {} belongs to two directories",
                file.place.first
            )));
        }
        Ok(file.place.first)
    }

    /// The files of directory `node`, with the cluster that their nodes are counted from.
    fn listed(&self, node: NodeId) -> Result<(u32, Arc<[File]>)> {
        let first = self.directory(node)?;
        if first == 0 {
            return Ok((0, Arc::default()));
        }
        Ok((first, self.files(first)?))
    }

    fn count_free(&self) -> Result<u64> {
        let Some(bitmap) = &self.bitmap else {
            return Ok(0);
        };
        let bits = self.bytes(bitmap, MAX_COUNTED)?;
        let mut used = 0_u64;
        let mut left = u64::from(self.boot.clusters);
        for byte in bits {
            let beyond = 8_u32.saturating_sub(u32::try_from(left).unwrap_or(u32::MAX));
            let mask = 0xFF_u8.checked_shr(beyond).unwrap_or(0);
            used = used.saturating_add(u64::from((byte & mask).count_ones()));
            left = left.saturating_sub(8);
        }
        Ok(u64::from(self.boot.clusters).saturating_sub(used))
    }
}

fn entry_of(first: u32, file: &File) -> Result<DirEntry> {
    let name = shown(&file.name);
    if name.contains(&0) || name.contains(&b'/') || name == b"." || name == b".." {
        return Err(Error::corrupt("a name that no path can contain"));
    }
    Ok(DirEntry {
        name,
        node: NodeId(u64::from(first) << 32 | u64::from(file.slot)),
        kind: Some(if file.attributes & entry::DIRECTORY != 0 {
            NodeKind::Directory
        } else {
            NodeKind::File
        }),
    })
}

impl Tree for ExfatTree {
    fn info(&self) -> FilesystemInfo {
        let free = *self.free.get_or_init(|| self.count_free().unwrap_or(0));
        FilesystemInfo {
            kind: "exfat".to_owned(),
            label: self.label.clone(),
            uuid: Some(format!(
                "{:04x}-{:04x}",
                self.boot.serial >> 16,
                self.boot.serial & 0xFFFF
            )),
            size: self.boot.bytes,
            free: free.saturating_mul(self.boot.cluster),
            features: Vec::new(),
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
        let file = self.file(node)?;
        out.mtime = file.mtime;
        out.ctime = file.ctime;
        out.atime = file.atime;
        out.size = file.place.len;
        if file.attributes & entry::DIRECTORY == 0 {
            out.kind = NodeKind::File;
            if file.attributes & entry::READ_ONLY != 0 {
                out.mode = MODE & !0o222;
            }
        }
        Ok(out)
    }

    fn read_dir(&self, node: NodeId) -> Result<Vec<DirEntry>> {
        let (first, files) = self.listed(node)?;
        files.iter().map(|file| entry_of(first, file)).collect()
    }

    /// Names are equal whatever their case; an equal one goes first.
    fn lookup(&self, node: NodeId, wanted: &[u8]) -> Result<Option<DirEntry>> {
        let Some(wanted) = written(wanted, MAX_NAME) else {
            return Ok(None);
        };
        let (first, files) = self.listed(node)?;
        let hash = self.upcase.hash(&wanted);
        let upper = self.upcase.upper(&wanted);
        let same = |file: &&File| file.hash == hash && self.upcase.upper(&file.name) == upper;
        files
            .iter()
            .find(|file| file.name == wanted)
            .or_else(|| files.iter().find(same))
            .map(|file| entry_of(first, file))
            .transpose()
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
        let file = self.file(node)?;
        if file.attributes & entry::DIRECTORY != 0 {
            return Err(Error::corrupt("not a regular file"));
        }
        let len = wide(buf.len()).min(file.place.len.saturating_sub(offset));
        let Some(buf) = buf.get_mut(..index(len)).filter(|buf| !buf.is_empty()) else {
            return Ok(0);
        };
        let known = self.memory().file.clone().filter(|(of, _)| *of == node);
        let runs = match known {
            Some((_, runs)) => runs,
            None => {
                let runs: Runs = self.runs(&file.place)?.into();
                self.memory().file = Some((node, runs.clone()));
                runs
            }
        };
        let written = file.valid.saturating_sub(offset).min(len);
        let (part, never) = buf
            .split_at_mut_checked(index(written))
            .ok_or_else(|| Error::corrupt("bad valid length"))?;
        never.fill(0);
        self.read(&runs, offset, part)?;
        Ok(index(len))
    }

    fn xattrs(&self, _: NodeId) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        Ok(BTreeMap::new())
    }

    fn kept_mode(&self, _: NodeKind) -> Option<u16> {
        Some(MODE)
    }

    fn left(&self) -> Left {
        if self.boot.dirty {
            return Left::Unclean(
                "the volume is marked dirty: it was not unmounted, and what is read may be inconsistent"
                    .to_owned(),
            );
        }
        Left::Clean
    }
}
