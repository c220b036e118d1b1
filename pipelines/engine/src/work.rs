//! Work that is done once: results of stages by what went into them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dormouse_block::{Digest, Error, ErrorKind, Locator, Result};
use dormouse_disk::UnitCache;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Observer, StageName, State};

/// Bytes of decoded units that are kept where images are patched, whose stages read a base again and again.
pub const UNIT_ROOM: usize = 64 << 20;

/// What every stage has at hand.
pub struct Work<'a> {
    /// What outlasts the run.
    pub state: &'a State,
    /// Hears of progress.
    pub observer: &'a dyn Observer,
    /// Name and version of the program.
    pub tool: &'a str,
    /// Set when the caller asks to stop.
    pub stop: &'a Arc<AtomicBool>,
    /// Decoded units of compressed images.
    pub units: UnitCache,
}

impl Work<'_> {
    /// Fails once the caller asked to stop.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::cancelled());
        }
        Ok(())
    }

    /// A result that was remembered under `key` in this run or an earlier one.
    ///
    /// # Errors
    /// `Corrupt` when the state has lost it.
    pub fn load<T: DeserializeOwned>(&self, key: Digest) -> Result<T> {
        let lost = || Error::corrupt("the state has lost a finished stage's result; run again");
        let text = self.state.database.result(key)?.ok_or_else(lost)?;
        serde_json::from_str(&text).map_err(|error| lost().because(error))
    }

    /// Remembers the result of `stage` for `input`, computed by `compute` unless an earlier run did, and answers with
    /// the key that [`Work::load`] finds it by. A panic in `compute` is an
    /// error of this one thing. Failures are not remembered.
    ///
    /// # Errors
    /// Whatever `compute` returns, and a state that cannot be used.
    pub fn once<I: Serialize, T: Serialize + DeserializeOwned>(
        &self,
        stage: StageName,
        at: &Locator,
        input: &I,
        compute: impl FnOnce() -> Result<T>,
    ) -> Result<Digest> {
        self.once_if(stage, at, input, |_| true, compute)
    }

    /// As [`Work::once`], for a result that must still hold: `holds` is asked of a remembered one.
    ///
    /// # Errors
    /// As [`Work::once`].
    pub fn once_if<I: Serialize, T: Serialize + DeserializeOwned>(
        &self,
        stage: StageName,
        at: &Locator,
        input: &I,
        holds: impl FnOnce(&T) -> bool,
        compute: impl FnOnce() -> Result<T>,
    ) -> Result<Digest> {
        self.check()?;
        let key = Digest::of(
            serde_json::to_vec(&(stage.as_str(), self.tool, at, input)).map_err(|error| {
                Error::corrupt("a stage's input cannot be written").because(error)
            })?,
        );
        if let Some(text) = self.state.database.result(key)?
            && serde_json::from_str::<T>(&text).is_ok_and(|value| holds(&value))
        {
            self.observer.done(stage, at, true);
            return Ok(key);
        }
        let value = contained(compute).map_err(|error| error.located(at))?;
        let text = serde_json::to_string(&value)
            .map_err(|error| Error::corrupt("a stage's result cannot be written").because(error))?;
        self.state.database.record(
            key,
            stage,
            at.machine.as_deref().unwrap_or_default(),
            at.point.as_deref().unwrap_or_default(),
            &text,
        )?;
        self.observer.done(stage, at, false);
        Ok(key)
    }
}

/// Runs `compute`; a panic in it is an error that names itself a defect of ours.
///
/// # Errors
/// Whatever `compute` returns.
pub(crate) fn contained<T>(compute: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(compute)).unwrap_or_else(|panic| {
        let what = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("a defect of dormouse was met and contained: {what}"),
        ))
    })
}

/// Whether an error of one thing must end the whole run: the caller asked to stop.
#[must_use]
pub(crate) fn ends_the_run(error: &Error) -> bool {
    error.kind() == ErrorKind::Cancelled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Silent;

    #[test]
    fn a_result_is_computed_once_and_a_failure_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let stop = Arc::default();
        let work = Work {
            state: &state,
            observer: &Silent,
            tool: "t",
            stop: &stop,
            units: UnitCache::default(),
        };
        let at = Locator::machine("m");
        let ask = |compute: fn() -> Result<u32>| work.once(StageName::Inspect, &at, &1, compute);
        assert!(ask(|| Err(Error::corrupt("no"))).is_err());
        assert!(ask(|| panic!("never mind")).is_err());
        let key = ask(|| Ok(7)).unwrap();
        assert_eq!(ask(|| Ok(8)).unwrap(), key);
        assert_eq!(work.load::<u32>(key).unwrap(), 7);
    }
}
