//! Parallels' expandable disks (`.hds`, and `.hdd` files that are one), after QEMU's `docs/interop/parallels.txt`.
//!
//! Read: both versions, of a disk that is one file, and disks of several files that a `DiskDescriptor.xml` puts together, with
//! their snapshots. Bitmaps and other extensions are passed over.

mod descriptor;
mod folder;

use std::sync::Arc;

use dormouse_block::{Error, Result, Source, le_u32, le_u64, read_vec_at};

use crate::description::begins_with_element;
use crate::mapped::{HostOffset, Mapped, Mapping, Stretch};
use crate::pages::Pages;
use crate::plain::Plain;
pub(crate) use folder::images_named;

use crate::{Format, FormatName, Image, OpenFile, Opener, Probe, State};

/// The older version counts places in sectors, the newer in clusters.
const OLDER: &[u8; 16] = b"WithoutFreeSpace";
const NEWER: &[u8; 16] = b"WithouFreSpacExt";
/// What the description of a disk of several files is.
const ELEMENT: &str = "Parallels_disk_image";
/// Bytes of the header; the table follows.
const HEADER: u64 = 64;
/// Bytes of a sector, the unit of every field.
const SECTOR: u64 = 512;
/// Sectors of a cluster: 256 MiB; Parallels writes 1 MiB, or a track of 63 sectors.
const MAX_CLUSTER: u32 = (256 << 20) / 512;
/// A program has it open, or died so.
const IN_USE: u32 = 0x746f_6e59;

/// The format.
pub(crate) struct Parallels;

impl Format for Parallels {
    fn name(&self) -> FormatName {
        FormatName::PARALLELS
    }

    fn probe(&self, probe: &Probe<'_>) -> bool {
        probe.starts_with_at(0, OLDER)
            || probe.starts_with_at(0, NEWER)
            || begins_with_element(probe.head, ELEMENT)
    }

    fn open(&self, file: OpenFile, opener: &mut Opener<'_>) -> Result<Box<dyn Image>> {
        let head = read_vec_at(&*file.source, 0, Probe::HEAD.min(length(&*file.source)))?;
        if begins_with_element(&head, ELEMENT) {
            return folder::open(&file, opener);
        }
        let (table, size, in_use) = Table::read(&file.source)?;
        let disk = Mapped::new(
            file.path().display().to_string(),
            file.source.clone(),
            size,
            Box::new(move |offset, limit| table.locate(offset, limit)),
            None,
        );
        let state = State {
            dirty: in_use,
            ..State::default()
        };
        let chain = file.chain(FormatName::PARALLELS);
        let image = Plain::new(FormatName::PARALLELS, chain, Arc::new(disk));
        Ok(Box::new(image.state(state)))
    }
}

fn length(source: &dyn Source) -> usize {
    usize::try_from(source.len()).unwrap_or(usize::MAX)
}

/// The block allocation table.
struct Table {
    pages: Pages,
    /// Bytes of a cluster.
    cluster: u64,
    /// Bytes that an entry counts.
    unit: u64,
}

impl Table {
    /// Reads the header of `file`: the table, the disk's bytes, and whether it was left open.
    fn read(file: &Arc<dyn Source>) -> Result<(Self, u64, bool)> {
        let head = read_vec_at(&**file, 0, 64)
            .map_err(|_| Error::corrupt("the file ends within the Parallels header"))?;
        let newer = head.starts_with(NEWER);
        if !newer && !head.starts_with(OLDER) {
            return Err(Error::corrupt("not a Parallels header"));
        }
        let version = le_u32(&head, 16)?;
        if version != 2 {
            return Err(Error::unsupported(format!(
                "a Parallels disk of unknown version {version}"
            )));
        }
        let sectors = le_u32(&head, 28)?;
        if sectors == 0 || sectors > MAX_CLUSTER {
            return Err(Error::corrupt(format!(
                "clusters of {sectors} sectors are impossible"
            )));
        }
        let entries = u64::from(le_u32(&head, 32)?);
        let total = le_u64(&head, 36)?;
        // The older version has 32 bits for it, and anything behind them.
        let total = if newer {
            total
        } else {
            total & u64::from(u32::MAX)
        };
        let size = total
            .checked_mul(SECTOR)
            .filter(|size| i64::try_from(*size).is_ok())
            .ok_or_else(|| Error::limit("the disk is larger than any host's files"))?;
        let cluster = u64::from(sectors).saturating_mul(SECTOR);
        if entries.saturating_mul(cluster) < size {
            return Err(Error::corrupt(format!(
                "a table of {entries} entries is too small for its {size} bytes"
            )));
        }
        if HEADER.saturating_add(entries.saturating_mul(4)) > file.len() {
            return Err(Error::corrupt(
                "the block allocation table lies beyond the end of the file",
            ));
        }
        let table = Self {
            pages: Pages::new(file.clone()),
            cluster,
            unit: if newer { cluster } else { SECTOR },
        };
        Ok((table, size, le_u32(&head, 44)? == IN_USE))
    }

    fn locate(&self, offset: u64, limit: u64) -> Result<Stretch> {
        let number = offset.checked_div(self.cluster).unwrap_or(0);
        let within = offset.checked_rem(self.cluster).unwrap_or(0);
        let most = within.saturating_add(limit).div_ceil(self.cluster);
        let (entry, same) = self.pages.repeated(HEADER, number, most)?;
        let entry = u64::from(u32::from_le_bytes(entry));
        if entry == 0 {
            let len = same.saturating_mul(self.cluster).saturating_sub(within);
            return Ok(Stretch {
                mapping: Mapping::Below,
                len: len.min(limit),
            });
        }
        let at = entry.saturating_mul(self.unit).saturating_add(within);
        Ok(Stretch {
            mapping: Mapping::Data(HostOffset(at)),
            len: self.cluster.saturating_sub(within).min(limit),
        })
    }
}
