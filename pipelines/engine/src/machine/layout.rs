//! Which images make up a machine at each of its restore points.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{Error, ErrorKind, HostFile, Identity, Metered, Result, Source, window};
use dormouse_disk::{
    ACTIVE, DescribedDisk, DiskPlace, FormatName, Image, MachineDescription, ManifestEntry, Member,
    OpenOptions, PointInfo, PointKind, Role, SavedMemory, SavedState, StateMeaning, locate,
};

use crate::{Found, MachineOptions};

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

struct Opening<'a> {
    options: &'a MachineOptions,
    images: BTreeMap<(PathBuf, u64), Arc<dyn Image>>,
    layout: Layout,
}

impl Opening<'_> {
    /// An image, opened once. Whatever it consists of is a file of the machine.
    fn image(
        &mut self,
        path: &Path,
        member: Option<&Member>,
        format: Option<FormatName>,
    ) -> Result<Arc<dyn Image>> {
        let key = (path.to_owned(), member.map_or(0, |member| member.offset));
        if let Some(image) = self.images.get(&key) {
            return Ok(image.clone());
        }
        if self.images.len() >= MAX_IMAGES {
            return Err(Error::limit(format!(
                "its restore points are kept in more than {MAX_IMAGES} images"
            )));
        }
        let mut open = OpenOptions::new(self.options.gate.clone())
            .meter(self.options.meter.clone())
            .keys(self.options.keys.clone());
        open.format = format;
        let image = match member {
            Some(member) => dormouse_disk::open_member(path, member, &open)?,
            None => dormouse_disk::open(path, &open)?,
        };
        let image: Arc<dyn Image> = Arc::from(image);
        for file in image.files() {
            self.layout.add_file(MachineFile {
                path: file.path.clone(),
                role: file.role,
                format: file.format.to_string(),
                identity: file.identity.clone(),
                encryption: file.encryption.clone(),
            });
        }
        self.images.insert(key, image.clone());
        Ok(image)
    }

    fn other_file(&mut self, path: &Path, role: Role, format: &str) -> Result<u64> {
        let identity = HostFile::open(path)?.identity().clone();
        let len = identity.len;
        self.layout.add_file(MachineFile {
            path: path.to_owned(),
            role,
            format: format.to_owned(),
            identity,
            encryption: None,
        });
        Ok(len)
    }

    fn bare(&mut self, found: &Found) -> Result<()> {
        if self.options.format.is_none()
            && !found.is_bare
            && let Ok(Some(state)) = self.state(&found.path)
        {
            return self.state_alone(&found.path, state);
        }
        let image = self.image(&found.path, None, self.options.format)?;
        self.points_of(&image, None)
    }

    fn state(&self, path: &Path) -> Result<Option<SavedMemory>> {
        SavedMemory::open(path, &*self.options.gate, &self.options.meter)
    }

    /// A saved state that names no disk: all that there is of its machine.
    fn state_alone(&mut self, path: &Path, state: SavedMemory) -> Result<()> {
        let len = self.other_file(path, Role::SavedState, &state.evidence.format)?;
        if let Some(name) = state.companion() {
            let beside = path.with_file_name(name);
            self.other_file(&beside, Role::SavedState, "saved memory")?;
        }
        let mut info = PointInfo::active(0);
        if state.evidence.meaning != StateMeaning::Dump {
            info.memory = Some(len);
        }
        self.layout.add(PointLayout {
            info,
            disks: Vec::new(),
            saved_states: vec![state.evidence.format.clone()],
            saved_files: vec![SavedFile {
                path: path.to_owned(),
                state: Ok(Some(Arc::new(state))),
            }],
        })
    }

    /// The file of a saved state, as a file of the machine, and its length.
    fn saved_file(&mut self, path: &Path) -> Result<(SavedFile, u64)> {
        let state = match self.state(path) {
            Err(error) if stops(&error) => return Err(error),
            state => state,
        };
        let format = match &state {
            Ok(Some(state)) => state.evidence.format.clone(),
            _ => "saved state".to_owned(),
        };
        let len = self.other_file(path, Role::SavedState, &format)?;
        if let Ok(Some(state)) = &state
            && let Some(name) = state.companion()
        {
            let beside = path.with_file_name(name);
            self.other_file(&beside, Role::SavedState, "saved memory")?;
        }
        let file = SavedFile {
            path: path.to_owned(),
            state: state.map(|state| state.map(Arc::new)),
        };
        Ok((file, len))
    }

    /// The points of an image by itself. Of a layer called `layer`, they are points of the machine by that name.
    fn points_of(&mut self, image: &Arc<dyn Image>, layer: Option<(&str, &str)>) -> Result<()> {
        for info in image.points() {
            let mut shown = info.clone();
            if let Some((id, name)) = layer {
                if info.kind == PointKind::Active {
                    shown.kind = PointKind::Layer;
                    shown.id = id.to_owned();
                    shown.name = name.to_owned();
                } else {
                    shown.id = format!("{id}.{}", info.id);
                }
            }
            let disk = PointDisk {
                name: "disk0".to_owned(),
                slot: None,
                devices: Vec::new(),
                state: DiskState::Open {
                    image: image.clone(),
                    point: info.id.clone(),
                },
            };
            self.layout.add(PointLayout {
                info: shown,
                disks: vec![disk],
                saved_states: Vec::new(),
                saved_files: Vec::new(),
            })?;
        }
        Ok(())
    }

    /// Files of the chain of a machine of one disk, the base first, as points. One that cannot be opened by itself is one
    /// all the same, whose disk is not read.
    fn layers(&mut self, layers: &[PathBuf]) -> Result<()> {
        let (slot, devices) = match self.layout.points.first().map(|point| &*point.disks) {
            Some([disk]) => (disk.slot.clone(), disk.devices.clone()),
            _ => return Ok(()),
        };
        for (number, path) in layers.iter().enumerate() {
            let format = self.recorded(path);
            let id = format!("layer-{}", number.saturating_add(1));
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let before = self.layout.points.len();
            match format.and_then(|format| self.image(path, None, Some(format))) {
                Ok(image) => self.points_of(&image, Some((&id, &name)))?,
                Err(error) if stops(&error) => return Err(error),
                Err(error) => {
                    let mut info = PointInfo::active(0);
                    info.kind = PointKind::Layer;
                    info.id = id;
                    info.name = name.into_owned();
                    self.layout.add(PointLayout {
                        info,
                        disks: vec![PointDisk {
                            name: "disk0".to_owned(),
                            slot: None,
                            devices: Vec::new(),
                            state: DiskState::unread(&error),
                        }],
                        saved_states: Vec::new(),
                        saved_files: Vec::new(),
                    })?;
                }
            }
            for point in self.layout.points.iter_mut().skip(before) {
                for disk in &mut point.disks {
                    disk.slot.clone_from(&slot);
                    disk.devices.clone_from(&devices);
                }
            }
        }
        Ok(())
    }

    /// The format in which the file at `path` was opened as part of the machine's chain: the one that the layer above records,
    /// where it does. A layer is never opened as anything else, for what a guest wrote into it must not decide.
    fn recorded(&self, path: &Path) -> Result<FormatName> {
        let identity = HostFile::open(path)?.identity().clone();
        let mut files = self.layout.files.iter();
        // One file may be reached by several paths.
        let known = files
            .find(|file| {
                (file.identity.device, file.identity.inode) == (identity.device, identity.inode)
            })
            .ok_or_else(|| {
                Error::corrupt(
                    "it is no file of the machine's chain any more, so its format is not known",
                )
                .in_file(path.display())
            })?;
        FormatName::parse(&known.format)
    }

    /// A saved state kept in a file of its own that names the machine's disks.
    fn saved(&mut self, path: &Path) -> Result<()> {
        let (file, len) = self.saved_file(path)?;
        if let Some(active) = self.layout.points.first_mut() {
            active.info.memory.get_or_insert(len);
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let what = match &file.state {
                Ok(Some(state)) => state.evidence.format.clone(),
                _ => "saved state".to_owned(),
            };
            active.saved_states.push(format!("a {what} in {name}"));
            active.saved_files.push(file);
        }
        Ok(())
    }

    fn described(&mut self, path: &Path, description: MachineDescription) -> Result<()> {
        self.other_file(path, Role::Description, &description.kind)?;
        for companion in &description.companions {
            self.other_file(companion, Role::Description, &description.kind)?;
        }
        if description.disks.is_empty() {
            return Err(
                Error::unsupported("it describes a machine without disks").in_file(path.display())
            );
        }
        let disks = self.disks(path, &description.disks, &description.disks)?;
        if disks.iter().all(|disk| disk.image().is_err())
            && let Some(Err(error)) = disks.first().map(PointDisk::image)
        {
            return Err(error.in_file(path.display()));
        }
        let mut active = PointLayout {
            info: PointInfo::active(size_of(&disks)),
            disks,
            saved_states: Vec::new(),
            saved_files: Vec::new(),
        };
        self.save_with(path, &mut active, &description.saved_states)?;
        let inside = inside(&active.disks, &description);
        self.layout.add(active)?;
        for snapshot in inside {
            self.layout.add(snapshot)?;
        }
        for snapshot in &description.snapshots {
            let disks = self.disks(path, &snapshot.disks, &description.disks)?;
            let memory = disks.iter().find_map(|disk| {
                let (image, point) = disk.image().ok()?;
                image.point(point).ok()?.memory
            });
            let mut point = PointLayout {
                info: PointInfo {
                    id: snapshot.id.clone(),
                    name: snapshot.name.clone(),
                    kind: PointKind::MachineSnapshot,
                    created: snapshot.created,
                    vm_clock: None,
                    memory,
                    disk_size: size_of(&disks),
                },
                disks,
                saved_states: Vec::new(),
                saved_files: Vec::new(),
            };
            self.save_with(path, &mut point, &snapshot.saved_states)?;
            self.layout.add(point)?;
        }
        for entry in &description.manifest {
            let source = self.bytes(path, &entry.place);
            self.layout.manifest.push((entry.clone(), source));
        }
        self.layout.notes.clone_from(&description.notes);
        self.layout.description = Some(description);
        Ok(())
    }

    /// The disks of a point, by the names that the machine's disks have.
    fn disks(
        &mut self,
        from: &Path,
        wanted: &[DescribedDisk],
        machine: &[DescribedDisk],
    ) -> Result<Vec<PointDisk>> {
        let mut disks = Vec::new();
        for (position, disk) in wanted.iter().enumerate() {
            let number = machine
                .iter()
                .position(|known| known.slot == disk.slot)
                .unwrap_or_else(|| machine.len().saturating_add(position));
            let state = match self.disk(from, disk) {
                Ok(state) => state,
                Err(error) if stops(&error) => return Err(error),
                Err(error) => DiskState::unread(&error),
            };
            disks.push(PointDisk {
                name: format!("disk{number}"),
                slot: Some(disk.slot.clone()),
                devices: disk.devices.clone(),
                state,
            });
        }
        Ok(disks)
    }

    fn disk(&mut self, from: &Path, disk: &DescribedDisk) -> Result<DiskState> {
        let image = match &disk.place {
            DiskPlace::Elsewhere(why) => return Err(Error::unsupported(why.clone())),
            DiskPlace::File(names) => {
                let path = locate(from, names, Role::Disk, &*self.options.gate)?;
                self.image(&path, None, disk.format)?
            }
            DiskPlace::Member { name, offset, size } => {
                let member = Member {
                    name: name.clone(),
                    offset: *offset,
                    size: *size,
                };
                self.image(from, Some(&member), disk.format)?
            }
        };
        let point = match &disk.snapshot {
            Some(name) => image.point(name)?.id.clone(),
            None => ACTIVE.to_owned(),
        };
        Ok(DiskState::Open { image, point })
    }

    /// Saved states make a point suspended, whether their files are there or not.
    fn save_with(
        &mut self,
        from: &Path,
        point: &mut PointLayout,
        states: &[SavedState],
    ) -> Result<()> {
        for state in states {
            let file = locate(from, &state.names, Role::SavedState, &*self.options.gate).ok();
            let mut len = 0;
            if let Some(path) = file {
                let (file, bytes) = self.saved_file(&path)?;
                len = bytes;
                point.saved_files.push(file);
            }
            point.info.memory.get_or_insert(len);
            point.saved_states.push(state.what.clone());
        }
        Ok(())
    }

    fn bytes(&mut self, from: &Path, place: &DiskPlace) -> Result<Arc<dyn Source>> {
        let metered = |path: &Path| -> Result<Arc<dyn Source>> {
            let file = HostFile::open(path)?;
            Ok(Arc::new(Metered::new(file, self.options.meter.clone())))
        };
        match place {
            DiskPlace::Elsewhere(why) => Err(Error::unsupported(why.clone())),
            DiskPlace::File(names) => metered(&locate(
                from,
                names,
                Role::Description,
                &*self.options.gate,
            )?),
            DiskPlace::Member { offset, size, .. } => {
                Ok(Arc::new(window(metered(from)?, *offset, *size)?))
            }
        }
    }
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
