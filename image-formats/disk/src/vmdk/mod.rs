//! VMDK, after VMware's Virtual Disk Format 5.0 and, where that is silent, QEMU's `block/vmdk.c`.
//!
//! Read: monolithic and split disks, sparse and flat; streams (`streamOptimized`) with their directory in front or at the
//! end; ESXi's flat, copy-on-write (`COWD`) and seSparse extents; layers over a parent, which must have the content id
//! that the layer expects. Refused by name: raw device mappings, encrypted disks, an extent without its descriptor, and
//! seSparse extents with a journal to replay.

mod descriptor;
mod sesparse;
mod sparse;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{Error, HostFile, Result, Source, read_vec_at};

use self::descriptor::{Descriptor, ExtentLine, Kind, MAX_DESCRIPTOR};
use crate::decoder::Compression;
use crate::mapped::{Below, Concatenated, HostOffset, Locate, Mapped, Mapping, Stretch};
use crate::parents::candidates;
use crate::plain::Plain;
use crate::{ACTIVE, Chain, Format, FormatName, Image, OpenFile, Opener, Probe, Role, State};

/// Bytes of a sector, the unit of every field.
const SECTOR: u64 = 512;

/// The format.
pub(crate) struct Vmdk;

/// An extent whose sectors are mapped.
struct SparseExtent {
    /// Its bytes.
    len: u64,
    locate: Locate,
    /// It was not closed by its last writer.
    dirty: bool,
}

impl Format for Vmdk {
    fn name(&self) -> FormatName {
        FormatName::VMDK
    }

    fn probe(&self, probe: &Probe<'_>) -> bool {
        probe.starts_with_at(0, b"KDMV")
            || probe.starts_with_at(0, b"COWD")
            || probe.starts_with_at(0, &0xcafe_babe_u64.to_le_bytes())
            || is_descriptor(probe)
    }

    fn open(&self, file: OpenFile, opener: &mut Opener<'_>) -> Result<Box<dyn Image>> {
        let magic = read_vec_at(&*file.source, 0, if file.source.len() < 8 { 0 } else { 8 })?;
        if magic.starts_with(b"COWD") || magic == 0xcafe_babe_u64.to_le_bytes() {
            return Err(alone());
        }
        let chain = file.chain(FormatName::VMDK);
        if !magic.starts_with(b"KDMV") {
            if file.source.len() > MAX_DESCRIPTOR && !magic.starts_with(b"#") {
                return Err(Error::corrupt("neither a VMDK extent nor a descriptor"));
            }
            let text = text(&file, 0, file.source.len())?;
            return described(&file, &Descriptor::parse(&text)?, chain, opener);
        }
        let header = sparse::Header::read(&*file.source)?;
        let descriptor = match header.descriptor {
            (0, _) => None,
            (at, sectors) => {
                let at = at.saturating_mul(SECTOR);
                let text = text(&file, at, sectors.saturating_mul(SECTOR))?;
                // Extents of split disks have an empty place for one.
                let empty = text.first().is_none_or(|byte| *byte == 0);
                (!empty).then(|| Descriptor::parse(&text)).transpose()?
            }
        };
        let descriptor = match descriptor {
            Some(descriptor) if header.capacity == 0 => {
                return described(&file, &descriptor, chain, opener);
            }
            Some(descriptor) => Some(descriptor),
            None if header.is_stream() => None,
            None => return Err(alone()),
        };
        let parent = match &descriptor {
            Some(descriptor) => parent(&file, descriptor, opener)?,
            None => None,
        };
        let mut chain = chain;
        let below = parent.map(|(source, files)| {
            chain.extend(&files);
            Below::whole(source)
        });
        let extent = header.extent(file.source.clone())?;
        let state = State {
            dirty: extent.dirty,
            ..State::default()
        };
        let disk = mapped(&file, extent.len, extent.locate, below);
        let image = Plain::new(FormatName::VMDK, chain, disk).state(state);
        Ok(Box::new(match descriptor {
            Some(descriptor) => image.identifier(identifier(descriptor.cid)),
            None => image,
        }))
    }
}

/// A descriptor may begin with comments and blank lines before `version=` or its title.
fn is_descriptor(probe: &Probe<'_>) -> bool {
    if !matches!(probe.extension, "vmdk" | "" | "raw" | "img") {
        return false;
    }
    probe.starts_with_at(0, b"# Disk DescriptorFile")
        || (probe.head.starts_with(b"#")
            && probe
                .head
                .split(|&byte| byte == b'\n')
                .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
                .find(|line| !line.starts_with(b"#") && !line.is_empty())
                .is_some_and(|line| line.starts_with(b"version=")))
}

