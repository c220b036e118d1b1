//! Texts, each once, by number.

use std::hash::{BuildHasher as _, RandomState};

use dormouse_block::{Error, Result};

/// Bytes of one text. Real ones have fewer than 500.
const MAX_TEXT: usize = 16 << 10;
/// Bytes of all texts of one feed.
const MAX_TEXTS: usize = 512 << 20;

/// Texts in the order in which they were first met; number 0 is the empty one.
#[derive(Debug)]
pub(crate) struct Symbols {
    pub(super) text: Vec<u8>,
    /// Where each ends.
    pub(super) ends: Vec<u32>,
    /// Numbers by hash, open addressing; `u32::MAX` where free. Never more than half full.
    slots: Vec<u32>,
    hasher: RandomState,
}

impl Symbols {
    pub(crate) fn new() -> Self {
        Self {
            text: Vec::new(),
            ends: vec![0],
            slots: vec![u32::MAX; 1 << 10],
            hasher: RandomState::new(),
        }
    }

    pub(super) fn get(&self, number: u32) -> &[u8] {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before));
        let start = start.copied().unwrap_or_default();
        let end = self.ends.get(at).copied().unwrap_or_default();
        let wide = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        self.text.get(wide(start)..wide(end)).unwrap_or_default()
    }

    /// A text by its number.
    pub(crate) fn text(&self, number: u32) -> String {
        String::from_utf8_lossy(self.get(number)).into_owned()
    }

    /// The number of a text.
    pub(crate) fn number(&mut self, text: &str) -> Result<u32> {
        if text.is_empty() {
            return Ok(0);
        }
        if text.len() > MAX_TEXT {
            return Err(Error::limit("a text of more than 16 KiB in a feed"));
        }
        let mut slot = self.slot(text.as_bytes());
        if let Some(&number) = self.slots.get(slot)
            && number != u32::MAX
        {
            return Ok(number);
        }
        if self.text.len().saturating_add(text.len()) > MAX_TEXTS {
            return Err(Error::limit("a feed of more than 512 MiB of texts"));
        }
        let full = || Error::limit("a feed of more than 4 GiB of texts");
        let number = u32::try_from(self.ends.len()).map_err(|_| full())?;
        self.text.extend_from_slice(text.as_bytes());
        self.ends
            .push(u32::try_from(self.text.len()).map_err(|_| full())?);
        if self.ends.len().saturating_mul(2) > self.slots.len() {
            self.grow();
            slot = self.slot(text.as_bytes());
        }
        if let Some(free) = self.slots.get_mut(slot) {
            *free = number;
        }
        Ok(number)
    }

    /// Where the text is, or the free place where it would be.
    fn slot(&self, text: &[u8]) -> usize {
        let mask = self.slots.len().saturating_sub(1);
        let hash = self.hasher.hash_one(text);
        let mut at = usize::try_from(hash & u64::from(u32::MAX)).unwrap_or_default() & mask;
        // The table is at most half full, so a free place is met.
        loop {
            match self.slots.get(at) {
                Some(&number) if number != u32::MAX && self.get(number) != text => {
                    at = at.wrapping_add(1) & mask;
                }
                _ => return at,
            }
        }
    }

    fn grow(&mut self) {
        let count = self.slots.len().saturating_mul(2);
        self.slots.clear();
        self.slots.resize(count, u32::MAX);
        for number in 1..u32::try_from(self.ends.len()).unwrap_or(u32::MAX) {
            let slot = self.slot(self.get(number));
            if let Some(free) = self.slots.get_mut(slot) {
                *free = number;
            }
        }
    }

    /// Frees what only adding needs.
    pub(super) fn seal(&mut self) {
        self.slots = Vec::new();
    }
}
