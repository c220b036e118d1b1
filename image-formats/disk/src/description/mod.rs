//! Descriptions of machines: what each product writes beside its disks.
//!
//! [`describe`] recognises a description by its content, never by its name, and gives a plain [`MachineDescription`]: the
//! machine's disks in the order in which its guest meets them, its snapshots, and the states saved of it. Nothing that a
//! description names is opened here, but the files that belong to it: VMware's snapshot list and OVF's manifest. Where a
//! name leads is found by [`locate`], through the caller's gate.
//!
//! Limits: a text of at most 16 MiB, 200,000 XML nodes, no document types and so no entities of anybody's own; 256 disks,
//! 4096 snapshots, 64 of them deep; 4096 members of an archive.

mod bus;
mod cloud_hypervisor;
mod libvirt;
mod manifest;
mod ova;
mod ovf;
mod proxmox;
mod saved;
mod tar;
mod virtualbox;
mod vmware;
pub(crate) mod xml;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{Error, ErrorKind, HostFile, Result, Source, read_vec_at};
use serde::{Deserialize, Serialize};

pub use manifest::{Algorithm, ManifestEntry};

use crate::open::resolve;
use crate::{FormatName, Gate, Reference, Role, Timestamp};

/// Bytes of a description's text.
const MAX_TEXT: u64 = 16 << 20;
/// Disks of one machine: more than any bus of any product has.
const MAX_DISKS: usize = 256;
/// Snapshots of one machine: VMware allows 32 in a row, VirtualBox 250.
const MAX_SNAPSHOTS: usize = 4096;
/// Bytes at the start of a file that tell what it is.
const HEAD: usize = 4096;

/// Every kind of description, in the order of asking.
static KINDS: &[&dyn Kind] = &[
    &saved::Saved,
    &ova::Ova,
    &libvirt::Libvirt,
    &virtualbox::VirtualBox,
    &ovf::Ovf,
    &vmware::Vmware,
    &proxmox::Proxmox,
    &cloud_hypervisor::CloudHypervisor,
];

/// Descriptions that are known by their first bytes and not read: what they are, and why they matter.
static NOT_READ: &[(&str, &[u8])] = &[
    // Hyper-V's own store of keys and values, in 4096-byte pages.
    ("a Hyper-V machine configuration", &[0x14, 0x20, 0x28, 0x01]),
];

/// A kind of description.
trait Kind: Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Whether a file that begins so is one.
    fn probe(&self, head: &[u8]) -> bool;

    /// Reads it.
    fn read(&self, file: &Described<'_>) -> Result<MachineDescription>;
}

/// A description that is being read.
struct Described<'a> {
    source: Arc<dyn Source>,
    path: &'a Path,
    gate: &'a dyn Gate,
    companions: RefCell<BTreeSet<PathBuf>>,
}

impl Described<'_> {
    /// All of it, as text. Bytes that are not UTF-8 are replaced: names that hold them lead nowhere, and are refused then.
    fn text(&self) -> Result<String> {
        text_of(&*self.source)
    }

    /// The file that is called as the description but ends in `ending`, if there is one.
    fn companion(&self, ending: &str) -> Result<Option<Arc<HostFile>>> {
        let Some(name) = self.path.with_extension(ending).file_name().map(|name| {
            use std::os::unix::ffi::OsStrExt;
            name.as_bytes().to_vec()
        }) else {
            return Ok(None);
        };
        self.beside(&name)
    }

    /// The file of this name beside the description, if there is one.
    fn beside(&self, name: &[u8]) -> Result<Option<Arc<HostFile>>> {
        let path = resolve(self.path, name, Role::Description)?;
        if !path.is_file() {
            return Ok(None);
        }
        let path = self.gate.permit(&Reference {
            from: self.path,
            role: Role::Description,
            path: &path,
        })?;
        let file = HostFile::open(&path)?;
        self.companions.borrow_mut().insert(path);
        Ok(Some(Arc::new(file)))
    }

    /// The names that the description's own file goes by without its ending.
    fn stem(&self) -> String {
        let stem = self.path.file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    }
}

