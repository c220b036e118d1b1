//! VHD, after Microsoft's Virtual Hard Disk Image Format Specification 1.0 (2006).
//!
//! Read: fixed, dynamic and differencing disks. The parent is looked for by its locators, the relative one first, and
//! must have the id that the layer expects. A footer whose checksum is wrong is not believed; a dynamic disk's copy of
//! it in front is read in its place.

mod footer;

use std::sync::Arc;

use dormouse_block::{Error, Result, Source};

use self::footer::{Dynamic, FOOTER, Footer, Kind};
use crate::mapped::{Below, HostOffset, Locate, Mapped, Mapping, Stretch};
use crate::pages::Pages;
use crate::parents::candidates;
use crate::plain::Plain;
use crate::sectors::{BitOrder, run};
use crate::{ACTIVE, Format, FormatName, Image, OpenFile, Opener, Probe, Role, State};

/// Entry of a block that is not allocated.
const UNUSED: u32 = u32::MAX;
/// Bytes of a sector, the unit of the table and the bitmaps.
const SECTOR: u64 = 512;

/// The format.
pub(crate) struct Vhd;

impl Format for Vhd {
    fn name(&self) -> FormatName {
        FormatName::VHD
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["vpc"]
    }

    /// Dynamic disks carry a copy of the footer in front; fixed ones only the footer, which a guest could write.
    fn probe(&self, probe: &Probe<'_>) -> bool {
        probe.starts_with_at(0, b"conectix")
            || (probe.tail.starts_with(b"conectix")
                && matches!(probe.extension, "vhd" | "avhd" | "vpc"))
    }

    fn open(&self, file: OpenFile, opener: &mut Opener<'_>) -> Result<Box<dyn Image>> {
        let (footer, lost) = Footer::read(&*file.source)?;
        let mut chain = file.chain(FormatName::VHD);
        let (locate, below): (Locate, _) = match footer.kind {
            Kind::Fixed => {
                if footer.size > file.source.len().saturating_sub(FOOTER) {
                    return Err(Error::corrupt(format!(
                        "a fixed disk of {} bytes in a file of {}",
                        footer.size,
                        file.source.len()
                    )));
                }
                let locate: Locate = Box::new(|offset, limit| {
                    Ok(Stretch {
                        mapping: Mapping::Data(HostOffset(offset)),
                        len: limit,
                    })
                });
                (locate, None)
            }
            Kind::Dynamic | Kind::Differencing => {
                let header = Dynamic::read(&*file.source, footer.header)?;
                let below = if footer.kind == Kind::Differencing {
                    let parent = parent(&file, &header, opener)?;
                    chain.extend(parent.chain());
                    Some(Below::whole(parent.open_point(ACTIVE)?))
                } else {
                    None
                };
                let blocks = Blocks::new(&header, &footer, file.source.clone())?;
                let locate: Locate = Box::new(move |offset, limit| blocks.locate(offset, limit));
                (locate, below)
            }
        };
        let disk = Mapped::new(
            file.path().display().to_string(),
            file.source.clone(),
            footer.size,
            locate,
            below,
        );
        let state = State {
            dirty: lost,
            suspended: footer.suspended,
        };
        let image = Plain::new(FormatName::VHD, chain, Arc::new(disk));
        Ok(Box::new(image.state(state).identifier(hex(&footer.id))))
    }
}

fn hex(id: &[u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parent(file: &OpenFile, header: &Dynamic, opener: &mut Opener<'_>) -> Result<Box<dyn Image>> {
    let mut names = Vec::new();
    for name in header.names.iter().flat_map(|name| candidates(name)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let image = opener.open_any(file, &names, Role::Backing, FormatName::VHD)?;
    let wanted = hex(&header.parent);
    if image.identifier() != Some(&wanted) {
        return Err(Error::corrupt(format!(
            "its parent has the id {}, not the {wanted} that this layer was made on",
            image.identifier().unwrap_or("none")
        )));
    }
    Ok(image)
}

/// The block allocation table.
struct Blocks {
    pages: Pages,
    table: u64,
    block: u64,
    /// Bytes of the bitmap before a block's data.
    bitmap: u64,
    differencing: bool,
}

impl Blocks {
    fn new(header: &Dynamic, footer: &Footer, file: Arc<dyn Source>) -> Result<Self> {
        let block = u64::from(header.block);
        if u64::from(header.entries).saturating_mul(block) < footer.size {
            return Err(Error::corrupt(format!(
                "the block allocation table is too small for its {} bytes",
                footer.size
            )));
        }
        Ok(Self {
            pages: Pages::new(file),
            table: header.table,
            block,
            bitmap: header.bitmap(),
            differencing: footer.kind == Kind::Differencing,
        })
    }

    fn locate(&self, offset: u64, limit: u64) -> Result<Stretch> {
        let number = offset.checked_div(self.block).unwrap_or(0);
        let within = offset.checked_rem(self.block).unwrap_or(0);
        let rest = self.block.saturating_sub(within).min(limit);
        let most = within.saturating_add(limit).div_ceil(self.block);
        let (entry, same) = self.pages.repeated(self.table, number, most)?;
        let entry = u32::from_be_bytes(entry);
        if entry == UNUSED {
            let len = same.saturating_mul(self.block).saturating_sub(within);
            return Ok(Stretch {
                mapping: Mapping::Below,
                len: len.min(limit),
            });
        }
        let bitmap = u64::from(entry).saturating_mul(SECTOR);
        let data = bitmap.saturating_add(self.bitmap).saturating_add(within);
        let data = Mapping::Data(HostOffset(data));
        if !self.differencing {
            // Sectors that were never written are zeroes in the block itself.
            return Ok(Stretch {
                mapping: data,
                len: rest,
            });
        }
        let in_sector = within % SECTOR;
        let most = in_sector.saturating_add(rest).div_ceil(SECTOR);
        let (own, sectors) = run(
            &self.pages,
            bitmap,
            within / SECTOR,
            most,
            BitOrder::HighFirst,
        )?;
        let len = sectors.saturating_mul(SECTOR).saturating_sub(in_sector);
        Ok(Stretch {
            mapping: if own { data } else { Mapping::Below },
            len: len.min(rest),
        })
    }
}
