//! What the cache keeps of a shared library: its soname, its machine, and the oldest kernel it works on.
//!
//! System V ABI, chapters 4 and 5 (object files, program loading). Every offset and size comes from the file and is
//! met with a bound; what lies outside of the file makes it no library, as it does for the guest's program.

use dormouse_overlay::Content;

use crate::shell::Shell;
use crate::stop::{Run, Stop};

/// Program headers that are looked at; linkers write about ten.
const MAX_SEGMENTS: usize = 1000;
/// Bytes of a dynamic section; linkers write less than 1,000.
const MAX_DYNAMIC: usize = 1 << 20;
/// Bytes of notes.
const MAX_NOTES: usize = 1 << 16;
/// Bytes of a name.
const MAX_NAME: usize = 4096;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_NOTE: u32 = 4;
/// `PT_GNU_PROPERTY`, and its property `GNU_PROPERTY_X86_ISA_1_NEEDED`.
const PT_PROPERTY: u32 = 0x6474_e553;
const ISA_NEEDED: u32 = 0xc000_8002;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;

/// `FLAG_ELF` and `FLAG_ELF_LIBC6` of the cache, and its marks of machines.
const ELF: u32 = 0x01;
const LIBC6: u32 = 0x03;
const X86_64: u32 = 0x0300;
const X32: u32 = 0x0800;
const AARCH64: u32 = 0x0a00;

/// What was read of a library.
pub(super) struct Read {
    pub(super) soname: Option<Vec<u8>>,
    pub(super) flags: u32,
    /// `NT_GNU_ABI_TAG`: system, and kernel version in three bytes.
    pub(super) os_version: u32,
    /// The levels of processors that it says it needs, as `GNU_PROPERTY_X86_ISA_1_NEEDED` has them.
    pub(super) isa: u32,
}

/// Little-endian fields, as every architecture has them that is known here.
struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    fn u16(&self, at: usize) -> Option<u16> {
        let part = self.0.get(at..at.checked_add(2)?)?;
        Some(u16::from_le_bytes(part.try_into().ok()?))
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let part = self.0.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(part.try_into().ok()?))
    }

    fn u64(&self, at: usize) -> Option<u64> {
        let part = self.0.get(at..at.checked_add(8)?)?;
        Some(u64::from_le_bytes(part.try_into().ok()?))
    }

    /// An address or offset of the file's class.
    fn word(&self, at: usize, wide: bool) -> Option<u64> {
        if wide {
            self.u64(at)
        } else {
            self.u32(at).map(u64::from)
        }
    }
}

#[derive(Clone, Copy)]
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
    align: u64,
}

fn segment(bytes: &[u8], wide: bool) -> Option<Segment> {
    let fields = Fields(bytes);
    Some(if wide {
        Segment {
            kind: fields.u32(0)?,
            offset: fields.u64(8)?,
            address: fields.u64(16)?,
            size: fields.u64(32)?,
            align: fields.u64(48)?,
        }
    } else {
        Segment {
            kind: fields.u32(0)?,
            offset: fields.u32(4)?.into(),
            address: fields.u32(8)?.into(),
            size: fields.u32(16)?.into(),
            align: fields.u32(28)?.into(),
        }
    })
}

fn part(shell: &mut Shell<'_>, content: &Content, offset: u64, length: usize) -> Run<Vec<u8>> {
    shell
        .files
        .budget
        .bytes(u64::try_from(length).unwrap_or(u64::MAX))?;
    shell
        .files
        .draft
        .read_part(content, offset, length)
        .map_err(|error| Stop::defer(crate::call::Reason::Guest, error.with_causes()))
}

