//! Sparse extents with tables of 32-bit sector numbers: the hosted form (`KDMV`), plain or compressed as a stream, and
//! ESXi's older copy-on-write form (`COWD`).

use std::sync::Arc;

use dormouse_block::{Error, Result, Source, array_at, le_u16, le_u32, le_u64, read_vec_at};

use super::{SECTOR, SparseExtent};
use crate::mapped::{HostOffset, Mapping, Packed, Stretch};
use crate::pages::Pages;

/// Sectors of a grain: 2 MiB; VMware's own are 64 KiB, ESXi's 512 bytes to 64 KiB.
const MAX_GRAIN_SECTORS: u64 = 4096;
/// Entries of a grain table in the hosted form, QEMU's own limit and VMware's only value.
const MAX_TABLE_ENTRIES: u32 = 512;
/// Entries of a grain table in the `COWD` form.
const COWD_TABLE_ENTRIES: u64 = 4096;
/// Entries of a grain directory: 32 MiB of them, QEMU's own limit (`l1_size`).
const MAX_DIRECTORY: u64 = (32 << 20) / 4;
/// `gdOffset` of a stream: the directory's place stands in a footer.
const AT_END: u64 = u64::MAX;
/// Bit 2 of the flags: an entry of 1 is a grain of zeroes.
const ZEROED_GRAINS: u32 = 1 << 2;
/// Bit 16: grains are compressed.
const COMPRESSED: u32 = 1 << 16;
/// Bit 17: each compressed grain is preceded by a marker with its length.
const MARKERS: u32 = 1 << 17;
/// `compressAlgorithm`: deflate with a zlib header.
const DEFLATE: u16 = 1;
/// Types of markers without data.
const END_OF_STREAM: u32 = 0;
const FOOTER: u32 = 3;
/// A grain's marker: its first sector and the length of its data, which follow at once.
const GRAIN_MARKER: u64 = 12;

/// A validated header of the hosted form (Virtual Disk Format 5.0, "Hosted Sparse Extent Header").
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// Sectors of the extent; 0 when the embedded descriptor describes a disk of other files.
    pub(super) capacity: u64,
    /// Sectors of a grain, a power of two.
    grain: u64,
    /// Entries of a grain table.
    table_entries: u64,
    /// Sector of the grain directory.
    directory: u64,
    /// Sector and length in sectors of the embedded descriptor; 0 when there is none.
    pub(super) descriptor: (u64, u64),
    zeroed_grains: bool,
    /// Whether grains are compressed, and then whether they have markers.
    compressed: Option<bool>,
    unclean: bool,
}

impl Header {
    /// Reads the header of `file`, and the footer that replaces it in a stream.
    pub(super) fn read(file: &dyn Source) -> Result<Self> {
        let head = sector(file, 0)?;
        let header = Self::parse(&head)?;
        if header.directory != AT_END {
            return Ok(header);
        }
        // A marker, the footer, and the marker of the end, each in a sector of its own.
        let at = (file.len() / SECTOR)
            .checked_sub(3)
            .and_then(|sectors| sectors.checked_mul(SECTOR))
            .ok_or_else(|| Error::corrupt("the file ends within the VMDK footer"))?;
        let wrong =
            || Error::corrupt("there is no VMDK footer where the stream ends").at_offset(at);
        let (marker, end) = (
            sector(file, at)?,
            sector(file, at.saturating_add(2 * SECTOR))?,
        );
        if (le_u32(&marker, 8)?, le_u32(&marker, 12)?) != (0, FOOTER)
            || (le_u64(&end, 0)?, le_u32(&end, 8)?, le_u32(&end, 12)?) != (0, 0, END_OF_STREAM)
        {
            return Err(wrong());
        }
        let footer = Self::parse(&sector(file, at.saturating_add(SECTOR))?)
            .map_err(|error| error.at_offset(at.saturating_add(SECTOR)))?;
        if footer.directory == AT_END {
            return Err(wrong());
        }
        Ok(Self {
            // QEMU and VMware leave the descriptor to the header.
            descriptor: header.descriptor,
            ..footer
        })
    }

