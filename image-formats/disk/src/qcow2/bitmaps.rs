//! The directory of dirty bitmaps: which blocks changed since when is for backup programs; that they are kept is told.

use dormouse_block::{
    Error, Result, Source, be_u16, be_u32, escape_terminal, read_vec_at, slice_at,
};

use super::header::{BitmapDirectory, Header};
use crate::Bitmap;

/// QEMU's own limit (`QCOW2_MAX_BITMAPS`).
const MAX_BITMAPS: u32 = 65535;
/// Bytes of the directory. QEMU allows 64 MiB; 4 MiB hold more bitmaps than anybody keeps.
const MAX_DIRECTORY: u64 = 4 << 20;
/// Fixed fields of an entry.
const ENTRY: usize = 24;
/// Flag: the bitmap was not saved, and says nothing.
const IN_USE: u32 = 1;
/// Flag: it goes on recording when the image is opened.
const AUTO: u32 = 1 << 1;

/// Reads the directory of `file`.
pub(super) fn read(file: &dyn Source, header: &Header) -> Result<Vec<Bitmap>> {
    let Some(BitmapDirectory { count, len, offset }) = header.bitmaps else {
        return Ok(Vec::new());
    };
    if count > MAX_BITMAPS || len > MAX_DIRECTORY {
        return Err(Error::limit(format!(
            "a directory of {count} bitmaps in {len} bytes is larger than {MAX_BITMAPS} in {MAX_DIRECTORY}"
        )));
    }
    header.check_table(file, offset, len, "the directory of bitmaps")?;
    let len = usize::try_from(len).map_err(|_| Error::limit("the directory is too large"))?;
    let directory = read_vec_at(file, offset, len)?;
    let mut bitmaps = Vec::new();
    let mut at = 0_usize;
    for _ in 0..count {
        let fixed = slice_at(&directory, at, ENTRY)?;
        let flags = be_u32(fixed, 12)?;
        let bits = u32::from(fixed.get(17).copied().unwrap_or(0));
        let name_len = usize::from(be_u16(fixed, 18)?);
        let extra_len = usize::try_from(be_u32(fixed, 20)?).unwrap_or(usize::MAX);
        let next = |at: usize, len: usize| {
            at.checked_add(len)
                .ok_or_else(|| Error::corrupt("a bitmap's entry has an impossible length"))
        };
        let name_at = next(next(at, ENTRY)?, extra_len)?;
        let name = slice_at(&directory, name_at, name_len)?;
        bitmaps.push(Bitmap {
            name: escape_terminal(&String::from_utf8_lossy(name)).into_owned(),
            granularity: 1_u64.checked_shl(bits).ok_or_else(|| {
                Error::corrupt(format!("a bitmap's granularity of 2^{bits} is impossible"))
            })?,
            consistent: flags & IN_USE == 0,
            recording: flags & AUTO != 0,
        });
        at = next(name_at, name_len)?
            .checked_next_multiple_of(8)
            .ok_or_else(|| Error::corrupt("a bitmap's entry has an impossible length"))?;
    }
    Ok(bitmaps)
}
