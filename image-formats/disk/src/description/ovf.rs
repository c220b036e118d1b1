//! The Open Virtualization Format's envelope (DMTF DSP0243 1.x and 2.x; ISO/IEC 17203).

use std::collections::BTreeMap;

use dormouse_block::{Error, Result};
use roxmltree::Node;

use super::bus::{Attached, Bus, in_order};
use super::xml::{attribute, child, children, parse, text_of};
use super::{Described, Kind, MAX_DISKS, at_most, begins_with_element, manifest, shown};
use crate::{DescribedDisk, DiskPlace, FormatName, MachineDescription};

/// Files and items of one envelope.
const MAX_ITEMS: usize = 4096;

/// The kind.
pub(super) struct Ovf;

impl Kind for Ovf {
    fn name(&self) -> &'static str {
        "ovf"
    }

    fn probe(&self, head: &[u8]) -> bool {
        begins_with_element(head, "Envelope")
            && String::from_utf8_lossy(head).contains("schemas.dmtf.org/ovf/envelope")
    }

    fn read(&self, file: &Described<'_>) -> Result<MachineDescription> {
        let text = file.text()?;
        let mut machine = machine(&text, &file.stem(), &|href| {
            DiskPlace::File(vec![href.to_owned()])
        })?;
        let certificate = format!("{}.cert", file.stem());
        if file.beside(certificate.as_bytes())?.is_some() {
            machine.notes.push(not_verified(&certificate));
        }
        match file.companion("mf")? {
            Some(list) => {
                machine.manifest = manifest::parse(&super::text_of(&*list)?, &|name| {
                    Ok(DiskPlace::File(vec![name.to_owned()]))
                })?;
            }
            None => machine.notes.push("it has no manifest".to_owned()),
        }
        Ok(machine)
    }
}

/// What is said of a certificate that is there.
pub(super) fn not_verified(certificate: &str) -> String {
    format!(
        "it is signed by {}, and the signature is not verified",
        shown(certificate)
    )
}

/// The machine that an envelope describes; `place` says where a referenced file is.
pub(super) fn machine(
    text: &str,
    name: &str,
    place: &dyn Fn(&str) -> DiskPlace,
) -> Result<MachineDescription> {
    let document = parse(text)?;
    let envelope = document.root_element();
    if child(envelope, "VirtualSystemCollection").is_some() {
        return Err(Error::unsupported("an envelope of several machines"));
    }
    let mut systems = children(envelope, "VirtualSystem");
    let (Some(system), None) = (systems.next(), systems.next()) else {
        return Err(Error::corrupt("it does not hold one <VirtualSystem>"));
    };
    let media = media(envelope, place)?;
    let mut machine = MachineDescription {
        name: text_of(system, "Name")
            .or_else(|| attribute(system, "id"))
            .unwrap_or(name)
            .to_owned(),
        ..MachineDescription::default()
    };
    let hardware = child(system, "VirtualHardwareSection");
    machine.firmware = hardware.map(|hardware| firmware(hardware).to_owned());
    let items = items(hardware)?;
    machine.memory = items.iter().find_map(Item::memory);
    machine.disks = disks(&items, &media, &mut machine.notes)?;
    Ok(machine)
}

/// VMware says the firmware in a `Config` of its own.
fn firmware(hardware: Node<'_, '_>) -> &'static str {
    let efi = children(hardware, "Config").any(|config| {
        attribute(config, "key") == Some("firmware") && attribute(config, "value") == Some("efi")
    });
    if efi { "efi" } else { "bios" }
}

/// A disk of the disk section.
struct Medium {
    place: Option<DiskPlace>,
    format: Option<FormatName>,
}

