//! The kernel that a sleeping machine runs, and the one that its disk starts.

use std::cmp::Ordering;

use dormouse_block::Result;
use dormouse_filesystem::Guest;
use dormouse_packages::rpm::compare_part;
use dormouse_packages::{Inventory, RunningKernel, build_on_disk};
use serde::{Deserialize, Serialize};

/// How the kernel in memory stands to the one that the disk starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelRelation {
    /// They are one: release and build.
    Same,
    /// They have one release; which build the disk's is, is not known.
    SameRelease,
    /// They have one release, and are different builds of it.
    OtherBuild,
    /// The one in memory is older.
    Older,
    /// The one in memory is newer.
    Newer,
}

/// A kernel on disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiskKernel {
    /// Its release.
    pub release: String,
    /// Which build of it, where its image says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// What says that it is the one that is started.
    pub why: String,
}

/// The kernel that a machine runs once it is woken, beside the one that it would start anew.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WokenKernel {
    /// The kernel in memory.
    pub running: RunningKernel,
    /// The one on disk.
    pub on_disk: DiskKernel,
    /// How they stand to each other.
    pub relation: KernelRelation,
}

impl WokenKernel {
    /// Holds the kernel in memory against the one that `guest` starts; `None` when the disk's is not known, or is
    /// Windows's.
    ///
    /// # Errors
    /// What reading the kernel's image returns.
    pub fn compare(
        running: &RunningKernel,
        inventory: &Inventory,
        guest: &Guest,
    ) -> Result<Option<Self>> {
        let Some(default) = &inventory.default_kernel else {
            return Ok(None);
        };
        if running.system != "linux" {
            return Ok(None);
        }
        let build = build_on_disk(guest, &default.release)?;
        let relation = match compare_part(&running.release, &default.release) {
            Ordering::Less => KernelRelation::Older,
            Ordering::Greater => KernelRelation::Newer,
            // Spelled in two ways.
            Ordering::Equal if running.release != default.release => KernelRelation::OtherBuild,
            Ordering::Equal => match (&running.build, &build) {
                (Some(here), Some(there)) if here == there => KernelRelation::Same,
                (Some(_), Some(_)) => KernelRelation::OtherBuild,
                _ => KernelRelation::SameRelease,
            },
        };
        Ok(Some(Self {
            running: running.clone(),
            on_disk: DiskKernel {
                release: default.release.clone(),
                build,
                why: default.why.clone(),
            },
            relation,
        }))
    }

    /// Why the machine must be started anew once it is woken, if this is a reason.
    #[must_use]
    pub fn restart_reason(&self) -> Option<String> {
        let build = |build: &Option<String>| match build {
            Some(build) => format!(" ({build})"),
            None => String::new(),
        };
        let here = format!("{}{}", self.running.release, build(&self.running.build));
        let there = format!("{}{}", self.on_disk.release, build(&self.on_disk.build));
        match self.relation {
            KernelRelation::Older => Some(format!(
                "it wakes with the kernel {here}, older than {there}, which its disk starts"
            )),
            KernelRelation::OtherBuild => Some(format!(
                "it wakes with the kernel {here}, another build than {there}, which its disk starts"
            )),
            KernelRelation::Same | KernelRelation::SameRelease | KernelRelation::Newer => None,
        }
    }
}
