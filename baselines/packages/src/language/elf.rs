//! As much of ELF as leads to a section by its name and to a file's byte by its address.

use dormouse_block::{Error, Result, be_u16, be_u32, be_u64, le_u16, le_u32, le_u64, slice_at};

use crate::guest_file::GuestFile;

/// Largest table of section names read, in bytes.
const MAX_NAMES: u64 = 1 << 20;

/// An executable, and how its numbers are written.
pub(super) struct Elf<'f> {
    file: &'f mut GuestFile,
    big_endian: bool,
    wide: bool,
    sections: Vec<Section>,
    segments: Vec<Segment>,
}

struct Section {
    name: u32,
    address: u64,
    offset: u64,
    size: u64,
}

struct Segment {
    offset: u64,
    address: u64,
    size: u64,
}

fn size(value: u64) -> Result<usize> {
    usize::try_from(value).map_err(|_| Error::limit("an ELF structure beyond memory"))
}

impl<'f> Elf<'f> {
    /// Reads the headers of an executable; `None` for a file that is none.
    ///
    /// # Errors
    /// `Corrupt` for headers that lead beyond the file.
    pub(super) fn open(file: &'f mut GuestFile) -> Result<Option<Self>> {
        if file.len() < 64 {
            return Ok(None);
        }
        let head = file.read(0, 64)?.to_vec();
        let (wide, big_endian) = match head.as_slice() {
            [0x7f, b'E', b'L', b'F', class @ (1 | 2), order @ (1 | 2), ..] => {
                (*class == 2, *order == 2)
            }
            _ => return Ok(None),
        };
        let mut elf = Self {
            file,
            big_endian,
            wide,
            sections: Vec::new(),
            segments: Vec::new(),
        };
        let (segments, sections, at) = if wide {
            (elf.u64(&head, 32)?, elf.u64(&head, 40)?, 54)
        } else {
            (elf.u32(&head, 28)?.into(), elf.u32(&head, 32)?.into(), 42)
        };
        let half =
            |elf: &Self, index: usize| elf.u16(&head, index.saturating_mul(2).saturating_add(at));
        let (segment, segment_count) = (half(&elf, 0)?, half(&elf, 1)?);
        let (section, section_count) = (half(&elf, 2)?, half(&elf, 3)?);
        elf.read_segments(segments, segment, segment_count)?;
        elf.read_sections(sections, section, section_count)?;
        let names = usize::from(half(&elf, 4)?);
        let names = elf
            .sections
            .get(names)
            .map(|section| (section.offset, section.size));
        // The table of names stands first, so that whoever looks for one finds it.
        if let Some((offset, size)) = names.filter(|(_, size)| *size <= MAX_NAMES) {
            elf.sections.insert(
                0,
                Section {
                    name: u32::MAX,
                    address: 0,
                    offset,
                    size,
                },
            );
        } else {
            elf.sections.clear();
        }
        Ok(Some(elf))
    }

    fn table(&mut self, offset: u64, entry: u16, count: u16, least: usize) -> Result<Vec<Vec<u8>>> {
        let entry = usize::from(entry);
        if count == 0 || offset == 0 {
            return Ok(Vec::new());
        }
        if entry < least || entry > 256 {
            return Err(Error::corrupt(
                "an ELF table with entries of an impossible size",
            ));
        }
        // At most 65,535 entries of 256 bytes.
        let bytes = self.file.read(offset, entry.saturating_mul(count.into()))?;
        Ok(bytes.chunks_exact(entry).map(<[u8]>::to_vec).collect())
    }

    fn read_segments(&mut self, offset: u64, entry: u16, count: u16) -> Result<()> {
        let least = if self.wide { 56 } else { 32 };
        for bytes in self.table(offset, entry, count, least)? {
            let segment = if self.wide {
                Segment {
                    offset: self.u64(&bytes, 8)?,
                    address: self.u64(&bytes, 16)?,
                    size: self.u64(&bytes, 32)?,
                }
            } else {
                Segment {
                    offset: self.u32(&bytes, 4)?.into(),
                    address: self.u32(&bytes, 8)?.into(),
                    size: self.u32(&bytes, 16)?.into(),
                }
            };
            // What is loaded.
            if self.u32(&bytes, 0)? == 1 {
                self.segments.push(segment);
            }
        }
        Ok(())
    }

