//! Texts of scripts that were read before: the same file is sourced, and the same guest script called, by many.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use crate::syntax::{Dialect, List};

/// Bytes of texts that are kept; then they are forgotten and read again.
const MAX_BYTES: usize = 4 << 20;

/// Shell texts that were read, by their bytes. What is kept says nothing of the guest that the bytes do not say.
#[derive(Clone, Default)]
pub struct ReadTexts(Rc<RefCell<Kept>>);

#[derive(Default)]
struct Kept {
    lists: HashMap<(Dialect, Box<[u8]>), Rc<List>>,
    bytes: usize,
}

impl ReadTexts {
    pub(crate) fn find(&self, dialect: Dialect, text: &[u8]) -> Option<Rc<List>> {
        let kept = self.0.try_borrow().ok()?;
        kept.lists.get(&(dialect, text.into())).cloned()
    }

    pub(crate) fn keep(&self, dialect: Dialect, text: &[u8], list: &Rc<List>) {
        let Ok(mut kept) = self.0.try_borrow_mut() else {
            return;
        };
        if text.len() > MAX_BYTES {
            return;
        }
        kept.bytes = kept.bytes.saturating_add(text.len());
        if kept.bytes > MAX_BYTES {
            *kept = Kept {
                bytes: text.len(),
                ..Kept::default()
            };
        }
        kept.lists.insert((dialect, text.into()), list.clone());
    }
}

/// What was read changes no answer.
impl PartialEq for ReadTexts {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for ReadTexts {}

impl fmt::Debug for ReadTexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadTexts")
    }
}
