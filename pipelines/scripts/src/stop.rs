//! Why evaluation leaves the ordinary path.

use crate::call::{Deferral, Reason};

/// Leaves the evaluation of the current command.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The whole script is given up.
    Deferred(Box<Deferral>),
    /// The shell or subshell ends.
    Exit(i32),
    /// The function or sourced file ends.
    Return(i32),
    /// So many loops end.
    Break(u32),
    /// The loop that is so many levels up goes on.
    Continue(u32),
}

pub(crate) type Run<T> = Result<T, Stop>;

impl Stop {
    pub(crate) fn defer(reason: Reason, why: impl Into<String>) -> Self {
        Self::Deferred(Box::new(Deferral {
            reason,
            why: why.into(),
            command: None,
            line: None,
        }))
    }
}
