//! VMware's `.vmx`, and the snapshots that the `.vmsd` beside it lists. Neither is documented by VMware; what is read of
//! them is what its products write. A `.nvram` holds firmware variables, and is passed over.

use std::collections::BTreeMap;

use dormouse_block::{Error, Result, Source};

use super::bus::{Attached, Bus, in_order};
use super::{Described, Kind, MAX_DISKS, MAX_SNAPSHOTS, at_most, shown};
use crate::{
    DescribedDisk, DescribedSnapshot, DiskPlace, FormatName, MachineDescription, SavedState,
    Timestamp,
};

/// Lines of one file.
const MAX_LINES: usize = 200_000;
/// A snapshot's device state without memory takes some 30 KiB for a machine that was off, and a few MiB for a big one that
/// ran. Older products kept memory in the same file.
const MEMORY_INSIDE: u64 = 16 << 20;

/// The kind.
pub(super) struct Vmware;

/// Keys in lower case, with their values as written.
type Keys = BTreeMap<String, String>;

impl Kind for Vmware {
    fn name(&self) -> &'static str {
        "vmware"
    }

    fn probe(&self, head: &[u8]) -> bool {
        let lines = head.split(|byte| *byte == b'\n');
        lines.filter(|line| line.contains(&b'=')).any(|line| {
            let line = String::from_utf8_lossy(line);
            line.split_once('=').is_some_and(|(key, value)| {
                let key = key.trim().to_ascii_lowercase();
                value.trim_start().starts_with('"')
                    && matches!(key.as_str(), "config.version" | "virtualhw.version")
            })
        })
    }

    fn read(&self, file: &Described<'_>) -> Result<MachineDescription> {
        let keys = parse(&file.text()?)?;
        let value = |key: &str| keys.get(key).map(String::as_str);
        if value("encryption.keysafe").is_some() || value("encryption.data").is_some() {
            return Err(Error::unsupported("a machine encrypted by VMware"));
        }
        let mut machine = MachineDescription {
            name: value("displayname").map_or_else(|| file.stem(), str::to_owned),
            firmware: Some(match value("firmware") {
                Some(firmware) if firmware.eq_ignore_ascii_case("efi") => "efi".to_owned(),
                _ => "bios".to_owned(),
            }),
            memory: value("memsize")
                .and_then(|size| size.trim().parse::<u64>().ok())
                .and_then(|mib| mib.checked_mul(1 << 20)),
            disks: disks(&keys)?,
            ..MachineDescription::default()
        };
        suspended(file, &keys, &mut machine)?;
        if let Some(list) = file.companion("vmsd")? {
            let listed = parse(&super::text_of(&*list)?)?;
            machine.snapshots = snapshots(file, &listed, &machine.disks)?;
        }
        Ok(machine)
    }
}

/// What is saved of the machine as it is: a state that it names, or one that stands beside it.
fn suspended(file: &Described<'_>, keys: &Keys, machine: &mut MachineDescription) -> Result<()> {
    let named = keys
        .get("checkpoint.vmstate")
        .filter(|name| !name.is_empty())
        .cloned();
    let beside = format!("{}.vmss", file.stem());
    let name = match named {
        Some(name) => name,
        None if file.beside(beside.as_bytes())?.is_some() => beside,
        None => return Ok(()),
    };
    machine.saved_states.push(SavedState {
        what: format!("the suspended state {}", shown(&name)),
        names: vec![name],
    });
    Ok(())
}

/// `key = "value"` lines; the last of a key counts, as VMware takes it.
fn parse(text: &str) -> Result<Keys> {
    let mut keys = Keys::new();
    for (number, line) in text.lines().enumerate() {
        at_most(number, MAX_LINES, "lines")?;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let value = value.trim();
        let value = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
            .unwrap_or(value);
        keys.insert(key.trim().to_ascii_lowercase(), unescape(value));
    }
    Ok(keys)
}

