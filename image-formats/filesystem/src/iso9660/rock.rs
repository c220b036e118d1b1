//! What stands behind the name in a directory record: SUSP (IEEE P1281) and Rock Ridge (P1282).

use dormouse_block::{Error, Result, array_at, le_u32};

use super::record::{long_time, short_time};
use crate::Time;

/// Areas that one record goes on in at most, and bytes of one of them.
const MAX_AREAS: usize = 32;
pub(super) const MAX_AREA: u32 = 2048;
/// Bytes of the longest name and target.
const MAX_NAME: usize = 1024;
const MAX_TARGET: usize = 4096;

/// What Rock Ridge says of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Rock {
    /// Mode with the bits of the kind, links, owner and group (`PX`).
    pub(super) posix: Option<(u32, u32, u32, u32)>,
    /// Major and minor number (`PN`).
    pub(super) device: Option<(u32, u32)>,
    /// The name (`NM`).
    pub(super) name: Option<Vec<u8>>,
    /// The target (`SL`).
    pub(super) target: Option<Vec<u8>>,
    /// What is wrong with the target: that of one link hides nothing else of its folder.
    pub(super) bad_target: Option<&'static str>,
    /// Modified, read, changed (`TF`).
    pub(super) times: [Option<Time>; 3],
    /// The block of the directory that was moved away from here (`CL`).
    pub(super) child: Option<u32>,
    /// It was moved here and is shown elsewhere (`RE`).
    pub(super) moved: bool,
    /// Packed by zisofs (`ZF`).
    pub(super) packed: bool,
    /// A sparse file (`SF`).
    pub(super) sparse: bool,
}

/// The bytes to skip before the entries, if the record of the root says that it has some (`SP`).
pub(super) fn skip(system: &[u8]) -> Option<u8> {
    match system {
        [b'S', b'P', 7, 1, 0xBE, 0xEF, skip, ..]
        // CD-ROM XA puts 14 bytes of its own in front.
        | [_, _, _, _, _, _, b'X', b'A', _, _, _, _, _, _, b'S', b'P', 7, 1, 0xBE, 0xEF, skip, ..] => {
            Some(*skip)
        }
        _ => None,
    }
}

/// Reads the entries in `system`; `more` reads bytes at a block and an offset where they go on.
///
/// # Errors
/// `Corrupt` for broken ones, `Limit` for too many.
pub(super) fn parse(
    system: &[u8],
    more: &mut dyn FnMut(u32, u32, u32) -> Result<Vec<u8>>,
) -> Result<Rock> {
    let mut out = Rock::default();
    let mut area = system.to_vec();
    // Whether the last part of the target or the name goes on.
    let mut joins = false;
    for _ in 0..MAX_AREAS {
        let mut next = None;
        let mut rest = area.as_slice();
        while let [first, second, len, _, ..] = rest {
            let len = usize::from(*len);
            if len < 4 {
                // Zeroes fill the rest.
                break;
            }
            let (entry, after) = rest
                .split_at_checked(len)
                .ok_or_else(|| Error::corrupt("a system use entry that is too long"))?;
            rest = after;
            match &[*first, *second] {
                b"CE" => next = Some((le_u32(entry, 4)?, le_u32(entry, 12)?, le_u32(entry, 20)?)),
                b"ST" => break,
                b"PX" => {
                    out.posix = Some((
                        le_u32(entry, 4)?,
                        le_u32(entry, 12)?,
                        le_u32(entry, 20)?,
                        le_u32(entry, 28)?,
                    ));
                }
                b"PN" => out.device = Some(device(le_u32(entry, 4)?, le_u32(entry, 12)?)),
                b"NM" => {
                    let [flags] = array_at(entry, 4)?;
                    // `.` and `..` have no name.
                    if flags & 6 == 0 {
                        let name = out.name.get_or_insert_default();
                        name.extend_from_slice(entry.get(5..).unwrap_or_default());
                        if name.len() > MAX_NAME {
                            return Err(Error::limit("a name of more than 1024 bytes"));
                        }
                    }
                }
                b"SL" => {
                    let target = out.target.get_or_insert_default();
                    let added = link(entry.get(5..).unwrap_or_default(), target, &mut joins);
                    out.bad_target = out.bad_target.or(added.err());
                }
                b"TF" => times(entry, &mut out.times)?,
                b"CL" => out.child = Some(le_u32(entry, 4)?),
                b"RE" => out.moved = true,
                b"ZF" => out.packed = true,
                b"SF" => out.sparse = true,
                _ => {}
            }
        }
        let Some((block, offset, len)) = next else {
            return Ok(out);
        };
        if len > MAX_AREA {
            return Err(Error::corrupt("a continuation of more than a sector"));
        }
        area = more(block, offset, len)?;
    }
    Err(Error::limit("a record that goes on in more than 32 places"))
}

