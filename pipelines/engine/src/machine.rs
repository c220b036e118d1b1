//! A machine opened: its images, its restore points, and what stands on their disks.

mod evidence;
mod layout;
mod memory;
mod swap_files;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{Error, ErrorKind, Gap, HostFile, Locator, Meter, Result, Source};
use dormouse_disk::{
    Bitmap, FormatName, Gate, ManifestEntry, PointInfo, PointKind, SavedMemory, find_point,
};
use dormouse_filesystem::{
    FilesystemInfo, Guest, Left, OpenVolume, Snapshot, Subvolume, Tree, assemble, open_all,
};
use dormouse_packages::{Inventory, Observation, Probe, Selection};
use dormouse_remedy::WokenKernel;
use dormouse_volume::{
    DiskInput, Keys, Note, Volume, VolumeInfo, hibernation_signature, volumes_with_keys,
};
use serde::{Deserialize, Serialize};

pub use evidence::{PowerEvidence, PowerSign};
pub use layout::MachineFile;
pub(crate) use layout::PointDisk;
pub use memory::{MemoryBlock, MemoryFact};

use crate::Found;
use crate::first_boot::{self, FirstBoot};
use layout::{Layout, PointLayout};
use memory::{PointMemory, unknown_state};
use swap_files::SwapFiles;

/// How a machine is opened.
#[derive(Clone)]
pub struct MachineOptions {
    /// The container format, when the user says which it is.
    pub format: Option<FormatName>,
    /// Asked before anything that an image refers to is opened.
    pub gate: Arc<dyn Gate>,
    /// Counts what is read, and stops it.
    pub meter: Meter,
    /// Keys that may unlock encrypted images and volumes.
    pub keys: Keys,
}

/// A machine whose images are open.
pub struct OpenMachine {
    /// Its name.
    pub name: String,
    layout: Layout,
    keys: Keys,
}

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

/// A restore point whose disk is open.
pub struct OpenPoint {
    /// Its address.
    pub at: Locator,
    /// The point.
    pub info: PointInfo,
    /// What it would wake from.
    pub power: Power,
    /// By what that is known.
    pub evidence: Vec<PowerEvidence>,
    /// Heads of swap files in which a system sleeps.
    pub swap_files: Vec<Arc<dyn Source>>,
    /// The memory saved with it.
    saved: Option<PointMemory>,
    /// Its whole disks by their names, those that could be opened.
    pub disks: Vec<(String, Arc<dyn Source>)>,
    /// Its volumes, with the trees of those that could be opened.
    pub volumes: Vec<(Volume, Option<FilesystemInfo>)>,
    /// The operating systems on them.
    pub guests: Vec<Guest>,
    /// Snapshots of those systems' roots.
    pub snapshots: Vec<Snapshot>,
    /// What could not be read.
    pub gaps: Vec<Gap>,
    /// What is odd and hides nothing.
    pub notes: Vec<String>,
    /// Files whose digests stand in a manifest: what was found of each. They are read when the point is inspected.
    manifest: Vec<(ManifestEntry, Arc<dyn Source>)>,
}

impl OpenMachine {
    /// Opens the machine whose disk image or description is at `path`.
    ///
    /// # Errors
    /// Whatever makes the image unreadable as a whole, or all of the disks that a description names.
    pub fn open(name: &str, path: &Path, options: &MachineOptions) -> Result<Self> {
        Self::open_found(&Found::alone(name, path, &*options.gate), options)
    }

    /// Opens a machine of a library.
    ///
    /// # Errors
    /// As [`OpenMachine::open`].
    pub fn open_found(found: &Found, options: &MachineOptions) -> Result<Self> {
        let layout = Layout::open(found, options)
            .map_err(|error| error.located(&Locator::machine(found.name.clone())))?;
        Ok(Self {
            name: found.name.clone(),
            layout,
            keys: options.keys.clone(),
        })
    }

