//! The header and its extensions.

use dormouse_block::{
    Error, Result, Source, be_u32, be_u64, escape_terminal, read_vec_at, slice_at,
};

use crate::decoder::Compression;
use crate::encryption::LEGACY;

/// Smallest cluster: 512 bytes (`cluster_bits` "must not be less than 9").
const MIN_CLUSTER_BITS: u32 = 9;
/// Largest cluster: 2 MiB, QEMU's own limit (`MAX_CLUSTER_BITS`).
const MAX_CLUSTER_BITS: u32 = 21;
/// An L1 table of at most 32 MiB, QEMU's own limit (`QCOW_MAX_L1_SIZE`), in entries of 8 bytes.
pub(super) const MAX_L1_ENTRIES: u32 = (32 << 20) / 8;
/// "The maximum length of the backing file name is 1023 bytes."
const MAX_BACKING_NAME: u32 = 1023;
/// Bytes of header and extensions that are looked at; they "must fit in the first cluster", and QEMU writes a few
/// hundred. 64 KiB is its default cluster.
const MAX_HEADER_AREA: u64 = 64 << 10;
/// Length of a version 2 header; version 3 goes on from here.
const V2_LENGTH: u64 = 72;
/// Least length of a version 3 header.
const V3_LENGTH: u64 = 104;

const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXTENSION_FEATURE_NAMES: u32 = 0x6803_f857;
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;
const EXTENSION_BITMAPS: u32 = 0x2385_2875;
const EXTENSION_ENCRYPTION: u32 = 0x0537_be77;
/// Autoclear feature bit 0: the bitmaps are consistent with the data.
const BITMAPS: u64 = 1;
/// Clusters of 32 subclusters of a sector each are the smallest with extended L2 entries.
const MIN_EXTENDED_BITS: u32 = 14;

/// Where an L1 table lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct L1 {
    /// Host byte offset, aligned to a cluster.
    pub(super) offset: u64,
    /// Entries of 8 bytes, at most [`MAX_L1_ENTRIES`].
    pub(super) entries: u32,
}

/// The reference to a backing file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backing {
    /// The name's bytes, as they stand.
    pub(super) name: Vec<u8>,
    /// The format by QEMU's name, where the extension gives it.
    pub(super) format: Option<String>,
}

/// A validated header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// 2 or 3.
    pub(super) version: u32,
    /// log2 of the cluster size in bytes, 9 to 21.
    pub(super) cluster_bits: u32,
    /// Bytes of the active disk.
    pub(super) size: u64,
    /// The active L1 table.
    pub(super) l1: L1,
    /// The backing file, if there is one.
    pub(super) backing: Option<Backing>,
    /// Entries of the snapshot table, and its host offset.
    pub(super) snapshots: (u32, u64),
    /// Not closed: refcounts may be stale.
    pub(super) dirty: bool,
    /// Of compressed clusters.
    pub(super) compression: Compression,
    /// L2 entries are 16 bytes long and map subclusters.
    pub(super) extended_l2: bool,
    /// The name of the file in which data clusters lie, where they lie outside.
    pub(super) data_file: Option<Vec<u8>>,
    /// The directory of dirty bitmaps, where it is consistent.
    pub(super) bitmaps: Option<BitmapDirectory>,
    /// How data clusters are encrypted, if they are.
    pub(super) encryption: Option<Encryption>,
}

/// How data clusters are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encryption {
    /// AES with a password for a key.
    Legacy,
    /// By the LUKS header at this host offset, of so many bytes, its key slots included.
    Luks { offset: u64, len: u64 },
}

impl Encryption {
    /// What `method` of the header says, and the extension beside it.
    fn parse(method: u32, header: Option<(u64, u64)>) -> Result<Option<Self>> {
        match (method, header) {
            (0, None) => Ok(None),
            (1, None) => Ok(Some(Self::Legacy)),
            (2, Some((offset, len))) => Ok(Some(Self::Luks { offset, len })),
            (2, None) => Err(Error::corrupt(
                "it is encrypted with LUKS and does not say where the LUKS header lies",
            )),
            (0 | 1, Some(_)) => Err(Error::corrupt(
                "it has a LUKS header and is not encrypted with LUKS",
            )),
            (method, _) => Err(Error::unsupported(format!(
                "encrypted with unknown method {method}"
            ))),
        }
    }

