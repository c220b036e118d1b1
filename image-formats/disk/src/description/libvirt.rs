//! libvirt's domain XML (<https://libvirt.org/formatdomain.html>), as `virsh dumpxml` and `/etc/libvirt/qemu` have it.

use dormouse_block::{Error, Result};
use roxmltree::Node;

use super::bus::{Attached, Bus, in_order, place_of};
use super::xml::{attribute, child, children, parse, text_of};
use super::{Described, Kind, MAX_DISKS, at_most, begins_with_element};
use crate::{DiskPlace, FormatName, MachineDescription, SavedState};

/// The kind.
pub(super) struct Libvirt;

impl Kind for Libvirt {
    fn name(&self) -> &'static str {
        "libvirt"
    }

    fn probe(&self, head: &[u8]) -> bool {
        begins_with_element(head, "domain") || begins_with_element(head, "domstatus")
    }

    fn read(&self, file: &Described<'_>) -> Result<MachineDescription> {
        let mut machine = domain(&file.text()?)?;
        // Where `virsh managedsave` puts it, as seen from beside the image, and from `/etc/libvirt/qemu`.
        for name in [
            format!("{}.save", machine.name),
            format!("save/{}.save", machine.name),
        ] {
            if machine.name.contains('/') {
                break;
            }
            if let Some(found) = file.beside(name.as_bytes())?
                && super::saved::is_saved(&*found)?
            {
                machine.saved_states.push(SavedState {
                    what: "a managed save of libvirt".to_owned(),
                    names: vec![name],
                });
            }
        }
        Ok(machine)
    }
}

/// The machine that a domain's XML describes.
pub(super) fn domain(text: &str) -> Result<MachineDescription> {
    let document = parse(text)?;
    let root = document.root_element();
    // The state of a running domain holds its XML.
    let domain = match root.tag_name().name() {
        "domain" => root,
        _ => child(root, "domain").ok_or_else(|| Error::corrupt("it holds no <domain>"))?,
    };
    let mut machine = MachineDescription {
        name: text_of(domain, "name")
            .or_else(|| text_of(domain, "uuid"))
            .unwrap_or_default()
            .to_owned(),
        firmware: Some(firmware(domain).to_owned()),
        memory: child(domain, "memory").and_then(memory),
        ..MachineDescription::default()
    };
    let mut attached = Vec::new();
    for disk in child(domain, "devices")
        .into_iter()
        .flat_map(|devices| children(devices, "disk"))
    {
        if matches!(attribute(disk, "device"), Some("cdrom" | "floppy")) {
            continue;
        }
        at_most(attached.len().saturating_add(1), MAX_DISKS, "disks")?;
        attached.push(attach(disk, attached.len()));
    }
    machine.disks = in_order(attached);
    Ok(machine)
}

fn firmware(domain: Node<'_, '_>) -> &'static str {
    let Some(os) = child(domain, "os") else {
        return "bios";
    };
    let efi = attribute(os, "firmware") == Some("efi")
        || child(os, "loader").is_some_and(|loader| {
            attribute(loader, "type") == Some("pflash")
                || loader.text().is_some_and(|path| path.contains("OVMF"))
        });
    if efi { "efi" } else { "bios" }
}

/// Bytes; the unit is KiB unless said.
fn memory(node: Node<'_, '_>) -> Option<u64> {
    let number: u64 = node.text()?.trim().parse().ok()?;
    let unit = match attribute(node, "unit").unwrap_or("KiB") {
        "b" | "bytes" => 1,
        "KB" => 1000,
        "k" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(unit)
}

fn attach(disk: Node<'_, '_>, number: usize) -> Attached {
    let target = child(disk, "target");
    let device = target.and_then(|target| attribute(target, "dev"));
    let device = device.unwrap_or_default();
    let stem = ["xvd", "vd", "sd", "hd", "ubd", "fd"]
        .into_iter()
        .find(|stem| device.starts_with(stem));
    let bus = match target.and_then(|target| attribute(target, "bus")) {
        Some(bus) => Bus::named(bus),
        // Told from the name, as libvirt itself does.
        None => match stem {
            Some("vd") => Bus::Virtio,
            Some("hd") => Bus::Ide,
            Some("sd") => Bus::Scsi,
            Some("xvd") => Bus::Xen,
            _ => Bus::Other,
        },
    };
    let unit = stem
        .and_then(|stem| place_of(device.strip_prefix(stem)?))
        .or_else(|| u32::try_from(number).ok())
        .unwrap_or(u32::MAX);
    let (controller, unit) = match bus {
        Bus::Ide => (
            unit.checked_div(2).unwrap_or(0),
            unit.checked_rem(2).unwrap_or(0),
        ),
        _ => (0, unit),
    };
    let source = child(disk, "source");
    let named = |key: &str| source.and_then(|source| attribute(source, key));
    let format = child(disk, "driver").and_then(|driver| attribute(driver, "type"));
    let mut place = match attribute(disk, "type").unwrap_or("file") {
        "file" | "block" => match named("file").or_else(|| named("dev")) {
            Some(path) => DiskPlace::File(vec![path.to_owned()]),
            None => DiskPlace::Elsewhere("it names no file".to_owned()),
        },
        // A file of a storage pool: its folder is known to libvirt alone, its name is enough beside the description.
        "volume" => match named("volume") {
            Some(volume) => DiskPlace::File(vec![volume.to_owned()]),
            None => DiskPlace::Elsewhere("it names no volume of its storage pool".to_owned()),
        },
        "network" => DiskPlace::Elsewhere(format!(
            "it is {} on the network, and nothing is fetched",
            super::shown(named("protocol").unwrap_or("a disk"))
        )),
        other => DiskPlace::Elsewhere(format!(
            "a disk of type {:?} is no file",
            super::shown(other)
        )),
    };
    let format = match format.map(FormatName::parse) {
        None => None,
        Some(Ok(format)) => Some(format),
        Some(Err(error)) => {
            place = DiskPlace::Elsewhere(error.to_string());
            None
        }
    };
    Attached {
        bus,
        controller,
        unit,
        place,
        format,
        snapshot: None,
    }
}