    fn parse(head: &[u8]) -> Result<Self> {
        if array_at::<4>(head, 0)? != *b"KDMV" {
            return Err(Error::corrupt("not a sparse VMDK extent"));
        }
        let version = le_u32(head, 4)?;
        if !matches!(version, 1..=3) {
            return Err(Error::unsupported(format!(
                "a sparse VMDK extent of unknown version {version}"
            )));
        }
        let flags = le_u32(head, 8)?;
        let header = Self {
            capacity: le_u64(head, 12)?,
            grain: le_u64(head, 20)?,
            descriptor: (le_u64(head, 28)?, le_u64(head, 36)?),
            table_entries: u64::from(le_u32(head, 44)?),
            directory: le_u64(head, 56)?,
            unclean: head.get(72).is_some_and(|byte| *byte != 0),
            zeroed_grains: flags & ZEROED_GRAINS != 0,
            compressed: (flags & COMPRESSED != 0).then_some(flags & MARKERS != 0),
        };
        // Transfers in text mode change these; a file that went through one is lost.
        let check: [u8; 4] = array_at(head, 73)?;
        if flags & 1 != 0 && check != *b"\n \r\n" {
            return Err(Error::corrupt(
                "the header went through a transfer that changes line ends",
            ));
        }
        match (header.compressed, le_u16(head, 77)?) {
            (None, _) | (Some(_), DEFLATE) => {}
            (Some(_), kind) => {
                return Err(Error::unsupported(format!(
                    "grains compressed in unknown way {kind}"
                )));
            }
        }
        if header.capacity == 0 {
            return Ok(header);
        }
        if header.table_entries == 0 || header.table_entries > u64::from(MAX_TABLE_ENTRIES) {
            return Err(Error::corrupt(format!(
                "a grain table of {} entries is impossible",
                header.table_entries
            )));
        }
        check_grain(header.grain)?;
        Ok(header)
    }

    /// Whether holes may show what a parent holds: a stream stands alone.
    pub(super) fn is_stream(&self) -> bool {
        self.compressed.is_some()
    }

    /// The extent that the header describes.
    pub(super) fn extent(self, file: Arc<dyn Source>) -> Result<SparseExtent> {
        let grains = Grains {
            grain: bytes(self.grain)?,
            table_entries: self.table_entries,
            directory: bytes(self.directory)?,
            capacity: bytes(self.capacity)?,
            zeroed_grains: self.zeroed_grains,
            compressed: self.compressed,
            pages: Pages::new(file.clone()),
            file,
        };
        grains.check()?;
        Ok(SparseExtent {
            len: grains.capacity,
            dirty: self.unclean,
            locate: Box::new(move |offset, limit| grains.locate(offset, limit)),
        })
    }
}

/// Reads the header of ESXi's older form and gives its extent.
pub(super) fn cowd(file: Arc<dyn Source>) -> Result<SparseExtent> {
    let head = sector(&*file, 0)?;
    if array_at::<4>(&head, 0)? != *b"COWD" {
        return Err(Error::corrupt("not a COWD extent"));
    }
    let version = le_u32(&head, 4)?;
    if version != 1 {
        return Err(Error::unsupported(format!(
            "a COWD extent of unknown version {version}"
        )));
    }
    let grain = u64::from(le_u32(&head, 16)?);
    check_grain(grain)?;
    let grains = Grains {
        grain: bytes(grain)?,
        table_entries: COWD_TABLE_ENTRIES,
        directory: bytes(u64::from(le_u32(&head, 20)?))?,
        capacity: bytes(u64::from(le_u32(&head, 12)?))?,
        zeroed_grains: false,
        compressed: None,
        pages: Pages::new(file.clone()),
        file,
    };
    let entries = u64::from(le_u32(&head, 24)?);
    if entries < grains.directory_entries() {
        return Err(Error::corrupt(format!(
            "a grain directory of {entries} entries is too small for its {} bytes",
            grains.capacity
        )));
    }
    grains.check()?;
    Ok(SparseExtent {
        len: grains.capacity,
        dirty: false,
        locate: Box::new(move |offset, limit| grains.locate(offset, limit)),
    })
}

fn check_grain(sectors: u64) -> Result<()> {
    if sectors > MAX_GRAIN_SECTORS {
        return Err(Error::limit(format!(
            "grains of {sectors} sectors are larger than the {MAX_GRAIN_SECTORS} allowed"
        )));
    }
    if !sectors.is_power_of_two() {
        return Err(Error::corrupt(format!(
            "grains of {sectors} sectors are impossible"
        )));
    }
    Ok(())
}

fn sector(file: &dyn Source, at: u64) -> Result<Vec<u8>> {
    if at.checked_add(SECTOR).is_none_or(|end| end > file.len()) {
        return Err(Error::corrupt("the file ends within a VMDK header").at_offset(at));
    }
    read_vec_at(file, at, 512)
}

