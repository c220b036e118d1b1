//! Mirrors of the older kind (`dm-mirror`), with their logs.

use dormouse_block::{Error, Result, Source, le_u32, le_u64, read_vec_at};

use super::group::Segment;
use super::open::{Opened, Opener, bound};

/// `MIRROR_MAGIC` and `MIRROR_DISK_VERSION` of `drivers/md/dm-log.c`.
const MAGIC: u32 = 0x4d69_5272;
const VERSION: u32 = 2;
/// Where the bits begin, one of each region that is in step.
const BITS: u64 = 1024;
/// Bytes of bits: as many as regions of 512 bytes on 4 GiB, or of 512 KiB on 4 TiB.
const MAX_BITS: u64 = 1 << 20;

/// Opens a mirror. Its first leg is always right; another one is when the log says that all is in step.
pub(super) fn open(opener: &Opener<'_>, segment: &Segment) -> Result<Opened> {
    let legs = segment.areas("mirrors")?;
    let mut failure = None;
    for leg in &legs {
        match opener.area(leg, segment.extents) {
            Ok((source, _)) => {
                if let Some(error) = failure
                    && !in_step(opener, segment)?
                {
                    return Err(Error::unsupported(
                        "the first leg of the mirror is missing, and the others may be out of step",
                    )
                    .because(error));
                }
                return Ok(bound("mirror", source, "it is mirrored"));
            }
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
    }
    Err(failure.unwrap_or_else(|| Error::corrupt("a mirror without legs")))
}

/// Whether the mirror's log says that every region is the same on all legs.
fn in_step(opener: &Opener<'_>, segment: &Segment) -> Result<bool> {
    let Ok(log) = segment.section.text("mirror_log") else {
        return Ok(false);
    };
    let log = opener.raw(log)?.source;
    let header = read_vec_at(&*log, 0, 512)?;
    if le_u32(&header, 0)? != MAGIC || le_u32(&header, 4)? != VERSION {
        return Ok(false);
    }
    let regions = le_u64(&header, 8)?;
    let bytes = regions.div_ceil(8);
    if bytes > MAX_BITS {
        return Err(Error::limit(format!("a mirror's log of {regions} regions")));
    }
    let bits = read_vec_at(
        &*log as &dyn Source,
        BITS,
        usize::try_from(bytes).unwrap_or(0),
    )?;
    Ok((0..regions).all(|region| {
        let byte = usize::try_from(region / 8).ok().and_then(|at| bits.get(at));
        byte.is_some_and(|byte| byte >> (region % 8) & 1 == 1)
    }))
}
