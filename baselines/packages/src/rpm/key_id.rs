//! Which key an OpenPGP signature says it was made with. The signature itself is not verified here.

use dormouse_block::{be_u16, be_u32};

/// Subpackets that name the issuer: its key id, its fingerprint (RFC 9580 sections 5.2.3.12 and 5.2.3.35).
const ISSUER: u8 = 16;
const ISSUER_FINGERPRINT: u8 = 33;

/// The key id in a signature packet, in lower-case hexadecimal; `None` for what is none, or names no key.
pub(super) fn of_signature(packet: &[u8]) -> Option<String> {
    let body = body(packet)?;
    let id = match body.first()? {
        // Version, length of what is hashed (5), type, time, key id (RFC 9580 section 5.2.2).
        2 | 3 => body.get(7..15)?,
        version @ (4 | 6) => {
            let wide = *version == 6;
            let (hashed, rest) = subpackets(body.get(4..)?, wide)?;
            let (other, _) = subpackets(rest, wide)?;
            issuer(hashed).or_else(|| issuer(other))?
        }
        _ => return None,
    };
    Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The body of a signature packet, in either form of header (RFC 9580 section 4.2).
fn body(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let (tag, start, length) = match first {
        0xc0.. => {
            let (start, length) = length(packet.get(1..)?)?;
            (first & 0x3f, start.checked_add(1)?, length)
        }
        0x80..=0xbf => {
            let (start, length) = match first & 3 {
                0 => (2, usize::from(*packet.get(1)?)),
                1 => (3, usize::from(be_u16(packet, 1).ok()?)),
                2 => (5, usize::try_from(be_u32(packet, 1).ok()?).ok()?),
                _ => (1, packet.len().checked_sub(1)?),
            };
            (first >> 2 & 0x0f, start, length)
        }
        _ => return None,
    };
    (tag == 2)
        .then(|| packet.get(start..start.checked_add(length)?))
        .flatten()
}

/// A length of one, two or five bytes: how many it took, and the length (RFC 9580 sections 4.2.1 and 5.2.3.7).
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let first = *bytes.first()?;
    match first {
        0..=191 => Some((1, usize::from(first))),
        192..=254 => {
            let high = usize::from(first).checked_sub(192)?.checked_mul(256)?;
            Some((
                2,
                high.checked_add(usize::from(*bytes.get(1)?))?
                    .checked_add(192)?,
            ))
        }
        255 => Some((5, usize::try_from(be_u32(bytes, 1).ok()?).ok()?)),
    }
}

/// A block of subpackets behind its length, and what follows it.
fn subpackets(bytes: &[u8], wide: bool) -> Option<(&[u8], &[u8])> {
    if wide {
        let length = usize::try_from(be_u32(bytes, 0).ok()?).ok()?;
        bytes.get(4..)?.split_at_checked(length)
    } else {
        let length = usize::from(be_u16(bytes, 0).ok()?);
        bytes.get(2..)?.split_at_checked(length)
    }
}

/// The eight bytes of the issuer's key id.
fn issuer(mut bytes: &[u8]) -> Option<&[u8]> {
    while !bytes.is_empty() {
        let (taken, length) = length(bytes)?;
        let (one, rest) = bytes.get(taken..)?.split_at_checked(length)?;
        match one.split_first() {
            Some((kind, id)) if kind & 0x7f == ISSUER && id.len() == 8 => return Some(id),
            // The id is the end of a fingerprint of version 4, and the beginning of a later one.
            Some((kind, print)) if kind & 0x7f == ISSUER_FINGERPRINT => match print.split_first() {
                Some((4, print)) => return print.last_chunk::<8>().map(<[u8; 8]>::as_slice),
                Some((_, print)) => return print.first_chunk::<8>().map(<[u8; 8]>::as_slice),
                None => return None,
            },
            _ => {}
        }
        bytes = rest;
    }
    None
}
