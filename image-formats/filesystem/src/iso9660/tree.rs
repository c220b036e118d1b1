//! A whole filesystem, open for reading.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Error, Result, Source, read_vec_at};

use super::SECTOR;
use super::descriptor::{self, Descriptor};
use super::record::{self, Record};
use super::rock::{self, Rock};
use crate::fat::{index, wide};
use crate::wtf8::shown;
use crate::{DirEntry, FilesystemInfo, Metadata, NodeId, NodeKind, Tree};

/// Bytes of a directory at most; that is some 400,000 names.
const MAX_DIRECTORY: u32 = 64 << 20;
/// Extents of one file at most: 4 TiB.
const MAX_EXTENTS: usize = 1024;
/// Directories whose owner is remembered.
const MAX_CLAIMS: usize = 1 << 22;

/// How names are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Plain,
    Joliet,
    /// Rock Ridge, with how many bytes to skip before its entries.
    Rock(u8),
}

/// An ISO 9660 filesystem, open for reading.
///
/// A node is the byte at which its directory record is; of a file of several extents, the first one.
pub struct IsoTree {
    source: Arc<dyn Source>,
    volume: Descriptor,
    label: String,
    names: Names,
    /// Which node a directory belongs to, by its extent: one that belonged to two would let paths go on for ever.
    claims: Mutex<HashMap<u32, NodeId>>,
    /// The file that was read last.
    file: Mutex<Option<(NodeId, Arc<Node>)>>,
}

/// A file, as its records say.
struct Node {
    record: Record,
    rock: Rock,
    /// First block and bytes of each extent.
    extents: Vec<(u32, u32)>,
}

impl Node {
    fn size(&self) -> u64 {
        self.extents.iter().map(|(_, size)| u64::from(*size)).sum()
    }

    fn kind(&self) -> NodeKind {
        let format = self.rock.posix.map_or(0, |(mode, ..)| mode & 0o170_000);
        match format {
            // What is a directory is said by the record alone.
            _ if self.record.directory => NodeKind::Directory,
            0o120_000 => NodeKind::Symlink,
            0o020_000 => NodeKind::CharDevice,
            0o060_000 => NodeKind::BlockDevice,
            0o010_000 => NodeKind::Fifo,
            0o140_000 => NodeKind::Socket,
            _ => NodeKind::File,
        }
    }
}

impl IsoTree {
    /// Opens the filesystem on `source`.
    ///
    /// # Errors
    /// `Corrupt` when its descriptors or root directory are broken.
    pub fn open(source: Arc<dyn Source>) -> Result<Self> {
        let (primary, joliet) = descriptor::read(source.as_ref())?;
        let label = primary.label.clone();
        let mut this = Self {
            source,
            volume: primary,
            label,
            names: Names::Plain,
            claims: Mutex::default(),
            file: Mutex::default(),
        };
        // The record of `.` in the root says whether there is Rock Ridge.
        let root = this.block_at(this.volume.root.extent)?;
        let dot = this.record(root)?;
        if let Some(skip) = rock::skip(&dot.system) {
            this.names = Names::Rock(skip);
        } else if let Some(joliet) = joliet {
            this.names = Names::Joliet;
            this.volume = joliet;
        }
        Ok(this)
    }

    /// The byte at which `block` begins.
    fn block_at(&self, block: u32) -> Result<u64> {
        let at = u64::from(block).saturating_mul(self.volume.block);
        if at >= self.source.len() {
            return Err(Error::corrupt("a file lies outside the volume").at_offset(at));
        }
        Ok(at)
    }

    /// The record at byte `at`, which ends with its sector at the latest.
    fn record(&self, at: u64) -> Result<Record> {
        let within = at % SECTOR;
        let room = SECTOR
            .saturating_sub(within)
            .min(self.source.len().saturating_sub(at))
            .min(255);
        let bytes = read_vec_at(self.source.as_ref(), at, index(room))?;
        record::parse(&bytes)
            .and_then(|record| record.ok_or_else(|| Error::corrupt("no such node")))
            .map_err(|error| error.at_offset(at))
    }

    fn rock(&self, record: &Record, at: u64) -> Result<Rock> {
        let Names::Rock(skip) = self.names else {
            return Ok(Rock::default());
        };
        // The root's record in the descriptor has no room; that of `.` has it.
        let system = if at == self.volume.root_at {
            self.record(self.block_at(record.extent)?)?.system
        } else {
            record.system.clone()
        };
        let system = system.get(usize::from(skip)..).unwrap_or_default();
        rock::parse(system, &mut |block, offset, len| {
            let at = self.block_at(block)?.saturating_add(u64::from(offset));
            read_vec_at(self.source.as_ref(), at, index(len))
        })
        .map_err(|error| error.at_offset(at))
    }