/// Reads a library; `None` when it is none. `old` is how the program read them before glibc 2.33.
pub(super) fn read(shell: &mut Shell<'_>, content: &Content, old: bool) -> Run<Option<Read>> {
    let header = part(shell, content, 0, 64)?;
    let Some((wide, machine, table)) = parse_header(&header) else {
        return Ok(None);
    };
    let mut flags = match (machine, wide) {
        (62, true) => LIBC6 | X86_64,
        (62, false) => LIBC6 | X32,
        (183, true) => LIBC6 | AARCH64,
        (3, false) if old => ELF,
        (3, false) => LIBC6,
        _ => return shell.usage(b"ldconfig", "a library is made for an unknown machine"),
    };
    let size = table.count.saturating_mul(table.size);
    let bytes = part(shell, content, table.offset, size)?;
    let segments: Vec<Segment> = bytes
        .chunks_exact(table.size)
        .filter_map(|bytes| segment(bytes, wide))
        .collect();
    if segments.len() < table.count {
        return Ok(None);
    }
    let base = segments
        .iter()
        .find(|segment| segment.kind == PT_LOAD)
        .map_or(0, |load| load.address.wrapping_sub(load.offset));
    let mut os_version = 0;
    if old {
        for note in segments.iter().filter(|segment| segment.kind == PT_NOTE) {
            if os_version == 0 && note.size >= 32 && matches!(note.align, 4 | 8) {
                let length = usize::try_from(note.size)
                    .unwrap_or(MAX_NOTES)
                    .min(MAX_NOTES);
                let bytes = part(shell, content, note.offset, length)?;
                os_version = abi_tag(&bytes, note.align).unwrap_or(0);
            }
        }
    }
    let mut isa = 0;
    for note in segments
        .iter()
        .filter(|segment| segment.kind == PT_PROPERTY)
    {
        let length = usize::try_from(note.size)
            .unwrap_or(MAX_NOTES)
            .min(MAX_NOTES);
        let bytes = part(shell, content, note.offset, length)?;
        let words: Vec<u32> = bytes
            .chunks_exact(4)
            .filter_map(|word| Some(u32::from_le_bytes(word.try_into().ok()?)))
            .collect();
        // The property's type, its size, its value.
        if let Some([_, 4, value]) = words
            .windows(3)
            .find(|words| words.first() == Some(&ISA_NEEDED))
        {
            isa = *value;
        }
    }
    let Some(dynamic) = segments
        .iter()
        .rev()
        .find(|segment| segment.kind == PT_DYNAMIC && segment.size > 0)
    else {
        return Ok(None);
    };
    let length = usize::try_from(dynamic.size)
        .unwrap_or(MAX_DYNAMIC)
        .min(MAX_DYNAMIC);
    let bytes = part(shell, content, dynamic.offset, length)?;
    let entries = dynamic_entries(&bytes, wide);
    let Some(&(_, strings)) = entries.iter().find(|&&(tag, _)| tag == DT_STRTAB) else {
        return Ok(None);
    };
    // The guest's program takes the first segment's distance for all; where the strings are in another one, versions differ.
    let holds = segments.iter().find(|segment| {
        segment.kind == PT_LOAD
            && strings >= segment.address
            && strings.wrapping_sub(segment.address) < segment.size
    });
    if holds.is_some_and(|holds| holds.address.wrapping_sub(holds.offset) != base) {
        return shell.usage(
            b"ldconfig",
            "a library's names are in a segment of their own",
        );
    }
    let strings = strings.wrapping_sub(base);
    if strings > content.size() {
        return Ok(None);
    }
    let mut soname = None;
    for (tag, value) in entries {
        let wanted = tag == DT_SONAME || (tag == DT_NEEDED && flags == ELF);
        if !wanted {
            continue;
        }
        let Some(at) = strings
            .checked_add(value)
            .filter(|&at| at <= content.size())
        else {
            return Ok(None);
        };
        let mut name = part(shell, content, at, MAX_NAME)?;
        let end = name.iter().position(|&byte| byte == 0);
        name.truncate(end.unwrap_or(name.len()));
        if tag == DT_SONAME {
            soname = Some(name);
        } else if matches!(name.as_slice(), b"libc.so.6" | b"libm.so.6") {
            flags = LIBC6;
        }
    }
    Ok(Some(Read {
        soname,
        flags,
        os_version,
        isa,
    }))
}

/// Where the program headers are.
struct Table {
    offset: u64,
    size: usize,
    count: usize,
}

/// Class, machine and program headers of a shared object.
fn parse_header(header: &[u8]) -> Option<(bool, u16, Table)> {
    let fields = Fields(header);
    if !header.starts_with(b"\x7fELF") {
        return None;
    }
    let wide = match header.get(4)? {
        1 => false,
        2 => true,
        _ => return None,
    };
    // Little-endian, and ET_DYN.
    if header.get(5) != Some(&1) || fields.u16(16)? != 3 {
        return None;
    }
    let (offset, at_count, size) = if wide {
        (fields.u64(32)?, 56, 56)
    } else {
        (fields.u32(28)?.into(), 44, 32)
    };
    let count = usize::from(fields.u16(at_count)?);
    (count <= MAX_SEGMENTS).then_some((
        wide,
        fields.u16(18)?,
        Table {
            offset,
            size,
            count,
        },
    ))
}

fn dynamic_entries(bytes: &[u8], wide: bool) -> Vec<(u64, u64)> {
    let width = if wide { 8 } else { 4 };
    bytes
        .chunks_exact(width * 2)
        .map_while(|entry| {
            let fields = Fields(entry);
            Some((fields.word(0, wide)?, fields.word(width, wide)?))
        })
        .take_while(|&(tag, _)| tag != DT_NULL)
        .collect()
}

/// The value of the note `NT_GNU_ABI_TAG`.
fn abi_tag(bytes: &[u8], align: u64) -> Option<u32> {
    let align = usize::try_from(align).ok()?;
    let mut rest = bytes;
    while rest.len() >= 32 {
        let fields = Fields(rest);
        let (name, size, kind) = (fields.u32(0)?, fields.u32(4)?, fields.u32(8)?);
        if (name, size, kind) == (4, 16, 1) && rest.get(12..16) == Some(b"GNU\0") {
            let byte = |at| fields.u32(at).map(|value| value & 0xff);
            return Some(
                fields.u32(16)?.checked_shl(24)? | (byte(20)? << 16) | (byte(24)? << 8) | byte(28)?,
            );
        }
        let name = usize::try_from(name).ok()?;
        let size = usize::try_from(size).ok()?;
        let value = name.checked_add(12)?.checked_next_multiple_of(align)?;
        let next = value.checked_add(size)?.checked_next_multiple_of(align)?;
        rest = rest.get(next..)?;
    }
    None
}
