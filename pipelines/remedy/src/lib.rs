//! Plans, dependency resolution, package injection, first-boot work and catch-up plans.
//!
//! [`Plan::make`] resolves what one restore point is to get. [`deb::unpack`] reads package files once, whatever number of
//! machines needs them. [`draft_injection`] carries a plan out on a draft over the guest, as dpkg would ([`dpkg`]), and
//! says what it did ([`Injection`]), once for machines that are alike in all that it looks at ([`Precedents`]); [`verify`] holds the result against that. A point that must not be edited gets a
//! [`CatchUp`] instead. No byte of the guest is executed, and nothing here writes to the host.
//!
//! Limits: package files of 64 GiB unpacked and 1,000,000 entries, 4 bytes for each that their `Installed-Size`
//! announces; databases as `dormouse_packages` reads them; lists of files of 64 MiB.

mod apt;
mod catch_up;
pub mod deb;
pub mod dpkg;
mod first_boot;
mod fix;
mod inject;
mod injection;
mod plan;
mod precedent;
mod resolve;
mod verify;

pub use catch_up::{
    BUNDLE_LABEL, Bundle, BundleFile, BundledPlan, CatchUp, CatchUpStep, Check, Circumstances,
    Cost, DISPATCHER, DiskKernel, KernelRelation, MANIFEST, MANIFEST_SEAL, Manner, Recommended,
    Route, RouteName, Sleep, Standing, Wake, When, WokenKernel, bundle_file,
};
pub use fix::{FIX_FUNCTIONS, FixOutcome, InjectedFix, PlannedFix, fix_script};
pub use inject::{Injected, Materials, UnpackedPackages, WHOLE_PACKAGE, draft_injection};
pub use injection::{ExpectedPackage, InjectedPackage, Injection, PathChange};
pub use plan::{Blocked, Decision, FirstBootStep, Hindrance, Plan, PlannedPackage};
pub use precedent::Precedents;
pub use resolve::{Fixes, Only, Question, Resolution, resolve};
pub use verify::{
    Deviation, Verification, Written, verify, verify_inventory, verify_others, verify_planned,
};

/// The texts that are put into a guest for its first boot.
pub mod first_boot_texts {
    pub use crate::first_boot::{INIT, SCRIPT, UNIT};
}
