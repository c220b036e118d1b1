//! The boot sector: the volume's geometry.

use dormouse_block::{Error, Result, Source, array_at, le_u16, le_u64, read_vec_at};

use crate::fat::{index, wide};

/// Bytes of the boot sector that are read.
const SIZE: usize = 512;
/// Bytes of the largest cluster (Windows 10 1709).
const MAX_CLUSTER: u64 = 2 << 20;
/// Bytes of the largest record of the file table that is known (4096 on disks with such sectors), with room.
const MAX_RECORD: u64 = 64 << 10;

/// The boot sector, checked: its numbers fit together and the volume.
#[derive(Debug, Clone)]
pub(super) struct Boot {
    /// Bytes of a cluster: a power of two of at most 2 MiB.
    pub(super) cluster: u64,
    /// How many clusters there are.
    pub(super) clusters: u64,
    /// Bytes of a record of the file table.
    pub(super) record: usize,
    /// Clusters at which the file table and the copy of its first records begin.
    pub(super) tables: [u64; 2],
    /// The serial number.
    pub(super) serial: u64,
    /// Bytes of the whole filesystem.
    pub(super) bytes: u64,
}

impl Boot {
    /// Reads the boot sector of `volume`.
    ///
    /// # Errors
    /// `Corrupt` for one whose numbers do not fit together or the volume.
    pub(super) fn read(volume: &dyn Source) -> Result<Self> {
        let bytes = read_vec_at(volume, 0, SIZE)?;
        let bad = |what: &'static str| Error::corrupt(what).at_offset(0);
        let sector = u64::from(le_u16(&bytes, 11)?);
        if !sector.is_power_of_two() || !(256..=4096).contains(&sector) {
            return Err(bad("bad size of sectors in the boot sector"));
        }
        let [per] = array_at(&bytes, 13)?;
        // Above 128 it is a negative power of two.
        let per = match per {
            1..=128 => u64::from(per),
            0xE0..=0xFF => 1 << (0x100_u32.saturating_sub(u32::from(per))),
            _ => 0,
        };
        let cluster = sector.saturating_mul(per);
        if !cluster.is_power_of_two() || cluster > MAX_CLUSTER {
            return Err(bad("bad size of clusters in the boot sector"));
        }
        let sectors = le_u64(&bytes, 40)?;
        let bytes_of_all = sectors
            .checked_mul(sector)
            .ok_or_else(|| bad("bad number of sectors in the boot sector"))?;
        if bytes_of_all > volume.len() {
            return Err(Error::corrupt(format!(
                "a filesystem of {bytes_of_all} bytes on a volume of {}",
                volume.len()
            )));
        }
        let clusters = bytes_of_all.checked_div(cluster).unwrap_or(0);
        let [per_record] = array_at(&bytes, 64)?;
        let record = match i8::from_le_bytes([per_record]) {
            few @ 1.. => cluster.saturating_mul(u64::from(few.unsigned_abs())),
            log @ -31..=-1 => 1 << log.unsigned_abs(),
            _ => 0,
        };
        if !record.is_power_of_two() || !(512..=MAX_RECORD).contains(&record) {
            return Err(bad("bad size of file records in the boot sector"));
        }
        let tables = [le_u64(&bytes, 48)?, le_u64(&bytes, 56)?];
        if tables.iter().all(|at| *at == 0 || *at >= clusters) {
            return Err(bad("the file table lies outside the volume"));
        }
        Ok(Self {
            cluster,
            clusters,
            record: index(record),
            tables,
            serial: le_u64(&bytes, 72)?,
            bytes: bytes_of_all,
        })
    }

    /// Bytes of a record of the file table.
    pub(super) fn record_bytes(&self) -> u64 {
        wide(self.record)
    }
}
