//! A machine opened: its image, its restore points, and what stands on their disks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{Error, ErrorKind, Gap, Locator, Meter, Result, Source};
use dormouse_disk::{ChainFile, FormatName, Gate, Image, OpenOptions, PointInfo, PointKind};
use dormouse_filesystem::{
    FilesystemInfo, Found, Guest, Left, OpenVolume, Snapshot, Subvolume, assemble, open_all,
};
use dormouse_packages::Inventory;
use dormouse_volume::{DiskInput, Keys, Note, Volume, VolumeInfo, volumes_with_keys};
use serde::{Deserialize, Serialize};

use crate::first_boot::{self, FirstBoot};

/// How a machine is opened.
#[derive(Clone)]
pub struct MachineOptions {
    /// The container format, when the user says which it is.
    pub format: Option<FormatName>,
    /// Asked before anything that an image refers to is opened.
    pub gate: Arc<dyn Gate>,
    /// Counts what is read, and stops it.
    pub meter: Meter,
    /// Keys that may unlock encrypted volumes.
    pub keys: Keys,
}

/// A machine whose image is open.
pub struct OpenMachine {
    /// Its name.
    pub name: String,
    image: Box<dyn Image>,
    keys: Keys,
}

/// A machine, as a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// The container format of its disk.
    pub format: String,
    /// Bytes of its disk as the guest sees it.
    pub virtual_size: u64,
    /// Every host file of the chain, the image first.
    pub files: Vec<FileFact>,
    /// The image was not closed by its last writer.
    pub dirty: bool,
    /// Its restore points.
    pub points: Vec<PointInfo>,
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
    /// Hibernated: its memory lies in a swap volume, or in a file of Windows's.
    Hibernated {
        /// The volume.
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
    /// What it says of its first boot after an injection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_boot: Option<FirstBoot>,
}

/// Everything that was read of one restore point, as a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Inspection {
    /// `dormouse/inspection/v2`.
    pub schema: String,
    /// Which machine and restore point.
    pub at: Locator,
    /// The restore point.
    pub point: PointInfo,
    /// What it would wake from.
    pub power: Power,
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
    pub const SCHEMA: &'static str = "dormouse/inspection/v2";

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
    /// The whole disk.
    pub disk: Arc<dyn Source>,
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
}

impl OpenMachine {
    /// Opens the machine whose disk image is at `path`.
    ///
    /// # Errors
    /// Whatever makes the image unreadable as a whole.
    pub fn open(name: &str, path: &Path, options: &MachineOptions) -> Result<Self> {
        let mut open = OpenOptions::new(options.gate.clone()).meter(options.meter.clone());
        if let Some(format) = options.format {
            open = open.format(format);
        }
        let image = dormouse_disk::open(path, &open)
            .map_err(|error| error.located(&Locator::machine(name)))?;
        Ok(Self {
            name: name.to_owned(),
            image,
            keys: options.keys.clone(),
        })
    }

    /// The image.
    #[must_use]
    pub fn image(&self) -> &dyn Image {
        self.image.as_ref()
    }

    /// The keys that its encrypted volumes are tried with.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The host files of its chain, the image first.
    #[must_use]
    pub fn files(&self) -> &[ChainFile] {
        self.image.files()
    }

    /// The machine as a fact; paths below `library` are given relative to it.
    #[must_use]
    pub fn fact(&self, library: Option<&Path>) -> Machine {
        Machine {
            name: self.name.clone(),
            format: self.image.format().to_string(),
            virtual_size: self.image.virtual_size(),
            files: self
                .image
                .files()
                .iter()
                .map(|file| FileFact {
                    path: within(library, &file.path),
                    role: file.role.as_str().to_owned(),
                    format: file.format.to_string(),
                    size: file.identity.len,
                })
                .collect(),
            dirty: self.image.state().dirty,
            points: self.image.points().to_vec(),
        }
    }

    /// The restore point with this id or name.
    ///
    /// # Errors
    /// `Unsupported` when there is none; the message lists those there are.
    pub fn find_point(&self, wanted: &str) -> Result<PointInfo> {
        self.image
            .point(wanted)
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
        let disk = self.image.open_point(id)?;
        let map = volumes_with_keys(&[DiskInput::new("disk0", disk.clone())], &self.keys);
        let mut gaps: Vec<Gap> = map.gaps;
        let mut notes: Vec<String> = map.notes.iter().map(note).collect();
        if self.image.state().dirty {
            notes.push("the image was not closed by its last writer".to_owned());
        }
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
            let filesystem = tree.as_ref().map(|tree| tree.info());
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
                    device_names: volume.info.device_names.clone(),
                    snapshot_of: volume.info.snapshot_of.clone(),
                    tree,
                });
            }
            listed.push((volume, filesystem));
        }
        let systems = assemble(&opened)?;
        gaps.extend(systems.gaps);
        let power = match (self.power(&info, &listed)?, asleep) {
            (Power::Cold | Power::Crashed { .. }, Some(volume)) => Power::Hibernated { volume },
            (Power::Cold, None) if !in_use.is_empty() => Power::Crashed { volumes: in_use },
            (Power::Crashed { mut volumes }, None) => {
                volumes.extend(in_use);
                Power::Crashed { volumes }
            }
            (power, _) => power,
        };
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
            disk,
            volumes: listed,
            guests: systems.guests,
            snapshots: systems.snapshots,
            gaps,
            notes,
        })
    }

    fn power(
        &self,
        info: &PointInfo,
        volumes: &[(Volume, Option<FilesystemInfo>)],
    ) -> Result<Power> {
        if let Some(memory) = info.memory {
            return Ok(Power::Suspended { memory });
        }
        if info.kind == PointKind::Active && self.image.state().suspended {
            return Ok(Power::Suspended { memory: 0 });
        }
        // A running machine owns the active state; its older snapshots sleep on.
        if info.kind == PointKind::Active
            && let Some(owner) = self.image.chain().owner()?
        {
            return Ok(Power::Running {
                owner: owner.to_string(),
            });
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
        Ok(if dirty.is_empty() {
            Power::Cold
        } else {
            Power::Crashed { volumes: dirty }
        })
    }
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
    found: Found,
    names: &[String],
    notes: &mut Vec<String>,
) -> Result<Option<Arc<dyn dormouse_filesystem::Tree>>> {
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
    /// Reads the packages of every operating system of the point, and says all that was seen.
    #[must_use]
    pub fn inspect(&self) -> Inspection {
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
                inventory: dormouse_packages::take(guest, &self.at),
                // What cannot be read is a gap of the inventory already, and this is no evidence.
                first_boot: first_boot::read(guest).unwrap_or_default(),
            })
            .collect();
        Inspection {
            schema: Inspection::SCHEMA.to_owned(),
            at: self.at.clone(),
            point: self.info.clone(),
            power: self.power.clone(),
            volumes: self
                .volumes
                .iter()
                .map(|(volume, filesystem)| VolumeFact {
                    volume: volume.info.clone(),
                    filesystem: filesystem.clone(),
                })
                .collect(),
            systems,
            gaps: self.gaps.clone(),
            notes: self.notes.clone(),
        }
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
