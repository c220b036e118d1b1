//! What is said of a machine and of what was read of it, as facts.

use dormouse_block::{Gap, Locator};
use dormouse_disk::{Bitmap, PointInfo};
use dormouse_filesystem::{FilesystemInfo, Subvolume};
use dormouse_packages::{Inventory, Observation};
use dormouse_volume::VolumeInfo;
use serde::{Deserialize, Serialize};

use super::{MemoryFact, PowerEvidence};
use crate::first_boot::FirstBoot;

/// A machine, as a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// The container format of its first disk.
    pub format: String,
    /// Bytes of its disks as the guest sees them.
    pub virtual_size: u64,
    /// Every host file, the image (or what describes the machine) first.
    pub files: Vec<FileFact>,
    /// An image was not closed by its last writer.
    pub dirty: bool,
    /// Its restore points.
    pub points: Vec<PointInfo>,
    /// What describes it; a bare disk is described by nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<DescriptionFact>,
    /// Its disks, when a description names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskFact>,
    /// Records of changed blocks that its images keep for backup programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bitmaps: Vec<Bitmap>,
}

/// What a description says of a machine, as a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DescriptionFact {
    /// Who wrote it.
    pub kind: String,
    /// What people call the machine.
    pub name: String,
    /// Its firmware: `bios` or `efi`.
    pub firmware: Option<String>,
    /// Bytes of its memory.
    pub memory: Option<u64>,
    /// What is odd, or was not looked at and hides nothing.
    pub notes: Vec<String>,
}

/// A disk of a described machine, as a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiskFact {
    /// Its name within the machine: `disk0`.
    pub name: String,
    /// Bus, controller and unit.
    pub slot: Option<String>,
    /// What its guest's kernel is known to call it.
    pub devices: Vec<String>,
    /// The image, when it could be opened.
    pub path: Option<String>,
    /// Its format.
    pub format: Option<String>,
    /// Bytes as the guest sees it.
    pub virtual_size: u64,
}

/// A host file of a machine's chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FileFact {
    /// The path it was opened by.
    pub path: String,
    /// What it is to the file above it.
    pub role: String,
    /// Its format.
    pub format: String,
    /// Bytes.
    pub size: u64,
    /// How its data are encrypted, for an image whose are: `LUKS`, `AES`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
}

/// What a machine would wake from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", deny_unknown_fields)]
pub enum Power {
    /// Shut down: nothing but its disk.
    Cold,
    /// Stopped without a shutdown: a filesystem's journal was left with work, replayed in memory for reading, or a
    /// filesystem says that it was not unmounted.
    Crashed {
        /// The volumes concerned.
        volumes: Vec<String>,
    },
    /// Suspended: memory was saved with the point.
    Suspended {
        /// Bytes of saved memory and devices; 0 where the image says no more than that there are some.
        memory: u64,
    },
    /// Hibernated: its memory lies in swap space, or in a file of Windows's.
    Hibernated {
        /// The volume, or the file of one.
        volume: String,
    },
    /// A program has the image open for writing: the machine is awake.
    Running {
        /// Which program, and what it does.
        owner: String,
    },
}

impl Power {
    /// The state in one word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Crashed { .. } => "crashed",
            Self::Suspended { .. } => "suspended",
            Self::Hibernated { .. } => "hibernated",
            Self::Running { .. } => "running",
        }
    }

    /// Why the disk must not be changed, or `None` when it may be.
    #[must_use]
    pub fn forbids_editing(&self) -> Option<String> {
        match self {
            Self::Cold | Self::Crashed { .. } => None,
            Self::Suspended { memory: 0 } => Some(
                "its image says that the machine's memory was saved beside it, and that depends on its disk as it is"
                    .to_owned(),
            ),
            Self::Suspended { memory } => Some(format!(
                "{memory} bytes of saved memory depend on its disk as it is"
            )),
            Self::Hibernated { volume } => Some(format!(
                "the hibernated memory in {volume} depends on its disk as it is"
            )),
            Self::Running { owner } => Some(format!("the machine is awake: {owner}")),
        }
    }
}

/// A volume of a restore point, as a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VolumeFact {
    /// The volume.
    #[serde(flatten)]
    pub volume: VolumeInfo,
    /// Its filesystem, when it was opened.
    pub filesystem: Option<FilesystemInfo>,
}

/// An operating system found on a restore point, as a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SystemFact {
    /// Its mounts: directory and volume, the root first.
    pub mounts: Vec<(String, String)>,
    /// The subvolume that its root is, where its volume has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subvolume: Option<String>,
    /// Older states of its root on the same volume; they are no systems of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<Subvolume>,
    /// Its packages.
    pub inventory: Inventory,
    /// The time zone that it is set up for, as its own files say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What it answered to questions about its files and settings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observations: Vec<Observation>,
    /// What it says of its first boot after an injection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_boot: Option<FirstBoot>,
}

/// Everything that was read of one restore point, as a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Inspection {
    /// `dormouse/inspection/v3`.
    pub schema: String,
    /// Which machine and restore point.
    pub at: Locator,
    /// The restore point.
    pub point: PointInfo,
    /// What it would wake from.
    pub power: Power,
    /// By what that is known; nothing speaks for a machine that is cold but that none of it was found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<PowerEvidence>,
    /// What its saved memory says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryFact>,
    /// The volumes of its disks.
    pub volumes: Vec<VolumeFact>,
    /// The operating systems on them.
    pub systems: Vec<SystemFact>,
    /// What was not read.
    pub gaps: Vec<Gap>,
    /// What is odd and hides nothing.
    pub notes: Vec<String>,
}

impl Inspection {
    /// The schema that this version writes and reads.
    pub const SCHEMA: &'static str = "dormouse/inspection/v3";

    /// Whether nothing that may hold packages was left unread.
    #[must_use]
    pub fn complete(&self) -> bool {
        !self.gaps.iter().any(|gap| gap.may_hide_packages)
            && self
                .systems
                .iter()
                .all(|system| system.inventory.coverage.complete)
    }

    /// The operating system's own name, or what is known instead.
    #[must_use]
    pub fn os_name(&self) -> String {
        self.systems
            .first()
            .and_then(|system| system.inventory.os.as_ref())
            .and_then(|os| os.pretty_name.clone())
            .unwrap_or_default()
    }
}