fn text_of(source: &dyn Source) -> Result<String> {
    if source.len() > MAX_TEXT {
        return Err(Error::limit(format!(
            "a description of {} bytes is longer than the {MAX_TEXT} allowed",
            source.len()
        )));
    }
    let len = usize::try_from(source.len()).unwrap_or(usize::MAX);
    let bytes = read_vec_at(source, 0, len)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// What a description says of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MachineDescription {
    /// Who wrote it: `libvirt`, `libvirt-save`, `vmware`, `virtualbox`, `ovf`, `ova`, `proxmox`,
    /// `cloud-hypervisor`.
    pub kind: String,
    /// What people call the machine; control characters are spelled out.
    pub name: String,
    /// Its firmware: `bios` or `efi`, where it says.
    pub firmware: Option<String>,
    /// Bytes of its memory.
    pub memory: Option<u64>,
    /// Its disks, in the order in which the guest meets them; removable media are left out.
    pub disks: Vec<DescribedDisk>,
    /// Its snapshots, each after its parent.
    pub snapshots: Vec<DescribedSnapshot>,
    /// What was saved of the running machine: if there is anything, the active state is suspended.
    pub saved_states: Vec<SavedState>,
    /// Digests of its files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub manifest: Vec<ManifestEntry>,
    /// What is odd, or was not looked at and hides nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Files of the host that belong to the description and were found beside it.
    #[serde(skip)]
    pub companions: Vec<PathBuf>,
}

/// A disk of a described machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DescribedDisk {
    /// Bus, controller and unit: `virtio0:0`, `scsi0:1`.
    pub slot: String,
    /// What a Linux kernel calls it, where the description leaves no doubt: `vda`; old kernels call `sda` `hda`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Where its bytes are.
    pub place: DiskPlace,
    /// Its format, when the description says.
    pub format: Option<FormatName>,
    /// The snapshot inside the image that it is, for a disk at a snapshot of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
}

/// Where a described file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DiskPlace {
    /// In the first of these files that is there and may be opened.
    File(Vec<String>),
    /// Within the description itself.
    Member {
        /// What it is called there.
        name: String,
        /// Where it begins.
        offset: u64,
        /// Bytes.
        size: u64,
    },
    /// Where this version does not look, or not at all: why.
    Elsewhere(String),
}

/// A snapshot of a described machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DescribedSnapshot {
    /// Unique within the machine.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The id of the one before it.
    pub parent: Option<String>,
    /// When it was taken.
    pub created: Option<Timestamp>,
    /// The machine's disks as they were.
    pub disks: Vec<DescribedDisk>,
    /// What was saved of the running machine with it.
    pub saved_states: Vec<SavedState>,
}

/// Memory or devices of a running machine, saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SavedState {
    /// What it is, in words.
    pub what: String,
    /// Names of its file, the most faithful first; none when it is inside a disk or the description.
    pub names: Vec<String>,
}

/// What a file is, as far as descriptions of machines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DescriptionKind {
    /// A description of this kind, which [`describe`] reads.
    Read(&'static str),
    /// A description that this version does not read.
    NotRead(&'static str),
}

/// Whether a file that begins with `head` (4096 bytes are enough) describes a machine.
#[must_use]
pub fn description_kind(head: &[u8]) -> Option<DescriptionKind> {
    let read = KINDS.iter().find(|kind| kind.probe(head));
    let known = || NOT_READ.iter().find(|(_, magic)| head.starts_with(magic));
    read.map(|kind| DescriptionKind::Read(kind.name()))
        .or_else(|| known().map(|(name, _)| DescriptionKind::NotRead(name)))
}

/// Reads the description of a machine at `path`; `None` when it is none.
///
/// # Errors
/// `Io` when the host cannot read it; `Corrupt`, `Unsupported` and `Limit` as its kind says; `Denied` when a file that
/// belongs to it may not be opened.
pub fn describe(path: &Path, gate: &dyn Gate) -> Result<Option<MachineDescription>> {
    let source: Arc<dyn Source> = Arc::new(HostFile::open(path)?);
    describe_source(source, path, gate)
}

/// As [`describe`], with the bytes given.
///
/// # Errors
/// As [`describe`].
pub fn describe_source(
    source: Arc<dyn Source>,
    path: &Path,
    gate: &dyn Gate,
) -> Result<Option<MachineDescription>> {
    let len = usize::try_from(source.len()).unwrap_or(usize::MAX);
    let head = read_vec_at(&*source, 0, len.min(HEAD))?;
    let Some(kind) = KINDS.iter().find(|kind| kind.probe(&head)) else {
        return Ok(None);
    };
    let file = Described {
        source,
        path,
        gate,
        companions: RefCell::default(),
    };
    let mut read = kind
        .read(&file)
        .map_err(|error| error.in_file(path.display()))?;
    read.companions = file.companions.into_inner().into_iter().collect();
    read.kind = kind.name().to_owned();
    read.name = dormouse_block::escape_terminal(&read.name).into_owned();
    Ok(Some(read))
}

/// Where the first of `names` that may be opened and is there leads. A relative name is looked for beside `from`, and in
/// the gate's own folders; of a path of another machine, its last part is tried in the same places.
///
/// # Errors
/// `Denied` when none of them may be opened, `Corrupt` when none is there.
pub fn locate(from: &Path, names: &[String], role: Role, gate: &dyn Gate) -> Result<PathBuf> {
    let mut missing: Option<Error> = None;
    let mut note = |error: Error| match (&missing, error.kind()) {
        // The first name is the most faithful, so its refusal tells most; but a denial is more than an absence.
        (Some(first), ErrorKind::Denied) if first.kind() != ErrorKind::Denied => {
            missing = Some(error);
        }
        (Some(_), _) => {}
        (None, _) => missing = Some(error),
    };
    let ask = |path: &Path| {
        gate.permit(&Reference { from, role, path })
            .and_then(|path| {
                if path.is_file() || is_block_device(&path) {
                    Ok(path)
                } else {
                    Err(Error::corrupt(format!("its {} is no file", role.as_str()))
                        .in_file(path.display()))
                }
            })
    };
    for written in names {
        for name in crate::parents::candidates(written.as_bytes()) {
            match resolve(from, &name, role).and_then(|path| ask(&path)) {
                Ok(path) => return Ok(path),
                Err(error) => note(error),
            }
            let relative = Path::new(std::ffi::OsStr::new(
                std::str::from_utf8(&name).unwrap_or_default(),
            ));
            if relative.is_absolute() || name.is_empty() || name.contains(&0) {
                continue;
            }
            for folder in gate.folders() {
                if let Ok(path) = ask(&folder.join(relative)) {
                    return Ok(path);
                }
            }
        }
    }
    Err(missing
        .unwrap_or_else(|| Error::corrupt(format!("it does not name its {}", role.as_str()))))
}

fn is_block_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device())
}

