//! A bitmap of one group: a set bit is a block or inode in use.

/// Bits by 64, the lowest first.
#[derive(Debug, Clone)]
pub(super) struct Bitmap {
    words: Vec<u64>,
}

impl Bitmap {
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let words = bytes
            .chunks(8)
            .map(|part| {
                let mut word = [0; 8];
                for (to, from) in word.iter_mut().zip(part) {
                    *to = *from;
                }
                u64::from_le_bytes(word)
            })
            .collect();
        Self { words }
    }

    pub(super) fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        self.words.iter().flat_map(|word| word.to_le_bytes())
    }

    fn word(bit: u32) -> (usize, u32) {
        (usize::try_from(bit >> 6).unwrap_or(usize::MAX), bit & 63)
    }

    pub(super) fn test(&self, bit: u32) -> bool {
        let (word, within) = Self::word(bit);
        self.words
            .get(word)
            .is_none_or(|word| word >> within & 1 == 1)
    }

    /// Sets or clears `len` bits from `start` on; false when one of them was so already, then nothing is changed.
    pub(super) fn change(&mut self, start: u32, len: u32, set: bool) -> bool {
        let end = start.saturating_add(len);
        let same = if set {
            self.next(start, end, true)
        } else {
            self.next(start, end, false)
        };
        if same.is_some() {
            return false;
        }
        self.fill(start, len, set);
        true
    }

    /// Sets or clears bits, whatever they were.
    pub(super) fn fill(&mut self, start: u32, len: u32, set: bool) {
        let mut at = start;
        let end = start.saturating_add(len);
        while at < end {
            let (nth, within) = Self::word(at);
            let count = 64_u32.saturating_sub(within).min(end.saturating_sub(at));
            let mask = (u64::MAX >> 64_u32.saturating_sub(count)) << within;
            if let Some(word) = self.words.get_mut(nth) {
                if set {
                    *word |= mask;
                } else {
                    *word &= !mask;
                }
            }
            at = at.saturating_add(count);
        }
    }

    /// The first bit from `from` on and before `end` that is set (or clear).
    pub(super) fn next(&self, from: u32, end: u32, set: bool) -> Option<u32> {
        let mut at = from;
        while at < end {
            let (nth, within) = Self::word(at);
            let word = *self.words.get(nth)?;
            let word = (if set { word } else { !word }) >> within;
            if word != 0 {
                return Some(at.saturating_add(word.trailing_zeros())).filter(|bit| *bit < end);
            }
            at = at.saturating_sub(within).saturating_add(64);
        }
        None
    }

    /// Clear bits before `end`.
    pub(super) fn free(&self, end: u32) -> u32 {
        let mut count = 0_u32;
        let mut at = 0;
        while at < end {
            let (nth, _) = Self::word(at);
            let word = !self.words.get(nth).copied().unwrap_or(u64::MAX);
            let rest = end.saturating_sub(at).min(64);
            let word = word & (u64::MAX >> 64_u32.saturating_sub(rest));
            count = count.saturating_add(word.count_ones());
            at = at.saturating_add(64);
        }
        count
    }

    /// The first run of `wanted` clear bits between `from` and `end`.
    pub(super) fn run(&self, from: u32, end: u32, wanted: u32) -> Option<u32> {
        let mut at = from;
        loop {
            let start = self.next(at, end, false)?;
            let stop = start.checked_add(wanted).filter(|stop| *stop <= end)?;
            match self.next(start, stop, true) {
                None => return Some(start),
                Some(used) => at = used,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_across_words() {
        let mut map = Bitmap::from_bytes(&[0; 32]);
        assert!(map.change(0, 60, true));
        assert!(map.change(70, 3, true));
        assert!(!map.change(59, 2, true));
        assert_eq!(map.run(0, 256, 10), Some(60));
        assert_eq!(map.run(0, 256, 11), Some(73));
        assert_eq!(map.run(0, 256, 183), Some(73));
        assert_eq!(map.run(0, 256, 184), None);
        assert_eq!(map.free(256), 256 - 63);
        assert!(map.change(0, 60, false));
        assert!(!map.test(59));
        assert!(map.test(71));
    }
}