    /// The machine at `point`, its disk called `disk` taken from the image at `path`: how a patched disk is looked at.
    /// Its one restore point is the active one.
    ///
    /// # Errors
    /// An image that cannot be opened, or a point that there is not.
    pub fn with_disk(
        &self,
        point: &str,
        disk: &str,
        path: &Path,
        options: &MachineOptions,
    ) -> Result<Self> {
        let layout = Layout::with_disk(self.point_layout(point)?, disk, path, options)
            .map_err(|error| error.located(&Locator::machine(self.name.clone())))?;
        Ok(Self {
            name: self.name.clone(),
            layout,
            keys: options.keys.clone(),
        })
    }

    /// The keys that its encrypted volumes are tried with.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Its host files, the image (or what describes it) first.
    #[must_use]
    pub fn files(&self) -> &[MachineFile] {
        &self.layout.files
    }

    /// Its restore points, the active state first.
    #[must_use]
    pub fn points(&self) -> Vec<PointInfo> {
        let points = self.layout.points.iter();
        points.map(|point| point.info.clone()).collect()
    }

    /// Whether its disks are parts of an archive.
    pub(crate) fn is_archive(&self) -> bool {
        let description = self.layout.description.as_ref();
        description.is_some_and(|description| description.kind == "ova")
    }

    /// Whether it has one disk at this point.
    pub(crate) fn has_one_disk(&self, point: &str) -> bool {
        self.point_layout(point)
            .is_ok_and(|point| point.disks.len() == 1)
    }

    /// The disks of a point.
    ///
    /// # Errors
    /// `Unsupported` when there is no such point.
    pub(crate) fn point_disks(&self, point: &str) -> Result<&[PointDisk]> {
        Ok(&self.point_layout(point)?.disks)
    }

    /// What was saved of the machine running at a point, outside its images, in words.
    ///
    /// # Errors
    /// `Unsupported` when there is no such point.
    pub(crate) fn saved_states(&self, point: &str) -> Result<&[String]> {
        Ok(&self.point_layout(point)?.saved_states)
    }

    /// The format of a disk at a point.
    ///
    /// # Errors
    /// `Unsupported` when there is no such disk, and what keeps it from being opened.
    pub fn format(&self, point: &str, disk: &str) -> Result<FormatName> {
        let mut found = self.point_disks(point)?.iter();
        let found = found.find(|found| found.name == disk);
        let found = found.ok_or_else(|| Error::unsupported(format!("there is no {disk}")))?;
        Ok(found.image()?.0.format())
    }

    /// All that the guest sees on each of its disks at a point: names and bytes.
    ///
    /// # Errors
    /// What keeps any of them from being read.
    pub fn disks(&self, point: &str) -> Result<Vec<(String, Arc<dyn Source>)>> {
        let disks = self.point_disks(point)?.iter();
        disks
            .map(|disk| {
                let (image, inside) = disk.image()?;
                Ok((disk.name.clone(), image.open_point(inside)?))
            })
            .collect()
    }

    /// The memory saved with a point, in one of its images or in a file of its own; `None` when there is none to be had.
    ///
    /// # Errors
    /// What keeps it from being read.
    pub fn memory(&self, point: &str) -> Result<Option<Arc<dyn Source>>> {
        let point = self.point_layout(point)?;
        for disk in &point.disks {
            if let Ok((image, inside)) = disk.image()
                && let Some(memory) = image.memory(inside)?
            {
                return Ok(Some(memory));
            }
        }
        let Some(file) = point.saved_files.first() else {
            return Ok(None);
        };
        Ok(Some(Arc::new(HostFile::open(&file.path)?)))
    }

    /// The disk on which the root of the one operating system at a point lies: the one that patches change.
    ///
    /// # Errors
    /// As opening the point; `Unsupported` when there is none or several.
    pub fn root_disk(&self, point: &str) -> Result<String> {
        match self.point_disks(point)? {
            [disk] => Ok(disk.name.clone()),
            _ => crate::patch::root_disk(&self.open_point(point)?),
        }
    }

