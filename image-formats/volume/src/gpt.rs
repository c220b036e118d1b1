//! GUID partition tables (UEFI 2.10 section 5.3), for sectors of 512 and 4096 bytes.

use dormouse_block::{
    Error, Gap, Result, Source, array_at, escape_terminal, le_u16, le_u32, le_u64, read_vec_at,
    slice_at,
};

use crate::mbr::{Entry, boot_record};
use crate::partition::{PartitionInfo, Range, divide};
use crate::{Found, Keys, Note, Volume, VolumeSystem, identify, kinds};

/// Bytes of the entry array: 64 times what everybody uses.
const MAX_ARRAY: u64 = 1 << 20;
/// Sector sizes that disks have.
const SECTOR_SIZES: [u64; 2] = [512, 4096];
/// Type of the protective partition that covers a GPT disk.
const PROTECTIVE: u8 = 0xee;

/// The volume system.
pub(crate) struct Gpt;

impl VolumeSystem for Gpt {
    fn name(&self) -> &'static str {
        "gpt"
    }

    fn find(&self, candidates: &[Volume], _: &Keys) -> Found {
        let mut found = Found::default();
        for (position, disk) in candidates.iter().enumerate() {
            if !disk.is_disk() {
                continue;
            }
            match look(disk) {
                Ok(None) => {}
                Ok(Some(table)) => {
                    found.claimed.push(position);
                    found.notes.extend(table.notes.iter().map(|what| Note {
                        at: disk.locator(),
                        what: what.clone(),
                    }));
                    let ranges = table.ranges();
                    divide(disk, "gpt", ranges, &mut found);
                }
                Err(error) => {
                    found.claimed.push(position);
                    found.gaps.push(Gap::from_error(&error, &disk.locator()));
                }
            }
        }
        found
    }
}

/// A table whose checksums are right.
struct Table {
    sector_size: u64,
    alternate: u64,
    entry_size: usize,
    entries: Vec<u8>,
    notes: Vec<String>,
}

/// The table of `disk`, if it has one.
fn look(disk: &Volume) -> Result<Option<Table>> {
    let source = &*disk.source;
    let boot = boot_record(source)?;
    let protective = boot
        .as_ref()
        .is_some_and(|entries| entries.iter().any(|entry| entry.kind == PROTECTIVE));
    let sizes = match disk.sector_size {
        Some(known) => vec![u64::from(known)],
        None => SECTOR_SIZES.to_vec(),
    };
    let signed = sizes
        .iter()
        .copied()
        .find(|size| signature_at(source, *size));
    if !protective {
        // A signature alone may be what is left of an older table: another table or a filesystem over it wins.
        let overwritten = || -> Result<bool> {
            let partitioned = boot
                .as_ref()
                .is_some_and(|entries| entries.iter().any(Entry::is_used));
            Ok(partitioned || identify(source)?.is_some())
        };
        if signed.is_none() || overwritten()? {
            return Ok(None);
        }
    }
    let first = match signed {
        Some(size) => Table::read(source, size, 1),
        None => Err(Error::corrupt("the header has no signature")),
    };
    let mut table = match first {
        Ok(mut table) => {
            let backup = Table::read(source, table.sector_size, table.alternate);
            match backup {
                Ok(backup) if backup.entries == table.entries => {}
                Ok(_) => table
                    .notes
                    .push("the backup of the partition table differs from it".to_owned()),
                Err(error) => table.notes.push(format!(
                    "the backup of the partition table is unusable: {}",
                    error.with_causes()
                )),
            }
            table
        }
        Err(error) => {
            let backup = sizes.iter().find_map(|size| {
                let last = source.len().checked_div(*size)?.checked_sub(1)?;
                Table::read(source, *size, last).ok()
            });
            let Some(mut backup) = backup else {
                return Err(
                    Error::new(error.kind(), "the GPT is broken, and so is its backup")
                        .because(error),
                );
            };
            backup.notes.push(format!(
                "the partition table is broken, its backup was read: {}",
                error.with_causes()
            ));
            backup
        }
    };
    if !protective {
        table.notes.push("there is no protective MBR".to_owned());
    } else if boot.is_some_and(|entries| {
        entries
            .iter()
            .any(|entry| entry.is_used() && entry.kind != PROTECTIVE)
    }) {
        table
            .notes
            .push("a hybrid MBR stands beside the GPT, which was read".to_owned());
    }
    Ok(Some(table))
}

fn signature_at(source: &dyn Source, sector_size: u64) -> bool {
    read_vec_at(source, sector_size, 8).is_ok_and(|bytes| bytes == b"EFI PART")
}

