//! seSparse extents, ESXi's newer copy-on-write form, after QEMU's `block/vmdk.c`: nobody has published the format.

use std::sync::Arc;

use dormouse_block::{Error, Result, Source, le_u64, read_vec_at};

use super::{SECTOR, SparseExtent};
use crate::mapped::{HostOffset, Mapping, Stretch};
use crate::pages::Pages;

const MAGIC: u64 = 0xcafe_babe;
const VOLATILE_MAGIC: u64 = 0xcafe_cafe;
/// The only version, grain size and grain table size that are known, and the only ones that QEMU reads.
const VERSION: u64 = 0x2_0000_0001;
const GRAIN_SECTORS: u64 = 8;
const TABLE_SECTORS: u64 = 64;
const GRAIN: u64 = GRAIN_SECTORS * SECTOR;
const TABLE: u64 = TABLE_SECTORS * SECTOR;
const TABLE_ENTRIES: u64 = TABLE / 8;
/// Bytes of the disk that one table maps: 16 MiB.
const TABLE_COVERS: u64 = TABLE_ENTRIES * GRAIN;
/// The top half of a directory's entry that names a table; the other half is the table's number.
const TABLE_PRESENT: u64 = 0x1000_0000;
/// The top four bits of a table's entry.
const KIND_SHIFT: u32 = 60;

/// Reads the headers of `file` and gives its extent.
pub(super) fn open(file: &Arc<dyn Source>) -> Result<SparseExtent> {
    if file.len() < SECTOR {
        return Err(Error::corrupt("the file ends within the seSparse header"));
    }
    let head = read_vec_at(&**file, 0, 512)?;
    let field = |index: usize| le_u64(&head, index.saturating_mul(8));
    if field(0)? != MAGIC {
        return Err(Error::corrupt("not a seSparse extent"));
    }
    for (index, name, wanted) in [
        (1, "version", VERSION),
        (3, "grain size", GRAIN_SECTORS),
        (4, "grain table size", TABLE_SECTORS),
        (5, "flags", 0),
    ] {
        let found = field(index)?;
        if found != wanted {
            return Err(Error::unsupported(format!(
                "a seSparse extent of unknown {name} {found:#x}"
            )));
        }
    }
    if head
        .get(48..80)
        .is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0))
    {
        return Err(Error::unsupported(
            "a seSparse extent with reserved fields in use",
        ));
    }
    let place = |index: usize| -> Result<u64> {
        let sector = field(index)?;
        sector
            .checked_mul(SECTOR)
            .filter(|at| *at <= file.len())
            .ok_or_else(|| {
                Error::corrupt(format!(
                    "sector {sector} of the seSparse header lies beyond the end of the file"
                ))
            })
    };
    let volatile = place(10)?;
    if volatile.saturating_add(SECTOR) > file.len() {
        return Err(Error::corrupt("the file ends within the seSparse header").at_offset(volatile));
    }
    let volatile = read_vec_at(&**file, volatile, 512)?;
    if le_u64(&volatile, 0)? != VOLATILE_MAGIC {
        return Err(Error::corrupt("the volatile seSparse header is broken"));
    }
    if le_u64(&volatile, 24)? != 0 {
        return Err(Error::unsupported(
            "a seSparse extent with a journal that was not replayed; its host must open it once",
        ));
    }
    let capacity = field(2)?
        .checked_mul(SECTOR)
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| Error::limit("the extent is larger than any host's files"))?;
    let tables = Tables {
        directory: place(16)?,
        tables: place(18)?,
        grains: place(24)?,
        pages: Pages::new(file.clone()),
    };
    let entries = field(17)?.saturating_mul(SECTOR / 8);
    if entries < capacity.div_ceil(TABLE_COVERS) {
        return Err(Error::corrupt(format!(
            "a grain directory of {entries} entries is too small for its {capacity} bytes"
        )));
    }
    Ok(SparseExtent {
        len: capacity,
        dirty: false,
        locate: Box::new(move |offset, limit| tables.locate(offset, limit)),
    })
}

/// Where directory, tables and grains begin in the file, in bytes.
struct Tables {
    pages: Pages,
    directory: u64,
    tables: u64,
    grains: u64,
}

impl Tables {
    fn locate(&self, offset: u64, limit: u64) -> Result<Stretch> {
        let entry = u64::from_le_bytes(self.pages.entry(self.directory, offset / TABLE_COVERS)?);
        if entry == 0 {
            return Ok(Stretch {
                mapping: Mapping::Below,
                len: TABLE_COVERS
                    .saturating_sub(offset % TABLE_COVERS)
                    .min(limit),
            });
        }
        if entry >> 32 != TABLE_PRESENT {
            return Err(Error::corrupt(format!(
                "a grain directory entry of {entry:#x} is impossible"
            )));
        }
        let table = (entry & u64::from(u32::MAX))
            .checked_mul(TABLE)
            .and_then(|at| self.tables.checked_add(at))
            .ok_or_else(|| Error::corrupt("a grain table lies beyond every limit"))?;
        let index = (offset / GRAIN) % TABLE_ENTRIES;
        let within = offset % GRAIN;
        let most = within
            .saturating_add(limit)
            .div_ceil(GRAIN)
            .min(TABLE_ENTRIES.saturating_sub(index));
        let (entry, mut same) = self.pages.repeated(table, index, most)?;
        let entry = u64::from_le_bytes(entry);
        let mapping = match entry >> KIND_SHIFT {
            0 if entry == 0 => Mapping::Below,
            // Unmapped, or written with zeroes.
            1 | 2 => Mapping::Zero,
            3 => {
                // The number's lowest 12 bits stand above its other 48.
                let number =
                    ((entry & 0x0fff_0000_0000_0000) >> 48) | ((entry & 0xffff_ffff_ffff) << 12);
                let at = number
                    .checked_mul(GRAIN)
                    .and_then(|at| self.grains.checked_add(at))
                    .and_then(|at| at.checked_add(within))
                    .ok_or_else(|| Error::corrupt("a grain lies beyond every limit"))?;
                same = 1;
                Mapping::Data(HostOffset(at))
            }
            _ => {
                return Err(Error::corrupt(format!(
                    "a grain table entry of {entry:#x} is impossible"
                )));
            }
        };
        Ok(Stretch {
            mapping,
            len: same.saturating_mul(GRAIN).saturating_sub(within).min(limit),
        })
    }
}