    /// Why the disk of the system's root is not written to, if its image or one below it is encrypted.
    pub(crate) fn encrypted(&self, point: &OpenPoint) -> Option<String> {
        let root = crate::patch::root_disk(point).ok()?;
        let mut disks = self.point_disks(&point.info.id).ok()?.iter();
        let (image, _) = disks.find(|disk| disk.name == root)?.image().ok()?;
        image.chain().is_encrypted().then(|| {
            format!("the image of {root} is encrypted, and what is written from it would not be")
        })
    }

    fn point_layout(&self, id: &str) -> Result<&PointLayout> {
        let mut points = self.layout.points.iter();
        points.find(|point| point.info.id == id).ok_or_else(|| {
            Error::unsupported(format!("there is no restore point {id:?}"))
                .located(&Locator::machine(self.name.clone()))
        })
    }

    fn active(&self) -> &[PointDisk] {
        let active = self.layout.points.first();
        active.map(|point| &*point.disks).unwrap_or_default()
    }

    /// The machine as a fact; paths below `library` are given relative to it.
    #[must_use]
    pub fn fact(&self, library: Option<&Path>) -> Machine {
        let open = || self.active().iter().filter_map(|disk| disk.image().ok());
        let disk_fact = |disk: &PointDisk| {
            let image = disk.image().ok().map(|(image, _)| image);
            DiskFact {
                name: disk.name.clone(),
                slot: disk.slot.clone(),
                devices: disk.devices.clone(),
                path: image
                    .and_then(|image| image.files().first())
                    .map(|file| within(library, &file.path)),
                format: image.map(|image| image.format().to_string()),
                virtual_size: image.map_or(0, |image| image.virtual_size()),
            }
        };
        let description = self.layout.description.as_ref();
        Machine {
            name: self.name.clone(),
            format: open()
                .map(|(image, _)| image.format().to_string())
                .next()
                // All there is of it may be a saved state.
                .or_else(|| self.files().first().map(|file| file.format.clone()))
                .unwrap_or_default(),
            virtual_size: open()
                .map(|(image, _)| image.virtual_size())
                .fold(0, u64::saturating_add),
            files: self
                .files()
                .iter()
                .map(|file| FileFact {
                    path: within(library, &file.path),
                    role: file.role.as_str().to_owned(),
                    format: file.format.clone(),
                    size: file.identity.len,
                    encryption: file.encryption.clone(),
                })
                .collect(),
            dirty: open().any(|(image, _)| image.state().dirty),
            points: self.points(),
            description: description.map(|description| DescriptionFact {
                kind: description.kind.clone(),
                name: description.name.clone(),
                firmware: description.firmware.clone(),
                memory: description.memory,
                notes: description.notes.clone(),
            }),
            disks: if description.is_some() {
                self.active().iter().map(disk_fact).collect()
            } else {
                Vec::new()
            },
            bitmaps: open()
                .flat_map(|(image, _)| image.bitmaps().iter().cloned())
                .collect(),
        }
    }

    /// The restore point with this id or name.
    ///
    /// # Errors
    /// `Unsupported` when there is none; the message lists those there are.
    pub fn find_point(&self, wanted: &str) -> Result<PointInfo> {
        find_point(&self.points(), wanted)
            .cloned()
            .map_err(|error| error.located(&Locator::machine(self.name.clone())))
    }

    /// Opens a restore point: its volumes, filesystems and operating systems.
    ///
    /// # Errors
    /// `Io` and `Cancelled`, and whatever keeps the point's disk from being opened at all; all else is a gap.
    pub fn open_point(&self, id: &str) -> Result<OpenPoint> {
        let at = Locator::machine(self.name.clone()).point(id);
        self.read_point(id, &at).map_err(|error| error.located(&at))
    }

