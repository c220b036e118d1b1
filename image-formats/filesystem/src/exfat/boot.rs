//! The boot region: the volume's geometry (section 3).

use dormouse_block::{Error, Result, Source, array_at, le_u16, le_u32, le_u64, read_vec_at};

use crate::fat::index;

/// Sectors of a boot region, the last one of which repeats the checksum of the others.
const REGION: u64 = 12;
/// Clusters at most (section 3.1.9).
const MAX_CLUSTERS: u32 = 0xFFFF_FFF5;
/// `VolumeFlags`: the volume was not left clean.
const DIRTY: u16 = 2;

/// The boot region, checked: its numbers fit together and the volume.
#[derive(Debug, Clone)]
pub(super) struct Boot {
    /// Bytes of a cluster.
    pub(super) cluster: u64,
    /// How many clusters there are; the first is 2.
    pub(super) clusters: u32,
    /// The byte at which the table begins, and its bytes.
    pub(super) table: (u64, u64),
    /// The byte at which cluster 2 begins.
    pub(super) heap: u64,
    /// First cluster of the root directory.
    pub(super) root: u32,
    /// The serial number.
    pub(super) serial: u32,
    /// Whether it was left with changes under way.
    pub(super) dirty: bool,
    /// Bytes of the whole filesystem.
    pub(super) bytes: u64,
}

impl Boot {
    /// Reads the boot region, or the copy behind it when its checksum is wrong.
    ///
    /// # Errors
    /// `Corrupt` when both are broken, `Unsupported` for TexFAT.
    pub(super) fn read(volume: &dyn Source) -> Result<Self> {
        let head = read_vec_at(volume, 0, 512)?;
        let [log] = array_at(&head, 108)?;
        let first = Self::region(volume, u32::from(log), 0);
        if first.is_ok() {
            return first;
        }
        // The first sector may be the broken one, so the copy is tried at each size of sectors.
        for log in 9..=12 {
            let copy = Self::region(volume, log, REGION);
            if copy.is_ok() {
                return copy;
            }
        }
        first
    }

    fn region(volume: &dyn Source, log: u32, at: u64) -> Result<Self> {
        let bad = |what: &'static str| Error::corrupt(what).at_offset(0);
        if !(9..=12).contains(&log) {
            return Err(bad("bad size of sectors in the boot sector"));
        }
        let sector = 1_u64 << log;
        let len = index(REGION.saturating_mul(sector));
        let bytes = read_vec_at(volume, at.saturating_mul(sector), len)?;
        if array_at::<8>(&bytes, 3)? != *b"EXFAT   "
            || u32::from(array_at::<1>(&bytes, 108)?[0]) != log
        {
            return Err(bad("no boot sector of exFAT"));
        }
        let sums = len.saturating_sub(index(sector));
        let (summed, sums) = bytes
            .split_at_checked(sums)
            .ok_or_else(|| bad("no checksum"))?;
        let mut sum = 0_u32;
        for (nth, byte) in summed.iter().enumerate() {
            // The flags and the percentage in use may change without it.
            if !matches!(nth, 106 | 107 | 112) {
                sum = sum.rotate_right(1).wrapping_add(u32::from(*byte));
            }
        }
        if sums.chunks_exact(4).any(|word| word != sum.to_le_bytes()) {
            return Err(bad("a boot region with a wrong checksum"));
        }
        let [per, tables] = array_at(&bytes, 109)?;
        match tables {
            1 => {}
            2 => return Err(Error::unsupported("exFAT with two tables (TexFAT)")),
            _ => return Err(bad("bad number of tables in the boot sector")),
        }
        let [revision] = array_at(&bytes, 105)?;
        if revision != 1 {
            return Err(Error::unsupported(format!("exFAT of revision {revision}")));
        }
        if u32::from(per).saturating_add(log) > 25 {
            return Err(bad("bad size of clusters in the boot sector"));
        }
        let cluster = sector << per;
        let whole = le_u64(&bytes, 72)?
            .checked_mul(sector)
            .ok_or_else(|| bad("bad size of the volume in the boot sector"))?;
        if whole > volume.len() {
            return Err(Error::corrupt(format!(
                "a filesystem of {whole} bytes on a volume of {}",
                volume.len()
            )));
        }
        let place = |at: usize| -> Result<u64> {
            Ok(u64::from(le_u32(&bytes, at)?).saturating_mul(sector))
        };
        let clusters = le_u32(&bytes, 92)?;
        let (table, table_bytes, heap) = (place(80)?, place(84)?, place(88)?);
        let root = le_u32(&bytes, 96)?;
        let needed = u64::from(clusters).saturating_add(2).saturating_mul(4);
        let end = heap.saturating_add(u64::from(clusters).saturating_mul(cluster));
        if clusters == 0
            || clusters > MAX_CLUSTERS
            || table_bytes < needed
            || table.saturating_add(table_bytes) > heap
            || end > whole
            || root.checked_sub(2).is_none_or(|nth| nth >= clusters)
        {
            return Err(bad("numbers in the boot sector that do not fit together"));
        }
        Ok(Self {
            cluster,
            clusters,
            table: (table, needed),
            heap,
            root,
            serial: le_u32(&bytes, 100)?,
            dirty: le_u16(&bytes, 106)? & DIRTY != 0,
            bytes: whole,
        })
    }

    /// The byte at which `cluster` begins.
    ///
    /// # Errors
    /// `Corrupt` for one that does not exist.
    pub(super) fn place(&self, cluster: u32) -> Result<u64> {
        let nth = cluster
            .checked_sub(2)
            .filter(|nth| *nth < self.clusters)
            .ok_or_else(|| Error::corrupt(format!("there is no cluster {cluster}")))?;
        let at = u64::from(nth).saturating_mul(self.cluster);
        Ok(self.heap.saturating_add(at))
    }

    /// Clusters that `bytes` take.
    pub(super) fn clusters_of(&self, bytes: u64) -> u64 {
        let whole = bytes.checked_div(self.cluster).unwrap_or(0);
        let rest = bytes.checked_rem(self.cluster).unwrap_or(0);
        whole.saturating_add(u64::from(rest > 0))
    }
}
