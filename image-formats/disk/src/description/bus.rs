//! Buses: the order in which a guest meets its disks, and what a Linux kernel calls them.

use crate::{DescribedDisk, DiskPlace, FormatName};

/// What a disk hangs on. The order is that of the machine's disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bus {
    Virtio,
    Ide,
    Scsi,
    Sata,
    Nvme,
    Xen,
    Usb,
    Other,
}

impl Bus {
    /// The bus that a product calls `name`, in any case.
    pub(super) fn named(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "virtio" => Self::Virtio,
            "ide" => Self::Ide,
            "scsi" | "sas" => Self::Scsi,
            "sata" => Self::Sata,
            "nvme" => Self::Nvme,
            "xen" => Self::Xen,
            "usb" => Self::Usb,
            _ => Self::Other,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::Ide => "ide",
            Self::Scsi => "scsi",
            Self::Sata => "sata",
            Self::Nvme => "nvme",
            Self::Xen => "xen",
            Self::Usb => "usb",
            Self::Other => "disk",
        }
    }

    /// Whether Linux names its disks among those of other buses, in the order in which its drivers come up.
    fn is_shared(self) -> bool {
        matches!(self, Self::Ide | Self::Scsi | Self::Sata | Self::Usb)
    }
}

/// A disk and where it hangs.
pub(super) struct Attached {
    pub(super) bus: Bus,
    pub(super) controller: u32,
    pub(super) unit: u32,
    pub(super) place: DiskPlace,
    pub(super) format: Option<FormatName>,
    pub(super) snapshot: Option<String>,
}

/// The disks in the order in which the guest meets them, with the names that leave no doubt.
pub(super) fn in_order(mut attached: Vec<Attached>) -> Vec<DescribedDisk> {
    attached.sort_by_key(|disk| (disk.bus, disk.controller, disk.unit));
    let mut shared: Vec<Bus> = attached
        .iter()
        .map(|disk| disk.bus)
        .filter(|bus| bus.is_shared())
        .collect();
    shared.dedup();
    let one_driver = shared.len() <= 1;
    let mut met: std::collections::BTreeMap<Bus, usize> = std::collections::BTreeMap::new();
    attached
        .into_iter()
        .map(|disk| {
            let count = met.entry(disk.bus).or_default();
            let number = *count;
            *count = count.saturating_add(1);
            let letters = letters(number);
            let devices = match disk.bus {
                Bus::Virtio => vec![format!("vd{letters}")],
                Bus::Xen => vec![format!("xvd{letters}")],
                Bus::Nvme => vec![format!("nvme{number}n1")],
                // Kernels before 2.6.19 or so name a place, not an order.
                Bus::Ide if one_driver => {
                    let place = disk.controller.saturating_mul(2).saturating_add(disk.unit);
                    let place = usize::try_from(place).unwrap_or(usize::MAX);
                    vec![
                        format!("sd{letters}"),
                        format!("hd{}", self::letters(place)),
                    ]
                }
                Bus::Scsi | Bus::Sata | Bus::Usb if one_driver => vec![format!("sd{letters}")],
                Bus::Ide | Bus::Scsi | Bus::Sata | Bus::Usb | Bus::Other => Vec::new(),
            };
            DescribedDisk {
                slot: format!("{}{}:{}", disk.bus.as_str(), disk.controller, disk.unit),
                devices,
                place: disk.place,
                format: disk.format,
                snapshot: disk.snapshot,
            }
        })
        .collect()
}

/// `a` to `z`, `aa` and so on, as `sd_format_disk_name` of the kernel counts.
fn letters(number: usize) -> String {
    let mut name = Vec::new();
    let mut rest = number;
    loop {
        let digit = u8::try_from(rest.checked_rem(26).unwrap_or(0)).unwrap_or(0);
        name.push(char::from(b'a'.saturating_add(digit)));
        match rest.checked_div(26).unwrap_or(0).checked_sub(1) {
            Some(more) => rest = more,
            None => break,
        }
    }
    name.iter().rev().collect()
}

/// The place that letters stand for: `a` is 0, `aa` 26.
pub(super) fn place_of(letters: &str) -> Option<u32> {
    let mut place = 0_u32;
    if letters.is_empty() || letters.len() > 3 {
        return None;
    }
    for letter in letters.bytes() {
        if !letter.is_ascii_lowercase() {
            return None;
        }
        let digit = u32::from(letter.checked_sub(b'a')?).checked_add(1)?;
        place = place.checked_mul(26)?.checked_add(digit)?;
    }
    place.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_count_as_the_kernel_does() {
        for (number, name) in [(0, "a"), (25, "z"), (26, "aa"), (701, "zz"), (702, "aaa")] {
            assert_eq!(letters(number), name);
            assert_eq!(place_of(name), Some(u32::try_from(number).unwrap()));
        }
        assert_eq!(place_of("a1"), None);
        assert_eq!(place_of(""), None);
    }

    #[test]
    fn names_are_told_where_one_driver_gives_them() {
        let disk = |bus, controller, unit| Attached {
            bus,
            controller,
            unit,
            place: DiskPlace::File(Vec::new()),
            format: None,
            snapshot: None,
        };
        let names = |disks: Vec<Attached>| -> Vec<Vec<String>> {
            in_order(disks)
                .into_iter()
                .map(|disk| disk.devices)
                .collect()
        };
        assert_eq!(
            names(vec![
                disk(Bus::Ide, 1, 0),
                disk(Bus::Ide, 0, 0),
                disk(Bus::Virtio, 0, 0)
            ]),
            [vec!["vda"], vec!["sda", "hda"], vec!["sdb", "hdc"]]
        );
        assert_eq!(
            names(vec![disk(Bus::Scsi, 0, 0), disk(Bus::Sata, 0, 0)]),
            [Vec::<String>::new(), Vec::new()]
        );
    }
}
