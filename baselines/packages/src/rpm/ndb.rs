//! The ndb backend: `Packages.db`, slots that point to checksummed blobs.
//!
//! Source: `lib/backend/ndb/rpmpkg.c` of rpm. All integers are little-endian.

use std::collections::BTreeSet;

use dormouse_block::{Error, Result, le_u32, slice_at};

use super::MAX_HEADER;
use crate::cataloger::passes_on;
use crate::guest_file::GuestFile;

/// `RpmP`, `Slot`, `BlbS`, `BlbE`.
const MAGIC: &[u8; 4] = b"RpmP";
const SLOT: &[u8; 4] = b"Slot";
const BLOB_START: &[u8; 4] = b"BlbS";
const BLOB_END: &[u8; 4] = b"BlbE";
/// Slots are in pages of this many bytes; blobs in blocks of 16. The file's header takes the first two slots.
const PAGE: u64 = 4096;
const SLOT_SIZE: usize = 16;
const BLOCK: u64 = 16;
/// What stands before and after a blob: magic, package, generation, length; checksum, length, magic.
const HEAD: usize = 16;
const TAIL: usize = 12;
/// Pages of slots: room for a million packages.
const MAX_SLOT_PAGES: u32 = 4096;

/// Hands every blob to `take`; in the place of those that do not read, why.
///
/// # Errors
/// `Corrupt` or `Unsupported` for a file whose slots do not read; the host's failures, and whatever `take` returns.
pub(super) fn each_blob(
    file: &mut GuestFile,
    take: &mut dyn FnMut(Result<&[u8]>) -> Result<()>,
) -> Result<()> {
    let header = file.read(0, 32)?;
    if slice_at(header, 0, 4)? != MAGIC {
        return Err(Error::corrupt("no ndb database"));
    }
    let (version, pages) = (le_u32(header, 4)?, le_u32(header, 12)?);
    if version != 0 {
        return Err(Error::unsupported(format!(
            "an ndb database of version {version}"
        )));
    }
    if pages == 0 || pages > MAX_SLOT_PAGES {
        return Err(Error::limit(format!("{pages} pages of slots")));
    }
    let mut seen = BTreeSet::new();
    // Blobs do not overlap: together they have no more bytes than the file.
    let mut budget = file.len();
    for page in 0..u64::from(pages) {
        let slots = file.read(page.saturating_mul(PAGE), 4096)?.to_vec();
        let (slots, _) = slots.as_chunks::<SLOT_SIZE>();
        let skipped = if page == 0 { 2 } else { 0 };
        for slot in slots.iter().skip(skipped) {
            if slice_at(slot, 0, 4)? != SLOT {
                take(Err(Error::corrupt("a slot without its magic number")
                    .at_offset(page.saturating_mul(PAGE))))?;
                // What cannot be told from a slot cannot be told from the next one either.
                break;
            }
            let package = le_u32(slot, 4)?;
            if package == 0 {
                continue;
            }
            if !seen.insert(package) {
                take(Err(Error::corrupt(format!(
                    "two slots of package {package}"
                ))))?;
                continue;
            }
            let (start, count) = (le_u32(slot, 8)?, le_u32(slot, 12)?);
            match blob(file, package, start, count, &mut budget) {
                Ok(blob) => take(Ok(blob))?,
                Err(error) if passes_on(&error) => return Err(error),
                Err(error) => {
                    let what = format!("the blob of package {package} does not read");
                    take(Err(Error::new(error.kind(), what).because(error)))?;
                }
            }
        }
    }
    Ok(())
}

fn blob<'a>(
    file: &'a mut GuestFile,
    package: u32,
    start: u32,
    count: u32,
    budget: &mut u64,
) -> Result<&'a [u8]> {
    let offset = u64::from(start).saturating_mul(BLOCK);
    let size = u64::from(count).saturating_mul(BLOCK);
    let end = offset.saturating_add(size);
    if end > file.len() {
        return Err(Error::corrupt("the file ends before it").at_offset(offset));
    }
    *budget = budget
        .checked_sub(size)
        .ok_or_else(|| Error::corrupt("blobs overlap").at_offset(offset))?;
    let length = usize::try_from(size).unwrap_or(usize::MAX);
    if length > MAX_HEADER {
        return Err(Error::limit(format!("{length} bytes")).at_offset(offset));
    }
    let all = file.read(offset, length)?;
    let bad = |what: &'static str| Error::corrupt(what).at_offset(offset);
    if slice_at(all, 0, 4)? != BLOB_START || le_u32(all, 4)? != package {
        return Err(bad("what the slot points to is another's"));
    }
    let len = usize::try_from(le_u32(all, 12)?).unwrap_or(usize::MAX);
    let whole = len.saturating_add(HEAD).saturating_add(TAIL);
    if whole.div_ceil(16).saturating_mul(16) != length {
        return Err(bad("its length is not the slot's"));
    }
    let tail_at = length.saturating_sub(TAIL);
    let tail = slice_at(all, tail_at, TAIL)?;
    let checked = slice_at(all, 0, tail_at)?;
    if slice_at(tail, 8, 4)? != BLOB_END || usize::try_from(le_u32(tail, 4)?).ok() != Some(len) {
        return Err(bad("its end is not its own"));
    }
    if adler32(checked) != le_u32(tail, 0)? {
        return Err(bad("its checksum does not match"));
    }
    slice_at(all, HEAD, len)
}

/// Adler-32 (RFC 1950).
fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    // As many bytes as fit before the sums overflow 32 bits.
    const STEP: usize = 5552;
    let (mut a, mut b) = (1_u32, 0_u32);
    for chunk in bytes.chunks(STEP) {
        for &byte in chunk {
            a = a.wrapping_add(u32::from(byte));
            b = b.wrapping_add(a);
        }
        a %= MODULUS;
        b %= MODULUS;
    }
    b << 16 | a
}
