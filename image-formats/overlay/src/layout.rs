//! The fixed structures of the image that is written: header, reference counts (`docs/interop/qcow2.txt`).

use dormouse_block::{Error, Result};

/// log2 of the cluster size: 16 KiB. An injection touches thousands of scattered blocks of tables and folders, and each
/// costs a whole cluster; with QEMU's default of 64 KiB a patched server takes a third more than its payload.
pub(crate) const CLUSTER_BITS: u32 = 14;
/// Bytes of a cluster.
pub(crate) const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// A cluster as a length in memory.
pub(crate) const CLUSTER_LEN: usize = 1 << CLUSTER_BITS;
/// Entries of an L2 table, which fills one cluster.
pub(crate) const TABLE_ENTRIES: u64 = CLUSTER / 8;
/// Bytes of the disk that one L2 table maps: 32 MiB.
pub(crate) const TABLE_COVERS: u64 = TABLE_ENTRIES * CLUSTER;
/// QEMU's limit on the L1 table, in entries (32 MiB).
pub(crate) const MAX_L1: u64 = (32 << 20) / 8;
/// "The maximum length of the backing file name is 1023 bytes."
pub(crate) const MAX_BACKING_NAME: usize = 1023;
/// Bit 63 of an entry: exactly one reference, so it may be written in place.
pub(crate) const COPIED: u64 = 1 << 63;
/// Bit 62 of an L2 entry: compressed.
pub(crate) const COMPRESSED: u64 = 1 << 62;
/// Where the count of further sectors begins in a compressed cluster's entry, above the bits of its offset.
pub(crate) const SECTORS_SHIFT: u32 = 62 - (CLUSTER_BITS - 8);
/// Bit 0 of an L2 entry: reads as zeroes.
pub(crate) const ZERO: u64 = 1;
/// Bits 9 to 55: the host offset.
pub(crate) const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;

/// Reference counts in one block: 16 bits each.
const COUNTS_PER_BLOCK: u64 = CLUSTER / 2;

/// The base as the header names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backing {
    pub(crate) name: Vec<u8>,
    pub(crate) format: &'static str,
}

/// Where the complete image keeps its tables.
pub(crate) struct Header<'a> {
    pub(crate) size: u64,
    pub(crate) l1_entries: u32,
    pub(crate) l1_offset: u64,
    pub(crate) refcount_table: u64,
    pub(crate) refcount_clusters: u32,
    pub(crate) zstd: bool,
    pub(crate) backing: Option<&'a Backing>,
}

impl Header<'_> {
    /// The header cluster.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        const LENGTH: u32 = 112;
        const BACKING_FORMAT: u32 = 0xe279_2aca;
        let mut extensions = Vec::new();
        if let Some(backing) = self.backing {
            let len = u32::try_from(backing.format.len())
                .map_err(|_| Error::limit("the name of the base's format is too long"))?;
            extensions.extend(BACKING_FORMAT.to_be_bytes());
            extensions.extend(len.to_be_bytes());
            extensions.extend(backing.format.as_bytes());
            extensions.resize(extensions.len().next_multiple_of(8), 0);
        }
        // The end of the extensions.
        extensions.extend([0; 8]);
        let name = self.backing.map_or(&[][..], |backing| &backing.name);
        let name_offset = match self.backing {
            Some(_) => u64::from(LENGTH).saturating_add(
                u64::try_from(extensions.len())
                    .map_err(|_| Error::limit("the header is too long"))?,
            ),
            None => 0,
        };
        let name_len = u32::try_from(name.len())
            .map_err(|_| Error::limit("the path of the base is too long"))?;
        let mut out = Vec::new();
        out.extend(b"QFI\xfb");
        out.extend(3_u32.to_be_bytes());
        out.extend(name_offset.to_be_bytes());
        out.extend(name_len.to_be_bytes());
        out.extend(CLUSTER_BITS.to_be_bytes());
        out.extend(self.size.to_be_bytes());
        // No encryption.
        out.extend(0_u32.to_be_bytes());
        out.extend(self.l1_entries.to_be_bytes());
        out.extend(self.l1_offset.to_be_bytes());
        out.extend(self.refcount_table.to_be_bytes());
        out.extend(self.refcount_clusters.to_be_bytes());
        // No snapshots.
        out.extend([0; 12]);
        // Incompatible features: bit 3 says that the compression type is not zlib.
        out.extend((u64::from(self.zstd) << 3).to_be_bytes());
        // Compatible and autoclear features: none.
        out.extend([0; 16]);
        // Reference counts of 2^4 bits.
        out.extend(4_u32.to_be_bytes());
        out.extend(LENGTH.to_be_bytes());
        out.extend([u8::from(self.zstd), 0, 0, 0, 0, 0, 0, 0]);
        out.extend(extensions);
        out.extend(name);
        if out.len() > CLUSTER_LEN {
            return Err(Error::limit("the header is too long"));
        }
        out.resize(CLUSTER_LEN, 0);
        Ok(out)
    }
}

/// How many clusters the reference counts of `used` other clusters take, so that they count themselves too: blocks,
/// then table.
pub(crate) fn refcount_clusters(used: u64) -> (u64, u64) {
    let (mut blocks, mut table) = (0_u64, 0_u64);
    // Grows by ever less: a block counts 32768 clusters, a cluster of the table names 8192 blocks.
    loop {
        let total = used.saturating_add(blocks).saturating_add(table);
        let wanted = total.div_ceil(COUNTS_PER_BLOCK);
        let wanted_table = wanted.saturating_mul(8).div_ceil(CLUSTER).max(1);
        if (wanted, wanted_table) == (blocks, table) {
            return (blocks, table);
        }
        (blocks, table) = (wanted, wanted_table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_counts_count_themselves() {
        for used in (0..70_000).chain([1 << 20, 1 << 28, (1 << 28) + 32_766, 1 << 36]) {
            let (blocks, table) = refcount_clusters(used);
            let total = used + blocks + table;
            assert!(blocks * COUNTS_PER_BLOCK >= total, "{used}");
            assert!(
                (blocks - 1) * COUNTS_PER_BLOCK < total,
                "{used}: one block too many"
            );
            assert!(table * CLUSTER >= blocks * 8, "{used}");
        }
    }
}
