//! Which images make up a machine at each of its restore points.

mod opening;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{Error, ErrorKind, Identity, Result, Source};
use dormouse_disk::{
    ACTIVE, Image, MachineDescription, ManifestEntry, PointInfo, PointKind, Role, SavedMemory,
};

use crate::{Found, MachineOptions};
use opening::Opening;

/// Disks of all restore points of one machine together.
const MAX_POINT_DISKS: usize = 16_384;
/// Images of one machine, each of which keeps its files open.
const MAX_IMAGES: usize = 1024;

/// A machine's restore points, and the images and files that they are made of.
#[derive(Default)]
pub(crate) struct Layout {
    /// The active state first.
    pub(crate) points: Vec<PointLayout>,
    /// Every host file.
    pub(crate) files: Vec<MachineFile>,
    /// What describes the machine; a bare disk is described by nobody.
    pub(crate) description: Option<MachineDescription>,
    /// Files with a digest in a manifest.
    pub(crate) manifest: Vec<(ManifestEntry, Result<Arc<dyn Source>>)>,
    /// What is odd and hides nothing.
    pub(crate) notes: Vec<String>,
}

/// A restore point: its disks, and what was saved with them.
pub(crate) struct PointLayout {
    pub(crate) info: PointInfo,
    pub(crate) disks: Vec<PointDisk>,
    /// States saved of the running machine, in words.
    pub(crate) saved_states: Vec<String>,
    /// The files that hold them, where there are any.
    pub(crate) saved_files: Vec<SavedFile>,
}

/// A file that holds a saved state.
pub(crate) struct SavedFile {
    pub(crate) path: PathBuf,
    /// What it was recognised as, if it was; an error when that could not be told.
    pub(crate) state: Result<Option<Arc<SavedMemory>>>,
}

/// A disk at a restore point.
#[derive(Clone)]
pub(crate) struct PointDisk {
    /// Its name within the machine: `disk0`.
    pub(crate) name: String,
    /// Where it hangs, when somebody says.
    pub(crate) slot: Option<String>,
    /// What its guest's kernel is known to call it.
    pub(crate) devices: Vec<String>,
    pub(crate) state: DiskState,
}

/// What could be opened of a disk.
#[derive(Clone)]
pub(crate) enum DiskState {
    /// The image, and which of its own points it is.
    Open {
        image: Arc<dyn Image>,
        point: String,
    },
    /// Nothing, and why.
    Unread { kind: ErrorKind, why: String },
}

impl DiskState {
    fn unread(error: &Error) -> Self {
        Self::Unread {
            kind: error.kind(),
            why: error.with_causes(),
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Open { image, point } => image.point(point).map_or(0, |point| point.disk_size),
            Self::Unread { .. } => 0,
        }
    }
}

impl PointDisk {
    /// Its image and the image's point.
    ///
    /// # Errors
    /// What kept it from being opened.
    pub(crate) fn image(&self) -> Result<(&Arc<dyn Image>, &str)> {
        match &self.state {
            DiskState::Open { image, point } => Ok((image, point)),
            DiskState::Unread { kind, why } => Err(Error::new(
                *kind,
                format!("{}{} is not read: {why}", self.name, self.place()),
            )),
        }
    }

    fn place(&self) -> String {
        let slot = self.slot.as_ref();
        slot.map(|slot| format!(" ({slot})")).unwrap_or_default()
    }
}

/// A host file of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineFile {
    /// The path it was opened by.
    pub path: PathBuf,
    /// What it is to the machine, or to the file above it.
    pub role: Role,
    /// Its format.
    pub format: String,
    /// Its state when it was opened.
    pub identity: Identity,
    /// How its data are encrypted, for an image whose are.
    pub encryption: Option<String>,
}

impl Layout {
    /// The layout of the machine that was found as `found`.
    ///
    /// # Errors
    /// Whatever keeps all of its disks from being opened, or its description from being read.
    pub(crate) fn open(found: &Found, options: &MachineOptions) -> Result<Self> {
        let mut opening = Opening {
            options,
            images: BTreeMap::new(),
            layout: Self::default(),
        };
        let description = match options.format {
            // Somebody says that it is a disk.
            Some(_) => None,
            None if found.is_bare => None,
            None => dormouse_disk::describe(&found.path, &*options.gate)?,
        };
        match description {
            Some(description) => opening.described(&found.path, description)?,
            None => opening.bare(found)?,
        }
        opening.layers(&found.layers)?;
        for state in &found.saved_states {
            opening.saved(state)?;
        }
        Ok(opening.layout)
    }

