//! Whole images in the formats of other hypervisors: what a guest reads of an overlay, written into one new file.
//!
//! Each writer takes a source and its map of data, and writes the same bytes for the same disk: identifiers come from a
//! digest of what was written, and the one time that a format wants is passed in. Stretches of zeroes are left out.

mod pack;
mod raw;
mod target;
mod vhd;
mod vhdx;
mod vmdk;
mod walk;

use std::fs::File;
use std::path::Path;

use dormouse_block::{Error, Result, Source};
use dormouse_disk::FormatName;

pub(crate) use self::pack::Method;
pub use self::pack::{Pack, Spread, serially};
use self::target::Target;
pub(crate) use self::walk::is_zero;

/// The form of a whole image other than qcow2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// Plain bytes, with holes where there are zeroes.
    Raw,
    /// VMDK as a compressed stream (`streamOptimized`), as OVF packages carry it.
    Vmdk,
    /// VHD of which only blocks with data are there.
    VhdDynamic,
    /// VHD as plain bytes with a footer.
    VhdFixed,
    /// VHDX of which only blocks with data are there.
    Vhdx,
}

impl Container {
    /// The format that the file is to be opened as.
    #[must_use]
    pub fn format(self) -> FormatName {
        match self {
            Self::Raw => FormatName::RAW,
            Self::Vmdk => FormatName::VMDK,
            Self::VhdDynamic | Self::VhdFixed => FormatName::VHD,
            Self::Vhdx => FormatName::VHDX,
        }
    }
}

/// Writes all of `disk` into the empty `file`, called `path` in errors, and brings it to the host's disk. Gives the
/// file's bytes.
///
/// # Errors
/// `Limit` when the format cannot hold a disk of that size, `Io` when the host cannot write, and whatever reading the
/// disk returns.
pub(crate) fn write(
    disk: &dyn Source,
    container: Container,
    made: u64,
    file: File,
    path: &Path,
    spread: &Spread<'_>,
) -> Result<u64> {
    let mut target = Target::new(file, path.to_owned());
    match container {
        Container::Raw => raw::write(disk, &mut target)?,
        Container::Vmdk => vmdk::write(disk, &mut target, spread)?,
        Container::VhdDynamic => vhd::dynamic(disk, &mut target, made)?,
        Container::VhdFixed => vhd::fixed(disk, &mut target, made)?,
        Container::Vhdx => vhdx::write(disk, &mut target)?,
    }
    target.finish()
}

/// The disk's size in whole sectors, held against what the format allows.
fn size_of(disk: &dyn Source, most: u64, format: &str) -> Result<u64> {
    disk.len()
        .checked_next_multiple_of(512)
        .filter(|size| *size <= most)
        .ok_or_else(|| {
            Error::limit(format!(
                "a disk of {} bytes is larger than the {most} that {format} allows",
                disk.len()
            ))
        })
}
