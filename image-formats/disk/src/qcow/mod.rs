//! qcow, the first version of QEMU's format, after its `block/qcow.c`.
//!
//! Read: clusters of 512 bytes to 64 KiB, deflated clusters, backing files, AES encryption with a key.

use std::sync::Arc;

use dormouse_block::{Error, Result, Source, be_u32, be_u64, read_vec_at};

use crate::decoder::Compression;
use crate::encryption::{DataCipher, LEGACY, Sealed, locked};
use crate::mapped::{Below, HostOffset, Locate, Mapped, Mapping, Packed, Stretch};
use crate::pages::Pages;
use crate::plain::Plain;
use crate::{Format, FormatName, Image, OpenFile, Opener, Probe, Role};

/// Bytes of the header.
const HEADER: usize = 48;
/// QEMU's own limits on clusters and L2 tables.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=16;
const L2_BITS: std::ops::RangeInclusive<u32> = 6..=13;
/// An L1 table of at most 32 MiB, as in qcow2.
const MAX_L1_ENTRIES: u64 = (32 << 20) / 8;
/// QEMU's own limit.
const MAX_BACKING_NAME: u32 = 1023;
/// Bit 63 of an L2 entry: the cluster is compressed.
const COMPRESSED: u64 = 1 << 63;

/// The format.
pub(crate) struct Qcow;

impl Format for Qcow {
    fn name(&self) -> FormatName {
        FormatName::QCOW
    }

    fn probe(&self, probe: &Probe<'_>) -> bool {
        probe.starts_with_at(0, b"QFI\xfb\0\0\0\x01")
    }

    fn open(&self, file: OpenFile, opener: &mut Opener<'_>) -> Result<Box<dyn Image>> {
        let (tables, encrypted, backing) = Tables::read(&file.source)?;
        let mut chain = file.chain(FormatName::QCOW);
        if encrypted {
            chain = chain.encrypted(LEGACY);
        }
        let below = match backing {
            // The format has no word for the backing file's own: it is recognised, as QEMU does.
            Some(name) => {
                let image = opener.open_reference(&file, &name, Role::Backing, None)?;
                chain.extend(image.chain());
                Some(image.below()?)
            }
            None => None,
        };
        let size = tables.size;
        let path = file.path().display().to_string();
        let locate: Locate = Box::new(move |offset, limit| tables.locate(offset, limit));
        let cipher = encrypted
            .then(|| DataCipher::legacy(&*file.source, size, &locate, opener.keys()))
            .transpose()
            .map_err(|error| locked(&path, &error));
        let disk = cipher.and_then(|cipher| {
            let below = below.map(|below| below.open().map(Below::whole));
            let below = below.transpose()?;
            let disk = Mapped::new(path, file.source.clone(), size, locate, below)
                .packed(file.units(Compression::Deflate));
            Ok(Arc::new(disk.encrypted(cipher)) as Arc<dyn Source>)
        });
        let disk = Sealed::new(disk, chain.is_encrypted())?;
        Ok(Box::new(Plain::sealed(FormatName::QCOW, chain, size, disk)))
    }
}

/// The L1 table's place, and what L2 entries mean.
struct Tables {
    pages: Pages,
    file_len: u64,
    size: u64,
    cluster_bits: u32,
    l2_bits: u32,
    l1: u64,
}

