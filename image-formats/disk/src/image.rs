//! An opened image: its host files, its restore points, and a byte source for each.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{Error, HostFile, Identity, Result, Source};
use serde::{Deserialize, Serialize, Serializer};

use crate::encryption::Sealed;
use crate::{FormatName, Owner, ReadLock, Role};

/// The id of the state that the machine would start from.
pub const ACTIVE: &str = "active";

/// An opened disk image. Reading it never changes a byte of its files.
pub trait Image: Send + Sync {
    /// The format of the image itself.
    fn format(&self) -> FormatName;

    /// Its host files, kept open.
    fn chain(&self) -> &Chain;

    /// Every host file of the chain, the image first, then what it refers to.
    fn files(&self) -> &[ChainFile] {
        self.chain().files()
    }

    /// The size of the active state in bytes.
    fn virtual_size(&self) -> u64;

    /// What the image says of its own condition.
    fn state(&self) -> State;

    /// By what a layer above recognises the active state it was made on, if the format keeps such a thing: a content
    /// id, or the UUID of the last change.
    fn identifier(&self) -> Option<&str> {
        None
    }

    /// The dirty bitmaps that it keeps for backup programs, in its order.
    fn bitmaps(&self) -> &[Bitmap] {
        &[]
    }

    /// The restore points: the active state first, then snapshots in the image's order. Ids are unique.
    fn points(&self) -> &[PointInfo];

    /// The disk as it was at the point with this id.
    ///
    /// # Errors
    /// `Unsupported` when there is no such point, and whatever keeps its tables from being read.
    fn open_point(&self, id: &str) -> Result<Arc<dyn Source>>;

    /// Which bytes of the active state its own file holds, or says are zeroes: all others are those of the image below.
    /// `None` where no image lies below, or where that is not told.
    ///
    /// # Errors
    /// What keeps its tables from being read.
    fn own(&self) -> Result<Option<Vec<Range<u64>>>> {
        Ok(None)
    }

    /// The saved memory and devices of the machine at that point, as its hypervisor wrote them; `None` when the
    /// point was taken of the disk alone.
    ///
    /// # Errors
    /// As [`Image::open_point`].
    fn memory(&self, id: &str) -> Result<Option<Arc<dyn Source>>>;
}

impl dyn Image + '_ {
    /// Its active state, for a layer above.
    pub(crate) fn below(&self) -> Result<Sealed<Arc<dyn Source>>> {
        Sealed::new(self.open_point(ACTIVE), self.chain().is_encrypted())
    }

    /// The point with this id or, if no point has it, the only one with this name.
    ///
    /// # Errors
    /// `Unsupported` when there is none, or several of that name; the message lists what there is.
    pub fn point(&self, wanted: &str) -> Result<&PointInfo> {
        find_point(self.points(), wanted)
    }
}

/// The one of `points` with this id or, if none has it, the only one with this name.
///
/// # Errors
/// `Unsupported` when there is none, or several of that name; the message lists what there is.
pub fn find_point<'a>(points: &'a [PointInfo], wanted: &str) -> Result<&'a PointInfo> {
    if let Some(point) = points.iter().find(|point| point.id == wanted) {
        return Ok(point);
    }
    let mut named = points.iter().filter(|point| point.name == wanted);
    match (named.next(), named.next()) {
        (Some(point), None) => Ok(point),
        (None, _) => Err(no_point(wanted, points)),
        (Some(_), Some(_)) => Err(Error::unsupported(format!(
            "several restore points are called {wanted:?}; name one by its id"
        ))),
    }
}

pub(crate) fn no_point(wanted: &str, points: &[PointInfo]) -> Error {
    /// More would not help anybody to choose.
    const LISTED: usize = 16;
    let known: Vec<&str> = points
        .iter()
        .take(LISTED)
        .map(|point| point.id.as_str())
        .collect();
    let more = if points.len() > LISTED { ", ..." } else { "" };
    Error::unsupported(format!(
        "there is no restore point {wanted:?}, only {}{more}",
        known.join(", ")
    ))
}

/// What a restore point is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PointKind {
    /// The state that the machine would start from.
    Active,
    /// A snapshot kept inside the image file.
    InternalSnapshot,
    /// A file of the backing chain, which keeps the state in which the layer above it was made.
    Layer,
    /// A snapshot of the machine, kept in files that its description names.
    MachineSnapshot,
}

impl PointKind {
    /// The kind as facts spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::InternalSnapshot => "internal-snapshot",
            Self::Layer => "layer",
            Self::MachineSnapshot => "machine-snapshot",
        }
    }
}

