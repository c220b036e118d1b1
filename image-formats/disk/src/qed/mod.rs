//! QED, QEMU's format between qcow2's versions 2 and 3, after `docs/interop/qed_spec.rst`.
//!
//! Read: all cluster and table sizes, zero clusters, backing files. Unknown incompatible features are refused.

use std::sync::Arc;

use dormouse_block::{Error, Result, Source, le_u32, le_u64, read_vec_at};

use crate::encryption::Sealed;
use crate::mapped::{Below, HostOffset, Mapped, Mapping, Stretch};
use crate::pages::Pages;
use crate::plain::Plain;
use crate::{Format, FormatName, Image, OpenFile, Opener, Probe, Role, State};

/// Bytes of the header's fields.
const HEADER: usize = 64;
/// "Must be a power of 2 in range [2^12, 2^26]."
const CLUSTERS: std::ops::RangeInclusive<u32> = (1 << 12)..=(1 << 26);
/// "Must be a power of 2 in range [1, 16]": clusters of a table.
const TABLES: std::ops::RangeInclusive<u32> = 1..=16;
/// QEMU's own limit on names.
const MAX_BACKING_NAME: u32 = 1023;
/// Features that a reader must know.
const BACKING: u64 = 1;
const NEED_CHECK: u64 = 1 << 1;
const BACKING_IS_RAW: u64 = 1 << 2;

/// The format.
pub(crate) struct Qed;

impl Format for Qed {
    fn name(&self) -> FormatName {
        FormatName::QED
    }

    fn probe(&self, probe: &Probe<'_>) -> bool {
        probe.starts_with_at(0, b"QED\0")
    }

    fn open(&self, file: OpenFile, opener: &mut Opener<'_>) -> Result<Box<dyn Image>> {
        let header = Header::read(&file.source)?;
        let mut chain = file.chain(FormatName::QED);
        let below = match &header.backing {
            Some(name) => {
                let format = header.raw_backing.then_some(FormatName::RAW);
                let image = opener.open_reference(&file, name, Role::Backing, format)?;
                chain.extend(image.chain());
                Some(image.below()?)
            }
            None => None,
        };
        let encrypted = chain.is_encrypted();
        let below = below
            .map(|below| below.open().map(Below::whole))
            .transpose();
        let state = State {
            dirty: header.dirty,
            ..State::default()
        };
        let tables = header.tables;
        let disk = below.map(|below| {
            let disk = Mapped::new(
                file.path().display().to_string(),
                file.source.clone(),
                header.size,
                Box::new(move |offset, limit| tables.locate(offset, limit)),
                below,
            );
            Arc::new(disk) as Arc<dyn Source>
        });
        let disk = Sealed::new(disk, encrypted)?;
        let image = Plain::sealed(FormatName::QED, chain, header.size, disk);
        Ok(Box::new(image.state(state)))
    }
}

/// A validated header.
struct Header {
    tables: Tables,
    size: u64,
    backing: Option<Vec<u8>>,
    raw_backing: bool,
    dirty: bool,
}

impl Header {
    fn read(file: &Arc<dyn Source>) -> Result<Self> {
        let head = read_vec_at(&**file, 0, HEADER)
            .map_err(|_| Error::corrupt("the file ends within the QED header"))?;
        if !head.starts_with(b"QED\0") {
            return Err(Error::corrupt("not a QED header"));
        }
        let (cluster, table) = (le_u32(&head, 4)?, le_u32(&head, 8)?);
        if !CLUSTERS.contains(&cluster)
            || !cluster.is_power_of_two()
            || !TABLES.contains(&table)
            || !table.is_power_of_two()
        {
            return Err(Error::corrupt(format!(
                "clusters of {cluster} bytes and tables of {table} of them are impossible"
            )));
        }
        let features = le_u64(&head, 16)?;
        let unknown = features & !(BACKING | NEED_CHECK | BACKING_IS_RAW);
        if unknown != 0 {
            return Err(Error::unsupported(format!(
                "unknown incompatible QED feature {}",
                unknown.trailing_zeros()
            )));
        }
        let size = le_u64(&head, 48)?;
        if i64::try_from(size).is_err() {
            return Err(Error::limit(format!(
                "a disk of {size} bytes is larger than any host's files"
            )));
        }
        let cluster = u64::from(cluster);
        let tables = Tables {
            pages: Pages::new(file.clone()),
            cluster,
            entries: cluster.saturating_mul(u64::from(table)) / 8,
            l1: le_u64(&head, 40)?,
        };
        let most = tables.entries.saturating_mul(tables.table_covers());
        if size > most {
            return Err(Error::corrupt(format!(
                "tables of {} entries are too small for its {size} bytes",
                tables.entries
            )));
        }
        let backing = if features & BACKING == 0 {
            None
        } else {
            let (at, len) = (le_u32(&head, 56)?, le_u32(&head, 60)?);
            if len == 0 || len > MAX_BACKING_NAME {
                return Err(Error::corrupt(format!(
                    "a backing file name of {len} bytes is impossible"
                )));
            }
            let len = usize::try_from(len).unwrap_or(0);
            let name = read_vec_at(&**file, u64::from(at), len).map_err(|_| {
                Error::corrupt("the backing file name lies beyond the end of the file")
            })?;
            Some(name)
        };
        Ok(Self {
            tables,
            size,
            backing,
            raw_backing: features & BACKING_IS_RAW != 0,
            dirty: features & NEED_CHECK != 0,
        })
    }
}

/// Tables of two levels, of one size.
struct Tables {
    pages: Pages,
    cluster: u64,
    entries: u64,
    l1: u64,
}

impl Tables {
    fn table_covers(&self) -> u64 {
        self.entries.saturating_mul(self.cluster).max(1)
    }

    fn locate(&self, offset: u64, limit: u64) -> Result<Stretch> {
        let covers = self.table_covers();
        let (index, in_table) = (
            offset.checked_div(covers).unwrap_or(0),
            offset.checked_rem(covers).unwrap_or(0),
        );
        let table = u64::from_le_bytes(self.pages.entry(self.l1, index)?);
        if table == 0 {
            return Ok(Stretch {
                mapping: Mapping::Below,
                len: covers.saturating_sub(in_table).min(limit),
            });
        }
        let number = in_table.checked_div(self.cluster).unwrap_or(0);
        let within = in_table.checked_rem(self.cluster).unwrap_or(0);
        let most = within
            .saturating_add(limit)
            .div_ceil(self.cluster)
            .min(self.entries.saturating_sub(number));
        let (entry, same) = self.pages.repeated(table, number, most)?;
        let alike = same
            .saturating_mul(self.cluster)
            .saturating_sub(within)
            .min(limit);
        let (mapping, len) = match u64::from_le_bytes(entry) {
            0 => (Mapping::Below, alike),
            1 => (Mapping::Zero, alike),
            at if at.is_multiple_of(self.cluster) => (
                Mapping::Data(HostOffset(at.saturating_add(within))),
                self.cluster.saturating_sub(within).min(limit),
            ),
            at => {
                return Err(Error::corrupt(format!(
                    "a data cluster at {at:#x} is not on the cluster grid"
                ))
                .at_offset(offset));
            }
        };
        Ok(Stretch { mapping, len })
    }
}
