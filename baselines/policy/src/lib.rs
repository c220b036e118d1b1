//! Baselines judged against inventories at an instant: findings, waivers, verdicts.
//!
//! A [`Baseline`] is a TOML file that people write; [`assess`] holds an inventory and the versions on offer against it
//! and answers with an [`Assessment`], a fact. Nothing here reads a clock: the instant is an argument.
//!
//! ```
//! use dormouse_policy::{Baseline, Verdict, default_baseline};
//!
//! let baseline = Baseline::parse(default_baseline()).expect("the shipped baseline reads");
//! assert_eq!(baseline.suites, ["{codename}-security"]);
//! let error = Baseline::parse("name = 'x'\nsuite = 'y'\n").expect_err("an unknown key");
//! assert!(error.to_string().contains("line 2") && error.to_string().contains("`suite`"));
//! ```

mod assess;
mod assessment;
mod baseline;
mod check;
pub mod deadline;
mod estate;
mod fix;
mod gate;
mod history;
mod preferences;
mod releases;
pub mod stage;
mod until;
mod verdict;
mod waiver;
mod waking;
pub mod window;

pub use assess::timing::Risk;
pub use assess::{Question, assess};
pub use assessment::{
    AcceptedGapName, AnswerName, Assessment, BaselineName, CheckResult, Finding, MendedCve,
    Outstanding, Rule, Unfixed, Unknown, UnknownPackage, WaiverName,
};
pub use baseline::{
    AdvisoryRule, AppliesTo, Baseline, Forbidden, RepositoryTrust, Required, SHIPPED, UnfixedCves,
    UnknownPackages, Upgrades, default_baseline,
};
pub use check::{Counts, FileCheck, FileState, SettingCheck};
pub use deadline::{Deadlines, Due};
/// Names, modes and patterns as baselines and the questions that they ask have them.
pub use dormouse_packages::{Account, Glob, Mode};
pub use estate::{CATEGORY, Estate, MachineEntry, TENANT, TIME_ZONE, example_estate};
pub use fix::{Fix, LineTest, PackageTest};
pub use gate::CveGate;
pub use history::History;
pub use preferences::{Offer, Phased, Pin, Preferences, Scope};
pub use releases::Releases;
pub use until::Until;
pub use verdict::Verdict;
pub use waiver::{AcceptedGap, Waiver};
pub use waking::{KeepMemory, Waking};