    /// What it is called.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => LEGACY,
            Self::Luks { .. } => "LUKS",
        }
    }
}

/// Where the directory of bitmaps lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BitmapDirectory {
    /// Entries in it.
    pub(super) count: u32,
    /// Its bytes.
    pub(super) len: u64,
    /// Its host offset.
    pub(super) offset: u64,
}

impl Header {
    /// Bytes of a cluster.
    pub(super) fn cluster_size(&self) -> u64 {
        1_u64.checked_shl(self.cluster_bits).unwrap_or(0)
    }

    /// log2 of the entries of an L2 table: a table fills one cluster, an entry takes 8 bytes, an extended
    /// one 16.
    pub(super) fn l2_bits(&self) -> u32 {
        self.cluster_bits
            .saturating_sub(if self.extended_l2 { 4 } else { 3 })
    }

    /// L1 entries that `size` bytes need.
    pub(super) fn l1_entries_for(&self, size: u64) -> u64 {
        let covered = 1_u64
            .checked_shl(self.cluster_bits.saturating_add(self.l2_bits()))
            .unwrap_or(u64::MAX);
        size.div_ceil(covered)
    }

    /// Holds `l1` against the limits, the cluster grid, the file's length and the disk it must cover.
    pub(super) fn check_l1(&self, file: &dyn Source, l1: L1, size: u64, whose: &str) -> Result<()> {
        if l1.entries > MAX_L1_ENTRIES {
            return Err(Error::limit(format!(
                "the L1 table of {whose} has {} entries, more than {MAX_L1_ENTRIES}",
                l1.entries
            )));
        }
        if u64::from(l1.entries) < self.l1_entries_for(size) {
            return Err(Error::corrupt(format!(
                "the L1 table of {whose} is too small for its {size} bytes"
            )));
        }
        self.check_table(
            file,
            l1.offset,
            u64::from(l1.entries).saturating_mul(8),
            &format!("the L1 table of {whose}"),
        )
    }

    /// Holds a table's place against the cluster grid and the file's length.
    pub(super) fn check_table(
        &self,
        file: &dyn Source,
        offset: u64,
        len: u64,
        what: &str,
    ) -> Result<()> {
        let within = self.cluster_size().saturating_sub(1);
        if len > 0 && offset & within != 0 {
            return Err(
                Error::corrupt(format!("{what} does not begin at a cluster")).at_offset(offset),
            );
        }
        if offset.checked_add(len).is_none_or(|end| end > file.len()) {
            return Err(Error::corrupt(format!(
                "{what} lies beyond the end of the file, which has {} bytes",
                file.len()
            ))
            .at_offset(offset));
        }
        Ok(())
    }

    /// Reads and validates the header of `file`.
    pub(super) fn read(file: &dyn Source) -> Result<Self> {
        if file.len() < V2_LENGTH {
            return Err(Error::corrupt("the file ends within the qcow2 header"));
        }
        let area = usize::try_from(file.len().min(MAX_HEADER_AREA))
            .map_err(|_| Error::limit("the header is too large"))?;
        Self::parse(&read_vec_at(file, 0, area)?, file)
    }

