//! Decoded units of compressed images, kept for everyone who reads the same file: the stages of a run open a machine again
//! and again, and machines share their bases.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::Identity;
use foldhash::HashMap;

use crate::decoder::Compression;
use crate::mapped::HostOffset;

/// Bytes that are kept unless more are wanted: enough for a walk among the folders and nodes of one neighbourhood.
const USUAL_ROOM: usize = 4 << 20;

/// Decoded units of all images that are opened with it; clones share them. At most 4 MiB, unless it has other room.
#[derive(Clone)]
pub struct UnitCache(Arc<Mutex<Kept>>);

impl Default for UnitCache {
    fn default() -> Self {
        Self::with_room(USUAL_ROOM)
    }
}

impl fmt::Debug for UnitCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnitCache").finish_non_exhaustive()
    }
}

/// A state of a file, and the unit whose compressed bytes begin there: its offset, and the bytes that it unpacks to.
type UnitKey = (Arc<FileState>, HostOffset, usize);

/// A state of a host file, where in it an image begins, and how that one's units are compressed.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FileState {
    identity: Identity,
    start: u64,
    compression: Compression,
}

#[derive(Default)]
struct Kept {
    units: HashMap<UnitKey, Unit>,
    bytes: usize,
    /// The most of them; there is always room for one unit.
    room: usize,
    /// Counts what was asked for.
    clock: u64,
}

struct Unit {
    bytes: Arc<[u8]>,
    last_used: u64,
}

/// The units of one image file.
#[derive(Clone)]
pub(crate) struct FileUnits {
    cache: UnitCache,
    file: Arc<FileState>,
}

impl UnitCache {
    /// One that keeps at most `room` bytes, and always one unit.
    #[must_use]
    pub fn with_room(room: usize) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            room,
            ..Kept::default()
        })))
    }

    /// Those of the image that begins at the byte `start` of a file in this state.
    pub(crate) fn of(
        &self,
        identity: &Identity,
        start: u64,
        compression: Compression,
    ) -> FileUnits {
        FileUnits {
            cache: self.clone(),
            file: Arc::new(FileState {
                identity: identity.clone(),
                start,
                compression,
            }),
        }
    }
}

impl FileUnits {
    /// How they are compressed.
    pub(crate) fn compression(&self) -> Compression {
        self.file.compression
    }

    fn key(&self, at: HostOffset, len: usize) -> UnitKey {
        (self.file.clone(), at, len)
    }

    /// The unit of `len` bytes whose compressed bytes begin at `at`, if it is kept.
    pub(crate) fn get(&self, at: HostOffset, len: usize) -> Option<Arc<[u8]>> {
        let mut kept = self.cache.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock = kept.clock.saturating_add(1);
        let now = kept.clock;
        let unit = kept.units.get_mut(&self.key(at, len))?;
        unit.last_used = now;
        Some(unit.bytes.clone())
    }

    /// Keeps a unit; those that were used longest ago make room for it.
    pub(crate) fn put(&self, at: HostOffset, bytes: Arc<[u8]>) {
        let mut kept = self.cache.0.lock().unwrap_or_else(PoisonError::into_inner);
        let len = bytes.len();
        let key = self.key(at, len);
        // Two threads may have decoded it at once.
        if kept.units.contains_key(&key) {
            return;
        }
        kept.clock = kept.clock.saturating_add(1);
        while kept.bytes.saturating_add(len) > kept.room {
            let oldest = kept.units.iter().min_by_key(|(_, unit)| unit.last_used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            if let Some(gone) = kept.units.remove(&oldest) {
                kept.bytes = kept.bytes.saturating_sub(gone.bytes.len());
            }
        }
        let unit = Unit {
            bytes,
            last_used: kept.clock,
        };
        kept.bytes = kept.bytes.saturating_add(len);
        kept.units.insert(key, unit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(inode: u64) -> Identity {
        Identity {
            device: 1,
            inode,
            len: 100,
            modified: (0, 0),
            changed: (0, 0),
        }
    }

    #[test]
    fn units_are_shared_by_those_who_open_the_same_state_of_a_file() {
        let cache = UnitCache::default();
        let one = cache.of(&identity(1), 0, Compression::Zstd);
        one.put(HostOffset(7), Arc::from([1, 2, 3]));
        let again = cache.clone().of(&identity(1), 0, Compression::Zstd);
        assert_eq!(again.get(HostOffset(7), 3).as_deref(), Some(&[1, 2, 3][..]));
        assert!(again.get(HostOffset(7), 4).is_none());
        assert!(again.get(HostOffset(8), 3).is_none());
        assert!(
            cache
                .of(&identity(2), 0, Compression::Zstd)
                .get(HostOffset(7), 3)
                .is_none()
        );
        assert!(
            cache
                .of(&identity(1), 512, Compression::Zstd)
                .get(HostOffset(7), 3)
                .is_none()
        );
        let changed = Identity {
            changed: (0, 1),
            ..identity(1)
        };
        let deflate = cache.of(&identity(1), 0, Compression::Deflate);
        assert!(deflate.get(HostOffset(7), 3).is_none());
        assert!(
            cache
                .of(&changed, 0, Compression::Zstd)
                .get(HostOffset(7), 3)
                .is_none()
        );
        assert!(
            UnitCache::default()
                .of(&identity(1), 0, Compression::Zstd)
                .get(HostOffset(7), 3)
                .is_none()
        );
    }

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let cache = UnitCache::with_room(1000);
        let units = cache.of(&identity(1), 0, Compression::Zstd);
        let half: Arc<[u8]> = vec![0; 500].into();
        units.put(HostOffset(1), half.clone());
        units.put(HostOffset(2), half.clone());
        units.put(HostOffset(2), half.clone());
        assert_eq!(cache.0.lock().unwrap().bytes, 1000);
        assert!(units.get(HostOffset(1), half.len()).is_some());
        units.put(HostOffset(3), half.clone());
        assert!(units.get(HostOffset(1), half.len()).is_some());
        assert!(units.get(HostOffset(2), half.len()).is_none());
        // One that is larger than all the room has it alone.
        let large: Arc<[u8]> = vec![0; 1001].into();
        units.put(HostOffset(4), large.clone());
        assert!(units.get(HostOffset(4), large.len()).is_some());
        assert_eq!(cache.0.lock().unwrap().units.len(), 1);
        units.put(HostOffset(5), Arc::from([1]));
        assert_eq!(cache.0.lock().unwrap().bytes, 1);
    }
}
