//! The boot sector: the volume's geometry.

use dormouse_block::{Error, Result, Source, array_at, le_u16, le_u32, read_vec_at};

use super::wide;

/// Bytes of the boot sector that are read.
const SIZE: usize = 512;
/// Clusters above which a volume is not FAT12 (Linux: `MAX_FAT12`).
const MAX_FAT12: u32 = 0xFF4;
/// Clusters above which a volume is not FAT16.
const MAX_FAT16: u32 = 0xFFF4;
/// Clusters of a FAT32 volume at most.
const MAX_FAT32: u32 = 0x0FFF_FFF6;

/// Which table a volume has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Entries of 12 bits.
    Fat12,
    /// Entries of 16 bits.
    Fat16,
    /// Entries of 32 bits, of which 28 count.
    Fat32,
}

/// The boot sector, checked: its numbers fit together and the volume.
#[derive(Debug, Clone)]
pub struct Boot {
    /// Which table.
    pub kind: Kind,
    /// Bytes of a sector: 512, 1024, 2048 or 4096.
    pub sector: u32,
    /// Bytes of a cluster: a power of two of at most 1 MiB.
    pub cluster: u32,
    /// The byte at which each copy of the table begins, the first one of which is read.
    pub tables: Vec<u64>,
    /// Bytes of a table.
    pub table_bytes: u64,
    /// The byte at which the root directory begins, and its bytes; none with FAT32.
    pub root: (u64, u32),
    /// The first cluster of the root directory with FAT32, else 0.
    pub root_cluster: u32,
    /// The byte at which cluster 2 begins.
    pub data: u64,
    /// How many clusters there are; the last one is this plus 1.
    pub clusters: u32,
    /// Bytes of the whole filesystem.
    pub bytes: u64,
    /// The byte of the FSInfo sector, where there is one.
    pub info: Option<u64>,
    /// Byte 0x25 or 0x41: bit 0 says that the volume was not left clean.
    pub state: u8,
    /// The serial number, if there is one.
    pub serial: Option<u32>,
    /// The label in the boot sector, blanks cut off.
    pub label: Vec<u8>,
    /// The media descriptor, which the table repeats.
    pub media: u8,
}

fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}

/// Whether `volume` begins with a boot sector of FAT.
///
/// # Errors
/// Only when the volume cannot be read.
pub fn probe(volume: &dyn Source) -> Result<bool> {
    if volume.len() < wide(SIZE) {
        return Ok(false);
    }
    let bytes = read_vec_at(volume, 0, SIZE)?;
    let is = |at: usize, text: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(text));
    let sane = matches!(le_u16(&bytes, 11)?, 512 | 1024 | 2048 | 4096)
        && byte(&bytes, 13).is_power_of_two()
        && le_u16(&bytes, 14)? != 0
        && matches!(byte(&bytes, 16), 1 | 2)
        && (byte(&bytes, 21) == 0xF0 || byte(&bytes, 21) >= 0xF8);
    let named = is(82, b"FAT32   ")
        || [&b"FAT12   "[..], b"FAT16   ", b"FAT     "]
            .iter()
            .any(|name| is(54, name));
    let jumps = matches!(byte(&bytes, 0), 0xEB | 0xE9) && is(510, b"\x55\xAA");
    let other = is(3, b"NTFS") || is(54, b"HPFS") || is(3, b"EXFAT");
    let tables = le_u16(&bytes, 22)? != 0 || le_u32(&bytes, 36)? != 0;
    Ok(sane && tables && !other && (named || jumps))
}

