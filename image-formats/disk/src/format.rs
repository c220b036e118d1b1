//! The table of formats, and how an image is recognised.

use std::fmt;

use dormouse_block::{Error, Result, Source, read_vec_at};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::parallels::Parallels;
use crate::qcow::Qcow;
use crate::qcow2::Qcow2;
use crate::qed::Qed;
use crate::raw::Raw;
use crate::recognised::RECOGNISED;
use crate::vdi::Vdi;
use crate::vhd::Vhd;
use crate::vhdx::Vhdx;
use crate::vmdk::Vmdk;
use crate::{Image, OpenFile, Opener};

/// Every format that is read, in the order of probing. Raw comes last: it is what nothing else claims.
pub static FORMATS: &[&dyn Format] = &[
    &Qcow2, &Qcow, &Qed, &Vmdk, &Vhdx, &Vhd, &Vdi, &Parallels, &Raw,
];

/// A container format.
pub trait Format: Sync {
    /// Its name.
    fn name(&self) -> FormatName;

    /// Other names it goes by in image headers and machine descriptions, such as QEMU's `vpc` for VHD.
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether these bytes carry its magic.
    fn probe(&self, probe: &Probe<'_>) -> bool;

    /// Opens `file` as this format; references to other files are opened by `opener` alone.
    ///
    /// # Errors
    /// Whatever makes the image unreadable as a whole; what is broken in part fails when it is read.
    fn open(&self, file: OpenFile, opener: &mut Opener<'_>) -> Result<Box<dyn Image>>;
}

/// What recognising an image looks at.
#[derive(Debug, Clone, Copy)]
pub struct Probe<'a> {
    /// The first bytes, at most [`Probe::HEAD`].
    pub head: &'a [u8],
    /// The last bytes, at most [`Probe::TAIL`].
    pub tail: &'a [u8],
    /// The extension of the file's name in lower case, without the dot; empty when there is none.
    pub extension: &'a str,
}

impl Probe<'_> {
    /// Bytes read from the start: every known magic lies within them.
    pub const HEAD: usize = 4096;
    /// Bytes read from the end: a footer's sector.
    pub const TAIL: usize = 512;

    /// Whether `magic` stands at `offset` of the head.
    #[must_use]
    pub fn starts_with_at(&self, offset: usize, magic: &[u8]) -> bool {
        self.head
            .get(offset..)
            .is_some_and(|rest| rest.starts_with(magic))
    }
}

/// The name of a disk image format: `raw`, `qcow2`, ...
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FormatName(&'static str);

impl FormatName {
    /// Plain bytes.
    pub const RAW: Self = Self("raw");
    /// QEMU copy-on-write, versions 2 and 3.
    pub const QCOW2: Self = Self("qcow2");
    /// QEMU copy-on-write, version 1.
    pub const QCOW: Self = Self("qcow");
    /// VMware's disks.
    pub const VMDK: Self = Self("vmdk");
    /// Virtual PC's and Hyper-V's older disks.
    pub const VHD: Self = Self("vhd");
    /// Hyper-V's disks.
    pub const VHDX: Self = Self("vhdx");
    /// QEMU's enhanced disks.
    pub const QED: Self = Self("qed");
    /// Parallels' expandable disks.
    pub const PARALLELS: Self = Self("parallels");
    /// VirtualBox's disks.
    pub const VDI: Self = Self("vdi");

    /// The name as facts and flags spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// The format called `name`, of those that are read and those that are only recognised.
    ///
    /// # Errors
    /// `Unsupported` when there is none of that name.
    pub fn parse(name: &str) -> Result<Self> {
        let read = FORMATS
            .iter()
            .find(|format| format.name().as_str() == name || format.aliases().contains(&name))
            .map(|format| format.name());
        let known = || {
            RECOGNISED
                .iter()
                .find(|format| format.name == name || format.aliases.contains(&name))
                .map(|format| Self(format.name))
        };
        read.or_else(known)
            .ok_or_else(|| Error::unsupported(format!("no disk format is called {name:?}")))
    }
}

impl fmt::Display for FormatName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::str::FromStr for FormatName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::parse(name)
    }
}

impl Serialize for FormatName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for FormatName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).map_err(serde::de::Error::custom)
    }
}

/// The format of this name, ready to open.
pub(crate) fn format_named(name: FormatName) -> Result<&'static dyn Format> {
    FORMATS
        .iter()
        .copied()
        .find(|format| format.name() == name)
        .ok_or_else(|| not_read(name.as_str()))
}

fn not_read(name: &str) -> Error {
    Error::unsupported(format!("{name} images are not read by this version"))
}

/// Extensions by which people name plain disks. One that carries another format's header was written by its guest,
/// or misnamed; neither is followed without being told (CVE-2010-3851, CVE-2026-27211).
const RAW_EXTENSIONS: &[&str] = &["raw", "img"];

/// Recognises the format of `source`.
///
/// # Errors
/// `Unsupported` when it is a known format that is not read, `Denied` when a file named as a raw disk carries the
/// header of another format.
pub(crate) fn recognise(source: &dyn Source, extension: &str) -> Result<&'static dyn Format> {
    let len = usize::try_from(source.len()).unwrap_or(usize::MAX);
    let head = read_vec_at(source, 0, len.min(Probe::HEAD))?;
    let tail_len = len.min(Probe::TAIL);
    let tail_at = source
        .len()
        .saturating_sub(u64::try_from(tail_len).unwrap_or(0));
    let tail = read_vec_at(source, tail_at, tail_len)?;
    let extension = extension.to_ascii_lowercase();
    let probe = Probe {
        head: &head,
        tail: &tail,
        extension: &extension,
    };
    let named_raw = RAW_EXTENSIONS.contains(&extension.as_str());
    let refuse = |name: &str| {
        Error::denied(format!(
            "named as a raw disk but carries a {name} header; its format must be given"
        ))
    };
    if let Some(format) = FORMATS.iter().copied().find(|format| format.probe(&probe)) {
        if named_raw && format.name() != FormatName::RAW {
            return Err(refuse(format.name().as_str()));
        }
        // Raw claims everything, so what is merely recognised has its say before.
        if format.name() != FormatName::RAW {
            return Ok(format);
        }
    }
    match RECOGNISED.iter().find(|format| (format.probe)(&probe)) {
        Some(format) if named_raw => Err(refuse(format.name)),
        Some(format) => Err(not_read(format.name)),
        None => Ok(&Raw),
    }
}