    fn read_point(&self, id: &str, at: &Locator) -> Result<OpenPoint> {
        let info = self.find_point(id)?;
        let point = self.point_layout(&info.id)?;
        let (disks, unread) = open_disks(point)?;
        let inputs: Vec<DiskInput> = disks
            .iter()
            .map(|(name, source)| DiskInput::new(name.clone(), source.clone()))
            .collect();
        let map = volumes_with_keys(&inputs, &self.keys);
        let mut gaps: Vec<Gap> = map.gaps;
        gaps.extend(unread);
        let mut notes: Vec<String> = map.notes.iter().map(note).collect();
        for disk in &point.disks {
            if disk.image().is_ok_and(|(image, _)| image.state().dirty) {
                notes.push(match point.disks.len() {
                    1 => "the image was not closed by its last writer".to_owned(),
                    _ => format!(
                        "the image of {} was not closed by its last writer",
                        disk.name
                    ),
                });
            }
        }
        notes.extend(self.layout.notes.iter().cloned());
        let manifest = manifest(&self.layout, &mut gaps);
        let mut opened = Vec::new();
        let mut listed = Vec::new();
        let (mut asleep, mut in_use) = (None, Vec::new());
        let names: Vec<String> = map
            .volumes
            .iter()
            .map(|volume| volume.info.name.clone())
            .collect();
        let sources: Vec<Arc<dyn Source>> = map
            .volumes
            .iter()
            .map(|volume| volume.source.clone())
            .collect();
        for (volume, found) in map.volumes.into_iter().zip(open_all(&sources)) {
            let here = Locator::default().volume(volume.info.name.clone());
            // A volume system that could not go on has said why.
            let told = volume.is_settled();
            if let Some(origin) = &volume.info.snapshot_of {
                notes.push(format!(
                    "{}: a snapshot of {origin}, which is listed and not judged beside it",
                    volume.info.name
                ));
            }
            let tree = match found.and_then(|found| tree_of(&volume, found, &names, &mut notes)) {
                Ok(tree) => tree,
                Err(error) if stops(&error) => return Err(error.located(&here)),
                Err(error) if told && error.kind() == ErrorKind::Unsupported => None,
                Err(error) => {
                    gaps.push(gap_of(&error, &here, &volume.info));
                    None
                }
            };
            let filesystem = tree.as_ref().map(Tree::info);
            if let Some(tree) = tree {
                match tree.left() {
                    Left::Clean => {}
                    Left::Unclean(why) => {
                        // Nothing was replayed: what was written last may be missing.
                        in_use.push(volume.info.name.clone());
                        gaps.push(gap_of(&Error::unsupported(why), &here, &volume.info));
                    }
                    Left::Hibernated(why) => {
                        notes.push(format!("{here}: {why}"));
                        asleep.get_or_insert_with(|| volume.info.name.clone());
                    }
                }
                let partition = volume.info.partition.as_ref();
                opened.push(OpenVolume {
                    name: volume.info.name.clone(),
                    partition_uuid: partition.and_then(|partition| partition.uuid.clone()),
                    partition_label: partition.and_then(|partition| partition.label.clone()),
                    device_names: device_names(&point.disks, &volume.info),
                    snapshot_of: volume.info.snapshot_of.clone(),
                    tree,
                });
            }
            listed.push((volume, filesystem));
        }
        let systems = assemble(&opened)?;
        gaps.extend(systems.gaps);
        let Saved {
            evidence: mut signs,
            memory,
            gaps: unknown,
        } = saved(point)?;
        gaps.extend(unknown);
        let mut swap_files = Vec::new();
        for guest in &systems.guests {
            let volumes = listed.iter().map(|(volume, _)| volume);
            let found = SwapFiles::of(guest, volumes)?;
            if let Some(sign) = found.evidence.first() {
                asleep.get_or_insert_with(|| sign.place.clone());
            }
            signs.extend(found.evidence);
            gaps.extend(found.gaps);
            swap_files.extend(found.heads);
        }
        signs.extend(on_volumes(&listed, &opened)?);
        if point.disks.is_empty() {
            gaps.push(Gap {
                at: Locator::default(),
                kind: ErrorKind::Unsupported,
                why: "the state names no disk, so of its machine nothing but its memory is seen"
                    .to_owned(),
                may_hide_packages: true,
            });
        }
        let power = match (power(point, &listed)?, asleep) {
            (Power::Cold | Power::Crashed { .. }, Some(volume)) => Power::Hibernated { volume },
            (Power::Cold, None) if !in_use.is_empty() => Power::Crashed { volumes: in_use },
            (Power::Crashed { mut volumes }, None) => {
                volumes.extend(in_use);
                Power::Crashed { volumes }
            }
            (power, _) => power,
        };
        if matches!(power, Power::Running { .. }) {
            for (image, _) in point.disks.iter().filter_map(|disk| disk.image().ok()) {
                if let Some(owner) = image.chain().owner()? {
                    let place = evidence::name_of(&owner.path);
                    let says = owner.to_string();
                    signs.push(PowerEvidence::told(PowerSign::Running, place, says));
                }
            }
        }
        signs.sort();
        signs.dedup();
        if systems.guests.is_empty() {
            gaps.push(Gap {
                at: Locator::default(),
                kind: ErrorKind::Unsupported,
                why: "no operating system was found on the volumes that could be read".to_owned(),
                may_hide_packages: true,
            });
        }
        for gap in &mut gaps {
            gap.at.fill_from(at);
        }
        gaps.sort();
        gaps.dedup();
        Ok(OpenPoint {
            at: at.clone(),
            info,
            power,
            evidence: signs,
            swap_files,
            saved: memory,
            disks,
            volumes: listed,
            guests: systems.guests,
            snapshots: systems.snapshots,
            gaps,
            notes,
            manifest,
        })
    }
}

