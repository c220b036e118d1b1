//! VirtualBox's `.vbox` (`src/VBox/Main/xml/VirtualBox-settings.xsd`): a registry of media, the machine as it is, and its
//! snapshots as machines within.

use std::collections::BTreeMap;

use dormouse_block::{Error, Result};
use roxmltree::Node;

use super::bus::{Attached, Bus, in_order};
use super::xml::{attribute, child, children, parse};
use super::{Described, Kind, MAX_DISKS, MAX_SNAPSHOTS, at_most, begins_with_element, shown};
use crate::{
    DescribedDisk, DescribedSnapshot, DiskPlace, FormatName, MachineDescription, SavedState,
    Timestamp,
};

/// Media that are layers of each other, and snapshots after each other.
const MAX_DEPTH: usize = 256;

/// The kind.
pub(super) struct VirtualBox;

impl Kind for VirtualBox {
    fn name(&self) -> &'static str {
        "virtualbox"
    }

    fn probe(&self, head: &[u8]) -> bool {
        begins_with_element(head, "VirtualBox")
    }

    fn read(&self, file: &Described<'_>) -> Result<MachineDescription> {
        let text = file.text()?;
        let document = parse(&text)?;
        let root = document.root_element();
        let machine = child(root, "Machine").ok_or_else(|| {
            if child(root, "MachineEncrypted").is_some() {
                Error::unsupported("a machine encrypted by VirtualBox")
            } else {
                Error::corrupt("it holds no <Machine>")
            }
        })?;
        let media = media(machine)?;
        let hardware = child(machine, "Hardware");
        let firmware = hardware
            .and_then(|hardware| {
                child(hardware, "Firmware")
                    .or_else(|| child(hardware, "BIOS").and_then(|bios| child(bios, "Firmware")))
            })
            .and_then(|firmware| attribute(firmware, "type"));
        Ok(MachineDescription {
            name: attribute(machine, "name").map_or_else(|| file.stem(), str::to_owned),
            firmware: Some(
                match firmware {
                    Some(kind) if kind.starts_with("EFI") => "efi",
                    _ => "bios",
                }
                .to_owned(),
            ),
            memory: hardware
                .and_then(|hardware| child(hardware, "Memory"))
                .and_then(|memory| attribute(memory, "RAMSize")?.parse::<u64>().ok())
                .and_then(|mib| mib.checked_mul(1 << 20)),
            disks: disks(machine, &media)?,
            snapshots: snapshots(machine, &media)?,
            saved_states: saved(machine).into_iter().collect(),
            ..MachineDescription::default()
        })
    }
}

/// The hard disks that the machine knows, by their UUIDs.
fn media(machine: Node<'_, '_>) -> Result<BTreeMap<String, (DiskPlace, Option<FormatName>)>> {
    let mut media = BTreeMap::new();
    let mut todo: Vec<(Node<'_, '_>, usize)> = child(machine, "MediaRegistry")
        .and_then(|registry| child(registry, "HardDisks"))
        .into_iter()
        .map(|disks| (disks, 0))
        .collect();
    while let Some((above, depth)) = todo.pop() {
        at_most(depth, MAX_DEPTH, "layers of media")?;
        for disk in children(above, "HardDisk") {
            at_most(media.len(), MAX_SNAPSHOTS.saturating_mul(4), "media")?;
            todo.push((disk, depth.saturating_add(1)));
            let (Some(uuid), Some(location)) =
                (attribute(disk, "uuid"), attribute(disk, "location"))
            else {
                continue;
            };
            let encrypted = children(disk, "Property").any(|property| {
                attribute(property, "name").is_some_and(|name| name.starts_with("CRYPT/"))
            });
            let format = attribute(disk, "format").unwrap_or_default();
            let known = FormatName::parse(&format.to_ascii_lowercase());
            let place = match &known {
                _ if encrypted => DiskPlace::Elsewhere("it is encrypted by VirtualBox".to_owned()),
                Err(_) if !format.is_empty() => {
                    DiskPlace::Elsewhere(format!("a disk of format {:?} is no file", shown(format)))
                }
                _ => DiskPlace::File(vec![location.to_owned()]),
            };
            media.insert(uuid.to_ascii_lowercase(), (place, known.ok()));
        }
    }
    Ok(media)
}