/// The files in which the VMDK described by `path` keeps its extents, if it is such a description. What cannot be read names
/// none.
pub(crate) fn extents_named(path: &Path) -> Vec<PathBuf> {
    let read = || -> Result<Vec<PathBuf>> {
        let file = HostFile::open(path)?;
        if file.len() > MAX_DESCRIPTOR {
            return Ok(Vec::new());
        }
        let len = usize::try_from(file.len()).unwrap_or(0);
        let text = read_vec_at(&file, 0, len)?;
        if !text.starts_with(b"#") {
            return Ok(Vec::new());
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        Ok(Descriptor::parse(&text)?
            .extents
            .iter()
            .filter_map(|line| line.file.as_deref())
            .map(|name| folder.join(OsStr::from_bytes(name)))
            .collect())
    };
    read().unwrap_or_default()
}

fn alone() -> Error {
    Error::unsupported(
        "a VMDK extent without its descriptor: the file that describes the disk must be opened",
    )
}

fn identifier(cid: u32) -> String {
    format!("{cid:08x}")
}

/// The descriptor's text in `file`.
fn text(file: &OpenFile, at: u64, len: u64) -> Result<Vec<u8>> {
    if len > MAX_DESCRIPTOR {
        return Err(Error::limit(format!(
            "a descriptor of {len} bytes is larger than {MAX_DESCRIPTOR}"
        )));
    }
    let len = usize::try_from(len).map_err(|_| Error::limit("the descriptor is too large"))?;
    read_vec_at(&*file.source, at, len)
}

fn mapped(file: &OpenFile, len: u64, locate: Locate, below: Option<Below>) -> Arc<dyn Source> {
    let name = file.path().display().to_string();
    let disk = Mapped::new(name, file.source.clone(), len, locate, below);
    Arc::new(disk.packed(file.units(Compression::Zlib)))
}

/// The disk that `descriptor`, which stands in `file`, puts together.
fn described(
    file: &OpenFile,
    descriptor: &Descriptor,
    mut chain: Chain,
    opener: &mut Opener<'_>,
) -> Result<Box<dyn Image>> {
    if descriptor.extents.is_empty() {
        return Err(Error::corrupt("the descriptor names no extents"));
    }
    let mut parts = Vec::new();
    let mut files = Vec::new();
    for line in &descriptor.extents {
        let part = match &line.file {
            Some(name) => {
                let part = opener.open_part(file, name, Role::Extent)?;
                let format = match line.kind {
                    Kind::Flat | Kind::Zero => FormatName::RAW,
                    _ => FormatName::VMDK,
                };
                chain.extend(&part.chain(format));
                Some(part)
            }
            None => None,
        };
        files.push((line, part));
    }
    let parent = parent(file, descriptor, opener)?;
    if let Some((_, files)) = &parent {
        chain.extend(files);
    }
    let (mut start, mut dirty) = (0_u64, false);
    for (line, part) in files {
        let below = parent
            .as_ref()
            .map(|(source, _)| Below::from(source.clone(), start));
        let (source, unclean) = extent(file, line, part, below)?;
        dirty |= unclean;
        start = start
            .checked_add(source.len())
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or_else(|| Error::limit("the extents are larger than any disk"))?;
        parts.push(source);
    }
    let only = if parts.len() == 1 { parts.pop() } else { None };
    let disk = match only {
        Some(only) => only,
        None => Arc::new(Concatenated::new(parts)?),
    };
    let state = State {
        dirty,
        ..State::default()
    };
    Ok(Box::new(
        Plain::new(FormatName::VMDK, chain, disk)
            .state(state)
            .identifier(identifier(descriptor.cid)),
    ))
}

/// One extent as a source of exactly the sectors that its line gives it, and whether it was left open.
fn extent(
    descriptor: &OpenFile,
    line: &ExtentLine,
    part: Option<OpenFile>,
    below: Option<Below>,
) -> Result<(Arc<dyn Source>, bool)> {
    let len = line
        .sectors
        .checked_mul(SECTOR)
        .filter(|len| i64::try_from(*len).is_ok())
        .ok_or_else(|| Error::limit("an extent is larger than any host's files"))?;
    let Some(part) = part else {
        // Zeroes hide what a parent has.
        let zeroes: Locate = Box::new(|_, limit| {
            Ok(Stretch {
                mapping: Mapping::Zero,
                len: limit,
            })
        });
        return Ok((mapped(descriptor, len, zeroes, None), false));
    };
    let of_file = |error: Error| error.in_file(part.path().display());
    let sparse = match line.kind {
        Kind::Flat | Kind::Zero => {
            let start = line
                .offset
                .checked_mul(SECTOR)
                .ok_or_else(|| Error::corrupt("an extent begins beyond every file"))?;
            let flat: Locate = Box::new(move |offset, limit| {
                let at = start.saturating_add(offset);
                Ok(Stretch {
                    mapping: Mapping::Data(HostOffset(at)),
                    len: limit,
                })
            });
            return Ok((mapped(&part, len, flat, None), false));
        }
        Kind::Sparse => sparse::Header::read(&*part.source)
            .and_then(|header| header.extent(part.source.clone())),
        Kind::Cowd => sparse::cowd(part.source.clone()),
        Kind::SeSparse => sesparse::open(&part.source),
    }
    .map_err(of_file)?;
    // Whole grains may reach beyond the extent, never end before it.
    if sparse.len < len {
        return Err(of_file(Error::corrupt(format!(
            "an extent of {} bytes stands where the descriptor has {len}",
            sparse.len
        ))));
    }
    Ok((mapped(&part, len, sparse.locate, below), sparse.dirty))
}

/// The disk that `descriptor` is a layer over.
fn parent(
    file: &OpenFile,
    descriptor: &Descriptor,
    opener: &mut Opener<'_>,
) -> Result<Option<(Arc<dyn Source>, Chain)>> {
    let Some((cid, name)) = &descriptor.parent else {
        return Ok(None);
    };
    let image = opener.open_any(file, &candidates(name), Role::Backing, FormatName::VMDK)?;
    let wanted = identifier(*cid);
    if image.identifier() != Some(&wanted) {
        return Err(Error::corrupt(format!(
            "its parent has the content id {}, not the {wanted} of when this layer was made: it was changed since",
            image.identifier().unwrap_or("none")
        )));
    }
    Ok(Some((image.open_point(ACTIVE)?, image.chain().clone())))
}