/// What was saved of the running machine with a point.
#[derive(Default)]
struct Saved {
    evidence: Vec<PowerEvidence>,
    /// The memory: of several states, the first that is one.
    memory: Option<PointMemory>,
    gaps: Vec<Gap>,
}

impl Saved {
    fn add(&mut self, place: String, state: Arc<SavedMemory>) {
        self.evidence
            .push(PowerEvidence::of_state(place.clone(), &state.evidence));
        self.memory.get_or_insert(PointMemory { place, state });
    }

    /// Something that somebody calls a saved state, and that is none that is known.
    fn unknown(&mut self, place: String, error: Option<&Error>) {
        self.gaps.push(unknown_state(&place, error));
        self.evidence.push(PowerEvidence::told(
            PowerSign::Suspended,
            place,
            "it is named as the machine's saved state",
        ));
    }
}

/// What was saved with a point: in its images, in files of their own, and what is only said.
fn saved(point: &PointLayout) -> Result<Saved> {
    let mut saved = Saved::default();
    for disk in &point.disks {
        let Ok((image, inside)) = disk.image() else {
            continue;
        };
        let file = image.files().first();
        let file = file.map(|file| evidence::name_of(&file.path));
        let file = file.unwrap_or_else(|| disk.name.clone());
        match image.memory(inside) {
            Ok(None) => {}
            Ok(Some(memory)) => {
                let place = format!("snapshot {inside} in {file}");
                match SavedMemory::of(memory, "") {
                    Ok(Some(state)) => saved.add(place, Arc::new(state)),
                    Ok(None) => saved.unknown(place, None),
                    Err(error) if stops(&error) => return Err(error),
                    Err(error) => saved.unknown(place, Some(&error)),
                }
            }
            Err(error) if stops(&error) => return Err(error),
            Err(error) => saved.unknown(file.clone(), Some(&error)),
        }
        if point.info.kind == PointKind::Active && image.state().suspended {
            let says = format!("the head of the {} says so", image.format());
            saved
                .evidence
                .push(PowerEvidence::told(PowerSign::Suspended, file, says));
        }
    }
    for file in &point.saved_files {
        let place = evidence::name_of(&file.path);
        match &file.state {
            Ok(Some(state)) => saved.add(place, state.clone()),
            Ok(None) => saved.unknown(place, None),
            Err(error) => saved.unknown(place, Some(error)),
        }
    }
    if point.saved_files.is_empty() {
        for what in &point.saved_states {
            saved.evidence.push(PowerEvidence::told(
                PowerSign::Suspended,
                "its description",
                what.clone(),
            ));
        }
    }
    Ok(saved)
}

