//! LUKS1 (LUKS On-Disk Format Specification 1.2.3), big-endian.

use dormouse_block::{Error, Result, Source, be_u16, be_u32, read_vec_at, slice_at};

use super::header::{Header, Segment, text};
use super::slot::{KeyDigest, Slot};
use crate::hash::Hash;
use crate::kdf::Kdf;

/// Bytes of the header.
const SIZE: usize = 592;
/// A key slot in use, and its place and size.
const ACTIVE: u32 = 0x00ac_71f3;
const FIRST_SLOT: usize = 208;
const SLOT_SIZE: usize = 48;
const SLOTS: usize = 8;

/// Reads the header at the beginning of `source`.
///
/// # Errors
/// `Corrupt` for impossible numbers, `Unsupported` for digests that are not known.
pub(super) fn read(source: &dyn Source) -> Result<Header> {
    let bytes = read_vec_at(source, 0, SIZE)?;
    if be_u16(&bytes, 6)? != 1 {
        return Err(Error::corrupt("no header of LUKS1"));
    }
    let cipher = format!("{}-{}", text(&bytes, 8, 32)?, text(&bytes, 40, 32)?);
    let hash = Hash::parse(&text(&bytes, 72, 32)?)?;
    let key_len = usize::try_from(be_u32(&bytes, 108)?).unwrap_or(usize::MAX);
    let sectors =
        |at: usize| -> Result<u64> { Ok(u64::from(be_u32(&bytes, at)?).saturating_mul(512)) };
    let mut slots = Vec::new();
    for slot in 0..SLOTS {
        let at = FIRST_SLOT.saturating_add(slot.saturating_mul(SLOT_SIZE));
        if be_u32(&bytes, at)? != ACTIVE {
            continue;
        }
        slots.push(Ok(Slot {
            kdf: Kdf::Pbkdf2 {
                hash,
                iterations: be_u32(&bytes, at.saturating_add(4))?,
            },
            salt: slice_at(&bytes, at.saturating_add(8), 32)?.to_vec(),
            key_len,
            cipher: cipher.clone(),
            cipher_key_len: key_len,
            offset: sectors(at.saturating_add(40))?,
            stripes: usize::try_from(be_u32(&bytes, at.saturating_add(44))?).unwrap_or(usize::MAX),
            hash,
        }));
    }
    Ok(Header {
        version: "LUKS1",
        uuid: text(&bytes, 168, 40)?,
        slots,
        digest: KeyDigest {
            hash,
            iterations: be_u32(&bytes, 164)?,
            salt: slice_at(&bytes, 132, 32)?.to_vec(),
            digest: slice_at(&bytes, 112, 20)?.to_vec(),
        },
        segments: vec![Segment::Encrypted {
            offset: sectors(104)?,
            len: None,
            cipher,
            sector: 512,
            first: 0,
        }],
        note: None,
        bytes,
    })
}
