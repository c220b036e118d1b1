//! RAID as the device mapper does it (`drivers/md/dm-raid.c`): images, each with a small volume of metadata beside it.

use std::sync::Arc;

use dormouse_block::{Error, Result, Source, le_u32, le_u64, read_vec_at};

use super::group::Segment;
use super::open::{Opened, Opener, bound, sectors};
use crate::chunked::{Chunked, Copies, Layout, Parity};

/// `DM_RAID_MAGIC`, "DmRd".
const MAGIC: u32 = 0x6452_6d44;
/// `SB_FLAG_RESHAPE_ACTIVE`.
const RESHAPING: u32 = 1;
/// Nothing is left to recover or to bring in step (`MaxSector`).
const DONE: u64 = u64::MAX;
/// Images of one volume: the kernel's bound is 253, lvm2's 64.
const MAX_IMAGES: usize = 253;

/// What an image's metadata say.
struct Superblock {
    events: u64,
    /// A bit for each image that has failed.
    failed: u64,
    recovered: u64,
    resynced: u64,
    flags: u32,
}

/// An image that is here.
struct Image {
    source: Arc<dyn Source>,
    superblock: Option<Superblock>,
}

/// Opens a RAID segment; images that are missing, failed or out of date are left out.
pub(super) fn open(opener: &Opener<'_>, segment: &Segment) -> Result<Opened> {
    let kind = segment.kind.as_str();
    let layout = layout(segment)?;
    let images = images(opener, segment)?;
    let count = images.len();
    if count == 0 || count > MAX_IMAGES {
        return Err(Error::corrupt(format!("{count} images are impossible")));
    }
    let newest = images
        .iter()
        .flatten()
        .filter_map(|image| image.superblock.as_ref())
        .max_by_key(|superblock| superblock.events);
    if newest.is_some_and(|newest| newest.flags & RESHAPING != 0) {
        return Err(Error::unsupported("it is being reshaped"));
    }
    let in_step = newest.is_none_or(|newest| newest.resynced == DONE);
    let sound: Vec<Option<Arc<dyn Source>>> = images
        .iter()
        .zip(0_u32..)
        .map(|(image, number)| {
            let image = image.as_ref()?;
            image.is_sound(newest, number).then(|| image.source.clone())
        })
        .collect();
    let missing = sound.iter().filter(|image| image.is_none()).count();
    let lost = |error: Error| match missing {
        0 => error,
        _ => Error::unsupported(format!(
            "{missing} of its {count} images are missing or out of date"
        ))
        .because(error),
    };
    let Some(layout) = layout else {
        let source = sound.into_iter().flatten().next();
        let source = source.ok_or_else(|| lost(Error::unsupported("no image is left")))?;
        return Ok(bound(kind, source, "it is mirrored"));
    };
    if missing > 0 && matches!(layout, Layout::Parity(_)) && !in_step {
        return Err(lost(Error::unsupported("its parity is not in step")));
    }
    let size = sound.iter().flatten().map(Source::len).min().unwrap_or(0);
    let chunk = sectors(segment, "stripe_size")?;
    let layout = match layout {
        Layout::Copies(_) => {
            let near = u32::try_from(segment.section.optional("data_copies")?.unwrap_or(2))
                .ok()
                .filter(|near| (2..=255).contains(near))
                .ok_or_else(|| Error::corrupt("impossible copies"))?;
            // One far copy is the near ones alone.
            let chunks = size.checked_div(chunk).unwrap_or(0);
            let members = u64::try_from(count).unwrap_or(u64::MAX);
            Layout::Copies(Copies::new(near | 1 << 8, members, chunks)?)
        }
        other => other,
    };
    let chunked = Chunked::new(layout, chunk, size, sound).map_err(lost)?;
    Ok(bound(
        kind,
        Arc::new(chunked),
        "it is spread over RAID images",
    ))
}

/// How its data is spread; `None` for plain mirrors. Copies are yet to be reckoned.
fn layout(segment: &Segment) -> Result<Option<Layout>> {
    let parity = |redundancy, algorithm| {
        Some(Layout::Parity(Parity {
            redundancy,
            algorithm,
        }))
    };
    // The numbers of `raid5.h` that dm-raid's table of types gives.
    Ok(match segment.kind.as_str() {
        "raid0" | "raid0_meta" => Some(Layout::Striped),
        "raid1" => None,
        "raid4" => parity(1, 4),
        "raid5_la" => parity(1, 0),
        "raid5_ra" => parity(1, 1),
        "raid5" | "raid5_ls" => parity(1, 2),
        "raid5_rs" => parity(1, 3),
        "raid5_n" => parity(1, 5),
        "raid6" | "raid6_zr" => parity(2, 8),
        "raid6_nr" => parity(2, 9),
        "raid6_nc" => parity(2, 10),
        "raid6_n_6" => parity(2, 5),
        "raid6_la_6" => parity(2, 16),
        "raid6_ra_6" => parity(2, 17),
        "raid6_ls_6" => parity(2, 18),
        "raid6_rs_6" => parity(2, 19),
        "raid10" | "raid10_near" => Some(Layout::Copies(Copies::new(1 | 1 << 8, 1, 0)?)),
        kind => {
            return Err(Error::unsupported(format!(
                "it is of type {}, which is not read",
                dormouse_block::escape_terminal(kind)
            )));
        }
    })
}

/// Its images; `None` for those whose volumes cannot be opened.
fn images(opener: &Opener<'_>, segment: &Segment) -> Result<Vec<Option<Image>>> {
    let plain = segment.names("raid0_lvs")?;
    let pairs = segment.names("raids")?;
    if !plain.is_empty() {
        return Ok(plain.iter().map(|name| image(opener, None, name)).collect());
    }
    Ok(pairs
        .chunks(2)
        .map(|pair| match pair {
            [metadata, data] => image(opener, Some(metadata), data),
            _ => None,
        })
        .collect())
}

fn image(opener: &Opener<'_>, metadata: Option<&str>, data: &str) -> Option<Image> {
    let source = opener.raw(data).ok()?.source;
    let superblock = match metadata {
        Some(metadata) => superblock(&*opener.raw(metadata).ok()?.source).ok()?,
        None => None,
    };
    Some(Image { source, superblock })
}

/// `None` before the volume was activated for the first time.
fn superblock(source: &dyn Source) -> Result<Option<Superblock>> {
    let bytes = read_vec_at(source, 0, 512)?;
    if le_u32(&bytes, 0)? != MAGIC {
        return Ok(None);
    }
    Ok(Some(Superblock {
        events: le_u64(&bytes, 16)?,
        failed: le_u64(&bytes, 24)?,
        recovered: le_u64(&bytes, 32)?,
        resynced: le_u64(&bytes, 40)?,
        flags: le_u32(&bytes, 60)?,
    }))
}

impl Image {
    /// Whether its data is up to date, by its own account and by that of the newest.
    fn is_sound(&self, newest: Option<&Superblock>, number: u32) -> bool {
        let Some(newest) = newest else {
            return true;
        };
        let failed = newest.failed.checked_shr(number).unwrap_or(0) & 1 == 1;
        let Some(own) = &self.superblock else {
            // It took another's place and was never filled.
            return false;
        };
        let current = own.events.saturating_add(1) >= newest.events;
        !failed && current && own.recovered == DONE
    }
}
