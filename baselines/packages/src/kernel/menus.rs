//! Boot menus, the one that goes first first: systemd-boot's, GRUB's with or without loader entries, extlinux'.

use dormouse_filesystem::Guest;

use super::{DefaultKernel, Kernels, grub};
use crate::rpm;

/// Where systemd-boot's own file is.
const LOADERS: [&str; 3] = [
    "/boot/loader/loader.conf",
    "/efi/loader/loader.conf",
    "/boot/efi/loader/loader.conf",
];
/// Where entries of the Boot Loader Specification are.
const ENTRIES: [&str; 3] = [
    "/boot/loader/entries",
    "/efi/loader/entries",
    "/boot/efi/loader/entries",
];
/// Where GRUB's folder is.
const GRUBS: [&str; 2] = ["/boot/grub2", "/boot/grub"];
/// Where extlinux' menu is.
const EXTLINUX: [&str; 3] = [
    "/boot/extlinux/extlinux.conf",
    "/boot/extlinux.conf",
    "/boot/syslinux/syslinux.cfg",
];
/// Entries of one menu.
const MAX_ENTRIES: usize = 1000;

/// An entry of the Boot Loader Specification.
struct Entry {
    id: String,
    release: String,
}

pub(super) fn default_kernel(guest: &Guest, kernels: &mut Kernels) -> Option<DefaultKernel> {
    let entries = entries(guest, kernels);
    by_loader(guest, kernels, &entries)
        .or_else(|| by_grub(guest, kernels, &entries))
        .or_else(|| by_extlinux(guest, kernels))
        .or_else(|| {
            let release = kernels.highest()?.clone();
            Some(DefaultKernel {
                release,
                why: "the highest version; no boot menu that is read names another".into(),
            })
        })
}

/// The entries, the newest first, as GRUB and systemd-boot sort them.
fn entries(guest: &Guest, kernels: &mut Kernels) -> Vec<Entry> {
    let mut all = Vec::new();
    for folder in ENTRIES {
        for name in kernels.names(guest, folder).iter().take(MAX_ENTRIES) {
            let Some(id) = name.strip_suffix(".conf") else {
                continue;
            };
            let Some(text) = kernels.text(guest, &format!("{folder}/{name}")) else {
                continue;
            };
            let field = |wanted: &str| {
                text.lines().find_map(|line| {
                    let (key, value) = line.trim().split_once([' ', '\t'])?;
                    (key == wanted).then(|| value.trim().to_owned())
                })
            };
            let image = field("linux").and_then(|image| kernels.release_of_image(&image));
            if let Some(release) = image.or_else(|| field("version")) {
                all.push(Entry {
                    id: id.to_owned(),
                    release,
                });
            }
        }
    }
    all.sort_by(|a, b| rpm::compare_part(&b.id, &a.id));
    all
}

/// loader.conf(5), `default`: a pattern of entries' names.
fn by_loader(guest: &Guest, kernels: &mut Kernels, entries: &[Entry]) -> Option<DefaultKernel> {
    for file in LOADERS {
        let Some(text) = kernels.text(guest, file) else {
            continue;
        };
        let pattern = text.lines().find_map(|line| {
            let (key, value) = line.trim().split_once([' ', '\t'])?;
            (key == "default").then(|| value.trim().to_owned())
        });
        // `@saved` is kept in the firmware, which no disk has.
        let pattern = pattern.filter(|pattern| !pattern.starts_with('@'));
        let named = pattern.as_ref().and_then(|pattern| {
            let pattern = pattern.strip_suffix(".conf").unwrap_or(pattern);
            let is =
                |entry: &&Entry| crate::pacman::matches(pattern.as_bytes(), entry.id.as_bytes());
            entries.iter().find(is)
        });
        let (entry, why) = match named {
            Some(entry) => (entry, format!("{file} names the entry {}", entry.id)),
            None => {
                let entry = entries.first()?;
                (
                    entry,
                    format!(
                        "{file} names none that is there, and {} is the newest",
                        entry.id
                    ),
                )
            }
        };
        return Some(DefaultKernel {
            release: entry.release.clone(),
            why,
        });
    }
    None
}

fn by_grub(guest: &Guest, kernels: &mut Kernels, entries: &[Entry]) -> Option<DefaultKernel> {
    for folder in GRUBS {
        let file = format!("{folder}/grub.cfg");
        let Some(menu) = kernels.text(guest, &file) else {
            continue;
        };
        let environment = kernels
            .text(guest, &format!("{folder}/grubenv"))
            .unwrap_or_default();
        let saved = grub::saved_entry(&environment);
        let loads_entries = menu
            .lines()
            .any(|line| line.split_ascii_whitespace().next() == Some("blscfg"));
        if loads_entries && !entries.is_empty() {
            let named = saved.as_deref().and_then(|saved| {
                let number = saved.parse::<usize>().ok();
                entries
                    .iter()
                    .find(|entry| entry.id == saved)
                    .or_else(|| entries.get(number?))
            });
            let (entry, why) = match named {
                Some(entry) => (
                    entry,
                    format!("{folder}/grubenv names the entry {}", entry.id),
                ),
                None => {
                    let entry = entries.first()?;
                    (
                        entry,
                        format!("{} is the newest of {file}'s loader entries", entry.id),
                    )
                }
            };
            return Some(DefaultKernel {
                release: entry.release.clone(),
                why,
            });
        }
        let (image, wanted) = grub::default_image(&menu, saved.as_deref())?;
        let release = kernels.release_of_image(&image)?;
        let why = format!("{file} starts its entry {wanted:?}");
        return Some(DefaultKernel { release, why });
    }
    None
}

/// syslinux' configuration: `DEFAULT` names a label, whose `LINUX` or `KERNEL` names the image.
fn by_extlinux(guest: &Guest, kernels: &mut Kernels) -> Option<DefaultKernel> {
    for file in EXTLINUX {
        let Some(text) = kernels.text(guest, file) else {
            continue;
        };
        let mut default = None;
        let mut label = String::new();
        let mut images: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            let Some((key, value)) = line.trim().split_once([' ', '\t']) else {
                continue;
            };
            let value = value.trim();
            match key.to_ascii_lowercase().as_str() {
                // The last one counts, as it does for syslinux.
                "default" => default = Some(value.to_owned()),
                "label" => value.clone_into(&mut label),
                "linux" | "kernel" if images.len() < MAX_ENTRIES => {
                    images.push((label.clone(), value.to_owned()));
                }
                _ => {}
            }
        }
        let named = images
            .iter()
            .find(|(label, _)| Some(label) == default.as_ref());
        let (label, image) = named.or(images.first())?;
        let release = kernels.release_of_image(image)?;
        return Some(DefaultKernel {
            release,
            why: format!("{file} starts its label {label:?}"),
        });
    }
    None
}
