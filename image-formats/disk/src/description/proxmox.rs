//! Proxmox VE's `qemu-server/VMID.conf` (<https://pve.proxmox.com/wiki/Manual:_qm.conf>): the machine as it is, and a
//! section for each of its snapshots.
//!
//! A volume is `storage:name`. Which folder a storage is stands in a file of the host that made it, so the name is looked
//! for where such storages keep images: `images/VMID/NAME` below the folders that may be read, and beside the description.

use std::collections::BTreeMap;

use dormouse_block::{Error, Result};

use super::bus::{Attached, Bus, in_order};
use super::{Described, Kind, MAX_DISKS, MAX_SNAPSHOTS, at_most, shown};
use crate::{
    DescribedDisk, DescribedSnapshot, DiskPlace, FormatName, MachineDescription, SavedState,
    Timestamp,
};

/// Lines of one file; a description of the machine by its owner has many.
const MAX_LINES: usize = 100_000;
/// Keys that only such a file has, one of which is there beside a disk.
const TELLING: &[&str] = &[
    "ostype", "scsihw", "smbios1", "vmgenid", "boot", "memory", "cores",
];

/// The kind.
pub(super) struct Proxmox;

type Section<'a> = BTreeMap<&'a str, &'a str>;

impl Kind for Proxmox {
    fn name(&self) -> &'static str {
        "proxmox"
    }

    fn probe(&self, head: &[u8]) -> bool {
        let mut disk = false;
        let mut telling = 0_u32;
        // The last line may be cut.
        for line in head.split(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            let line = line.strip_suffix('\r').unwrap_or(&line);
            if line.starts_with('#') {
                continue;
            }
            if line.starts_with('[') {
                break;
            }
            let Some((key, value)) = line.split_once(": ") else {
                if line.trim().is_empty() {
                    continue;
                }
                break;
            };
            disk |= slot(key).is_some() && (value.contains(':') || value.starts_with('/'));
            telling = telling.saturating_add(u32::from(TELLING.contains(&key)));
        }
        disk && telling >= 2
    }

    fn read(&self, file: &Described<'_>) -> Result<MachineDescription> {
        let text = file.text()?;
        let (main, sections) = parse(&text)?;
        let mut machine = MachineDescription {
            name: main
                .get("name")
                .map_or_else(|| file.stem(), |name| (*name).to_owned()),
            firmware: Some(
                match main.get("bios") {
                    Some(&"ovmf") => "efi",
                    _ => "bios",
                }
                .to_owned(),
            ),
            memory: main.get("memory").and_then(|memory| {
                let memory = memory.split(',').next()?;
                let memory = memory.strip_prefix("current=").unwrap_or(memory);
                memory.trim().parse::<u64>().ok()?.checked_mul(1 << 20)
            }),
            disks: disks(&main, None)?,
            saved_states: saved(&main).into_iter().collect(),
            ..MachineDescription::default()
        };
        if machine.saved_states.is_empty()
            && main
                .get("lock")
                .is_some_and(|lock| lock.starts_with("suspend"))
        {
            machine.saved_states.push(SavedState {
                what: "a lock that says it is suspended".to_owned(),
                names: Vec::new(),
            });
        }
        for (name, section) in &sections {
            let created = section
                .get("snaptime")
                .and_then(|time| time.trim().parse().ok());
            machine.snapshots.push(DescribedSnapshot {
                id: shown(name),
                name: shown(name),
                parent: section.get("parent").map(|parent| shown(parent)),
                created: created.map(|seconds| Timestamp {
                    seconds,
                    nanoseconds: 0,
                }),
                disks: disks(section, Some(name))?,
                saved_states: saved(section).into_iter().collect(),
            });
        }
        // In the order in which they were taken, which puts each after its parent.
        machine.snapshots.sort_by_key(|snapshot| snapshot.created);
        Ok(machine)
    }
}