/// A record, kept in an image, of which blocks changed since a backup.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bitmap {
    /// What the backup program calls it; control characters are spelled out.
    pub name: String,
    /// Bytes of the disk that one bit stands for.
    pub granularity: u64,
    /// Whether it was saved: what a crashed machine left behind says nothing.
    pub consistent: bool,
    /// Whether it goes on recording.
    pub recording: bool,
}

/// An instant as images keep it: seconds and nanoseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Timestamp {
    /// Seconds.
    pub seconds: u64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// A restore point, as a fact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PointInfo {
    /// Unique within the image: [`ACTIVE`], or the snapshot's own id.
    pub id: String,
    /// What people call it; control characters are spelled out.
    pub name: String,
    /// What it is made of.
    pub kind: PointKind,
    /// When it was taken, if the image says.
    pub created: Option<Timestamp>,
    /// How long the guest had been running by its virtual clock, in nanoseconds.
    pub vm_clock: Option<u64>,
    /// Bytes of saved memory and devices. A point that has them is a suspended machine: its disk must not be
    /// changed.
    pub memory: Option<u64>,
    /// The size of the disk at this point in bytes.
    pub disk_size: u64,
}

impl PointInfo {
    /// The active state of a machine, or of an image, whose disks have `disk_size` bytes.
    #[must_use]
    pub fn active(disk_size: u64) -> Self {
        Self {
            id: ACTIVE.to_owned(),
            name: ACTIVE.to_owned(),
            kind: PointKind::Active,
            created: None,
            vm_clock: None,
            memory: None,
            disk_size,
        }
    }
}

/// What an image says of its own condition.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct State {
    /// It was not closed: its counts of used clusters may be stale. Its bytes are read rightly all the same, since
    /// reading uses none of those counts, and what a log still holds is read from there.
    pub dirty: bool,
    /// It says that the machine's memory was saved beside it: the machine is suspended, wherever that file is.
    #[serde(default)]
    pub suspended: bool,
}

/// A host file of an image, as a fact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ChainFile {
    /// The path it was opened by. Bytes that are not UTF-8 are replaced when it is stored.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// The name by which the file above it refers to it.
    pub named: Option<String>,
    /// What it is to the file above it.
    pub role: Role,
    /// Its format.
    pub format: FormatName,
    /// Its state when it was opened.
    pub identity: Identity,
    /// How its data are encrypted: `LUKS`, `AES`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
}

fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// The host files of an image, kept open so that they can be asked about their owners.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    files: Vec<ChainFile>,
    hosts: Vec<Arc<HostFile>>,
}

impl Chain {
    pub(crate) fn push(&mut self, file: ChainFile, host: Arc<HostFile>) {
        self.files.push(file);
        self.hosts.push(host);
    }

    pub(crate) fn extend(&mut self, below: &Self) {
        self.files.extend(below.files.iter().cloned());
        self.hosts.extend(below.hosts.iter().cloned());
    }

    /// The files as facts, the image first.
    #[must_use]
    pub fn files(&self) -> &[ChainFile] {
        &self.files
    }

    /// The same, with the data of its first file encrypted so.
    pub(crate) fn encrypted(mut self, how: &str) -> Self {
        if let Some(file) = self.files.first_mut() {
            file.encryption = Some(how.to_owned());
        }
        self
    }

    /// Whether the data of any file are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.files.iter().any(|file| file.encryption.is_some())
    }

    /// The first program found that may write any file of the chain: a machine that runs.
    ///
    /// # Errors
    /// `Io` when the host cannot be asked.
    pub fn owner(&self) -> Result<Option<Owner>> {
        for host in &self.hosts {
            if let Some(owner) = Owner::of(host)? {
                return Ok(Some(owner));
            }
        }
        Ok(None)
    }

    /// The first file that is no longer as it was when it was opened: what was read of it may be torn.
    ///
    /// # Errors
    /// `Io` when the host cannot be asked.
    pub fn changed(&self) -> Result<Option<&Path>> {
        for host in &self.hosts {
            let now = host.identity_now()?;
            if now != *host.identity() {
                return Ok(Some(host.path()));
            }
        }
        Ok(None)
    }

    /// Locks every file of the chain against writers that heed QEMU's locks, as a backing file is locked.
    ///
    /// # Errors
    /// `Denied` when a machine owns one of the files, `Io` when the host cannot lock.
    pub fn lock(&self) -> Result<Vec<ReadLock>> {
        self.hosts.iter().map(ReadLock::take).collect()
    }
}