    fn node(&self, node: NodeId) -> Result<Node> {
        let first = self.record(node.0)?;
        let mut rock = self.rock(&first, node.0)?;
        let mut extents = vec![(first.extent, first.size)];
        let mut goes_on = first.goes_on;
        let mut at = node.0.saturating_add(wide(first.len));
        while goes_on {
            if extents.len() >= MAX_EXTENTS {
                return Err(Error::limit("a file of more than 1024 extents"));
            }
            let bytes = read_vec_at(
                self.source.as_ref(),
                at,
                index(SECTOR.saturating_sub(at % SECTOR).min(255)),
            )?;
            let Some(next) = record::parse(&bytes)? else {
                at = at.saturating_add(SECTOR).saturating_sub(at % SECTOR);
                // An empty sector would not be a part of a directory.
                let [first] =
                    dormouse_block::array_at(&read_vec_at(self.source.as_ref(), at, 1)?, 0)?;
                if first == 0 {
                    return Err(Error::corrupt(
                        "a file goes on in a record that is not there",
                    ));
                }
                continue;
            };
            if next.name != first.name || next.directory {
                return Err(Error::corrupt("a file goes on in a record of another name"));
            }
            extents.push((next.extent, next.size));
            goes_on = next.goes_on;
            at = at.saturating_add(wide(next.len));
            let more = self.rock(&next, at)?;
            rock.packed |= more.packed;
        }
        Ok(Node {
            record: first,
            rock,
            extents,
        })
    }

    /// A name as users see it.
    fn name(&self, record: &Record, rock: &Rock) -> Result<Vec<u8>> {
        let name = match (self.names, &rock.name) {
            (Names::Rock(_), Some(name)) => name.clone(),
            (Names::Joliet, _) => {
                let units: Vec<u16> = record
                    .name
                    .chunks_exact(2)
                    .map(|pair| dormouse_block::be_u16(pair, 0))
                    .collect::<Result<_>>()?;
                versionless(shown(&units), b";1")
            }
            _ => {
                let mut name = versionless(record.name.clone(), b";1");
                if name.ends_with(b".") {
                    name.pop();
                }
                name.make_ascii_lowercase();
                name
            }
        };
        if name.is_empty()
            || name == b"."
            || name == b".."
            || name.contains(&0)
            || name.contains(&b'/')
        {
            return Err(Error::corrupt("a name that no path can contain"));
        }
        Ok(name)
    }

    fn claim(&self, extent: u32, node: NodeId) -> Result<()> {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.len() >= MAX_CLAIMS {
            return Err(Error::limit("more than 2^22 directories"));
        }
        if *claims.entry(extent).or_insert(node) != node {
            return Err(Error::corrupt(format!(
                "block {extent} belongs to two directories"
            )));
        }
        Ok(())
    }
}

fn versionless(mut name: Vec<u8>, version: &[u8]) -> Vec<u8> {
    if name.ends_with(version) {
        name.truncate(name.len().saturating_sub(version.len()));
    }
    name
}

impl Tree for IsoTree {
    fn info(&self) -> FilesystemInfo {
        let names = match self.names {
            Names::Plain => "plain-names",
            Names::Joliet => "joliet",
            Names::Rock(_) => "rock-ridge",
        };
        FilesystemInfo {
            kind: "iso9660".to_owned(),
            label: Some(self.label.clone()).filter(|label| !label.is_empty()),
            uuid: self.volume.stamp.clone(),
            size: u64::from(self.volume.blocks).saturating_mul(self.volume.block),
            free: 0,
            features: vec![names.to_owned()],
            journal_replayed: false,
        }
    }

    fn root(&self) -> NodeId {
        NodeId(self.volume.root_at)
    }

    fn metadata(&self, id: NodeId) -> Result<Metadata> {
        let node = self.node(id)?;
        let kind = node.kind();
        let (mode, links, uid, gid) = match node.rock.posix {
            Some((mode, links, uid, gid)) => (mode & 0o7777, links, uid, gid),
            // What Linux shows of a disc without Rock Ridge.
            None => (
                if kind == NodeKind::Directory {
                    0o555
                } else {
                    0o444
                },
                1,
                0,
                0,
            ),
        };
        let [modified, read, changed] = node.rock.times;
        let mtime = modified.unwrap_or(node.record.time);
        let device = match kind {
            NodeKind::CharDevice | NodeKind::BlockDevice => {
                Some(node.rock.device.unwrap_or_default())
            }
            _ => None,
        };
        Ok(Metadata {
            node: id,
            kind,
            mode: u16::try_from(mode).unwrap_or_default(),
            uid,
            gid,
            links,
            size: match kind {
                NodeKind::File | NodeKind::Directory => node.size(),
                NodeKind::Symlink => node
                    .rock
                    .target
                    .as_ref()
                    .map_or(0, |target| wide(target.len())),
                _ => 0,
            },
            atime: read.unwrap_or(mtime),
            mtime,
            ctime: changed.unwrap_or(mtime),
            device,
        })
    }

