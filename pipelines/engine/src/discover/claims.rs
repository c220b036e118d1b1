//! Which files of a library belong to which machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_disk::{
    DescribedDisk, DiskPlace, Gate, LibraryGate, MachineDescription, OpenOptions, Role, describe,
    locate,
};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::{Files, Found};

/// Saved states of one folder that are looked at for one image.
const MAX_BESIDE: usize = 256;
/// What libvirt saves, which names the disks that it depends on.
const SAVED: &str = "libvirt-save";

/// A description, and where what it names was found.
struct Claim<'a> {
    path: &'a PathBuf,
    machine: MachineDescription,
    /// The disks of the active state.
    active: BTreeSet<PathBuf>,
    /// The disks of its snapshots.
    older: BTreeSet<PathBuf>,
}

/// The machines of these files; names are still to be given.
pub(super) fn machines(files: &Files, gate: &LibraryGate) -> Vec<Found> {
    let mut broken = Vec::new();
    let mut claims = Vec::new();
    let mut saved = Vec::new();
    for path in &files.descriptions {
        match describe(path, gate) {
            Ok(Some(machine)) if machine.kind == SAVED => saved.push(claim(path, machine, gate)),
            Ok(Some(machine)) => claims.push(claim(path, machine, gate)),
            // Opening it says what is wrong with it.
            Ok(None) | Err(_) => broken.push(Found {
                path: path.clone(),
                ..Found::default()
            }),
        }
    }
    let chains = Chains::of(&files.images, gate);
    let claimed: BTreeSet<&PathBuf> = claims
        .iter()
        .flat_map(|claim| claim.active.iter().chain(&claim.older))
        .collect();
    let mut machines = broken;
    let mut described: Vec<(Found, BTreeSet<PathBuf>)> = claims
        .iter()
        .map(|claim| {
            // Descriptions with snapshots of their own name the layers that matter.
            let layers = match claim.active.first() {
                Some(disk) if claim.machine.disks.len() == 1 && claim.older.is_empty() => {
                    chains.layers(disk, &claimed)
                }
                _ => Vec::new(),
            };
            let found = Found {
                path: claim.path.clone(),
                layers,
                ..Found::default()
            };
            (found, claim.active.clone())
        })
        .collect();
    for image in &files.images {
        let real = real(image);
        if claimed.contains(&real) || chains.is_layer(&real) {
            continue;
        }
        let found = Found {
            path: image.clone(),
            is_bare: super::is_named_as_image(image),
            layers: chains.layers(&real, &claimed),
            ..Found::default()
        };
        described.push((found, BTreeSet::from([real])));
    }
    lone_states(&files.states, &claims, &mut described, &mut machines, gate);
    // A saved state belongs to whatever has the disks that it names; one whose disks nobody has is all there is of its
    // machine.
    for state in &saved {
        let mut known = false;
        for (found, disks) in &mut described {
            if !disks.is_disjoint(&state.active) {
                found.saved_states.push(state.path.clone());
                known = true;
            }
        }
        if !known {
            machines.push(Found {
                path: state.path.clone(),
                ..Found::default()
            });
        }
    }
    machines.extend(described.into_iter().map(|(found, _)| found));
    machines
}

