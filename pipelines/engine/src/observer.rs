//! How the world outside hears of a run's progress.

use dormouse_block::Locator;

/// The eight stages of every run, in order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum StageName {
    /// Paths to machines.
    Discover,
    /// A machine's restore point to its inventory and coverage.
    Inspect,
    /// An inventory to a verdict.
    Evaluate,
    /// A verdict to what is to be done.
    Plan,
    /// A plan to a patched image, or a catch-up plan.
    Inject,
    /// A patched image to the proof that it is what was planned.
    Verify,
    /// Everything to a signed statement.
    Attest,
    /// All statements to a report.
    Report,
}

impl StageName {
    /// All stages in order.
    pub const ALL: [Self; 8] = [
        Self::Discover,
        Self::Inspect,
        Self::Evaluate,
        Self::Plan,
        Self::Inject,
        Self::Verify,
        Self::Attest,
        Self::Report,
    ];

    /// The name as facts spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Discover => "discover",
            Self::Inspect => "inspect",
            Self::Evaluate => "evaluate",
            Self::Plan => "plan",
            Self::Inject => "inject",
            Self::Verify => "verify",
            Self::Attest => "attest",
            Self::Report => "report",
        }
    }
}

/// Hears of progress. Calls come from several threads and must be quick.
pub trait Observer: Sync {
    /// A stage begins, with this many things to do (0 when it is not known yet).
    fn stage(&self, _stage: StageName, _things: u64) {}

    /// One thing of a stage is done; `remembered` when an earlier run had done it already.
    fn done(&self, _stage: StageName, _at: &Locator, _remembered: bool) {}

    /// Bytes were read or written for a stage.
    fn bytes(&self, _stage: StageName, _bytes: u64) {}

    /// Something a user should know now, such as a machine that could not be read.
    fn note(&self, _at: &Locator, _what: &str) {}
}

/// Hears nothing.
pub struct Silent;

impl Observer for Silent {}
