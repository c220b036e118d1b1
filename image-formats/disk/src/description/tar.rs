//! A tar archive's table of members (POSIX.1-2017, "ustar" and "pax"; GNU's long names and large sizes), read in place.

use dormouse_block::{Error, Result, Source, read_vec_at};

use super::at_most;

/// The unit of everything, in bytes.
const BLOCK: u64 = 512;
/// Members of one archive.
const MAX_MEMBERS: usize = 4096;
/// Bytes of a long name or of pax records.
const MAX_EXTENSION: u64 = 64 << 10;

/// A regular file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// Whether a file that begins with `head` is an archive.
pub(super) fn is_archive(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

/// The name of the first member, as far as the first block tells.
pub(super) fn first_name(head: &[u8]) -> Option<String> {
    if !is_archive(head) {
        return None;
    }
    Some(text(head.get(..100)?))
}

/// The regular files of the archive, in its order. Folders are passed over.
pub(super) fn members(source: &dyn Source) -> Result<Vec<Member>> {
    let mut members: Vec<Member> = Vec::new();
    let mut at = 0_u64;
    let mut long_name = None;
    let mut long_size = None;
    let mut headers = 0_usize;
    // An archive ends with blocks of zeroes; one that just ends was cut short there, or its writer left them out.
    while at < source.len() {
        headers = headers.saturating_add(1);
        at_most(headers, MAX_MEMBERS.saturating_mul(3), "members")?;
        let header = read_vec_at(source, at, 512)
            .map_err(|error| Error::corrupt("the archive ends within a header").because(error))?;
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        let here = at;
        let broken = |what: &'static str| Error::corrupt(what).at_offset(here);
        if !is_archive(&header) || number(header.get(148..156)) != Some(sum(&header)) {
            return Err(broken("the header of a member is broken"));
        }
        let size = number(header.get(124..136)).ok_or_else(|| broken("a member without a size"))?;
        let kind = header.get(156).copied().unwrap_or(0);
        let size = match kind {
            b'x' | b'g' | b'L' | b'K' => size,
            _ => long_size.take().unwrap_or(size),
        };
        let offset = at
            .checked_add(BLOCK)
            .ok_or_else(|| broken("a member beyond all bounds"))?;
        let end = offset
            .checked_add(size)
            .filter(|end| *end <= source.len())
            .ok_or_else(|| broken("a member goes beyond the end of the archive"))?;
        at = end
            .checked_next_multiple_of(BLOCK)
            .ok_or_else(|| broken("a member beyond all bounds"))?;
        match kind {
            b'L' => long_name = Some(text(&extension(source, offset, size)?)),
            b'x' => {
                for (key, value) in records(&extension(source, offset, size)?)? {
                    match key.as_str() {
                        "path" => long_name = Some(value),
                        "size" => {
                            let size = value.parse();
                            long_size = Some(size.map_err(|_| broken("a size that is no number"))?);
                        }
                        // A sparse member's bytes are not the file's.
                        key if key.starts_with("GNU.sparse") => {
                            return Err(Error::unsupported("a sparse member of the archive"));
                        }
                        _ => {}
                    }
                }
            }
            b'0' | 0 | b'7' => {
                let name = long_name.take().unwrap_or_else(|| full_name(&header));
                let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
                // Whichever of them is meant, the other was put there to be taken for it.
                if members.iter().any(|member| member.name == name) {
                    return Err(Error::corrupt(format!(
                        "two members of the archive are called {:?}",
                        super::shown(&name)
                    )));
                }
                at_most(members.len().saturating_add(1), MAX_MEMBERS, "members")?;
                members.push(Member { name, offset, size });
            }
            b'S' => return Err(Error::unsupported("a sparse member of the archive")),
            // Folders and links hold nothing; whatever names one finds no member.
            _ => long_name = None,
        }
    }
    Ok(members)
}

fn extension(source: &dyn Source, offset: u64, size: u64) -> Result<Vec<u8>> {
    if size > MAX_EXTENSION {
        return Err(Error::limit(format!(
            "an extended header of {size} bytes in the archive"
        )));
    }
    read_vec_at(source, offset, usize::try_from(size).unwrap_or(usize::MAX))
}

/// `LENGTH KEY=VALUE\n`, the length that of the whole record.
fn records(bytes: &[u8]) -> Result<Vec<(String, String)>> {
    let broken = || Error::corrupt("a pax record of the archive is broken");
    let mut records = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let blank = rest
            .iter()
            .position(|byte| *byte == b' ')
            .ok_or_else(broken)?;
        let len: usize = std::str::from_utf8(rest.get(..blank).unwrap_or_default())
            .ok()
            .and_then(|len| len.parse().ok())
            .filter(|len| *len > blank)
            .ok_or_else(broken)?;
        let (record, after) = rest.split_at_checked(len).ok_or_else(broken)?;
        let record = record.get(blank.saturating_add(1)..).unwrap_or_default();
        let record = String::from_utf8_lossy(record);
        let (key, value) = record.split_once('=').ok_or_else(broken)?;
        let value = value.strip_suffix('\n').ok_or_else(broken)?;
        records.push((key.to_owned(), value.to_owned()));
        rest = after;
    }
    Ok(records)
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(end).into_owned()
}

fn full_name(header: &[u8]) -> String {
    let name = text(header.get(..100).unwrap_or_default());
    // GNU's own headers have times where POSIX has the rest of the name.
    let posix = header.get(257..263) == Some(b"ustar\0");
    let prefix = text(header.get(345..500).unwrap_or_default());
    if posix && !prefix.is_empty() {
        format!("{prefix}/{name}")
    } else {
        name
    }
}

/// Octal digits, or GNU's numbers of 256 when the first bit is set.
fn number(field: Option<&[u8]>) -> Option<u64> {
    let field = field?;
    let (first, rest) = field.split_first()?;
    if *first & 0x80 != 0 {
        let mut value = u64::from(first & 0x7f);
        for byte in rest {
            value = value.checked_mul(256)?.checked_add(u64::from(*byte))?;
        }
        return Some(value);
    }
    let digits = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(digits.trim_matches([' ', '\0']), 8).ok()
}

/// The sum of a header's bytes, its own field taken as blanks.
fn sum(header: &[u8]) -> u64 {
    let bytes = header.iter().enumerate().map(|(at, byte)| {
        if (148..156).contains(&at) {
            32
        } else {
            u64::from(*byte)
        }
    });
    bytes.fold(0, u64::saturating_add)
}
