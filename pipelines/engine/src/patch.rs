//! A plan carried out on a new image.

mod staged;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dormouse_advisories::Repository;
use dormouse_block::{Digest, Error, ErrorKind, GuestPath, Meter, Result};
use dormouse_disk::{ACTIVE, LibraryGate};
use dormouse_filesystem::{Follow, Guest, NodeKind};
use dormouse_overlay::{
    AnyEditor, ColdDisk, Content, Device, DeviceRanges, Difference, EDITORS, Editor, Evidence,
    Existing, Overlay, OverlayOptions, Pack, PayloadReader, Supply, apply, open_editor,
};
use dormouse_remedy::{
    Injection, Materials, Plan, Precedents, UnpackedPackages, Verification, Written,
    verify_inventory, verify_others, verify_planned,
};
use dormouse_volume::{DiskRange, Placement};
use jiff::Timestamp;
use rayon::prelude::*;

use crate::change::guest_time;
use crate::payloads::{PayloadSet, open};
use crate::staging::Staging;
use crate::{MachineOptions, OpenMachine, OpenPoint, OutputFormat};
use staged::inject_staged;

/// Bytes of package files that are wanted in more than one place and kept in memory for that.
const MAX_REPEATED: u64 = 256 << 20;

/// Planned paths that one thread looks at in one go.
const PATHS_AT_ONCE: usize = 128;

/// How a patched image is made.
#[derive(Debug, Clone)]
pub struct PatchOptions {
    /// Where it goes.
    pub target: PathBuf,
    /// What it is.
    pub output: OutputFormat,
    /// Whether it takes the place of what is there.
    pub replace: bool,
    /// The time of every change in the guest.
    pub now: Timestamp,
}

/// A patched image that was written, verified and published.
#[derive(Debug, Clone)]
pub struct Patched {
    /// Its bytes.
    pub bytes: u64,
    /// What was injected.
    pub injection: Injection,
    /// That it is what was planned.
    pub verification: Verification,
}

pub(crate) type SharedEditor = Arc<Mutex<AnyEditor>>;

/// An overlay with an editor for each mount of its guest that can be edited.
pub(crate) struct Bench {
    overlay: Arc<Overlay>,
    /// The disk that it is made over.
    disk: String,
    /// Proofs that the machine's other disks are cold too: nobody starts it meanwhile.
    _others: Vec<ColdDisk>,
    pub(crate) guest: Arc<Guest>,
    pub(crate) editors: Vec<Option<SharedEditor>>,
}

