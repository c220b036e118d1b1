//! Stages, scheduling, state and resume: the only parallel code.
//!
//! [`run`] takes a library of machines through eight durable stages: discover, inspect, evaluate, plan, inject, verify,
//! attest, report. Each stage's result is remembered under everything that went into it, so that running again goes on
//! where a run was interrupted, and an unchanged machine costs a look-up. [`OpenMachine`] and [`Standard`] serve single
//! images in the same way. A machine is an image by itself with its layers, or what a description says of it: disks of any
//! number, snapshots, saved states.
//!
//! Limits: 16 GiB read for inspecting one restore point unless the pipeline says otherwise; 4,000,000 files in a
//! library; a panic in one point is contained and becomes that point's gap.
//!
//! ```no_run
//! use dormouse_engine::{Keys, MachineOptions, OpenMachine, UnitCache};
//! use dormouse_block::Meter;
//! use dormouse_disk::LibraryGate;
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! # fn main() -> dormouse_block::Result<()> {
//! let options = MachineOptions {
//!     format: None,
//!     gate: Arc::new(LibraryGate::new(["/srv/library"])?),
//!     meter: Meter::unlimited(),
//!     keys: Keys::default(),
//!     units: UnitCache::default(),
//! };
//! let machine = OpenMachine::open("web-01", Path::new("/srv/library/web-01.qcow2"), &options)?;
//! let inspection = machine.open_point("active")?.inspect(&std::collections::BTreeSet::new())?;
//! println!("{}: {}", inspection.at, inspection.power.as_str());
//! # Ok(()) }
//! ```

mod ahead;
mod attest;
mod bundle;
mod change;
mod discover;
mod first_boot;
mod fixes;
pub mod host;
mod index_folder;
mod machine;
mod names;
mod observer;
mod output_format;
mod patch;
mod payloads;
mod pipeline;
mod planner;
mod report;
mod run;
mod schedule;
mod staging;
mod standard;
mod state;
mod subjects;
mod waking;
mod work;

pub use attest::Attestation;
pub use bundle::{BundleForm, BundleOptions, WrittenBundle, plan_name, write_bundle};
pub use change::{Action, Changer, Decision, Done, OutputFile, Verified, judge_image};
pub use discover::{Found, Library, discover};
pub use first_boot::{FirstBoot, FirstBootOutcome, FirstBootPlace};
pub use machine::{
    DescriptionFact, DiskFact, FileFact, Inspection, Machine, MachineFile, MachineOptions,
    MemoryBlock, MemoryFact, OpenMachine, OpenPoint, Power, PowerEvidence, PowerSign, SystemFact,
    VolumeFact, within,
};
pub use observer::{Observer, Silent, StageName};
pub use output_format::OutputFormat;
pub use patch::{PatchOptions, Patched, patch, patch_once};
pub use payloads::{PayloadSet, Payloads};
pub use pipeline::{BundleChoice, Inject, Limits, Pipeline, SHIPPED_PIPELINES};
pub use planner::Planner;
pub use report::{MachineResult, PointResult};
pub use run::{RunOptions, RunOutcome, run};
pub use standard::{Standard, StandardOptions};
pub use state::{Database, FindingRow, PackageRow, PointRow, RunRow, State, Store, StoreFolder};
pub use subjects::parse_point;
pub use work::UNIT_ROOM;

pub use dormouse_disk::UnitCache;
pub use dormouse_volume::Keys;

/// The bounds on each maintainer script.
#[must_use]
pub fn script_limits() -> dormouse_scripts::Limits {
    dormouse_scripts::Limits::default()
}