    /// The layout of one point whose disk called `name` is another image.
    ///
    /// # Errors
    /// An image that cannot be opened.
    pub(crate) fn with_disk(
        point: &PointLayout,
        name: &str,
        path: &Path,
        options: &MachineOptions,
    ) -> Result<Self> {
        let mut opening = Opening {
            options,
            images: BTreeMap::new(),
            layout: Self::default(),
        };
        let image = opening.image(path, None, options.format)?;
        let mut disks = point.disks.clone();
        for disk in disks.iter_mut().filter(|disk| disk.name == name) {
            disk.state = DiskState::Open {
                image: image.clone(),
                point: ACTIVE.to_owned(),
            };
        }
        opening.layout.points.push(PointLayout {
            info: PointInfo::active(size_of(&disks)),
            disks,
            saved_states: Vec::new(),
            saved_files: Vec::new(),
        });
        Ok(opening.layout)
    }

    fn is_known(&self, id: &str) -> bool {
        self.points.iter().any(|point| point.info.id == id)
    }

    /// Adds a point, by an id that no other has.
    fn add(&mut self, mut point: PointLayout) -> Result<()> {
        let disks: usize = self.points.iter().map(|point| point.disks.len()).sum();
        if disks.saturating_add(point.disks.len()) > MAX_POINT_DISKS {
            return Err(Error::limit(format!(
                "its restore points have more than {MAX_POINT_DISKS} disks together"
            )));
        }
        while self.is_known(&point.info.id) {
            point.info.id.push('+');
        }
        self.points.push(point);
        Ok(())
    }

    fn add_file(&mut self, file: MachineFile) {
        if !self.files.iter().any(|known| known.path == file.path) {
            self.files.push(file);
        }
    }
}

fn size_of(disks: &[PointDisk]) -> u64 {
    let sizes = disks.iter().map(|disk| disk.state.size());
    sizes.fold(0, u64::saturating_add)
}

/// The snapshots inside the disks of a machine. One of the whole machine has the same name in every disk that it can be in;
/// where a disk lacks it, what that disk held then is not known.
fn inside(disks: &[PointDisk], description: &MachineDescription) -> Vec<PointLayout> {
    let named = |name: &str| {
        let snapshots = description.snapshots.iter();
        snapshots
            .flat_map(|snapshot| &snapshot.disks)
            .any(|disk| disk.snapshot.as_deref() == Some(name))
    };
    // Of snapshots that share a name in one disk, the first belongs to the first of the others, and so on.
    let mut found: Vec<((String, usize), PointInfo)> = Vec::new();
    for disk in disks {
        let Ok((image, _)) = disk.image() else {
            continue;
        };
        for (key, info) in numbered(&**image) {
            match found.iter_mut().find(|(known, _)| *known == key) {
                // The memory is in one of the disks.
                Some((_, known)) => known.memory = known.memory.or(info.memory),
                None if named(&info.name) => {}
                None => found.push((key, info)),
            }
        }
    }
    found
        .into_iter()
        .map(|(key, mut info)| {
            let disks: Vec<PointDisk> = disks
                .iter()
                .map(|disk| PointDisk {
                    state: at_snapshot(disk, &key),
                    ..disk.clone()
                })
                .collect();
            info.disk_size = size_of(&disks);
            PointLayout {
                info,
                disks,
                saved_states: Vec::new(),
                saved_files: Vec::new(),
            }
        })
        .collect()
}

/// The snapshots inside an image, by name and by how many before have the same.
fn numbered(image: &dyn Image) -> Vec<((String, usize), PointInfo)> {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all = Vec::new();
    for info in image.points() {
        if info.kind != PointKind::Active {
            let before = count.entry(&info.name).or_default();
            all.push(((info.name.clone(), *before), info.clone()));
            *before = before.saturating_add(1);
        }
    }
    all
}

fn at_snapshot(disk: &PointDisk, key: &(String, usize)) -> DiskState {
    let DiskState::Open { image, .. } = &disk.state else {
        return disk.state.clone();
    };
    match numbered(&**image)
        .into_iter()
        .find(|(known, _)| known == key)
    {
        Some((_, info)) => DiskState::Open {
            image: image.clone(),
            point: info.id,
        },
        None => DiskState::Unread {
            kind: ErrorKind::Unsupported,
            why: format!(
                "its image has no snapshot called {:?}, so what it held then is not known",
                key.0
            ),
        },
    }
}

/// Errors that end the whole machine: the host failed, or the caller asked to stop.
fn stops(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Cancelled)
}
