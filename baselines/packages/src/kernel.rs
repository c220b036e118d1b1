//! The kernels of a guest, and which of them its boot menu starts when nobody chooses.

pub(crate) mod batch;
mod grub;
mod image;
pub(crate) mod memory;
mod menus;
pub(crate) mod start;
pub(crate) mod texts;

use std::collections::BTreeSet;

use dormouse_block::{Error, GuestPath, Result};
use dormouse_filesystem::{Follow, Guest};
use serde::{Deserialize, Serialize};

use crate::rpm;
pub use image::build_on_disk;

/// Kernels counted; a `/boot` with more is not one.
const MAX_KERNELS: usize = 1000;
/// Largest menu or configuration read, in bytes.
const MAX_MENU: u64 = 4 << 20;
/// Where modules are, one folder for each release.
const MODULES: [&str; 2] = ["/lib/modules", "/usr/lib/modules"];
/// What an image of a kernel is called before its release or flavour.
const IMAGES: [&[u8]; 3] = [b"vmlinuz-", b"vmlinux-", b"Image-"];

fn offset(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// The kernel that is started when nobody chooses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DefaultKernel {
    /// Its release, such as `6.1.0-13-amd64`.
    pub release: String,
    /// What says so.
    pub why: String,
}

/// What is known of a guest's kernels.
#[derive(Debug, Default)]
pub(crate) struct Kernels {
    /// Their releases.
    pub(crate) releases: BTreeSet<String>,
    /// Which one is started.
    pub(crate) default: Option<DefaultKernel>,
    pub(crate) errors: Vec<Error>,
    /// Flavours such as `virt` of images that do not name their release, with the release.
    flavours: Vec<(String, String)>,
}

impl Kernels {
    pub(crate) fn read(guest: &Guest) -> Self {
        let mut kernels = Self::default();
        let modules = kernels.modules(guest);
        let images = kernels.images(guest);
        for image in images {
            let release = kernels.release_of_flavour(guest, &image, &modules);
            kernels.releases.insert(release.clone());
            kernels.flavours.push((image, release));
        }
        // An image may lie beside its modules alone.
        for release in &modules {
            for folder in MODULES {
                let image = path(&format!("{folder}/{release}/vmlinuz"));
                let found = image.and_then(|image| guest.metadata(&image, Follow::Links));
                if matches!(found, Ok(Some(_))) {
                    kernels.releases.insert(release.clone());
                }
            }
        }
        kernels.default = menus::default_kernel(guest, &mut kernels);
        kernels
    }

    fn ok<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.errors.push(error)).ok()
    }

    fn names(&mut self, guest: &Guest, folder: &str) -> Vec<String> {
        let entries = path(folder).and_then(|folder| guest.read_dir(&folder));
        let entries = self.ok(entries).flatten().unwrap_or_default();
        let names = entries.iter().take(MAX_KERNELS);
        names
            .map(|entry| String::from_utf8_lossy(&entry.name).into_owned())
            .collect()
    }

    fn text(&mut self, guest: &Guest, file: &str) -> Option<String> {
        let bytes = path(file).and_then(|file| guest.read(&file, MAX_MENU));
        let bytes = self.ok(bytes).flatten()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn modules(&mut self, guest: &Guest) -> BTreeSet<String> {
        MODULES
            .iter()
            .flat_map(|folder| self.names(guest, folder))
            .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
            .collect()
    }

    /// What the images in `/boot` are called, without the word for an image.
    fn images(&mut self, guest: &Guest) -> Vec<String> {
        let names = self.names(guest, "/boot");
        names
            .iter()
            .filter_map(|name| image_of(name))
            .map(str::to_owned)
            .collect()
    }

    /// The release of an image that is called by its flavour, as Alpine's (`virt`) and Arch's (`linux-lts`) are.
    fn release_of_flavour(
        &mut self,
        guest: &Guest,
        image: &str,
        modules: &BTreeSet<String>,
    ) -> String {
        if image.starts_with(|c: char| c.is_ascii_digit()) || modules.contains(image) {
            return image.to_owned();
        }
        let suffix = format!("-{image}");
        let of_base = |kernels: &mut Self, release: &String| {
            MODULES.iter().any(|folder| {
                let base = kernels.text(guest, &format!("{folder}/{release}/pkgbase"));
                base.is_some_and(|base| base.trim() == image)
            })
        };
        for release in modules.iter().rev() {
            if release.ends_with(&suffix) || of_base(self, release) {
                return release.clone();
            }
        }
        image.to_owned()
    }

    /// The release of the image at a path of a boot menu, where one is installed.
    fn release_of_image(&self, image: &str) -> Option<String> {
        let name = image.rsplit('/').next()?;
        if let Some(name) = image_of(name) {
            let known = self.flavours.iter().find(|(image, _)| image == name);
            return Some(known.map_or(name, |(_, release)| release).to_owned());
        }
        // Below a folder that is called by the release, as kernel-install makes them.
        image
            .split('/')
            .rev()
            .find(|part| self.releases.contains(*part))
            .map(str::to_owned)
    }

    /// The highest of the releases, rescue images left out.
    fn highest(&self) -> Option<&String> {
        self.releases
            .iter()
            .filter(|release| !release.contains("rescue"))
            .max_by(|a, b| rpm::compare_part(a, b))
    }
}

fn image_of(name: &str) -> Option<&str> {
    IMAGES.iter().find_map(|image| {
        let image = std::str::from_utf8(image).ok()?;
        name.strip_prefix(image).filter(|rest| !rest.is_empty())
    })
}

