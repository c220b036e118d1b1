//! A bounded POSIX shell interpreter over a guest's tree, for maintainer scripts.
//!
//! [`run`] interprets one [`Call`] of one maintainer script against a [`dormouse_overlay::Draft`]. Nothing of the guest is
//! executed: the shell language is evaluated here, and the commands that scripts call are implemented here as functions
//! over the draft. A script that calls anything else, asks for the state of a running system, or fails, is
//! [`Outcome::Deferred`], and the draft is as it was before.

mod call;
mod world;

pub use call::{Call, Deferral, Done, Limits, Outcome, Reason, ScriptName, Trigger};
pub use world::{ConffileView, PackageView, World};

use dormouse_overlay::Draft;

/// Interprets `call` against `draft`, to which `world` is dpkg's database.
///
/// A call that is deferred leaves the draft as it was.
pub fn run(call: &Call<'_>, draft: &mut Draft, world: &World, limits: &Limits) -> Outcome {
    let _ = (draft, world, limits);
    Outcome::Deferred(Deferral {
        reason: Reason::Interpreter,
        why: format!("no {} script is interpreted yet", call.name),
        command: None,
        line: None,
    })
}