/// Locks an editor; one that panicked half-way is never committed, so its state does not matter.
pub(crate) fn lock(editor: &SharedEditor) -> MutexGuard<'_, AnyEditor> {
    editor.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bench {
    fn open(machine: &OpenMachine, point: &OpenPoint, options: &PatchOptions) -> Result<Self> {
        let guest = Arc::new(point.only_guest()?.clone());
        if machine.is_archive() && !options.output.is_whole() {
            return Err(Error::unsupported(
                "no overlay can lie over a disk inside an archive; another output format makes a whole image",
            ));
        }
        let disk = root_disk(point)?;
        let (cold, others) = prove_all(machine, point, &disk)?;
        let format = machine.format(&point.info.id, &disk)?;
        let overlay = Overlay::create(
            cold,
            &options.target,
            &OverlayOptions {
                output: options.output.output(format, options.now)?,
                existing: if options.replace {
                    Existing::Replace
                } else {
                    Existing::Keep
                },
            },
        )?;
        let overlay = Arc::new(overlay);
        let mut editors = Vec::new();
        for mount in guest.mounts() {
            let kind = mount.tree.info().kind;
            if !EDITORS.iter().any(|editor| editor.kinds.contains(&&*kind)) {
                editors.push(None);
                continue;
            }
            // Changes there are refused by name: one overlay lies over one disk.
            let ranges = match place_on(point, &mount.volume, &disk) {
                Ok(Some(ranges)) => ranges,
                Ok(None) => {
                    editors.push(None);
                    continue;
                }
                Err(_) if !mount.at.is_root() => {
                    editors.push(None);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let device: Arc<dyn Device> = Arc::new(DeviceRanges::new(&overlay, &ranges)?);
            let editor = match open_editor(&kind, device, guest_time(options.now)) {
                Ok(editor) => editor,
                // An EFI partition that was not left clean stands in the way of nothing but changes of itself.
                Err(error) if kind == "vfat" && error.kind() != ErrorKind::Io => None,
                Err(error) => return Err(error),
            };
            editors.push(editor.map(|editor| Arc::new(Mutex::new(editor))));
        }
        Ok(Self {
            overlay,
            disk,
            _others: others,
            guest,
            editors,
        })
    }

    /// Refuses a plan that will not fit before anything of it is written.
    fn check_room(&self, plan: &Plan) -> Result<()> {
        // Packages do not go where no modes are kept, such as an EFI partition.
        let free: u64 = self
            .guest
            .mounts()
            .iter()
            .zip(&self.editors)
            .filter(|(mount, _)| mount.tree.kept_mode(NodeKind::File).is_none())
            .filter_map(|(_, editor)| editor.as_ref())
            .map(|editor| lock(editor).free_bytes())
            .fold(0, u64::saturating_add);
        // What waits for the first boot is there twice then.
        let waiting = if plan.at_first_boot {
            plan.payload_bytes
        } else {
            0
        };
        let needed = plan.expected_bytes.saturating_add(waiting);
        if needed > free {
            return Err(Error::limit(format!(
                "the packages take {needed} bytes and its filesystems have {free} left; enlarge the disk first"
            )));
        }
        Ok(())
    }

    fn publish(
        self,
        machine: &OpenMachine,
        point: &str,
        options: &PatchOptions,
        injection: Injection,
        beside: &mut dyn FnMut(&Path) -> Result<()>,
    ) -> Result<Patched> {
        let Self {
            overlay,
            disk,
            _others,
            guest,
            editors,
        } = self;
        for editor in editors.into_iter().flatten() {
            let editor = Arc::try_unwrap(editor)
                .map_err(|_| Error::corrupt("an editor is still in use"))?
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner);
            editor.finish()?;
        }
        let overlay =
            Arc::try_unwrap(overlay).map_err(|_| Error::corrupt("the overlay is still in use"))?;
        let mut verification = None;
        let spread = |units: &mut [Pack]| units.par_iter_mut().for_each(Pack::run);
        let published = overlay.commit_with(&spread, |partial, bring_to_disk| {
            let checked = std::thread::scope(|scope| {
                // The disk and the processors have no need to wait for each other.
                let there = scope.spawn(bring_to_disk);
                let checked = look_again(
                    (machine, point, &disk),
                    partial,
                    options,
                    &guest,
                    &injection,
                )?;
                beside(partial)?;
                joined(there)?;
                Ok::<_, Error>(checked)
            })?;
            if !checked.passed {
                let first = checked.deviations.first().map(|deviation| {
                    let at = deviation
                        .path
                        .as_ref()
                        .map(|path| format!("{path} "))
                        .unwrap_or_default();
                    format!("{at}{}", deviation.what)
                });
                return Err(Error::corrupt(format!(
                    "the patched image is not what was planned in {} places: {}",
                    checked.deviations.len(),
                    first.unwrap_or_default()
                )));
            }
            verification = Some(checked);
            Ok(())
        })?;
        let verification =
            verification.ok_or_else(|| Error::corrupt("the image was not verified"))?;
        Ok(Patched {
            bytes: published.bytes,
            injection,
            verification,
        })
    }
}

/// What a thread beside this one ended with.
fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Err(Error::corrupt("a thread of the patching broke off")))
}