fn bytes(sectors: u64) -> Result<u64> {
    sectors
        .checked_mul(SECTOR)
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| Error::limit(format!("{sectors} sectors are more than any file has")))
}

/// The grain directory, its tables, and what their entries mean. All in bytes.
struct Grains {
    file: Arc<dyn Source>,
    pages: Pages,
    grain: u64,
    table_entries: u64,
    directory: u64,
    capacity: u64,
    zeroed_grains: bool,
    compressed: Option<bool>,
}

impl Grains {
    fn table_covers(&self) -> u64 {
        self.table_entries.saturating_mul(self.grain).max(1)
    }

    fn directory_entries(&self) -> u64 {
        self.capacity.div_ceil(self.table_covers())
    }

    fn check(&self) -> Result<()> {
        let entries = self.directory_entries();
        if entries > MAX_DIRECTORY {
            return Err(Error::limit(format!(
                "a grain directory of {entries} entries is larger than {MAX_DIRECTORY}"
            )));
        }
        let end = entries.saturating_mul(4).saturating_add(self.directory);
        if end > self.file.len() {
            return Err(Error::corrupt(format!(
                "the grain directory lies beyond the end of the file, which has {} bytes",
                self.file.len()
            ))
            .at_offset(self.directory));
        }
        Ok(())
    }

    fn locate(&self, offset: u64, limit: u64) -> Result<Stretch> {
        let covers = self.table_covers();
        let table_index = offset.checked_div(covers).unwrap_or(0);
        let table = u32::from_le_bytes(self.pages.entry(self.directory, table_index)?);
        if table == 0 {
            let within = offset.checked_rem(covers).unwrap_or(0);
            return Ok(Stretch {
                mapping: Mapping::Below,
                len: covers.saturating_sub(within).min(limit),
            });
        }
        let number = offset.checked_div(self.grain).unwrap_or(0);
        let within = offset.checked_rem(self.grain).unwrap_or(0);
        let index = number.checked_rem(self.table_entries).unwrap_or(0);
        let table = u64::from(table).saturating_mul(SECTOR);
        let most = within
            .saturating_add(limit)
            .div_ceil(self.grain)
            .min(self.table_entries.saturating_sub(index));
        let (entry, same) = self.pages.repeated(table, index, most)?;
        let entry = u32::from_le_bytes(entry);
        // Grains that are nowhere come together.
        let grains = if entry <= 1 { same } else { 1 };
        let len = grains
            .saturating_mul(self.grain)
            .saturating_sub(within)
            .min(limit);
        let at = u64::from(entry).saturating_mul(SECTOR);
        let mapping = match (entry, self.compressed) {
            (0, _) => Mapping::Below,
            (1, _) if self.zeroed_grains => Mapping::Zero,
            (_, None) => {
                let len = self.grain.saturating_sub(within).min(limit);
                let mapping = Mapping::Data(HostOffset(at.saturating_add(within)));
                return Ok(Stretch { mapping, len });
            }
            (_, Some(marked)) => {
                let start = offset.saturating_sub(within);
                let mapping = Mapping::Packed(self.packed(at, marked, start, within)?);
                let len = self.grain.saturating_sub(within).min(limit);
                return Ok(Stretch { mapping, len });
            }
        };
        Ok(Stretch { mapping, len })
    }

    /// The compressed grain at `at`, which begins at the guest's `start`.
    fn packed(&self, at: u64, marked: bool, start: u64, within: u64) -> Result<Packed> {
        // What cannot be compressed grows by a little; a grain that claims more is none.
        let most = self.grain.saturating_mul(2);
        let unit = self.grain.min(self.capacity.saturating_sub(start));
        let (at, len) = if marked {
            if at.saturating_add(GRAIN_MARKER) > self.file.len() {
                return Err(Error::corrupt(format!(
                    "the grain of guest byte {start} lies beyond the end of the file"
                ))
                .at_offset(at));
            }
            let marker = read_vec_at(&*self.file, at, 12)?;
            (
                at.saturating_add(GRAIN_MARKER),
                u64::from(le_u32(&marker, 8)?),
            )
        } else {
            (at, most)
        };
        if len == 0 || len > most {
            return Err(
                Error::corrupt(format!("a compressed grain of {len} bytes is impossible"))
                    .at_offset(at),
            );
        }
        Ok(Packed {
            at: HostOffset(at),
            len,
            unit: usize::try_from(unit).unwrap_or(0),
            within,
        })
    }
}
