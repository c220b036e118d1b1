//! What was read a little while ago, kept within a bound.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// Two generations of values: what is used moves into the young one; when that is full, the old one is dropped.
pub(crate) struct Recent<K, V> {
    young: HashMap<K, V, RandomState>,
    old: HashMap<K, V, RandomState>,
    room: usize,
    weight: usize,
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// Keeps values that weigh at most `room` together, in the unit of [`Recent::put`].
    pub(crate) fn new(room: usize) -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            room: room / 2,
            weight: 0,
        }
    }

    /// The value of `key`; `weight` says what it weighs.
    pub(crate) fn get(&mut self, key: &K, weight: impl FnOnce(&V) -> usize) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        let weight = weight(&value);
        self.put(key, value.clone(), weight);
        Some(value)
    }

    /// Keeps `value`, which weighs `weight`.
    pub(crate) fn put(&mut self, key: K, value: V, weight: usize) {
        if self.weight.saturating_add(weight) > self.room {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        self.weight = self.weight.saturating_add(weight);
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_used_is_forgotten() {
        let mut recent = Recent::new(20);
        for key in 0..100 {
            recent.put(key, key, 1);
            assert_eq!(recent.get(&0, |_| 1), Some(0), "used all the time");
        }
        assert_eq!(recent.get(&1, |_| 1), None);
        assert_eq!(recent.get(&99, |_| 1), Some(99));
        assert!(recent.young.len() + recent.old.len() <= 21);
    }
}