impl Boot {
    /// Reads the boot sector of `volume`.
    ///
    /// # Errors
    /// `Corrupt` for one whose numbers do not fit together or the volume.
    pub fn read(volume: &dyn Source) -> Result<Self> {
        let bytes = read_vec_at(volume, 0, SIZE)?;
        let bad = |what: &'static str| Error::corrupt(what).at_offset(0);
        let sector = u32::from(le_u16(&bytes, 11)?);
        if !matches!(sector, 512 | 1024 | 2048 | 4096) {
            return Err(bad("bad size of sectors in the boot sector"));
        }
        let per = u32::from(byte(&bytes, 13));
        let cluster = sector.saturating_mul(per);
        if !per.is_power_of_two() || cluster > 1 << 20 {
            return Err(bad("bad size of clusters in the boot sector"));
        }
        let reserved = u64::from(le_u16(&bytes, 14)?);
        let copies = byte(&bytes, 16);
        if reserved == 0 || !(1..=4).contains(&copies) {
            return Err(bad("no table in the boot sector"));
        }
        let root_entries = u32::from(le_u16(&bytes, 17)?);
        let root_bytes = root_entries.saturating_mul(32).next_multiple_of(sector);
        let small = u32::from(le_u16(&bytes, 22)?);
        let wide_tables = small == 0;
        let table_sectors = if wide_tables {
            le_u32(&bytes, 36)?
        } else {
            small
        };
        let total = match le_u16(&bytes, 19)? {
            0 => le_u32(&bytes, 32)?,
            few => u32::from(few),
        };
        let size = u64::from(sector);
        let table_bytes = u64::from(table_sectors).saturating_mul(size);
        let first = reserved.saturating_mul(size);
        let root_at = first.saturating_add(table_bytes.saturating_mul(u64::from(copies)));
        let root_bytes = if wide_tables { 0 } else { root_bytes };
        let data = root_at.saturating_add(u64::from(root_bytes));
        let all = u64::from(total).saturating_mul(size);
        if table_sectors == 0 || data >= all {
            return Err(bad("tables larger than the volume in the boot sector"));
        }
        if all > volume.len() {
            return Err(Error::corrupt(format!(
                "a filesystem of {all} bytes on a volume of {}",
                volume.len()
            )));
        }
        let clusters = all.saturating_sub(data).checked_div(u64::from(cluster));
        let clusters = u32::try_from(clusters.unwrap_or(0)).unwrap_or(u32::MAX);
        let (kind, most, entries) = if wide_tables {
            (Kind::Fat32, MAX_FAT32, table_bytes / 4)
        } else if clusters > MAX_FAT12 {
            (Kind::Fat16, MAX_FAT16, table_bytes / 2)
        } else {
            (Kind::Fat12, MAX_FAT12, table_bytes.saturating_mul(2) / 3)
        };
        let entries = u32::try_from(entries.saturating_sub(2)).unwrap_or(u32::MAX);
        let clusters = clusters.min(entries);
        if clusters == 0 || clusters > most {
            return Err(bad("bad number of clusters in the boot sector"));
        }
        let (extended, state) = if wide_tables { (66, 0x41) } else { (38, 0x25) };
        let root_cluster = if wide_tables { le_u32(&bytes, 44)? } else { 0 };
        if wide_tables && (root_cluster < 2 || root_cluster.saturating_sub(2) >= clusters) {
            return Err(bad("the root directory lies outside the volume"));
        }
        let mut tables: Vec<u64> = (0..u64::from(copies))
            .map(|nth| first.saturating_add(table_bytes.saturating_mul(nth)))
            .collect();
        let flags = le_u16(&bytes, 40)?;
        if wide_tables && flags & 0x80 != 0 {
            // Only one copy is kept up.
            let active = tables.get(usize::from(flags & 0xF)).copied();
            tables = vec![active.ok_or_else(|| bad("the active table does not exist"))?];
        }
        let info = u64::from(le_u16(&bytes, 48)?);
        let signed = matches!(byte(&bytes, extended), 0x28 | 0x29);
        let label: [u8; 11] = array_at(&bytes, if wide_tables { 71 } else { 43 })?;
        Ok(Self {
            kind,
            sector,
            cluster,
            tables,
            table_bytes,
            root: (root_at, root_bytes),
            root_cluster,
            data,
            clusters,
            bytes: all,
            info: (wide_tables && info != 0 && info < reserved).then(|| info.saturating_mul(size)),
            state: byte(&bytes, state),
            serial: if signed {
                Some(le_u32(&bytes, extended.saturating_add(1))?)
            } else {
                None
            },
            label: if byte(&bytes, extended) == 0x29 {
                label.trim_ascii_end().to_vec()
            } else {
                Vec::new()
            },
            media: byte(&bytes, 21),
        })
    }

    /// The byte at which `cluster` begins.
    ///
    /// # Errors
    /// `Corrupt` for one that does not exist.
    pub fn place(&self, cluster: u32) -> Result<u64> {
        let nth = cluster
            .checked_sub(2)
            .filter(|nth| *nth < self.clusters)
            .ok_or_else(|| Error::corrupt(format!("there is no cluster {cluster}")))?;
        let at = u64::from(nth).saturating_mul(u64::from(self.cluster));
        Ok(self.data.saturating_add(at))
    }

    /// Bytes of a cluster, as the length of a buffer.
    #[must_use]
    pub fn cluster_len(&self) -> usize {
        super::index(self.cluster)
    }
}
