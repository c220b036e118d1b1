//! Metering: how many bytes were read, within which budget, and whether to stop.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{Error, Result, Source};

/// Counts the bytes that all sources of one task read, stops at a budget, and hears of cancellation.
#[derive(Debug, Clone)]
pub struct Meter {
    read: Arc<AtomicU64>,
    budget: u64,
    cancelled: Arc<AtomicBool>,
}

impl Meter {
    /// A meter that allows `budget` bytes and stops when `cancelled` becomes true.
    #[must_use]
    pub fn new(budget: u64, cancelled: Arc<AtomicBool>) -> Self {
        Self {
            read: Arc::default(),
            budget,
            cancelled,
        }
    }

    /// A meter without a budget that nobody cancels.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(u64::MAX, Arc::default())
    }

    /// Bytes read so far.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Fails once the caller asked to stop.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Cancelled`].
    pub fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::cancelled());
        }
        Ok(())
    }

    fn charge(&self, bytes: usize) -> Result<()> {
        self.check()?;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let before = self.read.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.budget {
            return Err(Error::limit(format!(
                "more than the {} bytes allowed for one restore point were read",
                self.budget
            )));
        }
        Ok(())
    }
}

/// A source whose reads a [`Meter`] counts.
pub struct Metered<S> {
    inner: S,
    meter: Meter,
}

impl<S: Source> Metered<S> {
    /// Counts every read of `inner` on `meter`.
    pub fn new(inner: S, meter: Meter) -> Self {
        Self { inner, meter }
    }
}

impl<S: Source> Source for Metered<S> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.meter.charge(buf.len())?;
        self.inner.read_exact_at(offset, buf)
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        self.meter.check()?;
        self.inner.next_data(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bytes, ErrorKind};

    #[test]
    fn a_budget_is_a_limit_and_cancelling_is_heard() {
        let stop = Arc::new(AtomicBool::new(false));
        let meter = Meter::new(6, stop.clone());
        let source = Metered::new(Bytes::new(vec![0; 16]), meter.clone());
        let mut buf = [0; 4];
        source.read_exact_at(0, &mut buf).unwrap();
        assert_eq!(
            source.read_exact_at(0, &mut buf).unwrap_err().kind(),
            ErrorKind::Limit
        );
        assert_eq!(meter.read(), 8);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(
            source.read_exact_at(0, &mut buf).unwrap_err().kind(),
            ErrorKind::Cancelled
        );
    }
}