/// The keys of the machine as it is, and of each snapshot. Changes that wait for a restart, and sections of other uses,
/// are passed over.
fn parse(text: &str) -> Result<(Section<'_>, Vec<(&str, Section<'_>)>)> {
    let mut main = Section::new();
    let mut sections: Vec<(&str, Section<'_>)> = Vec::new();
    let mut passed_over = false;
    for (number, line) in text.lines().enumerate() {
        at_most(number, MAX_LINES, "lines")?;
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            passed_over = name.eq_ignore_ascii_case("pending") || name.starts_with("special:");
            if !passed_over {
                at_most(sections.len().saturating_add(1), MAX_SNAPSHOTS, "snapshots")?;
                if sections.iter().any(|(other, _)| *other == name) {
                    return Err(Error::corrupt(format!(
                        "two snapshots are called {:?}",
                        shown(name)
                    )));
                }
                sections.push((name, Section::new()));
            }
            continue;
        }
        if passed_over {
            continue;
        }
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let section = sections
            .last_mut()
            .map_or(&mut main, |(_, section)| section);
        section.insert(key.trim(), value.trim());
    }
    Ok((main, sections))
}

/// The bus and unit of a key such as `scsi0`.
fn slot(key: &str) -> Option<(Bus, u32)> {
    let digits = key.find(|c: char| c.is_ascii_digit())?;
    let (bus, unit) = key.split_at_checked(digits)?;
    let bus = match bus {
        "virtio" | "scsi" | "sata" | "ide" => Bus::named(bus),
        _ => return None,
    };
    Some((bus, unit.parse().ok()?))
}

fn disks(section: &Section<'_>, snapshot: Option<&str>) -> Result<Vec<DescribedDisk>> {
    let mut attached = Vec::new();
    for (key, value) in section {
        let Some((bus, unit)) = slot(key) else {
            continue;
        };
        let mut options = value.split(',');
        let volume = options.next().unwrap_or_default();
        let volume = volume.strip_prefix("file=").unwrap_or(volume);
        let options: Vec<_> = options.collect();
        // A drive for media, empty or not, and the settings of cloud-init's own.
        if options.contains(&"media=cdrom") || volume == "none" || volume.contains("cloudinit") {
            continue;
        }
        at_most(attached.len().saturating_add(1), MAX_DISKS, "disks")?;
        let names = names(volume);
        let format = options
            .iter()
            .find_map(|option| option.strip_prefix("format="))
            .or_else(|| volume.rsplit_once('.').map(|(_, ending)| ending))
            .and_then(|format| FormatName::parse(format).ok());
        let inside = snapshot.filter(|_| format == Some(FormatName::QCOW2));
        let place = match (snapshot, inside) {
            (Some(_), None) => DiskPlace::Elsewhere(format!(
                "the snapshot of {} is kept by its storage",
                shown(volume)
            )),
            _ => DiskPlace::File(names),
        };
        let (controller, unit) = match bus {
            Bus::Ide => (
                unit.checked_div(2).unwrap_or(0),
                unit.checked_rem(2).unwrap_or(0),
            ),
            _ => (0, unit),
        };
        attached.push(Attached {
            bus,
            controller,
            unit,
            place,
            format,
            snapshot: inside.map(str::to_owned),
        });
    }
    Ok(in_order(attached))
}

/// Where the volume may be: `local:100/vm-100-disk-0.qcow2` is `images/100/vm-100-disk-0.qcow2` of its storage.
fn names(volume: &str) -> Vec<String> {
    if volume.starts_with('/') {
        return vec![volume.to_owned()];
    }
    let name = volume.split_once(':').map_or(volume, |(_, name)| name);
    let mut names: Vec<String> = ["images/", "../images/", "../../images/", ""]
        .iter()
        .map(|folder| format!("{folder}{name}"))
        .collect();
    if let Some((_, last)) = name.rsplit_once('/') {
        names.push(last.to_owned());
    }
    names
}

fn saved(section: &Section<'_>) -> Option<SavedState> {
    let volume = section.get("vmstate")?;
    Some(SavedState {
        what: format!("the saved state {}", shown(volume)),
        names: names(volume),
    })
}