    fn read_sections(&mut self, offset: u64, entry: u16, count: u16) -> Result<()> {
        let least = if self.wide { 64 } else { 40 };
        for bytes in self.table(offset, entry, count, least)? {
            let section = if self.wide {
                Section {
                    name: self.u32(&bytes, 0)?,
                    address: self.u64(&bytes, 16)?,
                    offset: self.u64(&bytes, 24)?,
                    size: self.u64(&bytes, 32)?,
                }
            } else {
                Section {
                    name: self.u32(&bytes, 0)?,
                    address: self.u32(&bytes, 12)?.into(),
                    offset: self.u32(&bytes, 16)?.into(),
                    size: self.u32(&bytes, 20)?.into(),
                }
            };
            self.sections.push(section);
        }
        Ok(())
    }

    /// The address, place and size of the section of this name.
    ///
    /// # Errors
    /// `Corrupt` when the names lie beyond the file.
    pub(super) fn section(&mut self, name: &str) -> Result<Option<(u64, u64, u64)>> {
        let Some(names) = self.sections.first() else {
            return Ok(None);
        };
        let names = self.file.read(names.offset, size(names.size)?)?;
        let found = self.sections.iter().find(|section| {
            usize::try_from(section.name)
                .ok()
                .and_then(|at| names.get(at..))
                .and_then(|rest| rest.strip_prefix(name.as_bytes()))
                .is_some_and(|rest| rest.starts_with(&[0]))
        });
        Ok(found.map(|section| (section.address, section.offset, section.size)))
    }

    /// The bytes that are at `address` when the file is loaded. `len` must have been held against a limit.
    ///
    /// # Errors
    /// `Corrupt` when no segment of the file has them.
    pub(super) fn at_address(&mut self, address: u64, len: u64) -> Result<Vec<u8>> {
        let segment = self.segments.iter().find_map(|segment| {
            let within = address.checked_sub(segment.address)?;
            let end = within.checked_add(len)?;
            (end <= segment.size).then(|| segment.offset.checked_add(within))?
        });
        match segment {
            Some(offset) => self.at(offset, len),
            None => Err(Error::corrupt("an address that no segment of the file has")),
        }
    }

    /// The bytes of the file at `offset`. `len` must have been held against a limit.
    ///
    /// # Errors
    /// `Corrupt` when the file ends before them.
    pub(super) fn at(&mut self, offset: u64, len: u64) -> Result<Vec<u8>> {
        Ok(self.file.read(offset, size(len)?)?.to_vec())
    }

    fn u16(&self, bytes: &[u8], at: usize) -> Result<u16> {
        if self.big_endian {
            be_u16(bytes, at)
        } else {
            le_u16(bytes, at)
        }
    }

    fn u32(&self, bytes: &[u8], at: usize) -> Result<u32> {
        if self.big_endian {
            be_u32(bytes, at)
        } else {
            le_u32(bytes, at)
        }
    }

    fn u64(&self, bytes: &[u8], at: usize) -> Result<u64> {
        if self.big_endian {
            be_u64(bytes, at)
        } else {
            le_u64(bytes, at)
        }
    }
}

/// An address of 4 or 8 bytes, in the order that is said with it.
pub(super) fn pointer(bytes: &[u8], at: usize, width: usize, big_endian: bool) -> Result<u64> {
    slice_at(bytes, at, width)?;
    match (width, big_endian) {
        (4, false) => le_u32(bytes, at).map(u64::from),
        (4, true) => be_u32(bytes, at).map(u64::from),
        (8, false) => le_u64(bytes, at),
        (8, true) => be_u64(bytes, at),
        _ => Err(Error::corrupt("a pointer of an impossible size")),
    }
}