/// What the volumes themselves say: systems that sleep on them, and filesystems that were in use.
fn on_volumes(
    listed: &[(Volume, Option<FilesystemInfo>)],
    opened: &[OpenVolume],
) -> Result<Vec<PowerEvidence>> {
    let mut signs = Vec::new();
    for (volume, filesystem) in listed {
        let name = &volume.info.name;
        let content = volume.info.content.as_ref();
        if content.is_some_and(|content| content.hibernated) {
            signs.push(match hibernation_signature(&*volume.source)? {
                Some(magic) => PowerEvidence::magic(
                    PowerSign::Hibernated,
                    name.clone(),
                    magic,
                    "Linux swap space",
                ),
                None => PowerEvidence::told(
                    PowerSign::Hibernated,
                    name.clone(),
                    "a system sleeps in this swap space",
                ),
            });
        }
        if filesystem
            .as_ref()
            .is_some_and(|info| info.journal_replayed)
        {
            signs.push(PowerEvidence::told(
                PowerSign::Crashed,
                name.clone(),
                "its journal was left with work, which is replayed in memory",
            ));
        }
    }
    for volume in opened {
        match volume.tree.left() {
            Left::Clean => {}
            Left::Unclean(why) => {
                signs.push(PowerEvidence::told(
                    PowerSign::Crashed,
                    volume.name.clone(),
                    why,
                ));
            }
            Left::Hibernated(why) => {
                let magic = ["hibr", "rstr"]
                    .into_iter()
                    .find(|magic| why.ends_with(&format!("({magic})")));
                let mut sign = PowerEvidence::told(
                    PowerSign::Hibernated,
                    format!("{}:/hiberfil.sys", volume.name),
                    why,
                );
                sign.format = Some("Windows hibernation file".to_owned());
                sign.magic = magic.map(str::to_owned);
                sign.offset = magic.map(|_| 0);
                sign.verified = false;
                signs.push(sign);
            }
        }
    }
    Ok(signs)
}

/// The disks that could be opened, by name, and what is said of the others.
type OpenDisks = (Vec<(String, Arc<dyn Source>)>, Vec<Gap>);

/// The disks of a point that can be opened, and a gap for each that cannot. One that is the only one must open.
fn open_disks(point: &PointLayout) -> Result<OpenDisks> {
    let mut disks = Vec::new();
    let mut gaps = Vec::new();
    for disk in &point.disks {
        let opened = disk
            .image()
            .and_then(|(image, inside)| image.open_point(inside));
        match opened {
            Ok(source) => disks.push((disk.name.clone(), source)),
            Err(error) if stops(&error) || point.disks.len() == 1 => return Err(error),
            Err(error) => {
                let at = Locator::default().volume(disk.name.clone());
                gaps.push(Gap::from_error(&error, &at));
            }
        }
    }
    Ok((disks, gaps))
}

/// The files of the manifest that were found; each that was not is a gap.
fn manifest(layout: &Layout, gaps: &mut Vec<Gap>) -> Vec<(ManifestEntry, Arc<dyn Source>)> {
    let mut found = Vec::new();
    for (entry, source) in &layout.manifest {
        match source {
            Ok(source) => found.push((entry.clone(), source.clone())),
            Err(error) => gaps.push(Gap::from_error(error, &Locator::default())),
        }
    }
    found
}

