//! The images and states of a machine, opened as its description or its folder says.

use super::{
    DiskState, Layout, MAX_IMAGES, MachineFile, PointDisk, PointLayout, SavedFile, inside, size_of,
    stops,
};
use crate::Found;
use crate::MachineOptions;
use dormouse_block::Error;
use dormouse_block::HostFile;
use dormouse_block::Metered;
use dormouse_block::Result;
use dormouse_block::Source;
use dormouse_block::window;
use dormouse_disk::ACTIVE;
use dormouse_disk::DescribedDisk;
use dormouse_disk::DiskPlace;
use dormouse_disk::FormatName;
use dormouse_disk::Image;
use dormouse_disk::MachineDescription;
use dormouse_disk::Member;
use dormouse_disk::OpenOptions;
use dormouse_disk::PointInfo;
use dormouse_disk::PointKind;
use dormouse_disk::Role;
use dormouse_disk::SavedMemory;
use dormouse_disk::SavedState;
use dormouse_disk::StateMeaning;
use dormouse_disk::locate;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

pub(super) struct Opening<'a> {
    pub(super) options: &'a MachineOptions,
    pub(super) images: BTreeMap<(PathBuf, u64), Arc<dyn Image>>,
    pub(super) layout: Layout,
}

impl Opening<'_> {
    /// An image, opened once. Whatever it consists of is a file of the machine.
    pub(super) fn image(
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
            .keys(self.options.keys.clone())
            .units(self.options.units.clone());
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

    pub(super) fn bare(&mut self, found: &Found) -> Result<()> {
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
    pub(super) fn layers(&mut self, layers: &[PathBuf]) -> Result<()> {
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
    pub(super) fn saved(&mut self, path: &Path) -> Result<()> {
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

    pub(super) fn described(&mut self, path: &Path, description: MachineDescription) -> Result<()> {
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
