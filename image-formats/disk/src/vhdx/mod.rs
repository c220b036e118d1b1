//! VHDX, after Microsoft's [MS-VHDX].
//!
//! Read: fixed, dynamic and differencing disks, sectors of 512 and 4096 bytes. Headers, region tables and log entries are
//! believed only with their checksums. A log that was not written through is replayed in memory, and the image is told to
//! be dirty. A parent must have the content id (`DataWriteGuid`) that the layer expects.

mod guid;
mod header;
mod log;
mod metadata;

use std::sync::Arc;

use dormouse_block::{Error, Result, Source};

use self::header::{Header, Region, Regions};
use self::log::Replayed;
use self::metadata::{Metadata, Parent};
use crate::mapped::{Below, HostOffset, Mapped, Mapping, Stretch};
use crate::pages::Pages;
use crate::parents::candidates;
use crate::plain::Plain;
use crate::sectors::{BitOrder, run};
use crate::{ACTIVE, Format, FormatName, Image, OpenFile, Opener, Probe, Role, State};

/// Sectors that one sector bitmap of 1 MiB has bits for.
const CHUNK_SECTORS: u64 = 1 << 23;
/// Bits 20 to 63 of an entry: a host offset in MiB.
const OFFSET_MASK: u64 = !0xf_ffff;

/// The format.
pub(crate) struct Vhdx;

impl Format for Vhdx {
    fn name(&self) -> FormatName {
        FormatName::VHDX
    }

    fn probe(&self, probe: &Probe<'_>) -> bool {
        probe.starts_with_at(0, b"vhdxfile")
    }

    fn open(&self, file: OpenFile, opener: &mut Opener<'_>) -> Result<Box<dyn Image>> {
        let header = Header::read(&*file.source)?;
        let dirty = !header.log.is_nil();
        let source: Arc<dyn Source> = if dirty {
            let patches = log::replay(&*file.source, &header)?;
            Arc::new(Replayed::new(file.source.clone(), patches))
        } else {
            file.source.clone()
        };
        let regions = Regions::read(&*source)?;
        let metadata = Metadata::read(&*source, regions.metadata)?;
        let mut chain = file.chain(FormatName::VHDX);
        let below = match &metadata.parent {
            Some(parent) => {
                let image = open_parent(&file, parent, opener)?;
                chain.extend(image.chain());
                Some(Below::whole(image.open_point(ACTIVE)?))
            }
            None => None,
        };
        let blocks = Blocks::new(&metadata, regions.bat, source.clone())?;
        let disk = Mapped::new(
            file.path().display().to_string(),
            source,
            metadata.size,
            Box::new(move |offset, limit| blocks.locate(offset, limit)),
            below,
        );
        let state = State {
            dirty,
            ..State::default()
        };
        let image = Plain::new(FormatName::VHDX, chain, Arc::new(disk)).state(state);
        Ok(Box::new(image.identifier(header.data_write.to_string())))
    }
}