impl Tables {
    /// Reads the header of `file`: the map, whether data are encrypted, and the name of the backing file.
    fn read(file: &Arc<dyn Source>) -> Result<(Self, bool, Option<Vec<u8>>)> {
        let head = read_vec_at(&**file, 0, HEADER)
            .map_err(|_| Error::corrupt("the file ends within the qcow header"))?;
        if !head.starts_with(b"QFI\xfb\0\0\0\x01") {
            return Err(Error::corrupt("not a qcow header of version 1"));
        }
        let encrypted = match be_u32(&head, 36)? {
            0 => false,
            1 => true,
            method => {
                return Err(Error::unsupported(format!(
                    "encrypted with unknown method {method}"
                )));
            }
        };
        let byte = |at: usize| u32::from(head.get(at).copied().unwrap_or(0));
        let (cluster_bits, l2_bits) = (byte(32), byte(33));
        if !CLUSTER_BITS.contains(&cluster_bits) || !L2_BITS.contains(&l2_bits) {
            return Err(Error::corrupt(format!(
                "clusters of 2^{cluster_bits} bytes and tables of 2^{l2_bits} entries are impossible"
            )));
        }
        let tables = Self {
            pages: Pages::new(file.clone()),
            file_len: file.len(),
            size: be_u64(&head, 24)?,
            cluster_bits,
            l2_bits,
            l1: be_u64(&head, 40)?,
        };
        if i64::try_from(tables.size).is_err() {
            return Err(Error::limit(format!(
                "a disk of {} bytes is larger than any host's files",
                tables.size
            )));
        }
        let entries = tables.size.div_ceil(tables.table_covers());
        if entries > MAX_L1_ENTRIES {
            return Err(Error::limit(format!(
                "an L1 table of {entries} entries is larger than {MAX_L1_ENTRIES}"
            )));
        }
        if tables
            .l1
            .checked_add(entries.saturating_mul(8))
            .is_none_or(|end| end > file.len())
        {
            return Err(
                Error::corrupt("the L1 table lies beyond the end of the file").at_offset(tables.l1),
            );
        }
        let (name_at, name_len) = (be_u64(&head, 8)?, be_u32(&head, 16)?);
        if name_at == 0 {
            return Ok((tables, encrypted, None));
        }
        if name_len == 0 || name_len > MAX_BACKING_NAME {
            return Err(Error::corrupt(format!(
                "a backing file name of {name_len} bytes is impossible"
            )));
        }
        let name = read_vec_at(&**file, name_at, usize::try_from(name_len).unwrap_or(0))
            .map_err(|_| Error::corrupt("the backing file name lies beyond the end of the file"))?;
        Ok((tables, encrypted, Some(name)))
    }

    fn cluster(&self) -> u64 {
        1_u64.checked_shl(self.cluster_bits).unwrap_or(1)
    }

    fn table_covers(&self) -> u64 {
        let bits = self.cluster_bits.saturating_add(self.l2_bits);
        1_u64.checked_shl(bits).unwrap_or(1)
    }

    fn locate(&self, offset: u64, limit: u64) -> Result<Stretch> {
        let covers = self.table_covers();
        let (index, in_table) = (
            offset.checked_div(covers).unwrap_or(0),
            offset.checked_rem(covers).unwrap_or(0),
        );
        let table = u64::from_be_bytes(self.pages.entry(self.l1, index)?);
        if table == 0 {
            return Ok(Stretch {
                mapping: Mapping::Below,
                len: covers.saturating_sub(in_table).min(limit),
            });
        }
        let number = in_table.checked_shr(self.cluster_bits).unwrap_or(0);
        let cluster = self.cluster();
        let within = offset & cluster.saturating_sub(1);
        let most = within
            .saturating_add(limit)
            .div_ceil(cluster)
            .min(covers.saturating_sub(in_table).div_ceil(cluster));
        let (entry, same) = self.pages.repeated(table, number, most)?;
        let mapping = match u64::from_be_bytes(entry) {
            0 => {
                let len = same.saturating_mul(cluster).saturating_sub(within);
                return Ok(Stretch {
                    mapping: Mapping::Below,
                    len: len.min(limit),
                });
            }
            packed if packed & COMPRESSED != 0 => {
                let shift = 63_u32.saturating_sub(self.cluster_bits);
                let mask = 1_u64.checked_shl(shift).unwrap_or(0).saturating_sub(1);
                let len = packed.checked_shr(shift).unwrap_or(0) & cluster.saturating_sub(1);
                Mapping::Packed(Packed {
                    at: HostOffset(packed & mask),
                    len,
                    unit: usize::try_from(cluster).unwrap_or(0),
                    within,
                })
            }
            host if host > self.file_len => {
                return Err(Error::corrupt(format!(
                    "the cluster of guest byte {offset} lies beyond the end of the file"
                ))
                .at_offset(host));
            }
            host => Mapping::Data(HostOffset(host.saturating_add(within))),
        };
        Ok(Stretch {
            mapping,
            len: cluster.saturating_sub(within).min(limit),
        })
    }
}