/// The device files by which the guest knows a volume, where the machine's description says what it calls the disk.
fn device_names(disks: &[PointDisk], volume: &VolumeInfo) -> Vec<String> {
    let own = volume.device_names.iter().cloned();
    let Some(disk) = disks.iter().find(|disk| disk.name == volume.parent) else {
        return own.collect();
    };
    let number = volume.partition.as_ref().map(|partition| partition.number);
    let told = disk.devices.iter().map(|device| match number {
        None => format!("/dev/{device}"),
        Some(number) if device.ends_with(|last: char| last.is_ascii_digit()) => {
            format!("/dev/{device}p{number}")
        }
        Some(number) => format!("/dev/{device}{number}"),
    });
    own.chain(told).collect()
}

/// What a point would wake from.
fn power(point: &PointLayout, volumes: &[(Volume, Option<FilesystemInfo>)]) -> Result<Power> {
    let info = &point.info;
    if let Some(memory) = info.memory {
        return Ok(Power::Suspended { memory });
    }
    if info.kind == PointKind::Active {
        let images = point.disks.iter().filter_map(|disk| disk.image().ok());
        for (image, _) in images.clone() {
            if image.state().suspended {
                return Ok(Power::Suspended { memory: 0 });
            }
        }
        // A running machine owns the active state; its older snapshots sleep on.
        for (image, _) in images {
            if let Some(owner) = image.chain().owner()? {
                return Ok(Power::Running {
                    owner: owner.to_string(),
                });
            }
        }
    }
    let hibernated = volumes.iter().find(|(volume, _)| {
        let content = volume.info.content.as_ref();
        content.is_some_and(|content| content.hibernated)
    });
    if let Some((volume, _)) = hibernated {
        return Ok(Power::Hibernated {
            volume: volume.info.name.clone(),
        });
    }
    let dirty: Vec<String> = volumes
        .iter()
        .filter(|(_, filesystem)| {
            filesystem
                .as_ref()
                .is_some_and(|info| info.journal_replayed)
        })
        .map(|(volume, _)| volume.info.name.clone())
        .collect();
    Ok(if dirty.is_empty() && !point.disks.is_empty() {
        Power::Cold
    } else {
        // Of a dump without a disk no more is known than that it did not shut down.
        Power::Crashed { volumes: dirty }
    })
}

fn note(note: &Note) -> String {
    format!("{}: {}", note.at, note.what)
}

/// Errors that end the whole point: the host failed, or the caller asked to stop.
fn stops(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Cancelled)
}

fn gap_of(error: &Error, at: &Locator, volume: &VolumeInfo) -> Gap {
    Gap {
        may_hide_packages: volume.may_hold_packages(),
        ..Gap::from_error(error, at)
    }
}

/// The tree of a volume; what is a part of another volume's filesystem is noted and read there.
fn tree_of(
    volume: &Volume,
    found: dormouse_filesystem::Found,
    names: &[String],
    notes: &mut Vec<String>,
) -> Result<Option<Arc<dyn Tree>>> {
    use dormouse_filesystem::Found;
    match found {
        Found::Tree(tree) => return Ok(Some(tree)),
        Found::PartOf(first) => {
            let first = names.get(first).map(String::as_str).unwrap_or_default();
            notes.push(format!(
                "{}: it is a part of the filesystem on {first}",
                volume.info.name
            ));
            return Ok(None);
        }
        Found::Unknown => {}
    }
    if !volume.info.may_hold_packages() {
        return Ok(None);
    }
    let what = match &volume.info.content {
        Some(content) => format!("it holds {}, which is not read", content.kind),
        None => "nothing known was found at its beginning".to_owned(),
    };
    Err(Error::unsupported(what))
}

