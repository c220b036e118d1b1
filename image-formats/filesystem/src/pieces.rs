//! Pieces of a table that is too large to be kept whole, each read once as long as there is room.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::Result;

/// Pieces by number or place; when there are more than a limit, all are forgotten.
pub(crate) struct Pieces<K = u64> {
    most: usize,
    known: Mutex<HashMap<K, Arc<[u8]>>>,
}

impl<K: Eq + Hash> Pieces<K> {
    /// Keeps `most` pieces.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            known: Mutex::default(),
        }
    }

    /// The piece `key`, which `read` reads if it is not known.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) fn get(&self, key: K, read: impl FnOnce() -> Result<Vec<u8>>) -> Result<Arc<[u8]>> {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(piece) = lock().get(&key) {
            return Ok(piece.clone());
        }
        let piece: Arc<[u8]> = read()?.into();
        let mut known = lock();
        if known.len() >= self.most {
            known.clear();
        }
        known.insert(key, piece.clone());
        Ok(piece)
    }
}