/// Proves every disk of the machine cold, and gives the proof of the one called `disk` and those of the others.
fn prove_all(
    machine: &OpenMachine,
    opened_point: &OpenPoint,
    disk: &str,
) -> Result<(ColdDisk, Vec<ColdDisk>)> {
    let point = opened_point.info.id.as_str();
    let disks = machine.point_disks(point)?;
    let opened = machine.disks(point)?;
    let mut wanted = None;
    let mut others = Vec::new();
    for one in disks {
        let (image, inside) = one.image()?;
        let other = opened.iter().filter(|(name, _)| *name != one.name);
        let evidence = Evidence {
            saved_states: machine.saved_states(point)?.to_vec(),
            other_disks: other.map(|(_, source)| source.clone()).collect(),
            swap_files: opened_point.swap_files.clone(),
        };
        let cold = ColdDisk::prove(&**image, inside, &evidence)?;
        if one.name == disk {
            wanted = Some(cold);
        } else {
            others.push(cold);
        }
    }
    let wanted = wanted.ok_or_else(|| Error::unsupported(format!("there is no {disk}")))?;
    Ok((wanted, others))
}

/// The disk on which the root of the point's one operating system lies.
///
/// # Errors
/// `Unsupported` when it has none or several, or lies on no one disk.
pub(crate) fn root_disk(point: &OpenPoint) -> Result<String> {
    disk_of_root(point, point.only_guest()?)
}

fn disk_of_root(point: &OpenPoint, guest: &Guest) -> Result<String> {
    let root = guest
        .mounts()
        .first()
        .ok_or_else(|| Error::unsupported("a system without a root"))?;
    let ranges = place(point, &root.volume)?;
    let first = ranges
        .first()
        .ok_or_else(|| Error::unsupported("a root of no bytes"))?;
    match ranges.iter().find(|range| range.disk != first.disk) {
        None => Ok(first.disk.clone()),
        Some(other) => Err(cannot(
            &root.volume,
            &format!("a part of it is on {}", other.disk),
        )),
    }
}

fn cannot(volume: &str, why: &str) -> Error {
    Error::unsupported(format!(
        "the filesystem in {volume} cannot be written in place: {why}"
    ))
}

/// Where on the machine's disks a volume lies.
fn place<'a>(point: &'a OpenPoint, volume: &str) -> Result<&'a [DiskRange]> {
    let (found, _) = point
        .volumes
        .iter()
        .find(|(found, _)| found.info.name == volume)
        .ok_or_else(|| cannot(volume, "it is no volume of the machine"))?;
    match &found.placement {
        Placement::Bound(why) => Err(cannot(volume, why)),
        Placement::Ranges(ranges) => Ok(ranges),
    }
}

/// Where on `disk` a volume lies: ranges, each its first byte and its length; `None` when it lies on another.
fn place_on(point: &OpenPoint, volume: &str, disk: &str) -> Result<Option<Vec<(u64, u64)>>> {
    let ranges = place(point, volume)?;
    if ranges.iter().all(|range| range.disk != disk) {
        return Ok(None);
    }
    ranges
        .iter()
        .map(|range| {
            if range.disk == disk {
                Ok((range.start, range.len))
            } else {
                Err(cannot(
                    volume,
                    &format!("a part of it is on {}", range.disk),
                ))
            }
        })
        .collect::<Result<_>>()
        .map(Some)
}

/// Where packages put files: all of that must be on the disk that is patched.
const PACKAGE_PLACES: [&str; 8] = [
    "/usr", "/var", "/etc", "/opt", "/lib", "/bin", "/sbin", "/boot",
];

/// Why the guest of `point` cannot be changed where it lies, or `None` when it can. What packages do not touch may lie
/// anywhere.
pub(crate) fn cannot_be_written(point: &OpenPoint, guest: &Guest) -> Option<String> {
    let disk = match disk_of_root(point, guest) {
        Ok(disk) => disk,
        Err(error) => return Some(error.to_string()),
    };
    let touched = |at: &GuestPath| {
        at.is_root()
            || PACKAGE_PLACES.iter().any(|place| {
                let place = GuestPath::new(*place);
                place.is_ok_and(|place| at.starts_with(&place))
            })
    };
    guest
        .mounts()
        .iter()
        .filter(|mount| {
            let kind = mount.tree.info().kind;
            touched(&mount.at) && EDITORS.iter().any(|editor| editor.kinds.contains(&&*kind))
        })
        .find_map(|mount| match place_on(point, &mount.volume, &disk) {
            Ok(Some(_)) => None,
            Ok(None) => Some(cannot(
                &mount.volume,
                &format!(
                    "{} is on another disk than the root, and one disk is changed",
                    mount.at
                ),
            )),
            Err(error) => Some(error),
        })
        .map(|error| error.to_string())
}