    fn read_dir(&self, id: NodeId) -> Result<Vec<DirEntry>> {
        let record = self.record(id.0)?;
        if !record.directory {
            return Err(Error::corrupt("not a directory"));
        }
        if record.size > MAX_DIRECTORY {
            return Err(Error::limit("a directory of more than 64 MiB"));
        }
        if let Some(why) = record.unread {
            return Err(Error::unsupported(why));
        }
        self.claim(record.extent, id)?;
        let start = self.block_at(record.extent)?;
        let bytes = read_vec_at(self.source.as_ref(), start, index(record.size))?;
        let mut out: Vec<DirEntry> = Vec::new();
        let mut goes_on = false;
        for (nth, sector) in (0_u64..).zip(bytes.chunks(index(SECTOR))) {
            let mut within = 0_usize;
            while let Some(found) = record::parse(sector.get(within..).unwrap_or_default())? {
                let at = start
                    .saturating_add(nth.saturating_mul(SECTOR))
                    .saturating_add(wide(within));
                within = within.saturating_add(found.len);
                // Further extents of the file before.
                let skip = goes_on;
                goes_on = found.goes_on;
                if skip || found.is_dot() || found.associated {
                    continue;
                }
                let rock = self.rock(&found, at)?;
                if rock.moved {
                    continue;
                }
                let name = self.name(&found, &rock)?;
                let (node, kind) = match rock.child {
                    Some(block) => {
                        // The directory was moved to a place less deep; its own record of `.` stands for it.
                        (NodeId(self.block_at(block)?), NodeKind::Directory)
                    }
                    None => {
                        let node = Node {
                            record: found,
                            rock,
                            extents: Vec::new(),
                        };
                        (NodeId(at), node.kind())
                    }
                };
                out.push(DirEntry {
                    name,
                    node,
                    kind: Some(kind),
                });
            }
        }
        Ok(out)
    }

    /// Plain names and those of Joliet are equal whatever their case, where none is the same.
    fn lookup(&self, id: NodeId, name: &[u8]) -> Result<Option<DirEntry>> {
        let mut listed = self.read_dir(id)?;
        let found = listed
            .iter()
            .position(|entry| entry.name == name)
            .or_else(|| {
                let folds = self.ignores_case();
                listed
                    .iter()
                    .position(|entry| folds && entry.name.eq_ignore_ascii_case(name))
            });
        Ok(found.map(|nth| listed.swap_remove(nth)))
    }

    fn ignores_case(&self) -> bool {
        !matches!(self.names, Names::Rock(_))
    }

    fn read_link(&self, id: NodeId) -> Result<Vec<u8>> {
        let node = self.node(id)?;
        if node.kind() != NodeKind::Symlink {
            return Err(Error::corrupt("not a symbolic link"));
        }
        if let Some(bad) = node.rock.bad_target {
            return Err(Error::corrupt(bad));
        }
        node.rock
            .target
            .filter(|target| !target.is_empty())
            .ok_or_else(|| Error::corrupt("a symbolic link without a target"))
    }

    fn read_at(&self, id: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let lock = || self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().clone().filter(|(known, _)| *known == id);
        let node = match known {
            Some((_, node)) => node,
            None => {
                let node = Arc::new(self.node(id)?);
                *lock() = Some((id, node.clone()));
                node
            }
        };
        if node.kind() != NodeKind::File {
            return Err(Error::corrupt("not a regular file"));
        }
        if node.rock.packed {
            return Err(Error::unsupported(
                "the file is packed by zisofs, which is not read",
            ));
        }
        if node.rock.sparse {
            return Err(Error::unsupported(
                "the file is sparse by Rock Ridge, which is not read",
            ));
        }
        if let Some(why) = node.record.unread {
            return Err(Error::unsupported(why));
        }
        let len = wide(buf.len()).min(node.size().saturating_sub(offset));
        let mut rest = buf.get_mut(..index(len)).unwrap_or_default();
        let mut at = offset;
        // Where the extent begins in the file.
        let mut start = 0_u64;
        for (block, size) in &node.extents {
            let end = start.saturating_add(u64::from(*size));
            if at >= start && at < end && !rest.is_empty() {
                let step = index(end.saturating_sub(at)).min(rest.len());
                let (part, after) = rest
                    .split_at_mut_checked(step)
                    .ok_or_else(|| Error::corrupt("bad size of an extent"))?;
                let from = self
                    .block_at(*block)?
                    .saturating_add(at.saturating_sub(start));
                self.source.read_exact_at(from, part)?;
                at = at.saturating_add(wide(step));
                rest = after;
            }
            start = end;
        }
        Ok(index(len))
    }

    fn xattrs(&self, _: NodeId) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        Ok(BTreeMap::new())
    }
}