impl Table {
    /// Reads the header at sector `lba` and its entries, and verifies both checksums.
    fn read(source: &dyn Source, sector_size: u64, lba: u64) -> Result<Self> {
        let at = lba
            .checked_mul(sector_size)
            .ok_or_else(|| Error::corrupt("the header lies beyond every disk"))?;
        let place = |error: Error| error.at_offset(at);
        let sector = usize::try_from(sector_size).unwrap_or(512);
        let header = read_vec_at(source, at, sector)?;
        if slice_at(&header, 0, 8)? != b"EFI PART" {
            return Err(place(Error::corrupt("the header has no signature")));
        }
        let header_size = usize::try_from(le_u32(&header, 12)?).unwrap_or(usize::MAX);
        // "The HeaderSize must be greater than or equal to 92 and must be less than or equal to the logical block
        // size."
        if header_size < 92 || header_size > sector {
            return Err(place(Error::corrupt(format!(
                "a header of {header_size} bytes is impossible"
            ))));
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(slice_at(&header, 0, 16)?);
        hasher.update(&[0; 4]);
        hasher.update(slice_at(&header, 20, header_size.saturating_sub(20))?);
        if hasher.finalize() != le_u32(&header, 16)? {
            return Err(place(Error::corrupt("the header's checksum is wrong")));
        }
        if le_u64(&header, 24)? != lba {
            return Err(place(Error::corrupt("the header says it lies elsewhere")));
        }
        let count = u64::from(le_u32(&header, 80)?);
        let entry_size = le_u32(&header, 84)?;
        if entry_size < 128 || !entry_size.is_multiple_of(8) {
            return Err(place(Error::corrupt(format!(
                "entries of {entry_size} bytes are impossible"
            ))));
        }
        let array = count.saturating_mul(u64::from(entry_size));
        if array > MAX_ARRAY {
            return Err(place(Error::limit(format!(
                "{count} entries of {entry_size} bytes are more than the {MAX_ARRAY} bytes allowed"
            ))));
        }
        let array_at = le_u64(&header, 72)?
            .checked_mul(sector_size)
            .ok_or_else(|| place(Error::corrupt("the entries lie beyond every disk")))?;
        let len = usize::try_from(array).map_err(|_| Error::limit("too many entries"))?;
        let entries = read_vec_at(source, array_at, len)?;
        if crc32fast::hash(&entries) != le_u32(&header, 88)? {
            return Err(Error::corrupt("the checksum of the entries is wrong").at_offset(array_at));
        }
        Ok(Self {
            sector_size,
            alternate: le_u64(&header, 32)?,
            entry_size: usize::try_from(entry_size).unwrap_or(usize::MAX),
            entries,
            notes: Vec::new(),
        })
    }

    fn ranges(&self) -> Vec<Range> {
        self.entries
            .chunks_exact(self.entry_size)
            .zip(1_u32..)
            .filter_map(|(entry, number)| self.range(entry, number).ok().flatten())
            .collect()
    }

    /// One entry; `None` when it is unused.
    fn range(&self, entry: &[u8], number: u32) -> Result<Option<Range>> {
        let kind: [u8; 16] = array_at(entry, 0)?;
        if kind == [0; 16] {
            return Ok(None);
        }
        let first = le_u64(entry, 32)?;
        let last = le_u64(entry, 40)?;
        // An impossible range has no bytes, which is reported as such.
        let sectors = last
            .checked_sub(first)
            .and_then(|more| more.checked_add(1))
            .unwrap_or(0);
        let attributes = le_u64(entry, 48)?;
        let kind = guid(&kind);
        let label = name(slice_at(entry, 56, 72)?);
        Ok(Some(Range {
            start: first.saturating_mul(self.sector_size),
            size: sectors.saturating_mul(self.sector_size),
            partition: PartitionInfo {
                number,
                kind_name: kinds::name(&kind),
                kind,
                label: (!label.is_empty()).then_some(label),
                uuid: Some(guid(&array_at(entry, 16)?)),
                // Bit 2: "Legacy BIOS Bootable".
                bootable: attributes & 4 != 0,
            },
        }))
    }
}

/// A GUID as people write it: its first three fields are little-endian.
pub(crate) fn guid(bytes: &[u8; 16]) -> String {
    let [a, b, c, d, e, f, g, h, tail @ ..] = bytes;
    let mut text = format!(
        "{:08x}-{:04x}-{:04x}-",
        u32::from_le_bytes([*a, *b, *c, *d]),
        u16::from_le_bytes([*e, *f]),
        u16::from_le_bytes([*g, *h])
    );
    for (position, byte) in tail.iter().enumerate() {
        if position == 2 {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// 36 UTF-16LE units, ended by NUL.
fn name(bytes: &[u8]) -> String {
    let units = (0..bytes.len())
        .step_by(2)
        .map_while(|at| le_u16(bytes, at).ok())
        .take_while(|unit| *unit != 0);
    let text: String = char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    escape_terminal(&text).into_owned()
}