/// The disks attached to a machine, or to a snapshot of it.
fn disks(
    machine: Node<'_, '_>,
    media: &BTreeMap<String, (DiskPlace, Option<FormatName>)>,
) -> Result<Vec<DescribedDisk>> {
    // Newer settings keep the controllers with the hardware.
    let controllers = child(machine, "StorageControllers").or_else(|| {
        child(machine, "Hardware").and_then(|hardware| child(hardware, "StorageControllers"))
    });
    let mut attached = Vec::new();
    let controllers = controllers
        .into_iter()
        .flat_map(|all| children(all, "StorageController"));
    for (number, controller) in controllers.enumerate() {
        let bus = match attribute(controller, "type").unwrap_or_default() {
            "PIIX3" | "PIIX4" | "ICH6" => Bus::Ide,
            "AHCI" | "IntelAhci" => Bus::Sata,
            "LsiLogic" | "BusLogic" | "LsiLogicSas" => Bus::Scsi,
            "VirtioSCSI" => Bus::Scsi,
            "NVMe" => Bus::Nvme,
            "USB" => Bus::Usb,
            _ => Bus::Other,
        };
        for device in children(controller, "AttachedDevice") {
            if attribute(device, "type") != Some("HardDisk") {
                continue;
            }
            at_most(attached.len().saturating_add(1), MAX_DISKS, "disks")?;
            let number_of = |key: &str| -> u32 {
                attribute(device, key)
                    .and_then(|value| value.parse().ok())
                    .unwrap_or(0)
            };
            let uuid = child(device, "Image")
                .and_then(|image| attribute(image, "uuid"))
                .unwrap_or_default();
            let (place, format) = media
                .get(&uuid.to_ascii_lowercase())
                .cloned()
                .unwrap_or_else(|| {
                    let why = format!("medium {} is not in its registry", shown(uuid));
                    (DiskPlace::Elsewhere(why), None)
                });
            let (channel, unit) = match bus {
                Bus::Ide => (number_of("port"), number_of("device")),
                _ => (u32::try_from(number).unwrap_or(u32::MAX), number_of("port")),
            };
            attached.push(Attached {
                bus,
                controller: channel,
                unit,
                place,
                format,
                snapshot: None,
            });
        }
    }
    Ok(in_order(attached))
}

fn saved(machine: Node<'_, '_>) -> Option<SavedState> {
    let file = attribute(machine, "stateFile").filter(|file| !file.is_empty())?;
    Some(SavedState {
        what: format!("the saved state {}", shown(file)),
        names: vec![file.to_owned()],
    })
}

/// The tree of snapshots, each after its parent.
fn snapshots(
    machine: Node<'_, '_>,
    media: &BTreeMap<String, (DiskPlace, Option<FormatName>)>,
) -> Result<Vec<DescribedSnapshot>> {
    let mut found = Vec::new();
    let mut todo: Vec<(Node<'_, '_>, Option<String>, usize)> = children(machine, "Snapshot")
        .map(|snapshot| (snapshot, None, 0))
        .collect();
    while let Some((snapshot, parent, depth)) = todo.pop() {
        at_most(depth, MAX_DEPTH, "snapshots after each other")?;
        at_most(found.len().saturating_add(1), MAX_SNAPSHOTS, "snapshots")?;
        let id = attribute(snapshot, "uuid")
            .ok_or_else(|| Error::corrupt("a snapshot without its UUID"))?;
        let id = shown(id.trim_matches(['{', '}']));
        found.push(DescribedSnapshot {
            id: id.clone(),
            name: shown(attribute(snapshot, "name").unwrap_or(&id)),
            parent,
            created: attribute(snapshot, "timeStamp").and_then(instant),
            disks: disks(snapshot, media)?,
            saved_states: saved(snapshot).into_iter().collect(),
        });
        let below: Vec<_> = children(snapshot, "Snapshots")
            .flat_map(|below| children(below, "Snapshot"))
            .collect();
        // The last in is the first out.
        for child in below.into_iter().rev() {
            todo.push((child, Some(id.clone()), depth.saturating_add(1)));
        }
    }
    Ok(found)
}

/// `2014-05-15T11:49:46Z`.
fn instant(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<u64>);
    let mut next = || date.next()?.ok();
    let (year, month, day) = (next()?, next()?, next()?);
    let mut time = time.splitn(3, ':').map(str::parse::<u64>);
    let mut next = || time.next()?.ok();
    let (hour, minute, second) = (next()?, next()?, next()?);
    let sound = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !sound {
        return None;
    }
    // Days since 1970 of the proleptic Gregorian calendar, counted in years that begin in March.
    let (year, month) = if month > 2 {
        (year, month.checked_sub(3)?)
    } else {
        (year.checked_sub(1)?, month.checked_add(9)?)
    };
    let leaps = (year / 4)
        .checked_sub(year / 100)?
        .checked_add(year / 400)?;
    let of_year = month.checked_mul(153)?.checked_add(2)? / 5;
    let days = year
        .checked_mul(365)?
        .checked_add(leaps)?
        .checked_add(of_year)?
        .checked_add(day)?
        .checked_sub(719_469)?;
    let seconds = days
        .checked_mul(86400)?
        .checked_add(hour.checked_mul(3600)?)?
        .checked_add(minute.checked_mul(60)?)?
        .checked_add(second)?;
    Some(Timestamp {
        seconds,
        nanoseconds: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_seconds_since_1970() {
        // As `date -u -d ... +%s` says.
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2014-05-15T11:49:46Z", 1_400_154_586),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2026-11-30T09:00:00Z", 1_796_029_200),
        ] {
            assert_eq!(instant(text).unwrap().seconds, seconds, "{text}");
        }
        assert_eq!(instant("2014-13-15T11:49:46Z"), None);
        assert_eq!(instant("x"), None);
    }
}