/// The two halves of a device's number, or the number packed into the lower one as Linux does.
fn device(high: u32, low: u32) -> (u32, u32) {
    if high == 0 && low > 0xFF {
        return (low >> 8, low & 0xFF);
    }
    (high, low)
}

/// Adds the components of a symbolic link.
fn link(mut rest: &[u8], target: &mut Vec<u8>, joins: &mut bool) -> Result<(), &'static str> {
    while let [flags, len, after @ ..] = rest {
        let (text, after) = after
            .split_at_checked(usize::from(*len))
            .ok_or("a component of a symbolic link that is too long")?;
        rest = after;
        if !target.is_empty() && !*joins && target.as_slice() != b"/" {
            target.push(b'/');
        }
        match flags & 0xE {
            0 => target.extend_from_slice(text),
            2 => target.push(b'.'),
            4 => target.extend_from_slice(b".."),
            8 => {
                target.clear();
                target.push(b'/');
            }
            _ => return Err("an unknown component of a symbolic link"),
        }
        *joins = flags & 1 != 0;
        if target.len() > MAX_TARGET {
            return Err("a symbolic link of more than 4096 bytes");
        }
    }
    Ok(())
}

/// Reads times: those that the flags name follow each other.
fn times(entry: &[u8], out: &mut [Option<Time>; 3]) -> Result<()> {
    let [flags] = array_at(entry, 4)?;
    let size = if flags & 0x80 != 0 { 17 } else { 7 };
    let mut rest = entry.get(5..).unwrap_or_default();
    for bit in 0..7_u8 {
        if flags >> bit & 1 == 0 {
            continue;
        }
        let (stamp, after) = rest
            .split_at_checked(size)
            .ok_or_else(|| Error::corrupt("times that are cut short"))?;
        rest = after;
        let time = match stamp.first_chunk::<7>() {
            Some(short) if size == 7 => Some(short_time(*short)),
            _ => long_time(stamp),
        };
        // Created, modified, read, changed.
        if let Some(to) = usize::from(bit)
            .checked_sub(1)
            .and_then(|nth| out.get_mut(nth))
        {
            *to = time;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_was_cut_wrong_keeps_its_name_and_says_so() {
        // A component of 200 bytes in an entry of 8, then a name.
        let mut system = vec![b'S', b'L', 8, 1, 0, 0, 200, b'x'];
        system.extend_from_slice(&[b'N', b'M', 9, 1, 0, b'l', b'i', b'n', b'k']);
        let rock = parse(&system, &mut |_, _, _| Ok(Vec::new())).unwrap();
        assert_eq!(rock.name.as_deref(), Some(&b"link"[..]));
        assert!(rock.bad_target.is_some());
        let good = [b'S', b'L', 8, 1, 0, 0, 1, b'x'];
        let rock = parse(&good, &mut |_, _, _| Ok(Vec::new())).unwrap();
        assert_eq!(
            (rock.target.as_deref(), rock.bad_target),
            (Some(&b"x"[..]), None)
        );
    }
}