    fn parse(head: &[u8], file: &dyn Source) -> Result<Self> {
        let version = be_u32(head, 4)?;
        if slice_at(head, 0, 4)? != b"QFI\xfb" || !matches!(version, 2 | 3) {
            return Err(Error::corrupt("not a qcow2 header of version 2 or 3"));
        }
        let cluster_bits = be_u32(head, 20)?;
        if cluster_bits > MAX_CLUSTER_BITS {
            return Err(Error::limit(format!(
                "clusters of 2^{cluster_bits} bytes are larger than the 2 MiB allowed"
            )));
        }
        if cluster_bits < MIN_CLUSTER_BITS {
            return Err(Error::corrupt(format!(
                "clusters of 2^{cluster_bits} bytes are smaller than 512"
            )));
        }
        let (incompatible, header_length) = if version == 2 {
            (0, V2_LENGTH)
        } else {
            (be_u64(head, 72)?, u64::from(be_u32(head, 100)?))
        };
        let cluster_size = 1_u64.checked_shl(cluster_bits).unwrap_or(0);
        if version == 3 {
            if header_length < V3_LENGTH || header_length > cluster_size {
                return Err(Error::corrupt(format!(
                    "a header of {header_length} bytes is impossible"
                )));
            }
            let refcount_order = be_u32(head, 96)?;
            if refcount_order > 6 {
                return Err(Error::corrupt(format!(
                    "reference counts of 2^{refcount_order} bits are wider than 64"
                )));
            }
        }
        let backing_offset = be_u64(head, 8)?;
        let backing_size = be_u32(head, 16)?;
        let extensions = Extensions::parse(head, header_length, cluster_size, backing_offset);
        check_features(incompatible, extensions.as_ref().ok())?;
        let extensions = extensions?;
        let data_file = match (incompatible & DATA_FILE != 0, extensions.data_file) {
            (false, _) => None,
            (true, Some(name)) => Some(name),
            (true, None) => {
                return Err(Error::unsupported(
                    "keeps its data in an external data file that it does not name",
                ));
            }
        };
        let extended_l2 = incompatible & EXTENDED_L2 != 0;
        if extended_l2 && cluster_bits < MIN_EXTENDED_BITS {
            return Err(Error::corrupt(format!(
                "clusters of 2^{cluster_bits} bytes are too small for subclusters"
            )));
        }
        let autoclear = if version == 3 { be_u64(head, 88)? } else { 0 };
        let encryption = Encryption::parse(be_u32(head, 32)?, extensions.encryption)?;
        let compression = if header_length > V3_LENGTH {
            head.get(104).copied().unwrap_or(0)
        } else {
            0
        };
        let compression = match (compression, incompatible & COMPRESSION != 0) {
            (0, false) => Compression::Deflate,
            (1, true) => Compression::Zstd,
            (0 | 1, _) => {
                return Err(Error::corrupt(
                    "the compression type and its feature bit contradict each other",
                ));
            }
            (kind, _) => {
                return Err(Error::unsupported(format!(
                    "clusters compressed in unknown way {kind}"
                )));
            }
        };
        let backing =
            backing_name(head, backing_offset, backing_size, cluster_size)?.map(|name| Backing {
                name,
                format: extensions.backing_format,
            });
        let header = Self {
            version,
            cluster_bits,
            size: be_u64(head, 24)?,
            l1: L1 {
                entries: be_u32(head, 36)?,
                offset: be_u64(head, 40)?,
            },
            backing,
            snapshots: (be_u32(head, 60)?, be_u64(head, 64)?),
            dirty: incompatible & DIRTY != 0,
            compression,
            extended_l2,
            data_file,
            bitmaps: extensions.bitmaps.filter(|_| autoclear & BITMAPS != 0),
            encryption,
        };
        if i64::try_from(header.size).is_err() {
            return Err(Error::limit(format!(
                "a disk of {} bytes is larger than any host's files",
                header.size
            )));
        }
        header.check_l1(file, header.l1, header.size, "the active state")?;
        if let Some(Encryption::Luks { offset, len }) = header.encryption {
            header.check_table(file, offset, len, "the LUKS header")?;
        }
        Ok(header)
    }
}

/// Refuses what an incompatible feature bit says we would misread.
fn check_features(incompatible: u64, extensions: Option<&Extensions>) -> Result<()> {
    let unknown = incompatible & !(DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2);
    if unknown != 0 {
        let bit = unknown.trailing_zeros();
        let name = extensions
            .and_then(|extensions| extensions.feature_names.iter().find(|(at, _)| *at == bit))
            .map_or_else(String::new, |(_, name)| format!(" ({name})"));
        return Err(Error::unsupported(format!(
            "unknown incompatible qcow2 feature {bit}{name}"
        )));
    }
    if incompatible & CORRUPT != 0 {
        return Err(Error::corrupt(
            "marked corrupt by the program that last wrote it",
        ));
    }
    Ok(())
}

