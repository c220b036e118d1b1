//! The label of a physical volume and the metadata areas that it names (lvm2's `lib/label/label.h`,
//! `lib/format_text/layout.h`).

use dormouse_block::{Error, Result, Source, array_at, le_u32, le_u64, read_vec_at, slice_at};

use super::text::Section;

/// Sectors in which a label may stand (`LABEL_SCAN_SECTORS`).
const LABEL_SECTORS: u64 = 4;
const SECTOR: usize = 512;
/// `FMTT_MAGIC`.
const AREA_MAGIC: &[u8] = b" LVM2 x[5A%r0N*>";
/// Bytes of a metadata area's header, after which its ring begins (`MDA_HEADER_SIZE`).
const AREA_HEADER: u64 = 512;
/// Bytes of a volume group's text: lvm2's own areas have 1 MiB unless somebody asks for more.
const MAX_TEXT: u64 = 16 << 20;
/// Entries of a list of areas.
const MAX_AREAS: usize = 32;
/// "RAW_LOCN_IGNORED".
const IGNORED: u32 = 1;

/// A physical volume.
pub(super) struct Label {
    /// Its UUID, without dashes.
    pub(super) id: String,
    /// Where its metadata areas are, in bytes.
    areas: Vec<(u64, u64)>,
}

/// What its metadata areas say.
pub(super) struct Metadata {
    /// The newest text, when there is one.
    pub(super) text: Option<Section>,
    /// What is wrong with the other copies.
    pub(super) broken: Vec<Error>,
}

/// lvm2's checksum: CRC-32 with another start, and not inverted.
fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(!0xf597_a6cf);
    hasher.update(bytes);
    !hasher.finalize()
}

impl Label {
    /// The label of `source`, if it has one.
    ///
    /// # Errors
    /// `Corrupt` when its checksum is wrong.
    pub(super) fn find(source: &dyn Source) -> Result<Option<Self>> {
        let len = usize::try_from(source.len().min(LABEL_SECTORS.saturating_mul(512))).unwrap_or(0);
        let Ok(start) = read_vec_at(source, 0, len) else {
            // Unreadable beginnings are told of when the volume is looked into.
            return Ok(None);
        };
        for (sector, number) in start.chunks_exact(SECTOR).zip(0_u64..) {
            if slice_at(sector, 0, 8)? != b"LABELONE" || slice_at(sector, 24, 8)? != b"LVM2 001" {
                continue;
            }
            let at = number.saturating_mul(512);
            return parse(sector, number)
                .map(Some)
                .map_err(|error| error.at_offset(at));
        }
        Ok(None)
    }

    /// Reads all metadata areas; the newest text counts.
    pub(super) fn metadata(&self, source: &dyn Source) -> Metadata {
        let mut newest: Option<(u64, Section)> = None;
        let mut broken = Vec::new();
        for (start, size) in &self.areas {
            match read_area(source, *start, *size) {
                Ok(None) => {}
                Ok(Some((seqno, text))) => {
                    if newest.as_ref().is_none_or(|(known, _)| *known < seqno) {
                        newest = Some((seqno, text));
                    }
                }
                Err(error) => broken.push(error.at_offset(*start)),
            }
        }
        Metadata {
            text: newest.map(|(_, text)| text),
            broken,
        }
    }

    /// Whether it keeps no metadata itself.
    pub(super) fn keeps_none(&self) -> bool {
        self.areas.is_empty()
    }
}

fn parse(sector: &[u8], number: u64) -> Result<Label> {
    if le_u64(sector, 8)? != number {
        return Err(Error::corrupt("the label says it stands in another sector"));
    }
    if checksum(sector.get(20..).unwrap_or_default()) != le_u32(sector, 16)? {
        return Err(Error::corrupt("the checksum of the label is wrong"));
    }
    let mut at = usize::try_from(le_u32(sector, 20)?).unwrap_or(usize::MAX);
    let id = id(&array_at(sector, at)?);
    at = at.saturating_add(40);
    // Data areas, then metadata areas; each list ends with an entry of nothing. Offsets count from the beginning of
    // the volume.
    let mut list = || -> Result<Vec<(u64, u64)>> {
        let mut areas = Vec::new();
        loop {
            let area = (le_u64(sector, at)?, le_u64(sector, at.saturating_add(8))?);
            at = at.saturating_add(16);
            if area.0 == 0 {
                return Ok(areas);
            }
            if areas.len() >= MAX_AREAS {
                return Err(Error::limit(format!("more than {MAX_AREAS} areas")));
            }
            areas.push(area);
        }
    };
    list()?;
    let areas = list()?;
    Ok(Label { id, areas })
}

/// 32 characters; anything else is spelled out.
fn id(bytes: &[u8; 32]) -> String {
    dormouse_block::escape_terminal(&String::from_utf8_lossy(bytes)).into_owned()
}

/// The text in a metadata area with its sequence number, or `None` when there is none.
fn read_area(source: &dyn Source, start: u64, size: u64) -> Result<Option<(u64, Section)>> {
    let header = read_vec_at(source, start, SECTOR)?;
    if slice_at(&header, 4, 16)? != AREA_MAGIC {
        return Err(Error::corrupt("the metadata area has no signature"));
    }
    if checksum(header.get(4..).unwrap_or_default()) != le_u32(&header, 0)? {
        return Err(Error::corrupt("the checksum of the metadata area is wrong"));
    }
    let version = le_u32(&header, 20)?;
    if version != 1 {
        return Err(Error::unsupported(format!(
            "metadata areas of version {version}"
        )));
    }
    if le_u64(&header, 24)? != start {
        return Err(Error::corrupt("the metadata area says it stands elsewhere"));
    }
    let area = le_u64(&header, 32)?;
    if area != size {
        return Err(Error::corrupt("the metadata area says it has another size"));
    }
    // The first place is that of what was committed.
    let offset = le_u64(&header, 40)?;
    let len = le_u64(&header, 48)?;
    let flags = le_u32(&header, 60)?;
    if offset == 0 || flags & IGNORED != 0 {
        return Ok(None);
    }
    if len > MAX_TEXT {
        return Err(Error::limit(format!(
            "a metadata text of {len} bytes is larger than the {MAX_TEXT} allowed"
        )));
    }
    let text = read_ring(source, start, area, offset, len)?;
    if checksum(&text) != le_u32(&header, 56)? {
        return Err(Error::corrupt("the checksum of the metadata text is wrong"));
    }
    let text = Section::parse(&text)?;
    let seqno = text
        .sections()
        .values()
        .next()
        .map_or(Ok(0), |group| group.number("seqno"))?;
    Ok(Some((seqno, text)))
}

/// `len` bytes from `offset` on in the area at `start`, whose ring goes on after its header.
fn read_ring(source: &dyn Source, start: u64, area: u64, offset: u64, len: u64) -> Result<Vec<u8>> {
    let beyond = || Error::corrupt("the metadata text lies outside of its area");
    let to_end = area.checked_sub(offset).ok_or_else(beyond)?;
    if offset < AREA_HEADER || len > area.saturating_sub(AREA_HEADER) {
        return Err(beyond());
    }
    let first = len.min(to_end);
    let read = |at: u64, len: u64| -> Result<Vec<u8>> {
        let at = start.checked_add(at).ok_or_else(beyond)?;
        read_vec_at(source, at, usize::try_from(len).map_err(|_| beyond())?)
    };
    let mut text = read(offset, first)?;
    text.extend(read(AREA_HEADER, len.saturating_sub(first))?);
    Ok(text)
}