fn media(
    envelope: Node<'_, '_>,
    place: &dyn Fn(&str) -> DiskPlace,
) -> Result<BTreeMap<String, Medium>> {
    let mut files = BTreeMap::new();
    let references = child(envelope, "References");
    for file in references.into_iter().flat_map(|all| children(all, "File")) {
        at_most(files.len().saturating_add(1), MAX_ITEMS, "files")?;
        let (Some(id), Some(href)) = (attribute(file, "id"), attribute(file, "href")) else {
            return Err(Error::corrupt("a <File> without its id or href"));
        };
        let compressed = attribute(file, "compression").filter(|kind| *kind != "identity");
        let place = match (compressed, attribute(file, "chunkSize")) {
            (Some(kind), _) => DiskPlace::Elsewhere(format!("it is packed by {}", shown(kind))),
            (None, Some(_)) => DiskPlace::Elsewhere("it is cut into chunks".to_owned()),
            (None, None) if href.contains("://") => {
                DiskPlace::Elsewhere("it is on the network, and nothing is fetched".to_owned())
            }
            (None, None) => place(href),
        };
        files.insert(id, place);
    }
    let mut media = BTreeMap::new();
    let section = child(envelope, "DiskSection");
    for disk in section.into_iter().flat_map(|all| children(all, "Disk")) {
        at_most(media.len().saturating_add(1), MAX_ITEMS, "disks")?;
        let id = attribute(disk, "diskId")
            .ok_or_else(|| Error::corrupt("a <Disk> without its diskId"))?;
        let place = match attribute(disk, "fileRef") {
            // A new disk, of nothing.
            None => None,
            Some(_) if attribute(disk, "parentRef").is_some() => Some(DiskPlace::Elsewhere(
                "it is a layer of another disk of the envelope".to_owned(),
            )),
            Some(reference) => Some(files.get(reference).cloned().unwrap_or_else(|| {
                DiskPlace::Elsewhere(format!("file {:?} is not referenced", shown(reference)))
            })),
        };
        let format = attribute(disk, "format").and_then(|format| {
            let format = format.to_ascii_lowercase();
            // The specification leaves formats to their owners; these are what products write.
            [("vmdk", FormatName::VMDK), ("vhdx", FormatName::VHDX)]
                .into_iter()
                .find(|(word, _)| format.contains(word))
                .map(|(_, name)| name)
        });
        media.insert(id.to_owned(), Medium { place, format });
    }
    Ok(media)
}

/// An item of the hardware: CIM's `ResourceAllocationSettingData`.
struct Item {
    id: String,
    resource: u32,
    parent: Option<String>,
    address: u32,
    on_parent: u32,
    host: Option<String>,
    quantity: Option<u64>,
    units: String,
}

/// CIM's resource types that matter here.
const MEMORY: u32 = 4;
const IDE: u32 = 5;
const SCSI: u32 = 6;
const DISK: u32 = 17;
const OTHER_STORAGE: u32 = 20;

impl Item {
    fn memory(&self) -> Option<u64> {
        if self.resource != MEMORY {
            return None;
        }
        let unit = match self.units.as_str() {
            "byte" | "bytes" => 1,
            "KiloBytes" | "byte * 2^10" | "KB" => 1 << 10,
            "GigaBytes" | "byte * 2^30" | "GB" => 1 << 30,
            _ => 1 << 20,
        };
        self.quantity?.checked_mul(unit)
    }
}

fn items(hardware: Option<Node<'_, '_>>) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let nodes = hardware
        .into_iter()
        .flat_map(|hardware| hardware.children());
    for node in nodes.filter(|node| matches!(node.tag_name().name(), "Item" | "StorageItem")) {
        at_most(items.len().saturating_add(1), MAX_ITEMS, "items")?;
        let number = |name: &str| text_of(node, name).and_then(|text| text.parse().ok());
        items.push(Item {
            id: text_of(node, "InstanceID").unwrap_or_default().to_owned(),
            resource: number("ResourceType").unwrap_or(0),
            parent: text_of(node, "Parent").map(str::to_owned),
            address: number("Address").unwrap_or(0),
            on_parent: number("AddressOnParent").unwrap_or(0),
            host: text_of(node, "HostResource").map(str::to_owned),
            quantity: text_of(node, "VirtualQuantity").and_then(|text| text.parse().ok()),
            units: text_of(node, "AllocationUnits")
                .unwrap_or_default()
                .to_owned(),
        });
    }
    Ok(items)
}

fn disks(
    items: &[Item],
    media: &BTreeMap<String, Medium>,
    notes: &mut Vec<String>,
) -> Result<Vec<DescribedDisk>> {
    let mut attached = Vec::new();
    for item in items.iter().filter(|item| item.resource == DISK) {
        at_most(attached.len().saturating_add(1), MAX_DISKS, "disks")?;
        let host = item.host.as_deref().unwrap_or_default();
        let id = host.rsplit('/').next().unwrap_or_default();
        let controller = item
            .parent
            .as_ref()
            .and_then(|parent| items.iter().find(|other| other.id == *parent));
        let bus = match controller.map(|controller| controller.resource) {
            Some(IDE) => Bus::Ide,
            Some(SCSI) => Bus::Scsi,
            Some(OTHER_STORAGE) => Bus::Sata,
            _ => Bus::Other,
        };
        let (place, format) = match media.get(id) {
            Some(Medium {
                place: Some(place),
                format,
            }) => (place.clone(), *format),
            Some(Medium { place: None, .. }) => {
                notes.push(format!(
                    "disk {:?} is made empty when it is deployed",
                    shown(id)
                ));
                continue;
            }
            None => {
                let why = format!("disk {:?} is not in its disk section", shown(host));
                (DiskPlace::Elsewhere(why), None)
            }
        };
        attached.push(Attached {
            bus,
            controller: controller.map_or(0, |controller| controller.address),
            unit: item.on_parent,
            place,
            format,
            snapshot: None,
        });
    }
    Ok(in_order(attached))
}
