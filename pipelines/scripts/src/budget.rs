//! What one script may still use.

use crate::call::{Limits, Reason};
use crate::stop::{Run, Stop};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    steps: u64,
    bytes: u64,
    object: u64,
}

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            steps: limits.steps,
            bytes: limits.bytes,
            object: u64::try_from(limits.object).unwrap_or(u64::MAX),
        }
    }

    /// Takes `count` steps.
    pub(crate) fn step(&mut self, count: u64) -> Run<()> {
        match self.steps.checked_sub(count) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => Err(Stop::defer(
                Reason::Limit,
                "the script takes too many steps",
            )),
        }
    }

    /// Moves `count` bytes.
    pub(crate) fn bytes(&mut self, count: u64) -> Run<()> {
        match self.bytes.checked_sub(count) {
            Some(left) => {
                self.bytes = left;
                Ok(())
            }
            None => Err(Stop::defer(
                Reason::Limit,
                "the script moves too many bytes",
            )),
        }
    }

    pub(crate) fn bytes_of(&mut self, bytes: &[u8]) -> Run<()> {
        self.bytes(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
    }

    /// Whether one object may have `size` bytes.
    pub(crate) fn object(&self, size: u64) -> Run<()> {
        if size > self.object {
            return Err(Stop::defer(
                Reason::Limit,
                format!("an object of {size} bytes is too large to work on"),
            ));
        }
        Ok(())
    }
}
