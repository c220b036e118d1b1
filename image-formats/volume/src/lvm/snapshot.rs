//! Snapshots that keep what their origin overwrote (`drivers/md/dm-snap-persistent.c`).

use std::collections::BTreeMap;
use std::sync::Arc;

use dormouse_block::{Error, Result, Source, le_u32, le_u64, read_vec_at};

use crate::joined::{check_range, length, split_at};

/// `SNAP_MAGIC`, "SnAp".
const MAGIC: u32 = 0x7041_6e53;
/// `SNAPSHOT_DISK_VERSION`.
const VERSION: u32 = 1;
/// Bytes of an exception: the chunk of the origin, and that of the store.
const EXCEPTION: u64 = 16;
/// Chunks, in bytes: 4 KiB to 512 KiB are lvm2's, 1 MiB leaves room.
const MAX_CHUNK: u64 = 1 << 20;
/// Exceptions of one snapshot: a store of 16 GiB in chunks of 4 KiB, some 100 MiB of memory here.
const MAX_EXCEPTIONS: usize = 1 << 22;

/// The earlier state of an origin.
pub(super) struct Snapshot {
    store: Arc<dyn Source>,
    origin: Arc<dyn Source>,
    chunk: u64,
    /// Chunks of the origin that were overwritten, and where the store keeps what they held.
    exceptions: BTreeMap<u64, u64>,
}

impl Snapshot {
    /// Reads all exceptions of `store`.
    ///
    /// # Errors
    /// `Unsupported` when the snapshot overflowed and is lost, `Corrupt`, `Limit`.
    pub(super) fn open(store: Arc<dyn Source>, origin: Arc<dyn Source>) -> Result<Self> {
        let header = read_vec_at(&*store, 0, 512)?;
        let magic = le_u32(&header, 0)?;
        if magic == 0 {
            // "If the magic is zero, the snapshot is new": nothing was overwritten yet.
            return Ok(Self {
                store,
                origin,
                chunk: 512,
                exceptions: BTreeMap::new(),
            });
        }
        if magic != MAGIC {
            return Err(Error::corrupt("the snapshot's store has no signature"));
        }
        if le_u32(&header, 4)? == 0 {
            return Err(Error::unsupported(
                "the snapshot is invalid: its store was too small for all that was overwritten",
            ));
        }
        let version = le_u32(&header, 8)?;
        if version != VERSION {
            return Err(Error::unsupported(format!(
                "snapshot stores of version {version}"
            )));
        }
        let chunk = u64::from(le_u32(&header, 12)?).saturating_mul(512);
        if !chunk.is_power_of_two() || chunk > MAX_CHUNK {
            return Err(Error::corrupt(format!(
                "chunks of {chunk} bytes are impossible"
            )));
        }
        let exceptions = read_exceptions(&*store, chunk)?;
        Ok(Self {
            store,
            origin,
            chunk,
            exceptions,
        })
    }
}

/// Areas of exceptions, between each of which lie as many chunks of data as it has entries; an entry of nothing ends
/// them.
fn read_exceptions(store: &dyn Source, chunk: u64) -> Result<BTreeMap<u64, u64>> {
    let per_area = chunk.checked_div(EXCEPTION).unwrap_or(0);
    let chunks = store.len().checked_div(chunk).unwrap_or(0);
    let size = usize::try_from(chunk).unwrap_or(0);
    let mut exceptions = BTreeMap::new();
    // The header takes the first chunk.
    let mut at = 1_u64;
    while at < chunks {
        let area = read_vec_at(store, at.saturating_mul(chunk), size)?;
        for entry in area.as_chunks::<16>().0 {
            let old = le_u64(entry, 0)?;
            let new = le_u64(entry, 8)?;
            if new == 0 {
                return Ok(exceptions);
            }
            if new >= chunks {
                return Err(Error::corrupt(
                    "an exception lies beyond the snapshot's store",
                ));
            }
            exceptions.insert(old, new);
            if exceptions.len() > MAX_EXCEPTIONS {
                return Err(Error::limit(format!(
                    "more than the {MAX_EXCEPTIONS} exceptions allowed of one snapshot"
                )));
            }
        }
        at = at.saturating_add(per_area).saturating_add(1);
    }
    Ok(exceptions)
}

impl Source for Snapshot {
    fn len(&self) -> u64 {
        self.origin.len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(offset, buf.len(), self.len())?;
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let chunk = at.checked_div(self.chunk).unwrap_or(0);
            let within = at.checked_rem(self.chunk).unwrap_or(0);
            let kept = self.exceptions.get(&chunk);
            let end = match kept {
                Some(_) => chunk.saturating_add(1),
                // As far as the origin is as it was.
                None => self
                    .exceptions
                    .range(chunk..)
                    .next()
                    .map_or(u64::MAX, |(next, _)| *next),
            };
            let until = end.saturating_mul(self.chunk).saturating_sub(at);
            let (now, later) = split_at(rest, until);
            match kept {
                Some(place) => {
                    let start = place.saturating_mul(self.chunk).saturating_add(within);
                    self.store.read_exact_at(start, now)?;
                }
                None => self.origin.read_exact_at(at, now)?,
            }
            at = at.saturating_add(length(now));
            rest = later;
        }
        Ok(())
    }
}