fn backing_name(head: &[u8], offset: u64, size: u32, cluster_size: u64) -> Result<Option<Vec<u8>>> {
    if offset == 0 {
        return Ok(None);
    }
    if size == 0 || size > MAX_BACKING_NAME {
        return Err(Error::corrupt(format!(
            "a backing file name of {size} bytes is impossible"
        )));
    }
    if offset
        .checked_add(u64::from(size))
        .is_none_or(|end| end > cluster_size)
    {
        return Err(Error::corrupt(
            "the backing file name lies outside the header cluster",
        ));
    }
    let bounds = usize::try_from(offset).ok().zip(usize::try_from(size).ok());
    let (offset, size) =
        bounds.ok_or_else(|| Error::corrupt("the backing file name is nowhere"))?;
    slice_at(head, offset, size)
        .map(|name| Some(name.to_vec()))
        .map_err(|_| Error::corrupt("the file ends within the backing file name"))
}

/// What of the header extensions matters for reading.
#[derive(Debug, Default)]
struct Extensions {
    backing_format: Option<String>,
    /// Names of incompatible features by bit.
    feature_names: Vec<(u32, String)>,
    data_file: Option<Vec<u8>>,
    bitmaps: Option<BitmapDirectory>,
    /// Where the LUKS header lies, and its bytes.
    encryption: Option<(u64, u64)>,
}

impl Extensions {
    /// Extensions follow the header up to the backing file's name or the end of the first cluster.
    fn parse(head: &[u8], from: u64, cluster_size: u64, backing_offset: u64) -> Result<Self> {
        let mut found = Self::default();
        let end = if backing_offset == 0 {
            cluster_size
        } else {
            backing_offset.min(cluster_size)
        };
        let end = usize::try_from(end).unwrap_or(usize::MAX).min(head.len());
        let head = head.get(..end).unwrap_or_default();
        let mut at = usize::try_from(from).map_err(|_| Error::corrupt("the header is too long"))?;
        // Each step is at least 8 bytes within at most 64 KiB.
        while at.checked_add(8).is_some_and(|next| next <= head.len()) {
            let kind = be_u32(head, at)?;
            let len = usize::try_from(be_u32(head, at.saturating_add(4))?).unwrap_or(usize::MAX);
            if kind == EXTENSION_END {
                break;
            }
            let data = slice_at(head, at.saturating_add(8), len).map_err(|_| {
                Error::corrupt(format!(
                    "header extension {kind:#010x} of {len} bytes goes beyond the header cluster"
                ))
            })?;
            match kind {
                EXTENSION_BACKING_FORMAT => {
                    let name = data.split(|&byte| byte == 0).next().unwrap_or_default();
                    found.backing_format = Some(String::from_utf8_lossy(name).into_owned());
                }
                EXTENSION_FEATURE_NAMES => found.feature_names = feature_names(data),
                EXTENSION_DATA_FILE => found.data_file = Some(data.to_vec()),
                EXTENSION_BITMAPS => {
                    found.bitmaps = Some(BitmapDirectory {
                        count: be_u32(data, 0)?,
                        len: be_u64(data, 8)?,
                        offset: be_u64(data, 16)?,
                    });
                }
                EXTENSION_ENCRYPTION => {
                    found.encryption = Some((be_u64(data, 0)?, be_u64(data, 8)?));
                }
                // Whatever comes later: what of them changes how bytes are read also sets an
                // incompatible feature bit.
                _ => {}
            }
            at = len
                .checked_next_multiple_of(8)
                .and_then(|len| at.checked_add(8)?.checked_add(len))
                .ok_or_else(|| Error::corrupt("a header extension has an impossible length"))?;
        }
        Ok(found)
    }
}

/// Entries of 48 bytes: kind (0 is incompatible), bit, and 46 bytes of name padded with NUL.
fn feature_names(table: &[u8]) -> Vec<(u32, String)> {
    table
        .chunks_exact(48)
        .filter_map(|entry| {
            let (&[kind, bit], name) = entry.split_first_chunk::<2>()?;
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            let name = String::from_utf8_lossy(name);
            (kind == 0).then(|| (u32::from(bit), escape_terminal(&name).into_owned()))
        })
        .collect()
}
