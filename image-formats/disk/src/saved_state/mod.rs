//! Saved states: what a hypervisor writes of a machine that runs, and the guest's memory in it.
//!
//! [`recognise_state`] says what a file is by its first bytes, which is all that a power state needs; [`SavedMemory::open`]
//! finds the guest's memory in it, and [`SavedMemory::read`] hands that over piece by piece, in the order in which it was
//! kept. No more of it is held than one buffer of 128 KiB. Formats stand in the static table [`STATE_FORMATS`].
//!
//! Limits: [`MAX_RAM`] of memory, [`MAX_BLOCKS`] blocks of it; of pages that were sent again while the machine ran, at most
//! [`MAX_ROUNDS`] times all of it; a packed state of at most [`MAX_RATIO`] times its file.

mod elf;
mod hypervisors;
pub(crate) mod libvirt;
mod lzop;
mod mapped_ram;
mod packed;
mod pieces;
mod qemu;
mod raw;
mod stream;
mod vmware;

use std::path::Path;
use std::sync::Arc;

use dormouse_block::{Error, HostFile, Meter, Metered, Result, Source, read_vec_at};
use serde::{Deserialize, Serialize};

pub use pieces::{Piece, RamBlock, RamRead};

use crate::{Gate, Reference, Role};
use pieces::Pieces;

/// Bytes of memory of one machine: more than any host has.
pub const MAX_RAM: u64 = 64 << 40;
/// Blocks of memory of one machine: banks, video memory, firmware.
pub const MAX_BLOCKS: usize = 4096;
/// How often all of the memory may have been sent: machines that are saved while they run send changed pages again.
pub const MAX_ROUNDS: u64 = 64;
/// How much more than its file a packed state may hold. Zeroes pack best, and a page of them is 9 bytes of a stream.
pub const MAX_RATIO: u64 = 4096;
/// Bytes read at once, and all the memory that is held: they are still in a processor's own cache when they are handed over.
const STEP: u64 = 128 << 10;
/// Bytes at the start of a file that are looked at.
const HEAD: usize = 4096;

/// Every format of saved states, in the order of asking.
pub static STATE_FORMATS: &[StateFormat] = &[
    libvirt::FORMAT,
    qemu::FORMAT,
    elf::FORMAT,
    vmware::FORMAT,
    hypervisors::VIRTUALBOX,
    hypervisors::HYPERV,
    hypervisors::HYPERV_VSV,
    hypervisors::FIRECRACKER,
    hypervisors::CLOUD_HYPERVISOR,
    hypervisors::KDUMP,
    // What is packed as a whole comes last: its inside is what counts.
    packed::FORMAT,
];

/// A format of saved states.
pub struct StateFormat {
    /// Its name.
    pub name: &'static str,
    /// Whether a state that its own product wrote has been read. What is not is built from published layouts alone.
    pub is_verified: bool,
    /// What the files may be called that keep its memory beside it; a star stands for its own name without its ending.
    beside: &'static [&'static str],
    recognise: fn(&Looked<'_>) -> Result<Option<Signs>>,
    read: fn(&Reading<'_>, &mut Pieces<'_, '_>) -> Result<()>,
}

/// What a saved state means for its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateMeaning {
    /// The machine can go on from it: it is suspended, and its disks must stay as they are.
    Suspended,
    /// It was being written, or writing it was broken off. Whoever wrote it may go on, so its disks must stay all the same.
    Unfinished,
    /// A copy of the memory for people who look for faults: nothing goes on from it.
    Dump,
}

/// By what a file shows that it is a saved state, as a fact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StateEvidence {
    /// The format's name.
    pub format: String,
    /// What stands there, spelled out.
    pub magic: String,
    /// Where it stands.
    pub offset: u64,
    /// What that means.
    pub meaning: StateMeaning,
    /// Whether a state of this format that its own product wrote has been read.
    pub verified: bool,
    /// What else the head of the file says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub says: Vec<String>,
}

/// What a format saw.
struct Signs {
    magic: String,
    offset: u64,
    meaning: StateMeaning,
    says: Vec<String>,
}

impl Signs {
    fn new(magic: impl Into<String>, offset: u64, meaning: StateMeaning) -> Self {
        Self {
            magic: magic.into(),
            offset,
            meaning,
            says: Vec::new(),
        }
    }

    fn saying(mut self, what: impl Into<String>) -> Self {
        self.says.push(what.into());
        self
    }
}

/// What recognising looks at.
struct Looked<'a> {
    head: &'a [u8],
    source: &'a Arc<dyn Source>,
    /// The file's name, where it has one.
    name: &'a str,
}

