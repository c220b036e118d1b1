//! A machine opened: its images, its restore points, and what stands on their disks.

mod evidence;
mod fact;
mod layout;
mod memory;
mod point;
mod search;
mod swap_files;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{Error, HostFile, Locator, Meter, Result, Source};
use dormouse_disk::{FormatName, Gate, PointInfo, UnitCache, find_point};
use dormouse_volume::Keys;

pub use evidence::{PowerEvidence, PowerSign};
pub use fact::{
    DescriptionFact, DiskFact, FileFact, Inspection, Machine, Power, SystemFact, VolumeFact,
};
pub use layout::MachineFile;
pub(crate) use layout::PointDisk;
pub use memory::{MemoryBlock, MemoryFact};
pub use point::OpenPoint;

use crate::Found;
use layout::{Layout, PointLayout};

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
    /// Decoded units of compressed images, shared by all machines that are opened with it.
    pub units: UnitCache,
}

/// A machine whose images are open.
pub struct OpenMachine {
    /// Its name.
    pub name: String,
    layout: Layout,
    keys: Keys,
    units: UnitCache,
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
            units: options.units.clone(),
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
            units: options.units.clone(),
        })
    }

    /// The keys that its encrypted volumes are tried with.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Where decoded units of its images are kept.
    pub(crate) fn units(&self) -> &UnitCache {
        &self.units
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
