//! ELF cores of whole machines: `virsh dump --memory-only`, QEMU's `dump-guest-memory`. The guest's memory lies in the
//! segments to load; a note of QEMU, or of the guest's kernel, tells it from the core of a process.

use std::sync::Arc;

use dormouse_block::{Error, Result, Source, le_u16, le_u32, le_u64, read_vec_at};

use super::pieces::Pieces;
use super::{Looked, Reading, Signs, StateFormat, StateMeaning, raw};

/// Segments of a core: banks of memory and one of notes.
const MAX_SEGMENTS: u64 = 65_536;
/// Bytes of notes: some hundred for each processor.
const MAX_NOTES: u64 = 4 << 20;
/// Notes looked at.
const MAX_NOTE_COUNT: usize = 65_536;
/// `ET_CORE`.
const CORE: u16 = 4;
/// `PT_LOAD` and `PT_NOTE`.
const LOAD: u32 = 1;
const NOTE: u32 = 4;

/// The format.
pub(super) const FORMAT: StateFormat = StateFormat {
    name: "ELF core of a machine",
    is_verified: true,
    beside: &[],
    recognise,
    read,
};

#[derive(Clone, Copy)]
struct Segment {
    kind: u32,
    offset: u64,
    physical: u64,
    len: u64,
}

/// Little-endian, of 64 bits, and a core.
fn is_core(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF\x02\x01") && le_u16(head, 16).is_ok_and(|kind| kind == CORE)
}

fn segments(source: &Arc<dyn Source>) -> Result<Vec<Segment>> {
    let header = read_vec_at(&**source, 0, 64)?;
    let table = le_u64(&header, 32)?;
    let mut count = u64::from(le_u16(&header, 56)?);
    if le_u16(&header, 54)? != 56 {
        return Err(Error::corrupt("segments of an unknown size in an ELF core"));
    }
    if count == 0xffff {
        // `PN_XNUM`: the number stands in the first section header.
        let sections = le_u64(&header, 40)?;
        count = u64::from(le_u32(&read_vec_at(&**source, sections, 64)?, 44)?);
    }
    if count > MAX_SEGMENTS {
        return Err(Error::limit(format!("{count} segments in an ELF core")));
    }
    let len = usize::try_from(count.saturating_mul(56)).unwrap_or(usize::MAX);
    let bytes = read_vec_at(&**source, table, len)?;
    bytes
        .chunks_exact(56)
        .map(|one| {
            Ok(Segment {
                kind: le_u32(one, 0)?,
                offset: le_u64(one, 8)?,
                physical: le_u64(one, 24)?,
                len: le_u64(one, 32)?,
            })
        })
        .collect()
}

/// The names of the notes.
fn notes(source: &Arc<dyn Source>, segments: &[Segment]) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for segment in segments.iter().filter(|segment| segment.kind == NOTE) {
        if segment.len > MAX_NOTES {
            return Err(Error::limit(format!(
                "{} bytes of notes in an ELF core",
                segment.len
            )));
        }
        let len = usize::try_from(segment.len).unwrap_or(usize::MAX);
        let bytes = read_vec_at(&**source, segment.offset, len)?;
        let mut rest = bytes.as_slice();
        while rest.len() >= 12 && names.len() < MAX_NOTE_COUNT {
            let padded = |at: usize| -> Result<usize> {
                let len = usize::try_from(le_u32(rest, at)?).unwrap_or(usize::MAX);
                Ok(len.checked_next_multiple_of(4).unwrap_or(usize::MAX))
            };
            let (name, content) = (padded(0)?, padded(4)?);
            let text = rest.get(12..).and_then(|rest| rest.get(..name));
            let text = text.ok_or_else(|| Error::corrupt("a note of an ELF core is cut off"))?;
            names.push(
                text.split(|byte| *byte == 0)
                    .next()
                    .unwrap_or_default()
                    .to_vec(),
            );
            let next = name.saturating_add(content).saturating_add(12);
            rest = rest.get(next..).unwrap_or_default();
        }
    }
    Ok(names)
}

fn recognise(looked: &Looked<'_>) -> Result<Option<Signs>> {
    if !is_core(looked.head) {
        return Ok(None);
    }
    let segments = segments(looked.source)?;
    let notes = notes(looked.source, &segments)?;
    let by = notes.iter().find(|name| {
        let name = name.as_slice();
        name == b"QEMU" || name == b"VMCOREINFO"
    });
    let Some(by) = by else {
        // The core of a process.
        return Ok(None);
    };
    let signs = Signs::new("\\x7fELF, type 4 (core)", 0, StateMeaning::Dump);
    Ok(Some(signs.saying(format!(
        "it has a note of {}",
        String::from_utf8_lossy(by)
    ))))
}

fn read(reading: &Reading<'_>, pieces: &mut Pieces<'_, '_>) -> Result<()> {
    let source = reading.source;
    let mut segments = segments(source)?;
    segments.retain(|segment| segment.kind == LOAD && segment.len > 0);
    // In the order of the file; what is kept twice would be a bomb.
    segments.sort_by_key(|segment| segment.offset);
    let mut end = 64;
    for segment in &segments {
        let next = segment.offset.checked_add(segment.len);
        let next = next.filter(|next| *next <= source.len() && segment.offset >= end);
        end = next.ok_or_else(|| {
            Error::corrupt("segments of an ELF core overlap, or lie beyond its end")
        })?;
    }
    for segment in &segments {
        let name = format!("{:#x}", segment.physical);
        raw::hand_over(source, (segment.offset, segment.len), &name, pieces)?;
    }
    Ok(())
}