impl Looked<'_> {
    fn extension(&self) -> String {
        let ending = Path::new(self.name).extension().unwrap_or_default();
        ending.to_string_lossy().to_ascii_lowercase()
    }

    fn starts_with(&self, magic: &[u8]) -> bool {
        self.head.starts_with(magic)
    }
}

/// What reading the memory goes by.
struct Reading<'a> {
    source: &'a Arc<dyn Source>,
    /// The first file that keeps its memory beside it.
    beside: Option<&'a Arc<dyn Source>>,
}

/// A file's name without its ending.
fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// A file that was recognised as a saved state.
pub struct SavedMemory {
    /// By what it was.
    pub evidence: StateEvidence,
    format: &'static StateFormat,
    source: Arc<dyn Source>,
    beside: Option<(String, Arc<dyn Source>)>,
}

fn looked_at(
    source: &Arc<dyn Source>,
    name: &str,
) -> Result<Option<(&'static StateFormat, StateEvidence)>> {
    let len = usize::try_from(source.len()).unwrap_or(usize::MAX);
    let head = read_vec_at(&**source, 0, len.min(HEAD))?;
    let looked = Looked {
        head: &head,
        source,
        name,
    };
    for format in STATE_FORMATS {
        if let Some(signs) = (format.recognise)(&looked)? {
            let evidence = StateEvidence {
                format: format.name.to_owned(),
                magic: signs.magic,
                offset: signs.offset,
                meaning: signs.meaning,
                verified: format.is_verified,
                says: signs.says,
            };
            return Ok(Some((format, evidence)));
        }
    }
    Ok(None)
}

/// What `source`, in a file of this name, shows itself to be; `None` when it is no saved state that is known. Its head is
/// read, and the description in front of libvirt's states: a few KiB, however large the machine.
///
/// # Errors
/// `Io` and `Cancelled`; `Corrupt` when it begins as a saved state and is cut off in its head.
pub fn recognise_state(source: &Arc<dyn Source>, name: &str) -> Result<Option<StateEvidence>> {
    Ok(looked_at(source, name)?.map(|(_, evidence)| evidence))
}

impl SavedMemory {
    /// The saved state in the file at `path`; `None` when it is none. Files that keep its memory beside it are opened
    /// through the gate.
    ///
    /// # Errors
    /// As [`recognise_state`], and what keeps a file from being opened.
    pub fn open(path: &Path, gate: &dyn Gate, meter: &Meter) -> Result<Option<Self>> {
        let host = HostFile::open(path)?;
        let source: Arc<dyn Source> = Arc::new(Metered::new(host, meter.clone()));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(mut state) = Self::of(source, &name)? else {
            return Ok(None);
        };
        for pattern in state.format.beside {
            let name = pattern.replace('*', stem(&name));
            let beside = path.with_file_name(&name);
            if beside == path || !beside.is_file() {
                continue;
            }
            let permitted = gate.permit(&Reference {
                from: path,
                role: Role::SavedState,
                path: &beside,
            })?;
            let host = HostFile::open(&permitted)?;
            state.beside = Some((name, Arc::new(Metered::new(host, meter.clone()))));
            break;
        }
        Ok(Some(state))
    }

    /// As [`SavedMemory::open`], with the bytes given and nothing beside them.
    ///
    /// # Errors
    /// As [`recognise_state`].
    pub fn of(source: Arc<dyn Source>, name: &str) -> Result<Option<Self>> {
        let found = looked_at(&source, name)?;
        Ok(found.map(|(format, evidence)| Self {
            evidence,
            format,
            source,
            beside: None,
        }))
    }

    /// The name of the file beside it that keeps its memory.
    #[must_use]
    pub fn companion(&self) -> Option<&str> {
        self.beside.as_ref().map(|(name, _)| name.as_str())
    }

    /// Hands all memory in it to `take`, in the order in which it is kept. A page that was sent again comes again: the
    /// last counts. What `take` returns as an error ends it.
    ///
    /// # Errors
    /// `Unsupported` by name for what this version does not read, `Corrupt` for what is cut off or contradicts itself,
    /// `Limit`; what was handed over before stays true.
    pub fn read(&self, take: &mut dyn FnMut(&Piece<'_>) -> Result<()>) -> Result<RamRead> {
        let mut pieces = Pieces::new(take);
        let reading = Reading {
            source: &self.source,
            beside: self.beside.as_ref().map(|(_, source)| source),
        };
        (self.format.read)(&reading, &mut pieces)?;
        Ok(pieces.finish())
    }
}

/// The memory of a state whose format is only recognised.
fn not_read(what: &str) -> Error {
    Error::unsupported(format!("memory in {what} is not read by this version"))
}