/// Opens the partial image through the read path and holds it against what was injected.
fn look_again(
    (machine, point, disk): (&OpenMachine, &str, &str),
    partial: &Path,
    options: &PatchOptions,
    base: &Guest,
    injection: &Injection,
) -> Result<Verification> {
    let folder = |path: &Path| match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let folders = machine.files().iter().map(|file| folder(&file.path));
    let gate = LibraryGate::new(folders.chain([folder(&options.target)]))?;
    let written = machine.with_disk(
        point,
        disk,
        partial,
        &MachineOptions {
            format: Some(options.output.format(machine.format(point, disk)?)?),
            gate: Arc::new(gate),
            meter: Meter::unlimited(),
            keys: machine.keys().clone(),
            units: machine.units().clone(),
        },
    )?;
    let opened = written.open_point(ACTIVE)?;
    let after = opened.only_guest()?;
    let reached = ranges_written((machine, point), &written, &opened, disk)?;
    let paths: Vec<_> = injection.paths.iter().collect();
    let (planned, (others, inventory)) = rayon::join(
        || {
            paths
                .par_chunks(PATHS_AT_ONCE)
                .map(|paths| verify_planned(after, injection, paths))
                .collect::<Result<Vec<_>>>()
        },
        || {
            (
                verify_others(base, after, injection, reached.as_ref()),
                verify_inventory(after, injection),
            )
        },
    );
    let rest = others?.and(inventory?);
    Ok(planned?
        .into_iter()
        .rev()
        .fold(rest, |rest, part| part.and(rest)))
}

/// Which bytes of each mount of `opened` the image of `disk` holds itself, all others being those of the machine's own
/// disk at `point`; `None` where it is no layer over that, or where a volume's place is not told.
fn ranges_written(
    (machine, point): (&OpenMachine, &str),
    written: &OpenMachine,
    opened: &OpenPoint,
    disk: &str,
) -> Result<Option<Written>> {
    let of = |machine: &OpenMachine, point: &str| {
        let disks = machine.point_disks(point)?.iter();
        let found = disks.filter(|found| found.name == disk);
        let image = found.map(|found| found.image()).next().transpose()?;
        Ok::<_, Error>(image.map(|(image, point)| (image.clone(), point.to_owned())))
    };
    let (Some((base, inside)), Some((layer, _))) = (of(machine, point)?, of(written, ACTIVE)?)
    else {
        return Ok(None);
    };
    let below = layer.files().get(1).map(|file| &file.identity);
    let base = base.files().first().map(|file| &file.identity);
    if inside != ACTIVE || below.is_none() || below != base {
        return Ok(None);
    }
    let Some(own) = layer.own()? else {
        return Ok(None);
    };
    let mut mounts = Written::new();
    for mount in opened.only_guest()?.mounts() {
        let mut here = Vec::new();
        let Ok(places) = place_on(opened, &mount.volume, disk) else {
            return Ok(None);
        };
        let mut at = 0_u64;
        for (start, len) in places.unwrap_or_default() {
            let end = start.saturating_add(len);
            let first = own.partition_point(|range| range.end <= start);
            let own = own.get(first..).unwrap_or_default().iter();
            for range in own.take_while(|range| range.start < end) {
                let within =
                    |byte: u64| at.saturating_add(byte.clamp(start, end).saturating_sub(start));
                here.push(within(range.start)..within(range.end));
            }
            at = at.saturating_add(len);
        }
        mounts.push(here);
    }
    Ok(Some(mounts))
}

