//! The devices of a filesystem, and reading logical addresses from them, copy by copy.

use std::collections::BTreeSet;
use std::sync::Arc;

use dormouse_block::{Error, ErrorKind, Result, Source};

use super::chunk::{ChunkMap, Place, Stripe};
use super::superblock::Superblock;
use super::{index, overflow, wide};

/// A device that is there.
struct Device {
    number: u64,
    uuid: [u8; 16],
    source: Arc<dyn Source>,
}

/// The devices at hand, and the chunks on them.
pub(super) struct Pool {
    devices: Vec<Device>,
    pub(super) chunks: ChunkMap,
    /// UUIDs that tree nodes may carry: the filesystem's own, and those of the seeds it stands on.
    node_uuids: BTreeSet<[u8; 16]>,
}

impl Pool {
    /// The device `source`, and those of `others` that may belong to the same filesystem; with the newest superblock.
    pub(super) fn new(
        source: Arc<dyn Source>,
        others: &[Arc<dyn Source>],
    ) -> Result<(Self, Superblock)> {
        let mut sb = Superblock::read(source.as_ref())?;
        let mut pool = Self {
            devices: vec![Device {
                number: sb.device.0,
                uuid: sb.device.1,
                source,
            }],
            chunks: ChunkMap::default(),
            node_uuids: BTreeSet::new(),
        };
        for other in others {
            // A broken one is a missing one, which is said when it is needed.
            let theirs = match Superblock::read(other.as_ref()) {
                Ok(theirs) => theirs,
                Err(error) if stops(&error) => return Err(error),
                Err(_) => continue,
            };
            let same = theirs.fsid == sb.fsid && theirs.metadata_uuid == sb.metadata_uuid;
            if !same && !theirs.is_seed() {
                continue;
            }
            if pool.devices.iter().any(|have| have.uuid == theirs.device.1) {
                continue;
            }
            pool.devices.push(Device {
                number: theirs.device.0,
                uuid: theirs.device.1,
                source: other.clone(),
            });
            if !same {
                pool.node_uuids.insert(theirs.metadata_uuid);
            } else if theirs.generation > sb.generation {
                sb = theirs;
            }
        }
        pool.node_uuids.insert(sb.metadata_uuid);
        Ok((pool, sb))
    }

    /// Whether tree nodes may carry this UUID.
    pub(super) fn knows(&self, uuid: &[u8; 16]) -> bool {
        self.node_uuids.contains(uuid)
    }

    /// Ways to read the bytes at `logical`.
    pub(super) fn copies(&self, logical: u64) -> Result<usize> {
        Ok(self.chunks.find(logical)?.0.copies())
    }

    fn read_stripe(&self, stripe: &Stripe, buf: &mut [u8]) -> Result<()> {
        let device = self
            .devices
            .iter()
            .find(|device| device.number == stripe.device && device.uuid == stripe.uuid)
            .ok_or_else(|| {
                Error::unsupported(format!(
                    "device {} of the btrfs filesystem is missing",
                    stripe.device
                ))
            })?;
        device.source.read_exact_at(stripe.offset, buf)
    }

    /// Fills `buf` from copy `copy` of the bytes at `logical`.
    fn read_copy(&self, logical: u64, copy: usize, buf: &mut [u8]) -> Result<()> {
        let mut done = 0_usize;
        while done < buf.len() {
            let at = logical.checked_add(wide(done)).ok_or_else(overflow)?;
            let (chunk, within) = self.chunks.find(at)?;
            let (place, run) = chunk.place(within, copy.min(chunk.copies().saturating_sub(1)))?;
            let end = done.saturating_add(index(run)).min(buf.len());
            let part = buf
                .get_mut(done..end)
                .filter(|part| !part.is_empty())
                .ok_or_else(overflow)?;
            match place {
                Place::At(stripe) => self.read_stripe(&stripe, part)?,
                Place::Xor(stripes) => {
                    part.fill(0);
                    let mut other = vec![0; part.len()];
                    for stripe in &stripes {
                        self.read_stripe(stripe, &mut other)?;
                        for (to, from) in part.iter_mut().zip(&other) {
                            *to ^= from;
                        }
                    }
                }
            }
            done = end;
        }
        Ok(())
    }

    /// Fills `buf` from the first copy of the bytes at `logical` that `check` accepts.
    ///
    /// # Errors
    /// Of a copy that was read and refused, before that of one that could not be read.
    pub(super) fn read(
        &self,
        logical: u64,
        buf: &mut [u8],
        mut check: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut unread = None;
        let mut refused = None;
        for copy in 0..self.copies(logical)? {
            match self.read_copy(logical, copy, buf) {
                Ok(()) => {}
                Err(error) if stops(&error) => return Err(error),
                Err(error) => {
                    unread.get_or_insert(error);
                    continue;
                }
            }
            match check(buf) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
        Err(refused.or(unread).unwrap_or_else(overflow))
    }
}

/// Errors that another copy does not mend: the host failed, or the caller asked to stop.
fn stops(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Cancelled)
}