fn path(text: &str) -> Result<GuestPath> {
    GuestPath::new(text).map_err(|error| Error::corrupt("bad path").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_filesystem::MemoryTree;

    fn default_of(tree: MemoryTree) -> (String, String) {
        let kernels = Kernels::read(&Guest::of(tree));
        assert!(kernels.errors.is_empty(), "{:?}", kernels.errors);
        let default = kernels.default.unwrap();
        (default.release, default.why)
    }

    fn two_of_debian() -> MemoryTree {
        let mut tree = MemoryTree::new();
        tree.file("/boot/vmlinuz-6.1.0-9-amd64", b"")
            .file("/boot/vmlinuz-6.1.0-13-amd64", b"");
        tree
    }

    const GRUB: &[u8] = b"if [ -s $prefix/grubenv ]; then\n  load_env\nfi\nif [ \"${next_entry}\" ] ; then\n   set default=\"${next_entry}\"\n\
        else\n   set default=\"DEFAULT\"\nfi\n\
        menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1' {\n\tlinux\t/boot/vmlinuz-6.1.0-13-amd64 root=UUID=1 ro\n}\n\
        submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-1' {\n\
        \tmenuentry 'Debian, with Linux 6.1.0-13-amd64' $menuentry_id_option 'a13' {\n\t\tlinux\t/boot/vmlinuz-6.1.0-13-amd64 ro\n\t}\n\
        \tmenuentry 'Debian, with Linux 6.1.0-9-amd64' $menuentry_id_option 'a9' {\n\t\tlinux\t/boot/vmlinuz-6.1.0-9-amd64 ro\n\t}\n}\n";

    #[test]
    fn grub_s_menu_says_which() {
        for (default, environment, release) in [
            ("0", "", "6.1.0-13-amd64"),
            ("1>1", "", "6.1.0-9-amd64"),
            ("gnulinux-advanced-1>a9", "", "6.1.0-9-amd64"),
            ("Debian GNU/Linux", "", "6.1.0-13-amd64"),
            (
                "${saved_entry}",
                "saved_entry=gnulinux-advanced-1>a9\n",
                "6.1.0-9-amd64",
            ),
            ("${saved_entry}", "", "6.1.0-13-amd64"),
        ] {
            let mut tree = two_of_debian();
            let menu = String::from_utf8_lossy(GRUB).replace("DEFAULT", default);
            tree.file("/boot/grub/grub.cfg", menu.as_bytes());
            if !environment.is_empty() {
                let text = format!("# GRUB Environment Block\n{environment}########");
                tree.file("/boot/grub/grubenv", text.as_bytes());
            }
            let (is, why) = default_of(tree);
            assert_eq!(is, release, "{default} {environment}");
            assert!(why.contains("grub.cfg"), "{why}");
        }
    }

    #[test]
    fn loader_entries_say_which() {
        let entry = |tree: &mut MemoryTree, id: &str, release: &str| {
            let text = format!("title Fedora\nversion {release}\nlinux /vmlinuz-{release}\n");
            tree.file(
                &format!("/boot/loader/entries/{id}-{release}.conf"),
                text.as_bytes(),
            )
            .file(&format!("/boot/vmlinuz-{release}"), b"");
        };
        let fedora = || {
            let mut tree = MemoryTree::new();
            entry(&mut tree, "abc", "5.14.0-70.el9.x86_64");
            entry(&mut tree, "abc", "5.14.0-362.el9.x86_64");
            tree.file("/boot/grub2/grub.cfg", b"blscfg\n");
            tree
        };
        assert_eq!(default_of(fedora()).0, "5.14.0-362.el9.x86_64");
        let mut tree = fedora();
        tree.file(
            "/boot/grub2/grubenv",
            b"# GRUB Environment Block\nsaved_entry=abc-5.14.0-70.el9.x86_64\n",
        );
        assert_eq!(default_of(tree).0, "5.14.0-70.el9.x86_64");
        let mut tree = fedora();
        tree.file(
            "/boot/loader/loader.conf",
            b"timeout 3\ndefault *-70.el9*\n",
        );
        let (release, why) = default_of(tree);
        assert_eq!(release, "5.14.0-70.el9.x86_64");
        assert!(why.contains("loader.conf"), "{why}");
    }

    #[test]
    fn flavours_lead_to_releases() {
        let mut tree = MemoryTree::new();
        tree.file("/boot/vmlinuz-virt", b"")
            .directory("/lib/modules/6.6.58-0-virt")
            .file(
                "/boot/extlinux.conf",
                b"DEFAULT menu.c32\nLABEL virt\n  LINUX vmlinuz-virt\nDEFAULT virt\n",
            );
        let (release, why) = default_of(tree);
        assert_eq!(release, "6.6.58-0-virt");
        assert!(why.contains("extlinux.conf"), "{why}");
        let mut tree = MemoryTree::new();
        tree.file("/boot/vmlinuz-linux-lts", b"")
            .file("/usr/lib/modules/6.12.1-1-lts/pkgbase", b"linux-lts\n")
            .file("/usr/lib/modules/6.12.1-1-lts/vmlinuz", b"");
        assert_eq!(default_of(tree).0, "6.12.1-1-lts");
    }

    #[test]
    fn without_a_menu_the_highest_is_said_to_be_a_guess_and_none_is_none() {
        let (release, why) = default_of(two_of_debian());
        assert_eq!(release, "6.1.0-13-amd64");
        assert!(why.contains("highest"), "{why}");
        assert!(
            Kernels::read(&Guest::of(MemoryTree::new()))
                .default
                .is_none()
        );
    }
}