/// Carries a plan out on a new image, with package files that were unpacked before; what was drafted for a machine alike
/// is taken from `precedents`. `beside` may look at the finished image while it is brought to the disk.
///
/// # Errors
/// `Denied` for a point that must not be changed, `Limit` where the packages do not fit, `Unsupported` for what cannot
/// be edited; nothing is left under the target's name then.
pub fn patch(
    machine: &OpenMachine,
    point: &str,
    plan: &Plan,
    options: &PatchOptions,
    set: &PayloadSet,
    precedents: &Precedents,
    beside: &mut dyn FnMut(&Path) -> Result<()>,
) -> Result<Patched> {
    let point = machine.open_point(point)?;
    let bench = Bench::open(machine, &point, options)?;
    bench.check_room(plan)?;
    let unpacked = set.unpacked();
    let materials = materials(&bench, &unpacked, set.reader(), options);
    let injected = precedents.draft(plan, &materials)?;
    {
        let draft = &injected.draft;
        let mut supply = |_: usize, content: &Content| -> Result<Supply<'_>> {
            Ok(Supply::Reader(draft.open(content)?))
        };
        carry_out(&bench, &injected.differences, &mut supply)?;
    }
    let injection = injected.injection;
    bench.publish(machine, &point.info.id, options, injection, beside)
}

fn materials<'a>(
    bench: &Bench,
    packages: &'a dyn UnpackedPackages,
    payloads: PayloadReader,
    options: &PatchOptions,
) -> Materials<'a> {
    Materials {
        guest: bench.guest.clone(),
        packages,
        payloads,
        now: options.now,
        limits: dormouse_scripts::Limits::default(),
    }
}

fn carry_out<'s>(
    bench: &Bench,
    differences: &BTreeMap<GuestPath, Difference>,
    supply: &mut dyn FnMut(usize, &Content) -> Result<Supply<'s>>,
) -> Result<()> {
    let mut guards: Vec<Option<MutexGuard<'_, AnyEditor>>> = bench
        .editors
        .iter()
        .map(|editor| editor.as_ref().map(lock))
        .collect();
    let mut editors: Vec<Option<&mut dyn Editor>> = guards
        .iter_mut()
        .map(|guard| guard.as_mut().map(|guard| &mut ***guard as &mut dyn Editor))
        .collect();
    apply(&bench.guest, differences, &mut editors, supply)?;
    Ok(())
}

/// Carries a plan out on a new image, unpacking each package file once, straight into it.
///
/// # Errors
/// As [`patch`], and package files that are missing or not what their index says.
pub fn patch_once(
    machine: &OpenMachine,
    point: &str,
    plan: &Plan,
    options: &PatchOptions,
    repositories: &[Repository],
    jobs: usize,
) -> Result<Patched> {
    let point = machine.open_point(point)?;
    let bench = Bench::open(machine, &point, options)?;
    bench.check_room(plan)?;
    let packages = verified(plan, repositories)?;
    let staging = Arc::new(if plan.at_first_boot {
        Staging::nothing(packages)
    } else {
        Staging::new(packages)
    });
    let injection = inject_staged(&bench, plan, &staging, options, jobs)?;
    bench.publish(machine, &point.info.id, options, injection, &mut |_| Ok(()))
}

/// The mount on which a file of a package will stand: that of the nearest folder above it that is there.
pub(crate) fn mount_for(guest: &Guest, path: &GuestPath) -> Result<usize> {
    let mut here = path.parent();
    while let Some(folder) = here {
        if let Some(found) = guest.resolve(&folder, Follow::Links)? {
            return Ok(found.mount);
        }
        here = folder.parent();
    }
    Ok(0)
}

/// Opens the package file of each planned package, verified.
///
/// # Errors
/// One that is missing or is not what its index says.
pub(crate) fn verified(
    plan: &Plan,
    repositories: &[Repository],
) -> Result<BTreeMap<Digest, dormouse_advisories::VerifiedPayload>> {
    plan.packages
        .par_iter()
        .map(|package| Ok((package.payload, open(repositories, package)?)))
        .collect()
}