/// States that do not say whose they are. Those that a description names are its own; one that is called as an image is
/// taken for its machine's, since a disk must not be changed below it; the others are all there is of their machines.
fn lone_states(
    states: &[PathBuf],
    claims: &[Claim<'_>],
    described: &mut [(Found, BTreeSet<PathBuf>)],
    machines: &mut Vec<Found>,
    gate: &LibraryGate,
) {
    let named: BTreeSet<PathBuf> = claims
        .iter()
        .flat_map(|claim| {
            let snapshots = claim.machine.snapshots.iter();
            let states = snapshots.flat_map(|snapshot| &snapshot.saved_states);
            let states = states.chain(&claim.machine.saved_states);
            states.filter_map(|state| locate(claim.path, &state.names, Role::SavedState, gate).ok())
        })
        .map(|path| real(&path))
        .collect();
    for state in states.iter().filter(|state| !named.contains(&real(state))) {
        let stem = state.with_extension("");
        let mut known = described.iter_mut().filter(|(found, _)| {
            found.path.with_extension("") == stem && super::ending_of(state) != "vmsn"
        });
        match known.next() {
            Some((found, _)) => found.saved_states.push(state.clone()),
            None => machines.push(Found {
                path: state.clone(),
                ..Found::default()
            }),
        }
    }
}

fn claim<'a>(path: &'a PathBuf, machine: MachineDescription, gate: &LibraryGate) -> Claim<'a> {
    let snapshots = machine.snapshots.iter();
    Claim {
        path,
        active: found(path, &machine.disks, gate),
        older: snapshots
            .flat_map(|snapshot| found(path, &snapshot.disks, gate))
            .collect(),
        machine,
    }
}

fn found(from: &Path, disks: &[DescribedDisk], gate: &dyn Gate) -> BTreeSet<PathBuf> {
    let names = disks.iter().filter_map(|disk| match &disk.place {
        DiskPlace::File(names) => Some(names),
        DiskPlace::Member { .. } | DiskPlace::Elsewhere(_) => None,
    });
    names
        .filter_map(|names| locate(from, names, Role::Disk, gate).ok())
        .map(|path| real(&path))
        .collect()
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The states saved beside the image at `path` that name it. What cannot be read there is no state of this image.
pub(super) fn saved_beside(path: &Path, gate: &dyn Gate) -> Vec<PathBuf> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let image = real(path);
    let mut states: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|state| state.is_file() && *state != path)
        .filter(|state| {
            super::ending_of(state) == "save" || state.with_extension("") == path.with_extension("")
        })
        .take(MAX_BESIDE)
        .filter(|state| match describe(state, gate) {
            Ok(Some(machine)) => {
                machine.kind == SAVED && found(state, &machine.disks, gate).contains(&image)
            }
            // Called as the image, and a state that does not say whose it is.
            Ok(None) => {
                state.with_extension("") == path.with_extension("")
                    && matches!(super::content(state), Ok(super::Content::SavedState))
            }
            Err(_) => false,
        })
        .collect();
    states.sort();
    states
}

/// Which images stand on which.
struct Chains {
    /// The files below each image, from the top down.
    below: BTreeMap<PathBuf, Vec<PathBuf>>,
    /// The images that stand on each file and on which none stands.
    tops: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

impl Chains {
    /// An image that cannot be opened stands on nothing that is known.
    fn of(images: &[PathBuf], gate: &LibraryGate) -> Self {
        let below: BTreeMap<PathBuf, Vec<PathBuf>> = images
            .par_iter()
            .filter_map(|image| {
                let options = OpenOptions::new(Arc::new(gate.clone()));
                let opened = dormouse_disk::open(image, &options).ok()?;
                let files = opened.files().iter();
                let below: Vec<PathBuf> = files
                    .filter(|file| file.role == Role::Backing)
                    .map(|file| real(&file.path))
                    .collect();
                Some((real(image), below))
            })
            .collect();
        let stood_on: BTreeSet<&PathBuf> = below.values().flatten().collect();
        let mut tops: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
        for (top, below) in below.iter().filter(|(top, _)| !stood_on.contains(top)) {
            for file in below {
                tops.entry(file.clone()).or_default().insert(top.clone());
            }
        }
        Self { below, tops }
    }

    /// Whether it is a layer of one machine alone.
    fn is_layer(&self, file: &Path) -> bool {
        self.tops.get(file).is_some_and(|tops| tops.len() == 1)
    }

    /// The layers of the image `top` that are its own, the base first, without those that somebody else names.
    fn layers(&self, top: &Path, claimed: &BTreeSet<&PathBuf>) -> Vec<PathBuf> {
        let below = self.below.get(top).into_iter().flatten().rev();
        below
            .filter(|file| self.is_layer(file) && !claimed.contains(file))
            .cloned()
            .collect()
    }
}
