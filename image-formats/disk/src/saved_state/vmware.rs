//! VMware's suspended states and snapshots of running machines, `.vmss` and `.vmsn`: groups of tags, as Volatility's
//! `layers/vmware.py` and crash's `vmware_vmss.c` describe them. Little-endian. The memory is a block of the group `memory`,
//! or lies in a `.vmem` file of its own.

use dormouse_block::{Error, Result, le_u16, le_u32, le_u64, read_vec_at};

use super::pieces::Pieces;
use super::{Looked, Reading, Signs, StateFormat, StateMeaning, raw};

/// What the magics mean.
const MAGICS: [(u32, &str); 6] = [
    (0xbed0_bed0, "a state of a 32-bit product"),
    (0xbed2_bed0, "a complete state"),
    (0xbed2_bed2, "a complete state"),
    (0xbed3_bed3, "a partial state"),
    (0xbad1_bad1, "a state that was restored once"),
    (0xbad2_bad2, "a state that is not to be restored"),
];
/// The magic of a state that was not written to its end.
const PARTIAL: u32 = 0xbed3_bed3;
/// Groups of one state: products have some dozens.
const MAX_GROUPS: u32 = 4096;
/// Bytes of a group's entry: name, offset, size.
const ENTRY: u64 = 80;
/// Tags of the group `memory`.
const MAX_TAGS: usize = 65_536;

/// The format.
pub(super) const FORMAT: StateFormat = StateFormat {
    name: "VMware state",
    is_verified: false,
    beside: &["*.vmem"],
    recognise,
    read,
};

fn recognise(looked: &Looked<'_>) -> Result<Option<Signs>> {
    let Ok(magic) = le_u32(looked.head, 0) else {
        return Ok(None);
    };
    let Some((_, what)) = MAGICS.iter().find(|(known, _)| *known == magic) else {
        return Ok(None);
    };
    let groups = le_u32(looked.head, 8)?;
    let meaning = match magic {
        PARTIAL => StateMeaning::Unfinished,
        _ => StateMeaning::Suspended,
    };
    let signs = Signs::new(format!("{magic:#010x}"), 0, meaning);
    Ok(Some(
        signs
            .saying(*what)
            .saying(format!("it has {groups} groups")),
    ))
}

fn read(reading: &Reading<'_>, pieces: &mut Pieces<'_, '_>) -> Result<()> {
    if let Some(beside) = reading.beside {
        return raw::hand_over(beside, (0, beside.len()), "vmem", pieces);
    }
    let source = reading.source;
    let head = read_vec_at(&**source, 0, 12)?;
    let version = le_u32(&head, 0)? & 0xf;
    let groups = le_u32(&head, 8)?;
    if groups > MAX_GROUPS {
        return Err(Error::limit(format!("{groups} groups in VMware's state")));
    }
    let mut at = None;
    for number in 0..u64::from(groups) {
        let place = number.saturating_mul(ENTRY).saturating_add(12);
        let entry = read_vec_at(&**source, place, 80)?;
        let name = entry.get(..64).unwrap_or_default();
        if name.split(|byte| *byte == 0).next() == Some(b"memory") {
            at = Some(le_u64(&entry, 64)?);
            break;
        }
    }
    let at = at.ok_or_else(|| Error::corrupt("VMware's state has no group of memory"))?;
    let (from, len) = block(reading, at, version)?.ok_or_else(|| {
        Error::unsupported("its memory is in a .vmem file, which is not beside it")
    })?;
    raw::hand_over(source, (from, len), "memory", pieces)
}

/// Where the block called `Memory` lies among the tags from `at` on.
fn block(reading: &Reading<'_>, mut at: u64, version: u32) -> Result<Option<(u64, u64)>> {
    let source = reading.source;
    for _ in 0..MAX_TAGS {
        let left = source.len().saturating_sub(at);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(512);
        let tag = read_vec_at(&**source, at, len)?;
        let word = le_u16(&tag, 0)?;
        if word == 0 {
            return Ok(None);
        }
        let [flags, name_len] = word.to_le_bytes();
        let name_end = usize::from(name_len).saturating_add(2);
        let name = tag.get(2..name_end).unwrap_or_default();
        let indices = usize::from(flags >> 6).saturating_mul(4);
        let value = name_end.saturating_add(indices);
        let value_at = at.saturating_add(u64::try_from(value).unwrap_or(u64::MAX));
        let size = u64::from(flags & 0x3f);
        if size < 62 {
            at = value_at.saturating_add(size);
            continue;
        }
        // A block: bytes in the file, bytes of memory, and what is left out between.
        let (stored, unpacked, header) = if version == 0 {
            let stored = u64::from(le_u32(&tag, value)?);
            (stored, u64::from(le_u32(&tag, value.saturating_add(4))?), 8)
        } else {
            let stored = le_u64(&tag, value)?;
            (stored, le_u64(&tag, value.saturating_add(8))?, 16_usize)
        };
        let padding = u64::from(le_u16(&tag, value.saturating_add(header))?);
        let header = u64::try_from(header.saturating_add(2)).unwrap_or(u64::MAX);
        let from = value_at.saturating_add(header).saturating_add(padding);
        let end = from.checked_add(stored).filter(|end| *end <= source.len());
        let end = end.ok_or_else(|| Error::corrupt("a block of VMware's state is cut off"))?;
        if name == b"Memory" {
            if stored != unpacked {
                return Err(Error::unsupported("memory that VMware compressed"));
            }
            return Ok(Some((from, stored)));
        }
        at = end;
    }
    Err(Error::limit("too many tags in VMware's state"))
}