impl OpenPoint {
    /// Reads the packages of every operating system of the point and the memory saved with it, and says all that was
    /// seen, the answers to `probes` among it.
    ///
    /// # Errors
    /// `Io` and `Cancelled` while the memory is read; all else is a gap.
    pub fn inspect(&self, probes: &BTreeSet<Probe>) -> Result<Inspection> {
        let mut inspection = self.inspect_of(&Selection::default(), probes);
        if let Some(memory) = &self.saved {
            let (mut fact, gaps) = memory.read(&self.at)?;
            inspection.gaps.extend(gaps);
            if let (Some(kernel), [guest], [system]) = (
                &fact.kernel,
                self.guests.as_slice(),
                inspection.systems.as_slice(),
            ) {
                match WokenKernel::compare(kernel, &system.inventory, guest) {
                    Ok(woken) => fact.woken = woken,
                    Err(error) if stops(&error) => return Err(error),
                    Err(error) => inspection.gaps.push(Gap {
                        may_hide_packages: false,
                        ..Gap::from_error(&error, &self.at)
                    }),
                }
            }
            inspection.gaps.sort();
            inspection.memory = Some(fact);
        }
        Ok(inspection)
    }

    /// As [`OpenPoint::inspect`], looking for the chosen families of packages alone, and at no memory, and asking these questions.
    #[must_use]
    pub fn inspect_of(&self, selection: &Selection, probes: &BTreeSet<Probe>) -> Inspection {
        let systems = self
            .guests
            .iter()
            .enumerate()
            .map(|(nth, guest)| SystemFact {
                subvolume: guest
                    .mounts()
                    .first()
                    .and_then(|root| root.subvolume.as_ref())
                    .map(ToString::to_string),
                snapshots: self
                    .snapshots
                    .iter()
                    .filter(|snapshot| snapshot.system == nth)
                    .map(|snapshot| snapshot.subvolume.clone())
                    .collect(),
                mounts: guest
                    .mounts()
                    .iter()
                    .map(|mount| (mount.at.to_string(), mount.volume.clone()))
                    .collect(),
                inventory: dormouse_packages::take_of(guest, &self.at, selection),
                time_zone: dormouse_packages::time_zone(guest).unwrap_or_default(),
                observations: dormouse_packages::observe(guest, probes),
                // What cannot be read is a gap of the inventory already, and this is no evidence.
                first_boot: first_boot::read(guest).unwrap_or_default(),
            })
            .collect();
        Inspection {
            schema: Inspection::SCHEMA.to_owned(),
            at: self.at.clone(),
            point: self.info.clone(),
            power: self.power.clone(),
            evidence: self.evidence.clone(),
            memory: None,
            volumes: self
                .volumes
                .iter()
                .map(|(volume, filesystem)| VolumeFact {
                    volume: volume.info.clone(),
                    filesystem: filesystem.clone(),
                })
                .collect(),
            systems,
            gaps: self.gaps_with_manifest(),
            notes: self.notes.clone(),
        }
    }

    /// What could not be read, and every file that is not the one whose digest stands in the manifest.
    fn gaps_with_manifest(&self) -> Vec<Gap> {
        let mut gaps = self.gaps.clone();
        for (entry, source) in &self.manifest {
            if let Err(error) = entry.check(&**source) {
                gaps.push(Gap::from_error(&error, &self.at));
            }
        }
        gaps.sort();
        gaps
    }

    /// The one operating system of the point.
    ///
    /// # Errors
    /// `Unsupported` when there is none, or more than one.
    pub fn only_guest(&self) -> Result<&Guest> {
        match self.guests.as_slice() {
            [guest] => Ok(guest),
            [] => Err(Error::unsupported("no operating system was found").located(&self.at)),
            more => Err(Error::unsupported(format!(
                "{} operating systems share the disk; only a disk of one is changed",
                more.len()
            ))
            .located(&self.at)),
        }
    }
}

/// `path` as a user of the library names it.
#[must_use]
pub fn within(library: Option<&Path>, path: &Path) -> String {
    let canonical =
        |path: &Path| -> PathBuf { path.canonicalize().unwrap_or_else(|_| path.to_owned()) };
    let relative = library.and_then(|library| {
        canonical(path)
            .strip_prefix(canonical(library))
            .ok()
            .map(Path::to_owned)
    });
    relative
        .unwrap_or_else(|| path.to_owned())
        .to_string_lossy()
        .into_owned()
}