/// Whether `head` begins, after blanks, comments and declarations of XML, with an element called `name` (with any prefix).
pub(crate) fn begins_with_element(head: &[u8], name: &str) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    // Most files are none of these: blanks beyond ASCII aside, they do not begin as one.
    if head
        .trim_ascii_start()
        .first()
        .is_none_or(|byte| *byte != b'<' && byte.is_ascii())
    {
        return false;
    }
    let text = String::from_utf8_lossy(head);
    let mut rest = text.trim_start();
    loop {
        let Some(after) = rest.strip_prefix('<') else {
            return false;
        };
        let end = if after.starts_with('?') {
            "?>"
        } else if after.starts_with("!--") {
            "-->"
        } else {
            let tag = after
                .split(|c: char| c.is_whitespace() || c == '>' || c == '/')
                .next()
                .unwrap_or_default();
            return tag.rsplit(':').next() == Some(name);
        };
        match after.split_once(end) {
            Some((_, after)) => rest = after.trim_start(),
            None => return false,
        }
    }
}

/// Holds a count against its limit.
fn at_most(count: usize, limit: usize, what: &str) -> Result<()> {
    if count > limit {
        return Err(Error::limit(format!("more than {limit} {what}")));
    }
    Ok(())
}

/// Spelled-out control characters, for names that people see.
fn shown(name: &str) -> String {
    dormouse_block::escape_terminal(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_known_among_bytes_of_any_kind() {
        for head in [
            &b"<domain type='kvm'>"[..],
            b"\xef\xbb\xbf <?xml version='1.0'?>\n<!-- x --> <domain>",
            b" \n\t<!-- \xff -->\n<domain/>",
        ] {
            assert!(begins_with_element(head, "domain"));
            assert!(!begins_with_element(head, "domstatus"));
        }
        for head in [&b""[..], b"\xef\xbb\xbf", b"domain", b"\0<domain>", b"<"] {
            assert!(!begins_with_element(head, "domain"), "{head:?}");
        }
        let kind = |head: &[u8]| match description_kind(head) {
            Some(DescriptionKind::Read(name)) => Some(name),
            _ => None,
        };
        let vmx = b".encoding = \"UTF-8\"\r\nx = \"\xff=\"\r\n Config.Version = \"8\"\r\n";
        assert_eq!(kind(vmx), Some("vmware"));
        let conf = b"#a: b\r\n\r\ncores: 2\r\nmemory: 512\r\nscsi0: local:100/a.raw\r\n[snap]\n";
        assert_eq!(kind(conf), Some("proxmox"));
        for byte in [0, b'=', b'\n', b'#', 0xff] {
            assert_eq!(kind(&[byte; HEAD]), None);
        }
    }
}