fn open_parent(
    file: &OpenFile,
    parent: &Parent,
    opener: &mut Opener<'_>,
) -> Result<Box<dyn Image>> {
    let mut names = Vec::new();
    for name in parent.names.iter().flat_map(|name| candidates(name)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let image = opener.open_any(file, &names, Role::Backing, FormatName::VHDX)?;
    let known = image
        .identifier()
        .is_some_and(|id| parent.linkages.iter().any(|linkage| linkage == id));
    if !known {
        return Err(Error::corrupt(format!(
            "its parent has the content id {}, not the {} that this layer was made on",
            image.identifier().unwrap_or("none"),
            parent.linkages.join(" or ")
        )));
    }
    Ok(image)
}

/// The block allocation table.
struct Blocks {
    pages: Pages,
    table: u64,
    block: u64,
    sector: u64,
    /// Blocks between one entry for a sector bitmap and the next.
    ratio: u64,
    differencing: bool,
}

impl Blocks {
    fn new(metadata: &Metadata, bat: Region, file: Arc<dyn Source>) -> Result<Self> {
        let ratio = CHUNK_SECTORS
            .saturating_mul(metadata.sector)
            .checked_div(metadata.block)
            .unwrap_or(1)
            .max(1);
        let blocks = metadata.size.div_ceil(metadata.block);
        let differencing = metadata.parent.is_some();
        let entries = if differencing {
            blocks
                .div_ceil(ratio)
                .saturating_mul(ratio.saturating_add(1))
        } else {
            let bitmaps = blocks.saturating_sub(1).checked_div(ratio).unwrap_or(0);
            blocks.saturating_add(bitmaps)
        };
        if entries.saturating_mul(8) > bat.len {
            return Err(Error::corrupt(format!(
                "the block allocation table of {} bytes is too small for the disk's {} bytes",
                bat.len, metadata.size
            )));
        }
        Ok(Self {
            pages: Pages::new(file),
            table: bat.offset,
            block: metadata.block,
            sector: metadata.sector,
            ratio,
            differencing,
        })
    }

    fn locate(&self, offset: u64, limit: u64) -> Result<Stretch> {
        let number = offset.checked_div(self.block).unwrap_or(0);
        let within = offset.checked_rem(self.block).unwrap_or(0);
        let chunk = number.checked_div(self.ratio).unwrap_or(0);
        let rest = self.block.saturating_sub(within).min(limit);
        // Entries are alike up to the next one for a sector bitmap.
        let in_chunk = number.checked_rem(self.ratio).unwrap_or(0);
        let most = within
            .saturating_add(limit)
            .div_ceil(self.block)
            .min(self.ratio.saturating_sub(in_chunk));
        let (entry, same) = self
            .pages
            .repeated(self.table, number.saturating_add(chunk), most)?;
        let entry = u64::from_le_bytes(entry);
        let alike = same
            .saturating_mul(self.block)
            .saturating_sub(within)
            .min(limit);
        let host = entry & OFFSET_MASK;
        let data = Mapping::Data(HostOffset(host.saturating_add(within)));
        let mapping = match entry & 7 {
            0 => {
                return Ok(Stretch {
                    mapping: Mapping::Below,
                    len: alike,
                });
            }
            // Undefined, zero, unmapped.
            1..=3 => {
                return Ok(Stretch {
                    mapping: Mapping::Zero,
                    len: alike,
                });
            }
            6 | 7 if host == 0 => {
                return Err(Error::corrupt("a block is present at no place").at_offset(offset));
            }
            6 => data,
            7 if self.differencing => return self.partial(number, within, rest, data),
            state => {
                return Err(
                    Error::corrupt(format!("a block in the impossible state {state}"))
                        .at_offset(offset),
                );
            }
        };
        Ok(Stretch { mapping, len: rest })
    }

    /// A stretch of a block of which the parent holds a part.
    fn partial(&self, number: u64, within: u64, rest: u64, data: Mapping) -> Result<Stretch> {
        let chunk = number.checked_div(self.ratio).unwrap_or(0);
        let index = chunk
            .saturating_mul(self.ratio.saturating_add(1))
            .saturating_add(self.ratio);
        let entry = u64::from_le_bytes(self.pages.entry(self.table, index)?);
        let bitmap = entry & OFFSET_MASK;
        if entry & 7 != 6 || bitmap == 0 {
            return Err(Error::corrupt(
                "a block is present in part and there is no bitmap that says which",
            ));
        }
        let in_chunk = number
            .checked_rem(self.ratio)
            .unwrap_or(0)
            .saturating_mul(self.block)
            .saturating_add(within);
        let (first, in_sector) = (
            in_chunk.checked_div(self.sector).unwrap_or(0),
            in_chunk.checked_rem(self.sector).unwrap_or(0),
        );
        let most = in_sector.saturating_add(rest).div_ceil(self.sector);
        let (own, sectors) = run(&self.pages, bitmap, first, most, BitOrder::LowFirst)?;
        let len = sectors
            .saturating_mul(self.sector)
            .saturating_sub(in_sector);
        Ok(Stretch {
            mapping: if own { data } else { Mapping::Below },
            len: len.min(rest),
        })
    }
}
