//! A restore point opened: its volumes, filesystems and operating systems, and what it would wake from.

use std::collections::BTreeSet;
use std::sync::Arc;

use dormouse_block::{Error, ErrorKind, Gap, Locator, Result, Source};
use dormouse_disk::{ManifestEntry, PointInfo, PointKind, SavedMemory};
use dormouse_filesystem::{
    FilesystemInfo, Guest, Left, OpenVolume, Snapshot, Tree, assemble, open_all,
};
use dormouse_packages::{Probe, Selection};
use dormouse_remedy::WokenKernel;
use dormouse_volume::{
    DiskInput, Note, Volume, VolumeInfo, hibernation_signature, volumes_with_keys,
};

use super::layout::{Layout, PointDisk, PointLayout};
use super::memory::{PointMemory, unknown_state};
use super::swap_files::SwapFiles;
use super::{
    Inspection, OpenMachine, Power, PowerEvidence, PowerSign, SystemFact, VolumeFact, evidence,
};
use crate::first_boot;

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
    pub(super) fn read_point(&self, id: &str, at: &Locator) -> Result<OpenPoint> {
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