/// `|22` is a quotation mark: a bar and two hexadecimal digits stand for what a value may not hold.
fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('|') {
        out.push_str(before);
        match after
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
        {
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                out.push('|');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// A disk's bus, controller and unit, from `scsi0:1`.
fn node(name: &str) -> Option<(Bus, u32, u32)> {
    let digits = name.find(|c: char| c.is_ascii_digit())?;
    let (bus, numbers) = name.split_at_checked(digits)?;
    let (controller, unit) = numbers.split_once(':')?;
    let bus = match Bus::named(bus) {
        Bus::Other => return None,
        bus => bus,
    };
    Some((bus, controller.parse().ok()?, unit.parse().ok()?))
}

fn is_true(value: Option<&String>) -> bool {
    value.is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
}

fn disks(keys: &Keys) -> Result<Vec<DescribedDisk>> {
    let mut attached = Vec::new();
    for (key, name) in keys {
        let Some(slot) = key.strip_suffix(".filename") else {
            continue;
        };
        let Some((bus, controller, unit)) = node(slot) else {
            continue;
        };
        let of = |what: &str| keys.get(&format!("{slot}.{what}"));
        let kind = of("devicetype").map(|kind| kind.to_ascii_lowercase());
        let kind = kind.unwrap_or_default();
        let media = kind.contains("cdrom") || kind.contains("floppy") || kind == "atapi-cdrom";
        if media || !is_true(of("present")) || name.eq_ignore_ascii_case("auto detect") {
            continue;
        }
        // An image in a drive without a type is told by its name.
        let lower = name.to_ascii_lowercase();
        if lower.ends_with(".iso") || lower.ends_with(".flp") {
            continue;
        }
        at_most(attached.len().saturating_add(1), MAX_DISKS, "disks")?;
        attached.push(Attached {
            bus,
            controller,
            unit,
            place: DiskPlace::File(vec![name.clone()]),
            format: Some(FormatName::VMDK),
            snapshot: None,
        });
    }
    Ok(in_order(attached))
}

fn snapshots(
    file: &Described<'_>,
    keys: &Keys,
    active: &[DescribedDisk],
) -> Result<Vec<DescribedSnapshot>> {
    let count: usize = match keys.get("snapshot.numsnapshots") {
        Some(count) => count
            .trim()
            .parse()
            .map_err(|_| Error::corrupt("its list of snapshots does not say how many there are"))?,
        None => 0,
    };
    at_most(count, MAX_SNAPSHOTS, "snapshots")?;
    let mut snapshots = Vec::new();
    for number in 0..count {
        let of = |what: &str| keys.get(&format!("snapshot{number}.{what}"));
        let id = of("uid").ok_or_else(|| {
            Error::corrupt(format!("its list of snapshots leaves out number {number}"))
        })?;
        let disks = snapshot_disks(number, keys, active)?;
        snapshots.push(DescribedSnapshot {
            id: shown(id),
            name: shown(of("displayname").unwrap_or(id)),
            parent: of("parent").map(|parent| shown(parent)),
            created: created(of("createtimehigh"), of("createtimelow")),
            disks,
            saved_states: saved(file, of("filename"), of("type"))?,
        });
    }
    Ok(snapshots)
}

fn snapshot_disks(
    number: usize,
    keys: &Keys,
    active: &[DescribedDisk],
) -> Result<Vec<DescribedDisk>> {
    let of = |what: &str| keys.get(&format!("snapshot{number}.{what}"));
    let count: usize = of("numdisks")
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0);
    at_most(count, MAX_DISKS, "disks of a snapshot")?;
    let mut attached = Vec::new();
    for disk in 0..count {
        let name = of(&format!("disk{disk}.filename")).ok_or_else(|| {
            Error::corrupt(format!(
                "snapshot number {number} does not name disk {disk}"
            ))
        })?;
        let slot =
            of(&format!("disk{disk}.node")).and_then(|slot| node(&slot.to_ascii_lowercase()));
        let (bus, controller, unit) =
            slot.unwrap_or((Bus::Other, 0, u32::try_from(disk).unwrap_or(u32::MAX)));
        attached.push(Attached {
            bus,
            controller,
            unit,
            place: DiskPlace::File(vec![name.clone()]),
            format: Some(FormatName::VMDK),
            snapshot: None,
        });
    }
    let mut disks = in_order(attached);
    // A snapshot of one disk of several: the kernel's names are those of the whole machine.
    for disk in &mut disks {
        if let Some(same) = active.iter().find(|active| active.slot == disk.slot) {
            disk.devices.clone_from(&same.devices);
        }
    }
    Ok(disks)
}

/// Microseconds since 1970 in two halves, each written as a signed number.
fn created(high: Option<&String>, low: Option<&String>) -> Option<Timestamp> {
    let half = |text: Option<&String>| -> Option<u64> {
        let value: i64 = text?.trim().parse().ok()?;
        u64::try_from(value.rem_euclid(1 << 32)).ok()
    };
    let micros = half(high)?.checked_mul(1 << 32)?.checked_add(half(low)?)?;
    let fraction = micros.checked_rem(1_000_000)?.checked_mul(1000)?;
    Some(Timestamp {
        seconds: micros.checked_div(1_000_000)?,
        nanoseconds: u32::try_from(fraction).ok()?,
    })
}

/// What was saved with a snapshot: memory is in a `.vmem` beside its `.vmsn`, or within that. A list that calls the
/// machine's state anything but off is believed, whatever files are left.
fn saved(
    file: &Described<'_>,
    name: Option<&String>,
    kind: Option<&String>,
) -> Result<Vec<SavedState>> {
    let Some(name) = name else {
        return Ok(Vec::new());
    };
    let memory = name.rsplit_once('.').map_or_else(
        || format!("{name}.vmem"),
        |(stem, _)| format!("{stem}.vmem"),
    );
    let running = kind.is_some_and(|kind| !matches!(kind.trim(), "" | "0"));
    let one = |names: Vec<String>| {
        vec![SavedState {
            what: format!("the memory saved with {}", shown(name)),
            names,
        }]
    };
    if in_folder(&memory) && file.beside(memory.as_bytes())?.is_some() {
        return Ok(one(vec![memory]));
    }
    if running {
        return Ok(one(vec![name.clone()]));
    }
    if in_folder(name)
        && let Some(state) = file.beside(name.as_bytes())?
        && state.len() > MEMORY_INSIDE
    {
        return Ok(one(vec![name.clone()]));
    }
    Ok(Vec::new())
}

fn in_folder(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\\', '\0', ':'])
}
